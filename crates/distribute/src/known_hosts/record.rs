//! Keys trusted on first use, written down where a site says that they may be.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::fs::{FlockOperation, OFlags};

use super::entry;

/// What the file said about the host, or says now.
pub(super) enum Recorded {
    /// It has this very key, on this line.
    Before(usize),
    /// It has none; the key was added on this line.
    Now(usize),
    /// It has another: (line, key).
    Another(usize, Vec<u8>),
}

/// The file as far as it is there; judged like [`open`].
pub(super) fn read(path: &Path) -> io::Result<String> {
    if matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return Ok(String::new());
    }
    text(&mut open(path)?)
}

/// Looks `name` up and adds it with `key` if it is not there. Holds a lock meanwhile: of two sessions that see a host
/// for the first time the second must not trust another key.
pub(super) fn look_or_add(path: &Path, name: &str, key: &[u8]) -> io::Result<Recorded> {
    let mut file = open(path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    let text = text(&mut file)?;
    let mut another = None;
    for (index, line) in text.lines().enumerate() {
        let entry::Line::Entry(entry) = entry::parse(line) else {
            continue;
        };
        if entry.marker == entry::Marker::None && super::pattern::matches(&entry.hosts, name) {
            if entry.key == key {
                return Ok(Recorded::Before(index + 1));
            }
            another.get_or_insert((index + 1, entry.key));
        }
    }
    if let Some((line, key)) = another {
        return Ok(Recorded::Another(line, key));
    }
    let kind = entry::kind_of(key).ok_or(io::ErrorKind::InvalidData)?;
    let mut line = format!("{name} {kind} {}\n", BASE64_STANDARD.encode(key));
    if !text.is_empty() && !text.ends_with('\n') {
        // A writer died in the middle of a line.
        line.insert(0, '\n');
    }
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    Ok(Recorded::Now(text.lines().count() + 1))
}

fn open(path: &Path) -> io::Result<File> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(path)?;
    let meta = file.metadata()?;
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if !meta.is_file() {
        return refuse("it is not a file".to_owned());
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return refuse(format!("it belongs to user {}, not to us or root", meta.uid()));
    }
    // Whoever may write it decides who gets the tokens.
    if meta.mode() & 0o077 != 0 {
        return refuse(format!(
            "its mode is {:04o} and must be 0600",
            meta.mode() & 0o7777
        ));
    }
    Ok(file)
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(super::MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > super::MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is larger than 16 MiB",
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
