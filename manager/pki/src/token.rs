//! The join token: all that a node needs to join, in one text that survives copy and paste.
//!
//! `SWMN-1-<ca>-<secret>-<rest>`, each field in lower-case base 32 (see `base32`): `ca` = SHA-256 of the CA certificate
//! (52 characters), `secret` = 128 random bits (26), `rest` = role byte, then each manager's address as tag 4 or 6,
//! address bytes and big-endian port, then tag 0, then the first 40 bits of SHA-256 over everything before. The text has
//! only letters, digits and `-`, so one double click selects it and no shell touches it.
//!
//! Pure: no clock, no randomness, no I/O. A token that was cut short is told from one with a typing error, because the
//! length follows from the tags; the checksum finds any single wrong character.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ring::hmac;
use swarmnet_types::Role;

use crate::base32;
use crate::fingerprint::{Fingerprint, sha256};

const PREFIX: &str = "SWMN";
const VERSION: u32 = 1;
/// 40 bits: one wrong paste in 10^12 goes unseen, for eight characters.
const CHECK_LEN: usize = 5;
const SECRET_LEN: usize = 16;
/// Longer texts are refused unread: room for over 100 addresses.
const TEXT_LEN_MAX: usize = 4096;

const TAG_END: u8 = 0;
const TAG_V4: u8 = 4;
const TAG_V6: u8 = 6;
const ROLE_WORKER: u8 = 0;
const ROLE_MANAGER: u8 = 1;

/// Why a text is no usable token. The sentences say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "invalid join token: it does not begin with `SWMN-1-`; print one on a manager with `swarmnet manager token worker`"
    )]
    NotAToken,
    #[error(
        "invalid join token: this is a Docker Swarm token; print one of this cluster on a manager with `swarmnet manager token worker`"
    )]
    DockerSwarm,
    #[error(
        "invalid join token: it is of version {found} and this swarmnet reads version {VERSION}: upgrade swarmnet on this node"
    )]
    Newer { found: u32 },
    #[error("invalid join token: it is cut short; copy it whole, up to its last character")]
    Truncated,
    #[error("invalid join token: it has a wrong character; copy it again instead of typing it")]
    Mistyped,
}

/// The secret part of a token: who tells it may join. 128 random bits; never shown in logs.
#[derive(Clone, Copy)]
pub struct JoinSecret([u8; SECRET_LEN]);

impl JoinSecret {
    /// From bytes that the caller drew at random (see [`crate::random_bytes`]).
    pub const fn from_bytes(bytes: [u8; SECRET_LEN]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }

    /// Whether `told` is this secret, in a time that does not depend on where they differ.
    pub fn matches(&self, told: &[u8]) -> bool {
        // ring compares MACs in constant time, and equal MACs under one key mean equal messages.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        hmac::verify(&key, told, hmac::sign(&key, &self.0).as_ref()).is_ok()
    }
}

impl PartialEq for JoinSecret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for JoinSecret {}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(…)")
    }
}

/// What a token says. `Display` writes the text, secret included; `Debug` does not show the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Of the CA certificate that the managers must show.
    pub ca_fingerprint: Fingerprint,
    pub secret: JoinSecret,
    /// For people and pre-flight checks; the managers decide by the secret alone.
    pub role: Role,
    /// Managers to try, best first. Scope and flow of IPv6 addresses are not kept: they mean nothing on another host.
    pub addrs: Vec<SocketAddr>,
}

// === impl JoinToken ===

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{PREFIX}-{VERSION}-");
        base32::encode(&self.ca_fingerprint.0, &mut text);
        text.push('-');
        base32::encode(self.secret.as_bytes(), &mut text);
        text.push('-');
        let mut rest = vec![match self.role {
            Role::Worker => ROLE_WORKER,
            Role::Manager => ROLE_MANAGER,
        }];
        for addr in &self.addrs {
            encode_addr(*addr, &mut rest);
        }
        rest.push(TAG_END);
        let check = sha256(&[text.as_bytes(), &rest]);
        rest.extend_from_slice(&check[..CHECK_LEN]);
        base32::encode(&rest, &mut text);
        f.write_str(&text)
    }
}

/// White space around the token is ignored.
impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TEXT_LEN_MAX {
            return Err(TokenError::NotAToken);
        }
        let fields: Vec<&str> = text.split('-').collect();
        check_head(text, &fields)?;
        let [_, _, ca, secret, rest] = fields[..] else {
            return Err(if fields.len() < 5 {
                TokenError::Truncated
            } else {
                TokenError::Mistyped
            });
        };
        let ca_fingerprint = Fingerprint(fixed(ca)?);
        let secret = JoinSecret(fixed(secret)?);
        let (bytes, ends) = base32::decode(rest).ok_or(TokenError::Mistyped)?;
        let mut reader = Reader { bytes: &bytes };
        let role = match reader.byte()? {
            ROLE_WORKER => Role::Worker,
            ROLE_MANAGER => Role::Manager,
            _ => return Err(TokenError::Mistyped),
        };
        let addrs = decode_addrs(&mut reader)?;
        let checked_len = bytes.len() - reader.bytes.len();
        let told: [u8; CHECK_LEN] = reader.take()?;
        let checked_text = &text[..text.len() - rest.len()];
        let check = sha256(&[checked_text.as_bytes(), &bytes[..checked_len]]);
        if !reader.bytes.is_empty() || !ends || told != check[..CHECK_LEN] {
            return Err(TokenError::Mistyped);
        }
        Ok(Self { ca_fingerprint, secret, role, addrs })
    }
}

/// Prefix and version.
fn check_head(text: &str, fields: &[&str]) -> Result<(), TokenError> {
    if fields[0] == "SWMTKN" {
        return Err(TokenError::DockerSwarm);
    }
    let Some(version) = fields.get(1) else {
        let begun = !text.is_empty() && PREFIX.starts_with(text);
        return Err(if begun { TokenError::Truncated } else { TokenError::NotAToken });
    };
    if fields[0] != PREFIX {
        return Err(TokenError::NotAToken);
    }
    match version.parse::<u32>() {
        Ok(VERSION) if version.len() == 1 => Ok(()),
        Ok(found) if found > VERSION && found.to_string() == **version => {
            Err(TokenError::Newer { found })
        }
        Err(_) if version.is_empty() && fields.len() == 2 => Err(TokenError::Truncated),
        _ => Err(TokenError::Mistyped),
    }
}

/// A field whose length is known.
fn fixed<const N: usize>(field: &str) -> Result<[u8; N], TokenError> {
    match base32::decode(field) {
        Some((bytes, true)) => bytes.try_into().map_err(|_| TokenError::Mistyped),
        _ => Err(TokenError::Mistyped),
    }
}

fn encode_addr(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr {
        SocketAddr::V4(addr) => {
            out.push(TAG_V4);
            out.extend(addr.ip().octets());
        }
        SocketAddr::V6(addr) => {
            out.push(TAG_V6);
            out.extend(addr.ip().octets());
        }
    }
    out.extend(addr.port().to_be_bytes());
}

fn decode_addrs(reader: &mut Reader<'_>) -> Result<Vec<SocketAddr>, TokenError> {
    let mut addrs = Vec::new();
    loop {
        let ip = match reader.byte()? {
            TAG_END => return Ok(addrs),
            TAG_V4 => Ipv4Addr::from(reader.take::<4>()?).into(),
            TAG_V6 => Ipv6Addr::from(reader.take::<16>()?).into(),
            _ => return Err(TokenError::Mistyped),
        };
        addrs.push(SocketAddr::new(ip, u16::from_be_bytes(reader.take()?)));
    }
}

/// What is left to read. Running out means that the token was cut short.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TokenError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(TokenError::Truncated)?;
        self.bytes = tail;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, TokenError> {
        self.take::<1>().map(|[byte]| byte)
    }
}

#[cfg(test)]
mod tests;
