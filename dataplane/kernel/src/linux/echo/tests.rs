//! What is an echo of ours, and what is not.

use swarmnet_dataplane::{FdbTo, PortFlags, RouteKey, RouteTo};
use swarmnet_types::SandboxId;

use super::*;

const BOX: Ns = Ns::Sandbox(SandboxId::from_bytes([7; 16]));
const MAC: Mac = Mac([2, 0x42, 10, 0, 0, 7]);

fn name(text: &str) -> LinkName {
    LinkName::new(text).expect("a name")
}

fn wished() -> Link {
    Link {
        kind: LinkKind::Veth,
        mac: Some(MAC),
        mtu_bytes: Some(1450),
        up: true,
        master: None,
        port: None,
        no_link_local: true,
        alias: "swarmnet:endpoint:x".to_owned(),
    }
}

fn told(link: Link) -> Told {
    Told::Link { name: name("eth0"), has_master: link.master.is_some(), link }
}

fn add_veth() -> Op {
    let (name, peer_name) = (name("sn-1"), name("eth0"));
    let (link, peer) = (wished(), wished());
    Op::AddVeth { ns: Ns::Overlay, name, link, peer_ns: BOX, peer_name, peer }
}

fn set(change: LinkChange) -> Op {
    Op::SetLink { ns: BOX, name: name("eth0"), change }
}

fn is(right: bool) -> Meaning {
    Meaning::Link { name: name("eth0"), right }
}

#[test]
fn a_link_is_right_as_we_made_it_and_wrong_when_others_change_it() {
    let (mut echoes, now) = (Echoes::default(), Instant::now());
    echoes.expect(&add_veth(), now);
    let newborn = Link { up: false, ..wished() };
    assert_eq!(echoes.judge(BOX, told(newborn.clone()), now), is(true));
    let bare = Link { alias: String::new(), ..newborn.clone() };
    assert_eq!(echoes.judge(BOX, told(bare), now), is(false), "until the alias is set");
    echoes.expect(&set(LinkChange::Up), now);
    assert_eq!(echoes.judge(BOX, told(wished()), now), is(true));
    // As long as the link lives: the kernel tells of it again and again.
    let later = now + 100 * MEMORY;
    assert_eq!(echoes.judge(BOX, told(wished()), later), is(true));
    for changed in [
        newborn,
        Link { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..wished() },
        Link { mtu_bytes: Some(1500), ..wished() },
        Link { master: Some(name("br0")), ..wished() },
        Link { alias: "mine".to_owned(), ..wished() },
    ] {
        assert_eq!(echoes.judge(BOX, told(changed.clone()), later), is(false), "{changed:?}");
    }
    let gone = Told::LinkGone { name: name("eth0") };
    assert_eq!(echoes.judge(BOX, gone, later), is(false));
}

#[test]
fn a_link_that_we_remove_is_not_missed() {
    let (mut echoes, now) = (Echoes::default(), Instant::now());
    echoes.expect(&add_veth(), now);
    echoes.expect(&Op::DelLink { ns: Ns::Overlay, name: name("sn-1") }, now);
    let gone = || Told::LinkGone { name: name("sn-1") };
    assert_eq!(echoes.judge(Ns::Overlay, gone(), now), Meaning::Nothing);
    assert_eq!(echoes.judge(Ns::Node, gone(), now), Meaning::Doubt, "it was in our way, perhaps");
}

#[test]
fn an_observation_tells_of_links_that_were_there_before_us_but_does_not_overrule_us() {
    let (mut echoes, now) = (Echoes::default(), Instant::now());
    let down = Link { up: false, ..wished() };
    echoes.observed(BOX, &[(name("eth0"), down.clone())].into());
    echoes.expect(&set(LinkChange::Up), now);
    assert_eq!(echoes.judge(BOX, told(down.clone()), now), is(false));
    // Seen while another program had it down.
    echoes.observed(BOX, &[(name("eth0"), down.clone())].into());
    assert_eq!(echoes.judge(BOX, told(down), now), is(false));
    echoes.observed(BOX, &BTreeMap::new());
    let theirs = Link { alias: String::new(), ..wished() };
    assert_eq!(echoes.judge(BOX, told(theirs), now), Meaning::Nothing, "not ours any more");
    assert_eq!(echoes.judge(BOX, told(wished()), now), Meaning::Doubt, "one of ours, renamed");
}

#[test]
fn an_entry_is_an_echo_when_it_says_what_we_did_last() {
    let (mut echoes, now) = (Echoes::default(), Instant::now());
    let link = name("vx-1");
    let to = FdbTo::Vtep("192.0.2.9".parse().expect("an address"));
    let put = Op::PutFdb { ns: Ns::Overlay, link: link.clone(), mac: MAC, to: to.clone() };
    let del = Op::DelFdb { ns: Ns::Overlay, link, mac: MAC, to };
    let told = |gone| Told::Entry { mac: MAC, gone };
    echoes.expect(&put, now);
    assert_eq!(echoes.judge(Ns::Overlay, told(false), now), Meaning::Nothing);
    assert_eq!(echoes.judge(Ns::Overlay, told(true), now), Meaning::Doubt, "taken away at once");
    assert_eq!(echoes.judge(Ns::Node, told(false), now), Meaning::Doubt, "in another namespace");
    assert_eq!(echoes.judge(BOX, told(true), now), Meaning::Nothing, "none of ours are there");
    echoes.expect(&del, now);
    assert_eq!(echoes.judge(Ns::Overlay, told(true), now), Meaning::Nothing);
    let later = now + 2 * MEMORY;
    assert_eq!(echoes.judge(Ns::Overlay, told(true), later), Meaning::Doubt, "long ago");
}

#[test]
fn what_the_kernel_and_others_do_for_themselves_is_nothing() {
    let (mut echoes, now) = (Echoes::default(), Instant::now());
    let addr: IpAddr = "10.0.0.7".parse().expect("an address");
    let told = |gone, by_request| Told::Neighbour { addr, gone, by_request };
    let mut judge = |ns, told| echoes.judge(ns, told, now);
    for ns in [BOX, Ns::Node] {
        assert_eq!(judge(ns, told(false, false)), Meaning::Nothing, "learned by ARP");
        assert_eq!(judge(ns, told(true, false)), Meaning::Nothing, "and forgotten");
        assert_eq!(judge(ns, told(true, true)), Meaning::Doubt, "by a program");
    }
    assert_eq!(judge(Ns::Overlay, told(true, false)), Meaning::Doubt, "nothing ages there");
    let gateway = NODE_LINK_GATEWAY_V4.into();
    let lost = Told::Neighbour { addr: gateway, gone: true, by_request: false };
    assert_eq!(judge(BOX, lost), Meaning::Doubt);
    for own in ["fe80::1/64", "127.0.0.1/8", "::1/128"] {
        let addr = own.parse().expect("an address");
        assert_eq!(judge(BOX, Told::Addr { addr, gone: false }), Meaning::Nothing);
    }
    let addr = "10.0.0.7/24".parse().expect("an address");
    assert_eq!(judge(BOX, Told::Addr { addr, gone: true }), Meaning::Doubt);
    assert_eq!(judge(BOX, Told::Routing), Meaning::Doubt);
    assert_eq!(judge(BOX, Told::OthersRouting), Meaning::Nothing);
}

#[test]
fn a_port_that_leaves_its_bridge_is_missed() {
    let (mut echoes, now) = (Echoes::default(), Instant::now());
    let (ns, port) = (Ns::Overlay, name("sn-1"));
    let gone = || Told::PortGone { name: port.clone() };
    assert_eq!(echoes.judge(ns, gone(), now), Meaning::Nothing, "none of ours");
    echoes.expect(&add_veth(), now);
    assert_eq!(echoes.judge(ns, gone(), now), Meaning::Nothing, "not in a bridge yet");
    let change = |change| Op::SetLink { ns, name: port.clone(), change };
    echoes.expect(&change(LinkChange::Master(Some(name("br-1")))), now);
    assert_eq!(echoes.judge(ns, gone(), now), Meaning::Doubt);
}

#[test]
fn other_flags_of_a_port_are_missed_and_its_other_news_are_not() {
    let (mut echoes, now) = (Echoes::default(), Instant::now());
    let ns = Ns::Overlay;
    let ours = PortFlags {
        learning: false,
        flood: false,
        mcast_flood: false,
        bcast_flood: false,
        isolated: true,
        hairpin: false,
    };
    let theirs = PortFlags { isolated: false, ..ours };
    let told = |flags| Told::Port { name: name("sn-1"), flags: Some(flags) };
    echoes.expect(&add_veth(), now);
    echoes.expect(&Op::SetLink { ns, name: name("sn-1"), change: LinkChange::Port(ours) }, now);
    let later = now + 2 * MEMORY;
    assert_eq!(echoes.judge(ns, told(ours), later), Meaning::Nothing, "it forwards now");
    assert_eq!(echoes.judge(ns, told(theirs), now), Meaning::Nothing, "the defaults before ours");
    assert_eq!(echoes.judge(ns, told(theirs), later), Meaning::Doubt);
}

#[test]
fn what_is_remembered_is_bounded() {
    let (mut echoes, now) = (Echoes::default(), Instant::now());
    let put = |n: u32| Op::PutNeighbour {
        ns: Ns::Overlay,
        link: name("vx-1"),
        addr: std::net::Ipv4Addr::from(n).into(),
        mac: MAC,
    };
    let most = u32::try_from(ENTRIES_MAX).expect("few");
    (0..2 * most).for_each(|n| echoes.expect(&put(n), now));
    assert_eq!((echoes.done.len(), echoes.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
    (0..100).for_each(|_| echoes.expect(&put(0), now + 2 * MEMORY));
    assert_eq!((echoes.done.len(), echoes.order.len()), (1, 100), "old ones go");
    let to = RouteTo::Link(name("eth0"));
    let key = RouteKey::new(RouteKey::MAIN, "10.0.0.0/8".parse().expect("a network"));
    echoes.expect(&Op::PutRoute { ns: BOX, key, to }, now);
    assert_eq!(echoes.done.len(), 1, "a route's notice has our port");
    for n in 0..2 {
        echoes.expect(&add_veth(), now);
        assert_eq!(echoes.links.len(), 2, "{n}");
    }
    let netns = swarmnet_dataplane::Netns { path: "/run/x".into(), ours: true };
    echoes.expect(&Op::DelNetns { ns: BOX, netns }, now);
    assert_eq!(echoes.links.len(), 1);
}
