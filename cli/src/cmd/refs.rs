//! What many commands share: `key=value` words, doing a thing for many references, asking first, and waiting until all nodes
//! have a change.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use swarmnet_proto::v1;
use tokio::time::sleep;
use tonic::Status;

use crate::client::Daemon;
use crate::error::{CliError, printable, report};
use crate::format::{interactive, print_line};

/// A wait that takes longer is explained.
const SLOW: Duration = Duration::from_secs(2);

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

/// Waits until every live node that is concerned has the revision in its kernel. On a terminal it shows how far that is; elsewhere it
/// says once whom it waits for when that takes long.
pub(crate) async fn wait(daemon: &mut Daemon, revision: u64) -> Result<(), CliError> {
    let request = v1::WaitRequest { revision };
    let mut progress = daemon.control.wait(request).await?.into_inner();
    let mut last = v1::WaitProgress::default();
    let mut slow = std::pin::pin!(sleep(SLOW));
    let mut drawn = false;
    while !last.done {
        // cancel-safe: a stream's next message stays in it, and the deadline lives outside
        tokio::select! {
            step = progress.message() => match step? {
                Some(step) => last = step,
                None => break,
            },
            () = &mut slow, if last.total > 0 && !interactive() && !slow.is_elapsed() => {
                eprintln!("swarmnet: {}", printable(&waits_for(&last)));
            }
        }
        if interactive() && !last.done {
            eprint!("\r\x1b[2K{}", printable(&waits_for(&last)));
            drawn = true;
        }
    }
    if drawn {
        eprint!("\r\x1b[2K");
    }
    for failure in &last.failures {
        eprintln!("swarmnet: warning: {}", printable(failure));
    }
    Ok(())
}

/// `3 of 5 nodes ready, waiting for a1, a2`.
fn waits_for(step: &v1::WaitProgress) -> String {
    if step.missing.is_empty() {
        return format!("{} of {} nodes ready", step.acked, step.total);
    }
    let left = step.total.saturating_sub(step.acked);
    let named = u32::try_from(step.missing.len()).unwrap_or(left);
    let rest = match left.saturating_sub(named) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let (acked, total, missing) = (step.acked, step.total, step.missing.join(", "));
    format!("{acked} of {total} nodes ready, waiting for {missing}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_waited_for_are_named() {
        let missing = vec!["a1".to_owned(), "a2".to_owned()];
        let step = v1::WaitProgress { acked: 1, total: 3, missing, ..Default::default() };
        assert_eq!(waits_for(&step), "1 of 3 nodes ready, waiting for a1, a2");
        let step = v1::WaitProgress { total: 10, ..step };
        assert_eq!(waits_for(&step), "1 of 10 nodes ready, waiting for a1, a2 and 7 more");
    }
}
