//! One way that is good, then every way to break it, each told of its own hop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use swarmnet_dataplane::desired::PublicationKey;
use swarmnet_dataplane::model::ModelKernel;
use swarmnet_dataplane::nft::{Family, Table};
use swarmnet_dataplane::{FdbTo, LinkName, Netns, NsState, names};
use swarmnet_dns::client::Reply;
use swarmnet_gossip::Condition as NodeCondition;
use swarmnet_types::{
    Availability, Condition, Driver, Mac, NetworkId, NodeView, PublishMode, ServiceId, Vni,
};

use super::*;
use crate::desired::fixture::*;
use crate::desired::{Merger, PortWitness};

const VNI: u32 = 4097;
const OTHERNET: NetworkId = NetworkId::from_bytes([12; 16]);

/// Another program holds these ports.
struct Held(BTreeSet<u16>);

impl PortWitness for Held {
    fn foreign(&mut self, wanted: &BTreeSet<PublicationKey>) -> BTreeMap<PublicationKey, String> {
        let held = wanted.iter().filter(|k| self.0.contains(&k.port));
        held.map(|k| (*k, "77/nginx".to_owned())).collect()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn to(text: &str, port: Option<u16>) -> Question {
    Question {
        to: text.parse().map_or_else(|_| To::Name(text.to_owned()), To::Addr),
        port,
        protocol: Protocol::Tcp,
        ipv6: Some(false),
        timeout: Duration::from_secs(2),
    }
}

fn says(addrs: &[&str]) -> Said {
    let addrs = addrs.iter().map(|a| ip(a)).collect();
    Said::Reply(Reply { code: 0, truncated: false, addrs })
}

fn by(link: &str, source: &str) -> Path {
    let link = LinkName::new(link).expect("a name");
    Path { link, source: ip(source), mtu_bytes: 1450 }
}

/// What is seen where all is as wished.
fn evidence_of(inputs: Inputs, held: &[u16]) -> Evidence {
    let wish = Merger::new().merge(&inputs, &mut Held(held.iter().copied().collect()));
    let kernel = wish.desired.sandboxes.iter().fold(ModelKernel::default(), |kernel, (id, s)| {
        let netns = Netns { path: s.netns.path.clone(), ours: false };
        kernel.with_foreign_netns(Ns::Sandbox(*id), netns)
    });
    let plan = swarmnet_dataplane::plan(&kernel.seen(), &wish.desired);
    for op in &plan.ops {
        kernel.apply_now(op).unwrap_or_else(|err| panic!("{err}"));
    }
    let inside = Ns::Sandbox(HERE);
    let eth0 = ["10.0.1.100", "10.0.1.2", "10.0.1.3"]
        .map(|a| ((inside, ip(a)), Some(by("eth0", "10.0.1.2"))));
    let node_link = ["192.0.2.1", "192.0.2.2", "203.0.113.1"]
        .map(|a| ((inside, ip(a)), Some(by("swarmnet-node", "10.255.1.2"))));
    let vtep = ((Ns::Node, ip("192.0.2.2")), Some(by("eth0", "192.0.2.1")));
    let record = Arc::clone(&inputs.local.sandboxes[&HERE]);
    Evidence {
        record,
        actual: kernel.seen(),
        wish: Arc::new(wish),
        inputs,
        complaints: Vec::new(),
        answers: [(false, says(&["10.0.1.100"]))].into(),
        routes: eth0.into_iter().chain(node_link).chain([vtep]).collect(),
        probe: None,
    }
}

fn evidence() -> Evidence {
    evidence_of(inputs(), &[])
}

fn with_view(change: impl FnOnce(&mut NodeView)) -> Inputs {
    let mut view = view();
    change(&mut view);
    Inputs { view: Some(Arc::new(view)), ..inputs() }
}

/// Somebody else's hands.
fn meddle(evidence: &mut Evidence, ns: Ns, change: impl FnOnce(&mut NsState)) {
    change(evidence.actual.namespaces.get_mut(&ns).expect("it was seen"));
}

fn inet(state: &mut NsState) -> &mut Table {
    let tables = state.tables.as_mut().expect("looked at");
    tables.values_mut().find(|t| t.id.family == Family::Inet).expect("a table")
}

fn probe(question: &Question, to: &str, outcome: Outcome) -> Probe {
    Probe {
        to: ip(to),
        port: question.port,
        protocol: question.protocol,
        outcome,
        took: Duration::from_micros(600),
        chosen: None,
        echo: None,
        vteps: Vec::new(),
    }
}

/// A probe of the virtual address that the task of the other node took.
fn taken(question: &Question, outcome: Outcome) -> Probe {
    let chosen = Some(SocketAddr::new(ip("10.0.1.3"), question.port.unwrap_or(0)));
    Probe { chosen, ..probe(question, "10.0.1.100", outcome) }
}

fn kinds(trace: &Trace) -> Vec<HopKind> {
    trace.hops.iter().map(|hop| hop.kind).collect()
}

fn vxlan() -> LinkName {
    names::overlay_vxlan(Vni::new(VNI).expect("in range"))
}

fn there() -> Mac {
    v4("10.0.1.3").mac().expect("it has an address")
}

#[track_caller]
fn breaks(question: &Question, evidence: &Evidence, kind: HopKind, words: [&str; 2]) {
    let trace = explain(question, evidence);
    let hop = trace.broken().unwrap_or_else(|| panic!("it breaks: {trace:#?}"));
    let Verdict::Broken { why, remedy } = &hop.verdict else { panic!("{hop:?}") };
    assert_eq!(hop.kind, kind, "{trace:#?}");
    assert!(why.contains(words[0]), "why: {why}");
    assert!(remedy.contains(words[1]), "remedy: {remedy}");
}

#[track_caller]
fn is_good(question: &Question, evidence: &Evidence) -> Trace {
    let trace = explain(question, evidence);
    assert_eq!(trace.broken(), None, "{trace:#?}");
    trace
}

use HopKind::{Address, Fdb, Links, Name, Neighbour, Node, Port, Route, Vip, Vtep};

// === the good way ===

#[test]
fn a_name_leads_to_the_task_that_took_the_probe() {
    let question = to("web", Some(80));
    let mut seen = evidence();
    seen.probe = Some(taken(&question, Outcome::Answered));
    let trace = is_good(&question, &seen);
    let want =
        [Name, Address, Route, Links, Vip, Node, Neighbour, Fdb, Vtep, HopKind::Probe].to_vec();
    assert_eq!(kinds(&trace), want);
    assert_eq!(trace.addr, Some(ip("10.0.1.100")));
    assert_eq!(trace.chosen.as_deref(), Some("10.0.1.3 (w2 on n2)"));
    let found: Vec<&str> = trace.hops.iter().map(|hop| hop.found.as_str()).collect();
    assert_eq!(found[0], "10.0.1.100 by 127.0.0.11");
    assert_eq!(found[1], "virtual address of service web on overnet");
    assert_eq!(found[3], "eth0, sn-1e0b0b0b, br-4097 and vx-4097");
    assert_eq!(found[4], "one of 10.0.1.2 (w1 on n1) and 10.0.1.3 (w2 on n2)");
    assert_eq!(found[7], "to 192.0.2.2");
    assert_eq!(found[9], "connected in 0.6 ms, taken by 10.0.1.3 (w2 on n2)");
}

#[test]
fn without_a_probe_every_task_is_looked_at() {
    let trace = is_good(&to("web", Some(80)), &evidence());
    let want =
        [Name, Address, Route, Links, Vip, Links, Neighbour, Fdb, Node, Neighbour, Fdb, Vtep];
    assert_eq!(kinds(&trace), want, "w1 is here, w2 is not");
}

#[test]
fn an_address_needs_no_name_and_a_port_of_this_node_no_overlay() {
    let trace = is_good(&to("10.0.1.3", None), &evidence());
    assert_eq!(kinds(&trace), [Address, Route, Links, Node, Neighbour, Fdb, Vtep]);
    let question = to("192.0.2.1", Some(5000));
    let mut seen = evidence();
    let chosen = Some("10.255.1.3:80".parse().expect("an address"));
    seen.probe = Some(Probe { chosen, ..probe(&question, "192.0.2.1", Outcome::Answered) });
    let trace = is_good(&question, &seen);
    let want =
        [Address, Route, Links, Port, Node, Route, Neighbour, Fdb, Vtep, HopKind::Probe].to_vec();
    assert_eq!(kinds(&trace), want);
    assert_eq!(trace.chosen.as_deref(), Some("10.255.1.3 (w2 on n2)"));
    assert_eq!(trace.hops[0].found, "this node, port 5000/tcp published by service web");
}

#[test]
fn other_nodes_and_the_outside_are_told_apart() {
    let found = |text, port| explain(&to(text, port), &evidence()).hops[0].found.clone();
    assert_eq!(found("192.0.2.2", Some(5000)), "node n2, published there by service web");
    assert_eq!(found("192.0.2.2", Some(22)), "node n2");
    assert_eq!(
        found("203.0.113.1", Some(443)),
        "outside the cluster, or a further address of a node"
    );
    assert_eq!(found("::ffff:192.0.2.2", Some(22)), "node n2");
    assert_eq!(found("10.0.1.2", None), "w1 itself");
    assert_eq!(found("127.0.0.1", Some(5000)), "w1 itself");
}

#[test]
fn the_hosts_file_goes_before_the_resolver() {
    let mut record = record();
    record.dns.extra_hosts.push(("db".parse().unwrap(), ip("203.0.113.1")));
    let mut seen = evidence_of(Inputs { local: local([record]), ..inputs() }, &[]);
    seen.answers.clear();
    let trace = is_good(&to("db", Some(443)), &seen);
    assert_eq!(trace.hops[0].found, "203.0.113.1 by the sandbox's hosts file");
    assert_eq!(trace.addr, Some(ip("203.0.113.1")));
}

// === names ===

#[test]
fn a_silent_or_lying_resolver_is_named() {
    let question = to("web", Some(80));
    let mut seen = evidence();
    seen.answers = [(false, Said::Silence)].into();
    breaks(&question, &seen, Name, ["nothing within 2 s", "agent status"]);
    assert_eq!(kinds(&explain(&question, &seen)), [Name], "nothing is left to follow");
    seen.answers = [(false, says(&["10.0.1.99"]))].into();
    breaks(&question, &seen, Name, ["says 10.0.1.99, wanted is 10.0.1.100", "agent status"]);
}

#[test]
fn an_unknown_name_is_told_from_one_of_another_network() {
    let no_such_name = Said::Reply(Reply { code: 3, truncated: false, addrs: vec![] });
    let mut seen = evidence();
    seen.answers = [(false, no_such_name.clone())].into();
    breaks(
        &to("nowhere", None),
        &seen,
        Name,
        ["nothing on overnet is called `nowhere`", "inspect"],
    );
    let mut seen = evidence_of(with_view(add_othernet), &[]);
    seen.answers = [(false, no_such_name)].into();
    let question = to("db", None);
    breaks(&question, &seen, Name, ["on network othernet", "network connect othernet w1"]);
}

fn add_othernet(view: &mut NodeView) {
    let other = network(OTHERNET, "othernet", Driver::Overlay, "10.0.2.0/24");
    view.networks.insert(OTHERNET, other);
    let mut db = endpoint((OTHERNET, THERE), OTHER, "10.0.2.3");
    db.name = name("db");
    view.endpoints.insert(db.id, db);
}

fn judged(condition: NodeCondition) -> Evidence {
    let state = verdict(condition, [192, 0, 2, 2]);
    let liveness = Arc::new(BTreeMap::from([(OTHER, state)]));
    evidence_of(Inputs { liveness, ..inputs() }, &[])
}

#[test]
fn a_hidden_name_says_why() {
    let mut seen = judged(NodeCondition::Dead);
    seen.answers = [(false, says(&[]))].into();
    breaks(&to("w2", None), &seen, Name, ["w2 is hidden: its node n2 is dead", "bring n2 back"]);
    let starting = with_view(|view| {
        let there = view.endpoints.values_mut().filter(|e| e.node == OTHER);
        there.for_each(|e| e.condition = Condition::Starting);
    });
    let mut seen = evidence_of(starting, &[]);
    seen.answers = [(false, says(&[]))].into();
    breaks(&to("w2", None), &seen, Name, ["w2 is hidden: it is starting", "on n2"]);
}

// === addresses ===

#[test]
fn an_address_of_nobody_or_of_another_network_ends_the_way() {
    breaks(&to("10.0.1.77", None), &evidence(), Address, ["nobody on overnet", "inspect overnet"]);
    let seen = evidence_of(with_view(add_othernet), &[]);
    let question = to("10.0.2.3", Some(80));
    breaks(&question, &seen, Address, ["w1 is not on network othernet", "connect othernet w1"]);
    breaks(&to("10.255.1.3", Some(80)), &seen, Address, ["ingress", "published ports only"]);
}

#[test]
fn no_route_and_no_devices_are_named() {
    let question = to("web", Some(80));
    let mut seen = evidence();
    seen.routes.insert((Ns::Sandbox(HERE), ip("10.0.1.100")), None);
    breaks(&question, &seen, Route, ["no IPv4 route", "network connect"]);
    let mut seen = evidence();
    let astray = Some(by("swarmnet-node", "10.255.1.2"));
    seen.routes.insert((Ns::Sandbox(HERE), ip("10.0.1.100")), astray);
    let why = "it leaves w1 by swarmnet-node, wanted is eth0";
    breaks(&question, &seen, Route, [why, "changed its routes"]);
    let port = names::endpoint_link(record().attachments[0].endpoint.id);
    let mut seen = evidence();
    meddle(&mut seen, Ns::Overlay, |ns| ns.links.get_mut(&port).expect("the port").up = false);
    breaks(&question, &seen, Links, [&format!("link set {port} up"), "reconciler"]);
    let mut seen = evidence();
    meddle(&mut seen, Ns::Overlay, |ns| drop(ns.links.remove(&vxlan())));
    breaks(&question, &seen, Links, ["link add vx-4097", "reconciler"]);
    let mut seen = evidence();
    meddle(&mut seen, Ns::Sandbox(HERE), |ns| ns.addrs.clear());
    breaks(&question, &seen, Links, ["addr add 10.0.1.2/24 dev eth0", "reconciler"]);
}

// === balancing ===

#[test]
fn a_lost_backend_and_a_lost_rule_are_the_vips() {
    let question = to("web", Some(80));
    let mut seen = evidence();
    meddle(&mut seen, Ns::Sandbox(HERE), |ns| {
        inet(ns).maps.get_mut("slot4").expect("the map").elements.pop_first();
    });
    breaks(&question, &seen, Vip, ["not led to 10.0.1.2 and 10.0.1.3", "reconciler"]);
    let mut seen = evidence();
    meddle(&mut seen, Ns::Sandbox(HERE), |ns| {
        inet(ns).chains.get_mut("out").expect("the chain").rules.clear();
    });
    breaks(&question, &seen, Vip, ["the rules that balance", "reconciler"]);
    seen.complaints = vec!["the kernel has no nftables".to_owned()];
    breaks(&question, &seen, Vip, ["rules", "which says: the kernel has no nftables"]);
}

#[test]
fn a_service_without_ready_tasks_says_who_is_left_out() {
    let question = to("web", Some(80));
    let drained = with_view(|view| {
        view.nodes.get_mut(&OTHER).expect("a node").availability = Availability::Drain;
        let here = view.endpoints.values_mut().filter(|e| e.node == ME);
        here.for_each(|e| e.condition = Condition::Starting);
    });
    let seen = evidence_of(drained, &[]);
    breaks(&question, &seen, Vip, ["no task of service web is ready", "swarmnet run -d"]);
    let found = &explain(&question, &seen).hops[4].found;
    assert_eq!(found, "refused; left out: w1 (starting) and w2 (n2 is drained)");
    let none = with_view(|view| view.endpoints.retain(|_, e| e.service.is_none()));
    breaks(&question, &evidence_of(none, &[]), Vip, ["has no task", "--service web"]);
    let dead = judged(NodeCondition::Dead);
    let vip = &explain(&question, &dead).hops[4];
    assert_eq!(vip.found, "one of 10.0.1.2 (w1 on n1); left out: w2 (n2 is dead)");
}

// === the way to the task ===

#[test]
fn entries_that_are_missing_or_wrong_are_named() {
    let question = to("web", Some(80));
    let good = || Evidence { probe: Some(taken(&question, Outcome::Answered)), ..evidence() };
    let key = (vxlan(), ip("10.0.1.3"));
    let mut seen = good();
    meddle(&mut seen, Ns::Overlay, |ns| {
        ns.neighbours.remove(&key);
    });
    let why = "neighbour 10.0.1.3 on vx-4097 is missing: wanted is 02:42:0a:00:01:03";
    breaks(&question, &seen, Neighbour, [why, "reconciler"]);
    let mut seen = good();
    meddle(&mut seen, Ns::Overlay, |ns| {
        ns.neighbours.insert(key.clone(), Mac([2; 6]));
    });
    breaks(&question, &seen, Neighbour, ["is not 02:42:0a:00:01:03", "reconciler"]);
    let key = (vxlan(), there());
    let mut seen = good();
    meddle(&mut seen, Ns::Overlay, |ns| drop(ns.fdb.remove(&key)));
    let why = "FDB entry 02:42:0a:00:01:03 on vx-4097 for 192.0.2.2 (n2) is missing";
    breaks(&question, &seen, Fdb, [why, "reconciler"]);
    let mut seen = good();
    let wrong = FdbTo::Vtep(ip("192.0.2.9"));
    meddle(&mut seen, Ns::Overlay, |ns| drop(ns.fdb.insert(key.clone(), wrong)));
    breaks(&question, &seen, Fdb, ["does not lead to 192.0.2.2 (n2)", "reconciler"]);
    assert_eq!(explain(&question, &seen).hops[7].found, "to 192.0.2.9");
}

#[test]
fn entries_of_others_do_not_matter() {
    let question = to("10.0.1.3", Some(80));
    let mut seen = evidence();
    let own = (vxlan(), ip("10.0.1.2"));
    meddle(&mut seen, Ns::Overlay, |ns| {
        ns.neighbours.remove(&own);
    });
    meddle(&mut seen, Ns::Node, |ns| ns.fdb.clear());
    is_good(&question, &seen);
}

#[test]
fn a_task_on_this_node_needs_its_pair_and_its_port() {
    let mut second = record();
    (second.id, second.name) = (THERE, name("w2"));
    second.netns = "/run/netns/w2".into();
    second.fabric = None;
    second.attachments[0].endpoint = endpoint((OVERNET, THERE), ME, "10.0.1.3");
    let moved = with_view(|view| view.endpoints.values_mut().for_each(|e| e.node = ME));
    let here =
        || evidence_of(Inputs { local: local([record(), second.clone()]), ..moved.clone() }, &[]);
    let question = to("10.0.1.3", Some(80));
    let trace = is_good(&question, &here());
    assert_eq!(kinds(&trace), [Address, Route, Links, Links, Neighbour, Fdb]);
    let port = names::endpoint_link(second.attachments[0].endpoint.id);
    let mut seen = here();
    meddle(&mut seen, Ns::Overlay, |ns| drop(ns.fdb.remove(&(port.clone(), there()))));
    breaks(&question, &seen, Fdb, [&format!("02:42:0a:00:01:03 on {port}"), "reconciler"]);
    let mut seen = here();
    meddle(&mut seen, Ns::Sandbox(THERE), |ns| ns.addrs.clear());
    breaks(&question, &seen, Links, ["addr add 10.0.1.3/24 dev eth0", "reconciler"]);
    let gone = Inputs { local: local([record()]), ..moved.clone() };
    breaks(&question, &evidence_of(gone, &[]), Links, ["w2 is hidden: it is leaving", "n1"]);
}

#[test]
fn a_dead_node_ends_the_way_and_a_lost_agent_does_not() {
    let question = to("10.0.1.3", Some(80));
    let dead = judged(NodeCondition::Dead);
    breaks(&question, &dead, Node, ["n2 is dead", "bring n2 back"]);
    assert!(!kinds(&explain(&question, &dead)).contains(&Fdb), "its entries are withdrawn");
    let lost = is_good(&question, &judged(NodeCondition::AgentLost));
    assert!(lost.hops[3].found.contains("its kernel answers"), "{:?}", lost.hops[3]);
}

#[test]
fn the_underlay_is_blamed_when_the_vtep_is_out_of_reach() {
    let question = to("web", Some(80));
    let mut seen = evidence();
    seen.routes.insert((Ns::Node, ip("192.0.2.2")), None);
    breaks(&question, &seen, Vtep, ["no route to 192.0.2.2, the VTEP of n2", "ip route get"]);
    let mut seen = evidence();
    let silent = taken(&question, Outcome::Silent);
    let vteps = vec![(ip("192.0.2.2"), false)];
    seen.probe = Some(Probe { echo: Some(false), vteps, ..silent });
    let why = "the VTEP of n2 does not answer an echo";
    breaks(&question, &seen, Vtep, [why, "underlay between n1 and n2"]);
}

// === published ports ===

#[test]
fn a_port_breaks_in_the_table_in_the_fabric_or_by_another_program() {
    let question = to("192.0.2.1", Some(5000));
    let mut seen = evidence();
    meddle(&mut seen, Ns::Node, |ns| {
        inet(ns).maps.get_mut("port4").expect("the map").elements.clear();
    });
    let why = "not led to 10.255.1.2:80 and 10.255.1.3:80";
    breaks(&question, &seen, Port, [why, "reconciler"]);
    let mut seen = evidence();
    meddle(&mut seen, Ns::Node, |ns| drop(ns.fdb.remove(&(names::swing(), fabric_mac()))));
    breaks(&question, &seen, Fdb, ["02:53:53:00:00:02 on swing for 192.0.2.2 (n2)", "reconciler"]);
    let mut seen = evidence();
    meddle(&mut seen, Ns::Node, |ns| {
        ns.routes.retain(|key, _| key.dst != names::host(ip("10.255.1.3")));
    });
    breaks(&question, &seen, Route, ["route put 10.255.1.3/32", "reconciler"]);
    let held = evidence_of(inputs(), &[5000]);
    breaks(&question, &held, Port, ["already in use by 77/nginx", "free the port"]);
    let host = with_view(|view| {
        let web = view.services.get_mut(&WEB).expect("the service");
        web.publications[0].mode = PublishMode::Host;
        view.endpoints.retain(|_, e| e.node != ME);
    });
    breaks(&question, &evidence_of(host, &[]), Port, ["mode=host", "a node that has a task"]);
}

fn fabric_mac() -> Mac {
    names::fabric_mac(node(OTHER, 2).index)
}

// === the probe ===

#[test]
fn what_became_of_the_probe_is_explained() {
    let question = to("web", Some(81));
    let after =
        |outcome: Outcome| Evidence { probe: Some(taken(&question, outcome)), ..evidence() };
    let probe = HopKind::Probe;
    let refused = after(Outcome::Refused);
    breaks(&question, &refused, probe, ["w2 on n2 refuses 81/tcp", "on n2: `swarmnet ps`"]);
    let unreachable = after(Outcome::Unreachable("No route to host".to_owned()));
    breaks(&question, &unreachable, probe, ["No route to host", "ip route"]);
    let failed = after(Outcome::Failed("too many open files".to_owned()));
    breaks(&question, &failed, probe, ["too many open files", "log"]);
    let silent = |echo| {
        let mut seen = after(Outcome::Silent);
        let vteps = vec![(ip("192.0.2.2"), true)];
        seen.probe = seen.probe.map(|p| Probe { echo: Some(echo), vteps, ..p });
        seen
    };
    breaks(&question, &silent(false), probe, ["an echo neither", "`swarmnet trace w2 w1`"]);
    breaks(&question, &silent(true), probe, ["answers an echo but not 81/tcp", "on n2"]);
}

#[test]
fn a_refusal_of_nobody_known_leads_to_the_tasks() {
    let question = to("web", Some(81));
    let mut seen = evidence();
    seen.probe = Some(probe(&question, "10.0.1.100", Outcome::Refused));
    breaks(&question, &seen, HopKind::Probe, ["refuses 81/tcp", "swarmnet service ps web"]);
}

#[test]
fn a_silent_datagram_is_no_fault_when_an_echo_is_answered() {
    let question = Question { protocol: Protocol::Udp, ..to("web", Some(80)) };
    let silent = |echo| {
        let probe = Probe { echo: Some(echo), ..taken(&question, Outcome::Silent) };
        Evidence { probe: Some(probe), ..evidence() }
    };
    let trace = is_good(&question, &silent(true));
    let found = &trace.hops.last().expect("the probe").found;
    assert!(found.starts_with("no answer within 2 s and no refusal"), "{found}");
    breaks(&question, &silent(false), HopKind::Probe, ["an echo neither", "look from"]);
}

#[test]
fn a_port_of_the_node_is_not_on_the_sandboxs_own_loopback() {
    let question = to("127.0.0.1", Some(5000));
    let mut seen = evidence();
    seen.probe = Some(probe(&question, "127.0.0.1", Outcome::Refused));
    let words = ["nothing in w1 listens on 5000/tcp", "published on the node's addresses"];
    breaks(&question, &seen, HopKind::Probe, words);
}

#[test]
fn the_outlook_says_where_to_look_before_the_answer_is_whole() {
    let seen = evidence();
    let outlook = |text, port| outlook(&to(text, port), &seen).expect("an address");
    let vip = outlook("web", Some(80));
    assert_eq!((vip.addr, vip.probe, vip.by_node), (ip("10.0.1.100"), true, false));
    assert_eq!(vip.vteps, [ip("192.0.2.2")].into());
    assert_eq!(BTreeSet::from_iter(vip.sandboxes), BTreeSet::from([HERE, THERE]));
    assert!(outlook("192.0.2.1", Some(5000)).by_node);
    assert!(!outlook("10.0.1.77", None).probe, "nobody is there");
    let mut unanswered = evidence();
    unanswered.answers.clear();
    assert_eq!(super::outlook(&to("web", None), &unanswered), None);
}

#[test]
fn a_service_of_another_network_is_no_vip_here() {
    let elsewhere = with_view(|view| {
        add_othernet(view);
        let mut other = service();
        other.id = ServiceId::from_bytes([21; 16]);
        other.name = name("cache");
        other.vips = BTreeMap::from([(OTHERNET, v4("10.0.2.100"))]);
        view.services.insert(other.id, other);
    });
    let seen = evidence_of(elsewhere, &[]);
    let found = &explain(&to("10.0.2.100", Some(80)), &seen).hops[0].found;
    assert_eq!(found, "service cache on othernet");
}
