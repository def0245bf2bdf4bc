//! `swarmnet`: the one binary. Reads the command line, runs one command, and turns its result into one line and an exit status.
#![forbid(unsafe_code)]
// Doc comments of arguments are their help texts, in which brackets mean "may be left out".
#![allow(rustdoc::broken_intra_doc_links, reason = "clap shows these comments to users")]

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
