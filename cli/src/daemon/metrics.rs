//! What this daemon counts and measures, for Prometheus: `GET /metrics` on an address of the configuration, by default on loopback.
//!
//! One table ([`table::METRICS`]) says what there is; each scrape takes one sample of agent, manager and process, and nothing is kept in
//! between. It tells names of nodes and numbers, no secrets.

mod process;
mod table;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use swarmnet_runtime::Supervisor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::membership::Node;
use table::Table;

/// Between two tries to listen.
const RETRY: Duration = Duration::from_secs(5);
/// A client that takes longer is cut off.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// Of clients at once; more wait.
const CONNECTIONS_MAX: usize = 8;

/// Listens at the address, and at the next one when it changes, until the daemon stops. `None`: nowhere.
pub(super) fn start(
    node: Arc<Node>,
    addr: watch::Receiver<Option<SocketAddr>>,
    supervisor: &Supervisor,
) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Table { node }));
    let (registry, own) = (Arc::new(registry), supervisor.clone());
    let stop = supervisor.token().clone();
    supervisor.spawn_critical("metrics", async move {
        // cancel-safe: the listener is closed.
        stop.run_until_cancelled(listen(registry, addr, &own)).await;
    });
}

/// Ends with the sender of the address only.
async fn listen(
    registry: Arc<Registry>,
    mut wanted: watch::Receiver<Option<SocketAddr>>,
    supervisor: &Supervisor,
) {
    let mut complained = None;
    loop {
        let addr = *wanted.borrow_and_update();
        let serve = async {
            let Some(addr) = addr else { return std::future::pending().await };
            match TcpListener::bind(addr).await {
                Ok(listener) => {
                    tracing::info!(%addr, "metrics are served");
                    accept(&registry, &listener, supervisor).await;
                }
                Err(err) if complained != Some(addr) => {
                    tracing::warn!(%addr, %err, "no metrics: cannot listen; trying on");
                    complained = Some(addr);
                }
                Err(_) => {}
            }
            sleep(RETRY).await;
        };
        // cancel-safe: what is left is tried anew; connections have workers of their own.
        let open = tokio::select! {
            open = wanted.changed() => open,
            () = serve => Ok(()),
        };
        if open.is_err() {
            return;
        }
    }
}

/// Until the listener fails.
async fn accept(registry: &Arc<Registry>, listener: &TcpListener, supervisor: &Supervisor) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = Arc::clone(registry);
                supervisor.spawn_transient("metrics connection", async move {
                    // What becomes of it concerns only the client.
                    drop(timeout(CONNECTION_MAX, connection(registry, stream)).await);
                    drop(place);
                });
            }
            Err(err) => return tracing::warn!(%err, "metrics: no more clients for a moment"),
        }
    }
}

async fn connection(registry: Arc<Registry>, stream: TcpStream) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let registry = Arc::clone(&registry);
        async move { Ok::<_, Infallible>(answer(registry, &request).await) }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
}

async fn answer(registry: Arc<Registry>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            // Reads files of /proc.
            let encoded = tokio::task::spawn_blocking(move || encode(&registry)).await;
            encoded.map_or((StatusCode::SERVICE_UNAVAILABLE, String::new()), |text| {
                (StatusCode::OK, text)
            })
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "there is /metrics\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static(prometheus_text::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry).expect("writing to a string does not fail");
    text
}
