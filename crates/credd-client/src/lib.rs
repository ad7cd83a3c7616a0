//! Talks to HTCondor: asks collectors for schedds and credds, and stores, queries and deletes credentials in
//! credds. It drives [`cedar`] over TCP and gets its Kerberos tokens from the crate `kerberos` (the feature of that name, on
//! unless switched off: without it no C library is linked); what the stored bytes mean is left to the caller.
//!
//! A store reaches only the account it is meant for: the target user is named in full, the credd must know *us* as
//! the expected user before the credential is sent, must say so again in its answer (23.10.1 and later), and must
//! show a newer file afterwards.
//!
//! What can go wrong, and what to do about it: [`errors`].
//!
//! ```no_run
//! # #[cfg(feature = "kerberos")]
//! # async fn example(ticket: kerberos::Ticket, gss: kerberos::Gss, token: credential::LongToken)
//! # -> Result<(), credd_client::Error> {
//! use credd_client::{Credd, Identity, Options, schedds, vault_credential};
//!
//! let options = Options::default();
//! let found = schedds(&["condor.example.org".to_owned()], Some("IsJobsubLite =?= True"), &options).await?;
//! let identity = Identity::kerberos(ticket, gss, "dunepro");
//! for credd in found.into_iter().filter_map(|schedd| schedd.credd) {
//!     let credd = Credd::new(credd, identity.clone(), options.clone());
//!     let url = "https://vault.example.org:8200/v1/secret/oauth/creds/dune/dunepro:production";
//!     let stored = credd.store("dunepro", "dune_production", None, &vault_credential(&token, url)).await?;
//!     println!("{} has it since {}", credd.address(), stored.top);
//! }
//! # Ok(())
//! # }
//! ```

#[doc = include_str!("../../../docs/errors-condor.md")]
pub mod errors {}

mod address;
mod answers;
mod collector;
mod conversation;
mod credd;
mod deadline;
mod directory;
mod error;
mod framed;
mod identity;
mod json;
mod pool;
mod session;
mod tls_client;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use address::CreddAddress;
pub use cedar::{
    auth::{BadToken, IdToken, Method, Methods},
    classad,
    commands::{
        check_creds::Verdict,
        collector as ads,
        store_cred::{All, Refresh, Restriction, ResultCode, Terms},
    },
    security::Version,
    sinful::{BadAddress, Sinful},
};
pub use collector::{Ads, Collector};
pub use credd::{Credd, Entry, Held, Stored, Wanted};
pub use error::{Error, Fault, Kind, Stage};
#[cfg(feature = "kerberos")]
pub use identity::Kerberos;
pub use identity::{BadCertificate, ClientCertificate, Identity};
pub use json::{handle_credential, vault_credential};
pub use pool::{Answered, Keep, Pool, Schedd, locate, schedds};

/// How long to wait, and who to say we are.
#[derive(Debug, Clone)]
pub struct Options {
    /// For one address to accept a connection.
    pub connect: Duration,
    /// For each of negotiation, authentication and command of one connection. Servers give up authentication
    /// after 20 s.
    pub step: Duration,
    /// For a whole call of this crate, however many connections it takes.
    pub total: Duration,
    /// A plain word for the servers' logs.
    pub client_name: String,
    /// With whom to authenticate to collectors that insist on it; most pools answer queries without.
    pub reader: Option<Identity>,
    /// The authentication methods to offer, of which the server's order picks; those we have nothing to present for
    /// are left out. FS, CLAIMTOBE and ANONYMOUS prove nothing about the server, and are offered only if named here.
    pub methods: Methods,
    /// Whom to believe in SSL and SCITOKENS. Without it they are not offered.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Where servers may have us make directories for FS: their `FS_LOCAL_DIR`.
    pub fs_directory: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            step: Duration::from_secs(20),
            total: Duration::from_secs(60),
            client_name: "mtk".to_owned(),
            reader: None,
            methods: Method::DEFAULT.into_iter().collect(),
            tls: None,
            fs_directory: PathBuf::from("/tmp"),
        }
    }
}

/// The examples of the README compile and run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
