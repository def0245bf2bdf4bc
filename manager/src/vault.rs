//! The cluster's lock and its backups, as operators see them.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use swarmnet_manager_core::{Command, Secret};
use swarmnet_pki::UnlockKey;
use swarmnet_proto::v1;
use swarmnet_proto::v1::vault_server::Vault;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::join;
use crate::lock;
use crate::raft::backup;
use crate::writer::Writer;

/// How long this manager may take to put its own keys under a new lock: some flushes of a busy disk.
const FOLLOW_MAX: Duration = Duration::from_secs(5);
const CHUNK_BYTES: usize = 1 << 20;

type Answer<T> = Result<Response<T>, Status>;

#[derive(Debug, Clone)]
pub(crate) struct VaultGrpc {
    writer: Writer,
    /// Version of the lock that this manager's keys are under.
    followed: watch::Receiver<u64>,
}

impl VaultGrpc {
    pub(crate) fn new(writer: Writer, followed: watch::Receiver<u64>) -> Self {
        Self { writer, followed }
    }

    async fn change(
        &self,
        command: impl FnOnce(Secret) -> Command,
        request_id: &[u8],
    ) -> Answer<v1::UnlockKeyResponse> {
        let fresh = UnlockKey::generate().map_err(|err| Status::internal(err.to_string()))?;
        let command = command(Secret::new(*fresh.secret().expose()));
        self.writer.write(command, request_id).await?;
        let lock = join::cluster(&self.writer)?.lock;
        let mut followed = self.followed.clone();
        let done = followed.wait_for(|version| *version >= lock.version);
        if !matches!(timeout(FOLLOW_MAX, done).await, Ok(Ok(_))) {
            tracing::error!("the lock was changed, and the keys of this manager do not follow");
            return Err(Status::unavailable(
                "the change is made, but this manager could not write its keys yet: see its log, then ask with `swarmnet manager unlock-key`",
            ));
        }
        Ok(Response::new(answer(lock::unlock_key(&lock))))
    }
}

fn answer(key: Option<UnlockKey>) -> v1::UnlockKeyResponse {
    v1::UnlockKeyResponse { key: key.map(|key| key.to_string()).unwrap_or_default() }
}

#[tonic::async_trait]
impl Vault for VaultGrpc {
    async fn get_unlock_key(
        &self,
        _: Request<v1::GetUnlockKeyRequest>,
    ) -> Answer<v1::UnlockKeyResponse> {
        // A manager that has just missed a rotation must not hand out the old key.
        self.writer.catch_up().await?;
        let lock = join::cluster(&self.writer)?.lock;
        Ok(Response::new(answer(lock::unlock_key(&lock))))
    }

    async fn set_autolock(
        &self,
        request: Request<v1::SetAutolockRequest>,
    ) -> Answer<v1::UnlockKeyResponse> {
        let v1::SetAutolockRequest { request_id, on } = request.into_inner();
        self.change(|fresh| Command::SetAutolock { on, fresh }, &request_id).await
    }

    async fn rotate_unlock_key(
        &self,
        request: Request<v1::RotateUnlockKeyRequest>,
    ) -> Answer<v1::UnlockKeyResponse> {
        let request_id = request.into_inner().request_id;
        self.change(|fresh| Command::RotateUnlockKey { fresh }, &request_id).await
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupChunk, Status>> + Send>>;

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Answer<Self::BackupStream> {
        self.writer.catch_up().await?;
        let raft = self.writer.raft();
        let lock = join::cluster(&self.writer)?.lock;
        let file = raft.state().encoded().map_err(|err| Status::internal(err.to_string()))?;
        let file = backup::write(&file, lock::unlock_key(&lock).as_ref())
            .map_err(|err| Status::internal(err.to_string()))?;
        let mut rest = Bytes::from(file);
        let chunks = std::iter::from_fn(move || {
            let len = rest.len().min(CHUNK_BYTES);
            (len > 0).then(|| Ok(v1::BackupChunk { data: rest.split_to(len) }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}
