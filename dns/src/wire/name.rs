//! Names in wire form: labels behind their lengths, lower case, without the root's zero byte. `web.overnet` is
//! `\x03web\x07overnet`. That is the form that queries carry and that the tables are keyed by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ZoneNameError;

/// Longest name without the root's byte (RFC 1035 §2.3.4: 255 with it).
const NAME_MAX_BYTES: usize = 254;
const LABEL_MAX_BYTES: usize = 63;

/// A lower-case name in wire form, held inline: queries are parsed without an allocation.
#[derive(Clone, Copy)]
pub struct WireName {
    bytes: [u8; NAME_MAX_BYTES],
    len: u8,
}

impl WireName {
    /// The name that `text` writes with dots; a trailing dot changes nothing; upper case becomes lower case.
    ///
    /// # Errors
    /// [`ZoneNameError`] when a label or the whole is too long or a label is empty. The empty text is refused too.
    pub fn from_text(text: &str) -> Result<Self, ZoneNameError> {
        let mut name = Self { bytes: [0; NAME_MAX_BYTES], len: 0 };
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            if label.is_empty() {
                return Err(ZoneNameError::EmptyLabel { name: text.to_owned() });
            }
            if label.len() > LABEL_MAX_BYTES {
                return Err(ZoneNameError::LabelTooLong { name: text.to_owned() });
            }
            if !name.push_label(label.as_bytes()) {
                return Err(ZoneNameError::TooLong { name: text.to_owned() });
            }
        }
        Ok(name)
    }

    /// The name at `start` of a message and the offset behind it. Compression pointers are refused: no query of one
    /// question has a reason to hold one, and what is not followed cannot loop.
    pub(crate) fn read(message: &[u8], start: usize) -> Option<(Self, usize)> {
        let mut name = Self { bytes: [0; NAME_MAX_BYTES], len: 0 };
        let mut at = start;
        loop {
            let len = usize::from(*message.get(at)?);
            at += 1;
            if len == 0 {
                return Some((name, at));
            }
            if len > LABEL_MAX_BYTES {
                return None;
            }
            let label = message.get(at..at + len)?;
            at += len;
            if !name.push_label(label) {
                return None;
            }
        }
    }

    /// The name of these labels, outermost last; `None` when they are too long.
    pub(crate) fn from_labels<'l>(labels: impl IntoIterator<Item = &'l [u8]>) -> Option<Self> {
        let mut name = Self { bytes: [0; NAME_MAX_BYTES], len: 0 };
        let fits = labels
            .into_iter()
            .all(|label| label.len() <= LABEL_MAX_BYTES && name.push_label(label));
        fits.then_some(name)
    }

    /// False, and nothing changed, when the name would get too long.
    fn push_label(&mut self, label: &[u8]) -> bool {
        let at = usize::from(self.len);
        let Some(room) = self.bytes.get_mut(at..at + 1 + label.len()) else { return false };
        room[0] = label.len() as u8;
        for (to, from) in room[1..].iter_mut().zip(label) {
            *to = from.to_ascii_lowercase();
        }
        self.len += 1 + label.len() as u8;
        true
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The labels, outermost last.
    pub(crate) fn labels(&self) -> Labels<'_> {
        Labels { rest: self.as_bytes() }
    }

    /// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035 §3.5, RFC 3596 §2.5); `None` for any
    /// other name and for names of a whole prefix.
    pub(crate) fn reverse_addr(&self) -> Option<IpAddr> {
        let bytes = self.as_bytes();
        if let Some(host) = bytes.strip_suffix(b"\x07in-addr\x04arpa") {
            let mut octets = [0; 4];
            let mut labels = Labels { rest: host };
            for octet in octets.iter_mut().rev() {
                *octet = decimal(labels.next()?)?;
            }
            return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
        }
        let host = bytes.strip_suffix(b"\x03ip6\x04arpa")?;
        let mut bits: u128 = 0;
        let mut count = 0;
        for label in (Labels { rest: host }) {
            let &[digit] = label else { return None };
            let nibble = char::from(digit).to_digit(16)?;
            if count == 32 {
                return None;
            }
            bits |= u128::from(nibble) << (4 * count);
            count += 1;
        }
        (count == 32).then(|| Ipv6Addr::from(bits).into())
    }
}

/// One to three decimal digits without a leading zero.
fn decimal(label: &[u8]) -> Option<u8> {
    let leading_zero = label.len() > 1 && label[0] == b'0';
    let digits = label.iter().all(u8::is_ascii_digit);
    if leading_zero || !digits {
        return None;
    }
    std::str::from_utf8(label).ok()?.parse().ok()
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// With dots; bytes that are no printable ASCII as `\xNN`; the root as `.`.
impl fmt::Display for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 0 {
            return f.write_str(".");
        }
        for (i, label) in self.labels().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            write!(f, "{}", label.escape_ascii())?;
        }
        Ok(())
    }
}

pub(crate) struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.rest.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(len))?;
        self.rest = rest;
        Some(label)
    }
}

/// `name` without `suffix`, when it ends with it at the border of a label and something is left.
pub(crate) fn strip_suffix<'n>(name: &'n [u8], suffix: &[u8]) -> Option<&'n [u8]> {
    let host = name.strip_suffix(suffix)?;
    let mut at = 0;
    while at < host.len() {
        at += 1 + usize::from(host[at]);
    }
    (at == host.len() && at > 0).then_some(host)
}
