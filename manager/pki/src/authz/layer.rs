//! The tower layer that asks the table. In: requests with a [`Caller`] among their extensions, put there by tonic for each
//! connection of [`crate::Incoming`]. Out: the same with [`Peer`] and [`super::Speaker`] added, or a refusal.
//!
//! A removed node is refused here on every call, while its certificate is still in date and its connection still open; one that is a
//! manager by an old certificate only is taken for a worker.

use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use swarmnet_types::{NodeId, Role};
use tonic::Status;
use tower::{Layer, Service};
use tracing::{debug, warn};

use super::{AuthTable, SPEAKER_HEADER};
use crate::peer::{Caller, Peer};

type IsRevoked = dyn Fn(&NodeId) -> bool + Send + Sync;
type IsDemoted = dyn Fn(&Peer) -> bool + Send + Sync;

/// Around all services of a server: `Server::builder().layer(…)`.
#[derive(Clone)]
pub struct AuthLayer {
    table: Arc<AuthTable>,
    is_revoked: Arc<IsRevoked>,
    is_demoted: Arc<IsDemoted>,
}

/// A service behind the layer.
#[derive(Debug, Clone)]
pub struct Authorised<S> {
    inner: S,
    layer: AuthLayer,
}

// === impl AuthLayer ===

impl AuthLayer {
    /// `is_revoked` is asked on every call of a node, `is_demoted` on every call of one that is a manager by its certificate: they must
    /// be look-ups in memory.
    pub fn new(
        table: AuthTable,
        is_revoked: impl Fn(&NodeId) -> bool + Send + Sync + 'static,
        is_demoted: impl Fn(&Peer) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            table: Arc::new(table),
            is_revoked: Arc::new(is_revoked),
            is_demoted: Arc::new(is_demoted),
        }
    }

    fn admit<B>(&self, request: &mut http::Request<B>) -> Result<(), Status> {
        let caller = request.extensions().get::<Caller>().copied();
        let peer = caller.and_then(|caller| caller.peer).map(|peer| self.at_present(peer));
        let claimed = request.headers().get(SPEAKER_HEADER).map(http::HeaderValue::as_bytes);
        let path = request.uri().path();
        let admitted = self.table.admit(path, peer.as_ref(), claimed).and_then(|speaker| {
            self.refuse_revoked(peer.map(|peer| peer.node_id))?;
            self.refuse_revoked(speaker.map(super::Speaker::node_id))?;
            Ok(speaker)
        });
        match &admitted {
            Ok(_) => {}
            Err(status) if peer.is_some() => {
                warn!(?caller, path, status = status.message(), "refused a call");
            }
            // Anyone can cause these; they must not fill the log.
            Err(status) => debug!(?caller, path, status = status.message(), "refused a call"),
        }
        let speaker = admitted?;
        request.extensions_mut().remove::<Peer>();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        if let Some(speaker) = speaker {
            request.extensions_mut().insert(speaker);
        }
        Ok(())
    }

    /// With the role that the node has now.
    fn at_present(&self, peer: Peer) -> Peer {
        let is_demoted = peer.role == Role::Manager && (self.is_demoted)(&peer);
        Peer { role: if is_demoted { Role::Worker } else { peer.role }, ..peer }
    }

    fn refuse_revoked(&self, node: Option<NodeId>) -> Result<(), Status> {
        match node {
            Some(node) if (self.is_revoked)(&node) => Err(Status::permission_denied(format!(
                "node {node} was removed from the cluster: leave on that node, then join again"
            ))),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { inner, layer: self.clone() }
    }
}

// === impl Authorised ===

impl<S, B, R> Service<http::Request<B>> for Authorised<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        match self.layer.admit(&mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}
