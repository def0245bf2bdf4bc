//! Networks.

use swarmnet_manager_core::{Command, CreateNetwork, Outcome, Rejection, RemoveNetwork, State};
use swarmnet_proto::v1;
use swarmnet_types::{Endpoint, Network, NetworkSpec, NodeId};
use tonic::Status;

use super::{ControlGrpc, id, missing};
use crate::acks;
use crate::manager::NodeCondition;
use crate::writer::refusal;

impl ControlGrpc {
    pub(super) async fn network_create(
        &self,
        request: v1::CreateNetworkRequest,
    ) -> Result<v1::CreateNetworkResponse, Status> {
        let spec: NetworkSpec = request.spec.ok_or_else(|| missing("spec"))?.try_into()?;
        let command = Command::CreateNetwork(CreateNetwork { spec, avoid: self.routes.now() });
        let (revision, outcome) = self.writer.write(command, &request.request_id).await?;
        let Outcome::NetworkCreated { network } = outcome else {
            return Err(Status::internal("the state answered a create with something else"));
        };
        let network = self.writer.read(|s| s.network(network).map(Into::into));
        Ok(v1::CreateNetworkResponse { network, revision: revision.0 })
    }

    pub(super) async fn network_remove(
        &self,
        request: v1::RemoveNetworkRequest,
    ) -> Result<v1::RemoveNetworkResponse, Status> {
        let dead = acks::alive(&self.liveness)
            .iter()
            .filter(|(_, condition)| **condition == NodeCondition::Down)
            .map(|(node, _)| *node)
            .collect();
        let command = Command::RemoveNetwork(RemoveNetwork {
            network: request.reference,
            force: request.force,
            dead,
        });
        let (revision, outcome) = self.writer.write(command, &request.request_id).await?;
        let Outcome::NetworkRemoved { network, .. } = outcome else {
            return Err(Status::internal("the state answered a removal with something else"));
        };
        Ok(v1::RemoveNetworkResponse { id: id(network.as_bytes()), revision: revision.0 })
    }

    /// Endpoints of a dead node hold their network for as long as it is dead. Those of a node that lives are its own affair.
    pub(super) async fn endpoint_clear(
        &self,
        request: v1::ClearEndpointRequest,
    ) -> Result<v1::ClearEndpointResponse, Status> {
        let v1::ClearEndpointRequest { request_id, network, name } = request;
        let found = self.writer.read(|s| {
            let network = s.find_network(&network)?;
            // Names are unique on a node only: of several, a dead node's is meant.
            let named = || s.endpoints_on(network.id).filter(|e| e.name.as_str() == name);
            let is_down = |e: &&Endpoint| self.condition(e.node) == NodeCondition::Down;
            let found = named().find(is_down).or_else(|| named().next()).cloned();
            found.ok_or_else(|| {
                let network = network.spec.name.clone();
                Rejection::NotConnected { sandbox: name.clone(), network }
            })
        });
        let found = found.map_err(|err| refusal(&err))?;
        if self.condition(found.node) != NodeCondition::Down {
            let host = self.writer.read(|s| s.node(found.node).map(|n| n.name.clone()));
            return Err(Status::failed_precondition(format!(
                "{name} runs on node {}, which is not down: disconnect it there",
                host.unwrap_or_default()
            )));
        }
        let Endpoint { node, sandbox, .. } = found;
        let command = Command::Disconnect { node, sandbox, network: found.network.to_string() };
        let (revision, _) = self.writer.write(command, &request_id).await?;
        Ok(v1::ClearEndpointResponse { revision: revision.0 })
    }

    pub(super) async fn network_inspect(
        &self,
        reference: &str,
    ) -> Result<v1::NetworkDetail, Status> {
        let mut detail = self
            .writer
            .read(|s| s.find_network(reference).map(|n| detail(s, n)))
            .map_err(|err| refusal(&err))?;
        let rows = self.rows().await;
        for node in &mut detail.nodes {
            let known = NodeId::try_from(&node.node[..]).ok();
            let Some(row) = known.and_then(|n| rows.get(&n)) else { continue };
            node.applied = row.revision.0;
            node.repaired = row.repaired;
            if node.mtu == 0 {
                node.mtu = row.overlay_mtu_bytes;
            }
        }
        Ok(detail)
    }
}

fn detail(state: &State, network: &Network) -> v1::NetworkDetail {
    let peers = state.nodes_on(network.id).count().saturating_sub(1);
    let mtu = network.spec.mtu_bytes().ok().flatten();
    let nodes = state.nodes_on(network.id).filter_map(|n| state.node(n)).map(|node| {
        v1::NodeNetworkState {
            node: id(node.id.as_bytes()),
            name: node.name.clone(),
            applied: 0,
            // Else what the node says that it found.
            mtu: mtu.map_or(0, u32::from),
            peers: u32::try_from(peers).unwrap_or(u32::MAX),
            repaired: 0,
        }
    });
    let saturated = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
    v1::NetworkDetail {
        network: Some(network.into()),
        endpoints: state.endpoints_on(network.id).map(Into::into).collect(),
        services: state.services_on(network.id).map(Into::into).collect(),
        usage: state
            .usage(network.id)
            .into_iter()
            .map(|u| v1::SubnetUsage {
                subnet: u.subnet.to_string(),
                used: saturated(u.used),
                free: saturated(u.free()),
            })
            .collect(),
        nodes: nodes.collect(),
    }
}
