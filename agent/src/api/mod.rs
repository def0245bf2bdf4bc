//! The unix socket of a node: its own calls, and cluster calls passed on to a manager.
//!
//! Who may connect is decided by the socket's mode: root, and a group when it exists.

/// Passes a call on to a manager, by this client. For the modules below.
macro_rules! pass_on {
    ($self:ident, $client:ident, $request:ident, $method:ident) => {{
        let request = $request.into_inner();
        let call = |channel| {
            let request = request.clone();
            async move { $client::new(channel).$method(request).await }
        };
        $self.cluster.call(call).await.map(Response::new).map_err(|err| refused(&err))
    }};
}

/// Passes on what only a manager's operator may ask.
macro_rules! manage {
    ($self:ident, $client:ident, $request:ident, $method:ident) => {{
        audit(&$request, stringify!($method));
        $self.cluster.may_write().map_err(|err| refused(&err))?;
        pass_on!($self, $client, $request, $method)
    }};
}

mod admission;
mod control;
mod message;
mod node;
mod trace;
mod vault;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::unistd::{Group, Uid, chown};
use swarmnet_proto::TerseLayer;
use swarmnet_proto::v1::control_server::ControlServer;
use swarmnet_proto::v1::local_node_server::LocalNodeServer;
use swarmnet_runtime::Supervisor;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

pub use admission::AdmissionProxy;
pub use control::ControlProxy;
pub use node::NodeGrpc;
pub use vault::VaultProxy;

use crate::local::LocalError;
use crate::local::error::chain;

const MODE: u32 = 0o660;

/// A refusal as a status with its one sentence.
fn refused(err: &LocalError) -> Status {
    match err {
        LocalError::Cluster { status } => status.clone(),
        other => swarmnet_proto::refused(other.kind(), chain(other)),
    }
}

/// Who changes what, for the log: the peer of the unix socket.
pub fn audit<T>(request: &Request<T>, call: &'static str) {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    let (uid, pid) = peer.map_or((None, None), |p| (Some(p.uid()), p.pid()));
    tracing::info!(call, uid, pid, "asked by");
}

/// Binds the socket for root and the members of `group`; one that a crash left is replaced.
///
/// # Errors
/// The folder or the socket cannot be made.
pub fn bind(path: &Path, group: &str) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    if let Ok(Some(group)) = Group::from_name(group) {
        chown(path, Some(Uid::from_raw(0)), Some(group.gid))?;
    }
    Ok(listener)
}

/// Serves the node's calls, and `more` beside them, until shutdown.
pub fn serve(
    listener: UnixListener,
    (node, control): (NodeGrpc, ControlProxy),
    more: Routes,
    supervisor: &Supervisor,
) {
    let routes =
        more.add_service(LocalNodeServer::new(node)).add_service(ControlServer::new(control));
    let stop = supervisor.token().clone();
    supervisor.spawn_critical("local api", async move {
        let served = tonic::transport::Server::builder()
            .layer(TerseLayer)
            .add_routes(routes)
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
            .await;
        if let Err(err) = served {
            tracing::error!(%err, "the local API failed");
        }
    });
}
