//! A manager's own place in the Raft group: it asks for it, and whoever leads gives it.

use std::net::SocketAddr;
use std::time::Duration;

use swarmnet_proto::v1;
use swarmnet_proto::v1::manager_peer_client::ManagerPeerClient;
use swarmnet_types::Role;
use tokio::time::{Instant, sleep, timeout};

use crate::error::ManagerError;
use crate::manager::Manager;

/// How long a new manager asks to be taken in. Its part of it is to catch up with the log.
const ADD_MAX: Duration = Duration::from_secs(30);
const ADD_PAUSE: Duration = Duration::from_millis(100);
/// How long one manager may take with the question.
const ASK_MAX: Duration = Duration::from_secs(5);

impl Manager {
    /// Has this manager taken into the Raft group by whichever manager leads, and returns when it votes.
    ///
    /// # Errors
    /// [`ManagerError::NotAdded`].
    pub async fn enter_group(
        &self,
        addr: SocketAddr,
        managers: &[SocketAddr],
    ) -> Result<(), ManagerError> {
        let deadline = Instant::now() + ADD_MAX;
        loop {
            match self.ask_in(addr, managers).await {
                Ok(true) => return Ok(()),
                Ok(false) if Instant::now() < deadline => {}
                Ok(false) => {
                    let last = "it has not caught up with the log in time".to_owned();
                    return Err(ManagerError::NotAdded { last });
                }
                Err(last) if Instant::now() >= deadline => {
                    return Err(ManagerError::NotAdded { last });
                }
                Err(_) => {}
            }
            sleep(ADD_PAUSE).await;
        }
    }

    /// Asks the other managers once to be in the group. Whether this one votes by now.
    ///
    /// # Errors
    /// Why none of them could say.
    pub async fn ask_in(&self, addr: SocketAddr, managers: &[SocketAddr]) -> Result<bool, String> {
        let mut last = "no manager is known".to_owned();
        for manager in managers.iter().filter(|m| **m != addr) {
            let channel = swarmnet_pki::channel(*manager, Role::Manager, self.tls());
            let request =
                v1::AddMemberRequest { index: self.index().get(), addr: addr.to_string() };
            let mut peer = ManagerPeerClient::new(channel);
            match timeout(ASK_MAX, peer.add_member(request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner().voter),
                Ok(Err(status)) => last = swarmnet_pki::explain(&status),
                Err(_elapsed) => last = format!("{manager} does not answer in time"),
            }
        }
        Err(last)
    }

    /// This manager counts for majorities, as far as its own log says.
    pub fn votes(&self) -> bool {
        let status = self.raft().status();
        status.members.get(&status.me).is_some_and(|member| member.voter)
    }

    /// It knows of a leader, or is one.
    pub fn is_led(&self) -> bool {
        self.raft().leadership().borrow().leader.is_some()
    }

    /// How often its cluster had been made anew when this manager last heard of it; `None`: it knows no cluster yet.
    pub fn generation(&self) -> Option<u64> {
        self.raft().state().generation()
    }
}
