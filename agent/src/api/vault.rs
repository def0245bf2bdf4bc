//! The cluster's lock and its backups on a node's socket: every call is a manager's to answer.

use std::pin::Pin;

use swarmnet_proto::v1;
use swarmnet_proto::v1::vault_client::VaultClient;
use swarmnet_proto::v1::vault_server::Vault;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{audit, refused};
use crate::local::cluster::Cluster;

/// See the module.
#[derive(Debug, Clone)]
pub struct VaultProxy {
    cluster: Cluster,
}

type Answer<T> = Result<Response<T>, Status>;

impl VaultProxy {
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }
}

#[tonic::async_trait]
impl Vault for VaultProxy {
    async fn get_unlock_key(
        &self,
        request: Request<v1::GetUnlockKeyRequest>,
    ) -> Answer<v1::UnlockKeyResponse> {
        manage!(self, VaultClient, request, get_unlock_key)
    }

    async fn set_autolock(
        &self,
        request: Request<v1::SetAutolockRequest>,
    ) -> Answer<v1::UnlockKeyResponse> {
        manage!(self, VaultClient, request, set_autolock)
    }

    async fn rotate_unlock_key(
        &self,
        request: Request<v1::RotateUnlockKeyRequest>,
    ) -> Answer<v1::UnlockKeyResponse> {
        manage!(self, VaultClient, request, rotate_unlock_key)
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupChunk, Status>> + Send>>;

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Answer<Self::BackupStream> {
        let stream = manage!(self, VaultClient, request, backup)?.into_inner();
        Ok(Response::new(Box::pin(stream)))
    }
}
