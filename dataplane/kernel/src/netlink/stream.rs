//! Notifications of many namespaces as one asynchronous stream of datagrams.
//!
//! A socket with `NETLINK_LISTEN_ALL_NSID` hears, besides its own namespace, all to which that one has given an id
//! ([`crate::route::Route::nsid_of`]), and is told with each datagram which. It keeps none of them alive.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use rtnetlink::sys::Socket as RawSocket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::attr::ne32;
use super::socket::{Protocol, RECV_BYTES, prepare};
use crate::error::KernelError;
use crate::netns::Netns;

/// What a subscription yields.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Messages, and the id of the namespace they come from; `None`: the socket's own.
    Data { nsid: Option<i32>, data: Vec<u8> },
    /// The buffer overflowed: something was missed.
    Lost,
}

/// A subscribed socket.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: AsyncFd<RawSocket>,
    buf: Vec<u8>,
}

impl Stream {
    /// Opens the socket in `netns`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn open(
        netns: &Netns,
        protocol: Protocol,
        groups: &[u32],
    ) -> Result<Self, KernelError> {
        let fail = |err| KernelError::NetlinkOpen { protocol, err };
        let mut raw = netns.run(|| RawSocket::new(protocol as isize))?.map_err(fail)?;
        prepare(&mut raw, protocol).map_err(fail)?;
        raw.set_non_blocking(true).map_err(fail)?;
        raw.set_listen_all_namespaces(true).map_err(fail)?;
        groups.iter().try_for_each(|group| raw.add_membership(*group)).map_err(fail)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; this socket owns its file for life"
        )]
        let socket = AsyncFd::with_interest(raw, Interest::READABLE).map_err(fail)?;
        Ok(Self { socket, buf: vec![0; RECV_BYTES] })
    }

    /// Waits for the next datagram. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Notice, KernelError> {
        let Self { socket, buf } = self;
        loop {
            match socket.async_io(Interest::READABLE, |raw| receive(raw, buf)).await {
                Ok((nsid, len)) => {
                    let data = buf.get(..len).unwrap_or_default().to_vec();
                    return Ok(Notice::Data { nsid, data });
                }
                Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Notice::Lost),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(KernelError::NetlinkIo { err }),
            }
        }
    }
}

/// Namespace and length of one datagram.
fn receive(raw: &RawSocket, buf: &mut [u8]) -> io::Result<(Option<i32>, usize)> {
    let mut control = cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(buf)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(raw.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let nsid = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Unknown(control)
            if control.cmsg_header.cmsg_level == libc::SOL_NETLINK
                && control.cmsg_header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID =>
        {
            ne32(&control.data_bytes).map(u32::cast_signed)
        }
        _ => None,
    });
    Ok((nsid, message.bytes))
}
