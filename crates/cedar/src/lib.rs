//! HTCondor's wire protocol CEDAR, as far as a client needs it to ask collectors and to store credentials.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: bytes, key pairs, nonces and answers of
//! the Kerberos library are handed in, bytes to write and questions to the world come out. So a conversation can
//! be replayed exactly, and a test is a table. The sections named in the documentation are those of the protocol
//! description this crate was written from; C++ names are files of `htcondor/htcondor`.
//!
//! - [`wire`]: frames, messages, integers, strings, and [`wire::Channel`], the state of one connection
//! - [`classad`], [`sinful`], [`shared_port`]: ads, addresses, being passed on
//! - [`handshake`]: from a fresh connection to an [`security::Established`] conversation
//! - [`security`]: policy, keys, and [`security::Authenticated`], without which no credential is put into a message
//! - [`auth`]: the authentication methods
//! - [`commands`]: what is asked
//!
//! What each error means in practice, and what to do about it, is in `docs/errors-condor.md`, which the documentation of
//! `credd-client` has as `credd_client::errors`.
//!
//! ```
//! use cedar::{shared_port, wire::Channel};
//! let mut channel = Channel::new();
//! let bytes = channel.send(&shared_port::connect("collector", "mtk", 20)?)?;
//! channel.reset_digests();
//! assert_eq!(bytes.len(), 5 + 38);
//! # Ok::<(), cedar::Unsendable>(())
//! ```

pub mod auth;
pub mod classad;
pub mod commands;
mod error;
pub mod handshake;
pub mod security;
pub mod shared_port;
pub mod sinful;
pub mod wire;

#[cfg(test)]
mod testing;

pub use error::{Error, Malformed, Unsendable};

/// The examples of the README compile and run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
