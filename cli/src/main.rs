//! `swarmnet`: the one binary. Reads the command line, runs one command, and turns its result into one line and an exit status.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod client;
mod cmd;
mod daemon;
mod error;
mod format;
mod lab;
mod shape;

use error::CliError;

fn main() -> ExitCode {
    let cli = cmd::Cli::parse();
    match cmd::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            error::report(&err);
            ExitCode::from(err.exit_status())
        }
    }
}
