//! Up to 32 datagrams per system call, both ways (recvmmsg, sendmmsg): the calls, not the lookups, are what a name server
//! spends its time in.
//!
//! One batch for each address family, because the kernel writes peers' addresses into room of a fixed size. Input and output
//! are a socket's datagrams; what to answer is the caller's closure.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrLike, recvmmsg};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

use crate::wire::QUERY_MAX_BYTES;

/// Datagrams per call.
const BATCH: usize = 32;
/// What one turn did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// The batch was full: the socket may hold more.
    pub(super) full: bool,
    /// Answers that the socket did not take.
    pub(super) unsent: u64,
}

/// `S` is the family's address: `SockaddrIn` or `SockaddrIn6`.
pub(super) struct Batch<S> {
    queries: Box<[u8]>,
    headers: MultiHeaders<S>,
    /// The first `peers.len()` are answers of this turn; the rest are buffers in waiting.
    answers: Vec<Vec<u8>>,
    peers: Vec<SocketAddrAny>,
}

impl<S: SockaddrLike + Copy + Into<SocketAddr>> Batch<S> {
    pub(super) fn new() -> Self {
        Self {
            queries: vec![0; BATCH * QUERY_MAX_BYTES].into(),
            headers: MultiHeaders::preallocate(BATCH, None),
            answers: (0..BATCH).map(|_| Vec::with_capacity(512)).collect(),
            peers: Vec::with_capacity(BATCH),
        }
    }

    /// Receives once, calls `answer(query, peer, out)` for each datagram, and sends each `out` for which it returned true.
    ///
    /// # Errors
    /// Receiving failed otherwise than for want of datagrams. Answers that cannot be sent are let go, as the network might.
    pub(super) fn turn(
        &mut self,
        socket: &UdpSocket,
        answer: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>) -> bool,
    ) -> Result<Turn, Errno> {
        self.peers.clear();
        let count = match self.receive(socket, answer) {
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(errno) => return Err(errno),
        };
        Ok(Turn { full: count == BATCH, unsent: self.send(socket) })
    }

    fn receive(
        &mut self,
        socket: &UdpSocket,
        mut answer: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>) -> bool,
    ) -> Result<usize, Errno> {
        let mut rooms = self.queries.chunks_exact_mut(QUERY_MAX_BYTES);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            [IoSliceMut::new(rooms.next().expect("as many rooms as datagrams in a batch"))]
        });
        let flags = MsgFlags::MSG_DONTWAIT;
        let received =
            recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None)?;
        let mut count = 0;
        for datagram in received {
            count += 1;
            let Some(peer) = datagram.address.map(Into::into) else { continue };
            let query = datagram.iovs().next().unwrap_or_default();
            // Nobody can be answered at port 0.
            if peer.port() != 0 && answer(query, peer, &mut self.answers[self.peers.len()]) {
                self.peers.push(SocketAddrAny::from(peer));
            }
        }
        Ok(count)
    }

    /// Returns how many could not be sent.
    fn send(&mut self, socket: &UdpSocket) -> u64 {
        let mut control: [SendAncillaryBuffer<'_, '_, '_>; BATCH] =
            std::array::from_fn(|_| SendAncillaryBuffer::default());
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            std::array::from_fn(|i| [IoSlice::new(&self.answers[i])]);
        let mut messages: Vec<MMsgHdr<'_>> = self
            .peers
            .iter()
            .zip(&slices)
            .zip(&mut control)
            .map(|((peer, slice), control)| MMsgHdr::new_with_addr(peer, slice, control))
            .collect();
        let mut waiting = messages.as_mut_slice();
        let mut unsent = 0;
        while !waiting.is_empty() {
            let sent = sendmmsg(socket, waiting, SendFlags::DONTWAIT).unwrap_or(0);
            // An error is about the first message: skip it, the others may still go out.
            unsent += u64::from(sent == 0);
            waiting = &mut waiting[sent.max(1)..];
        }
        unsent
    }
}

impl<S> std::fmt::Debug for Batch<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("answers", &self.peers.len()).finish_non_exhaustive()
    }
}
