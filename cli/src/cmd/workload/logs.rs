//! `swarmnet logs`: what a supervised process wrote, from its json-file log.

use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::path::Path;

use clap::Args;
use serde::Deserialize;

use crate::client::Daemon;
use crate::cmd::sandbox;
use crate::error::CliError;

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    sandbox: String,
    /// Go on as more is written
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<usize>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
}

/// One line of a json-file log, as Docker writes them.
#[derive(Debug, Deserialize)]
struct Line {
    log: String,
    stream: String,
    time: String,
}

/// How often a followed log is looked at: a person does not see the difference, and it costs one `stat`.
const FOLLOW_INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

pub(crate) async fn run(args: LogsArgs, mut daemon: Daemon) -> Result<(), CliError> {
    let found = sandbox::find(&mut daemon, &args.sandbox).await?;
    let path = found.process.map(|p| p.log_path).filter(|p| !p.is_empty()).ok_or_else(|| {
        CliError::failure(format!(
            "{} runs no process of swarmnet's, so it has no log",
            args.sandbox
        ))
    })?;
    let mut at = print_from(Path::new(&path), 0, &args)?;
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        let running = sandbox::find(&mut daemon, &args.sandbox)
            .await
            .is_ok_and(|s| s.process.is_some_and(|p| p.state == "running"));
        // A rotated file starts anew.
        let len = std::fs::metadata(&path).map_or(0, |m| m.len());
        let all = LogsArgs { tail: None, sandbox: String::new(), ..args };
        at = print_from(Path::new(&path), if len < at { 0 } else { at }, &all)?;
        if !running {
            return Ok(());
        }
    }
}

/// Prints whole lines from an offset on; returns where to go on.
fn print_from(path: &Path, at: u64, args: &LogsArgs) -> Result<u64, CliError> {
    let fail = |err| CliError::failure(format!("cannot read {}: {err}", path.display()));
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut reader = BufReader::new(file);
    reader.seek(std::io::SeekFrom::Start(at)).map_err(fail)?;
    let (mut next, mut text, mut lines) = (at, String::new(), Vec::new());
    loop {
        text.clear();
        let read = reader.read_line(&mut text).map_err(fail)?;
        if read == 0 || !text.ends_with('\n') {
            break;
        }
        next += read as u64;
        lines.extend(serde_json::from_str::<Line>(&text));
    }
    let skip = args.tail.map_or(0, |n| lines.len().saturating_sub(n));
    lines[skip..].iter().for_each(|line| show(line, args.timestamps));
    Ok(next)
}

fn show(line: &Line, timestamps: bool) {
    let text = if timestamps { format!("{} {}", line.time, line.log) } else { line.log.clone() };
    if line.stream == "stderr" {
        drop(std::io::stderr().write_all(text.as_bytes()));
    } else {
        crate::format::emit(&text);
    }
}
