//! Sockets that are opened inside a namespace and served from outside it. No process of ours is ever in a sandbox (D1).
//!
//! A socket keeps its namespace alive: the owner closes it before or as part of the sandbox's teardown.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::KernelError;
use crate::netns::Netns;

/// Connections that may wait to be accepted; beyond it clients retry their SYN.
const BACKLOG: i32 = 1024;

/// How a socket is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct SocketOptions<'a> {
    /// A new daemon may bind before the old one has closed.
    pub reuse_port: bool,
    /// The address need not be there yet.
    pub freebind: bool,
    /// Only traffic of this device (`SO_BINDTODEVICE`).
    pub device: Option<&'a str>,
}

/// A non-blocking UDP socket bound to `addr` inside `netns`.
pub fn udp_in(
    netns: &Netns,
    addr: SocketAddr,
    options: SocketOptions<'_>,
) -> Result<UdpSocket, KernelError> {
    open(netns, addr, options, false).map(UdpSocket::from)
}

/// A non-blocking TCP listener bound to `addr` inside `netns`.
pub fn tcp_in(
    netns: &Netns,
    addr: SocketAddr,
    options: SocketOptions<'_>,
) -> Result<TcpListener, KernelError> {
    open(netns, addr, options, true).map(TcpListener::from)
}

fn open(
    netns: &Netns,
    addr: SocketAddr,
    options: SocketOptions<'_>,
    stream: bool,
) -> Result<Socket, KernelError> {
    netns
        .run(|| open_here(addr, options, stream))?
        .map_err(|err| KernelError::SocketOpen { addr, err })
}

fn open_here(
    addr: SocketAddr,
    options: SocketOptions<'_>,
    stream: bool,
) -> std::io::Result<Socket> {
    let (kind, protocol) =
        if stream { (Type::STREAM, Protocol::TCP) } else { (Type::DGRAM, Protocol::UDP) };
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if stream {
        // A restarted daemon meets connections of the old one in TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if options.freebind {
        if addr.is_ipv6() {
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
    }
    if let Some(device) = options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.bind(&addr.into())?;
    if stream {
        socket.listen(BACKLOG)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
