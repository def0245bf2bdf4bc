//! What many commands share: `key=value` words, doing a thing for many references, asking first, and waiting until all nodes
//! have a change.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use swarmnet_proto::v1;
use tonic::Status;

use crate::client::Daemon;
use crate::error::{CliError, report};
use crate::format::{interactive, print_line};

/// `key=value`, or `key` with an empty value; the last of two equal keys wins (`sw:C1`).
pub(crate) fn key_values(words: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let mut map = BTreeMap::new();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.is_empty() {
            return Err(CliError::usage(format!("invalid label '{word}': empty name")));
        }
        if key.chars().any(char::is_whitespace) {
            return Err(CliError::usage(format!("label '{word}' contains whitespaces")));
        }
        map.insert(key.to_owned(), value.to_owned());
    }
    Ok(map)
}

/// Calls `remove` for each reference, prints what went, goes on after a failure, and fails at the end when any did (`sw:C39`).
pub(crate) async fn each_reference<F, Fut>(
    references: &[String],
    mut remove: F,
) -> Result<(), CliError>
where
    F: FnMut(String) -> Fut,
    Fut: Future<Output = Result<String, Status>>,
{
    let mut failed = false;
    for reference in references {
        match remove(reference.clone()).await {
            Ok(removed) => print_line(&removed),
            Err(status) => {
                failed = true;
                report(&status.into());
            }
        }
    }
    if failed { Err(CliError::Reported) } else { Ok(()) }
}

/// Asks on a terminal; without one the answer is yes, so that scripts go on.
pub(crate) fn confirm(question: &str, force: bool) -> Result<(), CliError> {
    if force || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    drop(std::io::stderr().flush());
    let mut answer = String::new();
    drop(std::io::stdin().lock().read_line(&mut answer));
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CliError::failure("nothing was changed"))
    }
}

/// Waits until every live node that is concerned has the revision in its kernel.
pub(crate) async fn wait(daemon: &mut Daemon, revision: u64) -> Result<(), CliError> {
    let request = v1::WaitRequest { revision };
    let mut progress = daemon.control.wait(request).await?.into_inner();
    let mut failures = Vec::new();
    let mut drawn = false;
    while let Some(step) = progress.message().await? {
        if interactive() && !step.done {
            eprint!("\r\x1b[2K{} of {} nodes ready", step.acked, step.total);
            drawn = true;
        }
        failures = step.failures;
        if step.done {
            break;
        }
    }
    if drawn {
        eprint!("\r\x1b[2K");
    }
    for failure in &failures {
        eprintln!("swarmnet: warning: {failure}");
    }
    Ok(())
}
