//! What the README tells a newcomer to type is typed here as it stands there, chapter by chapter, in a shell.

use std::process::{Command, Stdio};

use swarmnet_tests::{program, stderr, stdout};
use tempfile::TempDir;

const README: &str = include_str!("../../../README.md");

/// A newcomer's shell, in a folder of its own; the lab that it made is gone with it, also when a command failed.
struct Shell(TempDir);

impl Shell {
    /// Runs all lines of a chapter's first block, but what builds the program; the first that fails ends it.
    fn type_chapter(&self, chapter: &str) -> String {
        let (_, rest) = README.split_once(&format!("\n## {chapter}\n")).expect("a chapter");
        let (_, block) = rest.split_once("```sh\n").expect("a block");
        let (block, _) = block.split_once("```").expect("the block ends");
        let lines: Vec<&str> = block.lines().filter(|l| !l.starts_with("cargo build")).collect();
        let out = self.command("bash").arg("-exc").arg(lines.join("\n")).output();
        let out = out.expect("bash runs");
        assert!(out.status.success(), "{}{}", stdout(&out), stderr(&out));
        stdout(&out)
    }

    fn command(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let folder = program().parent().expect("a program lies in a folder");
        let path = std::env::var("PATH").expect("there is one");
        let mut command = Command::new(name);
        command.current_dir(self.0.path()).stdin(Stdio::null()).env_remove("SWARMNET_SOCKET");
        command.env("PATH", format!("{}:{path}", folder.display()));
        command.env("SWARMNET_LAB_DIR", self.0.path().join("labs"));
        command
    }

    fn is_clean(&self) -> bool {
        let labs = self.0.path().join("labs");
        !labs.exists() || std::fs::read_dir(labs).is_ok_and(|mut d| d.next().is_none())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if !self.is_clean() {
            let _ = self.command(program()).args(["lab", "down"]).output();
        }
    }
}

fn shell() -> Shell {
    Shell(tempfile::Builder::new().prefix("swarmnet-test-").tempdir().expect("a folder"))
}

#[test]
fn a_newcomer_can_play_with_it() {
    let shell = shell();
    let out = shell.type_chapter("Play with it");
    assert!(out.contains("Peer: 192.0.2.101:"), "{out}");
    assert!(shell.is_clean(), "the lab is gone");
}

#[test]
fn a_newcomer_can_operate_it() {
    let shell = shell();
    let out = shell.type_chapter("Operating");
    assert_eq!(out.matches("Sandbox: w1").count(), 2, "{out}");
    assert!(shell.is_clean(), "the lab is gone");
}
