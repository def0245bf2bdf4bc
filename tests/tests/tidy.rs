//! The rules of the tree that no compiler checks: who may depend on whom, sizes and heads of files, no `unsafe`.
//!
//! Input: `cargo metadata` and the files that git knows of (tracked or new, not ignored). It changes nothing. Each test lists everything
//! that breaks its rule, so that one run is enough to mend it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// Lines of a source file; tests kept apart from the code do not count.
const FILE_LINES_MAX: usize = 600;
/// Our crates on the left may use those on the right, and no other of ours.
const ARROWS: [(&str, &[&str]); 15] = [
    ("types", &[]),
    ("proto", &["types"]),
    ("dataplane", &["types"]),
    ("dns", &["types"]),
    ("pki", &["types"]),
    ("ipam", &["types"]),
    ("runtime", &[]),
    ("gossip", &["types", "runtime"]),
    ("manager-core", &["types", "ipam"]),
    ("kernel", &["types", "dataplane"]),
    ("manager", &["types", "proto", "manager-core", "pki", "runtime"]),
    (
        "agent",
        &["types", "proto", "dataplane", "kernel", "dns", "runtime", "gossip", "pki", "ipam"],
    ),
    (
        "",
        &["types", "proto", "agent", "manager", "pki", "runtime", "kernel", "dataplane", "gossip"],
    ),
    // They drive whatever they measure or prove.
    (
        "bench",
        &[
            "types",
            "proto",
            "pki",
            "dataplane",
            "kernel",
            "dns",
            "agent",
            "manager",
            "manager-core",
            "runtime",
        ],
    ),
    (
        "tests",
        &[
            "types",
            "proto",
            "pki",
            "manager-core",
            "manager",
            "dataplane",
            "dns",
            "gossip",
            "runtime",
            "agent",
        ],
    ),
];
/// Crates that are computation alone, and what would make them more.
const PURE: [&str; 4] = ["types", "dataplane", "manager-core", "ipam"];
const IMPURE: [&str; 15] = [
    "tokio",
    "tokio-util",
    "tokio-stream",
    "futures-util",
    "tonic",
    "prost",
    "openraft",
    "foca",
    "rtnetlink",
    "nix",
    "rustix",
    "socket2",
    "hickory-proto",
    "hickory-server",
    "rand",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `null` for an ordinary one, else `dev` or `build`.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Package {
    /// `swarmnet-types` is `types`; the binary, `swarmnet`, is the empty name.
    fn short(&self) -> &str {
        short(&self.name).expect("every crate of ours is called swarmnet…")
    }
}

impl Target {
    /// A library or a program: what users get.
    fn is_shipped(&self) -> bool {
        self.kind.iter().any(|kind| kind == "lib" || kind == "bin")
    }
}

fn short(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("swarmnet")?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('-') }
}

fn metadata() -> Metadata {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo writes what it says")
}

/// Every `.rs` file of the tree with its text, by its path from the root.
fn sources() -> BTreeMap<PathBuf, String> {
    let root = metadata().workspace_root;
    let out = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.rs"])
        .current_dir(&root)
        .output()
        .expect("git runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let names = String::from_utf8(out.stdout).expect("our file names are plain");
    let all: BTreeMap<_, _> = names
        .split_terminator('\0')
        // A file that was removed and not yet committed is still listed.
        .filter_map(|name| Some((PathBuf::from(name), fs::read_to_string(root.join(name)).ok()?)))
        .collect();
    assert!(all.len() > 100, "git lists the sources, found {}", all.len());
    all
}

fn is_test_file(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

#[track_caller]
fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn crates_use_only_those_below_them() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ARROWS.into_iter().map(|(from, to)| (from, to.iter().copied().collect())).collect();
    let mut broken = Vec::new();
    let meta = metadata();
    for package in &meta.packages {
        let Some(allowed) = allowed.get(package.short()) else {
            broken.push(format!("{} is not in the table of arrows", package.name));
            continue;
        };
        // A crate may use itself with its testing feature.
        for name in package.dependencies.iter().filter_map(|dep| short(&dep.name)) {
            if !allowed.contains(name) && name != package.short() {
                broken.push(format!("{} must not use swarmnet-{name}", package.name));
            }
        }
    }
    assert_eq!(meta.packages.len(), allowed.len(), "the table of arrows knows every crate");
    assert_none(&broken, "arrows between crates");
}

#[test]
fn pure_crates_do_no_input_or_output() {
    let mut broken = Vec::new();
    for package in metadata().packages.iter().filter(|p| PURE.contains(&p.short())) {
        // Property tests may bring what they like.
        let used = package.dependencies.iter().filter(|dep| dep.kind.as_deref() != Some("dev"));
        for dep in used.filter(|dep| IMPURE.contains(&dep.name.as_str())) {
            broken.push(format!("{} uses {}", package.name, dep.name));
        }
    }
    assert_none(&broken, "crates that only compute");
}

#[test]
fn dependencies_and_lints_come_from_the_workspace() {
    let mut broken = Vec::new();
    for package in &metadata().packages {
        let text = fs::read_to_string(&package.manifest_path).expect("cargo has read it as well");
        broken.extend(manifest_faults(&text).into_iter().map(|f| format!("{}: {f}", package.name)));
    }
    assert_none(&broken, "manifests");
}

/// A reader of the plain style in which our manifests are written: one dependency a line.
fn manifest_faults(text: &str) -> Vec<String> {
    let mut section = "";
    let mut has_lints = false;
    let mut faults = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_end_matches(']');
            if section.contains("dependencies.") {
                faults.push(format!("[{section}]: write it in one line"));
            }
            continue;
        }
        has_lints |= section == "lints" && line == "workspace = true";
        let Some((name, value)) =
            line.split_once('=').filter(|_| section.ends_with("dependencies"))
        else {
            continue;
        };
        let shared = name.trim().ends_with(".workspace") || value.contains("workspace = true");
        // Inside a list of features that spans lines there is no `=`.
        if !shared {
            faults.push(format!("`{line}` in [{section}] is not `workspace = true`"));
        }
    }
    if !has_lints {
        faults.push("`[lints] workspace = true` is missing".to_owned());
    }
    faults
}

#[test]
fn manifest_faults_are_found() {
    let good = "[lints]\nworkspace = true\n[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"x\"] }\n";
    assert_eq!(manifest_faults(good), Vec::<String>::new());
    let bad = "[dependencies]\na = { path = \"../a\" }\n[dev-dependencies]\nb = \"1\"\n";
    assert_eq!(manifest_faults(bad).len(), 3);
}

#[test]
fn every_file_says_what_it_is() {
    let all = sources();
    let broken: Vec<_> = all
        .iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none(&broken, "files that do not open with `//!`");
}

#[test]
fn files_stay_small() {
    let broken: Vec<_> = sources()
        .iter()
        .filter(|(path, _)| !is_test_file(path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines}", path.display()))
        .collect();
    assert_none(&broken, "files of more than 600 lines");
}

#[test]
fn no_crate_of_ours_has_unsafe_code() {
    let mut broken = Vec::new();
    for package in &metadata().packages {
        for target in package.targets.iter().filter(|t| t.is_shipped()) {
            let text = fs::read_to_string(&target.src_path).expect("cargo has found it");
            if !text.lines().any(|line| line == "#![forbid(unsafe_code)]") {
                broken.push(target.src_path.display().to_string());
            }
        }
    }
    assert_none(&broken, "crates without `#![forbid(unsafe_code)]`");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here so that this file does not find itself.
    let words = [["to", "do!("], ["unimple", "mented!("]].map(|parts| parts.concat());
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"]].map(|parts| parts.concat());
    let mut broken = Vec::new();
    for (path, text) in sources() {
        for (at, line) in text.lines().enumerate() {
            if words.iter().chain(&marks).any(|mark| line.contains(mark.as_str())) {
                broken.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    assert_none(&broken, "unfinished places");
}
