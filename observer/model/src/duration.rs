//! Durations: as options have them, and in seconds.

use std::time::Duration;

/// Reads a time such as `100ms`, `90s`, `5m` or `1h30m`.
///
/// # Errors
/// With an example.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as 100ms, 90s or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let ms = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(ms));
        let part = ms.map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.trim().is_empty() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

/// Nanoseconds in seconds.
#[expect(clippy::cast_precision_loss, reason = "shown as a float")]
#[must_use]
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, ms) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1500ms", 1500),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "m",
            "5 m",
            "-1s",
            "5x",
            "99999999999999999999s",
            "300000000000000d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
