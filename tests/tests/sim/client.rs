//! Calls to managers as agents and the command line make them: one request id for all tries of a call, another manager for each try.
//!
//! Times follow `agent/src/local/cluster.rs`; the time of one try is that of a broken connection, not its limit of 20 s.

use std::collections::BTreeMap;

use swarmnet_manager_core::Command;

use crate::Ms;
use crate::bugs::Bug;
use crate::context::Context;
use crate::packet::{CallId, Packet, Place, Reply};
use crate::truth::Op;
use crate::world::MANAGERS;

const ATTEMPTS: u32 = 5;
const PAUSE_MS: Ms = 400;

#[derive(Debug)]
struct Call {
    op: Op,
    command: Command,
    request: [u8; 16],
    manager: usize,
    attempt: u32,
    /// When the try is given up, or, between two tries, when the next begins.
    due: Ms,
    pausing: bool,
}

/// The end of a call.
#[derive(Debug)]
pub(crate) enum End {
    Answered(Reply),
    /// Whether it was done is not known.
    GivenUp,
}

/// The open calls of one process.
#[derive(Debug)]
pub(crate) struct Calls {
    from: Place,
    next: CallId,
    open: BTreeMap<CallId, Call>,
    /// The manager that is asked first.
    manager: usize,
}

impl Calls {
    /// Ids differ between the lives of a process, so that a late answer is nobody's.
    pub(crate) fn new(from: Place, life: u64) -> Self {
        Self { from, next: life << 32, open: BTreeMap::new(), manager: from.machine() % MANAGERS }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn begin(&mut self, command: Command, context: &mut Context<'_>) -> CallId {
        let id = self.next;
        self.next += 1;
        let op = context.truth.begin(&command);
        let request = context.rng.bytes();
        context.truth.request(op, request);
        let manager = self.manager;
        let call = Call { op, command, request, manager, attempt: 0, due: 0, pausing: true };
        self.open.insert(id, call);
        self.attempt(id, context);
        id
    }

    fn attempt(&mut self, id: CallId, context: &mut Context<'_>) {
        let Some(call) = self.open.get_mut(&id) else { return };
        if call.attempt > 0 && context.has(Bug::RetriesAsNew) {
            call.request = context.rng.bytes();
            context.truth.request(call.op, call.request);
        }
        call.attempt += 1;
        call.pausing = false;
        call.due = context.now + context.rng.between(800, 4_000);
        let packet = Packet::Call {
            call: id,
            attempt: call.attempt,
            command: call.command.clone(),
            request: call.request,
        };
        context.send(self.from, Place::Manager(call.manager), packet);
    }

    /// The next manager's turn, after a pause.
    fn fail(&mut self, id: CallId, now: Ms) -> Option<End> {
        let call = self.open.get_mut(&id)?;
        if call.attempt >= ATTEMPTS {
            self.open.remove(&id);
            return Some(End::GivenUp);
        }
        call.manager = (call.manager + 1) % MANAGERS;
        self.manager = call.manager;
        (call.pausing, call.due) = (true, now + PAUSE_MS);
        None
    }

    pub(crate) fn answer(
        &mut self,
        (id, attempt): (CallId, u32),
        reply: Reply,
        context: &mut Context<'_>,
    ) -> Option<End> {
        // An answer that comes after its connection was given up is not heard.
        let call = self.open.get(&id).filter(|c| c.attempt == attempt && !c.pausing)?;
        match reply {
            Reply::Unavailable => self.fail(id, context.now),
            reply => {
                context.truth.answered((call.op, call.request), &reply, context.bug);
                self.open.remove(&id);
                Some(End::Answered(reply))
            }
        }
    }

    pub(crate) fn tick(&mut self, context: &mut Context<'_>) -> Vec<(CallId, End)> {
        let due: Vec<_> =
            self.open.iter().filter(|(_, c)| c.due <= context.now).map(|(id, _)| *id).collect();
        let mut ended = Vec::new();
        for id in due {
            if self.open.get(&id).is_some_and(|c| c.pausing) {
                self.attempt(id, context);
            } else if let Some(end) = self.fail(id, context.now) {
                ended.push((id, end));
            }
        }
        ended
    }
}
