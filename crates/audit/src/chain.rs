//! How lines hang together: each has a number and the SHA-256 of the line before it.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Longest line read; ours have some 500 bytes.
pub(crate) const LONGEST_LINE: usize = 64 * 1024;

/// The act of a line that puts right what a killed writer left, rather than telling of a credential.
pub(crate) const MENDED: &str = "mended";

/// The SHA-256 of a line without its newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first line of all has in place of a line before it.
    pub(crate) const NOTHING: Self = Self([0; 32]);

    pub(crate) fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Hash {
    type Err = NotAnAnchor;

    fn from_str(text: &str) -> Result<Self, NotAnAnchor> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotAnAnchor);
        }
        for (n, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * n..2 * n + 2).ok_or(NotAnAnchor)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotAnAnchor)?;
        }
        // +f and the like are taken by from_str_radix, and are not what we write
        let same = Self(bytes);
        (same.to_string() == text).then_some(same).ok_or(NotAnAnchor)
    }
}

/// Where a chain stands: the number of a record, and the SHA-256 of its line. Kept somewhere else, it proves everything up to
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The record's number.
    pub seq: u64,
    /// Its line's hash.
    pub hash: Hash,
}

/// A text that is no anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no anchor: a record's number, a colon and 64 hexadecimal digits are wanted")]
pub struct NotAnAnchor;

impl Anchor {
    /// Before the first record.
    pub(crate) const START: Self = Self {
        seq: 0,
        hash: Hash::NOTHING,
    };
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Anchor {
    type Err = NotAnAnchor;

    fn from_str(text: &str) -> Result<Self, NotAnAnchor> {
        let (seq, hash) = text.split_once(':').ok_or(NotAnAnchor)?;
        Ok(Self {
            seq: seq.parse().map_err(|_| NotAnAnchor)?,
            hash: hash.parse()?,
        })
    }
}

/// A line as it is read: its place in the chain, and what it says of lines that were torn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) prev: Hash,
    pub(crate) hash: Hash,
    /// The SHA-256 of the remains of a line before this one, which this one accounts for.
    pub(crate) torn: Option<Hash>,
    pub(crate) mended: bool,
}

impl Record {
    /// `None` for what mtk never wrote.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let map: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let mended = map.get("act").and_then(Value::as_str)? == MENDED;
        Some(Self {
            seq: map.get("seq").and_then(Value::as_u64).filter(|seq| *seq > 0)?,
            prev: map.get("prev").and_then(Value::as_str)?.parse().ok()?,
            hash: Hash::of(line),
            torn: match map.get("torn_sha256") {
                Some(torn) if mended => Some(torn.as_str()?.parse().ok()?),
                _ => None,
            },
            mended,
        })
    }

    pub(crate) fn anchor(&self) -> Anchor {
        Anchor {
            seq: self.seq,
            hash: self.hash,
        }
    }

    pub(crate) fn follows(&self, before: Anchor) -> bool {
        Some(self.seq) == before.seq.checked_add(1) && self.prev == before.hash
    }
}

/// The line that follows `before`, without its newline.
pub(crate) fn line(before: Anchor, fields: &Map<String, Value>) -> (String, Anchor) {
    let seq = before.seq.saturating_add(1);
    let mut map = Map::new();
    map.insert("seq".into(), seq.into());
    map.insert("prev".into(), before.hash.to_string().into());
    map.extend(fields.clone());
    let line = Value::from(map).to_string();
    let hash = Hash::of(line.as_bytes());
    (line, Anchor { seq, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let fields = Map::from_iter([("act".to_owned(), Value::from("login"))]);
        let (first, at) = line(Anchor::START, &fields);
        let read = Record::parse(first.as_bytes()).unwrap();
        assert!(read.follows(Anchor::START) && read.anchor() == at);
        let (second, _) = line(at, &fields);
        assert!(Record::parse(second.as_bytes()).unwrap().follows(at));
        for text in ["", "{}", "[]", "{\"seq\":1}", &first[..first.len() - 1]] {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn anchors_there_and_back() {
        let anchor = Anchor {
            seq: 7,
            hash: Hash::of(b"x"),
        };
        assert_eq!(anchor.to_string().parse(), Ok(anchor));
        for text in ["", "7", "7:", "x:00", "7:+f", &anchor.to_string().to_uppercase()] {
            assert!(text.parse::<Anchor>().is_err(), "{text}");
        }
    }
}
