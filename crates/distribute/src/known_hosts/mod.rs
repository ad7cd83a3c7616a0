//! Host keys: what the `known_hosts` files say of a key a node showed, as a verdict with a name for each case.
//!
//! The format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Nothing is trusted on first use and nothing is
//! ever written to these files.

mod entry;
mod pattern;
mod verdict;

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use entry::{Entry, Line, Marker};

use crate::dial;
pub use verdict::{Place, Verdict};

/// No `known_hosts` file of a site comes near it; a bigger one is refused instead of read.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What the files say about one node.
pub(crate) struct KnownHosts {
    looked_at: Vec<PathBuf>,
    entries: Vec<(Place, Entry)>,
    malformed: Vec<Place>,
}

impl KnownHosts {
    /// Reads every file and keeps what concerns `host` at `port`.
    ///
    /// # Errors
    /// [`Verdict::Unreadable`] for the first file that cannot be read: a file that is not there could be the one
    /// with the revoked key, so it is never taken for an empty one.
    pub(crate) fn read(files: &[PathBuf], host: &str, port: u16) -> Result<Self, Verdict> {
        let name = pattern::lookup_name(host, port);
        let mut known = Self {
            looked_at: files.to_vec(),
            entries: Vec::new(),
            malformed: Vec::new(),
        };
        for file in files {
            let bytes = read_bounded(file).map_err(|source| Verdict::Unreadable {
                file: file.clone(),
                source: Arc::new(source),
            })?;
            known.take_lines(file, &String::from_utf8_lossy(&bytes), &name);
        }
        Ok(known)
    }

    fn take_lines(&mut self, file: &Path, text: &str, name: &str) {
        for (index, line) in text.lines().enumerate() {
            let place = Place {
                file: file.to_owned(),
                line: index + 1,
            };
            match entry::parse(line) {
                Line::Nothing => {}
                Line::Malformed => self.malformed.push(place),
                Line::Entry(entry) if pattern::matches(&entry.hosts, name) => {
                    self.entries.push((place, entry))
                }
                Line::Entry(_) => {}
            }
        }
    }

    /// Judges the key a node showed, given as the SSH wire encoding of the public key (RFC 4253, section 6.6).
    pub(crate) fn judge(&self, key: &[u8]) -> Verdict {
        let of = |marker: Marker| {
            self.entries
                .iter()
                .filter(move |(_, entry)| entry.marker == marker)
        };
        let kind = entry::kind_of(key).unwrap_or("?");
        let shown = format!("{} {}", dial::clip(kind), verdict::fingerprint(key));
        if let Some((at, _)) = of(Marker::Revoked).find(|(_, entry)| entry.key == key) {
            return Verdict::Revoked {
                at: at.clone(),
                shown,
            };
        }
        if let Some((at, _)) = of(Marker::None).find(|(_, entry)| entry.key == key) {
            return Verdict::Known { at: at.clone() };
        }
        let same_kind = of(Marker::None).find(|(_, entry)| entry.kind == kind);
        if let Some((at, entry)) = same_kind.or_else(|| of(Marker::None).next()) {
            return Verdict::Changed {
                at: at.clone(),
                known: format!("{} {}", entry.kind, verdict::fingerprint(&entry.key)),
                shown,
            };
        }
        Verdict::Unknown {
            looked_at: self.looked_at.clone(),
            shown,
            authority: of(Marker::CertAuthority).next().map(|(at, _)| at.clone()),
            malformed: self.malformed.iter().take(5).cloned().collect(),
        }
    }

    /// The key types the files hold for this node, in their order: what the negotiation should ask for first.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = Vec::new();
        for (_, entry) in self
            .entries
            .iter()
            .filter(|(_, entry)| entry.marker == Marker::None)
        {
            if !kinds.contains(&entry.kind.as_str()) {
                kinds.push(&entry.kind);
            }
        }
        kinds
    }
}

/// The `known_hosts` files ssh itself looks at, as far as they exist: `<home>/.ssh/known_hosts` and
/// `/etc/ssh/ssh_known_hosts`. A file that exists and cannot be read is left in, to fail where it is used.
#[must_use]
pub fn default_files(home: Option<&Path>) -> Vec<PathBuf> {
    let own = home.map(|home| home.join(".ssh/known_hosts"));
    let all = own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]);
    all.filter(|file| !matches!(fs::metadata(file), Err(e) if e.kind() == io::ErrorKind::NotFound))
        .collect()
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let handle = fs::File::open(file)?;
    let meta = handle.metadata()?;
    // Whoever may write this file decides who gets the tokens.
    if meta.is_file() && meta.mode() & 0o002 != 0 {
        return refuse("anyone on this host may write it (chmod o-w)");
    }
    let mut bytes = Vec::new();
    handle.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return refuse("it is larger than 16 MiB");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
