//! Spans of time as the Go service and htgettoken write them.

use std::time::Duration;

const DAY: f64 = 86_400.0;

/// A Go duration (`300s`, `1h30m`, `1.5h`, `250ms`), and beyond Go whole or broken days (`3d`, `1d12h`) and bare
/// seconds (`259200`), both of which htgettoken takes for `minTokenLifetime`.
///
/// The Go service itself takes days only there; a timeout in days or without a unit is an error to it, and it then
/// runs with the default. Here it means what it says.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a span of time such as 30s, 1h30m or 3d");
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.len() > 64 {
        return Err(bad());
    }
    if let Some(rest) = trimmed.strip_prefix('-') {
        return if parse(rest)?.is_zero() {
            Ok(Duration::ZERO)
        } else {
            Err(format!("{text:?} is negative"))
        };
    }
    let mut rest = trimmed.strip_prefix('+').unwrap_or(trimmed);
    if let Ok(seconds) = rest.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let letters = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(letters);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => DAY,
            _ => return Err(bad()),
        };
        seconds += number * factor;
        rest = next;
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|d| d.as_secs() <= u64::from(u32::MAX))
        .ok_or_else(|| format!("{text:?} is too long"))
}

/// The shortest writing that [`parse`] reads back.
pub(crate) fn show(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match (seconds, nanos) {
        (0, 0) => "0s".into(),
        (_, n) if n > 0 => format!("{}s", duration.as_secs_f64()),
        (s, _) if s % 86_400 == 0 => format!("{}d", s / 86_400),
        (s, _) if s % 3600 == 0 => format!("{}h", s / 3600),
        (s, _) if s % 60 == 0 => format!("{}m", s / 60),
        (s, _) => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_days_and_bare_seconds() {
        for (text, millis) in [
            ("30s", 30_000),
            ("300s", 300_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("1m0.5s", 60_500),
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("+2s", 2000),
            ("3d", 259_200_000),
            ("1d12h", 129_600_000),
            ("259200", 259_200_000),
            (" 5s ", 5000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_span_is_refused() {
        for text in [
            "",
            "s",
            "3 d",
            "3x",
            "1h30",
            "-5s",
            "1..5s",
            "nan s",
            "inf",
            "1e3s",
            "99999999d",
            "five",
            "5S",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_and_read_back() {
        for text in ["0s", "30s", "1m", "90s", "1h", "3d", "0.25s"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}
