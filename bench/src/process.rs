//! Processes seen from outside: their memory and processor time; and programs that a measurement starts and ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Unit of times in /proc/PID/stat: USER_HZ, 100 on every architecture that this program is built for (proc(5)).
const TICKS_PER_S: f64 = 100.0;

/// Processor time of a process, its ended threads included, user and system, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields 14 and 15; the second may hold blanks and ends with the last bracket.
    let (_, rest) = stat.rsplit_once(')').context("stat without a name")?;
    let fields: Vec<f64> =
        rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(fields.iter().sum::<f64>() / TICKS_PER_S)
}

pub(crate) fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no such field")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// A program that others wrote, which a measurement is compared with.
///
/// # Errors
/// One line that names the Debian package when it is not installed.
pub(crate) fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons are not in every user's path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    match found {
        Some(file) => Ok(file),
        None => bail!("{program} is not installed: apt-get install {package}"),
    }
}

/// A running program, in a network namespace. It is ended with the value.
#[derive(Debug)]
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(netns: &Path, program: &Path, args: &[String]) -> Result<Self> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", netns.display())).arg(program).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("{command:?}"))?))
    }

    /// Its number: `nsenter` becomes the program.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// # Errors
    /// It has ended.
    pub(crate) fn alive(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended: {status}"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended by itself cannot be ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
