//! What a user's word means: full id, then name, then unique prefix of an id; `None` when nothing matches.

use std::sync::Arc;

use swarmnet_types::Network;

use super::error::LocalError;
use super::objects::{LocalObjects, SandboxRecord};

/// How well a reference matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    Prefix,
    Name,
    Id,
}

/// # Errors
/// [`LocalError::AmbiguousSandbox`], [`LocalError::NoSandbox`].
pub fn sandbox(objects: &LocalObjects, text: &str) -> Result<Arc<SandboxRecord>, LocalError> {
    let all = objects.sandboxes.values();
    let found = find(all, text, |s| (s.id.to_string(), s.name.as_str()));
    match &found[..] {
        [] => Err(LocalError::NoSandbox { text: text.to_owned() }),
        [(record, _)] => Ok(Arc::clone(record)),
        many => {
            let matches = many.iter().map(|(s, _)| s.id).collect();
            Err(LocalError::AmbiguousSandbox { text: text.to_owned(), matches })
        }
    }
}

/// A local network and how well it matched.
///
/// # Errors
/// [`LocalError::AmbiguousNetwork`].
pub fn network(
    objects: &LocalObjects,
    text: &str,
) -> Result<Option<(Arc<Network>, Match)>, LocalError> {
    let all = objects.networks.values();
    let found = find(all, text, |n| (n.id.to_string(), n.spec.name.as_str()));
    match &found[..] {
        [] => Ok(None),
        [(network, how)] => Ok(Some((Arc::clone(network), *how))),
        many => {
            let matches = many.iter().map(|(n, _)| n.id).collect();
            Err(LocalError::AmbiguousNetwork { text: text.to_owned(), matches })
        }
    }
}

/// All of the best kind of match. Ids are 32 hex digits; names are unique.
pub(crate) fn find<'a, T>(
    all: impl Iterator<Item = &'a T>,
    text: &str,
    key: impl Fn(&T) -> (String, &str),
) -> Vec<(&'a T, Match)> {
    if text.is_empty() {
        return Vec::new();
    }
    let lower = text.to_ascii_lowercase();
    let grade = |item: &T| {
        let (id, name) = key(item);
        if id == lower {
            Some(Match::Id)
        } else if name == text {
            Some(Match::Name)
        } else if id.starts_with(&lower) {
            Some(Match::Prefix)
        } else {
            None
        }
    };
    let graded: Vec<_> = all.filter_map(|item| grade(item).map(|how| (item, how))).collect();
    let best = graded.iter().map(|(_, how)| *how).max();
    graded.into_iter().filter(|(_, how)| Some(*how) == best).collect()
}
