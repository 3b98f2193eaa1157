//! Values as short texts, and texts cut to columns.

use crate::top::rows::Value;
use ratatui::text::Span;

/// As it is shown in a column.
#[must_use]
pub fn value(value: &Value) -> String {
    match *value {
        Value::Unknown => "-".to_owned(),
        Value::Text(ref text) => text.clone(),
        Value::Pid(pid) => pid.to_string(),
        Value::Count(number) => count(number),
        Value::Of(number, Some(of)) => format!("{number}/{of}"),
        Value::Of(number, None) => number.to_string(),
        Value::PerSecond(number) => rate(number),
        Value::Seconds(number) => seconds(number),
        Value::Share(number) => format!("{:.0}%", number * 100.0),
        Value::Percent(number) => format!("{number:.0}%"),
        Value::Bytes(number) => bytes(number),
        Value::At(time) => clock(time),
    }
}

/// `12345`, `123k`, `12M`.
#[must_use]
pub fn count(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..10_000_000 => format!("{}k", number / 1000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

/// `0`, `0.25`, `12.3`, `1234`.
#[must_use]
pub fn rate(number: f64) -> String {
    if number == 0.0 {
        "0".to_owned()
    } else if number < 10.0 {
        format!("{number:.2}")
    } else if number < 100.0 {
        format!("{number:.1}")
    } else if number < 1e6 {
        format!("{number:.0}")
    } else {
        format!("{number:.0e}")
    }
}

/// `0.2ms`, `12ms`, `1.23s`, `5m12s`, `3h05m`, `12d4h`.
#[must_use]
pub fn seconds(number: f64) -> String {
    let whole = whole(number);
    if number.is_nan() || number < 0.0 {
        "0ms".to_owned()
    } else if number < 0.001 {
        format!("{:.2}ms", number * 1e3)
    } else if number < 0.01 {
        format!("{:.1}ms", number * 1e3)
    } else if number < 0.9995 {
        format!("{:.0}ms", number * 1e3)
    } else if number < 9.995 {
        format!("{number:.2}s")
    } else if number < 99.95 {
        format!("{number:.1}s")
    } else if whole < 3600 {
        format!("{}m{:02}s", whole / 60, whole % 60)
    } else if whole < 86_400 {
        format!("{}h{:02}m", whole / 3600, whole / 60 % 60)
    } else if whole < 8_640_000 {
        format!("{}d{}h", whole / 86_400, whole / 3600 % 24)
    } else if whole < 8_640_000_000 {
        format!("{}d", whole / 86_400)
    } else {
        "long".to_owned()
    }
}

/// `512`, `12K`, `1.5M`, `123M`, `1.2G`: of 1024.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "to a tenth")]
pub fn bytes(number: u64) -> String {
    let units = ["K", "M", "G", "T"];
    let mut size = number as f64;
    let mut unit = "";
    for next in units {
        if size < 1000.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit.is_empty() || size >= 10.0 {
        format!("{size:.0}{unit}")
    } else {
        format!("{size:.1}{unit}")
    }
}

/// `12:34:56Z`.
#[must_use]
pub fn clock(time_seconds: f64) -> String {
    let seconds = whole(time_seconds);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}Z", seconds % 60)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is out of range saturates"
)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// Cut to so many columns of the terminal; what is cut ends with `…`.
#[must_use]
pub fn cut(text: &str, columns: usize) -> String {
    if Span::raw(text).width() <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut taken = 1;
    for c in text.chars() {
        taken += Span::raw(c.to_string()).width();
        if taken > columns {
            break;
        }
        cut.push(c);
    }
    if columns > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rates_and_sizes_are_short() {
        let texts = [
            0.0, 0.00025, 0.0042, 0.25, 1.234, 12.34, 312.0, 11_100.0, 1e6, 1e300,
        ]
        .map(seconds);
        let expected = [
            "0.00ms", "0.25ms", "4.2ms", "250ms", "1.23s", "12.3s", "5m12s", "3h05m", "11d13h",
            "long",
        ];
        assert_eq!(texts, expected);
        assert_eq!(
            [f64::NAN, -1.0, f64::INFINITY].map(seconds),
            ["0ms", "0ms", "long"]
        );
        assert_eq!(
            [0.0, 0.254, 12.34, 1234.5, 1e9].map(rate),
            ["0", "0.25", "12.3", "1234", "1e9"]
        );
        assert_eq!(
            [7, 2048, 50 << 20, 3 << 30].map(bytes),
            ["7", "2.0K", "50M", "3.0G"]
        );
        assert_eq!(
            [7, 123_456, u64::MAX].map(count),
            ["7", "123k", "18446744073G"]
        );
        assert_eq!(clock(45_296.7), "12:34:56Z");
        assert_eq!(clock(f64::NAN), "00:00:00Z");
    }

    #[test]
    fn what_is_cut_has_no_more_columns_than_there_are() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("ab", 1), "…");
        assert_eq!(cut("ab", 0), "");
    }
}
