//! Host keys: what the `known_hosts` files say of a key a node showed, as a verdict with a name for each case.
//!
//! The format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Nothing is ever written to these files. Where a site
//! allows trust on first use, what was trusted is written to a file of our own.

mod certificate;
mod entry;
pub(crate) mod pattern;
mod record;
mod verdict;

use std::{
    borrow::Cow,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

#[cfg(feature = "oracles")]
pub(crate) use entry::kind_of;
use entry::{Entry, Line, Marker};

use crate::{Trust, dial};
pub use verdict::{Place, Verdict};

/// No `known_hosts` file of a site comes near it; a bigger one is refused instead of read.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What the files say about one node.
pub(crate) struct KnownHosts {
    looked_at: Vec<PathBuf>,
    entries: Vec<(Place, Entry)>,
    malformed: Vec<Place>,
    /// What the files call the node: with its port.
    name: String,
    /// What certificates call it: without.
    host: String,
    trust: Trust,
}

impl KnownHosts {
    /// Reads every file and keeps what concerns `host` at `port`.
    ///
    /// # Errors
    /// [`Verdict::Unreadable`] for the first file that cannot be read: a file that is not there could be the one
    /// with the revoked key, so it is never taken for an empty one. Only the record of keys trusted on first use may
    /// be missing.
    pub(crate) fn read(files: &[PathBuf], host: &str, port: u16, trust: &Trust) -> Result<Self, Verdict> {
        let mut known = Self::nothing(host, port, trust);
        known.looked_at = files.to_vec();
        for file in files {
            let bytes = read_bounded(file).map_err(|error| unreadable(file, error))?;
            known.take_lines(file, &String::from_utf8_lossy(&bytes));
        }
        if let Some(file) = trust.record() {
            let text = record::read(file).map_err(|error| unreadable(file, error))?;
            known.looked_at.push(file.clone());
            known.take_lines(file, &text);
        }
        Ok(known)
    }

    /// What a text says, as if a file had it.
    #[cfg(feature = "oracles")]
    pub(crate) fn of_text(text: &str, host: &str, port: u16, trust: &Trust) -> Self {
        let mut known = Self::nothing(host, port, trust);
        known.take_lines(Path::new("known_hosts"), text);
        known
    }

    fn nothing(host: &str, port: u16, trust: &Trust) -> Self {
        Self {
            looked_at: Vec::new(),
            entries: Vec::new(),
            malformed: Vec::new(),
            name: pattern::lookup_name(host, port),
            host: host.to_ascii_lowercase(),
            trust: trust.clone(),
        }
    }

    fn take_lines(&mut self, file: &Path, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let place = Place {
                file: file.to_owned(),
                line: index + 1,
            };
            match entry::parse(line) {
                Line::Nothing => {}
                Line::Malformed => self.malformed.push(place),
                Line::Entry(entry) if pattern::matches(&entry.hosts, &self.name) => {
                    self.entries.push((place, entry))
                }
                Line::Entry(_) => {}
            }
        }
    }

    /// Judges the key or host certificate a node showed, given in its SSH wire encoding (RFC 4253, section 6.6, and
    /// OpenSSH's PROTOCOL.certkeys). May write to the record of keys trusted on first use, so it blocks.
    pub(crate) fn decide(&self, shown: &[u8]) -> Verdict {
        let verdict = self.judge(shown, now());
        match (&self.trust, verdict) {
            (
                Trust::FirstUse { record } | Trust::Any { record },
                Verdict::Unknown { shown: described, .. },
            ) => {
                let decided = self.first_use(record, &bare_key(shown), described);
                self.disregard(decided)
            }
            (_, verdict) => self.disregard(verdict),
        }
    }

    /// What the site said may be any key.
    fn disregard(&self, verdict: Verdict) -> Verdict {
        match (&self.trust, verdict) {
            (Trust::Any { .. }, Verdict::Changed { at, known, shown }) => {
                Verdict::Disregarded { at, known, shown }
            }
            (_, verdict) => verdict,
        }
    }

    fn first_use(&self, file: &Path, key: &[u8], shown: String) -> Verdict {
        let at = |line| Place {
            file: file.to_owned(),
            line,
        };
        match record::look_or_add(file, &self.name, key) {
            Ok(record::Recorded::Now(line)) => Verdict::FirstUse {
                recorded: at(line),
                shown,
            },
            Ok(record::Recorded::Before(line)) => Verdict::Known { at: at(line) },
            Ok(record::Recorded::Another(line, known)) => Verdict::Changed {
                at: at(line),
                known: described(&known),
                shown,
            },
            Err(error) => unreadable(file, error),
        }
    }

    fn judge(&self, shown: &[u8], now: u64) -> Verdict {
        if !entry::kind_of(shown).is_some_and(certificate::is_certificate) {
            return self.judge_key(shown);
        }
        let certificate = match certificate::parse(shown) {
            Ok(certificate) => certificate,
            Err(why) => {
                return Verdict::BadCertificate {
                    authority: None,
                    why: dial::clip(&why),
                    shown: described(shown),
                };
            }
        };
        // Both it and its authority may be on a revoked line.
        for key in [&certificate.key, &certificate.authority] {
            if let Some(at) = self.revokes(key) {
                return Verdict::Revoked {
                    at,
                    shown: described(key),
                };
            }
        }
        let authority = self
            .of(Marker::CertAuthority)
            .find(|(_, entry)| entry.key == certificate.authority);
        let Some((at, _)) = authority else {
            // As a bare key it may still be known.
            return self.judge_key(&certificate.key);
        };
        match certificate.check(&self.host, now) {
            Ok(()) => Verdict::Certified {
                authority: at.clone(),
                id: dial::clip(certificate.id()),
                valid_before: certificate.valid_before(),
            },
            Err(why) => Verdict::BadCertificate {
                authority: Some(at.clone()),
                why: dial::clip(&why),
                shown: described(&certificate.key),
            },
        }
    }

    fn of(&self, marker: Marker) -> impl Iterator<Item = &(Place, Entry)> {
        self.entries
            .iter()
            .filter(move |(_, entry)| entry.marker == marker)
    }

    fn revokes(&self, key: &[u8]) -> Option<Place> {
        self.of(Marker::Revoked)
            .find(|(_, entry)| entry.key == key)
            .map(|(at, _)| at.clone())
    }

    /// Whether an authority speaks of this node: then it is asked for a certificate first.
    pub(crate) fn has_authority(&self) -> bool {
        self.of(Marker::CertAuthority).next().is_some()
    }

    fn judge_key(&self, key: &[u8]) -> Verdict {
        let of = |marker: Marker| self.of(marker);
        let kind = entry::kind_of(key).unwrap_or("?");
        let shown = described(key);
        if let Some(at) = self.revokes(key) {
            return Verdict::Revoked { at, shown };
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

/// The key itself, also where a certificate was shown.
pub(crate) fn bare_key(shown: &[u8]) -> Cow<'_, [u8]> {
    match certificate::parse(shown) {
        Ok(certificate) => Cow::Owned(certificate.key),
        Err(_) => Cow::Borrowed(shown),
    }
}

fn unreadable(file: &Path, error: io::Error) -> Verdict {
    Verdict::Unreadable {
        file: file.to_owned(),
        source: Arc::new(error),
    }
}

/// Type and fingerprint, as people compare them.
fn described(key: &[u8]) -> String {
    let kind = entry::kind_of(key).unwrap_or("?");
    format!("{} {}", dial::clip(kind), verdict::fingerprint(key))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
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
