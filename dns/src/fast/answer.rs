//! One query in, one answer out, for address and pointer queries by UDP: no allocation but the caller's buffer.
//!
//! Answers carry the question as the client wrote it (its case is kept: some resolvers check it), an OPT record when the
//! query had one, and the addresses in a new random order each time. Empty and "no such name" answers carry no SOA record on
//! purpose: nothing between us and the program may remember that a name does not exist.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::names::{Lookup, RecordKind, SandboxNames};
use crate::stats::StatsSnapshot;
use crate::wire::{self, CLASS_IN, HEADER_LEN, OPT_LEN, Query, Reject, code, flag, kind};

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The answer is in the buffer.
    Answered,
    /// For the slow path.
    Slow,
    /// Must not be answered.
    Drop,
}

/// What answering needs besides the query; one per thread, reused.
#[derive(Debug)]
pub(crate) struct Answerer {
    rng: SmallRng,
    order: Vec<u16>,
    /// Emptied into [`crate::Stats`] after each batch.
    pub(crate) tally: StatsSnapshot,
}

impl Answerer {
    pub(crate) fn new(rng: SmallRng) -> Self {
        Self { rng, order: Vec::new(), tally: StatsSnapshot::default() }
    }

    /// Answers `message` from `names` into `out`, which is emptied first.
    pub(crate) fn answer(
        &mut self,
        message: &[u8],
        names: &SandboxNames,
        out: &mut Vec<u8>,
    ) -> Verdict {
        out.clear();
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Reject::Odd) => return Verdict::Slow,
            Err(Reject::Silent) => {
                self.tally.dropped += 1;
                return Verdict::Drop;
            }
        };
        if query.edns.is_some_and(|edns| edns.version != 0) {
            // RFC 6891 §6.1.3: the answer's own OPT says which version there is.
            wire::write_error(message, &query, code::BAD_VERSION, out);
            self.tally.malformed += 1;
            return Verdict::Answered;
        }
        if query.class != CLASS_IN {
            return Verdict::Slow;
        }
        let found = names.lookup(&query.name, RecordKind::from_wire(query.kind));
        if found == Lookup::NotOurs {
            return Verdict::Slow;
        }
        // The header is filled in at the end, when the counts are known.
        out.extend_from_slice(&message[..query.question_end]);
        let opt_bytes = if query.edns.is_some() { OPT_LEN } else { 0 };
        let mut records = Records {
            limit_bytes: query.udp_limit_bytes() - opt_bytes,
            ttl_s: names.ttl_s,
            count: 0,
            truncated: false,
            out,
        };
        let rcode = self.write(&found, &mut records);
        let (count, truncated) = (records.count, records.truncated);
        self.tally.truncated += u64::from(truncated);
        finish(&query, Ending { rcode, count, truncated }, out);
        Verdict::Answered
    }

    fn write(&mut self, found: &Lookup<'_>, records: &mut Records<'_>) -> u16 {
        match *found {
            Lookup::V4(addrs) => {
                self.tally.local += 1;
                self.shuffled(addrs.len(), |i| records.push(kind::A, &addrs[i].octets()));
            }
            Lookup::V6(addrs) => {
                self.tally.local += 1;
                self.shuffled(addrs.len(), |i| records.push(kind::AAAA, &addrs[i].octets()));
            }
            Lookup::Pointer(name) => {
                self.tally.local += 1;
                records.push(kind::PTR, name);
            }
            Lookup::NoData | Lookup::NotOurs => self.tally.nodata += 1,
            Lookup::NoName => {
                self.tally.nxdomain += 1;
                return code::NAME_ERROR;
            }
        }
        code::NO_ERROR
    }

    /// Calls `push` with 0 to `len` in random order until it returns false.
    fn shuffled(&mut self, len: usize, mut push: impl FnMut(usize) -> bool) {
        if len == 1 {
            push(0);
            return;
        }
        // More addresses than a message of 64 KiB could hold are cut before they are shuffled.
        self.order.clear();
        self.order.extend(0..u16::try_from(len).unwrap_or(u16::MAX));
        self.order.shuffle(&mut self.rng);
        for &i in &self.order {
            if !push(usize::from(i)) {
                return;
            }
        }
    }
}

/// The answer section being written, bounded by what the client takes.
struct Records<'o> {
    out: &'o mut Vec<u8>,
    limit_bytes: usize,
    ttl_s: u32,
    count: u16,
    truncated: bool,
}

impl Records<'_> {
    /// Appends one record that belongs to the question's name. False when it does not fit: the answer is then truncated, but
    /// keeps what it has, for clients that never ask again by TCP (musl before 1.2.4).
    fn push(&mut self, kind: u16, data: &[u8]) -> bool {
        // A pointer to the question's name, which always lies behind the header.
        const OWNER: [u8; 2] = [0xc0, HEADER_LEN as u8];
        if self.out.len() + 12 + data.len() > self.limit_bytes {
            self.truncated = true;
            return false;
        }
        let [kind_high, kind_low] = kind.to_be_bytes();
        let [t0, t1, t2, t3] = self.ttl_s.to_be_bytes();
        let [len_high, len_low] = (data.len() as u16).to_be_bytes();
        let [owner_high, owner_low] = OWNER;
        self.out.extend_from_slice(&[
            owner_high,
            owner_low,
            kind_high,
            kind_low,
            0,
            CLASS_IN as u8,
            t0,
            t1,
            t2,
            t3,
            len_high,
            len_low,
        ]);
        self.out.extend_from_slice(data);
        self.count += 1;
        true
    }
}

#[derive(Clone, Copy)]
struct Ending {
    rcode: u16,
    count: u16,
    truncated: bool,
}

/// Appends OPT and fills in the header, whose id is in place already.
fn finish(query: &Query, ending: Ending, out: &mut Vec<u8>) {
    let Ending { rcode, count, truncated } = ending;
    if let Some(edns) = query.edns {
        out.extend_from_slice(&wire::opt_record(edns.dnssec_ok, 0));
    }
    let kept = query.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
    let cut = if truncated { flag::TRUNCATED } else { 0 };
    let flags =
        flag::RESPONSE | flag::AUTHORITATIVE | flag::RECURSION_AVAILABLE | kept | cut | rcode;
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    out[6..8].copy_from_slice(&count.to_be_bytes());
    out[8..HEADER_LEN].copy_from_slice(&[0, 0, 0, u8::from(query.edns.is_some())]);
}
