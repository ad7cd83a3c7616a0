//! Addresses that may hold a password.

use std::fmt;

/// An address, shown without what may be a secret in it.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_scheme = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        };
        let rest = match self.0.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => {
                write!(f, "{scheme}://")?;
                rest
            }
            _ => self.0,
        };
        let (place, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        match place.rsplit_once('@') {
            Some((_, host)) => write!(f, "***@{host}")?,
            // a password with a question mark in it, or so it may be
            None if query.contains('@') => return f.write_str("***"),
            None => f.write_str(place)?,
        }
        if !query.is_empty() {
            f.write_str("?***")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The address with a scheme in front, unless it has one.
pub(crate) fn with_scheme(address: String, scheme: &str) -> String {
    if address.contains("://") {
        address
    } else {
        format!("{scheme}://{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (address, shown) in [
            ("push.example.org:9091", "push.example.org:9091"),
            ("https://loki.example.org/x", "https://loki.example.org/x"),
            (
                "https://u:hunter2@loki.example.org/x",
                "https://***@loki.example.org/x",
            ),
            ("u:hunter2@loki.example.org", "***@loki.example.org"),
            (
                "https://u:p/hunter2@loki.example.org",
                "https://***@loki.example.org",
            ),
            ("https://u:p?hunter2@loki.example.org", "https://***"),
            ("u:p://hunter2@loki.example.org", "***@loki.example.org"),
            (
                "https://o.example.org/v1?key=hunter2#x",
                "https://o.example.org/v1?***",
            ),
        ] {
            assert_eq!(Shown(address).to_string(), shown);
        }
    }
}
