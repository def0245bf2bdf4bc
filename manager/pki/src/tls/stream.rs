//! A TLS stream together with what is known of its other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of the other end.
pub trait Known: Unpin {
    /// How an error of reading is told.
    fn reword(&self, err: io::Error) -> io::Error {
        err
    }
}

/// Reads and writes as `tls` does, errors of reading apart ([`Known::reword`]).
#[derive(Debug)]
pub struct KnownStream<S, K> {
    pub(super) tls: S,
    pub(super) known: K,
}

impl<S: AsyncRead + Unpin, K: Known> AsyncRead for KnownStream<S, K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.tls).poll_read(cx, buf));
        Poll::Ready(read.map_err(|err| self.known.reword(err)))
    }
}

impl<S: AsyncWrite + Unpin, K: Known> AsyncWrite for KnownStream<S, K> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
