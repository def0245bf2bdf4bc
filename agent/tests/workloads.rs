//! Workloads on the real kernel: namespaces, shims and programs of their own, without a cluster and without reconcilers.
//!
//! A program without the test harness, because it is the shim as well: `workloads shim DIR` is what the daemon's own binary does
//! with these arguments. Needs root; without it the tests fail. Every test ends with a look at what is left.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use swarmnet_agent::local::cluster::Cluster;
use swarmnet_agent::local::host::KernelHost;
use swarmnet_agent::local::objects::ProcessSpec;
use swarmnet_agent::local::outbox::Outbox;
use swarmnet_agent::local::sandboxes::{Means, SandboxWish, Sandboxes};
use swarmnet_agent::local::{
    AgentStatus, KernelStatus, LocalStore, Managers, NoManager, SandboxRecord, Session, Standing,
    networks, process,
};
use swarmnet_agent::paths::Paths;
use swarmnet_agent::shim;
use swarmnet_agent::shim::status::{State, Status};
use swarmnet_agent::workload::{RestartPolicy, Workloads};
use swarmnet_runtime::Supervisor;
use swarmnet_types::{AttachmentSpec, Condition, Name, NetworkId, NodeView, SandboxId};
use tonic::transport::Channel;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

type Test = (&'static str, fn());

const TESTS: [Test; 8] = [
    ("output_and_exit_code_are_kept", output_and_exit_code_are_kept),
    ("a_program_sees_its_own_host_name_and_files", a_program_sees_its_own_host_name_and_files),
    ("stop_asks_then_kills_all_there_is", stop_asks_then_kills_all_there_is),
    ("restarts_follow_the_policy_and_the_condition", restarts_follow_the_policy_and_the_condition),
    ("a_stop_between_two_runs_is_prompt", a_stop_between_two_runs_is_prompt),
    ("a_program_that_cannot_start_leaves_nothing", a_program_that_cannot_start_leaves_nothing),
    ("a_daemon_that_dies_takes_nothing_along", a_daemon_that_dies_takes_nothing_along),
    ("a_reboot_brings_back_what_is_to_stay", a_reboot_brings_back_what_is_to_stay),
];

/// The part of libtest's arguments that `cargo test` and nextest use.
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, dir] = &args[..]
        && verb == "shim"
    {
        let done = shim::run(Path::new(dir));
        return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let ignored = args.iter().any(|a| a == "--ignored");
    let exact = args.iter().any(|a| a == "--exact");
    // The word after `--format` is no test's name.
    let named = args.iter().enumerate().filter(|(at, _)| *at == 0 || args[at - 1] != "--format");
    let filters: Vec<&String> = named.map(|(_, a)| a).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| {
        let fits =
            |f: &&&String| if exact { f.as_str() == name } else { name.contains(f.as_str()) };
        !ignored && (filters.is_empty() || filters.iter().any(|f| fits(&f)))
    };
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        if args.iter().any(|a| a == "--list") {
            println!("{name}: test");
        } else {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

// === a node without a cluster ===

#[derive(Debug)]
struct Alone;

#[async_trait]
impl KernelStatus for Alone {
    async fn wait_applied(&self, _: SandboxId, _: u64) -> Result<(), String> {
        Ok(())
    }
}

#[async_trait]
impl Managers for Alone {
    fn standing(&self) -> Option<Standing> {
        None
    }

    async fn channel(&self) -> Result<Channel, NoManager> {
        Err(NoManager { tried: Vec::new() })
    }

    fn failed(&self) {}
}

impl Session for Alone {
    fn status(&self) -> AgentStatus {
        AgentStatus::default()
    }

    fn view(&self) -> Option<Arc<NodeView>> {
        None
    }
}

/// The folders of a node; they outlive its daemons.
struct Node {
    dir: tempfile::TempDir,
}

/// One life of the daemon on them: dropping it is its death, as workers of a runtime that is gone.
struct Daemon {
    workloads: Workloads,
    store: Arc<LocalStore>,
    paths: Paths,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("snl-").tempdir().expect("a folder") }
    }

    fn paths(&self) -> Paths {
        let mut paths = Paths::new(self.dir.path().join("state"), self.dir.path().join("run"));
        paths.named_netns = self.dir.path().join("named");
        paths
    }

    fn start(&self) -> Daemon {
        let paths = self.paths();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (store, workloads) = runtime.block_on(async {
            let store = Arc::new(LocalStore::open(&paths).expect("a store"));
            let ids = [1, 2, 3].map(|n| NetworkId::from_bytes([n; 16]));
            let routes = networks::Routes::default();
            let predefined = store.change(|draft| {
                for network in networks::predefined(&draft.objects, ids, 0, &routes)? {
                    draft.objects.networks.insert(network.id, Arc::new(network));
                }
                Ok(())
            });
            predefined.await.expect("predefined networks");
            let means = Means {
                paths: paths.clone(),
                store: Arc::clone(&store),
                host: Arc::new(KernelHost),
                kernel: Arc::new(Alone),
                cluster: Cluster::new(Arc::new(Alone)),
                session: Arc::new(Alone),
                outbox: Arc::new(Outbox::open(&paths).expect("an outbox")),
            };
            let exe = std::env::current_exe().expect("this program");
            let sandboxes = Arc::new(Sandboxes::new(means));
            (store, Workloads::new(sandboxes, exe, &Supervisor::new("test")))
        });
        Daemon { workloads, store, paths, runtime }
    }
}

impl Daemon {
    fn run(&self, wish: SandboxWish) -> Arc<SandboxRecord> {
        self.runtime.block_on(self.workloads.create(wish)).expect("a sandbox")
    }

    fn status(&self, id: SandboxId) -> Status {
        self.workloads.status(id).expect("a shim spoke")
    }

    fn condition(&self, id: SandboxId) -> Condition {
        self.store.sandbox(id).expect("recorded").attachments[0].endpoint.condition
    }

    fn stop(&self, id: SandboxId, grace: Duration) {
        self.runtime.block_on(self.workloads.stop(id, grace)).expect("stopped");
    }

    fn log(&self, id: SandboxId) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.paths.sandbox(id).log()).unwrap_or_default();
        let entry = |line: &str| {
            let entry: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
            let field = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            assert!(!field("time").is_empty());
            (field("stream"), field("log"))
        };
        text.lines().map(entry).collect()
    }

    /// Removes every sandbox and looks for what is left of them.
    fn clean(self) {
        for id in self.store.current().sandboxes.keys() {
            self.runtime.block_on(self.workloads.remove(*id, true)).expect("removed");
        }
        assert_eq!(entries(&self.paths.sandboxes()), Vec::<PathBuf>::new());
        assert_eq!(entries(&self.paths.netns_dir()), Vec::<PathBuf>::new());
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let own = self.paths.run.to_string_lossy().into_owned();
        assert!(!mounts.contains(&own), "a namespace is still mounted");
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|e| e.expect("an entry").path()).collect()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn shell(name: &str, script: &str) -> SandboxWish {
    let network = AttachmentSpec { network: "none".into(), ..AttachmentSpec::default() };
    SandboxWish {
        name: Some(Name::new(name).expect("a name")),
        attachments: vec![network],
        process: Some(ProcessSpec {
            argv: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["GREETING=hello".into()],
            user: String::new(),
            workdir: "/tmp".into(),
            restart: RestartPolicy::No,
            remove_when_done: false,
            stop_signal: 15,
        }),
        ..SandboxWish::default()
    }
}

fn restarting(name: &str, script: &str, restart: RestartPolicy) -> SandboxWish {
    let mut wish = shell(name, script);
    wish.process.as_mut().expect("it has one").restart = restart;
    wish
}

/// Processes whose command line holds this word, those that await their parent left out.
fn running(word: &str) -> usize {
    let alive = |pid: u32| process::start_ticks(pid).is_some();
    let pids = entries(Path::new("/proc")).into_iter().filter_map(|path| {
        let pid: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let line = std::fs::read(path.join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(word).then_some(pid)
    });
    pids.filter(|pid| *pid != std::process::id() && alive(*pid)).count()
}

// === the tests ===

fn output_and_exit_code_are_kept() {
    let node = Node::new();
    let daemon = node.start();
    let record = daemon.run(shell("w", "echo $GREETING $PWD; echo oops >&2; printf tail; exit 7"));
    until("the end", || daemon.status(record.id).state == State::Exited);
    let status = daemon.status(record.id);
    assert_eq!((status.exit_code, status.restarts), (7, 0));
    let mut log = daemon.log(record.id);
    log.sort();
    let line = |stream: &str, text: &str| (stream.to_owned(), text.to_owned());
    let want = [line("stderr", "oops\n"), line("stdout", "hello /tmp\n"), line("stdout", "tail")];
    assert_eq!(log, want);
    until("out of balancing", || daemon.condition(record.id) == Condition::Draining);
    daemon.clean();
}

fn a_program_sees_its_own_host_name_and_files() {
    let node = Node::new();
    let daemon = node.start();
    let mut wish = shell("w", "uname -n; cat /etc/hosts; ls /sys/class/net; id -u");
    wish.hostname = Some("box.example".parse().expect("a name"));
    wish.dns.extra_hosts.push(("db".parse().expect("a name"), [192, 0, 2, 7].into()));
    wish.process.as_mut().expect("it has one").user = "65534:65534".into();
    let record = daemon.run(wish);
    until("the end", || daemon.status(record.id).state == State::Exited);
    let out: String = daemon.log(record.id).into_iter().map(|(_, line)| line).collect();
    assert!(out.starts_with("box.example\n"), "{out}");
    assert!(out.contains("192.0.2.7\tdb\n"), "{out}");
    assert!(out.ends_with("lo\n65534\n"), "{out}");
    let host = std::fs::read_to_string("/etc/hosts").expect("the host's own");
    assert!(!host.contains("192.0.2.7\tdb"));
    daemon.clean();
}

fn stop_asks_then_kills_all_there_is() {
    let node = Node::new();
    let daemon = node.start();
    let polite =
        daemon.run(shell("polite", "trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done"));
    until("the trap is set", || daemon.condition(polite.id) == Condition::Ready);
    std::thread::sleep(Duration::from_millis(200));
    daemon.stop(polite.id, Duration::from_secs(10));
    assert_eq!(daemon.status(polite.id).exit_code, 3);
    assert_eq!(daemon.log(polite.id), [("stdout".to_owned(), "bye\n".to_owned())]);
    assert_eq!(daemon.condition(polite.id), Condition::Draining);

    // Deaf, with a child in a session of its own and one that lost its parent.
    let script =
        "trap '' TERM; setsid sleep 7117 & (sleep 7117 &) ; echo up; while :; do sleep 7117; done";
    let deaf = daemon.run(shell("deaf", script));
    until("its children", || running("7117") >= 3);
    daemon.stop(deaf.id, Duration::from_millis(300));
    assert_eq!(daemon.status(deaf.id).exit_code, 137);
    assert_eq!(running("7117"), 0, "nothing that it started lives on");
    daemon.clean();
}

fn restarts_follow_the_policy_and_the_condition() {
    let node = Node::new();
    let daemon = node.start();
    let policy = RestartPolicy::OnFailure { max: 2 };
    let record = daemon.run(restarting("w", "echo run; exit 1", policy));
    until("the last end", || daemon.status(record.id).state == State::Exited);
    assert_eq!(daemon.status(record.id).restarts, 2);
    assert_eq!(daemon.log(record.id).len(), 3);
    until("out of balancing", || daemon.condition(record.id) == Condition::Draining);

    // Out of balancing while it is down, in again when it runs.
    let marker = node.dir.path().join("second");
    let script = format!("test -e {0} && exec sleep 7227; touch {0}; exit 1", marker.display());
    let record = daemon.run(restarting("x", &script, RestartPolicy::Always));
    until("the second run", || daemon.status(record.id).restarts == 1);
    until("ready again", || daemon.condition(record.id) == Condition::Ready);
    daemon.stop(record.id, Duration::from_secs(5));
    assert_eq!(daemon.condition(record.id), Condition::Draining);
    daemon.clean();
}

fn a_stop_between_two_runs_is_prompt() {
    let node = Node::new();
    let daemon = node.start();
    let record = daemon.run(restarting("w", "exit 1", RestartPolicy::Always));
    // By then the pauses are seconds long.
    until("some restarts", || daemon.status(record.id).restarts >= 4);
    until("a pause", || daemon.status(record.id).state == State::Restarting);
    let begun = Instant::now();
    daemon.stop(record.id, Duration::from_secs(10));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(daemon.status(record.id).state, State::Exited);
    daemon.clean();
}

fn a_program_that_cannot_start_leaves_nothing() {
    let node = Node::new();
    let daemon = node.start();
    for (argv, user, want) in [
        ("/no/such/program", "", "cannot start /no/such/program: No such file or directory"),
        ("/etc", "", "cannot start /etc: Permission denied"),
        ("true", "nobody-here", "unable to find user nobody-here"),
    ] {
        let mut wish = shell("w", "");
        let spec = wish.process.as_mut().expect("it has one");
        (spec.argv, spec.user) = (vec![argv.into()], user.into());
        let err = daemon.runtime.block_on(daemon.workloads.create(wish)).expect_err(argv);
        assert!(err.to_string().contains(want), "{err}");
        assert!(daemon.store.current().sandboxes.is_empty());
    }
    daemon.clean();
}

fn a_daemon_that_dies_takes_nothing_along() {
    let node = Node::new();
    let first = node.start();
    let wish = restarting("w", "echo up; exec sleep 7337", RestartPolicy::Always);
    let id = first.run(wish).id;
    let before = first.status(id).process.expect("it runs");
    first.runtime.shutdown_background();
    drop(first.workloads);

    let second = node.start();
    second.runtime.block_on(second.workloads.adopt()).expect("adopted");
    assert_eq!(second.status(id).process, Some(before), "the same process");
    assert!(process::is_alive(before));
    // Killed by somebody: the shim starts it again, and the new daemon sees it.
    assert!(process::signal(before, 9).expect("sent"));
    until("the second run", || second.status(id).restarts == 1);
    until("ready again", || second.condition(id) == Condition::Ready);
    second.stop(id, Duration::from_secs(5));
    assert_eq!(running("7337"), 0);
    second.clean();
}

fn a_reboot_brings_back_what_is_to_stay() {
    let node = Node::new();
    let first = node.start();
    let kept = first.run(restarting("kept", "exec sleep 7447", RestartPolicy::Always)).id;
    let gone = first.run(shell("gone", "exec sleep 7447")).id;
    let mut named = shell("named", "");
    (named.process, named.named) = (None, true);
    let named = first.run(named);
    assert!(named.netns.starts_with(node.dir.path().join("named")));
    // What a reboot does: processes end unheard, namespaces go, the state folder stays.
    first.runtime.shutdown_background();
    for id in [kept, gone] {
        let status = Status::read(&first.paths.sandbox(id)).expect("read").expect("spoken");
        for one in [Some(status.shim), status.process].into_iter().flatten() {
            process::signal(one, 9).expect("sent");
        }
    }
    until("the end of all", || running("7447") == 0);
    for record in first.store.current().sandboxes.values() {
        swarmnet_kernel::Netns::remove(&record.netns).expect("removed");
    }

    let second = node.start();
    second.runtime.block_on(second.workloads.adopt()).expect("adopted");
    let names = || -> Vec<String> {
        let objects = second.store.current();
        let ready = objects.sandboxes.values().filter(|s| !s.comes_back);
        let mut names: Vec<_> = ready.map(|s| s.name.to_string()).collect();
        names.sort();
        names
    };
    until("those that stay", || names() == ["kept", "named"]);
    until("its program", || running("7447") == 1);
    assert!(named.netns.exists());
    assert!(!second.store.current().sandboxes.contains_key(&kept), "a new id: nothing is confused");
    second.clean();
    assert_eq!(running("7447"), 0);
}
