//! A fresh certificate in good time: asked for between 50 and 80 % of the life of the present one (C7), used by every connection
//! made from then on; live ones go on.
//!
//! Inputs: the clock, the managers. Outputs: the files of the identity, the TLS store, the node's role as the cluster has it. A
//! failed attempt is repeated with growing pauses; the present certificate stays in use until it ends.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use swarmnet_pki::{NodeIdentity, PkiError, TlsStore, Validity};
use swarmnet_proto::v1;
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_runtime::Backoff;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::managers::ManagerPool;

/// The clock of the machine may be set at any time, and a suspended machine does not count its sleep: look at it this often.
const LOOK_EVERY: Duration = Duration::from_mins(10);
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// One attempt failed; the present identity stays.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("no manager is known")]
    NoManager,
    #[error("{}", swarmnet_pki::explain(status))]
    Refused { status: tonic::Status },
    #[error("the answer names node {found}, not this one")]
    OtherNode { found: swarmnet_types::NodeId },
    #[error(transparent)]
    Identity(#[from] PkiError),
}

/// Renews until `stop`.
pub(crate) async fn run(pool: ManagerPool, tls: TlsStore, certs: PathBuf, stop: CancellationToken) {
    // cancel-safe: an attempt that is dropped has changed nothing, or all there is to change.
    stop.run_until_cancelled(keep_fresh(&pool, &tls, &certs)).await;
}

async fn keep_fresh(pool: &ManagerPool, tls: &TlsStore, certs: &Path) {
    let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, 0.5).expect("the constants are in order");
    loop {
        let due = tls.identity().renew_at(rand::random());
        while let Ok(left) = due.duration_since(SystemTime::now())
            && !left.is_zero()
        {
            sleep(left.min(LOOK_EVERY)).await;
        }
        let mut pauses = backoff.delays();
        while let Err(err) = attempt(pool, tls, certs).await {
            complain(tls, &err);
            pool.rotate();
            sleep(pauses.delay()).await;
        }
    }
}

fn complain(tls: &TlsStore, err: &RenewError) {
    match tls.identity().validity(SystemTime::now()) {
        // sw:M6
        Validity::Expired { .. } => tracing::error!(
            %err,
            "Swarm certificates have expired. To replace them, leave the swarm and join again."
        ),
        Validity::Valid | Validity::NotYet { .. } => {
            tracing::warn!(%err, "the node's certificate could not be renewed yet");
        }
    }
}

async fn attempt(pool: &ManagerPool, tls: &TlsStore, certs: &Path) -> Result<(), RenewError> {
    let (_, channel) = pool.current().ok_or(RenewError::NoManager)?;
    let present = tls.identity();
    let csr_der = present.key().csr()?.into();
    let answer = DispatcherClient::new(channel)
        .renew(v1::RenewRequest { csr_der })
        .await
        .map_err(|status| RenewError::Refused { status })?
        .into_inner();
    let key = present.key().clone();
    let fresh = NodeIdentity::new(key, &answer.certificate_pem, &answer.ca_pem)?;
    if fresh.node_id() != present.node_id() || fresh.cluster() != present.cluster() {
        return Err(RenewError::OtherNode { found: fresh.node_id() });
    }
    // A few kilobytes, once in months.
    fresh.store(certs)?;
    pool.set_role(fresh.role());
    tls.swap(fresh)?;
    tracing::info!("the node's certificate was renewed");
    Ok(())
}
