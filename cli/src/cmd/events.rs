//! `swarmnet events`: what happens to the cluster, as it happens.
//!
//! The daemon hands on what one manager tells. When that one is gone, another goes on after the last revision that was told: nothing is
//! told twice, and what is missing is said.

use std::time::Duration;

use clap::Args;
use swarmnet_proto::v1;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

use crate::client::Daemon;
use crate::error::{CliError, check_template, report};
use crate::format::Lines;
use crate::shape::event::{self, Wanted};
use crate::shape::stamp;

/// Before a manager is asked again.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Also what happened since then: RFC 3339, Unix seconds, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End there: as for --since; a length of time is from now on
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// type=, event=, network=, service=, node=, endpoint=, label=
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
    /// `json`, one object a line, or a template such as '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(crate) async fn run(args: EventsArgs, daemon: Daemon) -> Result<(), CliError> {
    check_template(args.format.as_deref())?;
    let now_ms = stamp::now_ms();
    let since_ms = args.since.as_deref().map(|text| stamp::before(text, now_ms)).transpose()?;
    let until_ms = args.until.as_deref().map(|text| stamp::after(text, now_ms)).transpose()?;
    let wanted = Wanted::parse(&args.filters)?;
    let lines = Lines::parse(args.format.as_deref())?;
    // 0 would mean that nothing of the past is asked for.
    let since_ms = since_ms.map_or(0, |since| since.max(1));
    let mut reader = Reader { daemon, since_ms, until_ms, told: 0, stream: None };
    loop {
        let Some(news) = reader.next().await? else { return Ok(()) };
        if news.forgotten > 0 {
            report(&CliError::failure(format_args!(
                "what happened up to revision {} is not known any more",
                news.forgotten
            )));
        }
        for event in &news.events {
            if until_ms.is_some_and(|until| event.time_ms > until) {
                return Ok(());
            }
            if !wanted.allows(event) {
                continue;
            }
            if !lines.print(&event::row(event), || event::line(event))? {
                // Nobody reads any more.
                return Ok(());
            }
        }
    }
}

/// Where this reader is.
struct Reader {
    daemon: Daemon,
    since_ms: u64,
    until_ms: Option<u64>,
    /// The revision up to which all is told; 0: nothing was said yet.
    told: u64,
    stream: Option<Streaming<v1::EventsResponse>>,
}

impl Reader {
    /// `None`: the time is over.
    async fn next(&mut self) -> Result<Option<v1::EventsResponse>, CliError> {
        // What is known already is told, also when the time is over.
        let Some(until_ms) = self.until_ms.filter(|_| self.told > 0) else {
            return self.told().await.map(Some);
        };
        let left = Duration::from_millis(until_ms.saturating_sub(stamp::now_ms()));
        // cancel-safe: nothing is asked after it.
        timeout(left, self.told()).await.ok().transpose()
    }

    async fn told(&mut self) -> Result<v1::EventsResponse, CliError> {
        let mut complained = false;
        loop {
            let status = match self.ask().await {
                Ok(Some(news)) => {
                    self.told = news.revision;
                    return Ok(news);
                }
                // The manager has ended it.
                Ok(None) => Status::unavailable("the manager stopped"),
                Err(status) => status,
            };
            self.stream = None;
            if self.told == 0 || status.code() != Code::Unavailable {
                return Err(status.into());
            }
            if complained {
                sleep(PAUSE).await;
            }
            complained = true;
        }
    }

    async fn ask(&mut self) -> Result<Option<v1::EventsResponse>, Status> {
        if self.stream.is_none() {
            let request = v1::EventsRequest { after: self.told, since_ms: self.since_ms };
            self.stream = Some(self.daemon.control.events(request).await?.into_inner());
        }
        match &mut self.stream {
            Some(stream) => stream.message().await,
            None => Ok(None),
        }
    }
}
