//! Plans on the model kernel: sentences first, then properties over random wishes, faults and drift.

mod about;
mod fixture;
mod property;
mod within;

use std::collections::BTreeSet;
use std::sync::Arc;

use swarmnet_types::{Algorithm, DualStack, NodeIndex};

use super::*;
use crate::desired::{Network, Publication};
use crate::model::ModelKernel;
use crate::names;
use crate::nft::{Family, NftOp, TableId, key};
use crate::object::{ForeignChain, ForwardMatch, Link, LinkKind};
use fixture::*;

/// Applies a whole plan; every operation must be accepted.
fn run(kernel: &ModelKernel, plan: &Plan) {
    for op in &plan.ops {
        kernel.apply_now(op).unwrap_or_else(|err| panic!("{err}\nplan:\n{}", lines(plan)));
    }
}

fn lines(plan: &Plan) -> String {
    plan.ops.iter().fold(String::new(), |text, op| text + &format!("  {op}\n"))
}

fn bring(kernel: &ModelKernel, desired: &Desired) -> Plan {
    let made = plan(&kernel.seen(), desired);
    run(kernel, &made);
    let again = plan(&kernel.seen(), desired);
    assert_eq!(again.ops, vec![], "a second plan does something:\n{}", lines(&again));
    made
}

fn position(plan: &Plan, what: impl Fn(&Op) -> bool) -> usize {
    plan.ops.iter().position(what).unwrap_or_else(|| panic!("not in the plan:\n{}", lines(plan)))
}

#[test]
fn plan_filters_vxlan_before_the_first_device_and_after_the_last() {
    let kernel = ModelKernel::default();
    let up = bring(&kernel, &world());
    let node =
        |op: &Op| matches!(op, Op::Nft { ns: Ns::Node, table, .. } if table.family == Family::Inet);
    let vxlan =
        |op: &Op| matches!(op, Op::AddLink { link, .. } if matches!(link.kind, LinkKind::Vxlan(_)));
    assert!(position(&up, node) < position(&up, vxlan));
    let down = bring(&kernel, &Desired::default());
    let gone = |op: &Op| matches!(op, Op::Nft { ops, .. } if *ops == [NftOp::DelTable] && node(op));
    assert!(
        position(&down, gone)
            > down.ops.iter().rposition(|op| matches!(op, Op::DelLink { .. })).expect("links")
    );
}

#[test]
fn plan_for_nothing_leaves_nothing() {
    let kernel = ModelKernel::default();
    bring(&kernel, &world());
    bring(&kernel, &Desired::default());
    let left = kernel.seen();
    assert_eq!(left.namespaces.keys().collect::<Vec<_>>(), [&Ns::Node]);
    assert!(left.namespaces[&Ns::Node].is_bare(), "{left:?}");
}

#[test]
fn plan_checks_a_port_before_it_is_up() {
    let kernel = ModelKernel::default();
    let up = bring(&kernel, &world());
    let port = names::endpoint_link(endpoint(1));
    let check = |op: &Op| matches!(op, Op::Nft { ns: Ns::Overlay, table, .. } if table.family == Family::Netdev);
    let rises = |op: &Op| matches!(op, Op::SetLink { name, change: crate::LinkChange::Up, .. } if *name == port);
    assert!(position(&up, check) < position(&up, rises));
}

#[test]
fn plan_switches_ipv6_off_where_there_is_none_before_the_link_is_up() {
    let kernel = ModelKernel::default();
    let up = bring(&kernel, &world());
    // The bridge sandbox has IPv4 only.
    let off = |op: &Op| {
        matches!(op, Op::SetSysctl { ns: Ns::Sandbox(id), key, value }
            if *id == sandbox(2) && key == "net/ipv6/conf/eth0/disable_ipv6" && value == "1")
    };
    let rises = |op: &Op| {
        matches!(op, Op::SetLink { ns: Ns::Sandbox(id), name, change: crate::LinkChange::Up }
            if *id == sandbox(2) && name.as_str() == "eth0")
    };
    assert!(position(&up, off) < position(&up, rises));
}

#[test]
fn plan_heals_what_others_removed() {
    let kernel = ModelKernel::default();
    let desired = world();
    bring(&kernel, &desired);
    kernel.meddle(|actual| {
        let overlay = actual.namespaces.get_mut(&Ns::Overlay).expect("there is an overlay");
        overlay.fdb.pop_first();
        overlay.neighbours.pop_first();
        let node = actual.namespaces.get_mut(&Ns::Node).expect("always");
        node.tables = Some(BTreeMap::new());
        node.rules.clear();
    });
    let healed = bring(&kernel, &desired);
    let relinks = healed.ops.iter().any(|op| matches!(op, Op::DelLink { .. } | Op::AddLink { .. }));
    assert!(!relinks, "no link flaps:\n{}", lines(&healed));
}

#[test]
fn plan_leaves_a_foreign_link_alone() {
    let kernel = ModelKernel::default();
    let mut foreign = Link::up(LinkKind::Other, String::new());
    foreign.mtu_bytes = Some(1500);
    let name = bridge_name();
    kernel.meddle(|actual| {
        let node = actual.namespaces.get_mut(&Ns::Node).expect("always");
        node.links.insert(name.clone(), foreign.clone());
    });
    let made = plan(&kernel.seen(), &world());
    assert!(made.conflicts.contains(&(Ns::Node, name.clone())), "{:?}", made.conflicts);
    run(&kernel, &made);
    assert_eq!(kernel.seen().namespaces[&Ns::Node].links[&name], foreign);
}

#[test]
fn plan_puts_accept_rules_into_a_dropping_chain_and_takes_them_out() {
    let kernel = ModelKernel::default();
    let table = TableId { family: Family::Ip, name: "filter".to_owned() };
    let chain = ForeignChain { table, chain: "FORWARD".to_owned() };
    kernel.meddle(|actual| drop(actual.forward.insert(chain.clone(), BTreeSet::new())));
    bring(&kernel, &world());
    let seen = kernel.seen().forward[&chain].clone();
    assert!(seen.contains(&ForwardMatch::In(names::NODE_LINK_GLOB.to_owned())), "{seen:?}");
    bring(&kernel, &Desired::default());
    assert!(kernel.seen().forward[&chain].is_empty());
}

#[test]
fn plan_keeps_the_hosts_sysctls_to_give_them_back() {
    let kernel = ModelKernel::default();
    let key = "net/ipv4/ip_forward".to_owned();
    kernel.meddle(|actual| {
        let node = actual.namespaces.get_mut(&Ns::Node).expect("always");
        node.sysctls.insert(key.clone(), "0".to_owned());
    });
    let seen = kernel.seen();
    let made = plan(&seen, &world());
    let before = made.sysctls_before(&seen);
    assert_eq!(before.get(&key).map(String::as_str), Some("0"));
    run(&kernel, &made);
    let mut leaving = Desired::default();
    leaving.options.restore_sysctls = before;
    bring(&kernel, &leaving);
    assert_eq!(kernel.seen().namespaces[&Ns::Node].sysctls[&key], "0");
}

#[test]
fn update_replaces_one_backend_by_elements_only() {
    let old = world();
    let mut new = old.clone();
    let service = new.services.values_mut().next().expect("a service");
    Arc::make_mut(service).backends = ["10.0.1.9".parse().expect("valid")].into();
    let made = update(&old, &new);
    assert!(!made.is_empty());
    for op in &made.ops {
        let Op::Nft { ns: Ns::Sandbox(_), ops, .. } = op else { panic!("{op}") };
        let elements = |op: &NftOp| matches!(op, NftOp::AddElems { .. } | NftOp::DelElems { .. });
        let chain = |op: &NftOp| {
            matches!(
                op,
                NftOp::AddChain { .. }
                    | NftOp::DelChain { .. }
                    | NftOp::FlushChain { .. }
                    | NftOp::AddRule { .. }
            )
        };
        assert!(ops.iter().all(|op| elements(op) || chain(op)), "{ops:?}");
    }
}

#[test]
fn update_of_a_backend_with_the_same_count_touches_no_chain() {
    let old = world();
    let mut new = old.clone();
    let key = *new.publications.keys().next().expect("a publication");
    let publication: &mut Publication =
        Arc::make_mut(new.publications.get_mut(&key).expect("just seen"));
    let gone = *publication.backends.iter().find(|b| b.is_ipv4()).expect("an IPv4 backend");
    publication.backends.remove(&gone);
    publication.backends.insert("10.255.0.77:80".parse().expect("valid"));
    let made = update(&old, &new);
    for op in &made.ops {
        let Op::Nft { ops, .. } = op else { panic!("{op}") };
        assert!(
            ops.iter().all(|op| matches!(op, NftOp::AddElems { .. } | NftOp::DelElems { .. })),
            "{ops:?}"
        );
    }
}

#[test]
fn flows_of_a_task_that_is_gone_are_dead_until_its_address_is_used_again() {
    let old = world();
    let mut new = old.clone();
    let fabric = new.fabric.as_mut().expect("in a cluster");
    let (_, gone) = Arc::make_mut(&mut fabric.tasks).pop_first().expect("a task");
    let killed: BTreeSet<_> = gone.addrs.iter().map(|addr| (Ns::Node, addr)).collect();
    assert_eq!(dead_flows(&old, &new), killed);
    for (ns, addr) in killed {
        assert!(is_dead_flow(&new, ns, addr), "as long as nobody has the address");
        assert!(!is_dead_flow(&old, ns, addr), "its new owner's connections are not touched");
    }
}

#[test]
fn update_moves_a_peer_by_one_fdb_entry() {
    let old = world();
    let mut new = old.clone();
    let fabric = new.fabric.as_mut().expect("in a cluster");
    let peer = NodeIndex::new(2).expect("not zero");
    let moved = "192.0.2.99".parse().expect("valid");
    Arc::make_mut(&mut fabric.peers).get_mut(&peer).expect("a peer").vtep = moved;
    let made = update(&old, &new);
    let fdb = made.ops.iter().filter(|op| matches!(op, Op::PutFdb { .. })).count();
    let others = made.ops.iter().filter(|op| !matches!(op, Op::PutFdb { .. } | Op::Nft { .. }));
    assert_eq!((fdb, others.count()), (1, 0), "{}", lines(&made));
}

/// X1: a node may send a network's VXLAN as long as one of its endpoints is on it, whichever came first or goes last.
#[test]
fn update_takes_vxlan_of_a_node_until_its_last_endpoint_leaves() {
    let on = |remotes: &[(u32, u16, u32)]| {
        let mut wish = world();
        wish.networks.insert(network(1), overlay(4097, remotes.iter().copied()));
        wish
    };
    let steps = [
        on(&[(10, 10, 2), (11, 11, 2), (12, 12, 3)]),
        on(&[(11, 11, 2), (12, 12, 3)]),
        on(&[(10, 10, 2), (11, 11, 2)]),
        on(&[(10, 10, 2), (11, 11, 3)]),
        on(&[]),
        on(&[(11, 11, 2)]),
    ];
    let kernel = ModelKernel::default();
    bring(&kernel, &steps[0]);
    for pair in steps.windows(2) {
        run(&kernel, &update(&pair[0], &pair[1]));
        assert_eq!(plan(&kernel.seen(), &pair[1]).ops, vec![], "{pair:#?}");
    }
}

/// What the VXLAN filter lets pass, over IPv4.
fn may_send(desired: &Desired) -> BTreeSet<Vec<u8>> {
    let tables = render::tables((desired, desired), &Shape::of(desired), Ns::Node);
    let node = tables.values().find(|t| t.id.family == Family::Inet).expect("the node's table");
    node.maps["vxlan4"].elements.keys().cloned().collect()
}

fn sender(vni: u32, node: u32) -> Vec<u8> {
    let vni = swarmnet_types::Vni::new(vni).expect("24 bits");
    key::concat(&[key::ip(vtep(node)), key::ip(vtep(1)), key::vni(vni)])
}

#[test]
fn vxlan_of_a_network_passes_from_its_own_nodes_only() {
    let ingress = swarmnet_types::Vni::INGRESS.get();
    let mut wish = world();
    wish.networks.insert(network(3), overlay(4098, [(12, 12, 3)]));
    let wanted = [(ingress, 2), (ingress, 3), (4097, 2), (4097, 3), (4098, 3)];
    assert_eq!(may_send(&wish), wanted.map(|(vni, node)| sender(vni, node)).into());
}

#[test]
fn update_lets_a_node_that_joins_a_network_send_by_one_element() {
    let mut old = world();
    old.networks.insert(network(3), overlay(4098, [(12, 12, 3)]));
    let mut new = old.clone();
    let Some(Network::Overlay(joined)) = new.networks.get_mut(&network(3)) else {
        panic!("an overlay")
    };
    Arc::make_mut(&mut joined.vteps).insert(vtep(2));
    for (from, to, comes) in [(&old, &new, true), (&new, &old, false)] {
        let made = update(from, to);
        let [Op::Nft { ns: Ns::Node, ops, .. }] = &made.ops[..] else { panic!("{}", lines(&made)) };
        let changed: Vec<_> = match &ops[..] {
            [NftOp::AddElems { elems, .. }] if comes => elems.keys().collect(),
            [NftOp::DelElems { elems, .. }] if !comes => elems.keys().collect(),
            other => panic!("{other:?}"),
        };
        assert_eq!(changed, [&sender(4098, 2)]);
    }
}

#[test]
fn update_to_the_same_is_nothing() {
    assert_eq!(update(&world(), &world()), Plan::default());
}

#[test]
fn rr_services_do_not_share_a_count() {
    let mut desired = world();
    for service in desired.services.values_mut() {
        Arc::make_mut(service).algorithm = Algorithm::Rr;
    }
    let shape = Shape::of(&desired);
    let tables = render::tables((&desired, &desired), &shape, Ns::Sandbox(sandbox(1)));
    let table = tables.values().find(|t| t.id.family == Family::Inet).expect("it has services");
    let chains = table.chains.keys().filter(|name| name.starts_with("rr4_")).count();
    assert_eq!(chains, 1, "one of the two services has backends");
}

#[test]
fn a_network_without_ipv6_in_the_fabric_plans_no_ipv6() {
    let mut desired = world();
    let fabric = desired.fabric.as_mut().expect("in a cluster");
    fabric.addrs = DualStack::new(fabric.addrs.v4, None);
    let kernel = ModelKernel::default();
    bring(&kernel, &desired);
    let node = &kernel.seen().namespaces[&Ns::Node];
    assert!(node.rules.iter().all(|rule| !rule.ipv6));
    assert!(node.nexthops.values().all(|n| n.gateway.is_ipv4()));
}

#[test]
fn sandbox_in_a_foreign_namespace_is_left_but_the_namespace_stays() {
    let mut desired = world();
    let netns = crate::Netns { path: "/proc/4711/ns/net".into(), ours: false };
    let wish = desired.sandboxes.get_mut(&sandbox(1)).expect("in the world");
    Arc::make_mut(wish).netns = netns.clone();
    let kernel = ModelKernel::default().with_foreign_netns(Ns::Sandbox(sandbox(1)), netns);
    bring(&kernel, &desired);
    let mut without = desired.clone();
    without.sandboxes.remove(&sandbox(1));
    run(&kernel, &update(&desired, &without));
    let left = &kernel.seen().namespaces[&Ns::Sandbox(sandbox(1))];
    assert!(left.is_bare(), "{left:?}");
}

#[test]
fn update_leads_to_the_same_state_as_a_plan_when_a_network_is_new() {
    let old = world();
    let mut new = old.clone();
    if let Some(Network::Overlay(overlay)) = new.networks.get_mut(&network(1)) {
        overlay.mtu_bytes = 1400;
    }
    let kernel = ModelKernel::default();
    bring(&kernel, &old);
    run(&kernel, &update(&old, &new));
    assert_eq!(plan(&kernel.seen(), &new).ops, vec![]);
}

/// P4: one task change among 10,000 services. Prints what it took; how fast is for the machine, what is planned is asserted.
#[test]
fn update_of_one_service_among_ten_thousand_is_a_few_elements() {
    let mut old = world();
    for n in 1..=10_000u32 {
        let [_, _, hi, lo] = n.to_be_bytes();
        let mut wish = called(0, 0..3);
        wish.vip.v4 = Some(std::net::Ipv4Addr::new(10, 1, hi, lo));
        wish.vip.v6 = Some(std::net::Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, n as u16));
        old.services.insert((network(1), service(n)), Arc::new(wish));
        let key = port((n % 10_000) as u16 + 10_000);
        old.publications.insert(key, Arc::new(published([10, 11])));
    }
    let mut new = old.clone();
    let changed = new.services.get_mut(&(network(1), service(5_000))).expect("just made");
    Arc::make_mut(changed).backends = backends(0, [0, 1, 7]);
    let key = port(12_000);
    *new.publications.get_mut(&key).expect("just made") = Arc::new(published([10, 12]));
    let mut took: Vec<_> = (0..20)
        .map(|_| {
            let start = std::time::Instant::now();
            let made = update(&old, &new);
            (start.elapsed(), made)
        })
        .collect();
    took.sort_by_key(|(time, _)| *time);
    println!("update among 10,000 services: median {:?}, worst {:?}", took[10].0, took[19].0);
    let elements = took[0].1.ops.iter().map(|op| match op {
        Op::Nft { ops, .. } => ops
            .iter()
            .map(|op| match op {
                NftOp::AddElems { elems, .. } | NftOp::DelElems { elems, .. } => elems.len(),
                other => panic!("{other:?}"),
            })
            .sum::<usize>(),
        other => panic!("{other}"),
    });
    // One backend of each family, deleted and added, for the service and for the publication.
    assert_eq!(elements.sum::<usize>(), 8);
}

#[test]
fn update_takes_balancing_out_with_the_last_service() {
    let old = world();
    let mut new = old.clone();
    new.services.clear();
    let kernel = ModelKernel::default();
    bring(&kernel, &old);
    run(&kernel, &update(&old, &new));
    assert_eq!(plan(&kernel.seen(), &new).ops, vec![]);
    run(&kernel, &update(&new, &old));
    assert_eq!(plan(&kernel.seen(), &old).ops, vec![]);
}
