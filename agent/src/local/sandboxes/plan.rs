//! Checks and names of a sandbox before anything is made: which networks go together, what its interfaces are called.
//!
//! Pure.

use std::collections::BTreeSet;

use swarmnet_types::network::PREDEFINED;
use swarmnet_types::{AttachmentSpec, Driver, HostName, Name, Network, StringMap};

use crate::local::error::LocalError;
use crate::local::objects::{Attachment, DnsSettings, PortMap, ProcessSpec};

/// Docker's option for the name of an interface inside the sandbox (`sw:R12`).
const IFNAME_OPTION: [&str; 2] = ["ifname", "com.docker.network.endpoint.ifname"];
const IFNAME_LEN_MAX: usize = 15;
/// The kernel's limit on the name of a host (uname(2), `__NEW_UTS_LEN`).
const UTS_NAME_LEN_MAX: usize = 64;

/// What a user wishes a sandbox to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxWish {
    /// `None`: chosen.
    pub name: Option<Name>,
    /// `None`: the short id.
    pub hostname: Option<HostName>,
    /// Empty: the default bridge; none when there is a service.
    pub attachments: Vec<AttachmentSpec>,
    pub service: Option<Name>,
    pub dns: DnsSettings,
    /// Host port 0: chosen.
    pub ports: Vec<PortMap>,
    pub labels: StringMap,
    /// A namespace under `/run/netns` with the sandbox's name.
    pub named: bool,
    /// The process whose end takes the sandbox with it.
    pub owner_pid: Option<u32>,
    pub process: Option<ProcessSpec>,
}

/// Where a wished attachment belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Local(Network),
    /// A network of the cluster, which knows by itself which one is meant.
    Cluster,
}

/// Which networks a new sandbox may be on together.
///
/// # Errors
/// `sw:R2`–`R4`, `C42`.
pub fn check_places(
    wish: &SandboxWish,
    places: &[(AttachmentSpec, Place)],
) -> Result<(), LocalError> {
    let locals = || {
        places.iter().filter_map(|(spec, place)| match place {
            Place::Local(network) => Some((spec, network)),
            Place::Cluster => None,
        })
    };
    let predefined = |n: &Network| PREDEFINED.contains(&n.spec.name.as_str());
    if places.len() > 1 && locals().any(|(_, n)| predefined(n)) {
        return Err(LocalError::MixedModes);
    }
    let mut seen = BTreeSet::new();
    for (spec, place) in places {
        let key = match place {
            Place::Local(network) => network.id.to_string(),
            Place::Cluster => spec.network.clone(),
        };
        if !seen.insert(key) {
            return Err(LocalError::NetworkTwice { network: spec.network.clone() });
        }
    }
    for (spec, network) in locals().filter(|(_, n)| stackless(n)) {
        if spec.mac.is_some() {
            return Err(LocalError::MacMode);
        }
        if wish.service.is_some() {
            return Err(LocalError::ServiceNetwork { network: network.spec.name.clone() });
        }
    }
    Ok(())
}

/// A network without interfaces.
pub fn stackless(network: &Network) -> bool {
    matches!(network.spec.driver, Driver::Host | Driver::None)
}

/// May a network be added to a sandbox that exists?
///
/// # Errors
/// `sw:C24`–`C26`, and networks that overlap.
pub fn check_connect(
    name: &Name,
    have: &[Attachment],
    network: &Network,
) -> Result<(), LocalError> {
    if network.spec.driver == Driver::Host {
        return Err(LocalError::HostConnect);
    }
    if network.spec.driver == Driver::None {
        return Err(LocalError::NoneMode);
    }
    for attachment in have {
        match attachment.network.spec.driver {
            Driver::Host => return Err(LocalError::HostShared),
            Driver::None => return Err(LocalError::NoneMode),
            Driver::Bridge | Driver::Overlay => {}
        }
        if attachment.network.id == network.id {
            let (sandbox, network) = (name.clone(), network.spec.name.clone());
            return Err(LocalError::AlreadyAttached { sandbox, network });
        }
    }
    check_overlap(have, network)
}

/// No two networks of one sandbox may share addresses: its routes could not tell them apart.
///
/// # Errors
/// [`LocalError::SandboxOverlap`].
pub fn check_overlap(have: &[Attachment], network: &Network) -> Result<(), LocalError> {
    for other in have.iter().map(|a| &a.network) {
        for a in &other.subnets {
            if let Some(b) = network.subnets.iter().find(|b| b.subnet.overlaps(&a.subnet)) {
                return Err(LocalError::SandboxOverlap {
                    a: other.spec.name.clone(),
                    a_subnet: a.subnet,
                    b: network.spec.name.clone(),
                    b_subnet: b.subnet,
                });
            }
        }
    }
    Ok(())
}

/// The name of a new interface: the user's, or the lowest free `ethN`.
///
/// # Errors
/// [`LocalError::Ifname`].
pub fn ifname(
    sandbox: &Name,
    have: &[Attachment],
    spec: &AttachmentSpec,
    network: &Network,
) -> Result<String, LocalError> {
    if stackless(network) {
        return Ok(String::new());
    }
    let taken = |name: &str| name == "lo" || have.iter().any(|a| a.ifname == name);
    if let Some(wanted) = IFNAME_OPTION.iter().find_map(|k| spec.driver_opts.get(*k)) {
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        let bad = wanted.is_empty()
            || wanted.len() > IFNAME_LEN_MAX
            || wanted.contains(odd)
            || matches!(wanted.as_str(), "." | "..");
        if bad || taken(wanted) {
            return Err(LocalError::Ifname { ifname: wanted.clone(), sandbox: sandbox.clone() });
        }
        return Ok(wanted.clone());
    }
    let free = (0..=u32::MAX).map(|n| format!("eth{n}")).find(|name| !taken(name));
    Ok(free.expect("numbers do not end"))
}

/// # Errors
/// [`LocalError::HostnameLength`].
pub fn check_hostname(hostname: HostName) -> Result<HostName, LocalError> {
    if hostname.as_str().len() > UTS_NAME_LEN_MAX {
        return Err(LocalError::HostnameLength { hostname });
    }
    Ok(hostname)
}
