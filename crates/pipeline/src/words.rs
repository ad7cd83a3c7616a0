//! Spans of time as people say them.

use jiff::SignedDuration;

/// Two units at the most: `6d 23h`, `3h 59m`, `12s`. Negative spans begin with a minus.
#[must_use]
pub fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().unsigned_abs();
    let sign = if duration.is_negative() { "-" } else { "" };
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{seconds}s"),
        (0, 0, m) => format!("{sign}{m}m"),
        (0, h, m) => format!("{sign}{h}h {m}m"),
        (d, h, _) => format!("{sign}{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_at_the_most() {
        let say = |s| span(SignedDuration::from_secs(s));
        assert_eq!(say(12), "12s");
        assert_eq!(say(3 * 60 + 59), "3m");
        assert_eq!(say(4 * 3600 - 1), "3h 59m");
        assert_eq!(say(7 * 86_400 - 1), "6d 23h");
        assert_eq!(say(-3600), "-1h 0m");
    }
}
