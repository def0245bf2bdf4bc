//! B6: names answered per second of processor time, and how late, by a daemon in one of its sandboxes and by unbound and dnsmasq in
//! the same namespace with the same names.

mod load;
mod servers;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;

use crate::api::Api;
use crate::lab::Lab;
use crate::process::cpu_seconds;
use crate::report::{Arms, Goal, Measurement, in_turns};
use crate::stats::quantile;
use crate::tasks;
use load::{Pace, ask};
use servers::{Server, dnsmasq, unbound};

const NAMES: u32 = 1_000;
const TIME: Duration = Duration::from_secs(2);
/// Queries under way at once when as many as possible are asked.
const WINDOW: u32 = 64;
/// Well below what the slowest answers.
const PER_S: f64 = 10_000.0;
/// Where sandboxes find the daemon.
const OURS: ([u8; 4], u16) = ([127, 0, 0, 11], 53);

/// What one arm came to in one round.
struct Answered {
    per_cpu_s: f64,
    per_s: f64,
    p99_us: f64,
}

pub(crate) fn run(rounds: u32) -> Result<()> {
    let programs = (servers::unbound_program()?, servers::dnsmasq_program()?);
    let lab = Lab::up(1, 2)?;
    lab.wide_overlay()?;
    let (_, netns) = lab.sandbox("a2", "client", None)?;
    let others = Api::new(&lab, "a1", "m1")?;
    tasks::make(&others, 0..NAMES, NAMES)?;
    let zone = zone(&others)?;
    let names: Vec<String> = zone.iter().map(|(name, _)| name.clone()).collect();
    let folder = Path::new(lab.folder("a2")?);
    let (unbound, dnsmasq) = (
        unbound(&programs.0, &netns, folder, &zone)?,
        dnsmasq(&programs.1, &netns, folder, &zone)?,
    );
    let ours = Server { pid: lab.daemon("a2")?, at: OURS.into() };

    let peers = [("unbound", unbound.server()), ("dnsmasq", dnsmasq.server())];
    let mut arms: [[Arms; 3]; 2] = Default::default();
    for _ in 0..rounds {
        let one = |server: Server| measure(&netns, server, &names);
        let [a, b, c] =
            in_turns(&mut [&mut || one(ours), &mut || one(peers[0].1), &mut || one(peers[1].1)])?;
        for (arms, peer) in arms.iter_mut().zip([b, c]) {
            arms[0].put(a.per_cpu_s, peer.per_cpu_s);
            arms[1].put(a.p99_us, peer.p99_us);
            arms[2].put(a.per_s, peer.per_s);
        }
    }
    tasks::check(&others, NAMES)?;
    for ((peer, _), [cpu, late, speed]) in peers.iter().zip(&arms) {
        let what =
            format!("{NAMES} names: answers for each second of processor time against {peer}");
        Measurement::ratio("B6", &what, "1/s", cpu).goal("ratio", Goal::AtLeast(1.0)).print();
        let what = format!("{NAMES} names: p99 at {PER_S} queries/s against {peer}");
        Measurement::ratio("B6", &what, "us", late).goal("ratio", Goal::AtMost(1.0)).print();
        let what =
            format!("{NAMES} names: answers/s with {WINDOW} queries under way against {peer}");
        Measurement::ratio("B6", &what, "1/s", speed).print();
    }
    Ok(())
}

/// As many as possible, then at a rate that all can bear.
fn measure(netns: &Path, server: Server, names: &[String]) -> Result<Answered> {
    let before = cpu_seconds(server.pid)?;
    let most = ask(netns, server.at, names, (Pace::Window(WINDOW), TIME))?;
    let spent = cpu_seconds(server.pid)? - before;
    let calm = ask(netns, server.at, names, (Pace::PerSecond(PER_S), TIME))?;
    #[expect(clippy::cast_precision_loss, reason = "a count of answers far below 2^53")]
    let answers = most.len() as f64;
    Ok(Answered {
        per_cpu_s: answers / spent,
        per_s: answers / TIME.as_secs_f64(),
        p99_us: quantile(&calm, 0.99),
    })
}

/// The services' names and virtual addresses, as the cluster gave them.
fn zone(api: &Api) -> Result<Vec<(String, String)>> {
    api.run(|| async {
        let mut control = ControlClient::new(api.channel()).max_decoding_message_size(64 << 20);
        let listed = control.list_services(v1::ListServicesRequest {}).await?.into_inner();
        let services = listed.services.into_iter().filter_map(|detail| detail.service);
        services
            .map(|service| {
                let vip = service.vips.first().and_then(|at| at.vip.as_ref());
                let vip = vip.and_then(|vip| <[u8; 4]>::try_from(&vip.v4[..]).ok());
                let vip = vip.with_context(|| format!("{} has no address", service.name))?;
                Ok((service.name, Ipv4Addr::from(vip).to_string()))
            })
            .collect()
    })
}
