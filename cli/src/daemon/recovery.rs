//! A node's place in a cluster, given back: unlocking a manager, a cluster made anew with this manager alone, or from a backup.

use std::sync::Arc;

use bytes::Bytes;
use swarmnet_agent::local::{LocalError, Standing};
use swarmnet_manager::raft::{Keyring, KeyringError, backup};
use swarmnet_manager::{RestoreConfig, Revived};
use swarmnet_pki::{NodeIdentity, NodeKey, Peer, TlsStore, UnlockKey};
use swarmnet_proto::v1;
use swarmnet_proto::v1::recovery_server::Recovery;
use swarmnet_types::{NodeId, NodeIndex, Role};
use tonic::{Request, Response, Status, Streaming};

use super::membership::{ALREADY, NO_CLUSTER, Node, STOP_MAX, status};
use super::place::Place;
use crate::error::CliError;

/// A backup of 10,000 endpoints is about 3 MB.
const BACKUP_BYTES_MAX: usize = 1 << 30;
/// `sw:M5`.
pub(crate) const NOT_LOCKED: &str = "swarm is not locked";

/// What this node needs to take its place.
pub(super) struct Opened {
    pub(super) tls: TlsStore,
    /// Of a manager.
    pub(super) keyring: Option<Keyring>,
}

impl Node {
    /// The node's identity and keys; `None`: the operator's key is needed.
    pub(super) fn open(
        &self,
        role: Role,
        unlock: Option<&UnlockKey>,
    ) -> Result<Option<Opened>, CliError> {
        let certs = self.paths.certs();
        // A manager that became a worker while it was locked still has its key sealed.
        let is_sealed = NodeKey::is_sealed(&certs).map_err(CliError::failure)?;
        let keyring = match role {
            Role::Worker if !is_sealed => None,
            Role::Worker | Role::Manager => match Keyring::open(&self.paths.raft(), unlock) {
                Ok(keyring) => Some(keyring),
                Err(KeyringError::Locked { .. }) => return Ok(None),
                Err(err) => return Err(CliError::failure(err)),
            },
        };
        let seal = keyring.as_ref().map(Keyring::node_key);
        let identity = NodeIdentity::load(&certs, seal.as_ref()).map_err(CliError::failure)?;
        let identity = identity
            .ok_or_else(|| CliError::failure(format!("no identity in {}", certs.display())))?;
        if role == Role::Worker {
            identity.key().protect(&certs, None).map_err(CliError::failure)?;
        }
        let tls = TlsStore::new(identity).map_err(CliError::failure)?;
        Ok(Some(Opened { tls, keyring: keyring.filter(|_| role == Role::Manager) }))
    }

    /// Goes on as far as that is possible without the key.
    pub(super) fn enter_locked(&self, peer: &Peer, place: &Place) {
        tracing::warn!("{}", LocalError::Locked);
        let standing = Standing { node: peer.node_id, cluster: peer.cluster, role: peer.role };
        self.agent.enter_locked(standing, &place.description());
    }

    async fn unlock(&self, key: &str) -> Result<(), CliError> {
        let mut slot = self.manager.lock().await;
        let standing = self.agent.standing().ok_or_else(|| CliError::failure(NO_CLUSTER))?;
        if !self.agent.is_locked() {
            return Err(CliError::failure(NOT_LOCKED));
        }
        let key: UnlockKey = key.parse().map_err(CliError::failure)?;
        let opened = self.open(standing.role, Some(&key))?;
        let Opened { tls, keyring } =
            opened.ok_or_else(|| CliError::failure(LocalError::Locked))?;
        let place = self.stored_place()?;
        if let Some(keyring) = keyring {
            *slot = Some(self.start_manager(&tls, &place, keyring).await?);
        }
        self.agent.suspend().await;
        self.enter(tls, &place);
        Ok(())
    }

    async fn force_new_cluster(
        &self,
        request: v1::PlaceRequest,
    ) -> Result<v1::RecoveryResponse, CliError> {
        let mut slot = self.manager.lock().await;
        let standing = self.agent.standing().ok_or_else(|| CliError::failure(NO_CLUSTER))?;
        if self.agent.is_locked() {
            return Err(CliError::failure(LocalError::Locked));
        }
        let (Some(tls), Role::Manager) = (self.agent.pool().tls(), standing.role) else {
            return Err(CliError::failure(LocalError::Worker));
        };
        let old = self.stored_place()?;
        let new = self.moved_place(&request, &old)?;
        let Some(running) = slot.take() else { return Err(CliError::failure(LocalError::Worker)) };
        let keyring = running.keyring.clone();
        self.agent.suspend().await;
        running.supervisor.shutdown(STOP_MAX).await;
        new.store(&self.paths)?;
        let (raft, me) = (self.paths.raft(), (standing.node, new.index));
        let revived =
            swarmnet_manager::force_new_cluster(raft, &keyring, me, new.description()).await;
        // What could not be made anew goes on as it was.
        let place = if revived.is_ok() { new } else { old };
        place.store(&self.paths)?;
        let started = self.start_manager(&tls, &place, keyring).await;
        self.enter(tls, &place);
        let running = started?;
        let revived = revived.map_err(CliError::failure)?;
        let caught_up = running.manager.raft().barrier().await;
        *slot = Some(running);
        caught_up.map_err(CliError::failure)?;
        tracing::warn!(
            revision = revived.revision.0,
            "the cluster was made anew with this manager"
        );
        Ok(answer(standing.node, revived))
    }

    /// The node's place with what is asked for instead.
    fn moved_place(&self, request: &v1::PlaceRequest, old: &Place) -> Result<Place, CliError> {
        let mut place = Place { managers: Vec::new(), ..old.clone() };
        if !request.name.is_empty() {
            place.name.clone_from(&request.name);
        }
        let is_moved = !request.advertise_addr.is_empty()
            || !request.listen_addr.is_empty()
            || !request.data_path_addr.is_empty();
        if is_moved {
            let kept = old.addr.to_string();
            let advertise =
                if request.advertise_addr.is_empty() { &kept } else { &request.advertise_addr };
            let at = self.addresses(advertise, &request.listen_addr, &request.data_path_addr)?;
            (place.addr, place.listen, place.data_path) =
                (at.advertised.addr, at.listen, at.data_path);
        }
        Ok(place)
    }

    async fn restore(
        &self,
        request: v1::PlaceRequest,
        unlock_key: &str,
        file: &[u8],
    ) -> Result<v1::RecoveryResponse, CliError> {
        let mut slot = self.manager.lock().await;
        if self.agent.standing().is_some() {
            return Err(CliError::failure(ALREADY));
        }
        let key = match unlock_key {
            "" => None,
            text => Some(text.parse::<UnlockKey>().map_err(CliError::failure)?),
        };
        let remains = backup::read(file, key.as_ref()).map_err(CliError::failure)?;
        let at =
            self.addresses(&request.advertise_addr, &request.listen_addr, &request.data_path_addr)?;
        let mut place = self.place(&request.name, NodeIndex::FIRST, at);
        let restored = async {
            let keyring = Keyring::open(&self.paths.raft(), None).map_err(CliError::failure)?;
            let config = RestoreConfig {
                raft_dir: self.paths.raft(),
                keyring: keyring.clone(),
                certs: self.paths.certs(),
                description: place.description(),
                availability: Option::from(request.availability()).unwrap_or_default(),
            };
            let (identity, revived) =
                swarmnet_manager::restore(config, remains).await.map_err(CliError::failure)?;
            let tls = TlsStore::new(identity).map_err(CliError::failure)?;
            place.index = revived.index;
            place.store(&self.paths)?;
            let running = self.start_manager(&tls, &place, keyring).await?;
            Ok::<_, CliError>((running, tls, revived))
        };
        let (running, tls, revived) = match restored.await {
            Ok(restored) => restored,
            Err(err) => {
                self.forget(None).await;
                return Err(err);
            }
        };
        let leads = running.manager.raft().barrier().await;
        *slot = Some(running);
        let node = tls.identity().node_id();
        self.enter(tls, &place);
        leads.map_err(CliError::failure)?;
        self.wait_ready().await?;
        Ok(answer(node, revived))
    }
}

fn answer(node: NodeId, revived: Revived) -> v1::RecoveryResponse {
    v1::RecoveryResponse {
        node: Bytes::copy_from_slice(node.as_bytes()),
        revision: revived.revision.0,
        others: revived.others,
    }
}

/// The service on the unix socket.
#[derive(Debug)]
pub(super) struct RecoveryGrpc {
    node: Arc<Node>,
}

impl RecoveryGrpc {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl Recovery for RecoveryGrpc {
    async fn unlock(
        &self,
        request: Request<v1::UnlockRequest>,
    ) -> Result<Response<v1::UnlockResponse>, Status> {
        let unlocked = self.node.unlock(&request.into_inner().key).await;
        unlocked.map(|()| Response::new(v1::UnlockResponse {})).map_err(|err| status(&err))
    }

    async fn restore(
        &self,
        request: Request<Streaming<v1::RestoreRequest>>,
    ) -> Result<Response<v1::RecoveryResponse>, Status> {
        let mut stream = request.into_inner();
        let Some(first) = stream.message().await? else {
            return Err(Status::invalid_argument("no backup was sent"));
        };
        let mut file = first.data.to_vec();
        while let Some(next) = stream.message().await? {
            file.extend_from_slice(&next.data);
            if file.len() > BACKUP_BYTES_MAX {
                return Err(Status::invalid_argument("a backup has at most 1 GiB"));
            }
        }
        let place = first.place.unwrap_or_default();
        let restored = self.node.restore(place, &first.unlock_key, &file).await;
        restored.map(Response::new).map_err(|err| status(&err))
    }

    async fn force_new_cluster(
        &self,
        request: Request<v1::PlaceRequest>,
    ) -> Result<Response<v1::RecoveryResponse>, Status> {
        let revived = self.node.force_new_cluster(request.into_inner()).await;
        revived.map(Response::new).map_err(|err| status(&err))
    }
}
