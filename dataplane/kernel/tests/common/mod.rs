//! What the kernel tests share: namespaces of their own, the usual programs to look with, and the check that nothing is left.
//!
//! The tests need root. One that cannot make a namespace fails; none is skipped.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use swarmnet_kernel::Netns;

/// All namespaces of these tests begin so.
pub const PREFIX: &str = "snk-";

/// A named namespace, removed on drop; the drop also checks that the name is gone.
#[derive(Debug)]
pub struct TestNetns {
    pub name: String,
    path: PathBuf,
}

impl TestNetns {
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{n}-{label}", std::process::id());
        let path = PathBuf::from(swarmnet_kernel::netns::NAMED_DIR).join(&name);
        let netns = Netns::create(&path).expect("these tests need root and network namespaces");
        drop(netns);
        let made = Self { name, path };
        made.ip("link set lo up");
        made
    }

    pub fn netns(&self) -> Netns {
        Netns::open(&self.path).expect("made in new()")
    }

    /// `ip -n NAME …`, which must succeed; its output.
    pub fn ip(&self, args: &str) -> String {
        run(&format!("ip -n {} {args}", self.name))
    }

    /// A shell command inside, which must succeed; its output.
    pub fn sh(&self, command: &str) -> String {
        let (ok, text) = self.try_sh(command);
        assert!(ok, "{command}: {text}");
        text
    }

    /// A shell command inside: whether it succeeded, and its output.
    pub fn try_sh(&self, command: &str) -> (bool, String) {
        try_run(Command::new("ip").args(["netns", "exec", &self.name, "sh", "-c", command]))
    }
}

impl Drop for TestNetns {
    fn drop(&mut self) {
        let removed = Netns::remove(&self.path);
        if !std::thread::panicking() {
            removed.expect("the name can be removed");
            assert!(!self.path.exists(), "{} is left", self.path.display());
        }
    }
}

/// A command line without quoting, which must succeed; its output.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    let (ok, text) = try_run(Command::new(program).args(words));
    assert!(ok, "{line}: {text}");
    text
}

fn try_run(command: &mut Command) -> (bool, String) {
    let out = command.output().unwrap_or_else(|err| panic!("{command:?}: {err}"));
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}
