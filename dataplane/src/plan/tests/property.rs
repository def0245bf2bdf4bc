//! Random wishes on the model kernel: any plan converges, also after faults, drift and interruption; an update leads where a
//! plan leads; equal input, equal plan.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use swarmnet_types::{Algorithm, Protocol};

use super::fixture::*;
use super::*;
use crate::desired::{PublicationKey, Service};

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![Just(Algorithm::Random), Just(Algorithm::Rr), Just(Algorithm::Sh)]
}

fn hosts(most: usize) -> impl Strategy<Value = BTreeSet<u16>> {
    prop::collection::btree_set(10u16..20, 0..most)
}

fn services() -> impl Strategy<Value = Vec<Option<(Algorithm, BTreeSet<u16>)>>> {
    prop::collection::vec(prop::option::of((algorithm(), hosts(5))), 4)
}

fn key() -> impl Strategy<Value = PublicationKey> {
    let ip = prop_oneof![
        Just(None),
        Just(Some("192.0.2.1".parse::<IpAddr>().expect("valid"))),
        Just(Some("fd00:ff::1".parse::<IpAddr>().expect("valid"))),
        Just(Some("0.0.0.0".parse::<IpAddr>().expect("valid"))),
    ];
    // Different ports for bound and unbound: publications that conflict are never granted.
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    (ip, protocol, 0u16..3).prop_map(|(ip, protocol, n)| {
        let base = match ip {
            None => 5000,
            Some(ip) if ip.is_unspecified() => 6000,
            Some(_) => 7000,
        };
        PublicationKey { ip, protocol, port: base + n }
    })
}

fn publication() -> impl Strategy<Value = Publication> {
    let nets = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/25", "192.0.2.128/25", "fd00::/8"];
    let net = prop::sample::select(nets.map(|n| n.parse::<IpNet>().expect("valid")).to_vec());
    (algorithm(), hosts(4), prop::collection::btree_set(net, 0..4)).prop_map(
        |(algorithm, hosts, allow_from)| Publication { algorithm, allow_from, ..published(hosts) },
    )
}

/// Of `bits`: a task elsewhere has the addresses of the first sandbox, as when the view is late.
const LATE: u8 = 128;

/// Everything optional, within what a manager grants: an address, VNI, port is given once.
pub(super) fn wish() -> impl Strategy<Value = Desired> {
    let remotes = prop::collection::btree_map(10u32..20, 2u32..4, 0..6);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<u8>());
    let publications = prop::collection::btree_map(key(), publication(), 0..5);
    (switches, remotes, services(), publications, hosts(4)).prop_map(
        |((in_cluster, ipv6, multicast, icc, bits), remotes, services, publications, tasks)| {
            let mut wish = world();
            let shape = (in_cluster, ipv6, bits);
            fabric_part(&mut wish, shape, tasks);
            wish.services = services
                .into_iter()
                .zip(1u32..)
                .filter_map(|(s, n)| Some((n, s?)))
                .map(|(n, (algorithm, hosts))| {
                    let service_wish = Service { algorithm, ..called(100 + n as u16, hosts) };
                    ((network(1), service(n)), Arc::new(service_wish))
                })
                .collect();
            wish.publications = publications.into_iter().map(|(k, p)| (k, Arc::new(p))).collect();
            networks_part(&mut wish, &remotes, (multicast, icc, bits));
            wish
        },
    )
}

fn fabric_part(
    wish: &mut Desired,
    (in_cluster, ipv6, bits): (bool, bool, u8),
    tasks: BTreeSet<u16>,
) {
    let mut fabric_wish = fabric();
    if !ipv6 {
        fabric_wish.addrs.v6 = None;
    }
    if bits & 1 != 0 {
        Arc::make_mut(&mut fabric_wish.peers).pop_last();
    }
    if bits & 2 != 0 {
        fabric_wish.vtep = vtep(7);
    }
    let tasks = tasks.into_iter().map(|n| {
        let node = index(2 + u32::from((n ^ u16::from(bits >> 4)) & 1));
        (endpoint(u32::from(n)), crate::desired::FabricTask { addrs: dual(254, n), node })
    });
    let late = (bits & LATE != 0).then(|| {
        let task = crate::desired::FabricTask { addrs: dual(253, 1), node: index(2) };
        (endpoint(50), task)
    });
    fabric_wish.tasks = Arc::new(tasks.chain(late).collect());
    wish.fabric = in_cluster.then_some(fabric_wish);
}

fn networks_part(
    wish: &mut Desired,
    remotes: &BTreeMap<u32, u32>,
    (multicast, icc, bits): (bool, bool, u8),
) {
    let late = (bits & LATE != 0).then_some((50, 1, 2));
    let remotes = remotes.iter().map(|(n, node)| (*n, *n as u16, *node));
    wish.networks.insert(network(1), overlay(4097, remotes.chain(late)));
    wish.networks.insert(network(3), overlay(4098, []));
    if let Some(Network::Overlay(overlay)) = wish.networks.get_mut(&network(1)) {
        overlay.multicast = multicast;
    }
    if let Some(Network::Bridge(bridge)) = wish.networks.get_mut(&network(2)) {
        (bridge.icc, bridge.internal) = (icc, !icc && multicast);
    }
    // The same address may be on two networks (N11).
    wish.sandboxes.insert(sandbox(3), Arc::new(overlay_sandbox(3, network(3), 1)));
    if bits & 4 != 0 {
        wish.sandboxes.remove(&sandbox(1));
    }
    if bits & 8 != 0 {
        wish.sandboxes.remove(&sandbox(2));
    }
    if bits & 32 != 0 {
        wish.services.clear();
    }
    if bits & 64 != 0 {
        wish.publications.clear();
    }
    if wish.fabric.is_none() {
        wish.networks.retain(|_, n| matches!(n, Network::Bridge(_)));
        wish.sandboxes.retain(|id, _| *id == sandbox(2));
        wish.services.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn plans_converge_from_any_wish_to_any_other(old in wish(), new in wish()) {
        let kernel = ModelKernel::default();
        bring(&kernel, &old);
        bring(&kernel, &new);
        bring(&kernel, &Desired::default());
        prop_assert!(kernel.seen().namespaces[&Ns::Node].is_bare());
    }

    #[test]
    fn an_update_leads_where_a_plan_leads(old in wish(), new in wish()) {
        let kernel = ModelKernel::default();
        bring(&kernel, &old);
        let made = update(&old, &new);
        run(&kernel, &made);
        let left = plan(&kernel.seen(), &new);
        prop_assert_eq!(&left.ops, &vec![], "update:\n{}left:\n{}", lines(&made), lines(&left));
    }

    #[test]
    fn plans_converge_after_faults(
        old in wish(),
        new in wish(),
        faults in prop::collection::btree_set(0usize..120, 0..12),
    ) {
        let kernel = ModelKernel::default();
        bring(&kernel, &old);
        kernel.fail(faults);
        // Operations that depend on a failed one fail too; the others go on.
        for op in &plan(&kernel.seen(), &new).ops {
            drop(kernel.apply_now(op));
        }
        kernel.fail([]);
        bring(&kernel, &new);
    }

    #[test]
    fn plans_converge_after_any_prefix(old in wish(), new in wish(), part in 0usize..200) {
        let kernel = ModelKernel::default();
        bring(&kernel, &old);
        let mut made = plan(&kernel.seen(), &new);
        made.ops.truncate(part);
        run(&kernel, &made);
        bring(&kernel, &new);
    }

    #[test]
    fn equal_input_gives_an_equal_plan(old in wish(), new in wish()) {
        let kernel = ModelKernel::default();
        bring(&kernel, &old);
        prop_assert_eq!(plan(&kernel.seen(), &new), plan(&kernel.seen(), &new.clone()));
        prop_assert_eq!(update(&old, &new), update(&old.clone(), &new.clone()));
    }
}
