//! Lengths of time as users write and read them: `90d`, `2160h`, `1h30m`, as Docker has them (`2160h0m0s`).

use crate::error::CliError;

/// Whole seconds, more than none.
pub(crate) fn seconds(text: &str) -> Result<u64, CliError> {
    let bad =
        || CliError::usage(format!("invalid duration {text}: want such as 90d, 2160h or 1h30m"));
    parse(text).filter(|s| *s > 0).ok_or_else(bad)
}

fn parse(text: &str) -> Option<u64> {
    let (mut total, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        let unit = after.chars().next()?;
        let length = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(length)?)?;
        rest = &after[unit.len_utf8()..];
    }
    Some(total)
}

/// `90d`, `1h30m`, `45s`.
pub(crate) fn words(seconds: u64) -> String {
    let parts = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let mut rest = seconds;
    let mut out = String::new();
    for (length, unit) in parts {
        if rest >= length {
            out.push_str(&(rest / length).to_string());
            out.push(unit);
            rest %= length;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_docker_writes_them() {
        for (text, wanted) in
            [("90d", 7_776_000), ("2160h", 7_776_000), ("2160h0m0s", 7_776_000), ("1h30m", 5_400)]
        {
            assert_eq!(seconds(text).ok(), Some(wanted), "{text}");
        }
        for bad in ["", "5", "h", "1x", "0s", "-1h", "1h 2m", "99999999999999999999s", "1é"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_written_short() {
        let all = [0, 45, 5_400, 7_776_000].map(words);
        assert_eq!(all, ["0s", "45s", "1h30m", "90d"]);
    }
}
