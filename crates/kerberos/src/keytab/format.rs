//! MIT's keytab format, version 2, read for what it holds; keys are skipped, not kept.
//!
//! Format: "Keytab file format" of the MIT Kerberos documentation (`formats/keytab_file_format`).

use std::{collections::BTreeSet, fmt};

use credential::Principal;

/// What is wrong inside a keytab, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It does not begin as a keytab.
    #[error("it does not begin with 05 02: it is no keytab")]
    NotKeytab,
    /// Version 1, whose byte order is the writer's.
    #[error("it has the old format version 1")]
    Version1,
    /// A record or a field goes beyond its frame.
    #[error("it is cut off or damaged: {what} at byte {at} does not fit")]
    Truncated {
        /// Which field.
        what: &'static str,
        /// Where it begins.
        at: usize,
    },
    /// A field that cannot have this value.
    #[error("it is damaged: {what} at byte {at}")]
    Damaged {
        /// Which field, and how.
        what: &'static str,
        /// Where it is.
        at: usize,
    },
}

/// A kind of key by its number in Kerberos (RFC 3961 registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enctype(pub u16);

impl fmt::Display for Enctype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("des-cbc-crc"),
            3 => f.write_str("des-cbc-md5"),
            16 => f.write_str("des3-cbc-sha1"),
            17 => f.write_str("aes128-cts-hmac-sha1-96"),
            18 => f.write_str("aes256-cts-hmac-sha1-96"),
            19 => f.write_str("aes128-cts-hmac-sha256-128"),
            20 => f.write_str("aes256-cts-hmac-sha384-192"),
            23 => f.write_str("arcfour-hmac"),
            25 => f.write_str("camellia128-cts-cmac"),
            26 => f.write_str("camellia256-cts-cmac"),
            other => write!(f, "enctype {other}"),
        }
    }
}

/// One key, without the key.
pub(super) struct Entry {
    components: Vec<Vec<u8>>,
    realm: Vec<u8>,
    pub(super) kvno: u32,
    pub(super) enctype: Enctype,
}

impl Entry {
    pub(super) fn is(&self, principal: &Principal) -> bool {
        self.realm == principal.realm().as_bytes()
            && self
                .components
                .iter()
                .map(Vec::as_slice)
                .eq(principal.name().split('/').map(str::as_bytes))
    }

    fn name(&self) -> String {
        let part = |bytes: &Vec<u8>| {
            let text = String::from_utf8_lossy(bytes);
            text.chars()
                .take(128)
                .map(|c| if c.is_control() { '?' } else { c })
                .collect::<String>()
        };
        let name: Vec<_> = self.components.iter().take(8).map(part).collect();
        format!("{}@{}", name.join("/"), part(&self.realm))
    }
}

/// The principals of a keytab for a message: each once, the first eight.
pub(super) fn names(entries: &[Entry]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    entries
        .iter()
        .map(Entry::name)
        .filter(|name| seen.insert(name.clone()))
        .take(8)
        .collect()
}

/// A cursor that cannot leave its frame.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Flaw> {
        let (head, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or(Flaw::Truncated { what, at: self.at })?;
        self.bytes = rest;
        self.at += count;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Flaw> {
        let at = self.at;
        self.take(N, what)?
            .try_into()
            .map_err(|_| Flaw::Truncated { what, at })
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, Flaw> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    fn counted(&mut self, what: &'static str) -> Result<&'a [u8], Flaw> {
        let length = self.u16(what)?;
        self.take(length.into(), what)
    }
}

/// All keys of a keytab. Holes left by deleted keys are skipped.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Flaw> {
    let mut file = Reader { bytes, at: 0 };
    match bytes {
        [] => return Err(Flaw::Empty),
        [5, 2, ..] => file.take(2, "the version")?,
        [5, 1, ..] => return Err(Flaw::Version1),
        _ => return Err(Flaw::NotKeytab),
    };
    let mut entries = Vec::new();
    while !file.bytes.is_empty() {
        let size = i32::from_be_bytes(file.array("the length of a record")?);
        // the library stops at an empty record, so what follows it is not seen by it either
        if size == 0 {
            break;
        }
        let at = file.at;
        let length =
            usize::try_from(size.unsigned_abs()).map_err(|_| Flaw::Truncated { what: "a record", at })?;
        let record = file.take(length, "a record")?;
        if size > 0 {
            entries.push(entry(Reader { bytes: record, at })?);
        }
    }
    Ok(entries)
}

fn entry(mut record: Reader<'_>) -> Result<Entry, Flaw> {
    let at = record.at;
    let count = record.u16("the number of name parts")?;
    if count == 0 {
        return Err(Flaw::Damaged {
            what: "a principal without a name",
            at,
        });
    }
    let realm = record.counted("the realm")?.to_vec();
    let mut components = Vec::new();
    for _ in 0..count {
        components.push(record.counted("a part of the name")?.to_vec());
    }
    record.take(8, "name type and time")?;
    let [short] = record.array("the key version")?;
    let enctype = Enctype(record.u16("the kind of key")?);
    let at = record.at;
    if record.counted("the key")?.is_empty() {
        return Err(Flaw::Damaged {
            what: "an empty key",
            at,
        });
    }
    // a 32-bit version follows if there is room for it, and counts if it is not zero
    let kvno = match record.array("the long key version").map(u32::from_be_bytes) {
        Ok(long) if long != 0 => long,
        _ => short.into(),
    };
    Ok(Entry {
        components,
        realm,
        kvno,
        enctype,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn counted(text: &[u8]) -> Vec<u8> {
        let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        out.extend_from_slice(text);
        out
    }

    /// A keytab with these keys, as `ktutil` writes it.
    pub(in crate::keytab) fn keytab(keys: &[(&Principal, u32, u16)]) -> Vec<u8> {
        let mut out = vec![5, 2];
        for (principal, kvno, enctype) in keys {
            let parts: Vec<_> = principal.name().split('/').collect();
            let mut record = u16::try_from(parts.len()).unwrap().to_be_bytes().to_vec();
            record.extend(counted(principal.realm().as_bytes()));
            parts
                .iter()
                .for_each(|part| record.extend(counted(part.as_bytes())));
            record.extend(1u32.to_be_bytes());
            record.extend(1_700_000_000u32.to_be_bytes());
            record.push(u8::try_from(kvno & 0xff).unwrap());
            record.extend(enctype.to_be_bytes());
            record.extend(counted(&[b'k'; 32]));
            record.extend(kvno.to_be_bytes());
            out.extend(i32::try_from(record.len()).unwrap().to_be_bytes());
            out.extend(record);
        }
        out
    }

    fn robot() -> Principal {
        "a/b/c@R".parse().unwrap()
    }

    #[test]
    fn holes_are_skipped_and_long_versions_count() {
        let mut bytes = keytab(&[(&robot(), 300, 18)]);
        bytes.extend((-5i32).to_be_bytes());
        bytes.extend([0; 5]);
        bytes.extend(&keytab(&[(&robot(), 2, 17)])[2..]);
        let entries = parse(&bytes).unwrap();
        assert_eq!(entries.iter().map(|e| e.kvno).collect::<Vec<_>>(), [300, 2]);
        assert!(entries[0].is(&robot()) && !entries[0].is(&"a/b@R".parse().unwrap()));
        assert_eq!(names(&entries), ["a/b/c@R"]);
    }

    #[test]
    fn every_truncation_is_an_error_and_no_change_of_a_byte_panics() {
        let whole = keytab(&[(&robot(), 3, 18)]);
        for end in 3..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for value in 0..=255 {
                let mut bytes = whole.clone();
                bytes[at] = value;
                drop(parse(&bytes));
            }
        }
        assert_eq!(parse(b"").err(), Some(Flaw::Empty));
        assert_eq!(parse(b"hello").err(), Some(Flaw::NotKeytab));
        assert_eq!(parse(&[5, 1, 0]).err(), Some(Flaw::Version1));
        let least = [5, 2, 0x80, 0, 0, 0];
        assert!(matches!(parse(&least).err(), Some(Flaw::Truncated { .. })));
    }
}
