//! Vault or OpenBao as htvault-config lays it out: Kerberos login, the token tree, bearer tokens.
//!
//! A [`Client`] speaks to one server (all addresses behind its name) and is shared by all services: connections,
//! the limit of requests at once and the count of requests are per client. Answers become the secret types of
//! `credential`; what the server said in a refusal is kept, bounded and without tokens, in a typed [`Error`] that
//! knows whether to try again and whose fault it is.
//!
//! Requests are built with rustify and vaultrs and sent by a `rustify::Client` of our own over reqwest: no
//! environment variable changes anything, no proxy is used, only https is spoken.
//!
//! Each request waits for its turn in a budget ([`Quota`]) that all mtk processes of the host share through a file: what
//! ends first goes first ([`Client::in_turn_of`]), and a block is waited out. An election in a cluster is waited out, too.
//!
//! Left to others: making Kerberos tokens, other retries, files with tokens, configuration.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use jiff::{SignedDuration, Timestamp};
//! use vault_client::{Client, Options, SecretPath};
//!
//! let client = Client::new(Options::new("vault.example.org".parse()?, tls::client_config(&tls::Trust::default())?))?;
//! let robot = "dunepro/managedtokens/mtk.example.org@EXAMPLE.ORG".parse()?;
//! let keytab = kerberos::Keytab::open("/etc/mtk/dunepro.keytab".as_ref(), &robot)?;
//! let gss = kerberos::Gss::new(4);
//! let ticket = gss.acquire(&keytab).await?;
//! let target = kerberos::Target::Principal(client.kerberos_target());
//! let (_, token) = gss.begin(&ticket, &target, kerberos::Mech::Krb5, false).await?;
//!
//! let login = client.login_kerberos("dune", "production", &token, &robot, Timestamp::now()).await?;
//! let path = SecretPath::new("dune", robot.credkey(), "production")?;
//! let bearer = client.bearer(&login.token, &path, 60).await?;
//! let week = SignedDuration::from_hours(7 * 24);
//! let child = client.create_child(&login.token, login.lifetime, week, Timestamp::now()).await?;
//! # drop((bearer, child)); Ok(()) }
//! ```

mod answer;
mod ask;
mod budget;
mod client;
mod doing;
mod endpoints;
mod error;
mod grant;
mod issuer;
#[doc(hidden)]
pub mod offline;
mod oidc;
mod places;
mod refusal;
mod route;
mod server;
mod ssh;
mod told;
mod transport;
mod upkeep;
mod wire;

pub use budget::{Quota, Standing, standing};
pub use client::{Client, Options, Turn};
pub use doing::Doing;
pub use endpoints::{Restriction, SecretPath};
pub use error::{Error, Fault};
pub use grant::{Bearer, Child, Login, Lookup};
pub use issuer::{issuer_keys, published_scopes};
pub use oidc::{Flow, Mode, OidcError, OidcLogin, Polled, RefreshToken};
pub use places::Places;
pub use server::Server;
pub use ssh::{SshNonce, SshProof};
pub use upkeep::{Alive, Health};
