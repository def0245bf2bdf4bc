//! A cluster that is made anew with one manager: of what this manager has itself, or of a backup. Nothing of the state is lost; the
//! other managers are workers in it, and are to leave and join again.
//!
//! Both are done while no manager runs in the folder; [`Manager::start`](crate::Manager::start) follows.

use std::path::PathBuf;

use swarmnet_manager_core::{Command, Founder, JoinNode, Outcome, State};
use swarmnet_pki::{NodeIdentity, NodeKey};
use swarmnet_types::{Availability, NodeDescription, NodeId, NodeIndex, Revision, Role};

use crate::ca;
use crate::error::ManagerError;
use crate::raft::{Keyring, RaftConfig, Remains};
use crate::writer::proposal;

/// A cluster of one manager.
#[derive(Debug)]
pub struct Revived {
    /// This node's number.
    pub index: NodeIndex,
    /// Of the state that was brought back.
    pub revision: Revision,
    /// Names of those that were managers.
    pub others: Vec<String>,
}

/// Where a backup is restored to.
#[derive(Debug)]
pub struct RestoreConfig {
    /// Folder of log and snapshots; empty.
    pub raft_dir: PathBuf,
    pub keyring: Keyring,
    /// Folder of the node's key and certificate.
    pub certs: PathBuf,
    pub description: NodeDescription,
    pub availability: Availability,
}

/// Makes the only manager of this node, from all that its folder holds, at the addresses of `description`.
///
/// # Errors
/// [`ManagerError::Raft`] of a folder that cannot be read or written, [`ManagerError::NoState`] when there is no such node in it.
pub async fn force_new_cluster(
    raft_dir: PathBuf,
    keyring: &Keyring,
    (node, seat): (NodeId, NodeIndex),
    description: NodeDescription,
) -> Result<Revived, ManagerError> {
    let config = RaftConfig::new(raft_dir, seat.get().into());
    let mut remains = Remains::read(&config, keyring).await?;
    let addr = description.addr.to_string();
    let (revision, others) = (remains.state.revision(), others(&remains.state, Some(node)));
    refound(&mut remains, Founder::Known { node, description })?;
    remains.found(&config, keyring, addr).await?;
    Ok(Revived { index: seat, revision, others })
}

/// Makes a new node the only manager of the cluster in a backup, and stores its identity.
///
/// # Errors
/// As [`force_new_cluster`]; [`ManagerError::Pki`].
pub async fn restore(
    config: RestoreConfig,
    mut remains: Remains,
) -> Result<(NodeIdentity, Revived), ManagerError> {
    let cluster = remains.state.cluster().ok_or(ManagerError::NoState)?;
    let node = NodeId::from_bytes(swarmnet_pki::random_bytes()?);
    let key = NodeKey::ensure(&config.certs)?;
    let issued = ca::issue_own(cluster, &key.csr()?, (node, Role::Manager))?;
    let identity = NodeIdentity::new(key, &issued.chain_pem, &issued.roots_pem)?;
    let (revision, others) = (remains.state.revision(), others(&remains.state, None));
    let (availability, description) = (config.availability, config.description);
    let addr = description.addr.to_string();
    let (role, tls) = (Role::Manager, issued.tls);
    let founder = JoinNode { node, role, availability, description, tls, token: None };
    let outcome = refound(&mut remains, Founder::New(founder))?;
    let Outcome::NodeJoined { index, .. } = outcome else { return Err(ManagerError::NoState) };
    let raft = RaftConfig::new(config.raft_dir, index.get().into());
    remains.found(&raft, &config.keyring, addr).await?;
    // Last: a certificate says that the node is in a cluster.
    identity.store(&config.certs)?;
    Ok((identity, Revived { index, revision, others }))
}

fn others(state: &State, me: Option<NodeId>) -> Vec<String> {
    let others = state.managers().filter(|n| Some(n.id) != me);
    let mut names: Vec<_> = others.map(|n| n.name.clone()).collect();
    names.sort_unstable();
    names
}

fn refound(remains: &mut Remains, founder: Founder) -> Result<Outcome, ManagerError> {
    let revision = remains.revision();
    let proposal =
        proposal(Command::Refound(Box::new(founder)), &[]).expect("no request id is no bad one");
    remains.state.apply(revision, &proposal).map_err(ManagerError::Refound)
}
