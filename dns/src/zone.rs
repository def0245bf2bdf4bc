//! The names of one network: an immutable table, built once per change and shared by all sandboxes on that network.
//!
//! Pure: input is what the agent knows of the network, output are lookups. name → addresses of either family (many), address
//! → one name (the pointer). Names are stored without the network's suffix; `<name>.<network>` is found by cutting it off,
//! so the table is not held twice. Must not know which sandboxes use it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarmnet_types::{DualStack, Subnet};

use crate::ZoneNameError;
use crate::wire::WireName;
use crate::wire::name::strip_suffix;

/// The addresses behind one name, without duplicates, in the order they were added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Vec<Ipv4Addr>,
    pub(crate) v6: Vec<Ipv6Addr>,
}

/// The names of one network. See [`ZoneBuilder`].
pub struct Zone {
    /// The network's name in wire form.
    suffix: Box<[u8]>,
    subnets: Box<[Subnet]>,
    /// Name without suffix → addresses. Keys come from users, hence a hasher that withstands chosen keys.
    names: HashMap<Box<[u8]>, Addresses>,
    /// Address → the whole name that a pointer query gets, in wire form with the root.
    pointers: HashMap<IpAddr, Box<[u8]>>,
}

impl Zone {
    /// How many names it holds, both families counted once.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn bare(&self, name: &[u8]) -> Option<&Addresses> {
        self.names.get(name)
    }

    /// The addresses of `<name>.<network>`, and how long the part before the network's name is.
    pub(crate) fn qualified(&self, name: &[u8]) -> Option<(usize, &Addresses)> {
        let host = strip_suffix(name, &self.suffix)?;
        Some((host.len(), self.names.get(host)?))
    }

    pub(crate) fn pointer(&self, addr: IpAddr) -> Option<&[u8]> {
        self.pointers.get(&addr).map(AsRef::as_ref)
    }

    pub(crate) fn owns(&self, addr: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(addr))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone")
            .field("network", &self.suffix.escape_ascii().to_string())
            .field("names", &self.names.len())
            .field("pointers", &self.pointers.len())
            .finish_non_exhaustive()
    }
}

/// Collects the names of one network. The same name may be added many times: its addresses add up (`tasks.web`).
#[derive(Debug)]
pub struct ZoneBuilder {
    zone: Zone,
    network: String,
}

impl ZoneBuilder {
    /// `subnets`: pointer queries for addresses in them are answered here and never forwarded.
    ///
    /// # Errors
    /// [`ZoneNameError`] when the network's name is no DNS name.
    pub fn new(network: &str, subnets: &[Subnet]) -> Result<Self, ZoneNameError> {
        let suffix = WireName::from_text(network)?.as_bytes().into();
        let zone = Zone {
            suffix,
            subnets: subnets.into(),
            names: HashMap::new(),
            pointers: HashMap::new(),
        };
        Ok(Self { zone, network: network.to_owned() })
    }

    /// The name an address is known by: of a sandbox, or of a service for its VIP. Also answers pointer queries with
    /// `<name>.<network>`; the first name that an address gets this way stays its name.
    ///
    /// # Errors
    /// [`ZoneNameError`]; the name is then not known, the rest is.
    pub fn primary(&mut self, name: &str, addrs: DualStack) -> Result<&mut Self, ZoneNameError> {
        self.further(name, addrs)?;
        let whole = WireName::from_text(&format!("{}.{}", trim_root(name), self.network))?;
        for addr in addrs.iter() {
            if let Entry::Vacant(vacant) = self.zone.pointers.entry(addr) {
                vacant.insert([whole.as_bytes(), &[0]].concat().into());
            }
        }
        Ok(self)
    }

    /// A further name: an alias, a short id, `tasks.<service>`, `<slot>.<service>`. No pointer.
    ///
    /// A name without any address is known all the same: its queries get empty answers and are never forwarded.
    ///
    /// # Errors
    /// [`ZoneNameError`]; the name is then not known, the rest is.
    pub fn further(&mut self, name: &str, addrs: DualStack) -> Result<&mut Self, ZoneNameError> {
        let key = WireName::from_text(name)?;
        let known = self.zone.names.entry(key.as_bytes().into()).or_default();
        if let Some(v4) = addrs.v4.filter(|v4| !known.v4.contains(v4)) {
            known.v4.push(v4);
        }
        if let Some(v6) = addrs.v6.filter(|v6| !known.v6.contains(v6)) {
            known.v6.push(v6);
        }
        Ok(self)
    }

    pub fn build(mut self) -> Zone {
        self.zone.names.shrink_to_fit();
        self.zone.pointers.shrink_to_fit();
        self.zone
    }
}

fn trim_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
