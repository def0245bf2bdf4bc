//! Notifications of one namespace as an asynchronous stream of datagrams.

use std::io;

use netlink_sys::Socket as RawSocket;
use tokio::io::unix::AsyncFd;

use super::socket::{Protocol, Socket};
use crate::error::KernelError;
use crate::netns::Netns;

const RECV_BYTES: usize = 64 << 10;

/// What a subscription yields.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Messages.
    Data(Vec<u8>),
    /// The buffer overflowed: something was missed.
    Lost,
}

/// A subscribed socket.
#[derive(Debug)]
pub(crate) struct Stream(AsyncFd<RawSocket>);

impl Stream {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn open(
        netns: &Netns,
        protocol: Protocol,
        groups: &[u32],
    ) -> Result<Self, KernelError> {
        let fail = |err| KernelError::NetlinkIo { err };
        let socket = Socket::open(netns, protocol)?.into_raw();
        groups.iter().try_for_each(|group| socket.add_membership(*group)).map_err(fail)?;
        socket.set_non_blocking(true).map_err(fail)?;
        Ok(Self(register(socket).map_err(fail)?))
    }

    /// Waits for the next datagram. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Notice, KernelError> {
        loop {
            let mut ready =
                self.0.readable().await.map_err(|err| KernelError::NetlinkIo { err })?;
            let mut buf = Vec::with_capacity(RECV_BYTES);
            match ready.try_io(|fd| fd.get_ref().recv(&mut buf, 0)) {
                Ok(Ok(_)) => return Ok(Notice::Data(buf)),
                Ok(Err(err)) if err.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Notice::Lost);
                }
                Ok(Err(err)) if err.kind() != io::ErrorKind::Interrupted => {
                    return Err(KernelError::NetlinkIo { err });
                }
                // Interrupted, or nothing there after all.
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio offers no safe way to watch a socket of another crate")]
fn register(socket: RawSocket) -> io::Result<AsyncFd<RawSocket>> {
    // SAFETY: the descriptor must stay open and the same for as long as it is registered. `RawSocket` owns one descriptor from
    // its creation to its drop, gives it from `as_raw_fd` unchanged, and is moved into the `AsyncFd`, which deregisters first.
    // JUSTIFICATION: the safe constructor is deprecated as unsound; a worker thread for each subscription would cost more.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(io::Error::from)
}
