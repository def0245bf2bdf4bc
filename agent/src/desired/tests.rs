//! From a view and local state to what the node shall have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use swarmnet_dataplane::desired::{self, DefaultRoute, PublicationKey};
use swarmnet_dns::{Lookup, RecordKind, SandboxNames, WireName};
use swarmnet_gossip::Condition as NodeCondition;
use swarmnet_types::{
    Availability, Condition, Driver, EndpointMode, NetworkId, NodeView, Protocol, PublishMode,
};

use super::fixture::*;
use super::names::ForwardWish;
use super::*;
use crate::local::{LocalObjects, PortMap, SandboxState};

/// Nobody else listens, but on these ports.
#[derive(Default)]
struct Held(BTreeSet<u16>);

impl PortWitness for Held {
    fn foreign(&mut self, wanted: &BTreeSet<PublicationKey>) -> BTreeMap<PublicationKey, String> {
        let held = wanted.iter().filter(|k| self.0.contains(&k.port));
        held.map(|k| (*k, "77/nginx".to_owned())).collect()
    }
}

fn merge(inputs: &Inputs) -> Wish {
    Merger::new().merge(inputs, &mut Held::default())
}

fn with_view(change: impl FnOnce(&mut NodeView)) -> Inputs {
    let mut view = view();
    change(&mut view);
    Inputs { view: Some(Arc::new(view)), ..inputs() }
}

fn condition_of_all(view: &mut NodeView, of: NodeId, condition: Condition) {
    let endpoints = view.endpoints.values_mut();
    endpoints.filter(|e| e.node == of).for_each(|e| e.condition = condition);
}

fn addrs(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|a| a.parse().expect("an address")).collect()
}

fn vip_backends(wish: &Wish) -> BTreeSet<IpAddr> {
    wish.desired.services[&(OVERNET, WEB)].backends.clone()
}

fn ingress_backends(wish: &Wish) -> BTreeSet<IpAddr> {
    let publications = wish.desired.publications.values();
    publications.flat_map(|p| &p.backends).map(std::net::SocketAddr::ip).collect()
}

/// What the sandbox of this node gets for a name: `None` when it is not ours.
fn resolve(wish: &Wish, name: &str) -> Option<BTreeSet<IpAddr>> {
    let wished = &wish.names[&HERE];
    let names = SandboxNames::new(wished.zones.clone(), swarmnet_dns::Forward::Never);
    let name = WireName::from_text(name).expect("a DNS name");
    match names.lookup(&name, RecordKind::A) {
        Lookup::V4(found) => Some(found.iter().map(|a| IpAddr::V4(*a)).collect()),
        Lookup::NoData => Some(BTreeSet::new()),
        _ => None,
    }
}

use swarmnet_types::NodeId;

#[test]
fn a_cluster_becomes_fabric_network_sandbox_service_port_and_names() {
    let wish = merge(&inputs());
    assert_eq!((wish.stamp.revision.0, wish.stamp.generation), (7, 3));
    assert!(wish.problems.is_empty());
    let fabric = wish.desired.fabric.as_ref().expect("in a cluster");
    assert_eq!(fabric.underlay_mtu_bytes, 1500);
    assert_eq!(fabric.peers.len(), 2);
    assert_eq!(fabric.tasks.len(), 1, "tasks of this node are not remote");
    let desired::Network::Overlay(overlay) = &wish.desired.networks[&OVERNET] else {
        panic!("an overlay")
    };
    assert_eq!(overlay.mtu_bytes, 1450);
    assert_eq!(overlay.remotes.len(), 1);
    assert!(!wish.desired.networks.contains_key(&INGRESS), "the fabric is no overlay");
    let sandbox = &wish.desired.sandboxes[&HERE];
    assert_eq!(sandbox.default_v4, Some(DefaultRoute::NodeLink));
    assert_eq!(sandbox.default_v6, None);
    assert!(sandbox.node_link.as_ref().is_some_and(|l| l.egress));
    assert!(!sandbox.netns.ours, "whoever keeps the record makes and removes it");
    assert_eq!(vip_backends(&wish), addrs(&["10.0.1.2", "10.0.1.3"]));
    assert_eq!(ingress_backends(&wish), addrs(&["10.255.1.2", "10.255.1.3"]));
    assert_eq!(resolve(&wish, "web"), Some(addrs(&["10.0.1.100"])));
    assert_eq!(resolve(&wish, "tasks.web"), Some(addrs(&["10.0.1.2", "10.0.1.3"])));
    assert_eq!(resolve(&wish, "2.web"), Some(addrs(&["10.0.1.3"])));
    assert_eq!(resolve(&wish, "w2.overnet"), Some(addrs(&["10.0.1.3"])));
    assert_eq!(resolve(&wish, &THERE.short()), Some(addrs(&["10.0.1.3"])));
    assert_eq!(resolve(&wish, "example"), None);
}

#[test]
fn a_dead_node_is_hidden_everywhere_and_a_lost_agent_nowhere() {
    let judged = |condition| {
        let state = verdict(condition, [192, 0, 2, 2]);
        merge(&Inputs { liveness: Arc::new(BTreeMap::from([(OTHER, state)])), ..inputs() })
    };
    let lost = judged(NodeCondition::AgentLost);
    assert_eq!(vip_backends(&lost), addrs(&["10.0.1.2", "10.0.1.3"]));
    assert_eq!(resolve(&lost, "w2"), Some(addrs(&["10.0.1.3"])));
    let dead = judged(NodeCondition::Dead);
    assert_eq!(vip_backends(&dead), addrs(&["10.0.1.2"]));
    assert_eq!(ingress_backends(&dead), addrs(&["10.255.1.2"]));
    assert_eq!(resolve(&dead, "tasks.web"), Some(addrs(&["10.0.1.2"])));
    assert_eq!(resolve(&dead, "w2"), Some(addrs(&[])), "known, without an address");
    let fabric = dead.desired.fabric.as_ref().expect("in a cluster");
    assert!(fabric.tasks.is_empty());
    assert_eq!(fabric.peers.len(), 2, "it may come back before gossip says so");
    let desired::Network::Overlay(overlay) = &dead.desired.networks[&OVERNET] else {
        panic!("an overlay")
    };
    assert!(overlay.remotes.is_empty());
    assert_eq!(*overlay.vteps, addrs(&["192.0.2.2"]), "likewise: it has an endpoint there");
}

#[test]
fn conditions_decide_who_is_balanced_and_who_has_a_name() {
    let with = |mine, theirs| {
        merge(&with_view(|v| {
            condition_of_all(v, ME, mine);
            condition_of_all(v, OTHER, theirs);
        }))
    };
    for hidden in [Condition::Starting, Condition::Draining] {
        let wish = with(Condition::Ready, hidden);
        assert_eq!(vip_backends(&wish), addrs(&["10.0.1.2"]), "{hidden}");
        assert_eq!(resolve(&wish, "w2"), Some(addrs(&[])), "{hidden}");
        let desired::Network::Overlay(overlay) = &wish.desired.networks[&OVERNET] else {
            panic!("an overlay")
        };
        assert_eq!(overlay.remotes.len(), 1, "{hidden}: open connections go on");
    }
    let some = with(Condition::Ready, Condition::Unhealthy);
    assert_eq!(vip_backends(&some), addrs(&["10.0.1.2"]));
    assert_eq!(resolve(&some, "w2"), Some(addrs(&["10.0.1.3"])));
    let all = with(Condition::Unhealthy, Condition::Unhealthy);
    assert_eq!(vip_backends(&all), addrs(&["10.0.1.2", "10.0.1.3"]), "better than nobody");
    let none = with(Condition::Draining, Condition::Starting);
    assert!(vip_backends(&none).is_empty());
    assert_eq!(resolve(&none, "web"), Some(addrs(&["10.0.1.100"])), "the VIP stays");
}

#[test]
fn a_drained_node_gets_no_new_connections() {
    let wish = merge(&with_view(|v| {
        v.nodes.get_mut(&OTHER).expect("there").availability = Availability::Drain;
    }));
    assert_eq!(vip_backends(&wish), addrs(&["10.0.1.2"]));
    assert_eq!(ingress_backends(&wish), addrs(&["10.255.1.2"]));
}

#[test]
fn a_leaving_sandbox_is_hidden_before_the_cluster_knows() {
    let mut leaving = record();
    leaving.state = SandboxState::Leaving;
    for local in [local([leaving]), local([])] {
        let wish = merge(&Inputs { local, ..inputs() });
        assert!(wish.desired.sandboxes.is_empty());
        assert!(wish.desired.networks.is_empty(), "nothing on nodes without endpoints");
        assert!(wish.names.is_empty());
        assert_eq!(ingress_backends(&wish), addrs(&["10.255.1.3"]));
    }
}

#[test]
fn dnsrr_answers_with_the_tasks_and_has_no_vip() {
    let wish = merge(&with_view(|v| {
        let service = v.services.get_mut(&WEB).expect("there");
        service.endpoint_mode = EndpointMode::Dnsrr;
        service.vips = BTreeMap::from([(OVERNET, swarmnet_types::DualStack::default())]);
    }));
    assert!(wish.desired.services.is_empty());
    assert_eq!(resolve(&wish, "web"), Some(addrs(&["10.0.1.2", "10.0.1.3"])));
}

#[test]
fn host_mode_answers_only_where_a_task_is_and_for_it_alone() {
    let host = |v: &mut NodeView| {
        v.services.get_mut(&WEB).expect("there").publications[0].mode = PublishMode::Host;
    };
    assert_eq!(ingress_backends(&merge(&with_view(host))), addrs(&["10.255.1.2"]));
    let without = merge(&with_view(|v| {
        host(v);
        v.endpoints.retain(|_, e| e.node != ME);
    }));
    assert!(without.desired.publications.is_empty());
}

#[test]
fn a_selector_names_the_nodes_that_publish() {
    let select = |v: &mut NodeView| {
        let service = v.services.get_mut(&WEB).expect("there");
        let (label, value) = ("zone".to_owned(), "a".to_owned());
        service.publications[0].nodes =
            Some(swarmnet_types::publish::NodeSelector { label, value });
    };
    assert!(merge(&with_view(select)).desired.publications.is_empty());
    let labelled = merge(&with_view(|v| {
        select(v);
        let labels = &mut v.nodes.get_mut(&ME).expect("there").labels;
        labels.insert("zone".to_owned(), "a".to_owned());
    }));
    assert_eq!(labelled.desired.publications.len(), 1);
}

#[test]
fn a_port_that_somebody_listens_on_is_flagged_and_not_taken() {
    let wish = Merger::new().merge(&inputs(), &mut Held(BTreeSet::from([5000])));
    assert!(wish.desired.publications.is_empty());
    assert_eq!(
        *wish.problems,
        [
            "port 5000/tcp: failed to bind host port 0.0.0.0:5000/tcp: address already in use by 77/nginx"
        ]
    );
}

#[test]
fn a_port_map_of_this_node_wins_over_a_publication() {
    let mut mapped = record();
    let protocol = Protocol::Tcp;
    mapped.ports = vec![PortMap { host_ip: None, host_port: 5000, port: 81, protocol }];
    let wish = merge(&Inputs { local: local([mapped]), ..inputs() });
    let (_, publication) = wish.desired.publications.first_key_value().expect("the map");
    let backends: Vec<_> = publication.backends.iter().map(ToString::to_string).collect();
    assert_eq!(backends, ["10.255.1.2:81"]);
    assert_eq!(wish.problems.len(), 1);
}

#[test]
fn outside_a_cluster_only_local_objects_are_built() {
    let bridge = NetworkId::from_bytes([40; 16]);
    let mut both = record();
    let mut on_bridge = both.attachments[0].clone();
    on_bridge.network = network(bridge, "lan", Driver::Bridge, "172.18.0.0/16");
    on_bridge.endpoint = endpoint((bridge, HERE), ME, "172.18.0.2");
    on_bridge.ifname = "eth1".to_owned();
    both.attachments.push(on_bridge.clone());
    let networks = BTreeMap::from([(bridge, Arc::new(on_bridge.network))]);
    let local = Arc::new(LocalObjects { networks, ..(*local([both])).clone() });
    let wish = merge(&Inputs { view: None, local, ..inputs() });
    assert_eq!(wish.desired.fabric, None);
    assert_eq!(wish.desired.networks.keys().collect::<Vec<_>>(), [&bridge]);
    let sandbox = &wish.desired.sandboxes[&HERE];
    assert_eq!(sandbox.endpoints.len(), 1);
    assert_eq!(sandbox.node_link, None);
    let Some(DefaultRoute::Gateway { gateway, .. }) = &sandbox.default_v4 else {
        panic!("by the bridge")
    };
    assert_eq!(*gateway, IpAddr::from([172, 18, 0, 1]));
    assert_eq!(resolve(&wish, "w1"), Some(addrs(&["172.18.0.2"])));
    assert_eq!(resolve(&wish, "w1.overnet"), None);
}

#[test]
fn a_node_the_cluster_does_not_know_builds_nothing_of_it() {
    let wish = merge(&with_view(|v| drop(v.nodes.remove(&ME))));
    assert_eq!(wish.desired.fabric, None);
    assert!(wish.desired.networks.is_empty() && wish.desired.publications.is_empty());
}

#[test]
fn an_internal_sandbox_never_asks_outside_and_has_no_way_out() {
    let internal = |v: &mut NodeView| {
        v.networks.get_mut(&OVERNET).expect("there").spec.internal = true;
    };
    let wish = merge(&with_view(internal));
    assert_eq!(wish.names[&HERE].forward, ForwardWish::Never);
    assert_eq!(wish.desired.sandboxes[&HERE].default_v4, None);
    assert!(wish.desired.sandboxes[&HERE].node_link.as_ref().is_some_and(|l| !l.egress));
    let mut own = record();
    own.dns.servers = vec![IpAddr::from([9, 9, 9, 9])];
    let wish = merge(&Inputs { local: local([own]), ..inputs() });
    assert_eq!(wish.names[&HERE].forward, ForwardWish::Own(vec![IpAddr::from([9, 9, 9, 9])]));
}

#[test]
fn a_gossiped_address_wins_over_the_state() {
    let state = verdict(NodeCondition::Alive, [198, 51, 100, 2]);
    let liveness = Arc::new(BTreeMap::from([(OTHER, state)]));
    let wish = merge(&Inputs { liveness, ..inputs() });
    let desired::Network::Overlay(overlay) = &wish.desired.networks[&OVERNET] else {
        panic!("an overlay")
    };
    let vteps: Vec<_> = overlay.remotes.values().map(|r| r.vtep).collect();
    assert_eq!(vteps, [IpAddr::from([198, 51, 100, 2])]);
    assert_eq!(*overlay.vteps, addrs(&["198.51.100.2"]));
}

#[test]
fn what_did_not_change_is_shared_and_so_are_zones() {
    let mut merger = Merger::new();
    let (first, again) = {
        let mut merge = |inputs: &Inputs| merger.merge(inputs, &mut Held::default());
        (merge(&inputs()), merge(&inputs()))
    };
    let key = (OVERNET, WEB);
    assert!(Arc::ptr_eq(&first.desired.services[&key], &again.desired.services[&key]));
    assert!(Arc::ptr_eq(&first.desired.sandboxes[&HERE], &again.desired.sandboxes[&HERE]));
    assert!(first.names[&HERE].is_same(&again.names[&HERE]));
    let moved = with_view(|v| condition_of_all(v, OTHER, Condition::Draining));
    let moved = merger.merge(&moved, &mut Held::default());
    assert!(!Arc::ptr_eq(&first.desired.services[&key], &moved.desired.services[&key]));
    assert!(!first.names[&HERE].is_same(&moved.names[&HERE]));
}
