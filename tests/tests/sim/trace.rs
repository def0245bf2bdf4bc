//! The record of a run: a digest of everything that happened, and its last lines for the report of a failure.

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;

use crate::Ms;

/// Lines kept for a report.
const LINES_MAX: usize = 80;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    lines: VecDeque<String>,
    /// All lines go to standard error as they come.
    loud: bool,
}

impl Trace {
    pub(crate) fn new(loud: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), loud }
    }

    /// FNV-1a (Fowler, Noll, Vo) over all that was noted.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    fn mix(&mut self, byte: u8) {
        self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    /// What happens too often for a line.
    pub(crate) fn count(&mut self, now: Ms, what: u64) {
        now.to_le_bytes().into_iter().chain(what.to_le_bytes()).for_each(|b| self.mix(b));
    }

    pub(crate) fn line(&mut self, now: Ms, what: fmt::Arguments<'_>) {
        let mut line = if self.lines.len() < LINES_MAX { String::new() } else { self.recycled() };
        // Writing to a string cannot fail.
        let _ = write!(line, "{now:>6} {what}");
        line.bytes().for_each(|b| self.mix(b));
        if self.loud {
            eprintln!("{line}");
        }
        self.lines.push_back(line);
    }

    fn recycled(&mut self) -> String {
        let mut line = self.lines.pop_front().unwrap_or_default();
        line.clear();
        line
    }

    pub(crate) fn tail(&self) -> String {
        self.lines.iter().fold(String::new(), |all, line| all + line + "\n")
    }
}
