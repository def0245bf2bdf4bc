//! What others do in any namespace that a kernel looks after is seen, what it does itself is not; and to watch a namespace neither
//! keeps it alive nor costs a file.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{TestNetns, run};
use swarmnet_dataplane::names::{MARKER, NODE_LINK_GATEWAY_V4, ROUTE_PROTOCOL};
use swarmnet_dataplane::nft::{Family, Table, TableId, diff};
use swarmnet_dataplane::{
    FdbTo, Kernel as _, Link, LinkChange, LinkKind, LinkName, Netns as Place, Nexthop, Ns, Op,
    PortFlags, RouteKey, RouteRule, RouteTo, Vxlan,
};
use swarmnet_kernel::{LinuxKernel, Sight, Watch};
use swarmnet_types::{Mac, SandboxId, Vni};
use tokio::time::timeout;

const BOX: Ns = Ns::Sandbox(SandboxId::from_bytes([7; 16]));
const MAC: Mac = Mac([2, 0x42, 10, 0, 0, 7]);
/// For a notice that is to come.
const SOON: Duration = Duration::from_secs(5);
/// After the last notice.
const QUIET: Duration = Duration::from_millis(300);

fn name(text: &str) -> LinkName {
    LinkName::new(text).expect("a short name")
}

fn link(kind: LinkKind) -> Link {
    Link {
        kind,
        mac: None,
        mtu_bytes: Some(1430),
        up: false,
        master: None,
        port: None,
        no_link_local: false,
        alias: format!("{MARKER}test"),
    }
}

/// A node with a sandbox and an overlay of its own.
struct Node {
    netns: TestNetns,
    kernel: LinuxKernel,
}

impl Node {
    fn new(label: &str) -> Self {
        let netns = TestNetns::new(label);
        let kernel = LinuxKernel::new(netns.netns()).expect("a kernel");
        Self { netns, kernel }
    }

    /// Name of the namespace as `ip` knows it.
    fn inside(&self, ns: Ns) -> String {
        match ns {
            Ns::Node => self.netns.name.clone(),
            Ns::Overlay => format!("{}-dp", self.netns.name),
            Ns::Sandbox(_) => format!("{}-box", self.netns.name),
        }
    }

    fn place(&self, ns: Ns) -> Place {
        Place { path: PathBuf::from("/run/netns").join(self.inside(ns)), ours: true }
    }

    async fn apply(&self, ops: &[Op]) {
        for op in ops {
            let done = self.kernel.apply(op).await;
            done.unwrap_or_else(|err| panic!("{op}: {err}"));
        }
    }

    fn build(&self) -> Vec<Op> {
        let set = |ns, link: &str, change| Op::SetLink { ns, name: name(link), change };
        let dp = Ns::Overlay;
        let vxlan = Vxlan {
            vni: Vni::new(4101).expect("24 bits"),
            local: "10.99.0.1".parse().expect("an address"),
            port: 4789,
            proxy: true,
        };
        let veth = |outer_ns, outer: &str, inner: &str| Op::AddVeth {
            ns: outer_ns,
            name: name(outer),
            link: link(LinkKind::Veth),
            peer_ns: BOX,
            peer_name: name(inner),
            peer: Link { mac: Some(MAC), ..link(LinkKind::Veth) },
        };
        let bridge = link(LinkKind::Bridge { ageing: false });
        let mut ops = vec![
            Op::AddNetns { ns: BOX, netns: self.place(BOX) },
            Op::AddNetns { ns: dp, netns: self.place(dp) },
            Op::AddLink { ns: dp, name: name("br-1"), link: bridge },
            Op::AddLink { ns: dp, name: name("vx-1"), link: link(LinkKind::Vxlan(vxlan)) },
            set(dp, "vx-1", LinkChange::Master(Some(name("br-1")))),
            veth(dp, "sn-1", "eth0"),
            set(dp, "sn-1", LinkChange::Master(Some(name("br-1")))),
            veth(Ns::Node, "snl-1", "eth1"),
        ];
        let ups = [
            (dp, "br-1"),
            (dp, "vx-1"),
            (dp, "sn-1"),
            (BOX, "lo"),
            (BOX, "eth0"),
            (BOX, "eth1"),
            (Ns::Node, "snl-1"),
        ];
        ops.extend(ups.map(|(ns, link)| set(ns, link, LinkChange::Up)));
        ops.extend(Self::objects());
        ops
    }

    fn objects() -> Vec<Op> {
        let (dp, eth1) = (Ns::Overlay, name("eth1"));
        let gateway = NODE_LINK_GATEWAY_V4.into();
        let addr = |addr: &str| Op::AddAddr {
            ns: BOX,
            link: name("eth0"),
            addr: addr.parse().expect("a network"),
        };
        let default = RouteKey::new(RouteKey::MAIN, "0.0.0.0/0".parse().expect("a network"));
        let via = RouteTo::Via { gateway, link: eth1.clone() };
        let rule = RouteRule { ipv6: false, pref: 5200, fwmark: None, from: None, table: 77 };
        let nexthop = Nexthop { gateway, link: eth1.clone() };
        let to = FdbTo::Vtep("10.99.0.2".parse().expect("an address"));
        let far = "10.0.0.9".parse().expect("an address");
        let mut table = Table::new(Family::Inet, "swarmnet");
        table.counter("dropped");
        let id = TableId { family: Family::Inet, name: "swarmnet".to_owned() };
        let tables = [Ns::Node, dp, BOX].map(|ns| Op::Nft {
            ns,
            table: id.clone(),
            ops: diff(None, &table),
        });
        let mut ops = vec![
            addr("10.0.0.7/24"),
            addr("fd00::7/64"),
            Op::PutNeighbour { ns: BOX, link: eth1.clone(), addr: gateway, mac: MAC },
            Op::PutRoute { ns: BOX, key: default, to: via },
            Op::AddRule { ns: BOX, rule },
            Op::PutNexthop { ns: BOX, id: 5, nexthop },
            Op::PutFdb { ns: dp, link: name("vx-1"), mac: MAC, to },
            Op::PutFdb {
                ns: dp,
                link: name("sn-1"),
                mac: Mac([2, 0, 0, 0, 0, 9]),
                to: FdbTo::Port,
            },
            Op::PutNeighbour { ns: dp, link: name("vx-1"), addr: far, mac: MAC },
        ];
        ops.extend(tables);
        ops
    }

    fn remove(&self) -> Vec<Op> {
        vec![
            Op::DelLink { ns: Ns::Overlay, name: name("sn-1") },
            Op::DelLink { ns: Ns::Node, name: name("snl-1") },
            Op::DelNetns { ns: BOX, netns: self.place(BOX) },
            Op::DelNetns { ns: Ns::Overlay, netns: self.place(Ns::Overlay) },
        ]
    }
}

/// Everything until nothing comes any more.
async fn all(watch: &mut Watch) -> Vec<Sight> {
    let mut seen = Vec::new();
    while let Ok(next) = timeout(QUIET, watch.next()).await {
        seen.extend(next.expect("read"));
    }
    seen
}

/// What is left of it to be looked at.
fn doubts(seen: &[Sight]) -> Vec<&Sight> {
    let righted = |at: usize, ns: Ns, name: &LinkName| {
        let right = Sight::Link { ns, name: name.clone(), right: true };
        seen[at..].contains(&right)
    };
    let places = seen.iter().enumerate();
    places
        .filter(|(at, sight)| match sight {
            Sight::Link { right: true, .. } | Sight::Underlay => false,
            Sight::Link { ns, name, .. } => !righted(*at, *ns, name),
            Sight::Rules { .. } | Sight::Object { .. } | Sight::Lost => true,
        })
        .map(|(_, sight)| sight)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_take_away_is_seen_wherever_it_was_and_what_we_do_is_not() {
    let node = Node::new("watch");
    let mut watch = node.kernel.watch().expect("a subscription");
    node.apply(&node.build()).await;
    let seen = all(&mut watch).await;
    assert_eq!(doubts(&seen), Vec::<&Sight>::new(), "of {seen:?}");
    let protocol = format!("proto {ROUTE_PROTOCOL}");
    let route = format!("ip route del default {protocol}");
    let rule = format!("ip rule del pref 5200 {protocol}");
    for (ns, command) in [
        (BOX, "nft flush ruleset"),
        (Ns::Overlay, "nft delete table inet swarmnet"),
        (Ns::Node, "nft flush ruleset"),
        (BOX, "ip addr del 10.0.0.7/24 dev eth0"),
        (BOX, "ip addr del fd00::7/64 dev eth0"),
        (BOX, "ip addr add 10.0.0.8/24 dev eth0"),
        (BOX, "ip neigh del 169.254.53.1 dev eth1"),
        (BOX, "ip nexthop del id 5"),
        (BOX, route.as_str()),
        (BOX, rule.as_str()),
        (BOX, "ip link set eth0 mtu 1400"),
        (BOX, "ip link set eth0 down"),
        (Ns::Overlay, "bridge fdb del 02:42:0a:00:00:07 dev vx-1 dst 10.99.0.2 self"),
        (Ns::Overlay, "bridge fdb del 02:00:00:00:00:09 dev sn-1 master"),
        (Ns::Overlay, "ip neigh del 10.0.0.9 dev vx-1"),
        (Ns::Overlay, "ip link set sn-1 nomaster"),
        (Ns::Overlay, "ip link del vx-1"),
        (Ns::Node, "ip link del snl-1"),
    ] {
        all(&mut watch).await;
        run(&format!("ip netns exec {} {command}", node.inside(ns)));
        let at = |sight: &Sight| match sight {
            Sight::Rules { ns: at, program } => {
                *at == ns && program == "nft" && command.starts_with("nft")
            }
            Sight::Object { ns: at } | Sight::Link { ns: at, right: false, .. } => *at == ns,
            Sight::Link { .. } | Sight::Underlay | Sight::Lost => false,
        };
        let begun = Instant::now();
        let mut seen = Vec::new();
        while !seen.iter().any(at) {
            let next = timeout(SOON, watch.next()).await;
            seen.extend(
                next.unwrap_or_else(|_| panic!("{ns}: {command}: only {seen:?}")).expect("read"),
            );
        }
        println!("{ns}: {command}: {:?}", begun.elapsed());
    }
    node.apply(&node.remove()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_talks_is_not_a_change() {
    let node = Node::new("talk");
    let mut watch = node.kernel.watch().expect("a subscription");
    node.apply(&node.build()).await;
    node.netns.ip("addr add 10.1.0.1/24 dev snl-1");
    let inside = node.inside(BOX);
    run(&format!("ip -n {inside} addr add 10.1.0.2/24 dev eth1"));
    all(&mut watch).await;
    run(&format!("ip netns exec {inside} ping -c 2 -i 0.2 -W 2 10.1.0.1"));
    let seen = all(&mut watch).await;
    assert_eq!(doubts(&seen), Vec::<&Sight>::new(), "of {seen:?}");
    let found = run(&format!("ip -n {inside} neigh show 10.1.0.1"));
    assert!(found.contains("lladdr"), "a neighbour was learned: {found}");
    node.apply(&node.remove()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_of_a_port_are_watched_and_its_forwarding_is_not_a_change() {
    let node = Node::new("port");
    let mut watch = node.kernel.watch().expect("a subscription");
    node.apply(&node.build()).await;
    let flags = PortFlags {
        learning: false,
        flood: false,
        mcast_flood: false,
        bcast_flood: false,
        isolated: false,
        hairpin: false,
    };
    let change = LinkChange::Port(flags);
    node.apply(&[Op::SetLink { ns: Ns::Overlay, name: name("sn-1"), change }]).await;
    let seen = all(&mut watch).await;
    assert_eq!(doubts(&seen), Vec::<&Sight>::new(), "of {seen:?}");
    // A moment after a change of ours others' flags are taken for its echo.
    let deadline = Instant::now() + 3 * SOON;
    let dp = node.inside(Ns::Overlay);
    while !all(&mut watch).await.contains(&Sight::Object { ns: Ns::Overlay }) {
        assert!(Instant::now() < deadline, "not seen");
        for flood in ["off", "on"] {
            run(&format!("bridge -n {dp} link set dev sn-1 flood {flood}"));
        }
    }
    node.apply(&node.remove()).await;
}

/// Files of this process that are open, of this kind.
fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_namespace_costs_no_file_and_ends_with_its_name() {
    let node = Node::new("many");
    let mut watch = node.kernel.watch().expect("a subscription");
    let mut before = 0;
    for n in 0..30u8 {
        let ns = Ns::Sandbox(SandboxId::from_bytes([n; 16]));
        let path = PathBuf::from(format!("/run/netns/{}-{n}", node.netns.name));
        let netns = Place { path, ours: true };
        let outer = name(&format!("snl-{n}"));
        let (add, peer_name) = (link(LinkKind::Veth), name("eth0"));
        node.apply(&[
            Op::AddNetns { ns, netns: netns.clone() },
            Op::AddVeth {
                ns: Ns::Node,
                name: outer.clone(),
                link: add.clone(),
                peer_ns: ns,
                peer_name,
                peer: add,
            },
            Op::DelNetns { ns, netns },
        ])
        .await;
        // The other end goes with the namespace.
        let gone = Instant::now() + SOON;
        while node.netns.try_sh(&format!("ip link show {outer}")).0 {
            assert!(Instant::now() < gone, "namespace {n} lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if n == 9 {
            before = files();
        }
    }
    let deadline = Instant::now() + SOON;
    while files() > before {
        assert!(Instant::now() < deadline, "{before} files became {}", files());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    all(&mut watch).await;
}
