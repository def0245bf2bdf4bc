//! The overlay driver: one layer-2 network over all nodes with endpoints on it.
//!
//! All bridges and VXLAN devices of a node are in one hidden namespace, where the host's firewall and bridge-netfilter do not
//! reach. The bridges carry no address, so networks with the same subnet never meet.
//!
//! Scale, per network present here: 1 bridge and 1 VXLAN device; per endpoint anywhere 1 neighbour for each family on the VXLAN
//! device; per remote endpoint 1 FDB entry there; per local endpoint 1 pair and 1 FDB entry on the bridge. All permanent, from
//! pushed state: nothing is learned, nothing ages, a dead daemon stops nothing.
//!
//! The VXLAN device answers ARP and neighbour solicitations for all endpoints from its neighbours, local ones included, so that
//! no port needs to receive broadcast or multicast. It is also the only port that unknown unicast goes to, so remote MACs need
//! no entry on the bridge, and what the VXLAN device does not know either is dropped there (no all-zero entry).

use std::collections::BTreeSet;
use std::net::IpAddr;

use swarmnet_types::{Mac, NetworkId};

use crate::actual::NsState;
use crate::desired::{Desired, Overlay};
use crate::names;
use crate::object::{FdbTo, Link, LinkKind, Netns, Ns, PortFlags, Vxlan};
use crate::render::Target;

use super::{Attachment, NetworkDriver};

/// Where a VXLAN device looks for broadcast and multicast destinations.
const ALL_ZERO: Mac = Mac([0; 6]);

/// The default of a new namespace may be 1, which would hand every frame to iptables.
const BRIDGE_NETFILTER: [&str; 3] = [
    "net/bridge/bridge-nf-call-arptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-iptables",
];

impl Overlay {
    const UPLINK: PortFlags = PortFlags {
        learning: false,
        flood: true,
        mcast_flood: true,
        bcast_flood: true,
        isolated: false,
        hairpin: false,
    };

    const fn port(&self) -> PortFlags {
        PortFlags {
            learning: false,
            flood: false,
            mcast_flood: self.multicast,
            bcast_flood: self.multicast,
            isolated: false,
            hairpin: false,
        }
    }

    /// The VXLAN device answers who has an endpoint's addresses. Where multicast passes, answers to it come from and go to
    /// link-local addresses too, and the device swallows questions that it cannot answer.
    fn answers_for(&self, overlay: &mut NsState, addrs: impl Iterator<Item = IpAddr>, mac: Mac) {
        let vxlan = names::overlay_vxlan(self.vni);
        for addr in addrs {
            overlay.neighbour(&vxlan, addr, mac);
            if self.multicast && addr.is_ipv6() {
                overlay.neighbour(&vxlan, names::link_local(mac), mac);
            }
        }
    }

    fn devices(&self, target: &mut Target, id: NetworkId, desired: &Desired) {
        let Some(fabric) = &desired.fabric else { return };
        let (bridge, vxlan) = (names::overlay_bridge(self.vni), names::overlay_vxlan(self.vni));
        let overlay = target.ns(Ns::Overlay);
        overlay.netns = Some(Netns { path: desired.overlay_netns.clone(), ours: true });
        for key in BRIDGE_NETFILTER {
            overlay.sysctls.insert(key.to_owned(), "0".to_owned());
        }
        let mut link = Link::up(LinkKind::Bridge { ageing: false }, names::alias("overlay", &id));
        link.mtu_bytes = Some(self.mtu_bytes);
        overlay.links.insert(bridge.clone(), link);
        let kind = LinkKind::Vxlan(Vxlan {
            vni: self.vni,
            local: fabric.vtep,
            port: fabric.vxlan_port,
            proxy: true,
        });
        let mut link = Link::up(kind, names::alias("vxlan", &id));
        link.mtu_bytes = Some(self.mtu_bytes);
        link.master = Some(bridge);
        link.port = Some(Self::UPLINK);
        overlay.links.insert(vxlan, link);
    }
}

impl NetworkDriver for Overlay {
    fn network(&self, target: &mut Target, id: NetworkId, desired: &Desired) {
        self.devices(target, id, desired);
        let vxlan = names::overlay_vxlan(self.vni);
        let overlay = target.ns(Ns::Overlay);
        for remote in self.remotes.values() {
            overlay.forward_to(&vxlan, remote.mac, FdbTo::Vtep(remote.vtep));
            self.answers_for(overlay, remote.addrs.iter(), remote.mac);
        }
        let vteps: BTreeSet<_> = self.remotes.values().map(|r| r.vtep).collect();
        if self.multicast && !vteps.is_empty() {
            overlay.forward_to(&vxlan, ALL_ZERO, FdbTo::Flood(vteps));
        }
    }

    fn endpoint(&self, target: &mut Target, at: &Attachment<'_>) {
        let mut outer = at.outer(names::overlay_bridge(self.vni), self.mtu_bytes);
        outer.port = Some(self.port());
        let port = at.join(target, Ns::Overlay, outer, self.mtu_bytes);
        let overlay = target.ns(Ns::Overlay);
        overlay.forward_to(&port, at.endpoint.mac, FdbTo::Port);
        let addrs = at.endpoint.addrs.iter().map(ipnet::IpNet::addr);
        self.answers_for(overlay, addrs, at.endpoint.mac);
    }

    fn port_ns(&self) -> Option<Ns> {
        Some(Ns::Overlay)
    }
}
