//! `rtnetlink`'s handle against our socket, on the largest lists there are: forwarding entries and neighbours of a VXLAN device.
//!
//! Each way must leave the same entries; what each takes is printed. `cargo test -p swarmnet-kernel --lib handle_and_batch --
//! --nocapture`; the figures are in `docs/kernel-notes.md`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourFlags;
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use swarmnet_dataplane::{FdbTo, LinkChange, LinkName, Vxlan};
use swarmnet_types::{Mac, Vni};
use tokio::task::JoinSet;

use super::{NewLink, Route, fdb, neighbour};
use crate::netlink::Message;
use crate::netns::Netns;

/// Of each kind.
const ENTRIES: u32 = 2000;
const ROUNDS: usize = 5;
/// After which a way is said not to end.
const PATIENCE: Duration = Duration::from_secs(10);
const IN_FLIGHT: usize = 64;
const VTEP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

/// Addresses and MACs of the endpoints behind the device.
fn endpoints() -> impl Iterator<Item = (IpAddr, Mac)> {
    (1..=ENTRIES).map(|n| {
        let addr = Ipv4Addr::from(0x0a00_0000 + n);
        (addr.into(), Mac::from_ipv4(addr))
    })
}

fn messages(index: u32) -> Vec<RouteNetlinkMessage> {
    let fdb = endpoints().map(|(_, mac)| fdb::of_vxlan(index, mac, VTEP));
    let neighbours = endpoints().map(|(addr, mac)| neighbour::permanent(index, addr, mac));
    fdb.chain(neighbours).map(RouteNetlinkMessage::NewNeighbour).collect()
}

fn device(netns: &Netns) -> (Route, LinkName, u32) {
    let mut route = Route::open(netns).expect("a socket");
    let name = LinkName::new("vx").expect("a name");
    let local = Ipv4Addr::new(192, 0, 2, 1).into();
    let vxlan = Vxlan { vni: Vni::new(4101).expect("24 bits"), local, port: 4789, proxy: true };
    let new = NewLink { name: &name, mac: None, mtu_bytes: None, alias: "", no_link_local: true };
    route.add_vxlan(&new, &vxlan, None).expect("a device");
    route.set_link(&name, &LinkChange::Up).expect("up");
    let index = route.index_of(&name).expect("it is there");
    (route, name, index)
}

fn one_by_one(route: &mut Route, link: &LinkName) {
    for (_, mac) in endpoints() {
        route.put_fdb(link, mac, &FdbTo::Vtep(VTEP)).expect("put");
    }
    for (addr, mac) in endpoints() {
        route.put_neighbour(link, addr, mac).expect("put");
    }
}

fn batch(route: &mut Route, index: u32) {
    let put = |body| ("put", Message::route(NLM_F_CREATE | NLM_F_REPLACE, body));
    let messages = messages(index).into_iter().map(put);
    let results = route.socket.request_all(messages).expect("sent");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

async fn handle(handle: &rtnetlink::Handle, index: u32, in_flight: usize) {
    let neighbours = handle.neighbours();
    let fdb = stream::iter(endpoints()).map(Ok::<_, rtnetlink::Error>);
    fdb.try_for_each_concurrent(in_flight, |(_, mac)| {
        let add = neighbours.add_bridge(index, &mac.0).flags(NeighbourFlags::Own);
        add.destination(VTEP).replace().execute()
    })
    .await
    .expect("put");
    let all = stream::iter(endpoints()).map(Ok::<_, rtnetlink::Error>);
    all.try_for_each_concurrent(in_flight, |(addr, mac)| {
        neighbours.add(index, addr).link_layer_address(&mac.0).replace().execute()
    })
    .await
    .expect("put");
}

/// What lies below the handle can send many; the handle itself does not offer it.
async fn proto_batch(
    handle: &rtnetlink::proto::ConnectionHandle<RouteNetlinkMessage>,
    index: u32,
    depth: usize,
) {
    let put = |body: &RouteNetlinkMessage| {
        let mut message = NetlinkMessage::from(body.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        message
    };
    for some in messages(index).chunks(depth) {
        let all = some.iter().map(put).collect::<Vec<_>>();
        let refused = handle.request_batch(all, SocketAddr::new(0, 0)).expect("sent");
        assert_eq!(refused.count().await, 0, "acknowledgements are not passed on");
    }
}

fn entries(route: &mut Route) -> usize {
    let links = route.links().expect("links");
    route.fdb(&links).expect("fdb").len() + route.neighbours(&links).expect("neighbours").len()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Ours, as operations are carried out: the device is looked up for each.
    OneByOne,
    Batch,
    Handle,
    HandleInFlight,
    ProtoBatch,
    /// More acknowledgements than its receive buffer holds.
    ProtoBatchOfAll,
}

async fn put(way: Way, netns: &Netns) -> Option<Duration> {
    let (mut route, link, index) = device(netns);
    let runtime = tokio::runtime::Handle::current();
    let inside = || {
        let _runtime = runtime.enter();
        let proto = rtnetlink::proto::new_connection(NETLINK_ROUTE).expect("a connection");
        (rtnetlink::new_connection().expect("a connection"), proto)
    };
    let ((worker, of_handle, _), (proto_worker, of_proto, _)) = netns.run(inside).expect("enter");
    let mut workers = JoinSet::new();
    workers.spawn(worker);
    workers.spawn(proto_worker);
    let start = Instant::now();
    let work = async {
        match way {
            Way::OneByOne => one_by_one(&mut route, &link),
            Way::Batch => batch(&mut route, index),
            Way::Handle => handle(&of_handle, index, 1).await,
            Way::HandleInFlight => handle(&of_handle, index, IN_FLIGHT).await,
            Way::ProtoBatch => proto_batch(&of_proto, index, IN_FLIGHT).await,
            Way::ProtoBatchOfAll => proto_batch(&of_proto, index, usize::MAX).await,
        }
    };
    let ended = tokio::time::timeout(PATIENCE, work).await.is_ok();
    let took = start.elapsed();
    drop(workers);
    assert_eq!(entries(&mut route), 2 * ENTRIES as usize, "{way:?}");
    ended.then_some(took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handle_and_batch() {
    let ways = [Way::OneByOne, Way::Batch, Way::Handle, Way::HandleInFlight, Way::ProtoBatch];
    let mut best: BTreeMap<Way, Duration> = BTreeMap::new();
    for way in ways.repeat(ROUNDS) {
        let netns = Netns::anonymous().expect("this needs root");
        let took = put(way, &netns).await.expect("it ends");
        best.entry(way).and_modify(|least| *least = took.min(*least)).or_insert(took);
    }
    for (way, took) in &best {
        let ratio = took.as_secs_f64() / best[&Way::Batch].as_secs_f64();
        println!("{way:?}: {took:.2?}, {ratio:.1} times the batch");
    }
    let netns = Netns::anonymous().expect("this needs root");
    println!("{:?}: {:?}", Way::ProtoBatchOfAll, put(Way::ProtoBatchOfAll, &netns).await);
}
