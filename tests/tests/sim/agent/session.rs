//! The stream from a manager: hello, pushes, acknowledgements, as `agent/src/session.rs` makes them; orphans.

use std::sync::Arc;

use swarmnet_agent::local::sandboxes::orphans;
use swarmnet_agent::session::{News, fold};
use swarmnet_manager_core::Pushed;
use swarmnet_types::{NodeView, Revision};

use crate::Ms;
use crate::bugs::Bug;
use crate::context::Context;
use crate::packet::{Packet, Place, StreamId, Word};
use crate::world::MANAGERS;

use super::Agent;

/// As in `session.rs`.
const HEARTBEAT_MS: Ms = 1_000;
const SILENCE_MAX_MS: Ms = 2_500;

/// As in `orphans.rs`, but for its pause without a new view.
const ORPHANS_EVERY_MS: Ms = 1_000;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) manager: usize,
    pub(super) heard: Ms,
    pub(super) beat_at: Ms,
}

impl Agent {
    pub(super) fn tick_stream(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        match &mut self.stream {
            None if now >= self.retry_at => self.open(context),
            Some(stream) if now > stream.heard + SILENCE_MAX_MS => self.close(true, context),
            Some(stream) if now >= stream.beat_at => {
                stream.beat_at = now + HEARTBEAT_MS;
                self.say(Word::AgentBeat, context);
            }
            None | Some(_) => {}
        }
        self.acknowledge(context);
    }

    fn open(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let (id, manager) = (self.next_stream, self.manager);
        self.next_stream += 1;
        self.stream = Some(Stream { id, manager, heard: now, beat_at: now + HEARTBEAT_MS });
        let have = self.view.as_ref().filter(|_| !self.resync).map(|v| v.revision);
        let sandboxes = self.store.sandboxes.keys().chain(&self.begun).copied().collect();
        self.told_kernel = Revision::default();
        self.say(Word::Hello { have: have.unwrap_or_default(), sandboxes }, context);
    }

    fn say(&self, word: Word, context: &mut Context<'_>) {
        let Some(stream) = &self.stream else { return };
        let packet = Packet::Stream { id: stream.id, word };
        context.send(self.place(), Place::Manager(stream.manager), packet);
    }

    /// The next stream begins a moment later, at another manager when this one is to be left.
    fn close(&mut self, leave: bool, context: &mut Context<'_>) {
        if leave {
            self.manager = (self.manager + 1) % MANAGERS;
        }
        self.stream = None;
        self.retry_at = context.now + context.rng.between(50, 500);
    }

    pub(super) fn hear(&mut self, id: StreamId, word: Word, context: &mut Context<'_>) {
        let Some(stream) = self.stream.as_mut().filter(|s| s.id == id) else { return };
        stream.heard = context.now;
        match word {
            Word::Push(pushed) => {
                let news = match *pushed {
                    Pushed::Snapshot(view) => News::Whole(view),
                    Pushed::Delta(delta) => {
                        context.truth.counts.deltas += 1;
                        News::Delta(delta)
                    }
                };
                self.follow(news, context);
            }
            Word::End => {
                self.resync = false;
                self.close(true, context);
            }
            Word::ManagerBeat | Word::Hello { .. } | Word::Ack { .. } | Word::AgentBeat => {}
        }
    }

    fn follow(&mut self, mut news: News, context: &mut Context<'_>) {
        if context.has(Bug::AppliesForeignDelta)
            && let (News::Delta(delta), Some(view)) = (&mut news, &self.view)
        {
            delta.applies_to = view.revision;
        }
        if context.has(Bug::ServesBeforeCatchUp)
            && let News::Whole(view) = news
        {
            return self.take(Arc::new(view), context);
        }
        let mut next = self.view.clone();
        match fold(&mut next, news) {
            Ok(()) => self.take(next.expect("a view was followed"), context),
            Err(unfit) => {
                context.truth.counts.unfit += 1;
                context.trace.line(context.now, format_args!("agent {}: {unfit}", self.me));
                let gap = unfit.is_gap();
                self.resync = gap;
                self.close(!gap, context);
            }
        }
    }

    pub(super) fn take(&mut self, view: Arc<NodeView>, context: &mut Context<'_>) {
        self.resync = false;
        context.truth.viewed(self.me, self.view.as_ref(), &view);
        context.trace.line(context.now, format_args!("agent {} at {}", self.me, view.revision));
        self.view = Some(view);
        self.bring_soon(context);
    }

    pub(super) fn tick_orphans(&mut self, context: &mut Context<'_>) {
        let Some(view) = &self.view else { return };
        if context.now < self.orphans_at || context.has(Bug::ReleasesWhatHelloLacks) {
            return;
        }
        self.orphans_at = context.now + ORPHANS_EVERY_MS;
        let (store, begun) = (&self.store, &self.begun);
        let is_known = |id| store.sandboxes.contains_key(&id) || begun.contains(&id);
        let gone = orphans(view, |e| is_known(e.sandbox));
        self.store.releases.extend(gone);
    }

    fn acknowledge(&mut self, context: &mut Context<'_>) {
        if self.stream.is_some() && self.told_kernel != self.in_kernel {
            self.told_kernel = self.in_kernel;
            self.say(Word::Ack { revision: self.in_kernel }, context);
        }
    }
}
