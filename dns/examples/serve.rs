//! Serves a zone of made-up names at one address until it is ended: what `bench/` and dnsperf measure.
//!
//! `serve ADDR:PORT NAMES [UPSTREAM:PORT]`: names `name0` … each with one IPv4 and one IPv6 address, and `many` with 200.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use swarmnet_dns::{
    Config, Forward, Forwarder, NameServer, NodeSockets, Order, SandboxNames, Upstreams, Zone,
    ZoneBuilder,
};
use swarmnet_types::{DualStack, SandboxId};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let addr: SocketAddr = args.next().ok_or("want ADDR:PORT NAMES [UPSTREAM:PORT]")?.parse()?;
    let count: u32 = args.next().ok_or("want the number of names")?.parse()?;
    let upstream: Option<SocketAddr> = args.next().map(|arg| arg.parse()).transpose()?;

    let forward = upstream.map_or(Forward::Never, |server| {
        let sockets = Arc::new(NodeSockets);
        let servers = vec![server];
        Forward::To(Arc::new(Forwarder::new(Upstreams { servers, order: Order::Ordered, sockets })))
    });
    let names = SandboxNames::new(vec![Arc::new(zone(count)?)], forward);
    let server = NameServer::start(&Config::default())?;
    let key = SandboxId::from_bytes([1; 16]);
    server.serve(key, UdpSocket::bind(addr)?, TcpListener::bind(addr)?, Arc::new(names))?;
    println!("serving {count} names at {addr}");
    loop {
        std::thread::park();
    }
}

fn zone(count: u32) -> Result<Zone, Box<dyn Error>> {
    let mut builder = ZoneBuilder::new("bench", &["10.0.0.0/8".parse()?])?;
    for i in 0..count {
        builder.primary(&format!("name{i}"), addrs(i))?;
    }
    for i in 0..200 {
        builder.further("many", addrs(i))?;
    }
    Ok(builder.build())
}

fn addrs(i: u32) -> DualStack {
    let v4 = Ipv4Addr::from((10 << 24) + i);
    let v6 = Ipv6Addr::from((0xfd00 << 112) + u128::from(i));
    DualStack::new(Some(v4), Some(v6))
}
