//! Authentication methods. All have the same shape: a first step, an answer to a message or to a question to the
//! outside world, an end; success is only what the end says (cedar.md 5).
//!
//! A further method is a further module, a line in [`Method`], and a variant of `Running` and of [`Question`].

mod fs;
mod id_token;
pub mod kerberos;
mod methods;
mod seeds;
mod ssl;
mod token;
mod unproven;

use crate::{Error, wire::Incoming, wire::Outgoing};

pub use id_token::{BadToken, IdToken, TokenWanted};
pub use methods::{Method, Methods};
pub use ssl::TlsTurn;
pub(crate) use token::Presented;

/// Why one method did not succeed; others may still be tried on the same connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodFailure {
    /// We could not do our part: no ticket for this server, no token, no directory. Why, in the words of whoever
    /// was asked.
    Unavailable(Box<str>),
    /// The server did not accept what we presented: for Kerberos, its keytab does not open the ticket, or clocks
    /// differ; for a certificate or a token, it does not trust whoever signed it.
    Refused,
    /// The server accepted the proof and maps the name to nobody.
    NotMapped,
    /// The server offered the method and cannot run it: no certificate, no key, no directory.
    PeerUnable,
    /// The server did not prove who it is; nothing of worth was sent to it.
    PeerNotProven(Box<str>),
    /// The server has no method left of those we offered.
    NoneLeft,
}

impl std::fmt::Display for MethodFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unavailable(why) => return write!(f, "we could not: {why}"),
            Self::Refused => "the peer refused what was presented",
            Self::NotMapped => "the peer accepted the proof, but maps the name to no user (its map file)",
            Self::PeerUnable => "the peer offered it and cannot run it",
            Self::PeerNotProven(why) => return write!(f, "the peer did not prove itself: {why}"),
            Self::NoneLeft => "the peer has no method left of those offered",
        })
    }
}

/// What a method needs from the outside world before it can go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Question {
    /// A first GSS token for the peer (krb5 mechanism, mutual authentication), framed as GSSAPI makes it.
    KerberosToken,
    /// Whether this token of the peer, framed as GSSAPI wants it, completes the context.
    KerberosProof(Vec<u8>),
    /// A token of the pool that fits, before methods are offered. Without one TOKEN is not offered.
    IdToken(TokenWanted),
    /// A TLS client for the peer, which verifies its certificate under the peer's name. With `bearer` it must not
    /// present a certificate of ours. Answered with [`Answer::Tls`], which says nothing yet.
    TlsClient {
        /// Whether it is for a bearer token, so for SCITOKENS.
        bearer: bool,
    },
    /// What the TLS client makes of these records, none at first.
    Tls(Vec<u8>),
    /// Our bearer token as data inside TLS, behind its length in four bytes, most significant first.
    TlsBearer,
    /// Whether this directory could be made, for its owner alone: only below the directory agreed with the server,
    /// and removed when the handshake is over.
    Directory(String),
    /// The user we claim to be.
    User,
}

/// The outside world's answer to a [`Question`].
#[non_exhaustive]
pub enum Answer {
    /// The first GSS token.
    KerberosToken(Vec<u8>),
    /// The context is complete: the peer has proven itself.
    KerberosProven,
    /// A fitting token, and 256 fresh random bytes.
    IdToken(IdToken, Box<[u8; 256]>),
    /// What the TLS client has to say.
    Tls(TlsTurn),
    /// The directory is made; with our view of the server appended to its name, that view.
    Directory {
        /// What was appended, if the server invited to it.
        extension: Option<String>,
    },
    /// A user's name.
    User(String),
    /// It cannot be done, and why.
    Unavailable(Box<str>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KerberosToken(_) => "KerberosToken(..)",
            Self::KerberosProven => "KerberosProven",
            Self::IdToken(..) => "IdToken(..)",
            Self::Tls(_) => "Tls(..)",
            Self::Directory { .. } => "Directory",
            Self::User(_) => "User(..)",
            Self::Unavailable(_) => "Unavailable",
        })
    }
}

/// What a method wants next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Write these, then read a message.
    Send(Vec<Outgoing>, Running),
    /// Write these with whatever comes next, and put a question to the outside world before that.
    SendThenAsk(Vec<Outgoing>, Question, Running),
    /// Read a message.
    Read(Running),
    /// Put a question to the outside world.
    Ask(Question, Running),
    /// The method says yes, once these are written.
    Succeeded(Vec<Outgoing>),
    /// The method says no, with the stream in step once these are written.
    Failed(MethodFailure, Vec<Outgoing>),
}

/// A method under way.
#[derive(Debug)]
pub(crate) enum Running {
    Kerberos(kerberos::State),
    Tls(ssl::State),
    Token(token::ExpectReply),
    Fs(fs::State),
    Unproven(unproven::State),
}

impl Running {
    /// Starts `method`. The token of TOKEN was asked for before it was offered.
    pub(crate) fn start(method: Method, token: Option<Presented>) -> Result<Step, Error> {
        Ok(match method {
            Method::Kerberos => kerberos::start(),
            Method::Ssl | Method::SciTokens => ssl::start(method),
            Method::Token => token.ok_or(Error::PeerNotProven(method))?.start()?,
            Method::Fs => fs::start(),
            Method::ClaimToBe => unproven::claim(),
            Method::Anonymous => unproven::anonymous(),
        })
    }

    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Kerberos(_) => Method::Kerberos,
            Self::Tls(state) => state.method(),
            Self::Token(_) => Method::Token,
            Self::Fs(_) => Method::Fs,
            Self::Unproven(state) => state.method(),
        }
    }

    pub(crate) fn receive(self, message: &Incoming) -> Result<Step, Error> {
        match self {
            Self::Kerberos(state) => state.receive(message),
            Self::Tls(state) => state.receive(message),
            Self::Token(state) => state.receive(message),
            Self::Fs(state) => state.receive(message),
            Self::Unproven(state) => state.receive(message),
        }
    }

    pub(crate) fn answer(self, answer: Answer) -> Result<Step, Error> {
        match self {
            Self::Kerberos(state) => state.answer(answer),
            Self::Tls(state) => state.answer(answer),
            Self::Token(state) => state.answer(answer),
            Self::Fs(state) => state.answer(answer),
            Self::Unproven(state) => state.answer(answer),
        }
    }
}
