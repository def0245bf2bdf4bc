//! `lab cut|heal|delay|loss`: what networks do to nodes.

use clap::Args;

use super::record::{Cuts, Lab, split};
use super::wire;
use crate::error::CliError;
use crate::format::print_line;

#[derive(Debug, Args)]
pub(crate) struct CutArgs {
    /// [LAB/]NODE
    a: String,
    /// NODE; without it, all others
    b: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HealArgs {
    /// [LAB/]NODE; without it, everything of the lab `lab`
    a: Option<String>,
    b: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DelayArgs {
    /// [LAB/]NODE
    node: String,
    /// Such as 100ms
    time: String,
}

#[derive(Debug, Args)]
pub(crate) struct LossArgs {
    /// [LAB/]NODE
    node: String,
    /// Such as 5%
    part: String,
}

/// An unordered pair, the lesser first.
fn pair(a: &str, b: &str) -> (String, String) {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    (a.to_owned(), b.to_owned())
}

pub(super) fn cut(args: &CutArgs) -> Result<(), CliError> {
    let (name, a) = split(&args.a);
    let mut lab = Lab::load(name)?;
    lab.node(a)?;
    let others: Vec<String> = match &args.b {
        Some(b) => {
            let (_, b) = split(b);
            vec![lab.node(b)?.node.name.clone()]
        }
        None => lab.nodes.iter().map(|n| n.node.name.clone()).collect(),
    };
    lab.cuts.extend(others.iter().filter(|b| *b != a).map(|b| pair(a, b)));
    change(&lab)
}

pub(super) fn heal(args: &HealArgs) -> Result<(), CliError> {
    let (name, a) = args.a.as_deref().map_or((super::DEFAULT_NAME, None), |reference| {
        let (name, a) = split(reference);
        (name, Some(a))
    });
    let mut lab = Lab::load(name)?;
    match (a, &args.b) {
        (Some(a), Some(b)) => {
            let (_, b) = split(b);
            lab.node(a)?;
            lab.node(b)?;
            lab.cuts.remove(&pair(a, b));
        }
        (Some(a), None) => {
            lab.node(a)?;
            lab.cuts.retain(|(x, y)| x != a && y != a);
        }
        (None, _) => lab.cuts = Cuts::new(),
    }
    change(&lab)
}

fn change(lab: &Lab) -> Result<(), CliError> {
    wire::apply_cuts(lab)?;
    lab.save()?;
    for (a, b) in &lab.cuts {
        print_line(&format!("{a} and {b} do not hear each other"));
    }
    Ok(())
}

pub(super) fn delay(args: &DelayArgs) -> Result<(), CliError> {
    netem(&args.node, &["delay", &args.time])
}

pub(super) fn loss(args: &LossArgs) -> Result<(), CliError> {
    netem(&args.node, &["loss", &args.part])
}

/// Sets a queueing discipline on the node's link by `tc`.
fn netem(reference: &str, words: &[&str]) -> Result<(), CliError> {
    let (name, node) = split(reference);
    let lab = Lab::load(name)?;
    lab.live_node(node)?;
    let mut command = super::enter::command(&lab, node)?;
    command.args(["tc", "qdisc", "replace", "dev", "eth0", "root", "netem"]).args(words);
    super::daemons::output(command).map(drop).map_err(|err| {
        CliError::failure(format!(
            "netem cannot be set on {node}: this kernel may lack it, or `tc` is not installed ({})",
            err.to_string().replace('\n', "; ")
        ))
    })
}
