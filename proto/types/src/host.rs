//! What a sandbox's host name, hosts file and resolv.conf may say. These texts go into files that other programs read line by line and
//! word by word: what is not one word of theirs is refused where it comes in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest domain name as text (RFC 1035 §2.3.4, without the length bytes).
const DOMAIN_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;
/// The root: as a search domain it means none.
const ROOT: &str = ".";

/// What was refused, and what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error(
        "invalid hostname {0:?}: want letters, digits, `-`, `_` and `.`, at most 63 characters between dots and 253 in all"
    )]
    Name(String),
    #[error("{0:?} is not a valid domain: want one such as corp.example, or `.` for none")]
    SearchDomain(String),
    #[error("invalid resolver option {0:?}: want one word of resolv.conf(5), such as ndots:2")]
    ResolverOption(String),
}

/// A text that was checked when it was made; shown, stored and sent as that text.
macro_rules! checked_text {
    ($(#[$doc:meta])* $type:ident, $good:path, $error:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = HostError;

            fn from_str(text: &str) -> Result<Self, HostError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $type {
            type Error = HostError;

            fn try_from(text: String) -> Result<Self, HostError> {
                if $good(&text) { Ok(Self(text)) } else { Err($error(text)) }
            }
        }

        impl From<$type> for String {
            fn from(text: $type) -> Self {
                text.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

checked_text!(
    /// The name of a host: labels of letters, digits, `-` and `_`, joined by dots.
    HostName,
    is_domain,
    HostError::Name
);

checked_text!(
    /// A domain to search names in, with or without its last dot; or `.` for none.
    SearchDomain,
    is_search_domain,
    HostError::SearchDomain
);

checked_text!(
    /// One word of an `options` line: visible ASCII, and no beginning of a comment.
    ResolverOption,
    is_option,
    HostError::ResolverOption
);

fn is_domain(text: &str) -> bool {
    text.len() <= DOMAIN_LEN_MAX && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let edged = label.starts_with('-') || label.ends_with('-');
    !label.is_empty() && label.len() <= LABEL_LEN_MAX && !edged && label.bytes().all(inner)
}

fn is_search_domain(text: &str) -> bool {
    text == ROOT || is_domain(text.strip_suffix('.').unwrap_or(text))
}

fn is_option(text: &str) -> bool {
    let visible = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b';');
    !text.is_empty() && text.bytes().all(visible)
}

// === impl SearchDomain ===

impl SearchDomain {
    /// `.`: search nowhere.
    pub fn is_root(&self) -> bool {
        self.0 == ROOT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_dns_names() {
        for good in ["a", "a.b-c.example", "web_1", "_tcp.a", &"x".repeat(63)] {
            assert_eq!(good.parse::<HostName>().expect(good).as_str(), good);
        }
        let long = "x.".repeat(127);
        for bad in ["", ".", "a..b", "a.", "-a", "a-", "a b", "a/b", "a\nb", &"x".repeat(64), &long]
        {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_search_domain_is_a_domain_or_the_root() {
        for good in ["corp.example", "corp.example.", "local"] {
            assert!(!good.parse::<SearchDomain>().expect(good).is_root());
        }
        assert!(".".parse::<SearchDomain>().is_ok_and(|d| d.is_root()));
        for bad in ["", "..", ".a", "a b", "a\nnameserver 192.0.2.1"] {
            assert!(bad.parse::<SearchDomain>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_resolver_option_is_one_word() {
        for good in ["ndots:2", "rotate", "single-request-reopen"] {
            assert!(good.parse::<ResolverOption>().is_ok(), "{good}");
        }
        for bad in ["", "ndots: 2", "a\nnameserver 192.0.2.1", "a#", "a;b", "é"] {
            assert!(bad.parse::<ResolverOption>().is_err(), "{bad}");
        }
    }
}
