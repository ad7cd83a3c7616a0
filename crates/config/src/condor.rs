//! How robots prove themselves to a pool, and what HTCondor's own configuration on this host has to say.

use std::{fmt, path::PathBuf};

use credential::Principal;

use crate::{Finding, Severity};

/// An authentication method of HTCondor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Method {
    /// The robot's ticket.
    Kerberos,
    /// A bearer token, inside TLS.
    SciTokens,
    /// A token of the pool.
    Token,
    /// A client certificate.
    Ssl,
    /// A directory on the same host; the daemon proves nothing.
    Fs,
    /// A name; nobody proves anything.
    ClaimToBe,
    /// Nobody in particular.
    Anonymous,
}

impl Method {
    /// What is offered unless something else is said: those in which the daemon proves itself, too.
    pub const DEFAULT: [Self; 4] = [Self::Kerberos, Self::SciTokens, Self::Token, Self::Ssl];
    const NAMES: [(&str, Self); 11] = [
        ("KERBEROS", Self::Kerberos),
        ("SCITOKENS", Self::SciTokens),
        ("TOKEN", Self::Token),
        ("SSL", Self::Ssl),
        ("FS", Self::Fs),
        ("CLAIMTOBE", Self::ClaimToBe),
        ("ANONYMOUS", Self::Anonymous),
        ("SCITOKEN", Self::SciTokens),
        ("IDTOKENS", Self::Token),
        ("IDTOKEN", Self::Token),
        ("TOKENS", Self::Token),
    ];

    /// Its name at HTCondor.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, method)| *method == self);
        named.map_or("", |(name, _)| name)
    }

    /// By any of its names, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let named = Self::NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, method)| *method)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a service's robot proves itself to credds. No secret is among this, only where secrets lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CondorAccess {
    /// The methods to offer, where their means are there. The daemon's order decides.
    pub methods: Vec<Method>,
    /// CA certificates for daemons in SSL and SCITOKENS, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A directory of such.
    pub ca_dir: Option<PathBuf>,
    /// A client certificate for SSL, as PEM.
    pub certificate: Option<PathBuf>,
    /// Its key; in the certificate's file if nothing is said.
    pub key: Option<PathBuf>,
    /// Directories of tokens of the pool for TOKEN: the one given, or HTCondor's own places.
    pub token_directories: Vec<PathBuf>,
    /// Files that may hold a bearer token for SCITOKENS, of which the first that is there counts.
    pub bearer_files: Vec<PathBuf>,
    /// The HTCondor user the robot is, if it stores for the account as one of the credds' `CRED_SUPER_USERS`.
    pub super_user: Option<SuperUser>,
}

impl Default for CondorAccess {
    fn default() -> Self {
        Self {
            methods: Method::DEFAULT.to_vec(),
            ca_file: None,
            ca_dir: None,
            certificate: None,
            key: None,
            token_directories: Vec::new(),
            bearer_files: Vec::new(),
            super_user: None,
        }
    }
}

/// A robot that stores for several accounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SuperUser {
    /// The HTCondor user, without domain, that credds must take it for.
    pub name: String,
    /// Its principal, if it is not the service's own.
    pub principal: Option<Principal>,
    /// The keytab of that principal.
    pub keytab: Option<PathBuf>,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The value, macros expanded.
    pub value: String,
    /// Where it is written, for people.
    pub place: String,
}

/// What HTCondor's own configuration on this host says of what concerns us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HtCondor {
    /// `COLLECTOR_HOST`
    pub collector: Option<Said>,
    /// `SEC_CREDENTIAL_GETTOKEN_OPTS`
    pub gettoken_opts: Option<Said>,
    /// `TRUSTED_VAULT_HOSTS`
    pub trusted_vault_hosts: Option<Said>,
    /// `SEC_CLIENT_AUTHENTICATION_METHODS`
    pub methods: Option<Said>,
    /// `AUTH_SSL_CLIENT_CAFILE`
    pub ca_file: Option<Said>,
    /// `AUTH_SSL_CLIENT_CADIR`
    pub ca_dir: Option<Said>,
    /// `AUTH_SSL_CLIENT_CERTFILE`
    pub certificate: Option<Said>,
    /// `AUTH_SSL_CLIENT_KEYFILE`
    pub key: Option<Said>,
    /// `SEC_TOKEN_DIRECTORY`
    pub token_directory: Option<Said>,
    /// What of it was not understood.
    pub findings: Vec<Finding>,
}

impl HtCondor {
    /// Picks out what concerns us. Lines that were not understood are notes; a setting of ours that has no value because
    /// of them is a warning.
    #[must_use]
    pub fn of(config: &condor_config::Config) -> Self {
        let mut findings: Vec<Finding> = config
            .findings()
            .iter()
            .map(|found| finding(Severity::Note, &found.place, "", &found.message, ""))
            .collect();
        let mut get = |name: &str| match config.get(name) {
            Ok(found) => found.map(|found| Said {
                value: found.value,
                place: found.place.to_string(),
            }),
            Err(error) => {
                let advice = "write the setting into mtk's own configuration";
                let message = format!("it has no value for mtk: {}", error.why);
                findings.push(finding(Severity::Warning, &error.place, name, &message, advice));
                None
            }
        };
        Self {
            collector: get("COLLECTOR_HOST"),
            gettoken_opts: get("SEC_CREDENTIAL_GETTOKEN_OPTS"),
            trusted_vault_hosts: get("TRUSTED_VAULT_HOSTS"),
            methods: get("SEC_CLIENT_AUTHENTICATION_METHODS"),
            ca_file: get("AUTH_SSL_CLIENT_CAFILE"),
            ca_dir: get("AUTH_SSL_CLIENT_CADIR"),
            certificate: get("AUTH_SSL_CLIENT_CERTFILE"),
            key: get("AUTH_SSL_CLIENT_KEYFILE"),
            token_directory: get("SEC_TOKEN_DIRECTORY"),
            findings,
        }
    }

    /// Whether the credds that go by this configuration take credentials of a Vault server, as `host[:port]` or a URL:
    /// they compare with what stands in the credential's URL, port included.
    #[must_use]
    pub fn trusts_vault(&self, server: &str) -> bool {
        let Some(trusted) = &self.trusted_vault_hosts else {
            return true;
        };
        let server = server.strip_prefix("https://").unwrap_or(server);
        let server = server.split('/').next().unwrap_or_default();
        let port = server
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let server = if port {
            server.to_owned()
        } else {
            format!("{server}:8200")
        };
        let mut hosts = trusted.value.split([',', ' ', '\t', '\n']);
        hosts.any(|host| host.eq_ignore_ascii_case(&server))
    }
}

fn finding(
    severity: Severity,
    place: &condor_config::Place,
    key: &str,
    message: &str,
    advice: &str,
) -> Finding {
    let (file, line) = match place {
        condor_config::Place::File { path, line } => (path.to_path_buf(), *line),
        place => (PathBuf::from(place.to_string()), 0),
    };
    Finding {
        severity,
        file,
        line,
        column: u32::from(line > 0),
        key: key.to_owned(),
        message: message.to_owned(),
        advice: advice.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_htcondors() {
        for method in Method::DEFAULT {
            assert_eq!(Method::from_name(&method.name().to_lowercase()), Some(method));
        }
        assert_eq!(Method::from_name("IDTOKENS"), Some(Method::Token));
        assert_eq!(Method::from_name("PASSWORD"), None);
    }

    #[test]
    fn a_vault_is_trusted_with_its_port() {
        let condor = |hosts: &str| HtCondor {
            trusted_vault_hosts: Some(Said {
                value: hosts.to_owned(),
                place: "x".into(),
            }),
            ..HtCondor::default()
        };
        assert!(HtCondor::default().trusts_vault("v.example.org"));
        assert!(condor("w:1, v.example.org:8200").trusts_vault("v.example.org"));
        assert!(condor("v.example.org:8200").trusts_vault("https://V.example.org:8200/v1"));
        assert!(condor("v.example.org:8201").trusts_vault("v.example.org:8201"));
        assert!(!condor("v.example.org").trusts_vault("v.example.org"));
        assert!(!condor("w:8200").trusts_vault("v.example.org"));
    }
}
