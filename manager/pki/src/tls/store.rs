//! The current TLS configurations of this node.
//!
//! Key, chain and roots change together or not at all: a resolver for certificates alone would leave the old roots in
//! place. Sessions are never resumed, because a resumed session skips the check of the certificate.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use tokio::sync::watch;

use super::{ALPN, verify};
use crate::error::PkiError;
use crate::fingerprint::Fingerprint;
use crate::identity::NodeIdentity;

/// One value for all parts of a daemon; clones share it.
#[derive(Debug, Clone)]
pub struct TlsStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Current>,
    swaps: watch::Sender<()>,
}

#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) identity: NodeIdentity,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

// === impl TlsStore ===

impl TlsStore {
    /// # Errors
    /// [`PkiError::Tls`], [`PkiError::Roots`] when rustls refuses the identity.
    pub fn new(identity: NodeIdentity) -> Result<Self, PkiError> {
        let current = ArcSwap::from_pointee(Current::new(identity)?);
        Ok(Self(Arc::new(Shared { current, swaps: watch::Sender::default() })))
    }

    /// Uses `identity` for every connection made from now on.
    ///
    /// # Errors
    /// As [`TlsStore::new`]; the old identity then stays.
    pub fn swap(&self, identity: NodeIdentity) -> Result<(), PkiError> {
        self.0.current.store(Arc::new(Current::new(identity)?));
        self.0.swaps.send_replace(());
        Ok(())
    }

    /// Changes with each swap.
    pub fn swaps(&self) -> watch::Receiver<()> {
        self.0.swaps.subscribe()
    }

    /// The identity that new connections use.
    pub fn identity(&self) -> NodeIdentity {
        self.0.current.load().identity.clone()
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.0.current.load_full()
    }
}

// === impl Current ===

impl Current {
    fn new(identity: NodeIdentity) -> Result<Self, PkiError> {
        let roots = verify::root_store(identity.roots())?;
        let server = Arc::new(server_config(&identity, Arc::clone(&roots))?);
        let client = Arc::new(client_config(&identity, roots)?);
        Ok(Self { identity, server, client })
    }
}

/// Shows leaf, intermediates and roots: a node that joins knows the root by its fingerprint only. Callers without a
/// certificate pass, so that they can join; callers with a wrong one do not.
fn server_config(
    identity: &NodeIdentity,
    roots: Arc<RootCertStore>,
) -> Result<ServerConfig, PkiError> {
    let callers = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|err| PkiError::Roots { err })?;
    let mut shown = identity.chain().to_vec();
    shown.extend_from_slice(identity.roots());
    let mut config = tls13(ServerConfig::builder_with_provider(provider()))
        .with_client_cert_verifier(callers)
        .with_single_cert(shown, identity.key().for_rustls())
        .map_err(|err| PkiError::Tls { err })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn client_config(
    identity: &NodeIdentity,
    roots: Arc<RootCertStore>,
) -> Result<ClientConfig, PkiError> {
    let config = tls13(ClientConfig::builder_with_provider(provider()))
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key().for_rustls())
        .map_err(|err| PkiError::Tls { err })?;
    Ok(finish_client(config))
}

/// For a node that has no certificate yet: trusts the CA with this fingerprint, and shows nothing.
pub(crate) fn join_config(ca: Fingerprint) -> ClientConfig {
    let config = tls13(ClientConfig::builder_with_provider(provider()))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::PinnedCa::new(ca)))
        .with_no_client_auth();
    finish_client(config)
}

fn finish_client(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// The one cryptographic provider: never the process-wide default, which another crate could set.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn tls13<Side: rustls::ConfigSide>(
    builder: ConfigBuilder<Side, rustls::WantsVersions>,
) -> ConfigBuilder<Side, WantsVerifier> {
    builder.with_protocol_versions(&[&TLS13]).expect("ring has cipher suites of TLS 1.3")
}
