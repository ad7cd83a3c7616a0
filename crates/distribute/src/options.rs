//! What else may be said about how a node is reached, as `ssh_config` says it.

use std::path::PathBuf;

use crate::Identity;

/// Everything about one node's SSH beyond name, port, account and login. The default is strict and direct.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What to do about host keys that no `known_hosts` file vouches for.
    pub trust: Trust,
    /// What to connect to instead of the node's name (`HostName`).
    pub address: Option<String>,
    /// The name to look up in `known_hosts` and in host certificates instead of the node's (`HostKeyAlias`).
    pub host_key_alias: Option<String>,
    /// The name in the node's Kerberos principal instead of the node's (`GSSAPIServerIdentity`).
    pub gssapi_server: Option<String>,
    /// Which algorithms may be used.
    pub algorithms: Algorithms,
    /// Hosts to go through, the nearest first (`ProxyJump`). With [`Login::OpenSsh`](crate::Login::OpenSsh) that is
    /// [`Error::JumpByProgram`](crate::Error::JumpByProgram).
    pub jump: Vec<Jump>,
    /// What to log in with before the login's own keys, where those are tried at all: an agent (`IdentityAgent`),
    /// certificates that do not lie beside their keys (`CertificateFile`).
    pub identities: Vec<Identity>,
}

/// What to do about host keys that no `known_hosts` file vouches for. Revoked keys are refused whatever it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Refuse them (`StrictHostKeyChecking=yes`).
    #[default]
    Strict,
    /// Trust the first key a node shows, and write it down; refuse another one later (`accept-new`).
    FirstUse {
        /// The file to write to, in the format of `known_hosts`, of our own and mode 0600. It is made if need be.
        record: PathBuf,
    },
    /// Trust any key, and write the first down (`no`). Whoever stands in between gets the tokens.
    Any {
        /// As for `FirstUse`.
        record: PathBuf,
    },
}

impl Trust {
    pub(crate) fn record(&self) -> Option<&PathBuf> {
        match self {
            Self::Strict => None,
            Self::FirstUse { record } | Self::Any { record } => Some(record),
        }
    }
}

/// Lists of algorithms as `ssh_config` has them: names parted by commas; a `+` before the list adds to what is used by
/// default, a `-` takes away (with `*` and `?`), a `^` puts first. `None` is the default, which has nothing with SHA-1 or CBC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// `HostKeyAlgorithms`.
    pub host_keys: Option<String>,
    /// `KexAlgorithms`.
    pub kex: Option<String>,
    /// `Ciphers`.
    pub ciphers: Option<String>,
    /// `MACs`.
    pub macs: Option<String>,
}

/// A host on the way to the node. It is logged in to as the node is, over russh, and judged by the same `known_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account there; `None` is the node's.
    pub user: Option<String>,
}
