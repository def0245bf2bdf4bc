//! Forwarding: what is not ours goes to upstream resolvers as the client wrote it and comes back as the upstream wrote it.
//!
//! A [`Forwarder`] is one set of upstreams with one cache; sandboxes that ask the same servers from the same place share
//! it. Equal queries in flight are asked once. Inputs: queries that parsed. Outputs: replies, and sockets from the caller's
//! factory. Must not look at local names: whoever calls has done so.

mod cache;
mod exchange;
mod response;
mod upstream;

pub use upstream::{NodeSockets, Order, SERVERS_MAX, Transport, UpstreamSockets, Upstreams};

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::sandbox::Scope;
use crate::wire::{self, Query, code};
use cache::{Cache, Found, Key};
use exchange::{Exchanger, Outcome};
use response::{Age, Response};

/// How long a client waits for the upstreams when there is a stale answer (RFC 8767 §5: the client response timer).
const STALE_AFTER: Duration = Duration::from_millis(1800);
/// A flight ends without an answer when the sandbox that started it goes; then the next one that waits starts anew.
const FLIGHTS_MAX: usize = 3;

/// Waiting for the answer to an equal query.
type Flight = watch::Receiver<Option<Outcome>>;

/// Asks one set of upstream resolvers.
pub struct Forwarder {
    exchanger: Exchanger,
    cache: Mutex<Cache>,
    /// Key → the one who asks just now. At most as many as there are queries in flight.
    flights: Mutex<HashMap<Key, Flight>>,
}

/// Where a reply came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Upstream,
    Cache,
    Stale,
    /// No upstream answered: the reply says "server failure".
    Nobody,
}

#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) reply: Vec<u8>,
    pub(crate) source: Source,
    pub(crate) truncated: bool,
}

/// A client's query.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) message: Arc<[u8]>,
    pub(crate) query: Query,
    /// How long a reply the client takes.
    pub(crate) limit_bytes: usize,
}

impl Forwarder {
    pub fn new(upstreams: Upstreams) -> Self {
        Self {
            exchanger: Exchanger::new(upstreams),
            cache: Mutex::default(),
            flights: Mutex::default(),
        }
    }

    /// The reply to `asked`, from the cache or an upstream. Work that others may wait for too runs in `scope`.
    pub(crate) async fn relay(self: &Arc<Self>, asked: &Asked, scope: &Scope) -> Relayed {
        let Some(key) = Key::of(&asked.query) else {
            let outcome = self.exchanger.ask(&asked.message, &asked.query).await;
            return asked.relayed(outcome, None);
        };
        let mut stale = None;
        for _ in 0..FLIGHTS_MAX {
            match self.cached(&key) {
                Found::Fresh { response, elapsed_s } => {
                    return asked.reply(&response, Age::Seconds(elapsed_s), Source::Cache);
                }
                Found::Stale { response, held: true } => {
                    return asked.reply(&response, Age::Stale, Source::Stale);
                }
                Found::Stale { response, held: false } => stale = Some(response),
                Found::Nothing => {}
            }
            let mut flight = self.join(&key, asked, scope);
            let landed = flight.wait_for(Option::is_some);
            let landed = match &stale {
                None => landed.await,
                Some(response) => match timeout(STALE_AFTER, landed).await {
                    Ok(landed) => landed,
                    Err(_) => return asked.reply(response, Age::Stale, Source::Stale),
                },
            };
            if let Ok(outcome) = landed
                && let Some(outcome) = &*outcome
            {
                return asked.relayed(outcome.clone(), stale);
            }
        }
        asked.relayed(Outcome::Silence, stale)
    }

    fn cached(&self, key: &Key) -> Found {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key, Instant::now())
    }

    /// The flight of an equal query, or a new one.
    fn join(self: &Arc<Self>, key: &Key, asked: &Asked, scope: &Scope) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        flights.insert(key.clone(), flight.clone());
        drop(flights);
        let pilot = Pilot { forwarder: Arc::clone(self), key: key.clone(), landing };
        let asked = asked.clone();
        scope.spawn(async move { pilot.fly(&asked).await });
        flight
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("exchanger", &self.exchanger).finish_non_exhaustive()
    }
}

/// Asks for all that wait. On drop, done or not, the flight is off the list, and only then do those who wait wake.
struct Pilot {
    forwarder: Arc<Forwarder>,
    key: Key,
    landing: watch::Sender<Option<Outcome>>,
}

impl Pilot {
    async fn fly(self, asked: &Asked) {
        let outcome = self.forwarder.exchanger.ask(&asked.message, &asked.query).await;
        let mut cache = self.forwarder.cache.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Outcome::Answer(response) => cache.put(&self.key, response, Instant::now()),
            Outcome::Failure(_) | Outcome::Silence => cache.hold(&self.key, Instant::now()),
        }
        drop(cache);
        self.landing.send_replace(Some(outcome));
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        let flights = &self.forwarder.flights;
        flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Asked {
    fn reply(&self, response: &Response, age: Age, source: Source) -> Relayed {
        let (reply, truncated) = response.reply(&self.message, &self.query, age, self.limit_bytes);
        Relayed { reply, source, truncated }
    }

    /// The reply after the upstreams had their say: theirs when good, else what is left of the cache, else their failure.
    fn relayed(&self, outcome: Outcome, stale: Option<Arc<Response>>) -> Relayed {
        match (outcome, stale) {
            (Outcome::Failure(_) | Outcome::Silence, Some(response)) => {
                self.reply(&response, Age::Stale, Source::Stale)
            }
            (Outcome::Answer(response) | Outcome::Failure(response), _) => {
                self.reply(&response, Age::Seconds(0), Source::Upstream)
            }
            (Outcome::Silence, None) => Relayed {
                reply: wire::error_reply(&self.message, &self.query, code::SERVER_FAILURE),
                source: Source::Nobody,
                truncated: false,
            },
        }
    }
}
