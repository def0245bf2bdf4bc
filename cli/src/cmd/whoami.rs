//! `swarmnet whoami`: a server that tells each client what address it sees, over HTTP, plain TCP and UDP, so that demonstrations
//! and tests need no other server.
//!
//! HTTP: `/` as text, `/json`, `/health` (200, or what `POST /health?status=503` set), `/slow?ms=N`. Plain TCP: each line is
//! answered by one line. UDP: each datagram is answered by one line. One worker for each connection; it ends with the process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::error::CliError;

#[derive(Debug, Args)]
pub(crate) struct WhoamiArgs {
    /// [ADDRESS]:PORT
    #[arg(long, default_value = ":80", value_name = "ADDRESS")]
    listen: String,
    /// Answer UDP datagrams on the port as well
    #[arg(long)]
    udp: bool,
    /// Ask such a server at HOST:PORT instead of being one (by UDP with --udp)
    #[arg(long, value_name = "HOST:PORT")]
    ask: Option<String>,
}

/// How long an answer may take.
const ASK_MAX: Duration = Duration::from_secs(2);

/// Longest wait that `/slow` grants.
const SLOW_MS_MAX: u64 = 600_000;

/// What every answer begins with.
#[derive(Debug)]
struct Whoami {
    hostname: String,
    sandbox: String,
    health: AtomicU16,
}

pub(crate) async fn run(args: WhoamiArgs) -> Result<(), CliError> {
    if let Some(target) = &args.ask {
        let answer = if args.udp { ask_udp(target).await } else { ask_http(target).await };
        crate::format::emit(&answer.map_err(|err| CliError::failure(format!("{target}: {err}")))?);
        return Ok(());
    }
    let addr = listen_addr(&args.listen)?;
    let me = Arc::new(Whoami {
        hostname: nix::unistd::gethostname()
            .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned()),
        sandbox: std::env::var("SWARMNET_SANDBOX").unwrap_or_default(),
        health: AtomicU16::new(200),
    });
    let fail = |err| CliError::failure(format!("cannot listen on {}: {err}", args.listen));
    let listener =
        TcpListener::from_std(bind(addr, Type::STREAM).map_err(fail)?.into()).map_err(fail)?;
    let udp = if args.udp {
        let socket = bind(addr, Type::DGRAM).map_err(fail)?;
        Some(UdpSocket::from_std(socket.into()).map_err(fail)?)
    } else {
        None
    };
    let mut workers = JoinSet::new();
    if let Some(socket) = udp {
        workers.spawn(datagrams(Arc::clone(&me), socket));
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(CliError::failure)?;
    loop {
        tokio::select! { // cancel-safe: accept, recv and join_next lose nothing
            _ = terminate.recv() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(workers.spawn(connection(Arc::clone(&me), stream, peer))),
                // Out of file descriptors: let those that are open end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = workers.join_next() => {}
        }
    }
}

/// The body of the answer to `GET /`.
async fn ask_http(target: &str) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(target).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await?;
        Ok(text.split_once("\r\n\r\n").map_or(text.clone(), |(_, body)| body.to_owned()))
    };
    tokio::time::timeout(ASK_MAX, exchange).await?
}

async fn ask_udp(target: &str) -> std::io::Result<String> {
    let exchange = async {
        let addr = tokio::net::lookup_host(target).await?.next();
        let addr = addr.ok_or_else(|| std::io::Error::other("no such host"))?;
        let any = if addr.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(addr).await?;
        socket.send(b"who\n").await?;
        let mut buffer = [0; 1_024];
        let n = socket.recv(&mut buffer).await?;
        Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
    };
    tokio::time::timeout(ASK_MAX, exchange).await?
}

/// `:80`, `80`, `10.0.0.1:80`, `[::1]:80`.
fn listen_addr(text: &str) -> Result<SocketAddr, CliError> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    let port = port.parse().map_err(|_| {
        CliError::usage(format!("invalid address to listen on ({text}): want [ADDRESS]:PORT"))
    })?;
    Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
}

/// Both families on `::`; IPv4 alone where the sandbox has no IPv6.
fn bind(addr: SocketAddr, kind: Type) -> std::io::Result<Socket> {
    match bind_one(addr, kind) {
        Err(_) if addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            bind_one(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()), kind)
        }
        other => other,
    }
}

fn bind_one(addr: SocketAddr, kind: Type) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&addr.into())?;
    if kind == Type::STREAM {
        socket.listen(1_024)?;
    }
    Ok(socket)
}

/// `::ffff:192.0.2.1` is shown as the IPv4 address that it is.
fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

impl Whoami {
    fn line(&self, own: SocketAddr, peer: SocketAddr) -> String {
        format!(
            "hostname={} sandbox={} address={} peer={}\n",
            self.hostname,
            self.sandbox,
            plain(own),
            plain(peer)
        )
    }

    fn text(&self, own: SocketAddr, peer: SocketAddr) -> String {
        format!(
            "Hostname: {}\nSandbox: {}\nAddress: {}\nPeer: {}\n",
            self.hostname,
            self.sandbox,
            plain(own),
            plain(peer)
        )
    }

    fn json(&self, own: SocketAddr, peer: SocketAddr) -> String {
        serde_json::json!({
            "hostname": self.hostname,
            "sandbox": self.sandbox,
            "address": plain(own).to_string(),
            "peer": plain(peer).to_string(),
        })
        .to_string()
            + "\n"
    }
}

async fn datagrams(me: Arc<Whoami>, socket: UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An ICMP error of an earlier answer surfaces here: it concerns nobody else.
        let Ok((_, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let own = socket.local_addr().unwrap_or(peer);
        drop(socket.send_to(me.line(own, peer).as_bytes(), peer).await);
    }
}

async fn connection(me: Arc<Whoami>, stream: TcpStream, peer: SocketAddr) {
    let Ok(own) = stream.local_addr() else { return };
    let mut first = [0; 8];
    // Errors end the one connection they happen on.
    let result = match stream.peek(&mut first).await {
        Ok(n) if is_http(&first[..n]) => http(me, stream, own, peer).await,
        Ok(_) => lines(&me, stream, own, peer).await,
        Err(err) => Err(err),
    };
    drop(result);
}

fn is_http(first: &[u8]) -> bool {
    ["GET ", "HEAD ", "POST ", "PUT ", "OPTIONS ", "DELETE "]
        .iter()
        .any(|m| first.starts_with(&m.as_bytes()[..m.len().min(first.len().max(1))]))
}

async fn lines(
    me: &Whoami,
    mut stream: TcpStream,
    own: SocketAddr,
    peer: SocketAddr,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader).lines();
    while reader.next_line().await?.is_some() {
        writer.write_all(me.line(own, peer).as_bytes()).await?;
    }
    Ok(())
}

async fn http(
    me: Arc<Whoami>,
    stream: TcpStream,
    own: SocketAddr,
    peer: SocketAddr,
) -> std::io::Result<()> {
    let service = hyper::service::service_fn(move |request| {
        let me = Arc::clone(&me);
        async move { Ok::<_, std::convert::Infallible>(answer(&me, &request, own, peer).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(std::io::Error::other)
}

async fn answer(
    me: &Whoami,
    request: &Request<Incoming>,
    own: SocketAddr,
    peer: SocketAddr,
) -> Response<Full<Bytes>> {
    let query = |key: &str| {
        let pairs = request.uri().query().unwrap_or_default().split('&');
        pairs.filter_map(|p| p.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v.to_owned())
    };
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/json") => (200, me.json(own, peer)),
        (&Method::GET | &Method::HEAD, "/health") => {
            (me.health.load(Ordering::Relaxed), String::new())
        }
        (&Method::POST | &Method::PUT, "/health") => {
            match query("status").and_then(|s| s.parse().ok()).filter(|s| (200..600).contains(s)) {
                Some(status) => {
                    me.health.store(status, Ordering::Relaxed);
                    (200, String::new())
                }
                None => (400, "want ?status=200 to 599\n".to_owned()),
            }
        }
        (&Method::GET | &Method::HEAD, "/slow") => {
            let ms = query("ms").and_then(|ms| ms.parse().ok()).unwrap_or(1_000).min(SLOW_MS_MAX);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            (200, me.text(own, peer))
        }
        (&Method::GET | &Method::HEAD, _) => (200, me.text(own, peer)),
        _ => (405, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_told_from_lines_by_the_first_bytes() {
        for (first, http) in
            [("GET / H", true), ("HEAD /", true), ("hello\n", false), ("\n", false)]
        {
            assert_eq!(is_http(first.as_bytes()), http, "{first}");
        }
    }

    #[test]
    fn listen_addresses() {
        for (text, want) in [(":80", "[::]:80"), ("80", "[::]:80"), ("1.2.3.4:5", "1.2.3.4:5")] {
            assert_eq!(listen_addr(text).expect(text).to_string(), want);
        }
        assert!(listen_addr("here").is_err());
    }
}
