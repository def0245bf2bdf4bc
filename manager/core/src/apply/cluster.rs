//! The cluster itself: its start, pools, tokens and keys.

use swarmnet_ipam::pool;
use swarmnet_types::{Driver, GossipKey, Name, NetworkSpec, Role, Subnet, SubnetSpec};

use crate::alloc::pools;
use crate::command::{ClusterChange, ClusterInit, CreateNetwork};
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::secret::Secret;
use crate::state::txn::Txn;
use crate::state::{Cluster, ManagerLock, Tokens};

/// Longest IPv4 prefix cut from a pool: smaller subnets hold too little (`sw:M10`).
const POOL_MASK_LEN_MAX: u8 = 29;
/// Gossip keys accepted at once: the one that seals and the one before it.
const GOSSIP_KEYS_MAX: usize = 2;

impl Txn<'_> {
    pub(super) fn init_cluster(&mut self, init: &ClusterInit) -> Result<Outcome, Rejection> {
        if self.cluster().is_some() {
            return Err(Rejection::AlreadyInitialised);
        }
        let mask_len = init.pool_mask_len;
        if mask_len > POOL_MASK_LEN_MAX {
            return Err(Rejection::PoolMask { mask_len });
        }
        let mut all = init.pools.clone();
        if all.iter().all(Subnet::is_ipv6) {
            all.push(pools::default_ipv4());
        }
        if !all.iter().any(Subnet::is_ipv6) {
            all.push(pools::default_ipv6(init.id));
        }
        let mut checked = Vec::new();
        for pool in all {
            check_pool(pool, mask_len, &checked)?;
            checked.push(pool);
        }
        self.put_cluster(Cluster {
            id: init.id,
            ca: init.ca.clone(),
            rotation: None,
            tokens: Tokens {
                worker: init.worker_token.clone(),
                manager: init.manager_token.clone(),
            },
            pools: checked,
            pool_mask_len: mask_len,
            data_path_port: init.data_path_port,
            cert_expiry_ms: init.cert_expiry_ms,
            gossip_keys: vec![GossipKey { id: 1, secret: init.gossip_secret }],
            created_ms: self.now_ms,
            lock: ManagerLock::default(),
            generation: 0,
        });
        let ingress = self.create_network(&ingress(init)?)?;
        let (index, fabric) = self.join_node(&init.first)?;
        Ok(Outcome::Initialised { ingress, index, fabric })
    }

    pub(super) fn update_pools(
        &mut self,
        add: &[Subnet],
        retire: &[Subnet],
    ) -> Result<Outcome, Rejection> {
        let mut cluster = self.initialised()?.clone();
        for pool in retire {
            let Some(at) = cluster.pools.iter().position(|p| p == pool) else {
                return Err(Rejection::PoolUnknown { pool: *pool });
            };
            cluster.pools.remove(at);
        }
        for pool in add {
            check_pool(*pool, cluster.pool_mask_len, &cluster.pools)?;
            cluster.pools.push(*pool);
        }
        self.put_cluster(cluster);
        Ok(Outcome::Done)
    }

    pub(super) fn update_cluster(&mut self, change: ClusterChange) -> Result<Outcome, Rejection> {
        let mut cluster = self.initialised()?.clone();
        cluster.cert_expiry_ms = change.cert_expiry_ms.unwrap_or(cluster.cert_expiry_ms);
        self.put_cluster(cluster);
        Ok(Outcome::Done)
    }

    pub(super) fn rotate_token(
        &mut self,
        role: Role,
        secret: &Secret,
    ) -> Result<Outcome, Rejection> {
        let mut cluster = self.initialised()?.clone();
        match role {
            Role::Worker => cluster.tokens.worker = secret.clone(),
            Role::Manager => cluster.tokens.manager = secret.clone(),
        }
        self.put_cluster(cluster);
        Ok(Outcome::Done)
    }

    pub(super) fn rotate_gossip_key(&mut self, secret: &[u8; 32]) -> Result<Outcome, Rejection> {
        let mut cluster = self.initialised()?.clone();
        let id = cluster.gossip_keys.last().map_or(1, |k| k.id + 1);
        cluster.gossip_keys.push(GossipKey { id, secret: *secret });
        let surplus = cluster.gossip_keys.len().saturating_sub(GOSSIP_KEYS_MAX);
        cluster.gossip_keys.drain(..surplus);
        self.put_cluster(cluster);
        Ok(Outcome::Done)
    }
}

fn check_pool(pool: Subnet, mask_len: u8, others: &[Subnet]) -> Result<(), Rejection> {
    let mask_len = if pool.is_ipv6() { pool::IPV6_MASK_LEN } else { mask_len };
    if pool.prefix_len() > mask_len {
        return Err(Rejection::PoolSmall { pool, mask_len });
    }
    match others.iter().find(|o| o.overlaps(&pool)) {
        Some(other) => Err(Rejection::PoolOverlap { pool, other: *other }),
        None => Ok(()),
    }
}

/// The wish for the network that every cluster starts with.
fn ingress(init: &ClusterInit) -> Result<CreateNetwork, Rejection> {
    let families = init.ingress.iter().map(Subnet::is_ipv6);
    if init.ingress.len() > 2
        || families.clone().filter(|v6| *v6).count() > 1
        || families.filter(|v6| !v6).count() > 1
    {
        return Err(Rejection::IngressSubnets { got: init.ingress.len() });
    }
    Ok(CreateNetwork {
        spec: NetworkSpec {
            subnets: init.ingress.iter().copied().map(SubnetSpec::plain).collect(),
            // Where none was chosen, the first /64 of the cluster's unique local prefix.
            ipv6: true,
            ingress: true,
            ..NetworkSpec::named(Name::new("ingress").expect("a DNS label"), Driver::Overlay)
        },
        avoid: init.avoid.clone(),
    })
}
