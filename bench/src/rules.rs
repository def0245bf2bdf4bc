//! B4: what one task's change costs on a node whose sandbox knows 10,000 services: the plan, and the kernel's work. The crates that
//! the daemon does it with are driven as it drives them, in namespaces of this run: a wish, the next one, the plan between them.
//!
//! The change is a task that goes and one that comes: a backend of its service in both families in the sandbox's tables, and an FDB
//! entry and two neighbours of the overlay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use swarmnet_dataplane::desired::{
    DefaultRoute, Desired, Endpoint, Fabric, Network, NodeLink, Overlay, Peer, Remote, Sandbox,
    Service,
};
use swarmnet_dataplane::{
    Kernel, LinkName, Netns as Place, Op, Plan, dead_flows, is_dead_flow, plan, update,
};
use swarmnet_kernel::{LinuxKernel, Netns};
use swarmnet_types::{
    Algorithm, DualStack, EndpointId, NetworkId, NodeIndex, Protocol, SandboxId, ServiceId, Vni,
};
use tokio::runtime::Builder;

use crate::handmade::HandMade;
use crate::load::within;
use crate::report::{Goal, Measurement};

const SERVICES: u32 = 10_000;
/// Tasks of each service, all on another node.
const TASKS: u32 = 3;
/// Between two changes: the kernel frees what the last one removed.
const PAUSE: Duration = Duration::from_millis(30);
/// The node has an address on the underlay; what else is there is the wish's.
const NODE: &str = "ip netns add snb-rules
ip -n snb-rules link set lo up
ip -n snb-rules addr add 192.0.2.1/32 dev lo";
const NAMESPACES: [&str; 3] = ["snb-rules-box", "snb-rules-dp", "snb-rules"];
const ME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const NETWORK: NetworkId = NetworkId::from_bytes([1; 16]);
const SANDBOX: SandboxId = SandboxId::from_bytes([2; 16]);

pub(crate) fn run(changes: u32) -> Result<()> {
    let node = HandMade::make(NODE, &NAMESPACES)?;
    let kernel = LinuxKernel::new(Netns::open(node.netns("snb-rules"))?)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let wish = wish(&node)?;
    let sandbox = node.netns("snb-rules-box");
    runtime.block_on(measure(&kernel, (wish, &sandbox), changes))
}

async fn measure(
    kernel: &LinuxKernel,
    (mut wish, sandbox): (Desired, &Path),
    changes: u32,
) -> Result<()> {
    let begun = Instant::now();
    let first = observed(kernel, &wish).await?;
    apply(kernel, &first.ops).await?;
    let figures = [("all", begun.elapsed().as_secs_f64())];
    let what = format!("{SERVICES} services with {TASKS} tasks each: the first wish in the kernel");
    Measurement::of("B4", &what, "s", figures.into()).print();

    let what = format!("one task replaced among {SERVICES} services");
    replace(kernel, &mut wish, 0..changes, &what).await?;
    // From now on its connections are looked for, since the caller has some.
    call(sandbox)?;
    let what = format!("{what}, the sandbox has an open flow");
    replace(kernel, &mut wish, changes..2 * changes, &what).await?;
    let rest = observed(kernel, &wish).await?;
    if !rest.is_empty() {
        bail!("the kernel is not as wished: {} operations are left", rest.ops.len());
    }
    Ok(())
}

/// Replaces a task of another service each time.
async fn replace(
    kernel: &LinuxKernel,
    wish: &mut Desired,
    numbers: Range<u32>,
    what: &str,
) -> Result<()> {
    let (mut planned, mut rules, mut all, mut ops) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for number in numbers {
        let next = moved(wish, number)?;
        let begun = Instant::now();
        let plan = update(wish, &next);
        planned.push(ms(begun.elapsed()));
        apply(kernel, &plan.ops).await?;
        rules.push(ms(begun.elapsed()));
        let flows = deletions(wish, &next);
        apply(kernel, &flows).await?;
        all.push(ms(begun.elapsed()));
        if flows.is_empty() {
            bail!("no connections of the task that goes are looked for");
        }
        ops = plan.ops.len() + flows.len();
        *wish = next;
        tokio::time::sleep(PAUSE).await;
    }
    Measurement::spread("B4", &format!("{what}: plan"), "ms", &planned).print();
    let of_rules = format!("{what}: plan, rules and forwarding entries in the kernel");
    Measurement::spread("B4", &of_rules, "ms", &rules).goal("p99", Goal::Below(5.0)).print();
    let what = format!("{what}: all {ops} operations, connections of the task that goes included");
    Measurement::spread("B4", &what, "ms", &all).print();
    Ok(())
}

/// Connections of what is gone, which are in no plan: the daemon deletes them once nothing leads there any more.
fn deletions(old: &Desired, new: &Desired) -> Vec<Op> {
    let flows = dead_flows(old, new).into_iter().filter(|(ns, addr)| is_dead_flow(new, *ns, *addr));
    flows.map(|(ns, reply_src)| Op::KillFlows { ns, reply_src }).collect()
}

/// Opens a flow from the sandbox to the last service: a datagram, so that nobody has to answer.
fn call(sandbox: &Path) -> Result<()> {
    within(sandbox, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let vip = place(128, 1, SERVICES - 1).v4.context("it has an address")?;
        Ok(socket.send_to(b"bench", (vip, 9)).map(drop)?)
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

async fn observed(kernel: &LinuxKernel, wish: &Desired) -> Result<Plan> {
    let scope = wish.scope(None, |_| true);
    Ok(plan(&kernel.observe(&scope).await?, wish))
}

async fn apply(kernel: &LinuxKernel, ops: &[Op]) -> Result<()> {
    for op in ops {
        kernel.apply(op).await.with_context(|| op.to_string())?;
    }
    Ok(())
}

/// A task of another service each time goes, and a new one comes.
fn moved(wish: &Desired, number: u32) -> Result<Desired> {
    let (service, gone) = (number % SERVICES, (number % SERVICES) * TASKS);
    let comes = SERVICES * TASKS + number;
    let mut next = wish.clone();
    if let Some(Network::Overlay(overlay)) = next.networks.get_mut(&NETWORK) {
        let remotes = Arc::make_mut(&mut overlay.remotes);
        remotes.remove(&EndpointId::from_bytes(id(3, gone)));
        remotes.insert(EndpointId::from_bytes(id(3, comes)), remote(comes)?);
    }
    let key = (NETWORK, ServiceId::from_bytes(id(4, service)));
    let old = next.services.get(&key).context("the service is there")?;
    let mut new = Service::clone(old);
    for addr in task(gone).iter() {
        new.backends.remove(&addr);
    }
    new.backends.extend(task(comes).iter());
    next.services.insert(key, Arc::new(new));
    Ok(next)
}

fn wish(node: &HandMade) -> Result<Desired> {
    let remotes = (0..SERVICES * TASKS)
        .map(|n| Ok((EndpointId::from_bytes(id(3, n)), remote(n)?)))
        .collect::<Result<_>>()?;
    let overlay = Overlay {
        vni: Vni::new(4097)?,
        mtu_bytes: 1450,
        multicast: false,
        remotes: Arc::new(remotes),
        vteps: Arc::new([OTHER].into()),
    };
    let services = (0..SERVICES).map(|n| {
        let backends =
            (n * TASKS..(n + 1) * TASKS).flat_map(|n| task(n).iter().collect::<Vec<_>>());
        let service = Service {
            vip: place(128, 1, n),
            algorithm: Algorithm::Random,
            backends: backends.collect(),
        };
        ((NETWORK, ServiceId::from_bytes(id(4, n))), Arc::new(service))
    });
    Ok(Desired {
        fabric: Some(fabric()?),
        overlay_netns: node.netns("snb-rules-dp"),
        networks: [(NETWORK, Network::Overlay(overlay))].into(),
        sandboxes: [(SANDBOX, Arc::new(sandbox(node)?))].into(),
        services: services.collect(),
        ..Desired::default()
    })
}

fn fabric() -> Result<Fabric> {
    let index = |n| NodeIndex::new(n).context("not zero");
    let peer = Peer { vtep: OTHER, fabric: place(254, 2, 2) };
    Ok(Fabric {
        index: index(1)?,
        addrs: place(254, 2, 1),
        vtep: ME,
        vxlan_port: 4789,
        underlay_mtu_bytes: 1500,
        peers: Arc::new([(index(2)?, peer)].into()),
        tasks: Arc::default(),
        node_addrs: [ME, OTHER].into(),
        control_ports: [(Protocol::Tcp, 2377)].into(),
    })
}

fn sandbox(node: &HandMade) -> Result<Sandbox> {
    let addrs = place(64, 3, 1);
    let with_length = |addr: IpAddr| IpNet::new(addr, if addr.is_ipv6() { 64 } else { 16 });
    let endpoint = Endpoint {
        network: NETWORK,
        ifname: LinkName::new("eth0").context("a short name")?,
        addrs: addrs.iter().map(with_length).collect::<Result<_, _>>()?,
        mac: addrs.mac().context("it has an address")?,
    };
    Ok(Sandbox {
        netns: Place { path: node.netns("snb-rules-box"), ours: true },
        endpoints: [(EndpointId::from_bytes([5; 16]), endpoint)].into(),
        node_link: Some(NodeLink {
            ifname: LinkName::new("eth1").context("a short name")?,
            addrs: place(253, 4, 1),
            egress: true,
        }),
        default_v4: Some(DefaultRoute::NodeLink),
        default_v6: Some(DefaultRoute::NodeLink),
        dns_port: Some(64_053),
    })
}

fn remote(number: u32) -> Result<Remote> {
    let addrs = task(number);
    Ok(Remote { addrs, mac: addrs.mac().context("it has an address")?, vtep: OTHER })
}

fn task(number: u32) -> DualStack {
    place(65, 5, number)
}

/// 10.`net`.0.0 and fd00:`net6`:: and the number.
fn place(net: u8, net6: u16, number: u32) -> DualStack {
    let v4 = u32::from(Ipv4Addr::new(10, net, 0, 0)) + number;
    let v6 = u128::from(Ipv6Addr::new(0xfd00, net6, 0, 0, 0, 0, 0, 0)) + u128::from(number);
    DualStack::new(Some(v4.into()), Some(v6.into()))
}

fn id(kind: u8, number: u32) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}
