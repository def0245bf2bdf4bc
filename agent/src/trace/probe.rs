//! One packet or connection from inside a namespace, and what became of it. Blocks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use swarmnet_gossip::EchoKind;
use swarmnet_kernel::conntrack::{Flow, Witness};
use swarmnet_kernel::{KernelError, Netns};
use swarmnet_types::Protocol;

use super::ask::{is_timeout, receive};

/// An IPv4 header with options, and an echo.
const RECEIVE_BYTES: usize = 256;

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A connection stands, or an answer came.
    Answered,
    /// Somebody said no: a reset, or "port unreachable".
    Refused,
    /// Nothing came back in time.
    Silent,
    /// The kernel, or a router, says that there is no way.
    Unreachable(String),
    /// Not sent.
    Failed(String),
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub to: IpAddr,
    /// `None`: an echo.
    pub port: Option<u16>,
    pub protocol: Protocol,
    pub outcome: Outcome,
    pub took: Duration,
    /// Who took it, by connection tracking where balancing happens.
    pub chosen: Option<SocketAddr>,
    /// After a silence: does the same destination answer an echo?
    pub echo: Option<bool>,
    /// After a silence: VTEPs on the way → whether they answer an echo from this node.
    pub vteps: Vec<(IpAddr, bool)>,
}

/// How to probe.
#[derive(Debug)]
pub(super) struct Shot<'a> {
    pub(super) netns: &'a Netns,
    /// Where the destination is translated.
    pub(super) judge: &'a Netns,
    pub(super) to: IpAddr,
    pub(super) port: Option<u16>,
    pub(super) protocol: Protocol,
    /// The address that the kernel sends from; `None`: it has none.
    pub(super) source: Option<IpAddr>,
    pub(super) timeout: Duration,
}

impl Shot<'_> {
    /// Sends it. Errors of the socket are outcomes.
    pub(super) fn fire(&self) -> Result<Probe, KernelError> {
        let mut witness = Witness::open(self.judge)?;
        let begun = Instant::now();
        let mut flow = None;
        let sent = match (self.port, self.protocol) {
            (None, _) => echo(self.netns, self.to, self.timeout, &mut flow)?,
            (Some(port), Protocol::Udp) => self.datagram(port, &mut flow)?,
            (Some(port), Protocol::Tcp | Protocol::Sctp) => self.connection(port, &mut flow)?,
        };
        let took = begun.elapsed();
        let chosen = match flow {
            Some(flow) => witness.answered_by(&flow)?,
            None => None,
        };
        Ok(Probe {
            to: self.to,
            port: self.port,
            protocol: self.protocol,
            outcome: sent.map_or_else(|err| outcome(&err), |()| Outcome::Answered),
            took,
            chosen,
            echo: None,
            vteps: Vec::new(),
        })
    }

    fn any(&self) -> IpAddr {
        match self.to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The port is known before the connection, since a refused one has none any more.
    fn connection(
        &self,
        port: u16,
        flow: &mut Option<Flow>,
    ) -> Result<io::Result<()>, KernelError> {
        let to = SocketAddr::new(self.to, port);
        let socket = self.netns.run(|| Socket::new(Domain::for_address(to), Type::STREAM, None))?;
        let connect = || {
            let socket = socket?;
            socket.bind(&SocketAddr::new(self.source.unwrap_or(self.any()), 0).into())?;
            *flow = ports(6, socket.local_addr()?.as_socket(), to);
            socket.connect_timeout(&to.into(), self.timeout)
        };
        Ok(connect())
    }

    /// An empty datagram: what a program makes of it does the least harm.
    fn datagram(&self, port: u16, flow: &mut Option<Flow>) -> Result<io::Result<()>, KernelError> {
        let to = SocketAddr::new(self.to, port);
        let socket = self.netns.run(|| UdpSocket::bind((self.any(), 0)))?;
        let exchange = || {
            let socket = socket?;
            socket.connect(to)?;
            *flow = ports(17, Some(socket.local_addr()?), to);
            socket.send(&[])?;
            socket.set_read_timeout(Some(self.timeout))?;
            socket.recv(&mut [0; RECEIVE_BYTES]).map(drop)
        };
        Ok(exchange())
    }
}

fn echo(
    netns: &Netns,
    to: IpAddr,
    timeout: Duration,
    flow: &mut Option<Flow>,
) -> Result<io::Result<()>, KernelError> {
    let kind = EchoKind::of(to);
    let socket = netns.run(|| kind.socket())?;
    let exchange = || {
        // Only sendto and recvfrom are called, which mean the same on a raw socket.
        let socket = UdpSocket::from(socket?);
        socket.connect((to, 0))?;
        let (identifier, sequence, token) = (rand::random(), 1, rand::random());
        let from = socket.local_addr()?.ip();
        *flow = Some(Flow::Echo { from, to, identifier });
        socket.send(&kind.request(identifier, sequence, token))?;
        let ours = |message: &[u8]| {
            let answer = kind.parse_reply(message)?;
            (answer.identifier == identifier && answer.token == token).then_some(())
        };
        let until = Instant::now() + timeout;
        let answer = receive(&socket, until, &mut [0; RECEIVE_BYTES], ours)?;
        answer.ok_or_else(|| io::ErrorKind::TimedOut.into())
    };
    Ok(exchange())
}

fn ports(protocol: u8, from: Option<SocketAddr>, to: SocketAddr) -> Option<Flow> {
    from.map(|from| Flow::Ports { protocol, from, to })
}

fn outcome(err: &io::Error) -> Outcome {
    match err.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Outcome::Refused,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Outcome::Unreachable(err.to_string())
        }
        _ if is_timeout(err) => Outcome::Silent,
        _ => Outcome::Failed(err.to_string()),
    }
}

/// Does the address answer an echo?
pub(super) fn answers_echo(
    netns: &Netns,
    to: IpAddr,
    timeout: Duration,
) -> Result<bool, KernelError> {
    Ok(echo(netns, to, timeout, &mut None)?.is_ok())
}
