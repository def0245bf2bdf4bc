//! Conversions between generated messages and the nouns of `swarmnet_types`.
//!
//! `From<&T>` for what is sent, `TryFrom<Message>` for what arrives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use swarmnet_types::{DualStack, Mac};

use crate::v1;

mod network;
mod node;
mod service;
mod view;

/// A message whose field does not hold what its type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {field}: {problem}")]
pub struct Malformed {
    pub field: &'static str,
    pub problem: String,
}

impl Malformed {
    pub fn new(field: &'static str, problem: impl std::fmt::Display) -> Self {
        Self { field, problem: problem.to_string() }
    }

    fn missing(field: &'static str) -> Self {
        Self::new(field, "missing")
    }
}

impl From<Malformed> for tonic::Status {
    fn from(err: Malformed) -> Self {
        Self::invalid_argument(err.to_string())
    }
}

// === small parts ===

fn id<T: for<'a> TryFrom<&'a [u8]>>(field: &'static str, bytes: &Bytes) -> Result<T, Malformed> {
    T::try_from(bytes).map_err(|_| Malformed::new(field, format!("{} bytes, want 16", bytes.len())))
}

fn id_bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

fn parsed<T: std::str::FromStr<Err: ToString>>(
    field: &'static str,
    text: &str,
) -> Result<T, Malformed> {
    text.parse().map_err(|e: T::Err| Malformed::new(field, format!("`{text}`: {}", e.to_string())))
}

fn ip_bytes(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    }
}

fn opt_ip(field: &'static str, bytes: &Bytes) -> Result<Option<IpAddr>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if let Ok(octets) = <[u8; 4]>::try_from(&bytes[..]) {
        return Ok(Some(IpAddr::V4(Ipv4Addr::from(octets))));
    }
    let octets = <[u8; 16]>::try_from(&bytes[..])
        .map_err(|_| Malformed::new(field, format!("{} bytes, want 4 or 16", bytes.len())))?;
    Ok(Some(IpAddr::V6(Ipv6Addr::from(octets))))
}

fn ip(field: &'static str, bytes: &Bytes) -> Result<IpAddr, Malformed> {
    opt_ip(field, bytes)?.ok_or_else(|| Malformed::missing(field))
}

fn opt_v4(field: &'static str, bytes: &Bytes) -> Result<Option<Ipv4Addr>, Malformed> {
    match opt_ip(field, bytes)? {
        None => Ok(None),
        Some(IpAddr::V4(ip)) => Ok(Some(ip)),
        Some(IpAddr::V6(ip)) => Err(Malformed::new(field, format!("{ip} is not IPv4"))),
    }
}

fn opt_v6(field: &'static str, bytes: &Bytes) -> Result<Option<Ipv6Addr>, Malformed> {
    match opt_ip(field, bytes)? {
        None => Ok(None),
        Some(IpAddr::V6(ip)) => Ok(Some(ip)),
        Some(IpAddr::V4(ip)) => Err(Malformed::new(field, format!("{ip} is not IPv6"))),
    }
}

fn mac(field: &'static str, bytes: &Bytes) -> Result<Mac, Malformed> {
    <[u8; 6]>::try_from(&bytes[..])
        .map(Mac)
        .map_err(|_| Malformed::new(field, format!("{} bytes, want 6", bytes.len())))
}

fn port(field: &'static str, number: u32) -> Result<u16, Malformed> {
    u16::try_from(number).map_err(|_| Malformed::new(field, format!("{number} is no port")))
}

fn each<M, T>(
    messages: Vec<M>,
    convert: impl Fn(M) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    messages.into_iter().map(convert).collect()
}

impl From<&DualStack> for v1::DualStack {
    fn from(addrs: &DualStack) -> Self {
        Self {
            v4: addrs.v4.map(|ip| ip_bytes(ip.into())).unwrap_or_default(),
            v6: addrs.v6.map(|ip| ip_bytes(ip.into())).unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::DualStack> for DualStack {
    type Error = Malformed;

    fn try_from(m: v1::DualStack) -> Result<Self, Malformed> {
        Ok(Self { v4: opt_v4("v4", &m.v4)?, v6: opt_v6("v6", &m.v6)? })
    }
}

fn dual_stack(m: Option<v1::DualStack>) -> Result<DualStack, Malformed> {
    m.map_or(Ok(DualStack::default()), DualStack::try_from)
}

#[cfg(test)]
mod tests;
