//! The connection to the daemon of this node: gRPC over its unix socket.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use swarmnet_proto::v1::admission_client::AdmissionClient;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_proto::v1::daemon_client::DaemonClient;
use swarmnet_proto::v1::local_node_client::LocalNodeClient;
use swarmnet_proto::v1::membership_client::MembershipClient;
use swarmnet_proto::v1::recovery_client::RecoveryClient;
use swarmnet_proto::v1::vault_client::VaultClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::CliError;

/// Where the daemon listens when nobody says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/swarmnet/swarmnet.sock";

/// A list of ten thousand endpoints is about 3 MB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The services of a daemon, over one connection.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    pub(crate) admission: AdmissionClient<Channel>,
    pub(crate) control: ControlClient<Channel>,
    pub(crate) node: LocalNodeClient<Channel>,
    pub(crate) membership: MembershipClient<Channel>,
    pub(crate) recovery: RecoveryClient<Channel>,
    pub(crate) vault: VaultClient<Channel>,
    pub(crate) operate: DaemonClient<Channel>,
}

impl Daemon {
    /// # Errors
    /// One line that says how to start a daemon when none answers.
    pub(crate) async fn connect(socket: Option<&Path>) -> Result<Self, CliError> {
        let path = socket.unwrap_or(Path::new(DEFAULT_SOCKET)).to_owned();
        let channel = channel(path).await?;
        Ok(Self {
            admission: AdmissionClient::new(channel.clone()),
            control: ControlClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            membership: MembershipClient::new(channel.clone()),
            recovery: RecoveryClient::new(channel.clone()),
            vault: VaultClient::new(channel.clone()),
            operate: DaemonClient::new(channel.clone()),
            node: LocalNodeClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
    }
}

async fn channel(path: PathBuf) -> Result<Channel, CliError> {
    // Connect once by hand, so that the error can name the path and the cause.
    if let Err(err) = UnixStream::connect(&path).await {
        return Err(CliError::failure(match err.kind() {
            std::io::ErrorKind::PermissionDenied => format!(
                "permission denied on {}: run as root or join the group `swarmnet`",
                path.display()
            ),
            _ => format!(
                "no daemon answers on {}: start one with `swarmnet manager init` or `swarmnet agent join <token>` (or name its socket with --socket or SWARMNET_SOCKET)",
                path.display()
            ),
        }));
    }
    let shown = path.display().to_string();
    Endpoint::from_static("http://daemon.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|err| {
            CliError::failure(format!("the daemon on {shown} does not speak gRPC: {err}"))
        })
}

/// A fresh id for a call that may be retried without being done twice.
pub(crate) fn request_id() -> bytes::Bytes {
    rand::random::<[u8; 16]>().to_vec().into()
}
