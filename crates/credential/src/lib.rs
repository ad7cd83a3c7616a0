//! The nouns of mtk: tokens, principals, services and lifetimes.
//!
//! No I/O, no clock, no environment: whoever needs to know how long something still lives passes `now`.
//! Secrets are types that cannot be shown: no content in `Debug`, no `Display`, no `Serialize`, wiped on drop,
//! and one verb, `expose`, to read them.
//!
//! ```
//! use credential::{Principal, ServiceName};
//! let robot: Principal = "dunepro/managedtokens/mtk.example.org@EXAMPLE.ORG".parse()?;
//! assert_eq!(robot.credkey(), "dunepro/managedtokens/mtk.example.org");
//! let service: ServiceName = "dune_production".parse()?;
//! assert_eq!((service.issuer(), service.role()), ("dune", "production"));
//! # Ok::<(), credential::Invalid>(())
//! ```

pub mod act;
mod bearer;
mod claims;
mod foreign;
mod issuer_keys;
mod lifetime;
mod principal;
mod said;
mod secret;
mod service;
mod vault_token;

pub use bearer::BearerToken;
pub use claims::{Capability, Claims, Profile, not_asked, not_published};
pub use foreign::Foreign;
pub use issuer_keys::{IssuerKeys, Unverified};
pub use lifetime::Lifetime;
pub use principal::Principal;
pub use said::{chain, printable};
pub use secret::SecretBytes;
pub use service::ServiceName;
pub use vault_token::{LongToken, NODE_TOKEN_LIMIT, NodeToken, VaultToken};

/// What was wrong with a value that was to become one of the nouns. Never carries the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A principal without a name, without a realm, or with characters no KDC accepts.
    #[error("{text:?} is not a Kerberos principal of the form name[/part...]@REALM")]
    Principal {
        /// What was given.
        text: String,
    },
    /// A service name HTCondor's credd would refuse, or one without an experiment.
    #[error("{text:?} is not a service name: {why}")]
    Service {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// An empty token, or one with blanks, control or non-ASCII characters.
    #[error("the {kind} is not a token: {why}")]
    Token {
        /// Which kind of token was expected.
        kind: &'static str,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// What should have been an issuer's public keys.
    #[error("the keys of the issuer {issuer} cannot be used: {why}")]
    Keys {
        /// Whose keys.
        issuer: String,
        /// Which rule they break.
        why: &'static str,
    },
    /// A Vault token was granted a life beyond the million seconds a file may hold.
    #[error("a Vault token living {seconds} s may not become a file: the limit is 1000000 s")]
    TooLongLived {
        /// The granted life.
        seconds: i64,
    },
}
