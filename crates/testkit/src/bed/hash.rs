//! Hashes of sources: what tells one built part from another.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The SHA-256 of `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// A short key for the content of some files and texts, names included.
pub fn key<'a>(pieces: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut all = Sha256::new();
    for (name, bytes) in pieces {
        // lengths first, so that no two lists of pieces run together to the same bytes
        for part in [name.as_bytes(), bytes] {
            all.update((part.len() as u64).to_be_bytes());
            all.update(part);
        }
    }
    let digest: [u8; 32] = all.finalize().into();
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 of a file in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub fn file(path: &Path) -> Result<String> {
    Ok(hex(
        &fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        assert_eq!(
            hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn names_and_borders_count() {
        let key = |pieces: &[(&str, &[u8])]| key(pieces.iter().copied());
        assert_ne!(key(&[("a", b"bc")]), key(&[("ab", b"c")]));
        assert_ne!(key(&[("a", b"b")]), key(&[("b", b"b")]));
        assert_eq!(key(&[("a", b"b")]).len(), 16);
    }
}
