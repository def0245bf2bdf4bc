//! What the rules do to packets, as far as the design rests on it: written by our codec, looked at with `ping` and sockets. The results
//! are in `docs/kernel-notes.md`.

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::{TestNetns, run};
use swarmnet_dataplane::nft::{
    Datatype, Elem, Family, FibKey, Hook, HookPoint, IfName, Load, MapSpec, MetaKey, PayloadBase,
    PortEnd, Reg, Rule, Table, TableId, ct_status, diff, key,
};
use swarmnet_kernel::nft::Nft;
use swarmnet_types::Vni;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn write(ns: &TestNetns, desired: &Table) {
    let mut nft = Nft::open(&ns.netns()).expect("open");
    let actual = nft.observe(&desired.id).expect("observe");
    nft.commit(&desired.id, &diff(actual.as_ref(), desired), None).expect("commit");
}

fn pings(ns: &TestNetns, to: &str) -> bool {
    ns.try_sh(&format!("ping -c1 -W1 {to}")).0
}

/// Two nodes on an underlay, joined by one layer-3 VXLAN device for each underlay family (`swing4`, `swing6`).
struct Pair {
    a: TestNetns,
    b: TestNetns,
    underlay: TestNetns,
}

const VNI_4: u32 = 5001;
const VNI_6: u32 = 5002;

impl Pair {
    fn new() -> Self {
        let underlay = TestNetns::new("ul");
        underlay.ip("link add br0 type bridge");
        underlay.ip("link set br0 up");
        let pair = Self { a: TestNetns::new("a"), b: TestNetns::new("b"), underlay };
        for (n, ns) in [(1, &pair.a), (2, &pair.b)] {
            let peer = 3 - n;
            pair.underlay.ip(&format!("link add p{n} type veth peer name eth0 netns {}", ns.name));
            pair.underlay.ip(&format!("link set p{n} master br0 up"));
            ns.ip(&format!("addr add 10.99.0.{n}/24 dev eth0"));
            ns.ip(&format!("addr add fd99::{n}/64 dev eth0 nodad"));
            ns.ip("link set eth0 up");
            for (family, vni, net) in [(4, VNI_4, "10.99.0."), (6, VNI_6, "fd99::")] {
                let dev = format!("swing{family}");
                let mac = |n| format!("02:53:53:00:00:0{n}");
                ns.ip(&format!(
                    "link add {dev} address {} type vxlan id {vni} local {net}{n} dstport 4789 nolearning",
                    mac(n)
                ));
                ns.ip(&format!("link set {dev} addrgenmode none up"));
                ns.ip(&format!("addr add 10.{family}.0.{n}/24 dev {dev}"));
                ns.ip(&format!("addr add fd00:{family}::{n}/64 dev {dev} nodad"));
                let fdb = format!("fdb add {} dev {dev} dst {net}{peer} self permanent", mac(peer));
                run(&format!("bridge -n {} {fdb}", ns.name));
                for to in [format!("10.{family}.0.{peer}"), format!("fd00:{family}::{peer}")] {
                    ns.ip(&format!("neigh add {to} lladdr {} dev {dev} nud permanent", mac(peer)));
                }
            }
        }
        pair
    }
}

/// X1: outer source, outer destination (node `b`) and bytes 4 to 7 of the VXLAN header (VNI, reserved byte) must be a known triple.
fn vxlan_filter(known: &[(u32, &str)]) -> Table {
    let mut t = Table::new(Family::Inet, "swarmnet");
    let mut rules = Vec::new();
    for (set, source, destination, datatype, own) in [
        ("vxlan4", Load::IpSaddr, Load::IpDaddr, Datatype::Ipv4, "10.99.0.2"),
        ("vxlan6", Load::Ip6Saddr, Load::Ip6Daddr, Datatype::Ipv6, "fd99::2"),
    ] {
        let family =
            known.iter().filter(|(_, addr)| ip(addr).is_ipv6() == (datatype == Datatype::Ipv6));
        let elems = family.map(|(vni, addr)| {
            let vni = key::vni(Vni::new(*vni).expect("24 bits"));
            (key::concat(&[key::ip(ip(addr)), key::ip(ip(own)), vni]), Elem::MEMBER)
        });
        t.map(set, MapSpec::set(&[datatype, datatype, Datatype::Be32]), elems.collect());
        let vni = Load::Raw { base: PayloadBase::Transport, offset: 12, len: 4 };
        let rule = Rule::builder("of a member").in_set(&[source, destination, vni], set);
        rules.push(rule.notrack().accept().build());
    }
    rules.push(Rule::builder("of none").fib_local(FibKey::Daddr).counter("dropped").drop().build());
    t.counter("dropped");
    t.chain("vxlan", rules);
    let rule = Rule::builder("VXLAN").l4proto(17).dport(4789).jump("vxlan").build();
    t.base_chain("raw", Hook::filter(HookPoint::Prerouting, -310), vec![rule]);
    t
}

#[test]
fn vxlan_is_taken_from_known_vteps_by_vni_over_both_families() {
    let pair = Pair::new();
    let reach = || ["10.4.0.2", "10.6.0.2", "fd00:4::2", "fd00:6::2"].map(|to| pings(&pair.a, to));
    assert_eq!(reach(), [true; 4], "without a filter");
    write(&pair.b, &vxlan_filter(&[(VNI_4, "10.99.0.9"), (VNI_6, "10.99.0.1")]));
    assert_eq!(reach(), [false; 4], "another sender, another network");
    write(&pair.b, &vxlan_filter(&[(VNI_4, "10.99.0.1")]));
    assert_eq!(reach(), [true, false, true, false]);
    write(&pair.b, &vxlan_filter(&[(VNI_4, "10.99.0.1"), (VNI_6, "fd99::1")]));
    assert_eq!(reach(), [true; 4]);
    let mut nft = Nft::open(&pair.b.netns()).expect("open");
    let id = TableId { family: Family::Inet, name: "swarmnet".into() };
    // Four and two: a named counter outlives the rewriting of rules and sets.
    assert_eq!(nft.counters(&id).expect("counters")[0].packets, 6);
}

#[test]
fn the_mark_is_written_straight_into_the_destination_mac_at_egress() {
    let pair = Pair::new();
    // A next hop whose MAC is nobody's: only the rewriting makes the frame arrive.
    for hop in ["10.4.0.254", "fd00:4::254"] {
        pair.a.ip(&format!("neigh add {hop} lladdr 02:53:00:00:00:00 dev swing4 nud permanent"));
    }
    pair.b.ip("addr add 10.77.0.2/32 dev lo");
    pair.b.ip("addr add fd77::2/128 dev lo nodad");
    pair.a.ip("route add 10.77.0.2 via 10.4.0.254");
    pair.a.ip("route add fd77::2 via fd00:4::254");
    let mark = u32::from_ne_bytes([0x53, 0, 0, 2]);
    let reach = |mark| {
        ["10.77.0.2", "fd77::2"].map(|to| pair.a.try_sh(&format!("ping -m {mark} -c1 -W1 {to}")).0)
    };
    assert_eq!(reach(mark), [false; 2]);
    let mut t = Table::new(Family::Netdev, "swarmnet");
    let rule = Rule::netdev_builder("to the entry node")
        .mark(u32::from_ne_bytes([0xff, 0, 0, 0]), u32::from_ne_bytes([0x53, 0, 0, 0]))
        .load(&[Load::Meta(MetaKey::Mark)])
        .set_ether_daddr(Reg::R0, 2, 4)
        .set_mark_value(0)
        .build();
    t.base_chain("swing_out", Hook::device(HookPoint::Egress, "swing4", 0), vec![rule]);
    write(&pair.a, &t);
    assert_eq!(reach(mark), [true; 2], "no map is needed");
    assert_eq!(reach(0), [false; 2], "unmarked packets keep their MAC");
}

/// A published port on node `a`, its task on `b`; the client is `b` itself (§2.3: a node as client must be translated, or the answer would go
/// to itself).
#[test]
fn a_node_that_is_client_is_translated_over_both_families() {
    let pair = Pair::new();
    let mut t = Table::new(Family::Inet, "swarmnet");
    let spec = |d| MapSpec::set(&[d]);
    t.map("nodes4", spec(Datatype::Ipv4), [(key::ip(ip("10.99.0.2")), Elem::MEMBER)].into());
    t.map("nodes6", spec(Datatype::Ipv6), [(key::ip(ip("fd99::2")), Elem::MEMBER)].into());
    let publish = |to: &str| {
        let rule = Rule::builder("published").ip_version(ip(to).is_ipv6()).l4proto(6);
        rule.fib_local(FibKey::Daddr).dport(5000).dnat(ip(to), Some(80)).build()
    };
    let pre = vec![publish("10.4.0.2"), publish("fd00:4::2")];
    t.base_chain("pre", Hook::nat(HookPoint::Prerouting, -100), pre);
    let post = [("nodes4", Load::IpSaddr, "10.4.0.1"), ("nodes6", Load::Ip6Saddr, "fd00:4::1")];
    let post = post.map(|(set, field, to)| {
        let rule = Rule::builder("nodes").ct_status(ct_status::DNAT).oif(IfName("swing*"));
        rule.in_set(&[field], set).snat(ip(to)).build()
    });
    t.base_chain("post", Hook::nat(HookPoint::Postrouting, 100), post.into());
    pair.a.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    write(&pair.a, &t);
    for (task, entry, seen) in
        [("10.4.0.2", "10.99.0.1", "10.4.0.1"), ("fd00:4::2", "fd99::1", "fd00:4::1")]
    {
        assert_eq!(talk_tcp(&pair.b, (ip(task), 80), (ip(entry), 5000)), ip(seen));
    }
}

/// D1's 127.0.0.11:53 without connection tracking: ports rewritten where loopback receives, UDP and TCP, also when another
/// program's rules track every connection, and while a workload listens at port 53 of every address.
#[test]
fn the_resolver_answers_at_port_53_from_a_high_port() {
    let ns = TestNetns::new("resolver");
    ns.ip("link set lo up");
    let mut t = Table::new(Family::Netdev, "swarmnet");
    let port = |proto, field, port| {
        Rule::netdev_builder("port").l4proto(proto).matches(&field, key::port(port))
    };
    let answers = [17, 6].map(|proto| {
        port(proto, Load::Sport, 40_053).set_port(PortEnd::Source, proto, 53).accept().build()
    });
    let queries = [17, 6].map(|proto| {
        port(proto, Load::Dport, 53).set_port(PortEnd::Destination, proto, 40_053).build()
    });
    t.chain("answers", answers.into());
    t.chain("queries", queries.into());
    let of = |field| Rule::netdev_builder("resolver").matches(&field, key::ip(ip("127.0.0.11")));
    let rules =
        [of(Load::IpSaddr).jump("answers").build(), of(Load::IpDaddr).goto("queries").build()];
    t.base_chain("resolver", Hook::device(HookPoint::Ingress, "lo", 0), rules.into());
    write(&ns, &t);
    let (resolver, at) = ((ip("127.0.0.11"), 40_053), (ip("127.0.0.11"), 53));
    let both = || [talk_tcp(&ns, resolver, at), talk_udp(&ns, resolver, at)];
    let asker = ip("127.0.0.1");
    assert_eq!(both(), [asker; 2], "untracked");
    assert_eq!(talk_udp_from(&ns, at, resolver, at), at.0, "asked from the resolver's own address");
    let listens = || UdpSocket::bind("0.0.0.0:53").expect("port 53 is free");
    let _workload = ns.netns().run(listens).expect("enter");
    assert_eq!(talk_udp(&ns, resolver, at), asker, "beside a server at port 53");
    ns.sh("nft add table ip other");
    ns.sh("nft 'add chain ip other o { type nat hook output priority -100; }'");
    assert_eq!(both(), [asker; 2], "tracked");
}

/// Balancing in the caller's sandbox, where the caller is the task itself.
#[test]
fn a_task_reaches_itself_by_its_vip_and_the_vip_answers_ping() {
    let ns = TestNetns::new("vip");
    ns.ip("link add e0 type bridge");
    ns.ip("link set e0 up");
    ns.ip("addr add 10.0.0.5/24 dev e0");
    ns.ip("addr add fd00::5/64 dev e0 nodad");
    let mut t = Table::new(Family::Inet, "swarmnet");
    for (map, vips, vip, own, d) in [
        ("s4_2", "svc4", "10.0.0.100", "10.0.0.5", Datatype::Ipv4),
        ("s6_2", "svc6", "fd00::100", "fd00::5", Datatype::Ipv6),
    ] {
        let slot = |n| {
            let key = key::concat(&[key::ip(ip(vip)), key::slot(n)]);
            (key, Elem::value(key::ip(ip(own))))
        };
        t.map(map, MapSpec::values(&[d, Datatype::Mark], &[d]), [slot(0), slot(1)].into());
        let goto = Elem::goto(format!("rnd_{map}"));
        t.map(vips, MapSpec::verdicts(&[d]), [(key::ip(ip(vip)), goto)].into());
        let ipv6 = d == Datatype::Ipv6;
        let daddr = if ipv6 { Load::Ip6Daddr } else { Load::IpDaddr };
        let pick = [daddr, Load::Random { modulus: 2 }];
        let rule = Rule::builder("pick").dnat_map(&pick, map, ipv6, false).build();
        t.chain(format!("rnd_{map}"), vec![rule]);
    }
    let vmap = |field, map| Rule::builder("vips").vmap(&[field], map).build();
    let rules = vec![vmap(Load::IpDaddr, "svc4"), vmap(Load::Ip6Daddr, "svc6")];
    t.base_chain("out", Hook::nat(HookPoint::Output, -100), rules);
    write(&ns, &t);
    for (vip, own) in [("10.0.0.100", "10.0.0.5"), ("fd00::100", "fd00::5")] {
        let (task, at) = ((ip(own), 80), (ip(vip), 80));
        assert_eq!(talk_tcp(&ns, task, at), ip(own), "the task sees the calling task");
        assert_eq!(talk_udp(&ns, task, at), ip(own));
        let answer = ns.sh(&format!("ping -c1 -W1 {vip}"));
        assert!(answer.contains(&format!("from {vip}")), "{answer}");
    }
}

/// Whom a server bound at `task` sees when a client in the same namespace connects to `to`; one byte goes each way.
fn talk_tcp(ns: &TestNetns, task: (IpAddr, u16), to: (IpAddr, u16)) -> IpAddr {
    let talk = || {
        let server = TcpListener::bind(SocketAddr::from(task)).expect("bind");
        let to = SocketAddr::from(to);
        let mut client = TcpStream::connect_timeout(&to, Duration::from_secs(2)).expect("connect");
        let (mut served, peer) = server.accept().expect("accept");
        client.write_all(b"q").expect("send");
        let mut byte = [0];
        served.read_exact(&mut byte).expect("receive");
        served.write_all(b"a").expect("answer");
        client.read_exact(&mut byte).expect("receive the answer");
        assert_eq!(&byte, b"a");
        peer.ip()
    };
    ns.netns().run(talk).expect("enter")
}

fn talk_udp(ns: &TestNetns, task: (IpAddr, u16), to: (IpAddr, u16)) -> IpAddr {
    let any = if task.0.is_ipv6() { ip("::") } else { ip("0.0.0.0") };
    talk_udp_from(ns, (any, 0), task, to)
}

fn talk_udp_from(
    ns: &TestNetns,
    from: (IpAddr, u16),
    task: (IpAddr, u16),
    to: (IpAddr, u16),
) -> IpAddr {
    let talk = || {
        let server = UdpSocket::bind(SocketAddr::from(task)).expect("bind");
        let client = UdpSocket::bind(SocketAddr::from(from)).expect("bind");
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
        }
        // Connected: an answer from another address than the VIP would not be received.
        client.connect(SocketAddr::from(to)).expect("connect");
        client.send(b"q").expect("send");
        let (_, peer) = server.recv_from(&mut [0]).expect("receive");
        server.send_to(b"a", peer).expect("answer");
        client.recv(&mut [0]).expect("receive the answer");
        peer.ip()
    };
    ns.netns().run(talk).expect("enter")
}
