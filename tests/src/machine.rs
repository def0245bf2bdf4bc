//! What a lab may not change: the machine's own namespaces, links, rules, mounts, and what runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Lab, stdout};

/// The state of the machine outside every lab. Two that are equal differ in nothing that a lab could have left.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    /// `ip netns list`.
    pub namespaces: String,
    /// Names of the links of the root namespace.
    pub links: BTreeSet<String>,
    /// `nft list ruleset` without counters.
    pub rules: String,
    /// Mount points.
    pub mounts: BTreeSet<String>,
}

impl Machine {
    /// Looks at the machine.
    ///
    /// # Panics
    /// When `ip` or `nft` is not there.
    pub fn snapshot() -> Self {
        let links = tool("ip", &["-o", "link"]);
        let mounts = fs::read_to_string("/proc/self/mounts").expect("Linux");
        Self {
            namespaces: tool("ip", &["netns", "list"]),
            links: links.lines().filter_map(|l| l.split(": ").nth(1)).map(str::to_owned).collect(),
            rules: tool("nft", &["--stateless", "list", "ruleset"]),
            mounts: mounts
                .lines()
                .filter_map(|line| line.split(' ').nth(1))
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Process namespaces of a lab's nodes, by their kernel name (`pid:[4026532…]`): whatever a node runs is in its own.
    ///
    /// # Panics
    /// When the lab does not say its processes, or they are not apart from the test's.
    pub fn namespaces_of(lab: &Lab) -> BTreeSet<String> {
        let own = namespace(Path::new("/proc/self"));
        let of_node = |node: &serde_json::Value| {
            let pid = node["Pid"].as_u64().expect("`lab status` shows each node's process");
            let found = namespace(Path::new(&format!("/proc/{pid}")));
            assert!(found.is_some() && found != own, "{node} has namespaces of its own");
            found.expect("it is there")
        };
        lab.status().iter().map(of_node).collect()
    }

    /// Processes, by pid and command, that are in one of the given process namespaces or whose command line names `word`.
    pub fn processes(namespaces: &BTreeSet<String>, word: &str) -> BTreeSet<(u32, String)> {
        let all = fs::read_dir("/proc").expect("Linux").flatten();
        all.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            // It may have ended meanwhile; then it is not left behind.
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let is_inside = namespace(&entry.path()).is_some_and(|own| namespaces.contains(&own));
            (is_inside || command.contains(word)).then_some((pid, command))
        })
        .collect()
    }
}

fn namespace(process: &Path) -> Option<String> {
    Some(fs::read_link(process.join("ns/pid_for_children")).ok()?.to_string_lossy().into_owned())
}

fn tool(name: &str, args: &[&str]) -> String {
    let out = Command::new(name).args(args).output();
    let out = out.unwrap_or_else(|err| panic!("{name} (install it: `.ci/run` does): {err}"));
    assert!(out.status.success(), "{name} {args:?}: {}", crate::stderr(&out));
    stdout(&out)
}
