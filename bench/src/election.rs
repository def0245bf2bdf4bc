//! P7: how long a cluster of three takes no write when its leader is killed. A client that knows the two others writes to both, again
//! and again; the time from the SIGKILL to the first answer has the noticing, the election and the commit in it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::future::select_ok;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::api::Api;
use crate::lab::{Lab, NODES};
use crate::report::{Goal, Measurement};
use crate::writes;

/// Longer than any of it should take.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn run(kills: u32) -> Result<()> {
    let lab = Lab::up(3, 0)?;
    writes::prepare(&Api::new(&lab, "m1", "m1")?, 1)?;
    let mut times = Vec::new();
    for number in 0..kills {
        let leader = settled(&lab)?;
        let mut others = NODES.into_iter().filter(|node| *node != leader);
        let (first, second) = others.next().zip(others.next()).context("three managers")?;
        let apis = [Api::new(&lab, first, first)?, Api::new(&lab, first, second)?];
        lab.kill(&leader)?;
        let begun = Instant::now();
        apis[0].run(|| async {
            let written =
                select_ok(apis.each_ref().map(|api| Box::pin(write(api.channel(), number))));
            timeout(PATIENCE, written).await.context("no manager took a write")?.map(drop)
        })?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        lab.start(&leader)?;
    }
    let what = "the leader is killed: until one of the others has answered a write";
    Measurement::spread("P7", what, "ms", &times).goal("p99", Goal::Below(2_000.0)).print();
    Ok(())
}

/// Writes to one manager until it answers that it is done.
async fn write(manager: Channel, number: u32) -> Result<()> {
    while writes::ours(manager.clone(), 0, number).await.is_err() {
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Waits until all three managers agree on who leads, and that the others can be reached.
fn settled(lab: &Lab) -> Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let told: Vec<_> = NODES.iter().filter_map(|node| lab.managers(node).ok()).collect();
        let whole = told.len() == NODES.len()
            && told.iter().all(|managers| {
                managers == &told[0] && managers.values().all(|s| s == "Leader" || s == "Reachable")
            });
        if whole {
            return lab.leader();
        }
        std::thread::sleep(LOOK_EVERY);
    }
    bail!("the managers do not come together again")
}
