//! Who may call what, on the one port of a manager: the only place where that is decided.

use swarmnet_pki::authz::method_paths;
use swarmnet_pki::{AuthTable, AuthzError, Who};

const SERVICES: [&str; 7] = [
    "swarmnet.v1.Join",
    "swarmnet.v1.Admission",
    "swarmnet.v1.Control",
    "swarmnet.v1.Dispatcher",
    "swarmnet.v1.ManagerPeer",
    "swarmnet.v1.Raft",
    "swarmnet.v1.Vault",
];

/// Reads are for every node (`network ls` shows all networks everywhere); changes of the cluster are for managers; an agent
/// changes what is its own.
const ROWS: [(&str, Who); 48] = [
    ("/swarmnet.v1.Join/Join", Who::Anyone),
    ("/swarmnet.v1.Admission/GetCa", Who::AnyNode),
    ("/swarmnet.v1.Admission/RotateCa", Who::Manager),
    ("/swarmnet.v1.Admission/UpdateCluster", Who::Manager),
    ("/swarmnet.v1.Admission/CreateToken", Who::Manager),
    ("/swarmnet.v1.Admission/ListTokens", Who::Manager),
    ("/swarmnet.v1.Admission/RemoveToken", Who::Manager),
    ("/swarmnet.v1.Control/CreateNetwork", Who::Manager),
    ("/swarmnet.v1.Control/RemoveNetwork", Who::Manager),
    ("/swarmnet.v1.Control/ListNetworks", Who::AnyNode),
    ("/swarmnet.v1.Control/InspectNetwork", Who::AnyNode),
    ("/swarmnet.v1.Control/ClearEndpoint", Who::Manager),
    ("/swarmnet.v1.Control/CreateService", Who::Manager),
    ("/swarmnet.v1.Control/UpdateService", Who::Manager),
    ("/swarmnet.v1.Control/RemoveService", Who::Manager),
    ("/swarmnet.v1.Control/Publish", Who::Manager),
    ("/swarmnet.v1.Control/Unpublish", Who::Manager),
    ("/swarmnet.v1.Control/ChangeBackends", Who::Manager),
    ("/swarmnet.v1.Control/ListServices", Who::AnyNode),
    ("/swarmnet.v1.Control/InspectService", Who::AnyNode),
    ("/swarmnet.v1.Control/ListNodes", Who::AnyNode),
    ("/swarmnet.v1.Control/InspectNode", Who::AnyNode),
    ("/swarmnet.v1.Control/UpdateNode", Who::Manager),
    ("/swarmnet.v1.Control/RemoveNode", Who::Manager),
    ("/swarmnet.v1.Control/ListManagers", Who::AnyNode),
    ("/swarmnet.v1.Control/GetToken", Who::Manager),
    ("/swarmnet.v1.Control/GetCluster", Who::AnyNode),
    ("/swarmnet.v1.Control/Wait", Who::AnyNode),
    ("/swarmnet.v1.Control/Events", Who::AnyNode),
    ("/swarmnet.v1.Dispatcher/Session", Who::SelfNode),
    ("/swarmnet.v1.Dispatcher/Attach", Who::SelfNode),
    ("/swarmnet.v1.Dispatcher/Detach", Who::SelfNode),
    ("/swarmnet.v1.Dispatcher/Report", Who::SelfNode),
    ("/swarmnet.v1.Dispatcher/Renew", Who::SelfNode),
    ("/swarmnet.v1.Dispatcher/Standing", Who::SelfNode),
    ("/swarmnet.v1.Dispatcher/Leave", Who::SelfNode),
    ("/swarmnet.v1.ManagerPeer/Propose", Who::Manager),
    ("/swarmnet.v1.ManagerPeer/Acks", Who::Manager),
    ("/swarmnet.v1.ManagerPeer/AddMember", Who::Manager),
    ("/swarmnet.v1.ManagerPeer/Group", Who::Manager),
    ("/swarmnet.v1.Raft/AppendEntries", Who::Manager),
    ("/swarmnet.v1.Raft/Vote", Who::Manager),
    ("/swarmnet.v1.Raft/InstallSnapshot", Who::Manager),
    ("/swarmnet.v1.Raft/ReadIndex", Who::Manager),
    ("/swarmnet.v1.Vault/GetUnlockKey", Who::Manager),
    ("/swarmnet.v1.Vault/SetAutolock", Who::Manager),
    ("/swarmnet.v1.Vault/RotateUnlockKey", Who::Manager),
    ("/swarmnet.v1.Vault/Backup", Who::Manager),
];

/// The table, checked to have exactly the rows that there are methods.
pub(crate) fn table() -> Result<AuthTable, AuthzError> {
    let table = AuthTable::new(&ROWS)?;
    let methods = method_paths(swarmnet_proto::DESCRIPTORS, &SERVICES)?;
    table.check(methods.iter().map(String::as_str))?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_method_has_a_row() {
        super::table().expect("complete");
    }
}
