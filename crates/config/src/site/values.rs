//! What is in effect, and what has no effect.

use std::fmt;

use crate::tree::Position;

/// A key that was accepted without doing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedKey {
    /// The key with its path, as written.
    pub key: String,
    /// Where it stands.
    pub at: Position,
    /// Why it does nothing.
    pub reason: &'static str,
}

/// A value in effect, for `mtk config show`. No key that may hold a secret is among these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The key as the file has it.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This place in the file.
    File(Position),
    /// An override of the role, at this place in the file.
    Override(Position),
    /// An environment variable of this name.
    Environment(&'static str),
    /// HTCondor's own configuration on this host, at this place in it.
    HtCondor(String),
    /// `~/.ssh/config`, the system's, or the file that `sshOptions` name instead.
    Ssh,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(at) => write!(f, "line {}", at.line),
            Self::Override(at) => write!(f, "override in line {}", at.line),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::HtCondor(place) => write!(f, "HTCondor's configuration, {place}"),
            Self::Ssh => f.write_str("ssh's configuration"),
            Self::Default => f.write_str("default"),
        }
    }
}
