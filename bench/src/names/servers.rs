//! The name servers that ours is compared with: Debian's unbound and dnsmasq, one thread each, the names from a file.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::load::{Pace, ask};
use crate::process::{Program, installed};

const UNBOUND: u16 = 5_301;
const DNSMASQ: u16 = 5_302;
/// Until the first answer.
const START_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// A name server: its process and where it answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    pub(super) pid: u32,
    pub(super) at: SocketAddr,
}

/// One that runs as long as the value lives.
#[derive(Debug)]
pub(super) struct Peer {
    program: Program,
    at: SocketAddr,
}

impl Peer {
    pub(super) fn server(&self) -> Server {
        Server { pid: self.program.pid(), at: self.at }
    }

    /// Waits until it answers.
    fn ready(mut self, netns: &Path, name: &str) -> Result<Self> {
        let begun = Instant::now();
        let first = [name.to_owned()];
        while ask(netns, self.at, &first, (Pace::Window(1), PAUSE)).is_err() {
            self.program.alive()?;
            if begun.elapsed() > START_MAX {
                bail!("{} does not answer", self.at);
            }
            thread::sleep(PAUSE);
        }
        Ok(self)
    }
}

pub(super) fn unbound_program() -> Result<PathBuf> {
    installed("unbound", "unbound")
}

pub(super) fn dnsmasq_program() -> Result<PathBuf> {
    installed("dnsmasq", "dnsmasq-base")
}

pub(super) fn unbound(
    program: &Path,
    netns: &Path,
    folder: &Path,
    zone: &[(String, String)],
) -> Result<Peer> {
    let mut text = format!(
        "server:\n  interface: 127.0.0.1\n  port: {UNBOUND}\n  num-threads: 1\n  do-daemonize: no\n  \
         username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  verbosity: 0\n  \
         module-config: \"iterator\"\n  access-control: 127.0.0.0/8 allow\n"
    );
    for (name, address) in zone {
        writeln!(text, "  local-data: \"{name}. A {address}\"")?;
    }
    text.push_str("remote-control:\n  control-enable: no\n");
    let file = folder.join("unbound.conf");
    fs::write(&file, text)?;
    let args = ["-d".to_owned(), "-c".to_owned(), file.display().to_string()];
    let at = (Ipv4Addr::LOCALHOST, UNBOUND).into();
    Peer { program: Program::start(netns, program, &args)?, at }.ready(netns, &zone[0].0)
}

pub(super) fn dnsmasq(
    program: &Path,
    netns: &Path,
    folder: &Path,
    zone: &[(String, String)],
) -> Result<Peer> {
    let mut hosts = String::new();
    for (name, address) in zone {
        writeln!(hosts, "{address} {name}")?;
    }
    let file = folder.join("dnsmasq.hosts");
    fs::write(&file, hosts)?;
    let args = [
        "--keep-in-foreground".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        format!("--addn-hosts={}", file.display()),
        format!("--port={DNSMASQ}"),
        "--listen-address=127.0.0.1".to_owned(),
        "--bind-interfaces".to_owned(),
        "--user=root".to_owned(),
        "--pid-file".to_owned(),
    ];
    let at = (Ipv4Addr::LOCALHOST, DNSMASQ).into();
    Peer { program: Program::start(netns, program, &args)?, at }.ready(netns, &zone[0].0)
}
