//! `LinuxKernel` against the kernel: the verbs build an overlay over two nodes that carries IPv4 and IPv6 with no ARP and no flooding on
//! the underlay, what was built is observed as it was asked for, every removal can be repeated, and nothing is left.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind::{ConnectionAborted, ConnectionReset};
use std::net::IpAddr;
use std::path::PathBuf;

use common::{PREFIX, TestNetns, run};
use swarmnet_dataplane::names::{MARKER, ROUTE_PROTOCOL};
use swarmnet_dataplane::{
    FdbTo, Kernel, Link, LinkChange, LinkKind, LinkName, Netns as Place, Nexthop, Ns, NsScope,
    NsState, Op, PortFlags, RouteKey, RouteRule, RouteTo, Scope, Vxlan,
};
use swarmnet_kernel::conntrack::{Conntrack, Flow, Witness};
use swarmnet_kernel::sockdiag::{Transport, destroy_connected_to, listeners};
use swarmnet_kernel::sockets::{SocketOptions, tcp_in, udp_in};
use swarmnet_kernel::workload::{Credentials, FileOverride, Workload};
use swarmnet_kernel::{LinuxKernel, Netns, sysctl, underlay};
use swarmnet_types::{Mac, SandboxId, Vni};

const SANDBOX: SandboxId = SandboxId::from_bytes([7; 16]);
const BOX: Ns = Ns::Sandbox(SANDBOX);

fn name(text: &str) -> LinkName {
    LinkName::new(text).expect("a short name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn link(kind: LinkKind, mac: Option<Mac>) -> Link {
    Link {
        kind,
        mac,
        mtu_bytes: Some(1430),
        up: false,
        master: None,
        port: None,
        no_link_local: true,
        alias: format!("{MARKER}test"),
    }
}

/// An underlay bridge and two nodes on it, both families.
struct Lab {
    nodes: Vec<Node>,
    _underlay: TestNetns,
}

struct Node {
    netns: TestNetns,
    kernel: LinuxKernel,
    overlay: Place,
    sandbox: Place,
    index: u8,
}

impl Lab {
    fn new() -> Self {
        let underlay = TestNetns::new("ul");
        underlay.ip("link add br0 type bridge");
        underlay.ip("link set br0 up");
        let nodes = [1, 2].map(|index| Node::new(index, &underlay)).into();
        Self { nodes, _underlay: underlay }
    }
}

impl Node {
    fn new(index: u8, underlay: &TestNetns) -> Self {
        let netns = TestNetns::new(&format!("n{index}"));
        let (ul, me) = (&underlay.name, &netns.name);
        underlay.ip(&format!("link add p{index} type veth peer name eth0 netns {me}"));
        run(&format!("ip -n {ul} link set p{index} master br0 up"));
        netns.ip(&format!("addr add 10.99.0.{index}/24 dev eth0"));
        netns.ip(&format!("addr add fd99::{index}/64 dev eth0 nodad"));
        netns.ip("link set eth0 up");
        let place = |what: &str| Place {
            path: PathBuf::from(format!("/run/netns/{me}-{what}")),
            ours: true,
        };
        let kernel = LinuxKernel::new(netns.netns()).expect("a kernel");
        let (overlay, sandbox) = (place("dp"), place("box"));
        Self { netns, kernel, overlay, sandbox, index }
    }

    fn mac(index: u8) -> Mac {
        Mac([2, 0x42, 10, 0, 0, index])
    }

    /// One overlay with one sandbox here and one on the other node.
    fn attach(&self, ipv6_underlay: bool) -> Vec<Op> {
        let (here, other) = (self.index, 3 - self.index);
        let vtep =
            |n| ip(&if ipv6_underlay { format!("fd99::{n}") } else { format!("10.99.0.{n}") });
        let (vx, br, port, eth) = (name("vx-4101"), name("br-4101"), name("sn-1"), name("eth0"));
        let vxlan = LinkKind::Vxlan(Vxlan {
            vni: Vni::new(4101).expect("24 bits"),
            local: vtep(here),
            port: 4789,
            proxy: true,
        });
        let flags = |flood| PortFlags {
            learning: false,
            flood,
            mcast_flood: flood,
            bcast_flood: true,
            isolated: false,
            hairpin: false,
        };
        let (dp, set) = (Ns::Overlay, |ns, name: &LinkName, change| Op::SetLink {
            ns,
            name: name.clone(),
            change,
        });
        let mut ops = vec![
            Op::AddNetns { ns: dp, netns: self.overlay.clone() },
            Op::AddNetns { ns: BOX, netns: self.sandbox.clone() },
            Op::SetSysctl {
                ns: dp,
                key: "net/bridge/bridge-nf-call-iptables".into(),
                value: "0".into(),
            },
            Op::AddLink {
                ns: dp,
                name: br.clone(),
                link: link(LinkKind::Bridge { ageing: false }, None),
            },
            Op::AddLink { ns: dp, name: vx.clone(), link: link(vxlan, None) },
            set(dp, &vx, LinkChange::Master(Some(br.clone()))),
            set(dp, &vx, LinkChange::Port(flags(true))),
            set(dp, &vx, LinkChange::Up),
            set(dp, &br, LinkChange::Up),
            Op::AddVeth {
                ns: dp,
                name: port.clone(),
                link: link(LinkKind::Veth, None),
                peer_ns: BOX,
                peer_name: eth.clone(),
                peer: link(LinkKind::Veth, Some(Self::mac(here))),
            },
            set(dp, &port, LinkChange::Master(Some(br.clone()))),
            set(dp, &port, LinkChange::Port(flags(false))),
            set(dp, &port, LinkChange::Up),
            set(BOX, &eth, LinkChange::Up),
            set(BOX, &LinkName::loopback(), LinkChange::Up),
            Op::PutFdb { ns: dp, link: port, mac: Self::mac(here), to: FdbTo::Port },
            Op::PutFdb {
                ns: dp,
                link: vx.clone(),
                mac: Self::mac(other),
                to: FdbTo::Vtep(vtep(other)),
            },
        ];
        ops.extend(self.addresses());
        ops
    }

    /// Of the sandbox here, and the neighbours that the VXLAN device answers for.
    fn addresses(&self) -> Vec<Op> {
        let (here, other) = (self.index, 3 - self.index);
        let (vx, eth, dp, mut ops) = (name("vx-4101"), name("eth0"), Ns::Overlay, Vec::new());
        for (mine, its) in [
            (format!("10.0.0.{here}/24"), format!("10.0.0.{other}")),
            (format!("fd00::{here}/64"), format!("fd00::{other}")),
        ] {
            let addr = mine.parse().expect("a network");
            ops.push(Op::AddAddr { ns: BOX, link: eth.clone(), addr });
            let (link, addr, mac) = (vx.clone(), ip(&its), Self::mac(other));
            ops.push(Op::PutNeighbour { ns: dp, link, addr, mac });
        }
        ops
    }

    fn detach(&self) -> Vec<Op> {
        let dp = Ns::Overlay;
        vec![
            Op::DelFdb {
                ns: dp,
                link: name("vx-4101"),
                mac: Self::mac(3 - self.index),
                to: FdbTo::Vtep(ip("10.99.0.1")),
            },
            Op::DelLink { ns: dp, name: name("sn-1") },
            Op::DelNetns { ns: BOX, netns: self.sandbox.clone() },
            Op::DelLink { ns: dp, name: name("vx-4101") },
            Op::DelLink { ns: dp, name: name("br-4101") },
            Op::DelNetns { ns: dp, netns: self.overlay.clone() },
        ]
    }

    async fn apply(&self, ops: &[Op]) {
        for op in ops {
            let done = self.kernel.apply(op).await;
            done.unwrap_or_else(|err| panic!("{op}: {err}"));
        }
    }

    async fn observe(&self) -> BTreeMap<Ns, NsState> {
        let scope = |netns| NsScope { netns, tables: true, ..NsScope::default() };
        let namespaces = [
            (Ns::Node, scope(None)),
            (Ns::Overlay, scope(Some(self.overlay.clone()))),
            (BOX, scope(Some(self.sandbox.clone()))),
        ];
        let scope = Scope { namespaces: namespaces.into(), forward: true };
        self.kernel.observe(&scope).await.expect("observe").namespaces
    }

    fn ping(&self, to: &str) -> String {
        run(&format!(
            "ip netns exec {} ping -c 2 -i 0.1 -W 1 {to}",
            self.sandbox.path.file_name().expect("a name").to_string_lossy()
        ))
    }
}

async fn overlay_carries_traffic(ipv6_underlay: bool) {
    let lab = Lab::new();
    for node in &lab.nodes {
        node.apply(&node.attach(ipv6_underlay)).await;
    }
    for to in ["10.0.0.2", "fd00::2"] {
        assert!(lab.nodes[0].ping(to).contains(" 0% packet loss"));
    }
    let node = &lab.nodes[0];
    let seen = node.observe().await;
    let dp = &seen[&Ns::Overlay];
    let names: Vec<_> = dp.links.keys().map(LinkName::as_str).collect();
    assert_eq!(names, ["br-4101", "sn-1", "vx-4101"]);
    let vx = &dp.links[&name("vx-4101")];
    assert!(vx.up && vx.no_link_local && vx.port.is_some_and(|p| p.flood && !p.learning));
    assert_eq!((vx.mtu_bytes, vx.master.as_ref()), (Some(1430), Some(&name("br-4101"))));
    assert_eq!(dp.links[&name("br-4101")].kind, LinkKind::Bridge { ageing: false });
    assert_eq!(dp.links[&name("br-4101")].mtu_bytes, Some(1430));
    let fdb: Vec<_> = dp.fdb.values().collect();
    assert!(matches!(fdb[..], [FdbTo::Port, FdbTo::Vtep(_)]), "{fdb:?}");
    assert_eq!(dp.neighbours.len(), 2);
    assert_eq!(seen[&BOX].addrs.len(), 2);
    assert!(seen[&Ns::Node].is_bare(), "nothing of it is in the node's own namespace");
    // What exists is told, not overwritten.
    let again = node.attach(ipv6_underlay).remove(3);
    assert!(node.kernel.apply(&again).await.expect_err("exists").is_stale());
    for node in &lab.nodes {
        node.apply(&node.detach()).await;
        node.apply(&node.detach()[..1]).await;
        node.apply(&node.detach()).await;
        assert_eq!(node.observe().await.len(), 1, "only the node's own namespace is there");
        assert!(!node.netns.ip("link").contains("vx-"), "no device came back to the node");
    }
}

#[tokio::test]
async fn overlay_over_ipv4_carries_both_families_and_leaves_nothing() {
    overlay_carries_traffic(false).await;
}

#[tokio::test]
async fn overlay_over_ipv6_carries_both_families_and_leaves_nothing() {
    overlay_carries_traffic(true).await;
}

/// One of each kind.
fn routes(swing: &LinkName) -> [(RouteKey, RouteTo); 6] {
    let key =
        |dst: &str, table, metric| RouteKey { table, dst: dst.parse().expect("a network"), metric };
    [
        (key("10.255.0.2/32", 254, 0), RouteTo::Nexthop(7)),
        (key("fd53::2/128", 254, 1024), RouteTo::Nexthop(8)),
        (
            key("0.0.0.0/0", 21_326, 0),
            RouteTo::Via { gateway: ip("169.254.53.254"), link: swing.clone() },
        ),
        (
            key("::/0", 21_326, 1024),
            RouteTo::Via { gateway: ip("fe80::53:254"), link: swing.clone() },
        ),
        (key("10.255.0.3/32", 254, 0), RouteTo::Link(swing.clone())),
        (key("::1/128", 255, 77), RouteTo::Local(swing.clone())),
    ]
}

#[tokio::test]
async fn routes_rules_nexthops_and_flood_lists_are_put_observed_and_removed() {
    let lab = Lab::new();
    let node = &lab.nodes[0];
    let ns = Ns::Node;
    let swing = name("swing");
    let kind = LinkKind::Vxlan(Vxlan {
        vni: Vni::INGRESS,
        local: ip("10.99.0.1"),
        port: 4789,
        proxy: false,
    });
    let routes = routes(&swing);
    let rules = [false, true].map(|ipv6| RouteRule {
        ipv6,
        pref: 5200,
        fwmark: Some((0x53, 0xff)),
        from: None,
        table: 21_326,
    });
    let hop = |gateway| Nexthop { gateway: ip(gateway), link: swing.clone() };
    let flood = |vteps: &[&str]| FdbTo::Flood(vteps.iter().map(|v| ip(v)).collect());
    let zero = Mac([0; 6]);
    let put_flood = |to| Op::PutFdb { ns, link: swing.clone(), mac: zero, to };
    node.apply(&[
        Op::AddLink {
            ns,
            name: swing.clone(),
            link: link(kind, Some(Mac([2, 0x53, 0x53, 0, 0, 1]))),
        },
        Op::SetLink { ns, name: swing.clone(), change: LinkChange::Up },
        Op::PutNexthop { ns, id: 7, nexthop: hop("169.254.53.2") },
        Op::PutNexthop { ns, id: 8, nexthop: hop("fe80::53:2") },
        put_flood(flood(&["10.99.0.2", "10.99.0.3"])),
        put_flood(flood(&["10.99.0.3", "10.99.0.4"])),
    ])
    .await;
    for (key, to) in &routes {
        // Twice: a put may be repeated.
        node.apply(&[0, 1].map(|_| Op::PutRoute { ns, key: *key, to: to.clone() })).await;
    }
    node.apply(&rules.clone().map(|rule| Op::AddRule { ns, rule })).await;
    node.netns.ip("rule add pref 99 fwmark 1 lookup 100");
    let seen = node.observe().await.remove(&ns).expect("the node's own");
    assert_eq!(seen.routes, routes.clone().into());
    assert_eq!(seen.rules, BTreeSet::from(rules.clone()));
    assert_eq!(seen.nexthops, BTreeMap::from([(7, hop("169.254.53.2")), (8, hop("fe80::53:2"))]));
    assert_eq!(seen.fdb[&(swing.clone(), zero)], flood(&["10.99.0.3", "10.99.0.4"]));
    let listed = node.netns.ip("route show table all");
    assert!(listed.contains(&format!("proto {ROUTE_PROTOCOL}")), "{listed}");
    let mut removal: Vec<_> =
        routes.iter().map(|(key, _)| Op::DelRoute { ns, key: *key }).collect();
    removal.extend(rules.map(|rule| Op::DelRule { ns, rule }));
    removal.extend([7, 8].map(|id| Op::DelNexthop { ns, id }));
    removal.push(Op::DelFdb { ns, link: swing.clone(), mac: zero, to: flood(&[]) });
    removal.push(Op::KillFlows { ns, reply_src: ip("10.255.0.2") });
    removal.push(Op::DelLink { ns, name: swing });
    node.apply(&removal).await;
    node.apply(&removal).await;
    assert!(node.observe().await[&ns].is_bare());
    assert!(node.netns.ip("rule").contains("99:"), "a rule of others stays");
}

#[test]
fn flows_are_deleted_by_their_reply_source() {
    let ns = TestNetns::new("ct");
    ns.ip("addr add 192.0.2.1/32 dev lo");
    ns.ip("addr add 2001:db8::1/128 dev lo nodad");
    ns.sh("nft add table inet t; nft 'add chain inet t o { type filter hook output priority 0; ct state new counter ; }'");
    let mut ct = Conntrack::open(&ns.netns()).expect("open");
    for to in ["192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"] {
        ns.sh(&format!("ping -c1 -W1 {to}"));
    }
    let left = || {
        let list = ns.sh("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        list.lines().map(|l| l.split("src=").nth(2).map(first_word)).collect::<BTreeSet<_>>()
    };
    let these = |addrs: &[&str]| addrs.iter().map(|a| Some((*a).to_owned())).collect();
    assert_eq!(left(), these(&["192.0.2.1", "127.0.0.1", "2001:db8::1", "::1"]));
    ct.delete_by_reply_source(ip("192.0.2.1")).expect("v4");
    assert_eq!(left(), these(&["127.0.0.1", "2001:db8::1", "::1"]));
    ct.delete_by_reply_source(ip("2001:db8::1")).expect("v6");
    assert_eq!(left(), these(&["127.0.0.1", "::1"]), "others survive");
    ct.delete_by_reply_source(ip("2001:db8::1")).expect("none is fine");
}

#[test]
fn a_flow_tells_who_answers_it() {
    let ns = TestNetns::new("ctq");
    ns.ip("addr add 192.0.2.1/24 dev lo");
    ns.ip("addr add 2001:db8::1/64 dev lo nodad");
    ns.sh("nft -f - <<'EOF'
table inet t {
  chain o {
    type nat hook output priority -100
    ip daddr 192.0.2.100 dnat ip to 192.0.2.1
    ip6 daddr 2001:db8::100 dnat ip6 to 2001:db8::1
  }
}
EOF");
    // A virtual address needs a route, as in a sandbox.
    ns.ip("route add local 192.0.2.100 dev lo");
    ns.ip("route add local 2001:db8::100 dev lo");
    let watch = || Witness::open(&ns.netns()).expect("open");
    for (own, vip) in [("192.0.2.1", "192.0.2.100"), ("2001:db8::1", "2001:db8::100")] {
        let (own, vip) = (ip(own), ip(vip));
        let bind = |kind| {
            let socket = ns.netns().run(|| {
                let socket = socket2::Socket::new(
                    socket2::Domain::for_address((own, 0).into()),
                    kind,
                    None,
                )?;
                socket.bind(&std::net::SocketAddr::new(own, 0).into())?;
                Ok::<_, std::io::Error>(socket)
            });
            socket.expect("enter").expect("bind")
        };
        // Nothing listens: the reset ends the flow before it can be looked up.
        let (tcp, mut witness) = (bind(socket2::Type::STREAM), watch());
        let from = tcp.local_addr().expect("bound").as_socket().expect("an address");
        let to = (vip, 9).into();
        tcp.connect(&std::net::SocketAddr::from((vip, 9)).into()).expect_err("refused");
        let flow = Flow::Ports { protocol: 6, from, to };
        assert_eq!(watch().answered_by(&flow).expect("look up"), None, "too late");
        assert_eq!(witness.answered_by(&flow).expect("look up"), Some((own, 9).into()));
        // One that goes on is found either way.
        let (udp, mut witness) = (bind(socket2::Type::DGRAM), watch());
        let from = udp.local_addr().expect("bound").as_socket().expect("an address");
        let flow = Flow::Ports { protocol: 17, from, to };
        assert_eq!(witness.answered_by(&flow).expect("look up"), None, "nothing was sent");
        udp.send_to(&[], &std::net::SocketAddr::from((vip, 9)).into()).expect("send");
        let other = Flow::Ports { protocol: 6, from, to };
        assert_eq!(witness.answered_by(&other).expect("look up"), None, "another protocol");
        assert_eq!(watch().answered_by(&flow).expect("look up"), Some((own, 9).into()));
        let mut witness = watch();
        ns.sh(&format!("ping -c1 -W1 {vip}"));
        let version = if vip.is_ipv6() { 6 } else { 4 };
        let list = ns.sh(&format!("conntrack -L -f ipv{version} 2>/dev/null"));
        let echo = list.lines().find(|line| line.contains("type=")).expect("an echo");
        let word = |key: &str| {
            let found = echo.split_whitespace().find_map(|w| w.strip_prefix(key));
            found.unwrap_or_else(|| panic!("{key} in {echo}")).to_owned()
        };
        let identifier = word("id=").parse().expect("a number");
        let flow = Flow::Echo { from: ip(&word("src=")), to: vip, identifier };
        for witness in [&mut witness, &mut watch()] {
            let who = witness.answered_by(&flow).expect("look up");
            assert_eq!(who, Some((own, 0).into()), "{echo}");
        }
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn sockets_inside_are_listed_as_listeners_and_their_peers_can_be_cut_off() {
    let ns = TestNetns::new("sock");
    let at = |text: &str| text.parse().expect("an address");
    let tcp = tcp_in(&ns.netns(), at("127.0.0.1:5000"), SocketOptions::default()).expect("tcp");
    let reuse = SocketOptions { reuse_port: true, ..SocketOptions::default() };
    let old = udp_in(&ns.netns(), at("[::]:53"), reuse).expect("udp");
    let _new = udp_in(&ns.netns(), at("[::]:53"), reuse).expect("a second daemon may bind");
    let seen = listeners(&ns.netns()).expect("list");
    let is = |t, text: &str| seen.iter().any(|l| l.transport == t && l.addr == at(text));
    assert!(is(Transport::Tcp, "127.0.0.1:5000") && is(Transport::Udp, "[::]:53"), "{seen:?}");
    assert!(seen.iter().all(|l| l.addr.is_ipv4() || l.v6_only), "{seen:?}");
    assert!(tcp_in(&ns.netns(), at("127.0.0.1:5000"), SocketOptions::default()).is_err());
    let addr = tcp.local_addr().expect("bound");
    let client = ns.netns().run(|| std::net::TcpStream::connect(addr)).expect("enter");
    let client = client.expect("connect");
    assert!(destroy_connected_to(&ns.netns(), ip("127.0.0.1")).expect("destroy") >= 1);
    let mut client = client;
    let err = std::io::Read::read(&mut client, &mut [0]).expect_err("cut off");
    // Both ends are connected to 127.0.0.1: aborted, or reset by the other end's abortion, whichever was first.
    assert!(matches!(err.kind(), ConnectionAborted | ConnectionReset), "{err}");
    drop(old);
}

/// Without the namespaces that other tests make and remove meanwhile.
fn mounts() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    text.lines().filter(|line| !line.contains("/run/netns")).map(str::to_owned).collect()
}

#[test]
fn a_workload_sees_its_own_files_and_devices_and_the_host_does_not() {
    let ns = TestNetns::new("wl");
    ns.ip("link add onlyhere type bridge");
    let before = mounts();
    let source = std::env::temp_dir().join(format!("{PREFIX}{}-resolv", std::process::id()));
    std::fs::write(&source, "nameserver 127.0.0.11\n").expect("a file");
    let files = [FileOverride { source: source.clone(), target: "/etc/resolv.conf".into() }];
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "cat /etc/resolv.conf; ls /sys/class/net; ls /sys/fs/cgroup >/dev/null"]);
    command.stdout(std::process::Stdio::piped());
    let netns = ns.netns();
    let workload = Workload { netns: &netns, files: &files, user: None };
    let child = workload.spawn(&mut command).expect("start");
    let out = child.wait_with_output().expect("wait");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    assert!(text.contains("nameserver 127.0.0.11") && text.contains("onlyhere"), "{text}");
    std::fs::remove_file(source).expect("ours");
    assert_eq!(mounts(), before);
    assert_ne!(Netns::current().expect("ours").id(), netns.id());
}

#[test]
fn a_workload_runs_as_its_user_with_its_groups_and_the_caller_does_not() {
    let ns = TestNetns::new("user");
    let netns = ns.netns();
    let user = Credentials { uid: 12_345, gid: 23_456, groups: vec![23_456, 34_567] };
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "id -u; id -g; id -G; grep CapEff /proc/self/status"]);
    command.stdout(std::process::Stdio::piped());
    let workload = Workload { netns: &netns, files: &[], user: Some(&user) };
    let out = workload.spawn(&mut command).expect("start").wait_with_output().expect("wait");
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(text, "12345\n23456\n23456 34567\nCapEff:\t0000000000000000\n");
    assert_eq!(rustix::process::geteuid().as_raw(), 0, "we are root still");
}

#[test]
fn the_underlay_is_found() {
    let lab = Lab::new();
    let netns = lab.nodes[0].netns.netns();
    let found = underlay::candidates(&netns).expect("candidates");
    assert_eq!(found, [(name("eth0"), ip("10.99.0.1")), (name("eth0"), ip("fd99::1"))]);
    let path = underlay::path_to(&netns, ip("10.99.0.2")).expect("look up").expect("a path");
    assert_eq!((path.link, path.source, path.mtu_bytes), (name("eth0"), ip("10.99.0.1"), 1500));
    assert_eq!(underlay::path_to(&netns, ip("198.51.100.1")).expect("look up"), None);
    assert_eq!(underlay::default_path(&netns, true).expect("look up"), None);
    lab.nodes[0].netns.ip("route add default via fd99::2 mtu 1400");
    let path = underlay::default_path(&netns, true).expect("look up").expect("a path");
    assert_eq!((path.source, path.mtu_bytes), (ip("fd99::1"), 1400));
    let by_addr = underlay::interface_of(&netns, ip("fd99::1")).expect("look up");
    assert_eq!(by_addr.expect("eth0").mtu_bytes, 1500);
    let key = "net/ipv4/conf/eth0/rp_filter";
    sysctl::set(&netns, key, "2").expect("set");
    assert_eq!(sysctl::get(&netns, key).expect("get"), "2");
}
