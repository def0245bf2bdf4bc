//! What a transaction wrote: each object once, as it was before and as it is now.

use std::collections::BTreeSet;

use swarmnet_types::{
    Endpoint, EndpointId, Network, NetworkId, Node, NodeId, Service, ServiceId, TokenId,
};

use super::{Txn, Undo};
use crate::state::tables::{Cluster, FurtherToken, NodeRecord, ServiceRow};

/// Before and now; `None`: there was no such object, or is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Changed<'a> {
    Cluster(Option<&'a Cluster>, Option<&'a Cluster>),
    Node(NodeId, Option<&'a Node>, Option<&'a Node>),
    Record(NodeId, Option<&'a NodeRecord>, Option<&'a NodeRecord>),
    Token(TokenId, Option<&'a FurtherToken>, Option<&'a FurtherToken>),
    Network(NetworkId, Option<&'a Network>, Option<&'a Network>),
    Service(ServiceId, Option<&'a Service>, Option<&'a Service>),
    Endpoint(EndpointId, Option<&'a Endpoint>, Option<&'a Endpoint>),
}

/// One for each object of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Cluster,
    Node(NodeId),
    Record(NodeId),
    Token(TokenId),
    Network(NetworkId),
    Service(ServiceId),
    Endpoint(EndpointId),
}

impl Txn<'_> {
    /// In the order of their first writes. An object that is as it was may be among them.
    pub(crate) fn changes(&self) -> Vec<Changed<'_>> {
        let mut seen = BTreeSet::new();
        let all = self.undo.iter().filter_map(|undo| self.changed(undo));
        // What stood there before the first write was there before the transaction.
        all.filter(|(key, _)| seen.insert(*key)).map(|(_, changed)| changed).collect()
    }

    fn changed<'a>(&'a self, undo: &'a Undo) -> Option<(Key, Changed<'a>)> {
        let now = &self.state.tables;
        let service = |row: &'a ServiceRow| &row.service;
        Some(match undo {
            Undo::Cluster(old) => {
                (Key::Cluster, Changed::Cluster(old.as_deref(), now.cluster.as_ref()))
            }
            Undo::Node(id, old) => {
                (Key::Node(*id), Changed::Node(*id, old.as_deref(), now.nodes.get(id)))
            }
            Undo::Record(id, old) => {
                (Key::Record(*id), Changed::Record(*id, old.as_deref(), now.records.get(id)))
            }
            Undo::Token(id, old) => {
                (Key::Token(*id), Changed::Token(*id, old.as_deref(), now.tokens.get(id)))
            }
            Undo::Network(id, old) => {
                (Key::Network(*id), Changed::Network(*id, old.as_deref(), now.networks.get(id)))
            }
            Undo::Service(id, old) => {
                let (old, new) = (old.as_deref().map(service), now.services.get(id).map(service));
                (Key::Service(*id), Changed::Service(*id, old, new))
            }
            Undo::Endpoint(id, old) => {
                (Key::Endpoint(*id), Changed::Endpoint(*id, old.as_deref(), now.endpoints.get(id)))
            }
            // Nobody is told of these.
            Undo::Revoked(..) | Undo::AddressGiven(..) | Undo::Given(_) => return None,
        })
    }
}
