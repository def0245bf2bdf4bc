//! Tasks that end, fail, panic and are told to stop.

use std::future::pending;

use tokio::sync::oneshot;

use super::*;

const LONG: Duration = Duration::from_secs(10);

fn end(worker: &str, kind: EndKind) -> CriticalEnd {
    CriticalEnd { worker: worker.to_owned(), kind }
}

#[tokio::test(start_paused = true)]
async fn return_of_a_critical_worker_stops_the_tree_with_its_name() {
    let root = Supervisor::new("d");
    let child = root.child("gossip");
    child.spawn_critical("driver", async {});
    assert_eq!(root.wait().await, Some(end("d/gossip/driver", EndKind::Returned)));
    assert!(child.is_stopping());
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_critical_worker_stops_the_tree_with_its_name() {
    let root = Supervisor::new("d");
    root.spawn_critical("session", async { panic!("on purpose") });
    assert_eq!(root.wait().await, Some(end("d/session", EndKind::Panicked)));
}

#[tokio::test(start_paused = true)]
async fn first_fault_is_kept() {
    let root = Supervisor::new("d");
    root.spawn_critical("a", async {});
    assert_eq!(root.wait().await, Some(end("d/a", EndKind::Returned)));
    root.spawn_critical("b", async { panic!("on purpose") });
    assert!(root.shutdown(LONG).await.is_clean());
    assert_eq!(root.wait().await, Some(end("d/a", EndKind::Returned)));
}

#[tokio::test(start_paused = true)]
async fn end_of_a_transient_or_scoped_worker_stops_nothing() {
    let root = Supervisor::new("d");
    root.spawn_transient("ok", async {});
    root.spawn_transient("bad", async { panic!("on purpose") });
    assert_eq!(root.spawn_scoped("sum", async { 1 + 1 }).join().await, Some(2));
    let bad = root.spawn_scoped("bad", async { panic!("on purpose") });
    let none: Option<()> = bad.join().await;
    assert_eq!(none, None);
    tokio::time::sleep(LONG).await;
    assert!(!root.is_stopping());
}

#[tokio::test(start_paused = true)]
async fn graceful_end_after_the_token_is_clean() {
    let root = Supervisor::new("d");
    let child = root.child("sandbox");
    let token = child.token().clone();
    child.spawn_critical("drain", async move {
        token.cancelled().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    });
    let begun = tokio::time::Instant::now();
    assert!(root.shutdown(LONG).await.is_clean());
    assert_eq!(begun.elapsed().as_secs(), 3);
    assert_eq!(root.wait().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_outlives_the_deadline_is_aborted_and_named() {
    let root = Supervisor::new("d");
    root.child("x").spawn_critical("deaf", pending());
    let report = root.shutdown(LONG).await;
    assert_eq!(report, ShutdownReport { aborted: vec!["d/x/deaf".to_owned()], stuck: Vec::new() });
    assert!(root.running().is_empty());
    assert_eq!(root.wait().await, None, "an aborted worker is no fault");
}

#[tokio::test(start_paused = true)]
async fn shutdown_of_a_child_leaves_its_siblings() {
    let root = Supervisor::new("d");
    let (one, two) = (root.child("one"), root.child("two"));
    one.spawn_critical("w", pending());
    two.spawn_critical("w", pending());
    assert_eq!(one.shutdown(Duration::ZERO).await.aborted, ["d/one/w"]);
    assert_eq!(root.running(), ["d/two/w"]);
    assert!(!root.is_stopping());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_scoped_handle_aborts_the_worker() {
    let root = Supervisor::new("d");
    let (tx, rx) = oneshot::channel::<()>();
    let scoped = root.spawn_scoped("w", async move {
        let _held = tx;
        pending::<()>().await;
    });
    tokio::task::yield_now().await;
    drop(scoped);
    assert!(rx.await.is_err(), "the worker's state was dropped");
    assert!(root.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_started_after_the_abort_never_runs() {
    let root = Supervisor::new("d");
    root.spawn_critical("deaf", pending());
    root.shutdown(Duration::ZERO).await;
    assert_eq!(root.spawn_scoped("late", async { 1 }).join().await, None);
}
