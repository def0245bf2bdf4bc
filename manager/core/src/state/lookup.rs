//! Finding an object by what a user wrote: full id, then name, then unique prefix of an id (`sw:§1.5`).

use std::collections::BTreeMap;

use swarmnet_types::{Network, NetworkId, Node, NodeId, Service, ServiceId, TokenId};

use super::State;
use super::tables::FurtherToken;
use crate::rejection::{Matched, Noun, Rejection};

/// How many of the ambiguous matches an error lists.
const LISTED_MAX: usize = 16;

impl State {
    /// # Errors
    /// [`Rejection::NotFound`], [`Rejection::Ambiguous`].
    pub fn find_network(&self, text: &str) -> Result<&Network, Rejection> {
        let named = self.index.network_names.get(text).copied();
        let table = &self.tables.networks;
        let wanted = Wanted { noun: Noun::Network, text, named: named.into_iter().collect() };
        wanted.find(table, NetworkId::from_bytes).map(|id| &table[&id])
    }

    /// # Errors
    /// [`Rejection::NotFound`], [`Rejection::Ambiguous`].
    pub fn find_service(&self, text: &str) -> Result<&Service, Rejection> {
        let named = self.index.service_names.get(text).copied();
        let table = &self.tables.services;
        let wanted = Wanted { noun: Noun::Service, text, named: named.into_iter().collect() };
        wanted.find(table, ServiceId::from_bytes).map(|id| &table[&id].service)
    }

    /// Tokens have no names.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Rejection::Ambiguous`].
    pub fn find_token(&self, text: &str) -> Result<&FurtherToken, Rejection> {
        let table = &self.tables.tokens;
        let wanted = Wanted { noun: Noun::Token, text, named: Vec::new() };
        wanted.find(table, TokenId::from_bytes).map(|id| &table[&id])
    }

    /// Nodes may share a name.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Rejection::Ambiguous`].
    pub fn find_node(&self, text: &str) -> Result<&Node, Rejection> {
        let table = &self.tables.nodes;
        let named = table.values().filter(|n| n.name == text).map(|n| n.id).collect();
        let wanted = Wanted { noun: Noun::Node, text, named };
        wanted.find(table, NodeId::from_bytes).map(|id| &table[&id])
    }
}

struct Wanted<'a, Id> {
    noun: Noun,
    text: &'a str,
    /// Objects of exactly this name.
    named: Vec<Id>,
}

impl<Id: Ord + Copy + std::fmt::Display> Wanted<'_, Id> {
    fn find<V>(self, table: &BTreeMap<Id, V>, make: fn([u8; 16]) -> Id) -> Result<Id, Rejection> {
        let span = prefix_span(self.text);
        if let Some((low, high)) = span
            && low == high
            && table.contains_key(&make(low))
        {
            return Ok(make(low));
        }
        match self.named.as_slice() {
            [] => {}
            [one] => return Ok(*one),
            many => return Err(self.ambiguous(Matched::Name, many)),
        }
        let matches: Vec<Id> = span.map_or_else(Vec::new, |(low, high)| {
            table.range(make(low)..=make(high)).map(|(id, _)| *id).collect()
        });
        match matches.as_slice() {
            [] => Err(Rejection::NotFound { noun: self.noun, text: self.text.to_owned() }),
            [one] => Ok(*one),
            many => Err(self.ambiguous(Matched::IdPrefix, many)),
        }
    }

    fn ambiguous(&self, by: Matched, matches: &[Id]) -> Rejection {
        let matches = matches.iter().take(LISTED_MAX).map(ToString::to_string).collect();
        Rejection::Ambiguous { noun: self.noun, text: self.text.to_owned(), by, matches }
    }
}

/// The first and the last id that begin with these hex digits; equal for a full id.
fn prefix_span(text: &str) -> Option<([u8; 16], [u8; 16])> {
    if text.is_empty() || text.len() > 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bits = 4 * text.len() as u32;
    let digits = u128::from_str_radix(text, 16).ok()?;
    let low = digits << (128 - bits);
    let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
    Some((low.to_be_bytes(), (low | rest).to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_span_their_ids() {
        assert_eq!(
            prefix_span("ab").map(|(l, h)| (l[0], l[1], h[0], h[1])),
            Some((0xab, 0, 0xab, 0xff))
        );
        assert_eq!(prefix_span("a").map(|(l, h)| (l[0], h[0])), Some((0xa0, 0xaf)));
        let full = "0123456789abcdef0123456789abcdef";
        assert!(prefix_span(full).is_some_and(|(l, h)| l == h));
        for bad in ["", "x", "+1", "é", &"a".repeat(33)] {
            assert_eq!(prefix_span(bad), None, "{bad}");
        }
    }
}
