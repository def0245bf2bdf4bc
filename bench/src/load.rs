//! Load between network namespaces: one TCP stream, one byte to and fro, new connections. A thread enters a namespace to make its
//! sockets; a socket stays in the namespace it was made in, so that the bytes are moved by threads of no particular namespace.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use socket2::SockRef;

use crate::stats::quantile;

const CHUNK_BYTES: usize = 128 * 1024;
/// Longest silence of a peer; a measurement that meets it fails.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Tells a server of [`connections`] to end.
const LAST: u8 = b'q';

/// A client's namespace, a server's namespace, and where the client finds the server.
#[derive(Debug, Clone)]
pub(crate) struct Route<'a> {
    pub(crate) client: &'a Path,
    pub(crate) server: &'a Path,
    pub(crate) to: SocketAddr,
}

/// Runs `work` on a thread of its own inside a network namespace.
pub(crate) fn within<T: Send>(netns: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(netns).with_context(|| netns.display().to_string())?;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        worker.join().map_err(|_| anyhow!("a thread of the load failed"))?
    })
}

impl Route<'_> {
    fn listen(&self) -> Result<TcpListener> {
        let port = self.to.port();
        within(self.server, move || Ok(TcpListener::bind(("0.0.0.0", port))?))
    }

    fn connect(&self) -> Result<TcpStream> {
        let to = self.to;
        let stream = within(self.client, move || {
            TcpStream::connect_timeout(&to, SILENCE_MAX).with_context(|| format!("connect to {to}"))
        })?;
        prepared(stream)
    }
}

fn prepared(stream: TcpStream) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

/// Gbit/s of one TCP stream, from the first write to the last byte's arrival.
pub(crate) fn gbit_per_s(path: &Route<'_>, time: Duration) -> Result<f64> {
    let listener = path.listen()?;
    let mut sender = path.connect()?;
    let mut receiver = prepared(listener.accept()?.0)?;
    let sink = thread::spawn(move || -> Result<(u64, Instant)> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut bytes = 0;
        loop {
            match receiver.read(&mut chunk)? {
                0 => return Ok((bytes, Instant::now())),
                got => bytes += got as u64,
            }
        }
    });
    let chunk = vec![0; CHUNK_BYTES];
    let begun = Instant::now();
    while begun.elapsed() < time {
        sender.write_all(&chunk)?;
    }
    drop(sender);
    let (bytes, ended) = sink.join().map_err(|_| anyhow!("the receiver failed"))??;
    #[expect(clippy::cast_precision_loss, reason = "a count of bytes far below 2^53")]
    let bits = (bytes * 8) as f64;
    Ok(bits / ended.duration_since(begun).as_secs_f64() / 1e9)
}

/// Microseconds of each of `count` exchanges of one byte on one connection.
pub(crate) fn exchanges_us(path: &Route<'_>, count: u32) -> Result<Vec<f64>> {
    let listener = path.listen()?;
    let mut client = path.connect()?;
    let mut server = prepared(listener.accept()?.0)?;
    let echo = thread::spawn(move || -> Result<()> {
        let mut byte = [0];
        while server.read(&mut byte)? == 1 {
            server.write_all(&byte)?;
        }
        Ok(())
    });
    let mut byte = [0];
    let mut all = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        client.write_all(&byte)?;
        client.read_exact(&mut byte)?;
        all.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    drop(client);
    echo.join().map_err(|_| anyhow!("the echo failed"))??;
    Ok(all)
}

/// What a run of new connections came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connections {
    pub(crate) per_s: f64,
    /// From the start of the connection to the byte's return.
    pub(crate) p99_us: f64,
}

/// New connections of `clients` clients at once: each makes one after the other, with one byte to and fro.
pub(crate) fn connections(path: &Route<'_>, clients: u32, time: Duration) -> Result<Connections> {
    let listener = path.listen()?;
    let servers: Vec<_> = (0..clients)
        .map(|_| listener.try_clone().map(|listener| thread::spawn(move || serve(&listener))))
        .collect::<Result<_, _>>()?;
    let begun = Instant::now();
    let all = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| scope.spawn(|| within(path.client, || client(path.to, time))))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| anyhow!("a client failed"))??);
        }
        Ok::<_, anyhow::Error>(all)
    })?;
    let elapsed = begun.elapsed().as_secs_f64();
    for server in servers {
        server.join().map_err(|_| anyhow!("the server failed"))??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of connections far below 2^53")]
    let per_s = all.len() as f64 / elapsed;
    Ok(Connections { per_s, p99_us: quantile(&all, 0.99) })
}

/// Serves connections until one tells it to end; there is one that does for each server.
fn serve(listener: &TcpListener) -> Result<()> {
    loop {
        let mut stream = prepared(listener.accept()?.0)?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
        if byte == [LAST] {
            return Ok(());
        }
        // The client goes first, by a reset: what this read says does not matter.
        drop(stream.read(&mut byte));
    }
}

/// Microseconds of each connection.
fn client(to: SocketAddr, time: Duration) -> Result<Vec<f64>> {
    let (begun, mut all) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let start = Instant::now();
        exchange(to, 0)?;
        all.push(start.elapsed().as_secs_f64() * 1e6);
    }
    exchange(to, LAST)?;
    Ok(all)
}

/// Whom the server takes the client for.
pub(crate) fn seen_as(path: &Route<'_>) -> Result<IpAddr> {
    let listener = path.listen()?;
    let _client = path.connect()?;
    Ok(listener.accept()?.1.ip())
}

/// One connection with one byte to and fro. It ends by a reset, so that no port waits for two minutes.
fn exchange(to: SocketAddr, byte: u8) -> Result<()> {
    let stream = TcpStream::connect_timeout(&to, SILENCE_MAX)?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    let mut stream = prepared(stream)?;
    let mut buffer = [byte];
    stream.write_all(&buffer)?;
    Ok(stream.read_exact(&mut buffer)?)
}
