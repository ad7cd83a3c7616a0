//! One line of a `known_hosts` file.

use base64::{Engine, prelude::BASE64_STANDARD};

/// What a line says, if it says anything.
pub(super) enum Line {
    /// Blank or a comment.
    Nothing,
    /// Neither an entry nor a comment; it vouches for nobody.
    Malformed,
    /// An entry, whichever hosts it is for.
    Entry(Entry),
}

/// Hosts and a key.
pub(super) struct Entry {
    pub(super) marker: Marker,
    /// The host field as written: patterns, or one hashed name.
    pub(super) hosts: String,
    /// The key type, the same outside and inside the key.
    pub(super) kind: String,
    /// The key in its wire encoding.
    pub(super) key: Vec<u8>,
}

/// What stands before the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// A key the host is expected to show.
    None,
    /// A key nobody may show any more.
    Revoked,
    /// A key that signs host certificates. It vouches for no bare key.
    CertAuthority,
}

pub(super) fn parse(line: &str) -> Line {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Line::Nothing;
    }
    match fields(line) {
        Some(entry) => Line::Entry(entry),
        None => Line::Malformed,
    }
}

fn fields(line: &str) -> Option<Entry> {
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let mut hosts = words.next()?;
    let mut marker = Marker::None;
    if hosts.starts_with('@') {
        marker = match hosts {
            "@revoked" => Marker::Revoked,
            "@cert-authority" => Marker::CertAuthority,
            _ => return None,
        };
        hosts = words.next()?;
    }
    let kind = words.next()?;
    let key = BASE64_STANDARD.decode(words.next()?).ok()?;
    // A line whose two type names differ was tampered with or cut: it vouches for nobody.
    (kind_of(&key)? == kind).then(|| Entry {
        marker,
        hosts: hosts.to_owned(),
        kind: kind.to_owned(),
        key,
    })
}

/// The type name at the head of a public key's wire encoding.
pub(crate) fn kind_of(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}
