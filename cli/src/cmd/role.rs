//! `promote` and `demote`, of nodes and of managers.

use std::time::Duration;

use clap::Args;
use swarmnet_proto::v1;
use swarmnet_types::Role;
use tokio::time::{Instant, sleep};

use crate::client::{Daemon, request_id};
use crate::error::CliError;
use crate::format::print_line;
use crate::shape::manager::Group;
use crate::shape::node::Status;

/// How long a node may take to be what it is to be. A leader that goes leaves an election behind.
const DONE_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    #[arg(required = true, value_name = "NODE")]
    references: Vec<String>,
    /// Return when it is decided, without waiting until it is done
    #[arg(short, long)]
    detach: bool,
}

/// Gives one node after another the role. Stops at the first that cannot have it.
pub(crate) async fn set(args: RoleArgs, role: Role, mut daemon: Daemon) -> Result<(), CliError> {
    for reference in args.references {
        let known = v1::InspectRequest { reference: reference.clone() };
        let known =
            Status::try_from(daemon.control.inspect_node(known).await?.into_inner())?.node.role;
        // sw:M15
        if known == role {
            let noun = if role == Role::Manager { "manager" } else { "worker" };
            print_line(&format!("Node {reference} is already a {noun}."));
            continue;
        }
        let request = v1::UpdateNodeRequest {
            request_id: request_id(),
            reference: reference.clone(),
            role: v1::Role::from(role).into(),
            ..v1::UpdateNodeRequest::default()
        };
        let status = Status::try_from(daemon.control.update_node(request).await?.into_inner())?;
        if !args.detach {
            wait(&mut daemon, &status, role).await?;
        }
        print_line(&match role {
            Role::Manager => format!("Node {reference} promoted to a manager in the swarm."),
            Role::Worker => format!("Manager {reference} demoted in the swarm."),
        });
    }
    Ok(())
}

/// Until the node votes, or is out of the group.
pub(super) async fn wait(daemon: &mut Daemon, node: &Status, role: Role) -> Result<(), CliError> {
    let wanted = match role {
        Role::Manager => v1::GroupSeat::Voter,
        Role::Worker => v1::GroupSeat::None,
    };
    let deadline = Instant::now() + DONE_MAX;
    while Instant::now() < deadline {
        // This node's own manager may be the one that goes, or the leader: what fails now is asked again.
        if let Ok(answer) = daemon.control.list_managers(v1::ListManagersRequest {}).await {
            let group = Group::try_from(answer.into_inner())?;
            let member = group.members.iter().find(|m| m.status.node.id == node.node.id);
            if member.map_or(v1::GroupSeat::None, |m| m.seat) == wanted {
                return Ok(());
            }
        }
        sleep(POLL).await;
    }
    let name = &node.node.name;
    Err(CliError::failure(match role {
        Role::Manager => format!(
            "node {name} is to be a manager, but does not vote yet: see `swarmnet manager ls` and its log"
        ),
        Role::Worker => format!(
            "node {name} is to be a manager no more, but the others cannot let it go yet: see `swarmnet manager ls`"
        ),
    }))
}
