//! When a process that ended is started again (`--restart`).
//!
//! Pure: ends come in as numbers, decisions go out. Docker's words and delays.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Delay before the first restart; doubled with each that follows (Docker's).
const DELAY_FIRST: Duration = Duration::from_millis(100);
/// Docker's cap.
const DELAY_MAX: Duration = Duration::from_mins(1);
/// A process that lived this long starts the delays anew (Docker's).
pub const STABLE_AFTER: Duration = Duration::from_secs(10);

/// `no`, `always`, `on-failure[:N]` or `unless-stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    /// On a non-zero exit code, at most this often; 0: without end.
    OnFailure {
        max: u32,
    },
    UnlessStopped,
}

/// Docker's sentences.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    #[error(
        "invalid restart policy: unknown policy '{policy}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown { policy: String },
    #[error("invalid restart policy: maximum retry count must be an integer")]
    Count,
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'")]
    CountWithout,
}

impl RestartPolicy {
    /// Is a process started again that ended by itself with this code, after `restarts` restarts in a row?
    pub fn restarts(self, exit_code: i32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure { max } => exit_code != 0 && (max == 0 || restarts < max),
        }
    }

    /// Does the policy bring the process back after a restart of the machine?
    pub fn survives_reboot(self, stopped: bool) -> bool {
        match self {
            Self::No | Self::OnFailure { .. } => false,
            Self::Always => true,
            Self::UnlessStopped => !stopped,
        }
    }
}

/// How long to wait before restart number `in_a_row`, counted from 0 since the process was last stable.
pub fn delay(in_a_row: u32) -> Duration {
    DELAY_FIRST.saturating_mul(1 << in_a_row.min(16)).min(DELAY_MAX)
}

impl FromStr for RestartPolicy {
    type Err = RestartError;

    fn from_str(text: &str) -> Result<Self, RestartError> {
        let (policy, count) = match text.split_once(':') {
            Some((policy, count)) => (policy, Some(count)),
            None => (text, None),
        };
        let max = count.map(str::parse).transpose().map_err(|_| RestartError::Count)?;
        match (policy, max) {
            ("" | "no", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("unless-stopped", None) => Ok(Self::UnlessStopped),
            ("on-failure", max) => Ok(Self::OnFailure { max: max.unwrap_or(0) }),
            ("no" | "always" | "unless-stopped", Some(_)) => Err(RestartError::CountWithout),
            _ => Err(RestartError::Unknown { policy: policy.to_owned() }),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::OnFailure { max: 0 } => f.write_str("on-failure"),
            Self::OnFailure { max } => write!(f, "on-failure:{max}"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_bad_ones_are_refused() {
        for text in ["no", "always", "on-failure", "on-failure:3", "unless-stopped"] {
            let policy: RestartPolicy = text.parse().expect(text);
            assert_eq!(policy.to_string(), text);
        }
        for bad in ["sometimes", "on-failure:x", "always:3", "on-failure:-1", "no:1"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn on_failure_counts_and_forgives_success() {
        let policy = RestartPolicy::OnFailure { max: 2 };
        assert!(policy.restarts(1, 1) && !policy.restarts(1, 2) && !policy.restarts(0, 0));
        assert!(RestartPolicy::OnFailure { max: 0 }.restarts(1, 1_000));
    }

    #[test]
    fn delays_double_up_to_a_minute() {
        assert_eq!(delay(0), Duration::from_millis(100));
        assert_eq!(delay(3), Duration::from_millis(800));
        assert_eq!(delay(u32::MAX), Duration::from_mins(1));
    }
}
