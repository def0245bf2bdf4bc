//! `swarmnet-bench NAME [--count N]`: measures the real binary in labs. Each measurement is printed as a line of text and as one
//! JSON object. What falls short of its goal is printed as such, and is no failure of the program: it ends non-zero only when
//! something could not be measured. Each run has a lab and a temporary folder of its own, which are removed whatever happens.

#![forbid(unsafe_code)]

mod api;
mod attach;
mod election;
mod handmade;
mod idle;
mod ingress;
mod known;
mod lab;
mod load;
mod names;
mod overlay;
mod process;
mod publish;
mod push;
mod report;
mod rules;
mod stats;
mod tasks;
mod vip;
mod writes;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

/// A measurement: its name, what its count counts and the usual count, and the function.
struct Bench {
    name: &'static str,
    counts: &'static str,
    count: u32,
    run: fn(u32) -> Result<()>,
}

const BENCHES: [Bench; 13] = [
    Bench { name: "publish", counts: "published ports", count: 200, run: publish::run },
    Bench { name: "attach", counts: "attachments", count: 100, run: attach::run },
    Bench { name: "idle", counts: "seconds", count: 60, run: idle::run },
    Bench { name: "known", counts: "seconds for each size", count: 20, run: known::run },
    Bench { name: "overlay", counts: "rounds", count: 7, run: overlay::run },
    Bench { name: "vip", counts: "rounds", count: 7, run: vip::run },
    Bench { name: "scale", counts: "rounds for each size", count: 7, run: vip::scale },
    Bench { name: "ingress", counts: "rounds", count: 7, run: ingress::run },
    Bench { name: "names", counts: "rounds", count: 7, run: names::run },
    Bench {
        name: "writes",
        counts: "rounds for each number of clients",
        count: 5,
        run: writes::run,
    },
    Bench { name: "election", counts: "killed leaders", count: 50, run: election::run },
    Bench { name: "push", counts: "changes", count: 100, run: push::run },
    Bench { name: "rules", counts: "changes", count: 200, run: rules::run },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, count)) = parse(&args) else {
        eprintln!("usage: swarmnet-bench NAME [--count N]\n\n  all");
        for bench in &BENCHES {
            eprintln!("  {:8} {} {}", bench.name, bench.count, bench.counts);
        }
        return ExitCode::from(2);
    };
    match run(name, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("swarmnet-bench: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// The name, and the count when one is given.
fn parse(args: &[String]) -> Option<(&str, Option<u32>)> {
    let (name, count) = match args {
        [name] => (name.as_str(), None),
        [name, flag, count] if flag == "--count" => {
            (name.as_str(), Some(count.parse().ok().filter(|&count| count > 0)?))
        }
        _ => return None,
    };
    let known = name == "all" || BENCHES.iter().any(|bench| bench.name == name);
    // One count for all would mean ports here and seconds there.
    (known && (name != "all" || count.is_none())).then_some((name, count))
}

fn run(name: &str, count: Option<u32>) -> Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("namespaces need root: run it as root");
    }
    for bench in BENCHES.iter().filter(|bench| name == "all" || name == bench.name) {
        (bench.run)(count.unwrap_or(bench.count)).with_context(|| bench.name)?;
    }
    Ok(())
}
