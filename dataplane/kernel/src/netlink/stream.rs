//! Notifications of one namespace as an asynchronous stream of datagrams.

use std::{fmt, io};

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use tokio::runtime::Handle;

use super::socket::{Protocol, RECV_BYTES, prepare};
use crate::error::KernelError;
use crate::netns::Netns;

/// What a subscription yields.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Messages.
    Data(Vec<u8>),
    /// The buffer overflowed: something was missed.
    Lost,
}

/// A subscribed socket.
pub(crate) struct Stream(TokioSocket);

impl Stream {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn open(
        netns: &Netns,
        protocol: Protocol,
        groups: &[u32],
    ) -> Result<Self, KernelError> {
        let fail = |err| KernelError::NetlinkOpen { protocol, err };
        let runtime = Handle::current();
        let open = || {
            let _runtime = runtime.enter();
            TokioSocket::new(protocol as isize)
        };
        let mut socket = netns.run(open)?.map_err(fail)?;
        prepare(socket.socket_mut(), protocol).map_err(fail)?;
        let raw = socket.socket_ref();
        groups.iter().try_for_each(|group| raw.add_membership(*group)).map_err(fail)?;
        Ok(Self(socket))
    }

    /// Waits for the next datagram. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Notice, KernelError> {
        loop {
            let mut buf = Vec::with_capacity(RECV_BYTES);
            match self.0.recv(&mut buf).await {
                Ok(()) => return Ok(Notice::Data(buf)),
                Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Notice::Lost),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(KernelError::NetlinkIo { err }),
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(self.0.socket_ref()).finish()
    }
}
