//! Names of credentials: patterns, and which part is the handle.

use std::{fmt, str::FromStr};

/// A name, or a pattern with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// Whether it can match one name only.
    pub(crate) fn is_exact(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"-+=_.*?".contains(&b);
        if text.is_empty() || text.len() > 200 || !text.bytes().all(fine) {
            return Err(format!(
                "{text:?} is no name of a credential: letters, digits and - + = _ . only, * and ? for patterns"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Goes back to the last `*` only: quadratic at worst, whatever the pattern.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(b) if b == c => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    (p, n) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|b| *b == b'*')
}

/// The service of these that a name belongs to, and its handle. The longest service wins: `mu2e_production` is no handle
/// of `mu2e` where both are services.
pub(crate) fn split<'a, 'n>(
    name: &'n str,
    services: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, Option<&'n str>)> {
    services
        .into_iter()
        .filter_map(|service| {
            let rest = name.strip_prefix(service)?;
            match rest.strip_prefix('_') {
                Some(handle) if !handle.is_empty() => Some((service, Some(handle))),
                _ => rest.is_empty().then_some((service, None)),
            }
        })
        .max_by_key(|(service, _)| service.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("dune", "dune", true),
            ("dune", "dune_x", false),
            ("*", "anything", true),
            ("dune_*", "dune_production", true),
            ("dune_*", "dune", false),
            ("*_h?", "dune_production_h1", true),
            ("*_h?", "dune_production_h12", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        let hard = "*a".repeat(90);
        assert!(!matches(hard.as_bytes(), "a".repeat(80).as_bytes()));
        assert!(Pattern::from_str("a/b").is_err() && Pattern::from_str("").is_err());
        assert!(Pattern::from_str("a+b").unwrap().is_exact());
    }

    #[test]
    fn the_longest_service_wins() {
        let services = ["mu2e", "mu2e_production"];
        assert_eq!(
            split("mu2e_production", services),
            Some(("mu2e_production", None))
        );
        assert_eq!(
            split("mu2e_production_h", services),
            Some(("mu2e_production", Some("h")))
        );
        assert_eq!(split("mu2e_h", services), Some(("mu2e", Some("h"))));
        assert_eq!(split("mu2ex", services), None);
        assert_eq!(split("mu2e_", services), None);
    }
}
