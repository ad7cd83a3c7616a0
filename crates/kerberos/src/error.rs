//! What can go wrong between a keytab and a token, by whose fault.

use std::{path::PathBuf, time::Duration};

/// Why there is no ticket or no token. `text` is what the Kerberos library said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The KDC does not know the client.
    #[error(
        "the KDC of {realm} does not know the principal {principal} ({text}): create it, or correct the name"
    )]
    PrincipalUnknown {
        /// Whom we asked for.
        principal: String,
        /// Whose KDC.
        realm: String,
        /// The library's words.
        text: String,
    },
    /// The key in the keytab is not the one the KDC has.
    #[error(
        "the key for {principal} in {} (kvno {kvno}) is not the one the KDC has ({text}): \
         the password or key was changed since; extract the keytab again", keytab.display()
    )]
    KeyMismatch {
        /// Whose key.
        principal: String,
        /// From which file.
        keytab: PathBuf,
        /// The key version the file has.
        kvno: u32,
        /// The library's words.
        text: String,
    },
    /// The KDC knows the client and refuses it: disabled, expired, or out of policy.
    #[error(
        "the KDC of {realm} refuses the principal {principal} ({text}): its administrator must enable it"
    )]
    PrincipalDisabled {
        /// Who was refused.
        principal: String,
        /// Whose KDC.
        realm: String,
        /// The library's words.
        text: String,
    },
    /// Clocks differ by more than the KDC allows.
    #[error(
        "the clocks of this host and of the KDC of {realm} differ too much ({text}): check time synchronisation"
    )]
    ClockSkew {
        /// Whose KDC.
        realm: String,
        /// The library's words.
        text: String,
    },
    /// No KDC of the realm answered.
    #[error("no KDC of realm {realm} answered ({text})")]
    KdcUnreachable {
        /// Whose KDC.
        realm: String,
        /// The library's words.
        text: String,
    },
    /// Neither krb5.conf nor DNS names a KDC for the realm.
    #[error("no KDC is known for realm {realm} ({text}): add the realm to krb5.conf")]
    RealmUnknown {
        /// The realm of the client.
        realm: String,
        /// The library's words.
        text: String,
    },
    /// krb5.conf cannot be read or has an error.
    #[error("the Kerberos configuration cannot be used ({text}): correct krb5.conf")]
    Configuration {
        /// The library's words.
        text: String,
    },
    /// The KDC does not know the service.
    #[error("the KDC of {realm} does not know the service {target} ({text}): check the peer's name or alias")]
    ServiceUnknown {
        /// The service asked for.
        target: String,
        /// Whose KDC.
        realm: String,
        /// The library's words.
        text: String,
    },
    /// A ccache holds no ticket that would do.
    #[error("there is no Kerberos ticket in {ccache} ({text}): get one with kinit, or name another ccache")]
    NoTicket {
        /// Which ccache.
        ccache: String,
        /// The library's words.
        text: String,
    },
    /// The ticket is over.
    #[error("the ticket of {principal} has expired ({text}): get a new one (kinit)")]
    TicketExpired {
        /// Whose ticket.
        principal: String,
        /// The library's words.
        text: String,
    },
    /// Client and KDC share no permitted kind of key.
    #[error("the KDC of {realm} and this host share no encryption type for {principal} ({text})")]
    Enctype {
        /// Whose key.
        principal: String,
        /// Whose KDC.
        realm: String,
        /// The library's words.
        text: String,
    },
    /// An earlier call to the realm's KDC is still hanging, so this one was not made.
    #[error("the KDC of {realm} has been silent for {} s: not asked again while a call still hangs", .silent.as_secs())]
    KdcSilent {
        /// Whose KDC.
        realm: String,
        /// For how long the oldest call has been hanging.
        silent: Duration,
    },
    /// More calls are waiting for the realm than the queue holds.
    #[error("{waiting} Kerberos calls are already waiting for realm {realm}")]
    Busy {
        /// For which realm.
        realm: String,
        /// How many wait.
        waiting: usize,
    },
    /// The name of the service cannot be one.
    #[error("{target:?} is not the name of a Kerberos service ({text})")]
    BadTarget {
        /// What was given.
        target: String,
        /// Why not.
        text: String,
    },
    /// The peer's token was refused, or the peer is not who it should be.
    #[error("the answer of {target} in the GSSAPI exchange was not accepted ({text})")]
    PeerToken {
        /// The service spoken to.
        target: String,
        /// The library's words.
        text: String,
    },
    /// The context was established without the mutual authentication that was asked for.
    #[error("{target} did not prove its own identity (no mutual authentication)")]
    NotMutual {
        /// The service spoken to.
        target: String,
    },
    /// A step was asked of a context that is not complete, already complete, or was lost with an abandoned call.
    #[error("the GSSAPI context with {target} cannot go on: {why}")]
    Context {
        /// The service spoken to.
        target: String,
        /// In which way.
        why: &'static str,
    },
    /// The operating system gave no thread.
    #[error("no thread could be started for Kerberos calls ({text})")]
    Thread {
        /// The system's words.
        text: String,
    },
    /// Anything else the library reported.
    #[error("Kerberos failed for {principal} while {doing}: {text} (major {major:#x}, minor {minor})")]
    Library {
        /// Whose credential.
        principal: String,
        /// The stage.
        doing: &'static str,
        /// The library's words.
        text: String,
        /// GSSAPI's status.
        major: u32,
        /// The mechanism's status.
        minor: u32,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::KdcUnreachable { .. }
                | Self::KdcSilent { .. }
                | Self::Busy { .. }
                | Self::Thread { .. }
                | Self::TicketExpired { .. }
        )
    }

    /// Whether the KDC kept silent: such an answer says nothing about the principal.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::KdcUnreachable { .. })
    }
}
