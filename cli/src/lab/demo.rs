//! `lab demo`.

use clap::Args;

use crate::error::CliError;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {}

pub(super) fn run(_args: &DemoArgs) -> Result<(), CliError> {
    Ok(())
}
