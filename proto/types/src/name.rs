//! Names that users give: what a network, service, sandbox or alias may be called.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name: one DNS label (RFC 1035 §2.3.4), Swarm's own limit (`sw:C10`).
pub const NAME_LEN_MAX: usize = 63;

/// Docker's sentences for bad names (`sw:C10`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("invalid name: name is empty")]
    Empty,
    #[error("name must be 63 characters or fewer: `{}…`", name.chars().take(NAME_LEN_MAX).collect::<String>())]
    TooLong { name: String },
    #[error("name must be valid as a DNS name component: `{name}`")]
    NotDns { name: String },
}

/// A name valid as a DNS label as Swarm checks it: `^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$`, at most 63 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// # Errors
    /// See [`NameError`].
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.chars().count() > NAME_LEN_MAX {
            return Err(NameError::TooLong { name });
        }
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let bytes = name.as_bytes();
        if edge(bytes.first()) && edge(bytes.last()) && bytes.iter().copied().all(inner) {
            Ok(Self(name))
        } else {
            Err(NameError::NotDns { name })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "svc-5000", "a_b", "A-1", &"x".repeat(63)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a.b", "a b", "é", "../x", &"x".repeat(64), "a\0"] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
