//! What can go wrong, split by whose fault it is.

use crate::auth::{Method, MethodFailure};

/// Bytes of a peer that are not CEDAR, or too much of it. The connection cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The message ended inside a value.
    #[error("the message ends inside {what}")]
    Truncated {
        /// Which value.
        what: &'static str,
    },
    /// A length, count or message beyond the bound set for it.
    #[error("{what} has a length of {got}, at most {limit} is accepted")]
    TooLong {
        /// Which value.
        what: &'static str,
        /// What the peer announced.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// A length that is zero or negative where that has no meaning.
    #[error("{what} has the impossible length {got}")]
    BadLength {
        /// Which value.
        what: &'static str,
        /// What the peer announced.
        got: i64,
    },
    /// A frame's first byte is neither "more follows" nor "last".
    #[error("a frame begins with the byte {0:#04x}, which is no end flag")]
    EndFlag(u8),
    /// A value that has no meaning where it stands.
    #[error("{what} is {got}, which has no meaning here")]
    Unexpected {
        /// Which value.
        what: &'static str,
        /// What the peer sent.
        got: i64,
    },
    /// Bytes left over behind the last value of a message.
    #[error("{0} bytes are left over behind the end of the message")]
    LeftOver(usize),
    /// A string without its NUL, or with one inside.
    #[error("{what} is not a string ended by one NUL")]
    NotAString {
        /// Which value.
        what: &'static str,
    },
    /// Text that is not UTF-8 where it must be.
    #[error("{what} is not UTF-8")]
    NotText {
        /// Which value.
        what: &'static str,
    },
    /// A line of an ad without `=`, or without a name.
    #[error("a line of an ad has no attribute name")]
    NotAnAttribute,
    /// An attribute the protocol needs is missing or of another type.
    #[error("the peer's ad lacks {0}")]
    Missing(&'static str),
    /// A public key, a base64 text or a GSS token that cannot be read.
    #[error("{0} cannot be read")]
    Unreadable(&'static str),
    /// A sealed frame whose tag does not fit: another key, another conversation, or changed bytes.
    #[error("a sealed frame does not open: key, digests or bytes differ")]
    Seal,
}

/// A value of ours that the wire cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// A NUL inside a string.
    #[error("{what} holds a NUL")]
    Nul {
        /// Which value.
        what: &'static str,
    },
    /// Characters the receiving side would refuse.
    #[error("{what} {text:?} holds characters HTCondor does not accept there")]
    Characters {
        /// Which value.
        what: &'static str,
        /// What was given; never a secret.
        text: String,
    },
    /// Longer than the peer accepts.
    #[error("{what} is {got} bytes long, the peer accepts {limit}")]
    TooLong {
        /// Which value.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// A message built for a sealed stream on one that is not sealed, or the other way round.
    #[error("the message was built for a {built} stream, and this one is {is}")]
    Mode {
        /// What the message was built for.
        built: &'static str,
        /// What the stream is.
        is: &'static str,
    },
    /// A command that changes something, on a session that was resumed without the peer's word on it.
    #[error("the peer has not said yet whether it knows the session, and only questions may go to it before")]
    Unanswered,
    /// A direction of the connection has used up its nonces.
    #[error("this connection has sealed as many frames as one key may")]
    Exhausted,
}

/// Why a conversation did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's bytes are wrong.
    #[error("the peer does not speak the protocol as expected")]
    Malformed(#[from] Malformed),
    /// Our own values are wrong.
    #[error("the request cannot be put on the wire")]
    Unsendable(#[from] Unsendable),
    /// The peer closed instead of answering the negotiation (cedar.md 4.7).
    #[error(
        "the peer closed without a policy: it does not know the command, or its security levels exclude ours"
    )]
    NoPolicy,
    /// The peer wants or offers no authentication although we require it.
    #[error("the peer would go on without authentication, which this command must not")]
    AuthenticationDeclined,
    /// No authentication method in common.
    #[error("no authentication method in common: we offered {}", if .offered.is_empty() { "none" } else { .offered.as_str() })]
    NoCommonMethod {
        /// What we offered, by wire names.
        offered: String,
    },
    /// Every method was tried, none succeeded.
    #[error("authentication failed: {}", tried(.0))]
    MethodsFailed(Vec<(Method, MethodFailure)>),
    /// The peer closed in the middle of a method.
    #[error("the peer closed during {method} authentication{}", before(.failed))]
    ClosedInMethod {
        /// The method.
        method: Method,
        /// Those that failed before it.
        failed: Vec<(Method, MethodFailure)>,
    },
    /// The peer could not prove who it is; nothing more was sent to it.
    #[error("the peer did not prove its own identity with {0}")]
    PeerNotProven(Method),
    /// No AES key came about, so nothing secret may be sent.
    #[error(
        "the peer agrees on no AES key (it chose {chosen:?}): servers before HTCondor 9.9 and without AES cannot be used"
    )]
    NotEncrypted {
        /// What the peer named as its cipher.
        chosen: String,
    },
    /// Closed after a successful method: the identity is mapped to nobody.
    #[error(
        "the peer accepted the {method} authentication and closed: its mapping gives this identity no user{}",
        before(.failed)
    )]
    Unmapped {
        /// The method that succeeded.
        method: Method,
        /// Those that failed before it.
        failed: Vec<(Method, MethodFailure)>,
    },
    /// Authenticated, and not allowed.
    #[error("the peer knows us as {user:?} and does not allow the command ({code}){}", before(.failed))]
    Denied {
        /// Who we are to the peer.
        user: String,
        /// Its word for it.
        code: String,
        /// The methods that failed before the one that made us this user.
        failed: Vec<(Method, MethodFailure)>,
    },
    /// The peer takes us for somebody else than it must.
    #[error("the peer knows us as {mapped:?}, and only {expected:?} may be sent this credential")]
    WrongUser {
        /// Whom the caller expects.
        expected: String,
        /// Who we are to the peer.
        mapped: String,
    },
    /// The peer has forgotten the session: do a full handshake.
    #[error("the peer does not know the session any more")]
    SessionUnknown,
}

fn before(failed: &[(Method, MethodFailure)]) -> String {
    match failed {
        [] => String::new(),
        failed => format!("; before that {}", tried(failed)),
    }
}

fn tried(tried: &[(Method, MethodFailure)]) -> String {
    let each: Vec<String> = tried
        .iter()
        .map(|(method, why)| format!("{method}: {why}"))
        .collect();
    each.join("; ")
}
