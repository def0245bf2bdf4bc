//! One netlink socket inside one namespace: requests with acknowledgement, pipelined requests, dumps, subscriptions.
//!
//! Buffers: 16 MiB each way (forced, so beyond `rmem_max`). What a batch of ours can be answered with fits; should it not, the
//! kernel says ENOBUFS and the caller observes afresh.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout, SndBufForce};
use nix::sys::time::TimeVal;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer,
};
use rtnetlink::sys::{Socket as RawSocket, SocketAddr};

use super::attr::{Attrs, ne32};
use super::message::Message;
use super::port;
use crate::error::{KernelError, Refusal};
use crate::netns::Netns;

/// `NETLINK_*`.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    Route = 0,
    SockDiag = 4,
    Netfilter = 12,
}

/// Bytes of socket buffer, each way: a limit, not an allocation. A batch is sent whole, 100,000 elements are about 6 MB.
const BUFFER_BYTES: usize = 16 << 20;
/// The kernel caps what a dump puts into one datagram at 32 KiB; acknowledgements are small.
pub(super) const RECV_BYTES: usize = 64 << 10;
/// Nothing of the kernel's takes this long; a lost answer must not hang the daemon.
const ANSWER_TIMEOUT_SECS: i64 = 10;
/// Requests in one `sendmsg`; their acknowledgements (under 1 KiB of buffer each) fit the receive buffer.
const PIPELINE_DEPTH: usize = 512;
/// How often a dump is begun again after a change overtook it, before what was read is taken as it is.
const DUMP_ATTEMPTS: usize = 4;

/// Extended acknowledgement: the kernel's own words.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One received message.
pub(crate) type Frame<'a> = NetlinkBuffer<&'a [u8]>;

/// Splits a datagram into its messages; a malformed tail ends it.
pub(crate) fn frames(mut data: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let frame = NetlinkBuffer::new_checked(data).ok()?;
        let end = (frame.length() as usize).next_multiple_of(4);
        data = data.get(end..).unwrap_or_default();
        Some(frame)
    })
}

/// A socket, used by one caller at a time.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: RawSocket,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in `netns`.
    pub(crate) fn open(netns: &Netns, protocol: Protocol) -> Result<Self, KernelError> {
        let fail = |err| KernelError::NetlinkOpen { protocol, err };
        let mut raw = netns.run(|| RawSocket::new(protocol as isize))?.map_err(fail)?;
        prepare(&mut raw, protocol).map_err(fail)?;
        Ok(Self { raw, sequence: 0 })
    }

    /// Takes part in a multicast group: its notifications have the sequence number 0.
    pub(crate) fn subscribe(&self, group: u32) -> Result<(), KernelError> {
        self.raw.add_membership(group).map_err(|err| KernelError::NetlinkIo { err })
    }

    /// The next sequence number.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), KernelError> {
        match self.raw.send_to(bytes, &SocketAddr::new(0, 0), 0) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(KernelError::NetlinkIo { err: io::ErrorKind::WriteZero.into() }),
            Err(err) => Err(KernelError::NetlinkIo { err }),
        }
    }

    /// One datagram; `None` when `wait` is false and none is there.
    pub(crate) fn recv(&self, wait: bool) -> Result<Option<Vec<u8>>, KernelError> {
        let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
        loop {
            let mut buf = Vec::with_capacity(RECV_BYTES);
            match self.raw.recv(&mut buf, flags) {
                Ok(_) => return Ok(Some(buf)),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if !wait && err.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(err) => return Err(KernelError::NetlinkIo { err }),
            }
        }
    }

    /// Sends a request and waits for its acknowledgement.
    pub(crate) fn request(&mut self, what: &str, message: Message) -> Result<(), KernelError> {
        let mut results = self.request_all([(what, message)])?;
        results.pop().unwrap_or(Ok(()))
    }

    /// Sends many requests, several hundred in one call, and returns each one's result in order. A refused one does not stop the
    /// others.
    ///
    /// # Errors
    /// When the socket itself fails: then it is unknown which requests were carried out.
    pub(crate) fn request_all<'a>(
        &mut self,
        requests: impl IntoIterator<Item = (&'a str, Message)>,
    ) -> Result<Vec<Result<(), KernelError>>, KernelError> {
        let mut requests = requests.into_iter().peekable();
        let mut results = Vec::new();
        while requests.peek().is_some() {
            let mut bytes = Vec::new();
            let mut names = Vec::new();
            let first = self.sequence.wrapping_add(1);
            for (what, mut message) in requests.by_ref().take(PIPELINE_DEPTH) {
                message.add_flags(NLM_F_ACK);
                bytes.extend(message.finish(self.next_sequence()));
                names.push(what);
            }
            self.send(&bytes)?;
            results.extend(self.acknowledgements(first, &names)?);
        }
        Ok(results)
    }

    fn acknowledgements(
        &mut self,
        first: u32,
        names: &[&str],
    ) -> Result<Vec<Result<(), KernelError>>, KernelError> {
        let mut results: Vec<Option<Result<(), KernelError>>> =
            names.iter().map(|_| None).collect();
        let mut missing = names.len();
        while missing > 0 {
            let Some(data) = self.recv(true)? else { continue };
            for frame in frames(&data).filter(|f| f.message_type() == NLMSG_ERROR) {
                let index = frame.sequence_number().wrapping_sub(first) as usize;
                let Some(slot) = results.get_mut(index).filter(|slot| slot.is_none()) else {
                    continue; // The answer to an earlier request that was given up.
                };
                let result = refusal(&frame).map_or(Ok(()), |refusal| {
                    Err(KernelError::Refused { what: names[index].to_owned(), refusal })
                });
                *slot = Some(result);
                missing -= 1;
            }
        }
        Ok(results.into_iter().map(|slot| slot.unwrap_or(Ok(()))).collect())
    }

    /// Reads a whole dump; each message's body goes to `each`. A dump that a change overtook is begun again, and what
    /// was read is forgotten.
    pub(crate) fn dump<T>(
        &mut self,
        what: &str,
        message: &Message,
        mut each: impl FnMut(&mut T, &[u8]),
    ) -> Result<T, KernelError>
    where
        T: Default,
    {
        let mut message = message.clone();
        message.add_flags(NLM_F_DUMP);
        for attempt in 1.. {
            let mut seen = T::default();
            let whole = self.dump_once(what, message.clone(), |body| {
                each(&mut seen, body);
            })?;
            if whole || attempt == DUMP_ATTEMPTS {
                return Ok(seen);
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// Whether the dump is consistent.
    fn dump_once(
        &mut self,
        what: &str,
        message: Message,
        mut each: impl FnMut(&[u8]),
    ) -> Result<bool, KernelError> {
        let sequence = self.next_sequence();
        self.send(&message.finish(sequence))?;
        let mut whole = true;
        loop {
            let Some(data) = self.recv(true)? else { continue };
            for frame in frames(&data).filter(|f| f.sequence_number() == sequence) {
                whole &= frame.flags() & NLM_F_DUMP_INTR == 0;
                match frame.message_type() {
                    NLMSG_DONE => return done(what, &frame).map(|()| whole),
                    NLMSG_ERROR => {
                        return refusal(&frame).map_or(Ok(whole), |refusal| {
                            Err(KernelError::Refused { what: what.to_owned(), refusal })
                        });
                    }
                    _ => each(frame.payload()),
                }
            }
        }
    }

    /// One request with one answer.
    pub(crate) fn get(&mut self, what: &str, message: Message) -> Result<Vec<u8>, KernelError> {
        let sequence = self.next_sequence();
        self.send(&message.finish(sequence))?;
        loop {
            let Some(data) = self.recv(true)? else { continue };
            for frame in frames(&data).filter(|f| f.sequence_number() == sequence) {
                if frame.message_type() != NLMSG_ERROR {
                    return Ok(frame.payload().to_vec());
                }
                if let Some(refusal) = refusal(&frame) {
                    return Err(KernelError::Refused { what: what.to_owned(), refusal });
                }
            }
        }
    }
}

/// A dump can fail at its end: the code is the body of the last message.
fn done(what: &str, frame: &Frame<'_>) -> Result<(), KernelError> {
    match ne32(frame.payload()).map_or(0, u32::cast_signed) {
        code if code < 0 => Err(KernelError::Refused {
            what: what.to_owned(),
            refusal: Refusal { errno: -code, detail: None },
        }),
        _ => Ok(()),
    }
}

/// The reason, when this is an acknowledgement that refuses.
pub(crate) fn refusal(frame: &Frame<'_>) -> Option<Refusal> {
    if frame.message_type() != NLMSG_ERROR {
        return None;
    }
    let (body, flags) = (frame.payload(), frame.flags());
    let code = ne32(body).map_or(0, u32::cast_signed);
    if code == 0 {
        return None;
    }
    // Error code, the request's header, its body unless capped, then attributes.
    let request_len = body.get(4..).and_then(ne32).unwrap_or(16) as usize;
    let skip = 4 + if flags & NLM_F_CAPPED == 0 { request_len.next_multiple_of(4) } else { 16 };
    let detail = (flags & NLM_F_ACK_TLVS != 0)
        .then(|| Attrs(body.get(skip..).unwrap_or_default()).text(NLMSGERR_ATTR_MSG))
        .flatten();
    Some(Refusal { errno: -code, detail })
}

/// What every socket of ours has.
pub(super) fn prepare(raw: &mut RawSocket, protocol: Protocol) -> io::Result<()> {
    port::bind(raw)?;
    raw.set_cap_ack(true)?;
    raw.set_ext_ack(true)?;
    if matches!(protocol, Protocol::Route) {
        // Lets a dump be narrowed to a device or table; kernels before 4.20 list everything, which callers filter anyway.
        let _ = raw.set_netlink_get_strict_chk(true);
    }
    setsockopt(&raw.as_fd(), RcvBufForce, &BUFFER_BYTES)?;
    setsockopt(&raw.as_fd(), SndBufForce, &BUFFER_BYTES)?;
    setsockopt(&raw.as_fd(), ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_SECS, 0))?;
    Ok(())
}
