//! Which peer, at which stage, why, whose fault, and what to do.

use std::{fmt, io, net::SocketAddr, time::Duration};

use cedar::{
    Malformed, Unsendable,
    auth::{Method, MethodFailure},
    commands::store_cred::ResultCode,
    sinful::BadAddress,
};
use jiff::Timestamp;

/// A call failed. `Display` tells where, [`source`](std::error::Error::source) tells why ([`Kind`]).
#[derive(Debug, thiserror::Error)]
#[error("{peer} failed while {stage}")]
#[non_exhaustive]
pub struct Error {
    /// The daemon, by kind, name and address.
    pub peer: Box<str>,
    /// How far it went.
    pub stage: Stage,
    /// Why.
    #[source]
    pub kind: Kind,
}

/// How far a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Nothing was sent yet.
    Preparing,
    /// Resolving a name, connecting.
    Connecting,
    /// Agreeing on a session.
    Negotiating,
    /// Proving identities, and the server's verdict on ours.
    Authenticating,
    /// The command itself.
    Commanding,
    /// Looking whether a store took effect.
    Verifying,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preparing => "preparing the request",
            Self::Connecting => "connecting",
            Self::Negotiating => "negotiating a session",
            Self::Authenticating => "authenticating",
            Self::Commanding => "carrying out the command",
            Self::Verifying => "verifying what was stored",
        })
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Kind {
    /// The stage's time, or that of the whole call, is over.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// A host name has no address.
    #[error("the name {host:?} cannot be resolved")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the daemon accepts connections.
    #[error("no address accepts a connection: {}", each(.0))]
    Unreachable(Vec<(SocketAddr, io::Error)>),
    /// The address given or advertised leads nowhere.
    #[error("the address cannot be used")]
    Address(#[from] BadAddress),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The peer closed where an answer was due.
    #[error("the peer closed the connection instead of answering")]
    Closed,
    /// The shared-port daemon knows no such socket.
    #[error(
        "the shared port knows no daemon {id:?}: the daemon is down, or has another address since a restart"
    )]
    UnknownSharedPort {
        /// The socket id.
        id: String,
    },
    /// A collector closed right after a query, which is how it refuses an expression.
    #[error(
        "the collector closed after the query: the constraint {constraint:?} is no valid expression, or too much for it"
    )]
    ConstraintRejected {
        /// The constraint.
        constraint: String,
    },
    /// The conversation did not come about, or broke off.
    #[error(transparent)]
    Cedar(#[from] cedar::Error),
    /// There is no ticket for the daemon, or it did not prove itself.
    #[cfg(feature = "kerberos")]
    #[error("Kerberos has no context with the daemon")]
    Kerberos(#[source] kerberos::Error),
    /// No method got through, and for Kerberos it was the library that failed, not the daemon.
    #[cfg(feature = "kerberos")]
    #[error("authentication failed: {}", reasons(.tried))]
    MethodsFailed {
        /// Every method with its reason, in the order in which they were tried.
        tried: Vec<(Method, MethodFailure)>,
        /// The Kerberos library's reason: it decides whether trying again can help.
        #[source]
        kerberos: Box<kerberos::Error>,
    },
    /// Neither the address nor the ad names a host, and Kerberos needs one.
    #[error("the address names no host, so there is no Kerberos principal to ask a ticket for")]
    Nameless,
    /// The credd answered with a code that is none of success.
    #[error("the credd refused {name} of {target}: {code}")]
    Refused {
        /// The credd's code.
        code: ResultCode,
        /// Whose credential.
        target: String,
        /// Which credential, by the stem of its file.
        name: String,
    },
    /// The credd has no access token of this credential.
    #[error("the credd has no access token of {name}: {why}")]
    NoToken {
        /// Which credential, by the stem of its file.
        name: String,
        /// The credd's words.
        why: String,
    },
    /// Asked to act for somebody this identity was not meant for.
    #[error("the identity {identity:?} was not set up to act for {user:?}")]
    NotActingFor {
        /// The identity's own user.
        identity: String,
        /// Who it was asked to act for.
        user: String,
    },
    /// After the command the credd names another user than before, or none where it must.
    #[error("the credd knew us as {before:?} before the command and as {after:?} in its answer")]
    OtherUser {
        /// From the session.
        before: String,
        /// From the answer.
        after: Option<String>,
    },
    /// The credd says it stored the credential, and shows no newer file.
    #[error("{name} of {target} is not newer than before the store: {} before, {} now", at(.before), at(.after))]
    NotVerified {
        /// Whose credential.
        target: String,
        /// Which credential, by the stem of its file.
        name: String,
        /// The file's time before the last attempt.
        before: Option<Timestamp>,
        /// The file's time after it.
        after: Option<Timestamp>,
    },
    /// The credd took the credential for an access token: nothing will ever be made of it. Credds of 24.7.3 to 24.9 do
    /// so with every service that is no credmon's, whatever they are told (cedar.md 8).
    #[error("the credd keeps {name} of {target} as an access token, which nobody refreshes")]
    NotRefreshed {
        /// Whose credential.
        target: String,
        /// Which credential, by the stem of its file.
        name: String,
    },
    /// No credd of that name is advertised.
    #[error("no credd named {name:?} is advertised")]
    NoSuchCredd {
        /// The name.
        name: String,
    },
    /// No collector answered.
    #[error("{}", all(.0))]
    NoCollector(Vec<Error>),
}

fn each(tried: &[(SocketAddr, io::Error)]) -> String {
    tried
        .iter()
        .map(|(at, why)| format!("{at}: {why}"))
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(feature = "kerberos")]
fn reasons(tried: &[(Method, MethodFailure)]) -> String {
    tried
        .iter()
        .map(|(method, why)| format!("{method}: {why}"))
        .collect::<Vec<_>>()
        .join("; ")
}

fn at(time: &Option<Timestamp>) -> String {
    time.map_or_else(|| "none".to_owned(), |time| time.to_string())
}

fn all(failures: &[Error]) -> String {
    if failures.is_empty() {
        return "no collector is configured".to_owned();
    }
    failures
        .iter()
        .map(|error| format!("{error}: {}", error.kind))
        .collect::<Vec<_>>()
        .join("; ")
}

impl From<Malformed> for Kind {
    fn from(error: Malformed) -> Self {
        Self::Cedar(error.into())
    }
}

impl From<Unsendable> for Kind {
    fn from(error: Unsendable) -> Self {
        Self::Cedar(error.into())
    }
}

/// Who has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Our configuration or identity.
    Ours,
    /// The daemon, or whoever runs it.
    Theirs,
    /// Whatever lies between.
    Network,
}

impl Error {
    pub(crate) fn new(peer: &impl fmt::Display, stage: Stage, kind: impl Into<Kind>) -> Self {
        Self {
            peer: peer.to_string().into(),
            stage,
            kind: kind.into(),
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match &self.kind {
            Kind::Timeout(_)
            | Kind::Resolve { .. }
            | Kind::Unreachable(_)
            | Kind::Broken(_)
            | Kind::Closed => true,
            Kind::UnknownSharedPort { .. } | Kind::NoSuchCredd { .. } => true,
            #[cfg(feature = "kerberos")]
            Kind::Kerberos(error) => error.retryable(),
            #[cfg(feature = "kerberos")]
            Kind::MethodsFailed { kerberos, .. } => kerberos.retryable(),
            Kind::NoCollector(failures) => failures.iter().any(Error::retryable),
            Kind::Refused { code, .. } => *code == ResultCode::Failure,
            Kind::Cedar(cedar::Error::SessionUnknown | cedar::Error::ClosedInMethod { .. }) => true,
            _ => false,
        }
    }

    /// Whether a collector answers only those it knows: the same query with another [`Options::reader`](crate::Options::reader)
    /// may be answered.
    #[must_use]
    pub fn wants_identity(&self) -> bool {
        use cedar::Error::{Denied, MethodsFailed, NoCommonMethod, Unmapped};
        match &self.kind {
            Kind::Cedar(NoCommonMethod { .. } | MethodsFailed(_) | Denied { .. } | Unmapped { .. }) => true,
            #[cfg(feature = "kerberos")]
            Kind::MethodsFailed { .. } => true,
            Kind::NoCollector(failures) => failures.iter().any(Self::wants_identity),
            _ => false,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match &self.kind {
            Kind::Timeout(_) | Kind::Unreachable(_) | Kind::Broken(_) | Kind::Resolve { .. } => {
                Fault::Network
            }
            Kind::ConstraintRejected { .. } | Kind::Nameless | Kind::NotActingFor { .. } => Fault::Ours,
            #[cfg(feature = "kerberos")]
            Kind::Kerberos(_) | Kind::MethodsFailed { .. } => Fault::Ours,
            Kind::Cedar(cedar::Error::Unsendable(_)) => Fault::Ours,
            Kind::NoCollector(failures) => failures.first().map_or(Fault::Ours, Error::fault),
            _ => Fault::Theirs,
        }
    }

    /// What to do about it, as one sentence, if there is something better than trying again.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Some(match &self.kind {
            Kind::Cedar(cedar::Error::Unmapped { .. } | cedar::Error::WrongUser { .. }) => {
                "ask the pool's administrators to map this principal to the account (CERTIFICATE_MAPFILE)"
            }
            Kind::Cedar(cedar::Error::MethodsFailed(tried)) => {
                return tried.iter().find_map(|(method, why)| on_method(*method, why));
            }
            #[cfg(feature = "kerberos")]
            Kind::MethodsFailed { tried, .. } => {
                return tried.iter().find_map(|(method, why)| on_method(*method, why));
            }
            Kind::Cedar(cedar::Error::Denied { .. }) => {
                "ask the pool's administrators to admit the account (ALLOW_WRITE for credds, ALLOW_READ for collectors)"
            }
            Kind::Cedar(cedar::Error::NoCommonMethod { offered }) if offered.is_empty() => {
                "give something to prove the identity with; queries take it from Options::reader"
            }
            Kind::Cedar(cedar::Error::NoCommonMethod { .. }) => {
                "ask the pool's administrators to offer one of these methods (SEC_DEFAULT_AUTHENTICATION_METHODS)"
            }
            Kind::Cedar(cedar::Error::NoPolicy) => {
                "check that the address is a daemon of this kind, and its security levels in its log"
            }
            Kind::Refused {
                code: ResultCode::NotAllowed,
                ..
            } => "the account may store for itself only, unless the credd lists it in CRED_SUPER_USERS",
            Kind::Refused {
                code: ResultCode::ConfigError,
                ..
            } => "SEC_CREDENTIAL_DIRECTORY_OAUTH of the credd is unset or not writable",
            Kind::Refused {
                code: ResultCode::UntrustedVault,
                ..
            } => {
                "the credd's TRUSTED_VAULT_HOSTS must list the Vault server as the URL has it, port included"
            }
            Kind::NotVerified { after: None, .. } => {
                "the file is gone again: a credmon deletes what its Vault server refuses; or the credd knows no credmon for this service"
            }
            Kind::NotRefreshed { .. } => {
                "the credd knows no credmon for this service: name it in VAULT_CREDMON_PROVIDER_NAMES there, or have HTCondor 24.10.2 or later"
            }
            Kind::Nameless => "give the daemon by name, or with alias= in its address",
            Kind::ConstraintRejected { .. } => "correct the schedd constraint",
            Kind::UnknownSharedPort { .. } => "locate the daemon anew",
            _ => return None,
        })
    }
}

/// What to do about one method that failed.
fn on_method(method: Method, why: &MethodFailure) -> Option<&'static str> {
    Some(match (method, why) {
        (_, MethodFailure::NotMapped) => {
            "ask the pool's administrators to list our realm in KERBEROS_MAP_FILE"
        }
        (Method::Kerberos, MethodFailure::Refused) => {
            "compare the clocks, and the daemon's keytab with the KDC's key for its host principal"
        }
        (Method::Ssl, MethodFailure::Refused) => {
            "ask the pool's administrators to trust the CA of our certificate (AUTH_SSL_SERVER_CAFILE)"
        }
        (Method::SciTokens, MethodFailure::Refused) => {
            "compare the token's issuer, subject and audience with the pool's CERTIFICATE_MAPFILE and SCITOKENS_SERVER_AUDIENCE, and look at its end"
        }
        (Method::Token, MethodFailure::PeerNotProven(_) | MethodFailure::Unavailable(_)) => {
            "have a token made in this pool (condor_token_create)"
        }
        (Method::Ssl | Method::SciTokens, MethodFailure::PeerNotProven(_)) => {
            "compare the daemon's certificate with its name, or alias=, and with the CAs that are trusted"
        }
        (Method::Fs, MethodFailure::Refused) => "FS works only where both sides see the same FS_LOCAL_DIR",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn every_level_says_only_its_own() {
        let error = Error::new(
            &"credd ap1",
            Stage::Connecting,
            Kind::Timeout(Duration::from_millis(1500)),
        );
        assert_eq!(error.to_string(), "credd ap1 failed while connecting");
        assert_eq!(error.source().unwrap().to_string(), "no answer within 1.5 s");
        assert!(error.retryable());
        assert_eq!(error.fault(), Fault::Network);
    }

    /// The table of the documentation says what the types say.
    #[test]
    fn every_code_is_in_the_documentation() {
        let table = include_str!("../../../docs/errors-condor.md");
        for number in 0..=14 {
            let code = ResultCode::from_wire(number);
            let text = code.to_string();
            let meaning = text.split_once(" (").unwrap().1.trim_end_matches(')');
            let row = format!("| {number} | `{code:?}` | {meaning} |");
            assert!(table.contains(&row), "{row}");
        }
    }

    #[test]
    fn a_mapping_problem_is_told_from_a_network_problem() {
        let kind = cedar::Error::WrongUser {
            expected: "dunepro".into(),
            mapped: "nobody@x".into(),
        };
        let error = Error::new(&"credd ap1", Stage::Authenticating, kind);
        assert!(!error.retryable());
        assert_eq!(error.fault(), Fault::Theirs);
        assert!(error.advice().unwrap().contains("CERTIFICATE_MAPFILE"));
    }
}
