//! TLS between nodes: version 1.3 only, ring, ALPN `h2`, no session resumption.
//!
//! `store` keeps the current configurations and swaps them whole; `accept` turns a listener into streams for tonic;
//! `connect` makes tonic channels; `verify` checks chains outside rustls' own paths; `error` says in one line why a
//! connection failed.
//!
//! A swap takes effect on the next connection. Live ones go on, with the certificate they began with: a renewal breaks
//! nothing, and a removed node is cut off by the authorisation layer, not by TLS.

pub mod accept;
pub mod connect;
pub mod error;
pub mod store;
pub mod stream;
pub(crate) mod verify;

/// What both sides offer (RFC 9113 §3.2). rustls sends nothing by itself.
const ALPN: &[u8] = b"h2";

#[cfg(test)]
mod tests;
