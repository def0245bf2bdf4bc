//! The sandbox's own resolver, asked from inside the sandbox as a program there would ask it. Blocks.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use swarmnet_dns::WireName;
use swarmnet_dns::client::{self, Reply};
use swarmnet_dns::resolv_conf::SANDBOX_NAMESERVER;
use swarmnet_kernel::{KernelError, Netns};

/// Largest answer by UDP to a query without OPT.
const RECEIVE_BYTES: usize = 512;

/// What a resolver did with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Reply(Reply),
    /// Nothing in time.
    Silence,
    /// The question could not be sent.
    Failed(String),
}

/// Asks for the addresses of one family.
pub(super) fn ask(
    netns: &Netns,
    name: &WireName,
    ipv6: bool,
    timeout: Duration,
) -> Result<Said, KernelError> {
    let socket = netns.run(|| UdpSocket::bind((IpAddr::from([0; 4]), 0)))?;
    let said = socket.and_then(|socket| exchange(&socket, name, ipv6, timeout));
    Ok(said.unwrap_or_else(|err| Said::Failed(err.to_string())))
}

fn exchange(
    socket: &UdpSocket,
    name: &WireName,
    ipv6: bool,
    timeout: Duration,
) -> std::io::Result<Said> {
    let id = rand::random();
    let until = Instant::now() + timeout;
    socket.connect(SocketAddr::from((SANDBOX_NAMESERVER, 53)))?;
    socket.send(&client::query(id, name, ipv6))?;
    let mut buffer = [0; RECEIVE_BYTES];
    let said = receive(socket, until, &mut buffer, |message| client::reply(id, message))?;
    Ok(said.map_or(Said::Silence, Said::Reply))
}

/// The first datagram that makes sense; `None` when there was none until then.
pub(super) fn receive<T>(
    socket: &UdpSocket,
    until: Instant,
    buffer: &mut [u8],
    sense: impl Fn(&[u8]) -> Option<T>,
) -> std::io::Result<Option<T>> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(buffer) {
            Ok(len) => {
                if let Some(made) = sense(&buffer[..len]) {
                    return Ok(Some(made));
                }
            }
            Err(err) if is_timeout(&err) => return Ok(None),
            Err(err) => return Err(err),
        }
    }
}

/// How a receive timeout shows (`EAGAIN`).
pub(super) fn is_timeout(err: &std::io::Error) -> bool {
    matches!(err.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
