//! Sandboxes with a machine in memory and a manager of the test's.

use std::net::SocketAddr;
use std::time::Instant;

use swarmnet_runtime::Supervisor;
use swarmnet_types::{Endpoint, NetworkId, NetworkSpec, NodeView, Protocol};

use super::fake::Fake;
use super::*;
use crate::desired::fixture;
use crate::local::networks::{self, Routes};
use crate::local::objects::{ProcessRecord, ProcessSpec};
use crate::local::ports::Listener;
use crate::workload::RestartPolicy;

struct Bench {
    fake: Fake,
    sandboxes: Arc<Sandboxes>,
    supervisor: Supervisor,
    dir: tempfile::TempDir,
}

/// A node in no cluster, with the predefined networks and a bridge `br`.
async fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let fake = Fake::default();
    let supervisor = Supervisor::new("test");
    let sandboxes = open(&fake, &dir, &supervisor);
    let routes = Routes::default();
    let ids = [1, 2, 3].map(|n| NetworkId::from_bytes([n; 16]));
    let made = sandboxes.means.store.change(|draft| {
        for network in networks::predefined(&draft.objects, ids, 0, &routes)? {
            draft.objects.networks.insert(network.id, Arc::new(network));
        }
        let spec = NetworkSpec::named(name("br"), Driver::Bridge);
        let id = NetworkId::from_bytes([4; 16]);
        let network = networks::grant(&draft.objects, spec, id, (0, &routes))?;
        draft.objects.networks.insert(id, Arc::new(network));
        Ok(())
    });
    made.await.expect("networks");
    Bench { fake, sandboxes, supervisor, dir }
}

/// A daemon on the folders of a test.
fn open(fake: &Fake, dir: &tempfile::TempDir, supervisor: &Supervisor) -> Arc<Sandboxes> {
    let paths = Paths::new(dir.path().join("state"), dir.path().join("run"));
    let cluster = Cluster::new(Arc::new(fake.clone()));
    let outbox = Arc::new(Outbox::open(&paths).expect("an outbox"));
    let (box_of_worker, cluster_of_worker) = (Arc::clone(&outbox), cluster.clone());
    let own = supervisor.clone();
    supervisor.spawn_transient("outbox", async move {
        box_of_worker.deliver(&cluster_of_worker, &own).await;
    });
    Arc::new(Sandboxes::new(Means {
        store: Arc::new(LocalStore::open(&paths).expect("a store")),
        paths,
        host: Arc::new(fake.clone()),
        kernel: Arc::new(fake.clone()),
        cluster,
        session: Arc::new(fake.clone()),
        outbox,
    }))
}

impl Bench {
    async fn join(&self) -> SocketAddr {
        self.fake.manager(&self.supervisor).await
    }

    async fn made(&self, wish: SandboxWish) -> Result<Arc<SandboxRecord>, String> {
        let record = self.sandboxes.attach(wish).await.map_err(|err| err.to_string())?;
        self.sandboxes.ready(record.id).await.map_err(|err| err.to_string())
    }

    fn record(&self, id: SandboxId) -> Arc<SandboxRecord> {
        self.sandboxes.means.store.sandbox(id).expect("recorded")
    }

    /// What a manager tells of the endpoints that this node has, all of one sandbox.
    fn view(&self, sandbox: SandboxId) -> NodeView {
        let mut view = fixture::view();
        view.me = fake::NODE;
        let pattern = view.endpoints.values().next().expect("one").clone();
        let given = self.fake.world().endpoints.keys().copied().collect::<Vec<_>>();
        let row = |id| (id, Endpoint { id, sandbox, node: fake::NODE, ..pattern.clone() });
        view.endpoints = given.into_iter().map(row).collect();
        view
    }

    /// Releases what no sandbox has, as the worker does.
    async fn release_orphans(&self, sandbox: SandboxId) {
        let view = self.view(sandbox);
        let gone = self.sandboxes.orphans_in(&view).await.expect("a folder");
        let free = self.sandboxes.left_by_the_kernel(&view, gone).await;
        self.sandboxes.means.outbox.release(&free).await;
        self.sandboxes.means.outbox.settle(&free, Duration::from_secs(10)).await;
    }

    /// Nothing of any sandbox is left, here or in the cluster.
    async fn assert_clean(&self) {
        let begun = Instant::now();
        while !self.fake.world().endpoints.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", self.fake.world().endpoints);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(self.sandboxes.means.store.current().sandboxes.is_empty());
        assert!(self.fake.world().netns.is_empty());
        let left = files::list(&self.sandboxes.means.paths.sandboxes()).expect("listed");
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn on(networks: &[&str]) -> SandboxWish {
    let spec = |n: &&str| AttachmentSpec { network: (*n).into(), ..AttachmentSpec::default() };
    SandboxWish {
        name: Some(name("w")),
        attachments: networks.iter().map(spec).collect(),
        ..SandboxWish::default()
    }
}

fn port(host_port: u16) -> PortMap {
    PortMap { host_ip: None, host_port, port: 80, protocol: Protocol::Tcp }
}

#[tokio::test]
async fn both_scopes_in_one_sandbox() {
    let bench = bench().await;
    bench.join().await;
    let record = bench.made(on(&["over", "br"])).await.expect("made");
    let ifnames: Vec<_> = record.attachments.iter().map(|a| a.ifname.as_str()).collect();
    assert_eq!(ifnames, ["eth0", "eth1"]);
    assert_eq!(record.attachments[1].endpoint.addrs.v4, "172.18.0.2".parse().ok());
    assert!(record.fabric.is_some() && record.state == SandboxState::Ready);
    assert!(record.attachments.iter().all(|a| a.endpoint.condition == Condition::Ready));
    assert!(bench.fake.world().endpoints.values().all(|c| *c == Condition::Ready));
    let paths = bench.sandboxes.means.paths.sandbox(record.id);
    let read = |path: PathBuf| std::fs::read_to_string(path).expect("written");
    assert_eq!(
        read(paths.resolv_conf()),
        "nameserver 127.0.0.11\nsearch corp.example\noptions edns0 ndots:0\n"
    );
    assert!(read(paths.hosts()).ends_with(&format!("172.18.0.2\t{}\n", record.id.short())));
    bench.sandboxes.detach(record.id).await.expect("gone");
    bench.sandboxes.detach(record.id).await.expect("gone already is done");
    bench.assert_clean().await;
}

#[tokio::test]
async fn every_failure_undoes_what_came_before() {
    let bench = bench().await;
    bench.join().await;
    bench.fake.world().kernel_fails = Some("no room".into());
    let err = bench.made(on(&["over", "br"])).await.expect_err("the kernel");
    assert_eq!(err, "cannot build sandbox w: no room");
    bench.fake.world().kernel_fails = None;
    bench.assert_clean().await;

    bench.fake.world().netns_fails = true;
    let err = bench.made(on(&["over"])).await.expect_err("the namespace");
    assert!(err.starts_with("cannot create network namespace"), "{err}");
    bench.fake.world().netns_fails = false;
    bench.assert_clean().await;

    bench.fake.world().refuse = Some((tonic::Code::NotFound, "network over not found"));
    assert_eq!(bench.made(on(&["over"])).await, Err("network over not found".into()));
    bench.fake.world().refuse = None;
    bench.assert_clean().await;

    let mut static_ip = on(&["over", "br"]);
    static_ip.attachments[1].ipv4 = "172.18.0.1".parse().ok();
    let err = bench.made(static_ip).await.expect_err("the local grant");
    assert!(err.contains("172.18.0.1 is the gateway of network br"), "{err}");
    bench.assert_clean().await;
}

#[tokio::test]
async fn without_a_manager_what_exists_can_go_and_the_cluster_hears_later() {
    let bench = bench().await;
    let manager = bench.join().await;
    let record = bench.made(on(&["over"])).await.expect("made");
    // Nobody listens there.
    bench.fake.world().managers = vec![([127, 0, 0, 1], 1).into()];
    let mut second = on(&["over"]);
    second.name = Some(name("x"));
    let err = bench.made(second).await.expect_err("no manager");
    assert!(err.contains("cluster networks take no new endpoints until one answers"), "{err}");
    let mut local = on(&["br"]);
    local.name = Some(name("y"));
    let local = bench.made(local).await.expect("local networks need no manager");
    bench.sandboxes.detach(local.id).await.expect("gone");
    bench.sandboxes.detach(record.id).await.expect("gone");
    assert!(bench.sandboxes.means.store.current().sandboxes.is_empty());
    assert_eq!(bench.fake.world().endpoints.len(), 2, "the cluster does not know yet");
    bench.fake.world().managers = vec![manager];
    bench.assert_clean().await;
    assert!(bench.sandboxes.means.outbox.is_empty());
}

#[tokio::test]
async fn a_dead_manager_is_passed_over() {
    let bench = bench().await;
    bench.join().await;
    bench.fake.world().managers.insert(0, ([127, 0, 0, 1], 1).into());
    let record = bench.made(on(&["over"])).await.expect("the other one answers");
    bench.sandboxes.detach(record.id).await.expect("gone");
    bench.assert_clean().await;
}

#[tokio::test]
async fn what_a_crash_left_is_healed() {
    let bench = bench().await;
    bench.join().await;
    let ready = bench.made(on(&["br"])).await.expect("made");
    let mut half = on(&["over"]);
    half.name = Some(name("half"));
    let half = bench.sandboxes.attach(half).await.expect("attached, never ready");
    // A crash before the record: a note, and the namespace it names. And a namespace that nothing names.
    let paths = &bench.sandboxes.means.paths;
    let unfinished = paths.sandbox(SandboxId::from_bytes([9; 16]));
    let netns = paths.netns(SandboxId::from_bytes([9; 16]));
    files::overwrite(&unfinished.netns_note(), &netns.to_string_lossy()).expect("written");
    let stray = paths.netns_dir().join("stray");
    files::overwrite(&stray, "").expect("written");
    bench.fake.world().netns.extend([netns, stray]);

    let again = open(&bench.fake, &bench.dir, &bench.supervisor);
    assert_eq!(again.heal().await.expect("healed"), []);
    let left: Vec<_> = again.means.store.current().sandboxes.keys().copied().collect();
    assert_eq!(left, [ready.id]);
    assert_eq!(bench.fake.world().netns.iter().collect::<Vec<_>>(), [&ready.netns]);
    assert!(!unfinished.dir().exists() && !paths.sandbox(half.id).dir().exists());
    // A reboot takes the namespace of the other one.
    bench.fake.world().netns.clear();
    let lost = again.heal().await.expect("healed");
    assert_eq!(lost.iter().map(|s| s.id).collect::<Vec<_>>(), [ready.id]);
}

#[tokio::test]
async fn networks_come_and_go_and_a_failure_leaves_no_trace() {
    let bench = bench().await;
    bench.join().await;
    let id = bench.made(on(&["over"])).await.expect("made").id;
    let spec = |n: &str| AttachmentSpec { network: n.into(), ..AttachmentSpec::default() };
    let before = bench.record(id);

    bench.fake.world().kernel_fails = Some("no room".into());
    let given = bench.fake.world().endpoints.len();
    let err = bench.sandboxes.connect(id, spec("inner")).await.expect_err("the kernel");
    assert_eq!(err.to_string(), "cannot build sandbox w: no room");
    assert_eq!(bench.record(id), before);
    bench.release_orphans(id).await;
    assert_eq!(bench.fake.world().endpoints.len(), given + 1, "the kernel may still have it");
    bench.fake.world().kernel_fails = None;
    bench.release_orphans(id).await;
    assert_eq!(bench.fake.world().endpoints.len(), given);

    let record = bench.sandboxes.connect(id, spec("br")).await.expect("joined");
    assert_eq!(record.attachments[1].ifname, "eth1");
    assert!(record.attachments.iter().all(|a| a.endpoint.condition == Condition::Ready));
    for (network, want) in [
        ("br", "endpoint with name w already exists in network br"),
        ("host", "cannot connect sandbox to host network"),
        ("none", "one of the networks in private (none) mode"),
        ("nonsense", "network nonsense not found"),
    ] {
        let err = bench.sandboxes.connect(id, spec(network)).await.expect_err(want);
        assert!(err.to_string().contains(want), "{err}");
    }
    let err = bench.sandboxes.disconnect(id, "inner").await.expect_err("not on it");
    assert_eq!(err.to_string(), "sandbox w is not connected to the network inner");

    // The fabric's address goes with the last network of the cluster.
    let record = bench.sandboxes.disconnect(id, "over").await.expect("taken away");
    assert!(record.fabric.is_none() && record.attachments.len() == 1);
    assert!(bench.fake.world().endpoints.is_empty());
    bench.sandboxes.detach(id).await.expect("gone");
    bench.assert_clean().await;
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_with_dockers_words() {
    let bench = bench().await;
    bench.made(on(&["br"])).await.expect("made");
    let mut port_of_none = on(&["none"]);
    port_of_none.ports = vec![port(80)];
    let mut service = on(&["host"]);
    service.service = Some(name("web"));
    let mut odd = on(&["br"]);
    odd.attachments[0].driver_opts.insert("ifname".into(), "lo".into());
    let mut hostname = on(&["br"]);
    hostname.hostname = Some(["x"; 33].join(".").parse().unwrap());
    for (mut wish, want) in [
        (on(&["br"]), "The sandbox name \"w\" is already in use by sandbox"),
        (on(&["br", "br"]), "network \"br\" is specified multiple times"),
        (on(&["br", "bridge"]), "cannot attach both user-defined and non-user-defined"),
        (on(&["host", "none"]), "cannot attach both user-defined and non-user-defined"),
        (on(&["over"]), "network over not found (this node is in no cluster"),
        (port_of_none, "ports cannot be published from a sandbox without a network"),
        (service, "The network host cannot be used with services"),
        (odd, "interface name lo is already in use"),
        (hostname, "the kernel takes at most 64 characters"),
    ] {
        if !want.contains("already in use by sandbox") {
            wish.name = Some(name("x"));
        }
        let err = bench.made(wish).await.expect_err(want);
        assert!(err.contains(want), "{err}");
    }
    assert_eq!(bench.fake.world().netns.len(), 1);
}

#[tokio::test]
async fn a_port_has_one_owner() {
    let bench = bench().await;
    let ported = |n: &str, p: u16| {
        let mut wish = on(&["br"]);
        (wish.name, wish.ports) = (Some(name(n)), vec![port(p)]);
        wish
    };
    let first = bench.made(ported("a", 8080)).await.expect("free");
    let err = bench.made(ported("b", 8080)).await.expect_err("taken");
    assert_eq!(err, "Bind for 0.0.0.0:8080 failed: port is already allocated (by sandbox a)");
    let addr = "0.0.0.0:8081".parse().expect("an address");
    bench.fake.world().others.listeners = vec![Listener { protocol: Protocol::Tcp, addr }];
    let err = bench.made(ported("b", 8081)).await.expect_err("foreign");
    assert_eq!(err, "failed to bind host port 0.0.0.0:8081/tcp: address already in use");
    bench.sandboxes.detach(first.id).await.expect("gone");
    let second = bench.made(ported("b", 8080)).await.expect("free again");
    let chosen = bench.made(ported("c", 0)).await.expect("chosen").ports[0].host_port;
    assert_eq!(chosen, 49_153);
    bench.sandboxes.detach(second.id).await.expect("gone");
}

#[tokio::test]
async fn an_address_is_given_back_when_record_and_kernel_are_without_it() {
    let bench = bench().await;
    bench.join().await;
    let id = bench.made(on(&["over", "inner"])).await.expect("made").id;
    let given = bench.fake.world().endpoints.len();
    bench.fake.world().kernel_fails = Some("stuck".into());
    bench.sandboxes.disconnect(id, "inner").await.expect_err("the kernel");
    assert_eq!(bench.record(id).attachments.len(), 1);
    assert_eq!(bench.fake.world().endpoints.len(), given);
    bench.fake.world().kernel_fails = None;
    bench.release_orphans(id).await;
    assert_eq!(bench.fake.world().endpoints.len(), given - 1);
    bench.sandboxes.detach(id).await.expect("gone");
    bench.assert_clean().await;
}

#[tokio::test]
async fn a_network_that_was_being_connected_is_ready_after_a_restart() {
    let bench = bench().await;
    bench.join().await;
    let id = bench.made(on(&["over", "inner"])).await.expect("made").id;
    let endpoint = bench.record(id).attachments[1].endpoint.id;
    let starting = async |all: bool| {
        let set = bench.sandboxes.means.store.change_sandbox(id, |record| {
            if all {
                record.set_condition(Condition::Starting);
            } else {
                record.attachments[1].endpoint.condition = Condition::Starting;
            }
            Ok(())
        });
        set.await.expect("recorded");
        bench.fake.world().endpoints.insert(endpoint, Condition::Starting);
    };
    let told = async || {
        bench.sandboxes.finish_connecting(id).await;
        let begun = Instant::now();
        while !bench.sandboxes.means.outbox.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bench.fake.world().endpoints[&endpoint]
    };
    starting(false).await;
    bench.fake.world().kernel_fails = Some("stuck".into());
    assert_eq!(told().await, Condition::Starting, "the kernel does not have it");
    bench.fake.world().kernel_fails = None;
    assert_eq!(told().await, Condition::Ready);
    assert!(bench.record(id).cluster_endpoints().all(|e| e.condition == Condition::Ready));
    // A program that waits for its next restart says itself when it is ready.
    starting(true).await;
    let spec = ProcessSpec {
        argv: vec!["true".to_owned()],
        env: Vec::new(),
        user: String::new(),
        workdir: String::new(),
        restart: RestartPolicy::default(),
        remove_when_done: false,
        stop_signal: 15,
    };
    let process = ProcessRecord { spec, stopped: false };
    let runs = bench.sandboxes.means.store.change_sandbox(id, |record| {
        record.process = Some(process);
        Ok(())
    });
    runs.await.expect("recorded");
    assert_eq!(told().await, Condition::Starting);
    bench.sandboxes.detach(id).await.expect("gone");
    bench.assert_clean().await;
}

#[tokio::test]
async fn what_no_sandbox_has_is_given_back_and_what_is_on_its_way_is_not() {
    let bench = bench().await;
    let mut view = fixture::view();
    view.endpoints.retain(|_, e| e.sandbox == fixture::HERE);
    let of = async || bench.sandboxes.orphans_in(&view).await.expect("a folder");
    let all: Vec<_> = view.endpoints.keys().copied().collect();
    assert_eq!(of().await, all, "nobody knows the sandbox");
    {
        let _turn = bench.sandboxes.locks.take(fixture::HERE).await;
        assert!(of().await.is_empty(), "its attach is under way");
    }
    let begun = bench.sandboxes.means.paths.sandbox(fixture::HERE);
    std::fs::create_dir_all(begun.dir()).expect("made");
    assert!(of().await.is_empty(), "the daemon may have died, and has not healed yet");
    std::fs::remove_dir_all(begun.dir()).expect("removed");
    let record = Arc::new(fixture::record());
    let recorded = bench.sandboxes.means.store.change(|draft| {
        draft.objects.sandboxes.insert(record.id, record);
        Ok(())
    });
    recorded.await.expect("recorded");
    assert!(of().await.is_empty(), "it lives");
    let taken = bench.sandboxes.means.store.change_sandbox(fixture::HERE, |record| {
        record.fabric = None;
        Ok(record.attachments.pop().expect("attached").endpoint.id)
    });
    let (taken, _) = taken.await.expect("recorded");
    assert!(of().await.contains(&taken), "the sandbox lives, and does not have it any more");
    view.me = fixture::OTHER;
    assert!(bench.sandboxes.orphans_in(&view).await.expect("a folder").is_empty(), "others' own");
}
