//! `lab status`.

use std::process::Stdio;

use serde_json::{Value, json};

use super::record::{Lab, NodeRecord};
use super::{enter, life};
use crate::error::CliError;
use crate::format::{Columns, ListFormat, print_list};

const COLUMNS: Columns = Columns(&[
    ("NODE", "{{.Name}}"),
    ("ROLE", "{{.Role}}"),
    ("ADDRESSES", "{{join .Addresses \", \"}}"),
    ("PID", "{{.Pid}}"),
    ("DAEMON", "{{.Daemon}}"),
    ("HEALTH", "{{.Health}}"),
]);

pub(super) fn run(name: &str, format: &ListFormat) -> Result<(), CliError> {
    print(&Lab::load(name)?, format)
}

pub(super) fn print(lab: &Lab, format: &ListFormat) -> Result<(), CliError> {
    let rows: Vec<Value> = lab.nodes.iter().map(|node| row(lab, node)).collect();
    print_list(&rows, COLUMNS, format)
}

fn row(lab: &Lab, record: &NodeRecord) -> Value {
    let node = &record.node;
    let daemon = life::daemon(lab, &node.name);
    let health = match (record.holder.is_alive(), node.kind.has_daemon(), daemon) {
        (false, ..) => "crashed",
        (true, false, _) => "up",
        (true, true, None) => "daemon down",
        (true, true, Some(_)) if answers(lab, &node.name) => "healthy",
        (true, true, Some(_)) => "daemon does not answer",
    };
    json!({
        "ID": format!("{}/{}", lab.name, node.name),
        "Name": node.name,
        "Role": node.kind.as_str(),
        "Addresses": node.ips().map(|ip| ip.to_string()).collect::<Vec<_>>(),
        "Pid": record.holder.pid,
        "Daemon": daemon.map_or_else(|| "-".to_owned(), |d| d.pid.to_string()),
        "NetworkNamespace": format!("/proc/{}/ns/net", record.holder.pid),
        "Folder": lab.folder().node(&node.name),
        "Health": health,
    })
}

/// Does the daemon answer on its socket?
fn answers(lab: &Lab, node: &str) -> bool {
    let Ok(mut command) = enter::swarmnet(lab, node) else { return false };
    command.args(["agent", "status"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
