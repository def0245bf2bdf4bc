//! Times as Docker prints them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::duration;
use crate::error::CliError;

/// Unix milliseconds → `2026-11-24T07:45:38.123Z`.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// The same; nothing for 0, which is a time that is not known.
pub(crate) fn known(unix_ms: u64) -> String {
    if unix_ms == 0 { String::new() } else { rfc3339(unix_ms) }
}

/// How long ago, in Docker's words: `3 minutes ago`.
pub(crate) fn ago(unix_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(unix_ms) / 1_000;
    let (count, unit) = match seconds {
        0 => return "Less than a second ago".to_owned(),
        1..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// A moment as users write it: RFC 3339, Unix seconds, or how long it is before `now_ms`.
///
/// # Errors
/// Usage.
pub(crate) fn before(text: &str, now_ms: u64) -> Result<u64, CliError> {
    moment(text, |length_ms| now_ms.saturating_sub(length_ms))
}

/// The same; a length of time is after `now_ms`.
///
/// # Errors
/// Usage.
pub(crate) fn after(text: &str, now_ms: u64) -> Result<u64, CliError> {
    moment(text, |length_ms| now_ms.saturating_add(length_ms))
}

fn moment(text: &str, relative: impl FnOnce(u64) -> u64) -> Result<u64, CliError> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(seconds.saturating_mul(1_000));
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default());
    }
    let length = duration::seconds(text).map_err(|_| {
        CliError::usage(format!(
            "invalid time {text}: want such as 2026-11-24T07:45:38Z, 1795506338 or 10m"
        ))
    });
    length.map(|seconds| relative(seconds.saturating_mul(1_000)))
}

/// The wall clock in Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_docker_reads_them() {
        for (text, wanted) in
            [("1970-01-01T00:00:01.5Z", 1_500), ("2", 2_000), ("10s", 90_000), ("1h", 0)]
        {
            assert_eq!(before(text, 100_000).expect(text), wanted, "{text}");
        }
        assert_eq!(after("10s", 100_000).expect("right"), 110_000);
        for bad in ["", "soon", "-1", "1970-01-01"] {
            assert!(before(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_read_as_dockers() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!((known(0), known(1_500)), (String::new(), rfc3339(1_500)));
        assert_eq!(ago(0, 61_000), "1 minute ago");
        assert_eq!(ago(0, 7_200_000), "2 hours ago");
    }
}
