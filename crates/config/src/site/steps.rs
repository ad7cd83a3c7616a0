//! How long, how often, how much at once, and how Vault is recognised.

use std::{fmt, path::PathBuf, time::Duration};

/// How long each step may take, retries included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole run.
    pub global: Duration,
    /// Getting a ticket.
    pub kerberos: Duration,
    /// Getting a token from Vault and storing it in one credd.
    pub vault_storer: Duration,
    /// Seeing whether a node is there.
    pub ping: Duration,
    /// All files of one service to one node.
    pub push: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            global: s(300),
            kerberos: s(20),
            vault_storer: s(60),
            ping: s(10),
            push: s(30),
        }
    }
}

/// How often a step is tried again, and how long to wait before that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first.
    pub retries: u32,
    /// The pause before each, already short enough for all tries to begin within the step's timeout.
    pub pause: Duration,
}

/// Retries by step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retries {
    /// `workerType.getKerberosTickets`
    pub kerberos: Retry,
    /// `workerType.getToken`
    pub get_token: Retry,
    /// `workerType.storeAndGetToken`
    pub store: Retry,
    /// `workerType.pushTokens`
    pub push: Retry,
}

/// How much runs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way at Vault.
    pub vault_concurrency: usize,
    /// Sessions under way with credds.
    pub credd_concurrency: usize,
    /// Sessions under way with nodes.
    pub node_concurrency: usize,
    /// Sessions under way with one node; sshd begins to drop at ten that are not through authentication.
    pub per_node: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            vault_concurrency: 8,
            credd_concurrency: 16,
            node_concurrency: 32,
            per_node: 4,
        }
    }
}

/// How Vault is recognised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vault {
    /// A file of CA certificates, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A directory of CA certificates, as `/etc/grid-security/certificates`.
    pub ca_dir: Option<PathBuf>,
    /// The name in Vault's Kerberos principal, if it is not the host's.
    pub alias: Option<String>,
    /// The name in Vault's certificate, if it is not the host's.
    pub certificate_name: Option<String>,
    /// What is done with the revocation lists in `ca_dir`.
    pub crl: Crl,
    /// How many requests Vault takes from this host.
    pub quota: VaultQuota,
    /// Whether each credd of a service gets a login of its own, where one for all would do.
    pub token_per_credd: bool,
}

/// What is done with revocation lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Crl {
    /// Nothing, as the programs of the field do.
    #[default]
    Off,
    /// Those that are there count.
    Present,
    /// Every CA must have one that is not outdated.
    Required,
}

impl fmt::Display for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Present => "present",
            Self::Required => "required",
        })
    }
}

/// A Vault server's rate limit for one address, and the part of it mtk may use. The default is what htvault-config's
/// documentation sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaultQuota {
    /// Requests in a window.
    pub requests: u32,
    /// The window.
    pub window: Duration,
    /// For how long an address that asked for more gets nothing.
    pub block: Duration,
    /// Percent of the requests that are mtk's, 1 to 100.
    pub share: u8,
}

impl Default for VaultQuota {
    fn default() -> Self {
        Self {
            requests: 360,
            window: Duration::from_secs(300),
            block: Duration::from_secs(300),
            share: 95,
        }
    }
}
