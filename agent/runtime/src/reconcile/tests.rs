//! The loop against a kernel of the test: when it observes, plans and waits.

use tokio::sync::mpsc;

use super::*;

const INTERVAL: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    desired: u32,
    retry: Option<Duration>,
}

impl ReconcileStatus for Seen {
    fn retry_after(&self) -> Option<Duration> {
        self.retry
    }
}

/// Reports each round; a wish of 100 or more takes that many ms, an odd one asks for a retry in 5 s.
struct Mock {
    rounds: mpsc::Sender<(u32, Reason)>,
}

impl Reconciler for Mock {
    type Desired = u32;
    type Status = Seen;

    async fn reconcile(&mut self, desired: &u32, reason: Reason) -> Seen {
        self.rounds.send((*desired, reason)).await.unwrap();
        if *desired >= 100 {
            tokio::time::sleep(Duration::from_millis(u64::from(*desired))).await;
        }
        Seen { desired: *desired, retry: (desired % 2 == 1).then_some(Duration::from_secs(5)) }
    }
}

struct Harness {
    supervisor: Supervisor,
    desired: watch::Sender<u32>,
    rounds: mpsc::Receiver<(u32, Reason)>,
    handle: ReconcileHandle<Seen>,
}

impl Harness {
    fn start(first: u32) -> Self {
        let supervisor = Supervisor::new("test");
        let (desired, rx) = watch::channel(first);
        let (tx, rounds) = mpsc::channel(64);
        let handle = super::start(&supervisor, "mock", Mock { rounds: tx }, rx, INTERVAL);
        Self { supervisor, desired, rounds, handle }
    }

    async fn round(&mut self) -> (u32, Reason) {
        self.rounds.recv().await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn runs_at_start_on_change_and_periodically() {
    let mut h = Harness::start(2);
    assert_eq!(h.round().await, (2, Reason::Start));
    h.desired.send_replace(4);
    assert_eq!(h.round().await, (4, Reason::DesiredChanged));
    let before = Instant::now();
    assert_eq!(h.round().await, (4, Reason::Periodic));
    assert_eq!(before.elapsed().as_secs(), INTERVAL.as_secs());
}

#[tokio::test(start_paused = true)]
async fn retries_at_the_time_in_the_status() {
    let mut h = Harness::start(1);
    assert_eq!(h.round().await, (1, Reason::Start));
    let before = Instant::now();
    assert_eq!(h.round().await, (1, Reason::Retry));
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn retries_do_not_starve_the_periodic_round() {
    let mut h = Harness::start(1);
    let mut reasons = Vec::new();
    for _ in 0..14 {
        reasons.push(h.round().await.1);
    }
    assert_eq!(reasons.iter().filter(|r| **r == Reason::Periodic).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_busy_wish_does_not_starve_the_periodic_round() {
    let mut h = Harness::start(2);
    let mut periodic = 0;
    for wish in 0..130 {
        h.desired.send_replace(wish * 2);
        periodic += u32::from(h.round().await.1 == Reason::Periodic);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(periodic, 2);
}

#[tokio::test(start_paused = true)]
async fn wakes_are_merged_and_run_a_full_round() {
    let mut h = Harness::start(2);
    assert_eq!(h.round().await, (2, Reason::Start));
    let waker = h.handle.waker();
    waker.wake();
    waker.wake();
    let (_, reason) = h.round().await;
    assert_eq!(reason, Reason::Woken);
    assert!(reason.wants_full_round());
    assert_eq!(h.round().await, (2, Reason::Periodic));
}

#[tokio::test(start_paused = true)]
async fn a_notice_is_answered_by_a_round_that_is_not_full_or_by_a_full_one() {
    let mut h = Harness::start(2);
    assert_eq!(h.round().await, (2, Reason::Start));
    let waker = h.handle.waker();
    waker.notice();
    let (_, reason) = h.round().await;
    assert_eq!(reason, Reason::Noticed);
    assert!(!reason.wants_full_round());
    waker.notice();
    waker.wake();
    waker.notice();
    assert_eq!(h.round().await, (2, Reason::Woken));
    assert_eq!(h.round().await, (2, Reason::Periodic), "both were answered");
}

#[tokio::test(start_paused = true)]
async fn a_wake_at_the_beginning_of_a_round_is_not_lost() {
    let mut h = Harness::start(1000);
    assert_eq!(h.round().await, (1000, Reason::Start));
    h.desired.send_replace(2);
    h.handle.waker().wake();
    assert_eq!(h.round().await, (2, Reason::Woken));
    assert_eq!(h.round().await, (2, Reason::Periodic));
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_wish_counts() {
    let mut h = Harness::start(1000);
    assert_eq!(h.round().await, (1000, Reason::Start));
    for wish in [2, 4, 6] {
        h.desired.send_replace(wish);
    }
    assert_eq!(h.round().await, (6, Reason::DesiredChanged));
    assert_eq!(h.round().await, (6, Reason::Periodic));
}

#[tokio::test(start_paused = true)]
async fn status_is_stamped() {
    let mut h = Harness::start(500);
    let mut status = h.handle.status();
    assert!(status.borrow().is_none());
    h.round().await;
    status.changed().await.unwrap();
    let stamped = status.borrow().clone().unwrap();
    let want = Stamped {
        status: Seen { desired: 500, retry: None },
        reason: Reason::Start,
        count: 1,
        took: Duration::from_millis(500),
    };
    assert_eq!(*stamped, want);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_the_round_end() {
    let mut h = Harness::start(3000);
    h.round().await;
    assert!(h.supervisor.shutdown(Duration::from_secs(10)).await.is_clean());
    assert_eq!(h.handle.status().borrow().as_ref().unwrap().count, 1);
    assert_eq!(h.supervisor.wait().await, None);
}

#[tokio::test(start_paused = true)]
async fn losing_the_wish_stops_the_daemon() {
    let mut h = Harness::start(2);
    h.round().await;
    drop(h.desired);
    assert_eq!(h.supervisor.wait().await.unwrap().worker, "test/mock");
}
