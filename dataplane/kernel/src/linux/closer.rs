//! Closes sockets on a thread of its own: those into sandboxes, and those into the node's and the overlays' namespace that do not
//! stay open.
//!
//! A socket of the netfilter family that closes waits in the kernel until what nf_tables removed before is freed: an RCU grace
//! period, 8 ms and more, for each change of a task. Nobody has to wait with it. A sandbox's namespace may
//! outlive its name by that; `DelNetns` waits ([`Closer::wait`]).
//!
//! The thread ends with the value, after the last socket. Where it cannot be had, sockets close where they are used.

use std::any::Any;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Sockets that wait to be closed. Beyond that the caller waits: so few files stay open, however fast operations follow.
const DEPTH: usize = 16;

#[derive(Debug)]
enum Job {
    Close(Box<dyn Any + Send>),
    /// All before it are closed.
    Tell(SyncSender<()>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Closer {
    jobs: SyncSender<Job>,
}

impl Closer {
    pub(super) fn start() -> Self {
        let (jobs, queue) = sync_channel(DEPTH);
        // A thread that does not start drops the queue's end.
        drop(thread::Builder::new().name("closer".into()).spawn(move || serve(&queue)));
        Self { jobs }
    }

    pub(super) fn close(&self, socket: impl Any + Send) {
        // Without the thread it is closed here.
        drop(self.jobs.send(Job::Close(Box::new(socket))));
    }

    /// Ends when everything handed over before is closed.
    pub(super) fn wait(&self) {
        let (tell, told) = sync_channel(1);
        if self.jobs.send(Job::Tell(tell)).is_ok() {
            // An error means that the thread is gone, and with it all that was open.
            told.recv().ok();
        }
    }
}

fn serve(queue: &Receiver<Job>) {
    for job in queue {
        match job {
            Job::Close(socket) => drop(socket),
            // Who does not wait any more is not told.
            Job::Tell(tell) => drop(tell.send(())),
        }
    }
}
