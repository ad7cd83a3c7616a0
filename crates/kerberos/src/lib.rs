//! Kerberos for many principals in one process: keytab -> ticket -> GSSAPI tokens.
//!
//! A [`Keytab`] is judged on the open file before anything trusts it. [`Gss::acquire`] turns it into a [`Ticket`]
//! whose keys lie in a MEMORY ccache of its own, wiped with the last clone; no default ccache, no environment and
//! no file is touched. [`Gss::held`] takes the ticket a person has already. [`Gss::begin`] makes the first token for a service, [`Initiator`] goes on from there.
//!
//! GSSAPI blocks and cannot be cancelled, so every call runs on threads of this crate: futures work under any
//! runtime, and dropping one abandons the wait, not the thread. A realm whose KDC swallows calls is asked by one
//! call at a time until it answers again, and never holds up another realm.
//!
//! Left to others: what a token is for, how it travels, deadlines, retries.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use kerberos::{Gss, Keytab, Mech, Target};
//! let robot = "dunepro/managedtokens/mtk.example.org@EXAMPLE.ORG".parse()?;
//! let keytab = Keytab::open("/etc/mtk/dunepro.keytab".as_ref(), &robot)?;
//! let gss = Gss::new(4);
//! let ticket = gss.acquire(&keytab).await?;
//! let target = Target::Principal("host/vault.example.org@".into());
//! let (_initiator, token) = gss.begin(&ticket, &target, Mech::Krb5, false).await?;
//! # let _ = token; Ok(()) }
//! ```

mod error;
mod gss;
mod initiator;
mod keytab;
mod lanes;
mod status;
mod sys;

pub use error::Error;
pub use gss::{Gss, Mech, Target, Ticket};
pub use initiator::{Initiator, Step};
pub use keytab::{Enctype, Keytab, KeytabError};
