//! Gathers what [`explain`] needs, each time anew: the wish, the kernel, the resolver's answer, one probe. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use swarmnet_dataplane::{Actual, Kernel, Ns, Scope};
use swarmnet_gossip::Liveness;
use swarmnet_kernel::underlay::path_to;
use swarmnet_kernel::{KernelError, LinuxKernel, Netns};
use swarmnet_proto::v1;
use swarmnet_proto::v1::control_client::ControlClient;
use swarmnet_runtime::reconcile::StatusReceiver;
use swarmnet_types::{Endpoint, NodeView};
use tokio::sync::watch;
use tokio::time::timeout;

use super::ask::ask;
use super::probe::{Outcome, Shot, answers_echo};
use super::{Evidence, Outlook, Question, Trace, explain, name, outlook};
use crate::desired::scene::Scene;
use crate::desired::{Inputs, Wish};
use crate::local::cluster::Cluster;
use crate::local::{LocalError, LocalObjects, LocalStore, SandboxRecord, lookup};
use crate::target::Status;
use crate::underlay::Underlay;

/// How long the kernel may take to follow a wish that is newer than it.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// How long a manager is asked where a sandbox is that this node does not know.
const ASK_MAX: Duration = Duration::from_secs(1);
/// After a silence: the longest wait for each echo.
const ECHO_MAX: Duration = Duration::from_secs(1);
/// After a silence of whom nobody knows: VTEPs that are asked.
const VTEPS_MAX: usize = 4;

/// See the module. Clones share what they look at.
#[derive(Debug, Clone)]
pub struct Tracer {
    pub(crate) netns: Netns,
    pub(crate) kernel: LinuxKernel,
    pub(crate) store: Arc<LocalStore>,
    pub(crate) cluster: Cluster,
    pub(crate) view: watch::Receiver<Option<Arc<NodeView>>>,
    pub(crate) liveness: watch::Receiver<Arc<Liveness>>,
    pub(crate) underlay: watch::Receiver<Arc<Underlay>>,
    pub(crate) wish: watch::Receiver<Arc<Wish>>,
    pub(crate) rounds: StatusReceiver<Status>,
}

/// The namespace that a sandbox's packets begin in.
pub(super) fn ns(record: &SandboxRecord) -> Ns {
    if record.shares_host_stack() { Ns::Node } else { Ns::Sandbox(record.id) }
}

impl Evidence {
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene::new(&self.inputs)
    }
}

impl Tracer {
    /// Follows the way from a sandbox of this node (name, id or its beginning), sends one probe, and tells what was found.
    ///
    /// # Errors
    /// No such sandbox here; the kernel cannot be observed; the cluster's view is not known yet.
    pub async fn trace(
        &self,
        from: &str,
        question: Question,
    ) -> Result<(Arc<SandboxRecord>, Trace), LocalError> {
        let local = self.store.current();
        let record = self.find(&local, from).await?;
        let view = self.view.borrow().clone();
        let wish = self.settled(view.as_deref(), &local).await;
        if wish.held {
            return Err(LocalError::NoView);
        }
        let mut evidence = self.evidence(wish, (view, local), Arc::clone(&record));
        let netns = match ns(&record) {
            Ns::Node => self.netns.clone(),
            Ns::Overlay | Ns::Sandbox(_) => Netns::open(&record.netns)?,
        };
        let (question, mut evidence, netns) = blocking(move || {
            if let Some(wire) = name::to_ask(&question, &evidence.record) {
                for ipv6 in name::families(&question) {
                    let said = ask(&netns, &wire, ipv6, question.timeout)?;
                    evidence.answers.insert(ipv6, said);
                }
            }
            Ok((question, evidence, netns))
        })
        .await?;
        if let Some(outlook) = outlook(&question, &evidence) {
            let scope = scope(&evidence.wish, ns(&record), &outlook);
            evidence.actual = self.kernel.observe(&scope).await?;
            let field = Field { netns, node: self.netns.clone(), ns: ns(&record) };
            let trace = blocking(move || {
                field.shoot(&question, &outlook, &mut evidence)?;
                Ok(explain(&question, &evidence))
            });
            return Ok((record, trace.await?));
        }
        Ok((record, explain(&question, &evidence)))
    }

    /// The wish that follows from view and local objects, once the reconciler has dealt with it, or each has had its time.
    async fn settled(&self, view: Option<&NodeView>, local: &LocalObjects) -> Arc<Wish> {
        let revision = view.map(|v| v.revision).unwrap_or_default();
        let mut wishes = self.wish.clone();
        let covers = wishes.wait_for(|wish| {
            let stamp = wish.stamp;
            wish.held || (stamp.revision >= revision && stamp.generation >= local.generation)
        });
        drop(timeout(SETTLE_MAX, covers).await);
        let wish = Arc::clone(&self.wish.borrow());
        let wanted = wish.stamp;
        let mut rounds = self.rounds.clone();
        let done = rounds.wait_for(|round| {
            round.as_ref().is_some_and(|round| {
                let stamp = round.status.stamp;
                stamp.revision >= wanted.revision && stamp.generation >= wanted.generation
            })
        });
        // What it could not do is what the trace is to show.
        drop(timeout(SETTLE_MAX, done).await);
        wish
    }

    fn evidence(
        &self,
        wish: Arc<Wish>,
        (view, local): (Option<Arc<NodeView>>, Arc<LocalObjects>),
        record: Arc<SandboxRecord>,
    ) -> Evidence {
        let round = self.rounds.borrow().clone();
        let complaints = round.iter().flat_map(|r| r.status.complaints().cloned());
        Evidence {
            record,
            inputs: Inputs {
                view,
                liveness: Arc::clone(&self.liveness.borrow()),
                local,
                underlay: Arc::clone(&self.underlay.borrow()),
                overlay_netns: wish.desired.overlay_netns.clone(),
                options: wish.desired.options.clone(),
                held: false,
            },
            complaints: complaints.collect(),
            wish,
            actual: Actual::default(),
            answers: BTreeMap::new(),
            routes: BTreeMap::new(),
            probe: None,
        }
    }

    async fn find(
        &self,
        local: &LocalObjects,
        text: &str,
    ) -> Result<Arc<SandboxRecord>, LocalError> {
        let found = lookup::sandbox(local, text);
        let Err(LocalError::NoSandbox { .. }) = found else { return found };
        let view = self.view.borrow().clone();
        let Some(view) = view else { return found };
        let known = match meant(view.endpoints.values(), text) {
            Some(endpoint) => Some(endpoint),
            None => self.ask_managers(&view, text).await,
        };
        let Some(endpoint) = known.filter(|e| e.node != view.me) else { return found };
        let node = view.nodes.get(&endpoint.node);
        Err(LocalError::SandboxElsewhere {
            sandbox: endpoint.name,
            node: node.map_or_else(|| endpoint.node.short(), |n| n.name.clone()),
        })
    }

    /// Every sandbox on a network of the cluster has an endpoint in the ingress fabric; this node knows those of published services.
    async fn ask_managers(&self, view: &NodeView, text: &str) -> Option<Endpoint> {
        let ingress = view.networks.values().find(|n| n.spec.ingress)?;
        let reference = ingress.id.to_string();
        let call = |channel| {
            let request = v1::InspectRequest { reference: reference.clone() };
            async move { ControlClient::new(channel).inspect_network(request).await }
        };
        let detail = timeout(ASK_MAX, self.cluster.call(call)).await.ok()?.ok()?;
        let endpoints = detail.endpoints.into_iter().filter_map(|e| Endpoint::try_from(e).ok());
        meant(endpoints.collect::<Vec<_>>().iter(), text)
    }
}

/// An endpoint of the one sandbox that is meant.
fn meant<'a>(all: impl Iterator<Item = &'a Endpoint>, text: &str) -> Option<Endpoint> {
    let found = lookup::find(all, text, |e| (e.sandbox.to_string(), e.name.as_str()));
    let (first, _) = found.first()?;
    found.iter().all(|(e, _)| e.sandbox == first.sandbox).then(|| (*first).clone())
}

/// Only what the packets of this trace meet. Tables are large, and needed where balancing happens.
fn scope(wish: &Wish, own: Ns, outlook: &Outlook) -> Scope {
    let mut scope = wish.desired.scope(None, |ns| ns == own || (outlook.by_node && ns == Ns::Node));
    let met: BTreeSet<Ns> = outlook.sandboxes.iter().map(|id| Ns::Sandbox(*id)).collect();
    scope
        .namespaces
        .retain(|ns, _| matches!(ns, Ns::Node | Ns::Overlay) || *ns == own || met.contains(ns));
    scope.forward = false;
    scope
}

/// Where probes are sent from.
struct Field {
    netns: Netns,
    node: Netns,
    /// What `netns` is.
    ns: Ns,
}

impl Field {
    /// Routes, the probe, and after a silence the echoes that tell where it comes from.
    fn shoot(
        &self,
        question: &Question,
        outlook: &Outlook,
        evidence: &mut Evidence,
    ) -> Result<(), KernelError> {
        let path = path_to(&self.netns, outlook.addr)?;
        let source = path.as_ref().map(|p| p.source);
        evidence.routes.insert((self.ns, outlook.addr), path);
        if outlook.probe {
            evidence.probe = Some(self.fire(question, outlook, source)?);
        }
        // Anew: who took the probe is known by now.
        let vteps = super::outlook(question, evidence).map(|o| o.vteps).unwrap_or_default();
        for vtep in &vteps {
            let path = path_to(&self.node, *vtep)?;
            evidence.routes.insert((Ns::Node, *vtep), path);
        }
        if let Some(probe) = evidence.probe.as_mut().filter(|p| p.outcome == Outcome::Silent) {
            let patience = question.timeout.min(ECHO_MAX);
            for vtep in vteps.into_iter().take(VTEPS_MAX) {
                let answers = answers_echo(&self.node, vtep, patience)?;
                probe.vteps.push((vtep, answers));
            }
        }
        Ok(())
    }

    fn fire(
        &self,
        question: &Question,
        outlook: &Outlook,
        source: Option<IpAddr>,
    ) -> Result<super::Probe, KernelError> {
        let judge = if outlook.by_node { &self.node } else { &self.netns };
        let shot = Shot {
            netns: &self.netns,
            judge,
            to: outlook.addr,
            port: question.port,
            protocol: question.protocol,
            source,
            timeout: question.timeout,
        };
        let mut probe = shot.fire()?;
        if probe.outcome == Outcome::Silent {
            let to = probe.chosen.map_or(outlook.addr, |chosen| chosen.ip());
            let patience = question.timeout.min(ECHO_MAX);
            let asked = probe.port.is_some() && answers_echo(judge, to, patience)?;
            probe.echo = Some(asked);
        }
        Ok(probe)
    }
}

/// Runs work that blocks on sockets where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KernelError> + Send + 'static,
) -> Result<T, LocalError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(LocalError::Stopping),
        },
    }
}
