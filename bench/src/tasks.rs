//! Tasks by the thousand, for what has to know them: reserved through `Dispatcher.Attach` with an agent's own certificate, as its
//! daemon does for a sandbox, and reported as ready. Addresses, services and endpoints are real in the replicated state and on every
//! node that has to know them; only the sandboxes do not exist, but as folders of ones that are on their way, so nothing answers at
//! the addresses. That all are still there at the end of a measurement is checked ([`check`]).

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_proto::v1::dispatcher_client::DispatcherClient;
use swarmnet_types::SandboxId;
use tonic::transport::Channel;

use crate::api::Api;
use crate::lab::NETWORK;

/// Calls under way at once.
const PARALLEL: usize = 64;
/// Endpoints in one report of their condition.
const REPORTED: usize = 500;
/// How long all nodes may take to acknowledge.
const KNOWN_MAX: Duration = Duration::from_mins(3);
/// Before that is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Of each task the one on the network and, if it has one, the one on the ingress fabric.
    pub(crate) endpoints: Vec<Bytes>,
    /// Time of the calls.
    pub(crate) calls: Duration,
    /// From the last call's end until every node had all of it in its kernel.
    pub(crate) known: Duration,
}

/// The service of that number.
pub(crate) fn service(number: u32) -> String {
    format!("s{number:05}")
}

/// Makes tasks of these numbers on the node that `api` speaks as, in `services` services, and waits until every node has them.
pub(crate) fn make(api: &Api, numbers: Range<u32>, services: u32) -> Result<Made> {
    if numbers.is_empty() {
        return Ok(Made::default());
    }
    api.run(|| async {
        let channel = api.channel();
        let sandboxes: Vec<(u32, SandboxId)> =
            numbers.map(|number| (number, SandboxId::from_bytes(rand::random()))).collect();
        sandboxes.iter().try_for_each(|(_, sandbox)| api.begin(*sandbox))?;
        let begun = Instant::now();
        let endpoints: Vec<Bytes> = stream::iter(sandboxes)
            .map(|(number, sandbox)| attach(channel.clone(), (number, sandbox), number % services))
            .buffered(PARALLEL)
            .try_concat()
            .await?;
        let mut revision = 0;
        for some in endpoints.chunks(REPORTED) {
            revision = report(channel.clone(), some, v1::Condition::Ready).await?;
        }
        let called = Instant::now();
        known(channel, revision).await?;
        Ok(Made { endpoints, calls: called.duration_since(begun), known: called.elapsed() })
    })
}

async fn attach(
    channel: Channel,
    (number, sandbox): (u32, SandboxId),
    of: u32,
) -> Result<Vec<Bytes>> {
    let name = format!("t{number:05}");
    let request = v1::AttachRequest {
        sandbox: Bytes::copy_from_slice(sandbox.as_bytes()),
        hostname: name.clone(),
        name,
        service: service(of),
        attachments: vec![v1::AttachmentSpec { network: NETWORK.to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let answer = DispatcherClient::new(channel).attach(request).await?.into_inner();
    Ok(answer.endpoints.into_iter().map(|endpoint| endpoint.id).collect())
}

/// Fails when not all of so many tasks are still on the network: what was measured would not be what it is called.
pub(crate) fn check(api: &Api, tasks: u32) -> Result<()> {
    let held = api.run(|| async {
        let mut control = ControlClient::new(api.channel()).max_decoding_message_size(64 << 20);
        let request = v1::InspectRequest { reference: NETWORK.to_owned() };
        Ok(control.inspect_network(request).await?.into_inner().endpoints.len())
    })?;
    if held < tasks as usize {
        bail!("the network has {held} endpoints, want at least {tasks}: tasks were given back");
    }
    Ok(())
}

/// Says how endpoints fare; the revision that says so.
pub(crate) async fn report(
    channel: Channel,
    endpoints: &[Bytes],
    condition: v1::Condition,
) -> Result<u64> {
    let one = |endpoint: &Bytes| v1::EndpointCondition {
        endpoint: endpoint.clone(),
        condition: condition.into(),
    };
    let conditions = endpoints.iter().map(one).collect();
    let request = v1::ReportRequest { request_id: Bytes::new(), conditions };
    Ok(DispatcherClient::new(channel).report(request).await?.into_inner().revision)
}

/// Ends when every node has `revision` in its kernel.
pub(crate) async fn known(channel: Channel, revision: u64) -> Result<()> {
    let mut control = ControlClient::new(channel);
    let nodes = control.get_cluster(v1::GetClusterRequest {}).await?.into_inner().nodes;
    let begun = Instant::now();
    loop {
        let progress = control.wait(v1::WaitRequest { revision }).await?.into_inner();
        let last = progress.try_fold(None, |_, step| async { Ok(Some(step)) }).await?;
        let last = last.context("a manager told nothing of the progress")?;
        match last.failures.first() {
            // A node that counts as dead for a moment is not waited for there, but here.
            None if last.acked == nodes => return Ok(()),
            Some(failure) if begun.elapsed() > KNOWN_MAX => {
                bail!("revision {revision} is not everywhere: {failure}")
            }
            None if begun.elapsed() > KNOWN_MAX => {
                bail!("revision {revision} is on {} of {nodes} nodes", last.acked)
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
