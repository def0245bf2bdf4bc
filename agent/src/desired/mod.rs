//! What this node should be: the cluster's view, who is alive, the node's own objects and its underlay, merged into one wish for
//! the kernel and one for the names.
//!
//! Pure: [`Merger::merge`] is a function of its [`Inputs`] and of what a [`PortWitness`] says about ports of others. The merger
//! keeps its last result only to share what has not changed (`Arc`s that planners compare by pointer).
//!
//! The rules of the merge, in one place:
//! - balanced is what is ready, on a node that is not dead and not drained; when nothing of a service is ready, what is unhealthy;
//! - what is starting, draining or on a dead node keeps its name, without an address: it still exists, so its name is neither
//!   denied nor asked for elsewhere;
//! - endpoints of dead nodes leave forwarding too; a lost agent changes nothing;
//! - an endpoint of this node whose sandbox is leaving is hidden at once, whatever the view still says;
//! - of two owners of a port of this node the sandbox's own port map wins, and a foreign program wins over both (S12).

pub mod names;

pub(crate) mod fabric;
mod networks;
mod publications;
mod sandboxes;
pub(crate) mod scene;
mod services;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use swarmnet_dataplane::desired::{self, Desired, PublicationKey};
use swarmnet_gossip::Liveness;
use swarmnet_types::{NodeView, Revision, SandboxId};

use crate::local::LocalObjects;
use crate::underlay::Underlay;
use names::NamesWish;
use scene::Scene;

/// Where a sandbox's resolver really listens, at 127.0.0.11; its table leads port 53 there. Outside the kernel's default range
/// of ephemeral ports (32768 to 60999), so that no client socket of the workload holds it.
pub const DNS_PORT: u16 = 64_053;

/// Everything the wish follows from.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// `None`: in no cluster.
    pub view: Option<Arc<NodeView>>,
    pub liveness: Arc<Liveness>,
    pub local: Arc<LocalObjects>,
    pub underlay: Arc<Underlay>,
    /// Where the overlays' hidden namespace is bound.
    pub overlay_netns: PathBuf,
    pub options: desired::Options,
    /// The node is in a cluster whose view it does not have: nothing may be removed on account of that.
    pub held: bool,
}

/// Who else listens on ports of this node.
pub trait PortWitness {
    /// Of `wanted`, those that a foreign program holds, with a few words that name it.
    fn foreign(&mut self, wanted: &BTreeSet<PublicationKey>) -> BTreeMap<PublicationKey, String>;
}

/// What a wish follows from, as numbers: what can be acknowledged once it is in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Of the view; 0 outside a cluster.
    pub revision: Revision,
    /// Of the local objects.
    pub generation: u64,
}

/// What the reconciler brings about.
#[derive(Debug, Clone)]
pub struct Wish {
    pub stamp: Stamp,
    /// Do nothing yet.
    pub held: bool,
    pub desired: Arc<Desired>,
    pub names: Arc<BTreeMap<SandboxId, NamesWish>>,
    /// What cannot be had on this node, one sentence each.
    pub problems: Arc<Vec<String>>,
}

/// Turns inputs into wishes.
#[derive(Debug, Default)]
pub struct Merger {
    last: Desired,
    zones: zones::Cache,
}

impl Merger {
    pub fn new() -> Self {
        Self::default()
    }

    /// The wish for `inputs`.
    pub fn merge(&mut self, inputs: &Inputs, witness: &mut impl PortWitness) -> Wish {
        let scene = Scene::new(inputs);
        let mut problems = Vec::new();
        let fabric = fabric::of(&scene, self.last.fabric.as_ref());
        let networks = networks::of(&scene, &self.last.networks);
        let sandboxes = sandboxes::of(&scene, &networks);
        let services = services::of(&scene, &networks);
        let publications = publications::of(&scene, witness, &mut problems);
        let desired = Desired {
            fabric,
            host: inputs.underlay.host.clone(),
            overlay_netns: inputs.overlay_netns.clone(),
            sandboxes: share(&self.last.sandboxes, sandboxes),
            services: share(&self.last.services, services),
            publications: share(&self.last.publications, publications),
            networks,
            options: inputs.options.clone(),
        };
        let names = self.zones.wishes(&scene);
        self.last = desired.clone();
        Wish {
            stamp: Stamp {
                revision: inputs.view.as_ref().map(|v| v.revision).unwrap_or_default(),
                generation: inputs.local.generation,
            },
            held: inputs.held,
            desired: Arc::new(desired),
            names: Arc::new(names),
            problems: Arc::new(problems),
        }
    }
}

/// Puts the old `Arc` wherever the value has not changed.
fn share<K: Ord, V: PartialEq>(
    old: &BTreeMap<K, Arc<V>>,
    new: impl IntoIterator<Item = (K, V)>,
) -> BTreeMap<K, Arc<V>> {
    let keep = |key: K, value: V| {
        let arc = keep_if_equal(old.get(&key), value);
        (key, arc)
    };
    new.into_iter().map(|(key, value)| keep(key, value)).collect()
}

fn keep_if_equal<V: PartialEq>(old: Option<&Arc<V>>, new: V) -> Arc<V> {
    match old {
        Some(old) if **old == new => Arc::clone(old),
        _ => Arc::new(new),
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
