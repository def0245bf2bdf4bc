//! Sandboxes come, change and leave; what a manager must be told of it, as `agent/src/local` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use swarmnet_agent::local::{Attachment, DnsSettings, LocalObjects, SandboxRecord, SandboxState};
use swarmnet_manager_core::{Attach, Command, Outcome};
use swarmnet_types::{
    AttachmentSpec, Condition, Endpoint, EndpointId, Name, Network, SandboxId, ServiceId,
};

use crate::Ms;
use crate::client::End;
use crate::context::Context;
use crate::packet::{CallId, Reply};

use super::Agent;

/// As in `sandboxes.rs`: how long a removal waits for a manager.
const RELEASE_PATIENCE_MS: Ms = 2_000;
/// As in `outbox.rs`.
const OUTBOX_PAUSE_MS: Ms = 500;

/// What a call is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    Attach { sandbox: SandboxId, name: Name, spec: AttachmentSpec },
    Ready { sandbox: SandboxId },
    Condition,
    Release { endpoints: BTreeSet<EndpointId> },
}

/// What an attach was answered.
pub(super) struct Granted {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) service: Option<ServiceId>,
    pub(super) networks: Vec<Network>,
}

impl Agent {
    pub(super) fn objects(&self) -> Arc<LocalObjects> {
        let sandboxes = self.store.sandboxes.clone();
        Arc::new(LocalObjects {
            generation: self.store.generation,
            networks: BTreeMap::new(),
            sandboxes,
        })
    }

    fn store_changed(&mut self, context: &mut Context<'_>) {
        self.store.generation += 1;
        self.changed = true;
        self.bring_soon(context);
    }

    fn netns(id: SandboxId) -> PathBuf {
        PathBuf::from(format!("/run/swarmnet/netns/{id}"))
    }

    pub(crate) fn begin_sandbox(
        &mut self,
        network: &Name,
        service: Option<Name>,
        context: &mut Context<'_>,
    ) {
        let sandbox = SandboxId::from_bytes(context.rng.bytes());
        self.begun.insert(sandbox);
        self.store.named += 1;
        let name = Name::new(format!("m{}w{}", self.me, self.store.named)).expect("a name");
        let spec = AttachmentSpec { network: network.to_string(), ..AttachmentSpec::default() };
        let command = Command::Attach(Attach {
            node: self.node,
            sandbox,
            name: name.clone(),
            hostname: name.to_string(),
            service,
            attachments: vec![spec.clone()],
        });
        let call = self.calls.begin(command, context);
        self.purposes.insert(call, Purpose::Attach { sandbox, name, spec });
    }

    pub(super) fn ended(&mut self, call: CallId, end: End, context: &mut Context<'_>) {
        let Some(purpose) = self.purposes.remove(&call) else { return };
        let done = match end {
            End::Answered(Reply::Done { outcome, networks, .. }) => Some((outcome, networks)),
            End::Answered(_) | End::GivenUp => None,
        };
        match purpose {
            Purpose::Attach { sandbox, name, spec } => {
                self.begun.remove(&sandbox);
                if let Some((Outcome::Attached { endpoints, service }, networks)) = done {
                    let granted = Granted { endpoints, service, networks };
                    self.attached((sandbox, name, spec), granted, context);
                }
            }
            Purpose::Ready { sandbox } if done.is_some() => {
                if let Some(record) = self.store.sandboxes.get_mut(&sandbox) {
                    let record = Arc::make_mut(record);
                    if record.state == SandboxState::Attaching {
                        record.state = SandboxState::Ready;
                    }
                    self.store_changed(context);
                }
            }
            Purpose::Ready { sandbox } => self.stop(sandbox, context),
            Purpose::Condition => {}
            Purpose::Release { endpoints } => {
                self.releasing = false;
                self.release_at = context.now + OUTBOX_PAUSE_MS;
                if done.is_some() {
                    self.store.releases.retain(|e| !endpoints.contains(e));
                }
            }
        }
    }

    /// The record, once the cluster has granted what was asked for.
    fn attached(
        &mut self,
        (sandbox, name, spec): (SandboxId, Name, AttachmentSpec),
        granted: Granted,
        context: &mut Context<'_>,
    ) {
        let Granted { endpoints, service, networks } = granted;
        let network_of = |e: &Endpoint| networks.iter().find(|n| n.id == e.network).cloned();
        let Some(network) = endpoints.first().and_then(network_of) else {
            // The network is gone already on the manager that answered: given back, as after any failure.
            self.store.releases.extend(endpoints.iter().map(|e| e.id));
            return;
        };
        let record = SandboxRecord {
            id: sandbox,
            hostname: name.as_str().parse().expect("a DNS label"),
            name,
            netns: Self::netns(sandbox),
            named: false,
            attachments: vec![Attachment {
                spec,
                endpoint: endpoints[0].clone(),
                network,
                ifname: "eth0".to_owned(),
            }],
            fabric: endpoints.get(1).cloned(),
            service,
            service_name: None,
            dns: DnsSettings::default(),
            ports: Vec::new(),
            labels: BTreeMap::new(),
            created_ms: 0,
            process: None,
            owner: None,
            state: SandboxState::Attaching,
            comes_back: false,
        };
        context.truth.counts.sandboxes += 1;
        self.plane.add_netns(sandbox, Self::netns(sandbox));
        self.report(&record, Condition::Ready, Purpose::Ready { sandbox }, context);
        self.store.sandboxes.insert(sandbox, Arc::new(record));
        self.store_changed(context);
    }

    fn report(
        &mut self,
        record: &SandboxRecord,
        now: Condition,
        purpose: Purpose,
        context: &mut Context<'_>,
    ) {
        let conditions = record.cluster_endpoints().map(|e| (e.id, now)).collect();
        let command = Command::SetConditions { node: self.node, conditions };
        let call = self.calls.begin(command, context);
        self.purposes.insert(call, purpose);
    }

    fn ready(&self) -> Vec<SandboxId> {
        let ready = |r: &&Arc<SandboxRecord>| r.state == SandboxState::Ready;
        self.store.sandboxes.values().filter(ready).map(|r| r.id).collect()
    }

    pub(crate) fn stop_one(&mut self, context: &mut Context<'_>) {
        if let Some(id) = context.rng.pick(&self.ready()).copied() {
            self.stop(id, context);
        }
    }

    pub(crate) fn change_one(&mut self, context: &mut Context<'_>) {
        let Some(id) = context.rng.pick(&self.ready()).copied() else { return };
        let record = Arc::clone(&self.store.sandboxes[&id]);
        let all = [Condition::Ready, Condition::Unhealthy, Condition::Draining];
        let now = all[context.rng.index(all.len())];
        self.report(&record, now, Purpose::Condition, context);
    }

    /// First the others stop sending, then the kernel forgets; no manager is waited for longer than a moment.
    pub(super) fn stop(&mut self, id: SandboxId, context: &mut Context<'_>) {
        let Some(record) = self.store.sandboxes.get_mut(&id) else { return };
        let record = Arc::make_mut(record);
        record.state = SandboxState::Leaving;
        self.store.releases.extend(record.cluster_endpoints().map(|e| e.id));
        self.leaving.insert(id, context.now + RELEASE_PATIENCE_MS);
        self.store_changed(context);
    }

    pub(super) fn tick_leaving(&mut self, context: &mut Context<'_>) {
        let held = |r: &SandboxRecord, releases: &BTreeSet<EndpointId>| {
            r.cluster_endpoints().any(|e| releases.contains(&e.id))
        };
        let gone: Vec<_> = self
            .leaving
            .iter()
            .filter(|(id, until)| {
                let record = self.store.sandboxes.get(id);
                **until <= context.now || record.is_none_or(|r| !held(r, &self.store.releases))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.leaving.remove(&id);
            self.plane.remove_netns(id, Self::netns(id));
            self.store.sandboxes.remove(&id);
            self.store_changed(context);
        }
    }

    pub(super) fn tick_outbox(&mut self, context: &mut Context<'_>) {
        if self.releasing || self.store.releases.is_empty() || context.now < self.release_at {
            return;
        }
        self.releasing = true;
        let endpoints = self.store.releases.clone();
        let list = endpoints.iter().copied().collect();
        let call = self.calls.begin(Command::Detach { node: self.node, endpoints: list }, context);
        self.purposes.insert(call, Purpose::Release { endpoints });
    }
}
