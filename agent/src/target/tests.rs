//! What the kernel is asked to become, and who is to blame when it refuses.

use std::collections::BTreeSet;
use std::sync::Mutex;

use swarmnet_dataplane::{Actual, Op, Scope};

use super::*;
use crate::desired::names::NamesWish;
use crate::desired::{Inputs, Merger, PortWitness, fixture};
use swarmnet_dataplane::desired::PublicationKey;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

/// Counts looks and operations; refuses operations whose text holds one of the words.
#[derive(Debug, Default)]
struct Log {
    looks: usize,
    /// Where.
    scopes: Vec<BTreeSet<Ns>>,
    ops: Vec<String>,
    refuse: BTreeSet<&'static str>,
}

#[derive(Debug, Clone, Default)]
struct FakeKernel(Arc<Mutex<Log>>);

impl FakeKernel {
    fn with<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        work(&mut self.0.lock().expect("nobody panicked"))
    }
}

impl Kernel for FakeKernel {
    type Error = No;

    async fn observe(&self, scope: &Scope) -> Result<Actual, No> {
        self.with(|log| {
            log.looks += 1;
            log.scopes.push(scope.namespaces.keys().copied().collect());
        });
        Ok(Actual::default())
    }

    async fn apply(&self, op: &Op) -> Result<(), No> {
        let text = op.to_string();
        self.with(|log| {
            if log.refuse.iter().any(|word| text.contains(word)) {
                return Err(No);
            }
            log.ops.push(text);
            Ok(())
        })
    }
}

impl Located for FakeKernel {
    fn locate(&self, _: Vec<(Ns, PathBuf)>) {}
}

#[derive(Debug, Clone, Default)]
struct FakeNames(Arc<Mutex<BTreeSet<SandboxId>>>);

impl Names for FakeNames {
    fn remove_surplus(&mut self, wanted: &BTreeMap<SandboxId, NamesWish>) {
        self.0.lock().expect("nobody panicked").retain(|id| wanted.contains_key(id));
    }

    fn bring(&mut self, wanted: &BTreeMap<SandboxId, NamesWish>) -> BTreeMap<SandboxId, String> {
        self.0.lock().expect("nobody panicked").extend(wanted.keys());
        BTreeMap::new()
    }
}

struct Nobody;

impl PortWitness for Nobody {
    fn foreign(&mut self, _: &BTreeSet<PublicationKey>) -> BTreeMap<PublicationKey, String> {
        BTreeMap::new()
    }
}

fn wish(inputs: &Inputs) -> Arc<Wish> {
    Arc::new(Merger::new().merge(inputs, &mut Nobody))
}

struct Bench {
    kernel: FakeKernel,
    names: FakeNames,
    suspects: Suspects,
    target: Target<FakeKernel, FakeNames>,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let memory = SysctlMemory::open(dir.path().join("sysctls.json")).expect("nothing there");
    let (kernel, names) = (FakeKernel::default(), FakeNames::default());
    let suspects = Suspects::default();
    let target = Target::new(kernel.clone(), names.clone(), Arc::new(memory), suspects.clone());
    Bench { kernel, names, suspects, target, _dir: dir }
}

#[tokio::test]
async fn a_held_wish_changes_nothing_and_is_not_called_applied() {
    let mut bench = bench();
    let held = Inputs { view: None, held: true, ..fixture::inputs() };
    let status = bench.target.reconcile(&wish(&held), Reason::Start).await;
    assert_eq!(status.stamp, Stamp::default());
    assert!(status.of_sandbox(fixture::HERE).is_some());
    bench.kernel.with(|log| assert_eq!((log.looks, log.ops.len()), (0, 0)));
    let status = bench.target.reconcile(&wish(&fixture::inputs()), Reason::DesiredChanged).await;
    assert_eq!(status.stamp.revision.0, 7);
    bench.kernel.with(|log| assert_eq!(log.looks, 1, "the first real round looks"));
}

#[tokio::test]
async fn a_change_is_planned_without_looking_and_names_follow() {
    let mut bench = bench();
    let first = bench.target.reconcile(&wish(&fixture::inputs()), Reason::Start).await;
    assert_eq!(first.complaints().count(), 0, "{first:?}");
    assert!(bench.names.0.lock().expect("nobody panicked").contains(&fixture::HERE));
    // A plan may ask for one more look.
    let settled = bench.target.reconcile(&wish(&fixture::inputs()), Reason::Retry).await;
    assert_eq!(settled.retry_after(), None);
    let looks = bench.kernel.with(|log| {
        log.ops.clear();
        log.looks
    });
    let gone = Inputs { local: fixture::local([]), ..fixture::inputs() };
    let status = bench.target.reconcile(&wish(&gone), Reason::DesiredChanged).await;
    assert_eq!(status.complaints().count(), 0);
    assert!(bench.names.0.lock().expect("nobody panicked").is_empty());
    bench.kernel.with(|log| {
        assert_eq!(log.looks, looks, "planned against what was brought about");
        assert!(log.ops.iter().any(|op| op.contains("link del")), "{:?}", log.ops);
    });
}

#[tokio::test]
async fn what_others_changed_somewhere_is_looked_at_there_after_the_wish_is_brought_about() {
    let mut bench = bench();
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Start).await;
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Retry).await;
    let here = Ns::Sandbox(fixture::HERE);
    bench.suspects.add([here]);
    bench.kernel.with(|log| log.scopes.clear());
    let unasked = bench.target.reconcile(&wish(&fixture::inputs()), Reason::DesiredChanged).await;
    bench.kernel.with(|log| assert_eq!(log.scopes.len(), 0, "when it is time"));
    let status = bench.target.reconcile(&wish(&fixture::inputs()), Reason::Noticed).await;
    bench.kernel.with(|log| assert_eq!(log.scopes[0], [here].into(), "{:?}", log.scopes));
    assert!(status.repaired > unasked.repaired, "this kernel has lost everything");
    let looks = bench.kernel.with(|log| log.looks);
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Noticed).await;
    bench.kernel.with(|log| assert_eq!(log.looks, looks, "once"));
}

#[tokio::test]
async fn after_a_repair_that_failed_everything_is_looked_at() {
    let mut bench = bench();
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Start).await;
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Retry).await;
    bench.suspects.add([Ns::Sandbox(fixture::HERE)]);
    bench.kernel.with(|log| log.refuse.insert("netns add"));
    let status = bench.target.reconcile(&wish(&fixture::inputs()), Reason::Noticed).await;
    assert!(status.of_sandbox(fixture::HERE).is_some(), "{status:?}");
    assert_eq!(status.retry_after(), Some(Duration::ZERO));
    bench.kernel.with(|log| log.refuse.clear());
    bench.kernel.with(|log| log.scopes.clear());
    let status = bench.target.reconcile(&wish(&fixture::inputs()), Reason::Retry).await;
    assert_eq!(status.of_sandbox(fixture::HERE), None);
    bench.kernel.with(|log| assert!(log.scopes[0].contains(&Ns::Node), "{:?}", log.scopes));
}

#[tokio::test]
async fn a_failure_is_blamed_on_its_sandbox_and_cured_by_a_look() {
    let mut bench = bench();
    let link = swarmnet_dataplane::names::endpoint_link(
        *fixture::record().attachments.iter().map(|a| &a.endpoint.id).next().expect("one"),
    );
    let word: &'static str = Box::leak(format!("link add {link} type veth").into_boxed_str());
    bench.kernel.with(|log| log.refuse.insert(word));
    let inputs = fixture::inputs();
    let status = bench.target.reconcile(&wish(&inputs), Reason::Start).await;
    let problem = status.of_sandbox(fixture::HERE).expect("not complete");
    assert!(problem.contains("veth"), "{problem}");
    assert_eq!(status.of_sandbox(fixture::THERE), None);
    assert_eq!(status.retry_after(), Some(Duration::ZERO), "a stale view is cured at once");
    let status = bench.target.reconcile(&wish(&inputs), Reason::Retry).await;
    assert_eq!(status.retry_after(), Some(RETRY_SECOND), "then slower");
    bench.kernel.with(|log| log.refuse.clear());
    let status = bench.target.reconcile(&wish(&inputs), Reason::Retry).await;
    assert_eq!(status.of_sandbox(fixture::HERE), None);
    bench.kernel.with(|log| assert_eq!(log.looks, 3));
}

/// The fixture without the task on the other node: its fabric address is gone.
fn without_the_other_task() -> Inputs {
    let mut view = fixture::view();
    view.endpoints.retain(|_, e| e.node == fixture::ME);
    Inputs { view: Some(Arc::new(view)), ..fixture::inputs() }
}

const FLOWS: &str = "node: conntrack del reply-src 10.255.1.3";

fn deletions(bench: &Bench) -> usize {
    bench.kernel.with(|log| log.ops.iter().filter(|op| *op == FLOWS).count())
}

#[tokio::test]
async fn flows_that_could_not_be_deleted_are_deleted_later() {
    let mut bench = bench();
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Start).await;
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Retry).await;
    bench.kernel.with(|log| log.refuse.insert("conntrack"));
    let gone = wish(&without_the_other_task());
    let status = bench.target.reconcile(&gone, Reason::DesiredChanged).await;
    assert!(status.complaints().any(|text| text.contains(FLOWS)), "{status:?}");
    assert!(status.retry_after().is_some(), "it is tried again");
    bench.kernel.with(|log| log.refuse.clear());
    bench.target.reconcile(&gone, Reason::Retry).await;
    assert_eq!(deletions(&bench), 1);
    let status = bench.target.reconcile(&gone, Reason::Retry).await;
    assert_eq!((status.complaints().count(), deletions(&bench)), (0, 1), "once is enough");
}

#[tokio::test]
async fn flows_end_also_when_the_round_looks_instead_of_comparing() {
    let mut bench = bench();
    bench.kernel.with(|log| log.refuse.insert("node: nft"));
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Start).await;
    bench.kernel.with(|log| log.refuse.clear());
    let looks = bench.kernel.with(|log| log.looks);
    let gone = wish(&without_the_other_task());
    bench.target.reconcile(&gone, Reason::DesiredChanged).await;
    bench.kernel.with(|log| assert_eq!(log.looks, looks + 1, "the last round failed"));
    assert_eq!(deletions(&bench), 1);
}

#[tokio::test]
async fn flows_of_an_address_that_is_used_again_are_left_alone() {
    let mut bench = bench();
    bench.target.reconcile(&wish(&fixture::inputs()), Reason::Start).await;
    bench.kernel.with(|log| log.refuse.insert("conntrack"));
    bench.target.reconcile(&wish(&without_the_other_task()), Reason::DesiredChanged).await;
    bench.kernel.with(|log| log.refuse.clear());
    let status = bench.target.reconcile(&wish(&fixture::inputs()), Reason::DesiredChanged).await;
    assert_eq!((status.complaints().count(), deletions(&bench)), (0, 0));
}

#[tokio::test]
async fn a_table_that_fails_concerns_everyone() {
    let mut bench = bench();
    bench.kernel.with(|log| log.refuse.insert("node: nft"));
    let status = bench.target.reconcile(&wish(&fixture::inputs()), Reason::Start).await;
    assert!(status.of_sandbox(fixture::HERE).is_some());
    assert!(status.of_sandbox(fixture::THERE).is_some());
}

#[test]
fn the_hosts_own_sysctls_are_kept_once_and_forgotten_when_given_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("sysctls.json");
    let memory = SysctlMemory::open(file.clone()).expect("nothing there");
    let key = "net/ipv4/ip_forward".to_owned();
    memory.keep(BTreeMap::from([(key.clone(), "0".to_owned())]));
    memory.keep(BTreeMap::from([(key.clone(), "1".to_owned())]));
    let again = SysctlMemory::open(file).expect("readable");
    assert_eq!(again.subscribe().borrow().get(&key).map(String::as_str), Some("0"));
    let mut used = (*wish(&fixture::inputs()).desired).clone();
    used.options.restore_sysctls = (**again.subscribe().borrow()).clone();
    again.forget(&used);
    assert_eq!(again.subscribe().borrow().len(), 1, "forwarding is still wanted");
    let mut unused = Desired::default();
    again.forget(&unused);
    assert_eq!(again.subscribe().borrow().len(), 1, "not given back yet");
    unused.options.restore_sysctls = (**again.subscribe().borrow()).clone();
    again.forget(&unused);
    assert!(again.subscribe().borrow().is_empty());
}
