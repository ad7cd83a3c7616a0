//! The verdict on a host key, with a name for each case.

use std::{fmt, io, path::PathBuf, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What the `known_hosts` files say of the key a node showed. [`Verdict::is_trusted`] tells which let a session go on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Verdict {
    /// The key is the one on this line.
    Known {
        /// Where it stands.
        at: Place,
    },
    /// No line speaks of this node.
    Unknown {
        /// The files that were read.
        looked_at: Vec<PathBuf>,
        /// Type and SHA-256 fingerprint of the key the node showed.
        shown: String,
        /// A certificate authority named for this node, which did not sign what it showed.
        authority: Option<Place>,
        /// The first lines that could not be understood: one of them may have been meant for this node.
        malformed: Vec<Place>,
    },
    /// The files know this node by another key, of the same type or of another.
    Changed {
        /// The line that speaks of this node.
        at: Place,
        /// Type and fingerprint of the key on that line.
        known: String,
        /// Type and fingerprint of the key the node showed.
        shown: String,
    },
    /// The node showed a certificate that an authority named for it signed.
    Certified {
        /// The authority's line.
        authority: Place,
        /// The certificate's own name for itself.
        id: String,
        /// When it ends, in seconds since 1970; `u64::MAX` is never.
        valid_before: u64,
    },
    /// The node showed a certificate that does not vouch for it.
    BadCertificate {
        /// The line of its authority, if one of ours signed it.
        authority: Option<Place>,
        /// What is wrong with it.
        why: String,
        /// Type and fingerprint of the key in it.
        shown: String,
    },
    /// No line spoke of this node, the site allows trust on first use, and the key was written down.
    FirstUse {
        /// Where.
        recorded: Place,
        /// Type and fingerprint of the key.
        shown: String,
    },
    /// It is another key than the known one, and the site has turned the check off.
    Disregarded {
        /// The line that speaks of this node.
        at: Place,
        /// Type and fingerprint of the key on that line.
        known: String,
        /// Type and fingerprint of the key the node showed.
        shown: String,
    },
    /// The key, or the authority of its certificate, is marked `@revoked`.
    Revoked {
        /// The line that revokes it.
        at: Place,
        /// Type and fingerprint of the key.
        shown: String,
    },
    /// The system's ssh refused the key, for having changed or being revoked.
    Refused {
        /// ssh's words.
        said: String,
        /// Type and fingerprint of the key.
        shown: String,
    },
    /// A file could not be read, so nothing can be said. Never taken for an empty file.
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
}

impl Verdict {
    /// Whether a session may go on.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        match self {
            Self::Known { .. }
            | Self::Certified { .. }
            | Self::FirstUse { .. }
            | Self::Disregarded { .. } => true,
            Self::Unknown { .. }
            | Self::Changed { .. }
            | Self::BadCertificate { .. }
            | Self::Revoked { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Whether a session goes on only because the site has weakened the check.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        matches!(self, Self::FirstUse { .. } | Self::Disregarded { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { at } => write!(f, "its host key is the one in {at}"),
            Self::Unknown {
                looked_at,
                shown,
                authority,
                malformed,
            } => {
                write!(
                    f,
                    "its host key ({shown}) is in no known_hosts file ({})",
                    list(looked_at)
                )?;
                if let Some(at) = authority {
                    write!(
                        f,
                        "; {at} names a certificate authority for it, which did not sign what it showed"
                    )?;
                }
                if !malformed.is_empty() {
                    write!(f, "; not understood and so ignored: {}", list(malformed))?;
                }
                f.write_str(
                    "; compare the fingerprint with what the node itself says (`ssh-keygen -lf` on its \
                     /etc/ssh/ssh_host_*_key.pub) and only then add the line `ssh-keyscan` prints for it",
                )
            }
            Self::Changed { at, known, shown } => write!(
                f,
                "it showed the host key {shown}, but {at} knows it by {known}: the node was reinstalled or somebody \
                 stands in between; ask its administrator before changing that line"
            ),
            Self::Certified { authority, id, .. } => {
                write!(
                    f,
                    "its host certificate {id:?} is by the authority in {authority}"
                )
            }
            Self::BadCertificate {
                authority,
                why,
                shown,
            } => {
                write!(f, "its host certificate for {shown} does not hold: {why}")?;
                match authority {
                    Some(at) => write!(
                        f,
                        "; ask whoever holds the key of the authority in {at} for a new one"
                    ),
                    None => Ok(()),
                }
            }
            Self::FirstUse { recorded, shown } => write!(
                f,
                "its host key {shown} was trusted on first use, as the site allows, and written to {recorded}"
            ),
            Self::Disregarded { at, known, shown } => write!(
                f,
                "its host key {shown} is not the one in {at} ({known}), and the site has turned the check off"
            ),
            Self::Revoked { at, shown } => write!(
                f,
                "it showed the host key {shown}, which {at} revokes: the node needs a new key, or somebody uses a stolen one"
            ),
            Self::Refused { said, shown } => write!(f, "ssh refused its host key {shown}: {said}"),
            Self::Unreadable { file, source } => {
                write!(
                    f,
                    "the known_hosts file {} cannot be read ({source}), so no host key can be judged",
                    file.display()
                )
            }
        }
    }
}

fn list<T: ToText>(items: &[T]) -> String {
    if items.is_empty() {
        return "none is configured".to_owned();
    }
    items.iter().map(ToText::text).collect::<Vec<_>>().join(", ")
}

trait ToText {
    fn text(&self) -> String;
}

impl ToText for PathBuf {
    fn text(&self) -> String {
        self.display().to_string()
    }
}

impl ToText for Place {
    fn text(&self) -> String {
        self.to_string()
    }
}

/// `SHA256:...`, as ssh prints it.
pub(super) fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(key)))
}
