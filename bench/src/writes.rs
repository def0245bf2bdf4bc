//! B7: committed writes of a cluster of three, each on the disk of a majority before it is answered, against etcd in the same
//! namespaces on the same disk, and against the disk alone.

mod etcd;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::try_join_all;
use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;
use tonic::transport::Channel;

use crate::api::Api;
use crate::lab::Lab;
use crate::report::{Arms, Goal, Measurement, in_turns};
use crate::stats::{median, quantile};
use etcd::Etcd;

/// Of one write, on all sides.
pub(crate) const VALUE_BYTES: usize = 256;
const CLIENTS: [u32; 3] = [1, 16, 64];
const TIME: Duration = Duration::from_secs(3);
/// Room that the disk's own loop writes in, over and over, as a log does.
const FILE_BYTES: u64 = 64 << 20;

/// What one arm came to in one round.
#[derive(Clone, Copy)]
struct Written {
    per_s: f64,
    p50_ms: f64,
}

pub(crate) fn run(rounds: u32) -> Result<()> {
    let program = etcd::program()?;
    let lab = Lab::up(3, 0)?;
    let folder = Path::new(lab.folder("m1")?);
    let etcd = Etcd::start(&program, &lab)?;
    let api = Api::new(&lab, "m1", "m1")?;
    prepare(&api, CLIENTS[2])?;
    for clients in CLIENTS {
        let (mut speed, mut late, mut disk) = (Arms::default(), Arms::default(), Vec::new());
        for _ in 0..rounds {
            let [ours, theirs, floor] = in_turns(&mut [
                &mut || api.run(|| load(clients, || api.channel(), ours)),
                &mut || etcd.run(|| load(clients, || etcd.channel(), etcd::put)),
                &mut || floor(&folder.join("floor")),
            ])?;
            speed.put(ours.per_s, theirs.per_s);
            late.put(ours.p50_ms, theirs.p50_ms);
            disk.push(floor.per_s);
        }
        let what = format!("writes to three managers, clients: {clients}: against etcd");
        Measurement::ratio("B7", &what, "1/s", &speed).goal("ratio", Goal::AtLeast(1.0)).print();
        let what = format!("{what}, p50");
        Measurement::ratio("B7", &what, "ms", &late).print();
        let figures =
            [("flushes", median(&disk)), ("ours_by_flushes", median(&speed.ours) / median(&disk))];
        let what = format!(
            "pwrite and fdatasync of {VALUE_BYTES} bytes on the same disk, one after the other"
        );
        Measurement::of("B7", &what, "1/s", figures.into()).print();
    }
    Ok(())
}

/// A service for each client, on no network: what is written concerns no node.
pub(crate) fn prepare(api: &Api, clients: u32) -> Result<()> {
    api.run(|| async {
        let mut control = ControlClient::new(api.channel());
        for client in 0..clients {
            let spec = v1::ServiceSpec {
                name: key(client),
                endpoint_mode: v1::EndpointMode::Vip.into(),
                algorithm: v1::Algorithm::Random.into(),
                ..Default::default()
            };
            let request = v1::CreateServiceRequest { request_id: Bytes::new(), spec: Some(spec) };
            control.create_service(request).await?;
        }
        Ok(())
    })
}

/// What a client writes to, on both sides.
fn key(client: u32) -> String {
    format!("client-{client}")
}

/// Another value each time: an equal one might be found to change nothing.
fn value(number: u32) -> String {
    format!("{number:0VALUE_BYTES$}")
}

/// A label of the client's service gets another value.
pub(crate) async fn ours(channel: Channel, client: u32, number: u32) -> Result<()> {
    let request = v1::UpdateServiceRequest {
        reference: key(client),
        labels_add: HashMap::from([("value".to_owned(), value(number))]),
        ..Default::default()
    };
    ControlClient::new(channel).update_service(request).await?;
    Ok(())
}

/// Clients with a connection each; every one waits for its answer before it writes again.
async fn load<F: Future<Output = Result<()>>>(
    clients: u32,
    channel: impl Fn() -> Channel,
    write: impl Fn(Channel, u32, u32) -> F,
) -> Result<Written> {
    let channels: Vec<Channel> = (0..clients).map(|_| channel()).collect();
    // Connections are made before the clock runs.
    let connected =
        channels.iter().zip(0..).map(|(channel, client)| write(channel.clone(), client, 0));
    try_join_all(connected).await?;
    let begun = Instant::now();
    let all = channels.iter().zip(0..).map(|(channel, client)| {
        let write = &write;
        async move {
            let mut times = Vec::new();
            while begun.elapsed() < TIME {
                let start = Instant::now();
                let number = u32::try_from(times.len() + 1).expect("a few seconds' worth");
                write(channel.clone(), client, number).await?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            Ok::<_, anyhow::Error>(times)
        }
    });
    let times = try_join_all(all).await?.concat();
    Ok(Written::of(&times, begun.elapsed()))
}

/// What the disk gives to one writer that flushes each record, in a file that is there already.
fn floor(path: &Path) -> Result<Written> {
    let mut file = File::create(path)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    let (begun, mut times, mut at) = (Instant::now(), Vec::new(), 0);
    while begun.elapsed() < TIME {
        let start = Instant::now();
        file.write_all_at(&[1; VALUE_BYTES], at)?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        at = (at + VALUE_BYTES as u64) % FILE_BYTES;
    }
    let written = Written::of(&times, begun.elapsed());
    fs::remove_file(path)?;
    Ok(written)
}

impl Written {
    fn of(times: &[f64], elapsed: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a count of writes far below 2^53")]
        let per_s = times.len() as f64 / elapsed.as_secs_f64();
        Self { per_s, p50_ms: quantile(times, 0.5) }
    }
}
