//! How nodes are reached.

use std::{fmt, path::PathBuf, time::Duration};

/// How nodes are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// sshd's port.
    pub port: u16,
    /// The account to log in as, if it is not the service's own.
    pub user: Option<String>,
    /// What to connect to, if it is not the node's name.
    pub address: Option<String>,
    /// The name to look host keys up by, if it is not the node's.
    pub host_key_alias: Option<String>,
    /// The name in the node's Kerberos principal, if it is not the node's.
    pub gssapi_server: Option<String>,
    /// Whether Kerberos may be tried.
    pub kerberos: bool,
    /// Whether keys may be tried.
    pub public_keys: bool,
    /// What is done about host keys that no file vouches for.
    pub checking: Checking,
    /// `HostKeyAlgorithms`, as written.
    pub host_key_algorithms: Option<String>,
    /// `KexAlgorithms`, as written.
    pub kex_algorithms: Option<String>,
    /// `Ciphers`, as written.
    pub ciphers: Option<String>,
    /// `MACs`, as written.
    pub macs: Option<String>,
    /// The hosts to go through, the nearest first.
    pub jump: Vec<Jump>,
    /// Where host keys are looked up.
    pub known_hosts: Vec<PathBuf>,
    /// Private keys to try.
    pub identity_files: Vec<PathBuf>,
    /// Certificates that do not lie beside their keys.
    pub certificate_files: Vec<PathBuf>,
    /// The socket of an agent whose keys are tried first.
    pub agent: Option<PathBuf>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// Which implementation speaks.
    pub transport: Transport,
}

/// What is done about host keys that no file vouches for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checking {
    /// They are refused.
    #[default]
    Strict,
    /// The first one is trusted and recorded, another one refused.
    AcceptNew,
    /// Any is trusted: the site's wish, and its risk.
    Off,
}

/// A host on the way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// Its name.
    pub host: String,
    /// sshd's port.
    pub port: u16,
    /// The account there, if it is not the one on the node.
    pub user: Option<String>,
}

/// Which implementation of SSH speaks to a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// By what the node accepts.
    #[default]
    Auto,
    /// libssh2: public keys.
    Libssh2,
    /// russh: Kerberos.
    Russh,
    /// The system's ssh, run as a process.
    OpenSsh,
}

impl fmt::Display for Transport {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Libssh2 => "libssh2",
            Self::Russh => "russh",
            Self::OpenSsh => "openssh",
        })
    }
}
