//! A token becomes a file on a node, over SSH, or on this host.
//!
//! [`place`] opens one session per account and node, brings about every [`File`] given, and says of each what it did:
//!
//! - what is already there with the same bytes and mode is left alone;
//! - else the file is written beside its destination with mode 0400 from its first moment, synced, moved over the old
//!   one in one step (`posix-rename@openssh.com`), and read back. Whatever fails, the old file is as it was;
//! - a symbolic link at the destination is replaced, never followed.
//! - [`Mode::Remove`] takes files away again.
//!
//! The same is done on this host ([`Here`]), with the kernel's word that no link is followed anywhere on the way; a
//! [`Command`] takes a secret from its standard input. All are a [`Sink`].
//!
//! GSSAPI logins go over russh, public keys, certificates and agents over libssh2 or russh; [`Login::Auto`] asks the node
//! which it accepts. The system's ssh is run only where a site says so ([`Login::OpenSsh`]). All transports share the dialling, the verdict on the host key and the placement. A host key must be the one in
//! `known_hosts`, or certified by an authority named there: nothing is trusted on first use unless the site says so
//! ([`Verdict`], [`Trust`]). Passwords are never offered.
//!
//! Every step ends by a deadline ([`Limits`]), and a [`Gate`] keeps sessions below what sshd lets in, so that a node
//! that hangs delays nobody else's.
//!
//! Left to others: which token goes where, when to try again, and getting the tickets.
//!
//! ```no_run
//! # async fn run(ticket: kerberos::Ticket, gss: kerberos::Gss) -> Result<(), distribute::Error> {
//! use distribute::{File, Gate, Limits, Login, Mode, Node, Options, place};
//!
//! let gate = Gate::default();
//! let node = Node {
//!     host: "gpvm01.example.org".into(),
//!     port: 22,
//!     user: "dunepro".into(),
//!     known_hosts: distribute::default_files(None),
//!     login: Login::Gssapi { ticket, gss },
//!     options: Options::default(),
//! };
//! let file = File { path: "/tmp/vt_u50001".into(), content: "hvs.example\n".to_owned().into(), mode: 0o400 };
//! let report = place(&gate, &node, &[file], Mode::Write, &Limits::default()).await?;
//! for landed in report.files {
//!     match landed {
//!         Ok(landed) => println!("{:?}", landed.placed),
//!         Err(error) => println!("{error}"),
//!     }
//! }
//! # Ok(()) }
//! ```

mod agent;
mod breaker;
mod dial;
mod error;
mod file_error;
mod gate;
mod identity;
mod key;
mod known_hosts;
mod local;
mod node;
mod options;
#[cfg(feature = "oracles")]
#[doc(hidden)]
pub mod oracles;
mod penalties;
mod placement;
mod said;
mod ssh;
mod told;

use std::time::Duration;

pub use agent::{AgentError, AgentKey, agent_keys, agent_sign};
pub use error::{Error, KeyFault, Stage};
pub use file_error::FileError;
pub use gate::Gate;
pub use known_hosts::{Place, Verdict, default_files};
pub use local::{Brought, Command, Here, OnNode, Results, Sink};
pub use node::{
    Chosen, Difference, File, Identity, Landed, Limits, Login, MAX_FILE, Method, Mode, Node, Placed, Report,
    Transport,
};
pub use options::{Algorithms, Jump, Options, Trust};
use tracing::Instrument;

/// Brings about `files` on one node, as one account, in one session.
///
/// # Errors
/// [`Error`] if no file could be looked at: the node is down, not trusted, does not let the account in, or has no SFTP.
/// [`Error::retryable`] tells what may pass by itself. What concerns one file only is in [`Report::files`].
///
/// # Cancel safety
/// Dropping the future ends the connection. A file is then either as it was or completely replaced; a temporary file
/// whose name begins with `.mtk-` (mode 0400) may be left beside it.
pub async fn place(
    gate: &Gate,
    node: &Node,
    files: &[File],
    mode: Mode,
    limits: &Limits,
) -> Result<Report, Error> {
    let span = tracing::info_span!("place", node = node.host, account = node.user);
    async {
        let began = std::time::Instant::now();
        let report = ssh::run(gate, node, files, mode, limits).await;
        let took = began.elapsed().min(Duration::MAX);
        match &report {
            Ok(report) => {
                tracing::debug!(method = %report.method, transport = %report.transport, ?took, "session done");
            }
            Err(error) => tracing::debug!(%error, ?took, "session failed"),
        }
        report
    }
    .instrument(span)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions run as tasks of their own, on any thread.
    #[test]
    fn a_session_can_be_spawned() {
        fn spawnable<T: Send>(_: impl Fn() -> T) {}
        let (gate, limits) = (Gate::default(), Limits::default());
        let login = Login::PublicKey { key: "key".into() };
        let node = Node {
            host: "n".into(),
            port: 22,
            user: "u".into(),
            known_hosts: vec![],
            login,
            options: Options::default(),
        };
        spawnable(|| place(&gate, &node, &[], Mode::Verify, &limits));
    }
}
