//! `swarmnet`: the one binary. Reads the command line, runs one command, and turns its result into one line and an exit status.
#![forbid(unsafe_code)]
// Doc comments of arguments are their help texts, in which brackets mean "may be left out".
#![allow(rustdoc::broken_intra_doc_links, reason = "clap shows these comments to users")]

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

mod client;
mod cmd;
mod daemon;
mod error;
mod format;
mod lab;
mod shape;

use error::CliError;

fn main() -> ExitCode {
    let cli = match cmd::Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(err) if err.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => err.exit(),
        Err(err) => {
            let err = CliError::usage(error::words(&err));
            error::report(&err);
            return ExitCode::from(err.exit_status());
        }
    };
    match cmd::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            error::report(&err);
            ExitCode::from(err.exit_status())
        }
    }
}
