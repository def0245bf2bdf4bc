//! One small function for each verb.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use swarmnet_dataplane::nft::{NftOp, TableId};
use swarmnet_dataplane::{
    ForeignChain, ForwardMatch, Link, LinkKind, LinkName, Netns as Place, Ns, Op,
};

use super::{Inner, lock};
use crate::conntrack::Conntrack;
use crate::error::KernelError;
use crate::netns::Netns;
use crate::route::NewLink;
use crate::sysctl;

/// How many flows a namespace has.
const FLOWS: &str = "net/netfilter/nf_conntrack_count";

impl Inner {
    pub(super) fn apply(&self, op: &Op) -> Result<(), KernelError> {
        match op {
            Op::AddNetns { ns, netns } => self.add_netns(*ns, netns),
            Op::DelNetns { ns, netns } => self.del_netns(*ns, &netns.path),
            Op::AddLink { ns, name, link } => self.add_link(*ns, name, link),
            Op::AddVeth { ns, name, link, peer_ns, peer_name, peer } => {
                self.add_veth((*ns, name, link), (*peer_ns, peer_name, peer))
            }
            Op::DelLink { ns, name } => self.with(*ns, |h| h.route.del_link(name)),
            Op::SetLink { ns, name, change } => self.with(*ns, |h| h.route.set_link(name, change)),
            Op::AddAddr { ns, link, addr } => self.with(*ns, |h| h.route.add_addr(link, *addr)),
            Op::DelAddr { ns, link, addr } => self.with(*ns, |h| h.route.del_addr(link, *addr)),
            Op::PutRoute { ns, key, to } => self.with(*ns, |h| h.route.put_route(key, to)),
            Op::DelRoute { ns, key } => self.with(*ns, |h| h.route.del_route(key)),
            Op::AddRule { ns, rule } => self.with(*ns, |h| h.route.add_rule(rule)),
            Op::DelRule { ns, rule } => self.with(*ns, |h| h.route.del_rule(rule)),
            Op::PutNexthop { ns, id, nexthop } => {
                self.with(*ns, |h| h.route.put_nexthop(*id, nexthop))
            }
            Op::DelNexthop { ns, id } => self.with(*ns, |h| h.route.del_nexthop(*id)),
            Op::PutNeighbour { ns, link, addr, mac } => {
                self.with(*ns, |h| h.route.put_neighbour(link, *addr, *mac))
            }
            Op::DelNeighbour { ns, link, addr } => {
                self.with(*ns, |h| h.route.del_neighbour(link, *addr))
            }
            Op::PutFdb { ns, link, mac, to } => self.with(*ns, |h| h.route.put_fdb(link, *mac, to)),
            Op::DelFdb { ns, link, mac, to } => self.with(*ns, |h| h.route.del_fdb(link, *mac, to)),
            Op::SetSysctl { ns, key, value } => sysctl::set(&self.netns(*ns)?, key, value),
            Op::Nft { ns, table, ops } => self.nft(*ns, table, ops),
            Op::KillFlows { ns, reply_src } => self.kill_flows(*ns, *reply_src),
            Op::SetForwardAccept { chain, matches } => self.set_forward_accept(chain, matches),
        }
    }

    /// What a reboot leaves of a name, an empty file that is no namespace, is taken away first.
    fn add_netns(&self, ns: Ns, place: &Place) -> Result<(), KernelError> {
        if place.path.exists() && Netns::open(&place.path).is_err_and(|err| err.is_gone()) {
            Netns::remove(&place.path)?;
        }
        Netns::create(&place.path)?;
        lock(&self.places).insert(ns, place.path.clone());
        Ok(())
    }

    fn del_netns(&self, ns: Ns, path: &Path) -> Result<(), KernelError> {
        // Our own handles would keep it alive. Closing takes milliseconds: not under the lock.
        let kept = lock(&self.idle).remove(&ns);
        drop(kept);
        lock(&self.places).remove(&ns);
        self.post.forget(ns);
        self.closer.wait();
        Netns::remove(path)
    }

    fn add_link(&self, ns: Ns, name: &LinkName, link: &Link) -> Result<(), KernelError> {
        let new = birth(name, link);
        match &link.kind {
            LinkKind::Bridge { ageing } => self.with(ns, |h| h.route.add_bridge(&new, *ageing)),
            // Its UDP socket stays where the message is sent from: on the underlay.
            LinkKind::Vxlan(vxlan) if ns == Ns::Node => {
                self.with(Ns::Node, |node| node.route.add_vxlan(&new, vxlan, None))
            }
            LinkKind::Vxlan(vxlan) => self.with(ns, |home| {
                let at = Some((&home.netns, &mut home.route));
                self.with(Ns::Node, |node| node.route.add_vxlan(&new, vxlan, at))
            }),
            LinkKind::Loopback | LinkKind::Veth | LinkKind::Other => {
                Err(KernelError::CannotMake { name: name.to_string(), kind: link.kind.to_string() })
            }
        }
    }

    fn add_veth(
        &self,
        (ns, name, link): (Ns, &LinkName, &Link),
        (peer_ns, peer_name, peer): (Ns, &LinkName, &Link),
    ) -> Result<(), KernelError> {
        let (new, peer) = (birth(name, link), birth(peer_name, peer));
        self.with(peer_ns, |there| {
            self.with(ns, |here| here.route.add_veth(&new, &peer, &there.netns, &mut there.route))
        })
    }

    fn nft(&self, ns: Ns, table: &TableId, ops: &[NftOp]) -> Result<(), KernelError> {
        self.with(ns, |h| h.nft.commit(table, ops, None))
    }

    /// The kernel looks through its whole table, which all namespaces share: 4 to 12 ms here. A namespace without any flow, such as
    /// that of a sandbox that calls nobody, is spared that.
    fn kill_flows(&self, ns: Ns, reply_src: IpAddr) -> Result<(), KernelError> {
        let netns = self.netns(ns)?;
        // Where connection tracking is not there yet, there is no count either.
        if sysctl::get(&netns, FLOWS).is_ok_and(|count| count == "0") {
            return Ok(());
        }
        let mut conntrack = Conntrack::open(&netns)?;
        let result = conntrack.delete_by_reply_source(reply_src);
        self.closer.close(conntrack);
        result
    }

    fn set_forward_accept(
        &self,
        chain: &ForeignChain,
        matches: &BTreeSet<ForwardMatch>,
    ) -> Result<(), KernelError> {
        self.with(Ns::Node, |h| h.nft.set_forward(chain, matches))
    }
}

fn birth<'a>(name: &'a LinkName, link: &'a Link) -> NewLink<'a> {
    NewLink {
        name,
        mac: link.mac,
        mtu_bytes: link.mtu_bytes,
        alias: &link.alias,
        no_link_local: link.no_link_local,
    }
}
