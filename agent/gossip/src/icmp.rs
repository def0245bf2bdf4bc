//! The real [`Echo`]: ICMP and ICMPv6 echo (RFC 792, RFC 4443 §4) over raw sockets, one for each family.
//!
//! Raw rather than ping sockets: those are closed to everybody, root included, in a fresh network namespace
//! (`net.ipv4.ping_group_range` is "1 0"). Needs CAP_NET_RAW in the namespace of the caller of [`IcmpEcho::start`]; the sockets stay in
//! that namespace. One reader worker for each family hands answers to those who wait.
//!
//! An answer counts when address, identifier, sequence and a random token agree. Requests in flight are bounded by the sequence's 16
//! bits, in practice by the caller.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use socket2::{Domain, Protocol, Socket, Type};
use swarmnet_runtime::Supervisor;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::echo::Echo;

/// type, code, checksum, identifier, sequence, token.
const ECHO_BYTES: usize = 1 + 1 + 2 + 2 + 2 + 8;
/// Longer packets are none of ours.
const RECEIVE_BYTES: usize = 256;

/// No echoes can be sent.
#[derive(Debug, thiserror::Error)]
pub enum IcmpError {
    /// Without CAP_NET_RAW, or with neither family in the kernel. A retry does not help.
    #[error("cannot open a raw {family} socket")]
    Open {
        family: &'static str,
        #[source]
        err: io::Error,
    },
}

/// Clones share the sockets. The readers live until the supervisor stops.
#[derive(Debug, Clone)]
pub struct IcmpEcho {
    v4: Arc<Family>,
    /// `None`: the kernel has no IPv6.
    v6: Option<Arc<Family>>,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    /// A raw socket: tokio's datagram socket only calls sendto and recvfrom, which mean the same here.
    socket: UdpSocket,
    /// Tells our echoes from those of other programs on this host.
    identifier: u16,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Sequence → who waits for it. At most 2^16.
    by_sequence: BTreeMap<u16, Request>,
    next_sequence: u16,
}

#[derive(Debug)]
struct Request {
    addr: IpAddr,
    token: [u8; 8],
    answered: oneshot::Sender<()>,
}

/// The two protocols; also for those who send an echo of their own from somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    V4,
    V6,
}

impl IcmpEcho {
    /// Opens the sockets in the network namespace of this thread.
    ///
    /// # Errors
    /// [`IcmpError::Open`]; a kernel without IPv6 is none.
    pub fn start(supervisor: &Supervisor) -> Result<Self, IcmpError> {
        let identifier = rand::rng().random();
        let open = |kind: Kind| {
            let socket = kind.open()?;
            let waiting = Mutex::default();
            Ok::<_, io::Error>(Arc::new(Family { kind, socket, identifier, waiting }))
        };
        let v4 = open(Kind::V4).map_err(|err| IcmpError::Open { family: "ICMP", err })?;
        let v6 = match open(Kind::V6) {
            Ok(family) => Some(family),
            Err(err) if err.raw_os_error() == Some(EAFNOSUPPORT) => None,
            Err(err) => return Err(IcmpError::Open { family: "ICMPv6", err }),
        };
        for (name, family) in [("icmp", Some(&v4)), ("icmpv6", v6.as_ref())] {
            if let Some(family) = family {
                let worker = Arc::clone(family).read(supervisor.token().clone());
                supervisor.spawn_critical(name, worker);
            }
        }
        Ok(Self { v4, v6 })
    }
}

/// errno of Linux on all architectures but MIPS and SPARC, which have other numbers and no swarmnet.
const EAFNOSUPPORT: i32 = 97;

impl Echo for IcmpEcho {
    async fn echo(&self, addr: IpAddr, timeout: Duration) -> bool {
        let family = match addr {
            IpAddr::V4(_) => Some(&self.v4),
            IpAddr::V6(_) => self.v6.as_ref(),
        };
        match family {
            Some(family) => family.echo(addr, timeout).await,
            None => false,
        }
    }
}

impl Family {
    async fn echo(&self, addr: IpAddr, timeout: Duration) -> bool {
        let token = rand::rng().random();
        let (answered, answer) = oneshot::channel();
        let sequence = self.wait_for(Request { addr, token, answered });
        let _forget = Forget { family: self, sequence };
        let packet = self.kind.request(self.identifier, sequence, token);
        if let Err(err) = self.socket.send_to(&packet, SocketAddr::new(addr, 0)).await {
            tracing::debug!(%addr, %err, "echo not sent");
            return false;
        }
        // A reply that beats the timer by being read in the same turn wins: timeout looks at the answer first.
        matches!(tokio::time::timeout(timeout, answer).await, Ok(Ok(())))
    }

    fn wait_for(&self, request: Request) -> u16 {
        let mut waiting = self.lock();
        let sequence = waiting.next_sequence;
        waiting.next_sequence = sequence.wrapping_add(1);
        // An older request under the same number, 65,536 echoes ago, would be lost: its sender sees a timeout.
        waiting.by_sequence.insert(sequence, request);
        sequence
    }

    /// The reader worker.
    async fn read(self: Arc<Self>, shutdown: CancellationToken) {
        let mut buf = [0; RECEIVE_BYTES];
        loop {
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled() => return, // cancel-safe: a token remembers
                received = self.socket.recv_from(&mut buf) => received, // cancel-safe: nothing is read when dropped
            };
            match received {
                Ok((len, from)) => self.take_answer(&buf[..len], from.ip()),
                // Errors of earlier sends (host unreachable) come up here; the echo itself times out.
                Err(err) => tracing::debug!(%err, "raw socket"),
            }
        }
    }

    fn take_answer(&self, packet: &[u8], from: IpAddr) {
        let Some(answer) = self.kind.parse_reply(packet) else { return };
        if answer.identifier != self.identifier {
            return;
        }
        let mut waiting = self.lock();
        let matches = |request: &Request| request.addr == from && request.token == answer.token;
        if waiting.by_sequence.get(&answer.sequence).is_some_and(matches)
            && let Some(request) = waiting.by_sequence.remove(&answer.sequence)
        {
            // Who asked may have given up in this moment.
            request.answered.send(()).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a request off the list however its future ends.
struct Forget<'a> {
    family: &'a Family,
    sequence: u16,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.family.lock().by_sequence.remove(&self.sequence);
    }
}

/// What an echo reply repeats of its request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub identifier: u16,
    pub sequence: u16,
    pub token: [u8; 8],
}

impl Kind {
    /// The protocol that reaches `addr`.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// A raw socket in the network namespace of this thread; blocking, bound to nothing.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when the kernel lacks the family.
    pub fn socket(self) -> io::Result<Socket> {
        let (domain, protocol) = match self {
            Self::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Self::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        Socket::new(domain, Type::RAW, Some(protocol))
    }

    fn open(self) -> io::Result<UdpSocket> {
        let any = match self {
            Self::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let socket = self.socket()?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(any, 0).into())?;
        UdpSocket::from_std(socket.into())
    }

    /// The bytes of a request, without an IP header.
    pub fn request(self, identifier: u16, sequence: u16, token: [u8; 8]) -> [u8; ECHO_BYTES] {
        let mut packet = [0; ECHO_BYTES];
        packet[0] = match self {
            Self::V4 => 8,
            Self::V6 => 128,
        };
        packet[4..6].copy_from_slice(&identifier.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        packet[8..].copy_from_slice(&token);
        // The kernel fills in the checksum of ICMPv6 (RFC 3542 §3.1), not that of ICMP.
        if self == Self::V4 {
            let checksum = checksum(&packet);
            packet[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        packet
    }

    /// What a raw socket received, when it is a reply of the length of our requests.
    pub fn parse_reply(self, packet: &[u8]) -> Option<Answer> {
        // Raw IPv4 sockets give the IP header too, raw IPv6 sockets do not.
        let (icmp, reply) = match self {
            Self::V4 => (packet.get(usize::from(packet.first()? & 0xf) * 4..)?, 0),
            Self::V6 => (packet, 129),
        };
        let icmp: &[u8; ECHO_BYTES] = icmp.try_into().ok()?;
        let [kind, 0, _, _, id_hi, id_lo, seq_hi, seq_lo, token @ ..] = *icmp else { return None };
        (kind == reply).then_some(Answer {
            identifier: u16::from_be_bytes([id_hi, id_lo]),
            sequence: u16::from_be_bytes([seq_hi, seq_lo]),
            token,
        })
    }
}

/// RFC 1071 over an even number of bytes.
fn checksum(packet: &[u8; ECHO_BYTES]) -> u16 {
    let words = packet.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_the_checksum_of_rfc_1071() {
        let packet = Kind::V4.request(0x1234, 7, *b"token012");
        let mut zeroed = packet;
        zeroed[2..4].fill(0);
        assert_eq!(packet[2..4], checksum(&zeroed).to_be_bytes());
        // With the sum filled in, the sum over all is zero.
        assert_eq!(checksum(&packet), 0);
    }

    #[test]
    fn only_replies_of_our_length_are_parsed() {
        let mut reply = Kind::V6.request(1, 2, *b"token012");
        assert_eq!(Kind::V6.parse_reply(&reply), None, "a request");
        reply[0] = 129;
        let want = Answer { identifier: 1, sequence: 2, token: *b"token012" };
        assert_eq!(Kind::V6.parse_reply(&reply), Some(want));
        assert_eq!(Kind::V6.parse_reply(&reply[1..]), None);
        let mut v4 = vec![0x45; 20];
        v4.extend_from_slice(&reply);
        v4[20] = 0;
        assert!(Kind::V4.parse_reply(&v4).is_some());
        for len in 0..v4.len() {
            assert_eq!(Kind::V4.parse_reply(&v4[..len]), None, "{len}");
        }
    }

    /// Needs CAP_NET_RAW, as the daemon does.
    #[tokio::test]
    async fn loopback_answers_and_a_blackhole_does_not() {
        let supervisor = Supervisor::new("test");
        let echo = IcmpEcho::start(&supervisor).unwrap();
        let timeout = Duration::from_millis(300);
        let v4 = echo.echo(IpAddr::from(Ipv4Addr::LOCALHOST), timeout);
        let many = futures_util::future::join_all(
            (0..50).map(|_| echo.echo(IpAddr::from([127, 0, 0, 9]), timeout)),
        );
        assert!(v4.await);
        assert!(many.await.into_iter().all(|answered| answered));
        // TEST-NET-3 (RFC 5737): never routed.
        assert!(!echo.echo(IpAddr::from([203, 0, 113, 1]), timeout).await);
        assert!(echo.v4.lock().by_sequence.is_empty());
        assert!(supervisor.shutdown(Duration::from_secs(1)).await.is_clean());
    }
}
