//! Every method of every service, with messages that no client of ours sends. What there is to call comes from the descriptors: a new
//! method is covered by being there.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use swarmnet_tests::mutate;
use swarmnet_tests::rng::Rng;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::message::{self, Words};
use crate::raw;

/// Calls of one method.
const CALLS: usize = 120;
/// Calls at once: a manager is used to that many.
const AT_ONCE: usize = 8;
/// Longer than any patience of a manager's own.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// Answers of a stream that are waited for, and for how long; some have no end.
const ANSWERS: usize = 3;
const STREAM_MAX: Duration = Duration::from_millis(300);
/// More than a server takes in one message.
const LARGE: usize = 5 << 20;

/// All services of the protocol.
pub(crate) fn services() -> Vec<ServiceDescriptor> {
    let pool = DescriptorPool::decode(swarmnet_proto::DESCRIPTORS).expect("our descriptors");
    pool.services().collect()
}

/// What went wrong, one line each; a refusal is nothing wrong.
pub(crate) type Faults = BTreeSet<String>;

/// Calls each method of a service so often. Whether it is served here.
pub(crate) async fn storm(
    channel: &Channel,
    service: &ServiceDescriptor,
    words: &Words,
    faults: &mut Faults,
) -> bool {
    let mut is_served = false;
    for method in service.methods() {
        let mut rng = Rng::new(seed(method.full_name()));
        let calls: Vec<_> = (0..CALLS).map(|at| calls(&mut rng, at, &method, words)).collect();
        let answers = stream::iter(calls)
            .map(|messages| answer(channel, &method, messages))
            .buffer_unordered(AT_ONCE);
        let answers: Vec<_> = answers.collect().await;
        is_served |= answers.iter().any(|answer| !is_unknown(answer.as_ref()));
        faults.extend(answers.iter().filter_map(|answer| fault(&method, answer.as_ref())));
    }
    is_served
}

/// FNV-1a: each method has its own calls, whatever there is beside it.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The messages of one call.
fn calls(rng: &mut Rng, at: usize, method: &MethodDescriptor, words: &Words) -> Vec<Bytes> {
    // A call with one message is called with none or two now and then, too.
    let many = if method.is_client_streaming() || rng.chance(50) { rng.index(4) } else { 1 };
    (0..many)
        .map(|_| {
            let mut bytes = match at {
                0 => Vec::new(),
                1 => vec![0; LARGE],
                _ => message::any(rng, &method.input(), words),
            };
            match at % 4 {
                _ if at < 2 => {}
                0 => mutate::mutate(rng, &mut bytes),
                1 if at % 8 == 1 => {
                    let len = rng.index(300);
                    bytes = mutate::noise(rng, len);
                }
                _ => {}
            }
            bytes.into()
        })
        .collect()
}

async fn answer(
    channel: &Channel,
    method: &MethodDescriptor,
    messages: Vec<Bytes>,
) -> Option<Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let answered = timeout(ANSWER_MAX, raw::call(channel, &path, stream::iter(messages))).await;
    let answers = match answered {
        Err(_elapsed) => return Some(Status::deadline_exceeded("there is no answer")),
        Ok(Err(status)) => return Some(status),
        Ok(Ok(answers)) => answers,
    };
    let rest = answers.take(ANSWERS).fold(None, |_, answer| async { answer.err() });
    let patience = if method.is_server_streaming() { STREAM_MAX } else { ANSWER_MAX };
    match timeout(patience, rest).await {
        Ok(last) => last,
        Err(_elapsed) if method.is_server_streaming() => None,
        Err(_elapsed) => Some(Status::deadline_exceeded("the answer has no end")),
    }
}

fn is_unknown(answer: Option<&Status>) -> bool {
    let unknown = |status: &Status| {
        let code = status.code();
        code == Code::Unimplemented
            || code == Code::PermissionDenied && status.message().contains("no row")
    };
    answer.is_some_and(unknown)
}

/// A connection that broke, or no answer at all. A status of the server's own has no source.
fn fault(method: &MethodDescriptor, answer: Option<&Status>) -> Option<String> {
    let status = answer?;
    let is_late = status.code() == Code::DeadlineExceeded && status.message().starts_with("the");
    let is_broken = status.source().is_some();
    (is_broken || is_late).then(|| format!("{}: {status:?}", method.full_name()))
}

// === what the process itself shows ===

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From here on, panics of any thread are noted: a server whose handler panics goes on here, and stops as a daemon.
pub(crate) fn note_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
        before(info);
    }));
}

pub(crate) fn panics() -> Vec<String> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The most memory that a process has had, in KiB.
pub(crate) fn memory_max_kib(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
