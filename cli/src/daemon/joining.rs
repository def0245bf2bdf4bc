//! A node asks the managers of a cluster to be taken in, and takes its place.
//!
//! What a failed join had begun is undone: the node is then as before.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use swarmnet_pki::{JoinToken, NodeIdentity, NodeKey, TlsStore};
use swarmnet_proto::v1;
use swarmnet_proto::v1::join_client::JoinClient;
use swarmnet_proto::wire::{self, SPOKEN, Spoken};
use swarmnet_types::{NodeIndex, Role};

use super::membership::{ALREADY, CONTROL_PORT, Node, RunningManager, STOP_MAX};
use super::place::Place;
use crate::error::CliError;

impl Node {
    pub(super) async fn join(
        &self,
        request: v1::JoinClusterRequest,
    ) -> Result<v1::JoinClusterResponse, CliError> {
        let mut slot = self.manager.lock().await;
        if self.agent.standing().is_some() {
            return Err(CliError::failure(ALREADY));
        }
        let token: JoinToken = request.token.parse().map_err(CliError::failure)?;
        let wanted: Option<Role> = Option::from(request.role());
        if wanted.is_some_and(|role| role != token.role) {
            let noun = if token.role == Role::Manager { "manager" } else { "agent" };
            return Err(CliError::failure(format!(
                "this is a token for a {}: use `swarmnet {noun} join`",
                token.role
            )));
        }
        let at =
            self.addresses(&request.advertise_addr, &request.listen_addr, &request.data_path_addr)?;
        let mut place = self.place(&request.name, NodeIndex::FIRST, at);
        let joined = self.ask_in(&request, &token, &mut place).await;
        let (tls, role) = match joined {
            Ok(joined) => joined,
            Err(err) => {
                self.forget(None).await;
                return Err(err);
            }
        };
        if role == Role::Manager {
            match self.join_group(&tls, &place).await {
                Ok(running) => *slot = Some(running),
                Err(err) => {
                    self.forget(None).await;
                    return Err(err);
                }
            }
        }
        let node = Bytes::copy_from_slice(tls.identity().node_id().as_bytes());
        self.enter(tls, &place);
        self.wait_ready().await?;
        Ok(v1::JoinClusterResponse { node, role: v1::Role::from(role).into() })
    }

    async fn join_group(&self, tls: &TlsStore, place: &Place) -> Result<RunningManager, CliError> {
        let running = self.start_manager(tls, place, self.own_keyring()?).await?;
        match running.manager.enter_group(place.addr, &place.managers).await {
            Ok(()) => Ok(running),
            Err(err) => {
                running.supervisor.shutdown(STOP_MAX).await;
                Err(CliError::failure(err))
            }
        }
    }

    /// Asks one manager after another; a refusal by one of them is final.
    async fn ask_in(
        &self,
        request: &v1::JoinClusterRequest,
        token: &JoinToken,
        place: &mut Place,
    ) -> Result<(TlsStore, Role), CliError> {
        let key = NodeKey::ensure(&self.paths.certs()).map_err(CliError::failure)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let message = v1::JoinRequest {
            secret: Bytes::copy_from_slice(token.secret.as_bytes()),
            csr_der: key.csr().map_err(CliError::failure)?.into(),
            availability: request.availability,
            description: Some((&place.description()).into()),
            now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            wire: Some(SPOKEN.into()),
        };
        let extra = request.managers.iter().map(|text| {
            let plain = text.parse::<SocketAddr>();
            let with_port = || text.parse().map(|ip| SocketAddr::new(ip, CONTROL_PORT));
            plain.or_else(|_| with_port()).map_err(|_| {
                CliError::usage(format!("invalid manager address {text}: want IP or IP:PORT"))
            })
        });
        let addrs: Vec<SocketAddr> =
            extra.chain(token.addrs.iter().map(|a| Ok(*a))).collect::<Result<_, _>>()?;
        let mut last = "the token names no manager".to_owned();
        for addr in addrs {
            let channel = swarmnet_pki::join_channel(addr, token.ca_fingerprint);
            match JoinClient::new(channel).join(message.clone()).await {
                Ok(answer) => return self.take_in(&answer.into_inner(), &key, token, place),
                Err(status) if std::error::Error::source(&status).is_none() => {
                    return Err(status.into());
                }
                Err(status) => last = format!("{addr}: {}", swarmnet_pki::explain(&status)),
            }
        }
        Err(CliError::failure(format!("no manager could be joined: {last}")))
    }

    fn take_in(
        &self,
        answer: &v1::JoinResponse,
        key: &NodeKey,
        token: &JoinToken,
        place: &mut Place,
    ) -> Result<(TlsStore, Role), CliError> {
        wire::agree("node", "manager", Spoken::only(answer.wire)).map_err(CliError::failure)?;
        let identity = NodeIdentity::new(key.clone(), &answer.certificate_pem, &answer.ca_pem)
            .map_err(CliError::failure)?;
        if !identity.trusts(token.ca_fingerprint) {
            return Err(CliError::failure(format!(
                "remote CA does not match fingerprint. Expected: {}",
                token.ca_fingerprint
            )));
        }
        identity.store(&self.paths.certs()).map_err(CliError::failure)?;
        place.index = NodeIndex::new(answer.index)
            .ok_or_else(|| CliError::failure("the manager gave this node no number"))?;
        place.managers = answer.managers.iter().filter_map(|m| m.parse().ok()).collect();
        place.store(&self.paths)?;
        let role = identity.role();
        Ok((TlsStore::new(identity).map_err(CliError::failure)?, role))
    }
}
