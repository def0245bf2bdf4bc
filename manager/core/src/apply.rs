//! The one place where the state changes: a proposal is carried out wholly, or refused and undone.
//!
//! Each family of commands has a file; allocations that several of them need are in [`grant`].

mod attach;
mod ca;
mod cluster;
mod detach;
mod grant;
mod lock;
mod network;
mod node;
mod publish;
mod refound;
mod service;
mod token;

#[cfg(test)]
mod tests;

use swarmnet_types::Revision;

use crate::command::{Command, Proposal};
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::state::State;
use crate::state::txn::Txn;

impl State {
    /// Carries out a proposal at its place in the log. Several proposals may share a revision; `revision` never falls.
    ///
    /// A request that was answered before is answered the same and changes nothing.
    ///
    /// # Errors
    /// A [`Rejection`] takes its place in the log and changes nothing else.
    pub fn apply(&mut self, revision: Revision, proposal: &Proposal) -> Result<Outcome, Rejection> {
        self.tables.revision = revision.max(self.tables.revision);
        if let Some(answer) = self.tables.recent.get(&proposal.request_id) {
            return answer.clone();
        }
        let mut txn = Txn::new(self, revision, proposal.now_ms, &proposal.seed);
        let answer = txn.carry_out(&proposal.command);
        match answer {
            Ok(_) => {
                txn.end_rotation();
                txn.commit();
            }
            Err(_) => txn.roll_back(),
        }
        self.tables.recent.record(proposal.request_id, proposal.now_ms, &answer);
        answer
    }
}

impl Txn<'_> {
    fn carry_out(&mut self, command: &Command) -> Result<Outcome, Rejection> {
        if !matches!(command, Command::InitCluster(_)) {
            self.initialised()?;
        }
        match command {
            Command::InitCluster(init) => self.init_cluster(init),
            Command::UpdatePools { add, retire } => self.update_pools(add, retire),
            Command::UpdateCluster(change) => self.update_cluster(*change),
            Command::RotateToken { role, secret } => self.rotate_token(*role, secret),
            Command::CreateToken(create) => self.create_token(create),
            Command::RemoveToken { token } => self.remove_token(token),
            Command::RotateCa(rotate) => self.rotate_ca(rotate),
            Command::SetNodeTls { node, tls } => self.set_node_tls(*node, tls),
            Command::RotateGossipKey { secret } => self.rotate_gossip_key(secret),
            Command::Refound(founder) => self.refound(founder),
            Command::SetAutolock { on, fresh } => self.set_autolock(*on, fresh),
            Command::RotateUnlockKey { fresh } => self.rotate_unlock_key(fresh),
            Command::JoinNode(join) => {
                let (index, fabric) = self.join_node(join)?;
                Ok(Outcome::NodeJoined { node: join.node, index, fabric })
            }
            Command::UpdateNodeDescription { node, description } => {
                self.describe_node(*node, description)
            }
            Command::UpdateNode(change) => self.update_node(change),
            Command::RemoveNode(remove) => self.remove_node_by(remove),
            Command::CreateNetwork(create) => {
                self.create_network(create).map(|network| Outcome::NetworkCreated { network })
            }
            Command::RemoveNetwork(remove) => self.remove_network_by(remove),
            Command::CreateService(spec) => self.create_service(spec),
            Command::UpdateService(change) => self.update_service(change),
            Command::RemoveService { service } => self.remove_service_by(service),
            Command::Publish(publish) => self.publish(publish),
            Command::Unpublish(unpublish) => self.unpublish(unpublish),
            Command::AddBackend(add) => self.add_backend(&add.service, &add.backend),
            Command::RemoveBackend { service, backend } => self.remove_backend(service, backend),
            Command::Attach(attach) => self.attach(attach),
            Command::Disconnect { node, sandbox, network } => {
                self.disconnect(*node, *sandbox, network)
            }
            Command::SetConditions { node, conditions } => self.set_conditions(*node, conditions),
            Command::Detach { node, endpoints } => self.detach(*node, endpoints),
        }
    }
}
