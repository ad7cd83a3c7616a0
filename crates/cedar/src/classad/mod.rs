//! ClassAds: attribute names and literals (cedar.md 2.3).

mod literal;

pub use literal::Value;
pub(crate) use literal::in_expression;

use crate::{
    Malformed, Unsendable,
    wire::{Outgoing, Reader},
};

/// Bounds for an ad of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Expressions.
    pub expressions: usize,
    /// Bytes of all expressions together, each counting [`Limits::PER_EXPRESSION`] more than its text has.
    pub bytes: usize,
}

impl Limits {
    /// What keeping an expression takes besides its text: its place, and two small pieces of the heap. A line of
    /// two bytes counts like the hundred it will take, so that a bound on bytes is one on memory.
    pub const PER_EXPRESSION: usize = 128;
    /// For the ads of a handshake: what HTCondor itself accepts there, and 64 KiB.
    pub const HANDSHAKE: Limits = Limits {
        expressions: 100,
        bytes: 64 * 1024,
    };
    /// For everything else: HTCondor's bound on expressions, and 1 MiB, which no ad of a daemon comes near.
    pub const GENERAL: Limits = Limits {
        expressions: 1_000_000,
        bytes: 1024 * 1024,
    };
}

/// A line that announces a secret one.
const SECRET_MARK: &[u8] = b"ZKM";

/// An ad. Attribute names are compared without case; of two equal ones the later counts.
#[derive(Clone, Default, PartialEq)]
pub struct Ad(Vec<(String, Value)>);

impl Ad {
    /// Without attributes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an attribute.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .rev()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of an attribute that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of an attribute that is an integer.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of an attribute that is a boolean.
    #[must_use]
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// All attributes, as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Number of attributes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the ad to a message.
    ///
    /// # Errors
    /// [`Unsendable::Characters`] for a name that is none, [`Unsendable::Nul`].
    pub fn encode(&self, mut message: Outgoing) -> Result<Outgoing, Unsendable> {
        message = message.length(self.0.len());
        for (name, value) in &self.0 {
            check_name("an attribute name", name)?;
            message = message.string("an attribute", &format!("{name} = {value}"))?;
        }
        // two historic types, always empty now
        message.string("MyType", "")?.string("TargetType", "")
    }

    /// Reads an ad within `limits`.
    ///
    /// # Errors
    /// [`Malformed`]; [`Malformed::Truncated`] if the bytes end before the ad does.
    pub fn decode(reader: &mut Reader<'_>, limits: Limits) -> Result<Self, Malformed> {
        let count = reader.length("the number of attributes", limits.expressions)?;
        let mut left = limits.bytes;
        let mut entries = Vec::new();
        for _ in 0..count {
            let mut line = expression(reader, &mut left, limits)?;
            let secret = line == SECRET_MARK;
            if secret {
                line = expression(reader, &mut left, limits)?;
            }
            let (name, value) = split(line).ok_or(Malformed::NotAnAttribute)?;
            entries.push((name, Value::parse(value)));
        }
        expression(reader, &mut left, limits)?;
        expression(reader, &mut left, limits)?;
        Ok(Self(entries))
    }
}

/// Names only: values may be private.
impl std::fmt::Debug for Ad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

fn expression<'a>(reader: &mut Reader<'a>, left: &mut usize, limits: Limits) -> Result<&'a [u8], Malformed> {
    let line = reader
        .string_bytes("an attribute", *left)
        .map_err(|error| match error {
            // tell the bound of the ad, not what happened to be left of it
            Malformed::TooLong { got, .. } => Malformed::TooLong {
                what: "an ad",
                got,
                limit: limits.bytes as u64,
            },
            other => other,
        })?;
    let line = line.unwrap_or_default();
    *left = left.saturating_sub(line.len() + Limits::PER_EXPRESSION);
    Ok(line)
}

/// Name and right-hand side. The first `=` divides, as in HTCondor, unless the text before it is no attribute name
/// of any kind because a ` = ` follows: a credd names attributes after files, whose names may hold `=`.
fn split(line: &[u8]) -> Option<(String, &[u8])> {
    let at = line.iter().position(|b| *b == b'=')?;
    let glued = line.get(..at)?.last() != Some(&b' ');
    let spaced = line.windows(3).position(|w| w == b" = ").filter(|end| {
        glued
            && line
                .get(..*end)
                .is_some_and(|name| !name.iter().any(|b| b" \"".contains(b)))
    });
    let at = spaced.map_or(at, |end| end + 1);
    let (name, value) = line.split_at_checked(at)?;
    let name = String::from_utf8_lossy(name.trim_ascii());
    (!name.is_empty()).then(|| (name.into_owned(), value.get(1..).unwrap_or_default()))
}

/// Refuses what is no attribute name.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), Unsendable> {
    let text = || name.to_owned();
    is_name(name)
        .then_some(())
        .ok_or_else(|| Unsendable::Characters { what, text: text() })
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing::hex, wire::Mode};

    fn decode(mode: Mode, bytes: &[u8]) -> Result<Ad, Malformed> {
        let mut reader = Reader::new(mode, bytes);
        let ad = Ad::decode(&mut reader, Limits::HANDSHAKE)?;
        reader.finish()?;
        Ok(ad)
    }

    /// The examples of cedar.md 2.3.
    #[test]
    fn the_empty_ad() {
        for (mode, bytes) in [
            (Mode::Plain, "0000000000000000 00 00"),
            (
                Mode::Sealed,
                "0000000000000000 0000000000000001 00 0000000000000001 00",
            ),
        ] {
            let bytes = hex(bytes);
            assert_eq!(Ad::new().encode(Outgoing::new(mode)).unwrap().bytes(), bytes);
            assert!(decode(mode, &bytes).unwrap().is_empty());
        }
    }

    #[test]
    fn every_prefix_is_not_yet_and_the_whole_round_trips() {
        let mut ad = Ad::new();
        ad.set("Name", "a \"b\" c\\");
        ad.set("Count", -7);
        ad.set("Yes", Value::Boolean(true));
        ad.set(
            "Requirements",
            Value::Expression("regexp(\"^a\", Name) && true".into()),
        );
        for mode in [Mode::Plain, Mode::Sealed] {
            let message = ad.encode(Outgoing::new(mode)).unwrap();
            let bytes = message.bytes();
            assert_eq!(decode(mode, bytes).unwrap(), ad);
            for n in 0..bytes.len() {
                let cut = decode(mode, &bytes[..n]);
                assert!(
                    matches!(cut, Err(Malformed::Truncated { .. })),
                    "{mode:?} {n} {cut:?}"
                );
            }
        }
    }

    #[test]
    fn counts_and_bytes_are_bounded() {
        for count in [101i64, -1, 1 << 31, i64::MAX, i64::MIN] {
            let error = decode(Mode::Plain, &count.to_be_bytes()).unwrap_err();
            assert!(
                matches!(error, Malformed::TooLong { .. } | Malformed::BadLength { .. }),
                "{error:?}"
            );
        }
        let mut ad = Ad::new();
        ad.set("A", "x".repeat(40_000).as_str());
        ad.set("B", "x".repeat(40_000).as_str());
        let message = ad.encode(Outgoing::new(Mode::Sealed)).unwrap();
        let error = decode(Mode::Sealed, message.bytes()).unwrap_err();
        assert!(
            matches!(
                error,
                Malformed::TooLong {
                    what: "an ad",
                    limit: 65_536,
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn short_lines_count_for_the_memory_they_take() {
        let mut bytes = 1_000_000i64.to_be_bytes().to_vec();
        bytes.extend(b"A=\0".repeat(1_000_000));
        bytes.extend([0, 0]);
        let error = Ad::decode(&mut Reader::new(Mode::Plain, &bytes), Limits::GENERAL).unwrap_err();
        assert!(
            matches!(error, Malformed::TooLong { what: "an ad", .. }),
            "{error:?}"
        );
    }

    #[test]
    fn a_secret_line_and_its_mark_count_as_one() {
        let bytes = hex("0000000000000002 5a4b4d00 433d3100 443d3200 00 00");
        let ad = decode(Mode::Plain, &bytes).unwrap();
        assert_eq!(
            (ad.integer("c"), ad.integer("d"), ad.len()),
            (Some(1), Some(2), 2)
        );
        assert_eq!(format!("{ad:?}"), r#"{"C", "D"}"#);
    }

    #[test]
    fn names_of_files_may_hold_an_equals_sign() {
        for (line, name, value) in [
            ("A=1", "A", "1"),
            ("A = 1", "A", " 1"),
            ("a=b.top = 12", "a=b.top", " 12"),
            ("A=\"x = y\"", "A", "\"x = y\""),
            ("A = \"x = y\"", "A", " \"x = y\""),
        ] {
            assert_eq!(
                split(line.as_bytes()),
                Some((name.to_owned(), value.as_bytes())),
                "{line}"
            );
        }
        assert_eq!(split(b"nothing"), None);
        assert_eq!(split(b"=1"), None);
    }

    #[test]
    fn of_two_equal_names_the_later_counts() {
        let mut ad = Ad::new();
        ad.set("User", "a@x");
        ad.set("user", "b@x");
        assert_eq!(ad.text("USER"), Some("b@x"));
        ad.set("b d", 1);
        assert!(matches!(
            ad.encode(Outgoing::new(Mode::Plain)),
            Err(Unsendable::Characters { .. })
        ));
    }
}
