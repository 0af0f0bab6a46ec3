//! Durations as people write them: `500ms`, `30s`, `3m10s`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads numbers with their units, largest unit first, each at most once; `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut milliseconds = 0u64;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|character: char| character.is_ascii_digit())
            .map_or(rest.len(), |at| digits + at);
        let &(_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[digits..unit_end])?;
        if unit >= smaller_than {
            return None;
        }
        smaller_than = unit;
        milliseconds = milliseconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(Duration::from_millis(milliseconds))
}

/// Writes what [`parse_duration`] reads; parts of a millisecond are left out.
pub fn write_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, unit) in UNITS.iter().rev() {
        if rest >= *unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["500ms", "30s", "5m", "1h", "3m10s", "1d2h3m4s5ms"] {
            assert_eq!(parse_duration(text).map(write_duration).as_deref(), Some(text));
        }
        assert_eq!(write_duration(Duration::ZERO), "0s");
        assert_eq!(write_duration(Duration::from_secs(90)), "1m30s");
    }

    #[test]
    fn other_text_is_no_duration() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "5x",
            "5s5m",
            "5s5s",
            "5S",
            "99999999999999999999s",
            "99999999999999999d",
            "5sm",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
