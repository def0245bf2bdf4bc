//! What other programs do in the namespaces that we look after: the node's, the overlays', every sandbox's.
//!
//! Two sockets in the listening post ([`super::post`]) hear them all; nothing is asked of the kernel, and nothing costs anything while
//! nobody does anything. Our own changes are left out: by the netlink port where the notice has it, else by [`super::echo`].
//!
//! A sight is a reason to look, not a description. When the kernel had no room for a notice, that is told ([`Sight::Lost`]): nothing
//! can be missed silently, but for what [`super::echo`] says of neighbours that a program removes by ioctl.

use std::sync::Arc;
use std::time::Instant;

use swarmnet_dataplane::{LinkName, Ns};

use super::echo::Meaning;
use super::{Inner, LinuxKernel, lock};
use crate::error::KernelError;
use crate::netlink::{Frame, Notice, Protocol, Stream, frames, is_ours};
use crate::nft::monitor as tables;
use crate::route::{Told, monitor as objects};

/// Something that another program, or the kernel, did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// nftables were changed by this program.
    Rules { ns: Ns, program: String },
    /// Something of ours may be changed or gone.
    Object { ns: Ns },
    /// A link of ours is not as it should be, or is again.
    Link { ns: Ns, name: LinkName, right: bool },
    /// The node's own links, addresses or routes.
    Underlay,
    /// Notices were lost: anything may be changed.
    Lost,
}

/// A subscription to all namespaces that its kernel knows, or comes to know.
#[derive(Debug)]
pub struct Watch {
    kernel: Arc<Inner>,
    tables: Stream,
    objects: Stream,
}

impl LinuxKernel {
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch(&self) -> Result<Watch, KernelError> {
        let kernel = Arc::clone(&self.inner);
        let netns = &kernel.post.netns;
        let tables = Stream::open(netns, Protocol::Netfilter, &[tables::GROUP])?;
        let groups = objects::GROUPS.map(|group| group as u32);
        let objects = Stream::open(netns, Protocol::Route, &groups)?;
        Ok(Watch { kernel, tables, objects })
    }
}

impl Watch {
    /// Waits for the next; several when they came together. Cancel-safe: both streams keep what was not returned.
    pub async fn next(&mut self) -> Result<Vec<Sight>, KernelError> {
        loop {
            // cancel-safe: a stream loses nothing.
            let sights = tokio::select! {
                notice = self.tables.next() => self.kernel.rules(&notice?),
                notice = self.objects.next() => self.kernel.objects(&notice?),
            };
            if !sights.is_empty() {
                return Ok(sights);
            }
        }
    }
}

impl Inner {
    fn rules(&self, notice: &Notice) -> Vec<Sight> {
        let Notice::Data { nsid, data } = notice else { return vec![Sight::Lost] };
        let Some(program) = tables::program(data) else { return Vec::new() };
        let places = nsid.map(|nsid| self.post.of(nsid)).unwrap_or_default().into_iter();
        places.map(|ns| Sight::Rules { ns, program: program.clone() }).collect()
    }

    fn objects(&self, notice: &Notice) -> Vec<Sight> {
        let Notice::Data { nsid, data } = notice else { return vec![Sight::Lost] };
        let places = nsid.map(|nsid| self.post.of(nsid)).unwrap_or_default();
        let mut sights = Vec::new();
        for ns in places {
            for frame in frames(data) {
                self.object(ns, &frame, &mut sights);
            }
        }
        sights.dedup();
        sights
    }

    fn object(&self, ns: Ns, frame: &Frame<'_>, sights: &mut Vec<Sight>) {
        if is_ours(frame.port_number()) {
            return;
        }
        let Some(told) = objects::read(frame) else { return };
        let of_underlay = ns == Ns::Node
            && match told {
                Told::Link { .. }
                | Told::LinkGone { .. }
                | Told::Port { .. }
                | Told::PortGone { .. }
                | Told::Addr { .. }
                | Told::OthersRouting => true,
                Told::Neighbour { .. } | Told::Entry { .. } | Told::Routing => false,
            };
        let others_routing = told == Told::OthersRouting;
        match lock(&self.echoes).judge(ns, told, Instant::now()) {
            Meaning::Link { name, right } => sights.push(Sight::Link { ns, name, right }),
            Meaning::Doubt => {
                sights.push(Sight::Object { ns });
                sights.extend(of_underlay.then_some(Sight::Underlay));
            }
            Meaning::Nothing if of_underlay && others_routing => sights.push(Sight::Underlay),
            Meaning::Nothing => {}
        }
    }
}
