//! The program under test: `swarmnet` beside the test executable, brought up to date by cargo once per process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a program to test instead of the one of this tree.
const OVERRIDE: &str = "SWARMNET_TEST_BINARY";

/// Path of the program under test.
///
/// # Panics
/// When it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os(OVERRIDE).map_or_else(build, PathBuf::from))
}

/// Cargo does not build the binary of another crate for a test, and one that lies there may be of yesterday: so cargo is asked, which takes a
/// moment when there is nothing to do. Of the whole workspace, so that the features are those that the tests were built with.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its program");
    // target/<profile>/deps/<test>
    let dir = test.ancestors().nth(2).expect("tests lie two folders below the profile's");
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = dir.parent().expect("a profile's folder lies in the target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bin", "swarmnet", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "cargo cannot build swarmnet");
    dir.join("swarmnet")
}
