//! A fresh certificate in good time: asked for between 50 and 80 % of the life of the present one (C7), or at once when the managers
//! say that another CA signs now; used by every connection made from then on, while live ones go on.
//!
//! Inputs: the clock, the managers, what they say to trust. Outputs: the files of the identity, the TLS store, the node's role as the
//! cluster has it. A failed attempt is repeated at another manager with growing pauses; the present certificate stays in use.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use swarmnet_pki::{Fingerprint, NodeIdentity, PkiError, TlsStore, Validity};
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_proto::{Malformed, v1};
use swarmnet_runtime::Backoff;
use swarmnet_types::Role;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::managers::ManagerPool;

/// The clock of the machine may be set at any time, and a suspended machine does not count its sleep: look at it this often.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// Swarm's is 2 s (`sw:§1.3`).
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(10);
/// A manager without a quorum answers after two of its patiences.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// When the CA changes, workers ask for certificates within this time, not at once: all are told together. Managers are few, and a
/// join by a new token needs one that has renewed.
const SPREAD: Duration = Duration::from_secs(1);

/// What the managers say to trust, and the CA whose certificate to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    pub roots_pem: String,
    pub issuer: Fingerprint,
}

impl TryFrom<v1::Trust> for Trust {
    type Error = Malformed;

    fn try_from(m: v1::Trust) -> Result<Self, Malformed> {
        let issuer = <[u8; 32]>::try_from(&m.issuer[..])
            .map_err(|_| Malformed::new("issuer", "want 32 bytes"))?;
        Ok(Self { roots_pem: m.roots_pem, issuer: Fingerprint(issuer) })
    }
}

/// What this node shows and trusts, for the managers.
pub(crate) fn shown(identity: &NodeIdentity) -> v1::NodeTls {
    let bytes = |ca: Fingerprint| bytes::Bytes::copy_from_slice(&ca.0);
    v1::NodeTls {
        issuer: identity.issuer().map(bytes).unwrap_or_default(),
        roots: identity.root_fingerprints().map(bytes).collect(),
        until_ms: unix_ms(identity.peer().not_after),
    }
}

/// Unix time in milliseconds; zero before 1970.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What the clock says against this node's certificate, and what to do; `None` while it is in date.
pub(crate) fn complaint(identity: &NodeIdentity, now: SystemTime) -> Option<String> {
    match identity.validity(now) {
        Validity::Valid => None,
        // sw:M6
        Validity::Expired { .. } => Some(
            "Swarm certificates have expired. To replace them, leave the swarm and join again: `swarmnet agent leave`, then `swarmnet agent join <token>`; when only this node's clock is wrong, set it"
                .to_owned(),
        ),
        Validity::NotYet { .. } => Some(
            "this node's clock shows a time before its certificate begins: set the clock".to_owned(),
        ),
    }
}

/// One attempt failed; the present identity stays.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    #[error("no manager is known")]
    NoManager,
    #[error("the manager does not answer")]
    Silent,
    #[error("{}", swarmnet_pki::explain(status))]
    Refused { status: tonic::Status },
    #[error("the answer names node {found}, not this one")]
    OtherNode { found: swarmnet_types::NodeId },
    #[error("the manager that answered does not know of the present CA yet")]
    OtherCa,
    #[error("the manager that answered has this node as a {found}")]
    OtherRole { found: Role },
    #[error(transparent)]
    Identity(#[from] PkiError),
}

/// What renewal works on.
#[derive(Debug)]
pub struct Renewal {
    pub pool: ManagerPool,
    pub tls: TlsStore,
    /// Folder of the identity's files.
    pub certs: PathBuf,
    /// The newest word of the managers.
    pub trust: watch::Receiver<Option<Trust>>,
}

/// Renews until `stop`.
pub async fn run(mut renewal: Renewal, stop: CancellationToken) {
    // cancel-safe: an attempt that is dropped has changed nothing, or all there is to change.
    stop.run_until_cancelled(renewal.keep_fresh()).await;
}

impl Renewal {
    async fn keep_fresh(&mut self) {
        let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, 0.5).expect("the constants are in order");
        let mut pauses = backoff.delays();
        let mut draw: u8 = rand::random();
        self.warn_of_clock();
        let mut told = false;
        loop {
            self.trust_as_told();
            let left = self.left(draw);
            if !left.is_zero() {
                told = self.wait(left.min(LOOK_EVERY)).await;
                continue;
            }
            if std::mem::take(&mut told) && self.tls.identity().role() == Role::Worker {
                sleep(SPREAD.mul_f64(rand::random())).await;
            }
            match self.attempt().await {
                Ok(()) => {
                    pauses = backoff.delays();
                    draw = rand::random();
                }
                Err(err) => {
                    self.complain(&err);
                    self.pool.rotate();
                    told = self.wait(pauses.delay()).await;
                }
            }
        }
    }

    /// Until the time is over, or the managers say something new: then true.
    async fn wait(&mut self, time: Duration) -> bool {
        match timeout(time, self.trust.changed()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) => {
                // The session is gone: the node leaves the cluster.
                sleep(time).await;
                false
            }
            Err(_elapsed) => false,
        }
    }

    /// How long until the next certificate is to be asked for.
    fn left(&self, draw: u8) -> Duration {
        let identity = self.tls.identity();
        let told = self.trust.borrow().as_ref().map(|t| t.issuer);
        if told.is_some_and(|issuer| identity.issuer() != Some(issuer)) {
            return Duration::ZERO;
        }
        identity.renew_at(draw).duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// Takes over the roots that the managers name, under the present certificate.
    fn trust_as_told(&mut self) {
        let Some(told) = self.trust.borrow_and_update().clone() else { return };
        let present = self.tls.identity();
        if told.roots_pem == present.roots_pem() {
            return;
        }
        match present.with_roots(&told.roots_pem).and_then(|fresh| self.take(fresh)) {
            Ok(()) => tracing::info!("the CAs that this node trusts have changed"),
            // With the next certificate come its roots.
            Err(err) => tracing::warn!(%err, "the CAs that the managers name do not fit"),
        }
    }

    fn take(&self, fresh: NodeIdentity) -> Result<(), PkiError> {
        take(&self.tls, &self.certs, fresh)
    }

    fn warn_of_clock(&self) {
        if let Some(complaint) = complaint(&self.tls.identity(), SystemTime::now()) {
            tracing::error!("{complaint}");
        }
    }

    fn complain(&self, err: &RenewError) {
        if let Some(complaint) = complaint(&self.tls.identity(), SystemTime::now()) {
            tracing::error!(%err, "{complaint}");
        } else {
            tracing::warn!(%err, "the node's certificate could not be renewed yet");
        }
    }

    async fn attempt(&self) -> Result<(), RenewError> {
        let fresh = ask(&self.pool, &self.tls).await?;
        // A manager that has been away may still sign with a CA that nobody trusts any more.
        let told = self.trust.borrow().as_ref().map(|t| t.issuer);
        if told.is_some_and(|issuer| fresh.issuer() != Some(issuer)) {
            return Err(RenewError::OtherCa);
        }
        let role = fresh.role();
        self.take(fresh)?;
        self.pool.set_role(role);
        tracing::info!("the node's certificate was renewed");
        Ok(())
    }
}

/// The file first: what is shown to others must survive a crash.
fn take(tls: &TlsStore, certs: &Path, fresh: NodeIdentity) -> Result<(), PkiError> {
    // A few kilobytes, once in months.
    fresh.store(certs)?;
    tls.swap(fresh)
}

/// A fresh certificate for the present key, from the manager in use.
async fn ask(pool: &ManagerPool, tls: &TlsStore) -> Result<NodeIdentity, RenewError> {
    let (_, channel) = pool.current().ok_or(RenewError::NoManager)?;
    let present = tls.identity();
    let csr_der = present.key().csr()?.into();
    let mut managers = DispatcherClient::new(channel);
    let asked = managers.renew(v1::RenewRequest { csr_der });
    let answer = timeout(ATTEMPT_MAX, asked)
        .await
        .map_err(|_| RenewError::Silent)?
        .map_err(|status| RenewError::Refused { status })?
        .into_inner();
    let key = present.key().clone();
    let fresh = NodeIdentity::new(key, &answer.certificate_pem, &answer.ca_pem)?;
    if fresh.node_id() != present.node_id() || fresh.cluster() != present.cluster() {
        return Err(RenewError::OtherNode { found: fresh.node_id() });
    }
    Ok(fresh)
}

/// One attempt at a certificate of the role that the node is to have.
///
/// # Errors
/// Why there is none yet; the present certificate stays, and another manager is asked the next time.
pub async fn as_role(
    pool: &ManagerPool,
    tls: &TlsStore,
    certs: &Path,
    role: Role,
) -> Result<(), RenewError> {
    let renewed = async {
        let fresh = ask(pool, tls).await?;
        match fresh.role() {
            found if found == role => Ok(take(tls, certs, fresh)?),
            found => Err(RenewError::OtherRole { found }),
        }
    };
    match renewed.await {
        Ok(()) => pool.set_role(role),
        Err(err) => {
            pool.rotate();
            return Err(err);
        }
    }
    tracing::info!(%role, "the node has a certificate of another role now");
    Ok(())
}
