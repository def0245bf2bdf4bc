//! One lab: a whole cluster in namespaces, its commands, its end.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use crate::{program, stderr, stdout};

/// Labs of one process, one at a time: two cores do not bear two clusters with deadlines.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// Seconds that one command may take; more is a hang, and the test fails instead of standing still.
const COMMAND_SECONDS_MAX: &str = "40";

/// A running lab; dropping it removes it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    /// Holds all labs of this test. Removed after the lab (fields drop in order, after [`Drop::drop`]).
    dir: TempDir,
    /// What the lab's commands are run by; the program itself when empty.
    under: Vec<String>,
    is_up: bool,
    _turn: MutexGuard<'static, ()>,
}

/// A command that runs on while the test goes on, spoken to line by line.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Lab {
    /// `swarmnet lab up NAME ARGS`: returns when every node is healthy.
    ///
    /// # Panics
    /// When the lab does not come up.
    pub fn up(name: &str, args: &str) -> Self {
        Self::up_under(&[], name, args)
    }

    /// The same by a program that runs another one with fewer rights, such as `setpriv`.
    ///
    /// # Panics
    /// When the lab does not come up.
    pub fn up_under(under: &[String], name: &str, args: &str) -> Self {
        // A test that failed has not spoiled the next one's lab.
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::Builder::new().prefix("swarmnet-test-").tempdir().expect("a folder");
        let under = under.to_vec();
        let lab = Self { name: name.to_owned(), dir, under, is_up: true, _turn: turn };
        let words: Vec<&str> = ["up", name].into_iter().chain(args.split_whitespace()).collect();
        lab.must(lab.lab_command(&words));
        lab
    }

    /// `swarmnet lab down`; a second call does nothing.
    ///
    /// # Panics
    /// When something cannot be removed.
    pub fn down(&mut self) {
        if std::mem::take(&mut self.is_up) {
            self.must(self.lab_command(&["down", &self.name]));
        }
    }

    /// Runs `argv` on a node, to its end.
    pub fn exec(&self, node: &str, argv: &[&str]) -> Output {
        run(self.exec_command(node, argv))
    }

    /// Runs `swarmnet WORDS` on a node; words are separated by spaces.
    pub fn swarmnet(&self, node: &str, words: &str) -> Output {
        let argv: Vec<&str> = ["swarmnet"].into_iter().chain(words.split(' ')).collect();
        self.exec(node, &argv)
    }

    /// As [`Self::swarmnet`], must succeed; what it wrote.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn ok(&self, node: &str, words: &str) -> String {
        let out = self.swarmnet(node, words);
        assert!(out.status.success(), "{node}: swarmnet {words}: {}", stderr(&out));
        stdout(&out)
    }

    /// Runs `swarmnet lab VERB [LAB/]NODE`: `kill`, `start`, `stop`, `crash`.
    ///
    /// # Panics
    /// When it fails.
    pub fn node(&self, verb: &str, node: &str) {
        self.must(self.lab_command(&[verb, &format!("{}/{node}", self.name)]));
    }

    /// Runs `swarmnet lab VERB [LAB/]A [B]`: `cut`, `heal`; without `b`, between `a` and all others.
    ///
    /// # Panics
    /// When it fails.
    pub fn link(&self, verb: &str, a: &str, b: Option<&str>) {
        let a = format!("{}/{a}", self.name);
        let words: Vec<&str> = [verb, &a].into_iter().chain(b).collect();
        self.must(self.lab_command(&words));
    }

    /// As [`Self::node`], which may fail.
    pub fn try_node(&self, verb: &str, node: &str) -> Output {
        run(self.lab_command(&[verb, &format!("{}/{node}", self.name)]))
    }

    /// Starts `argv` on a node and leaves it running.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn session(&self, node: &str, argv: &[&str]) -> Session {
        let mut command = self.exec_command(node, argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Session { child, stdin, stdout }
    }

    /// Nodes as `swarmnet lab status` shows them, one object each.
    ///
    /// # Panics
    /// When the answer is no JSON.
    pub fn status(&self) -> Vec<Value> {
        let text = self.must(self.lab_command(&["status", &self.name, "--format", "json"]));
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON, an object a line"))
            .collect()
    }

    /// A JSON answer of `swarmnet WORDS --format json`, one object a line.
    ///
    /// # Panics
    /// When it fails or is no JSON.
    pub fn json(&self, node: &str, words: &str) -> Vec<Value> {
        let text = self.ok(node, &format!("{words} --format json"));
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON, an object a line"))
            .collect()
    }

    /// Folder of everything that the lab writes.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn exec_command(&self, node: &str, argv: &[&str]) -> Command {
        let mut command = self.lab_command(&["exec", &format!("{}/{node}", self.name), "--"]);
        command.args(argv);
        command
    }

    fn lab_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=2", COMMAND_SECONDS_MAX]);
        command.args(&self.under).arg(program()).arg("lab").args(words);
        command.env("SWARMNET_LAB_DIR", self.dir.path()).env_remove("SWARMNET_SOCKET");
        command.stdin(Stdio::null());
        command
    }

    fn must(&self, command: Command) -> String {
        let args: Vec<_> = command.get_args().skip(2).map(OsStr::to_os_string).collect();
        let out = run(command);
        assert!(out.status.success(), "lab {}: {args:?}: {}", self.name, stderr(&out));
        stdout(&out)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.is_up {
            // A second panic while unwinding would hide the first.
            let out = self.lab_command(&["down", &self.name]).output();
            if !out.as_ref().is_ok_and(|out| out.status.success()) {
                eprintln!("lab {} is left behind: {out:?}", self.name);
            }
        }
    }
}

impl Session {
    /// Writes a line to the command.
    ///
    /// # Panics
    /// When it has closed its input.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open until the session is closed");
        writeln!(stdin, "{line}").expect("the command reads");
    }

    /// The next line that the command writes; empty at its end.
    ///
    /// # Panics
    /// When its output is no text.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// Closes the command's input and returns what it still writes, to its end.
    ///
    /// # Panics
    /// When its output is no text.
    pub fn close(mut self) -> String {
        drop(self.stdin.take());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stdout, &mut rest).expect("text");
        rest
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // What it runs on the node ends with the lab.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(mut command: Command) -> Output {
    command.output().expect("the program and `timeout` start")
}
