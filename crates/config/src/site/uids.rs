//! Where UIDs come from.

use std::{fmt, path::PathBuf, time::Duration};

use credential::{Principal, ServiceName};

/// Where an account's UID is looked for, where neither its role nor `mtk.uids.map` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UidSource {
    /// FERRY, as `mtk uids refresh` last heard it.
    Ferry,
    /// The Go service's database.
    Go,
    /// This host's NSS.
    Nss,
}

impl UidSource {
    /// As the configuration and the state write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ferry => "ferry",
            Self::Go => "go",
            Self::Nss => "nss",
        }
    }
}

impl fmt::Display for UidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A FERRY server and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ferry {
    /// Its host, perhaps with `https://` before it, as the Go service wants it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A directory of CA certificates, beside the system's.
    pub ca_path: Option<PathBuf>,
    /// How long one question may take.
    pub timeout: Duration,
    /// Who asks; `None` if the file does not say it whole.
    pub login: Option<FerryLogin>,
}

/// Who asks FERRY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FerryLogin {
    /// This host, by its certificate.
    Certificate {
        /// `ferry.hostCert`
        certificate: PathBuf,
        /// `ferry.hostKey`
        key: PathBuf,
    },
    /// A robot, by a bearer token from Vault.
    Robot {
        /// `ferry.serviceExperiment` and `ferry.serviceRole`
        name: ServiceName,
        /// `ferry.serviceKerberosPrincipal`
        principal: Principal,
        /// `ferry.serviceKeytabPath`
        keytab: PathBuf,
        /// `ferry.vaultServer`, or the one for all.
        vault_server: String,
    },
}
