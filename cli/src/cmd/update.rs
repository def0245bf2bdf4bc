//! `swarmnet manager update`

use std::path::Path;

use clap::{ArgAction, Args};

use super::{ca, vault};
use crate::client::Daemon;
use crate::error::CliError;
use crate::format::print_line;
use crate::shape::duration;

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Managers must be unlocked with a key after each start
    #[arg(long, value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    autolock: Option<bool>,
    /// Life of node certificates, from their next renewal on; such as 90d or 2160h
    #[arg(long, value_name = "DURATION")]
    cert_expiry: Option<String>,
}

pub(super) async fn run(args: &UpdateArgs, socket: Option<&Path>) -> Result<(), CliError> {
    let cert_expiry_s = args.cert_expiry.as_deref().map(duration::seconds).transpose()?;
    if args.autolock.is_none() && cert_expiry_s.is_none() {
        return Err(CliError::usage("nothing to change: see `swarmnet manager update --help`"));
    }
    let mut daemon = Daemon::connect(socket).await?;
    // The one that managers may refuse comes first: nothing is changed then.
    if let Some(cert_expiry_s) = cert_expiry_s {
        ca::set_expiry(&mut daemon, cert_expiry_s).await?;
    }
    let hint = match args.autolock {
        Some(on) => vault::set_autolock(&mut daemon, on).await?,
        None => None,
    };
    print_line("Swarm updated.");
    if let Some(hint) = hint {
        print_line(&format!("\n{hint}"));
    }
    Ok(())
}
