//! From a fresh connection to a conversation ready for its command, one struct per state (cedar.md 4, 5.1, 5.2).
//!
//! [`start`] or [`resume`] give a [`Next`]; the driver does what it says and asks the state again:
//!
//! ```text
//! Send(messages, state)  write them, read one message, state.receive(message)
//! Read(state)            read one message, state.receive(message)
//! Ask(question, state)   answer it, state.answer(answer)
//! Seal(key, state)       Channel::seal, read one message, state.receive(message)
//! Ready(key, e)          Channel::seal if there is a key, then the command
//! Done(e)                the command
//! ```
//!
//! If the connection ends while a state waits, [`Waiting::closed`] says what that means.

mod trying;

use crate::{
    Error, Unsendable,
    auth::{Answer, Methods, Question},
    security::{Established, KeyPair, Known, Level, Policy, Session, SessionKey, Wish, policy_request},
    wire::{Incoming, Outgoing},
};

use trying::{ExpectChoice, ExpectKeyExchange, ExpectMethod, ExpectNoMethod, Trying, WantToken};

/// The largest message of a handshake; ads have a bound of their own below it.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// What a new session is asked for.
#[derive(Debug)]
pub struct Request {
    /// The command that follows.
    pub command: u32,
    /// Our levels.
    pub wish: Wish,
    /// The methods we can run.
    pub methods: Methods,
    /// A fresh key pair.
    pub key_pair: KeyPair,
    /// The address dialled, for the server's log.
    pub sinful: String,
    /// How long the session should be resumable, in seconds.
    pub session_seconds: u32,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Next {
    /// Write these messages, then read one for the state.
    Send(Vec<Outgoing>, Waiting),
    /// Read a message for the state.
    Read(Waiting),
    /// Answer a question.
    Ask(Question, Asking),
    /// Seal the channel, then read a message for the state.
    Seal(SessionKey, Waiting),
    /// Seal the channel; the conversation is ready.
    Ready(SessionKey, Box<Established>),
    /// The conversation is ready as it is.
    Done(Box<Established>),
}

/// Which part of the handshake a state belongs to, for deadlines and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Policy, session resumption.
    Negotiation,
    /// Methods, the key exchange, the server's verdict.
    Authentication,
}

/// A state that waits for a message.
#[derive(Debug)]
pub struct Waiting(State);

/// A state that waits for an answer of the outside world.
#[derive(Debug)]
pub struct Asking(Open);

#[derive(Debug)]
enum Open {
    /// A method is running.
    Method(Box<ExpectMethod>),
    /// TOKEN is among the methods in common.
    Token(Box<WantToken>),
}

#[derive(Debug)]
enum State {
    Policy(Box<ExpectPolicy>),
    Choice(Box<ExpectChoice>),
    Method(Box<ExpectMethod>),
    NoMethod(Box<ExpectNoMethod>),
    KeyExchange(Box<ExpectKeyExchange>),
    PostAuth(Box<ExpectPostAuth>),
    Resumption(ExpectResumption),
}

/// The request is out.
#[derive(Debug)]
struct ExpectPolicy {
    request: Request,
}

/// The key, if any, is installed.
#[derive(Debug)]
struct ExpectPostAuth(Known);

/// The session id is out.
#[derive(Debug)]
struct ExpectResumption(Box<Session>);

/// Begins a new session.
///
/// # Errors
/// [`Unsendable`] for an address with a NUL in it.
pub fn start(request: Request) -> Result<Next, Unsendable> {
    let message = policy_request(&request)?;
    Ok(Next::Send(
        vec![message],
        Waiting(State::Policy(Box::new(ExpectPolicy { request }))),
    ))
}

/// Resumes `session` on a new connection for `command`. `nonce` is 33 fresh random bytes.
///
/// # Errors
/// [`Unsendable`] for an address with a NUL in it.
pub fn resume(session: Session, command: u32, sinful: &str, nonce: &[u8; 33]) -> Result<Next, Unsendable> {
    let message = session.resume_request(command, sinful, nonce, true)?;
    let state = State::Resumption(ExpectResumption(Box::new(session)));
    Ok(Next::Send(vec![message], Waiting(state)))
}

/// Resumes `session` without waiting for the server's word on it. Write the message, [`Channel::seal`](crate::wire::Channel::seal)
/// with the key, and the command may follow at once, in the same segment: a server that reads it while it waits for nobody does
/// more of them. One that has forgotten the session closes instead of answering the command. `nonce` is 33 fresh random bytes;
/// `None` for a session that cannot be resumed.
///
/// Only for commands that change nothing; those of [`store_cred`](crate::commands::store_cred) that do are refused
/// ([`Unsendable::Unanswered`]). The server's own nonce is in its word alone, so without that word whoever has
/// recorded the conversation can play it to the server again, which then carries the command out again; what is answered
/// stays sealed. `nonce` still makes the answer unique: an old one is not taken for it.
///
/// # Errors
/// [`Unsendable`] for an address with a NUL in it.
pub fn resume_unanswered(
    session: Session,
    command: u32,
    sinful: &str,
    nonce: &[u8; 33],
) -> Result<Option<(Outgoing, SessionKey, Box<Established>)>, Unsendable> {
    let message = session.resume_request(command, sinful, nonce, false)?;
    let resumed = session.unanswered();
    Ok(resumed.map(|(key, established)| (message, key, Box::new(established))))
}

impl Waiting {
    /// Judges the message that was waited for.
    ///
    /// # Errors
    /// [`Error`], after which the connection is of no use.
    pub fn receive(self, message: &Incoming) -> Result<Next, Error> {
        match self.0 {
            State::Policy(state) => state.receive(message),
            State::Choice(state) => state.receive(message),
            State::Method(state) => state.receive(message),
            State::NoMethod(state) => state.receive(message),
            State::KeyExchange(state) => state.receive(message),
            State::PostAuth(state) => {
                Established::from_post_auth(message, state.0).map(|e| Next::Done(Box::new(e)))
            }
            State::Resumption(state) => state
                .0
                .resumed(message)
                .map(|(key, e)| Next::Ready(key, Box::new(e))),
        }
    }

    /// What it means that the peer closed instead of sending the message (cedar.md 4.7).
    #[must_use]
    pub fn closed(&self) -> Error {
        match &self.0 {
            State::Policy(_) => Error::NoPolicy,
            State::Choice(state) => state.closed(),
            State::NoMethod(state) => state.closed(),
            State::Method(state) => state.closed(),
            State::KeyExchange(state) => state.closed(),
            State::PostAuth(state) => match state.0.method {
                Some(method) => Error::Unmapped {
                    method,
                    failed: state.0.failed.clone(),
                },
                None => Error::NoPolicy,
            },
            State::Resumption(_) => Error::SessionUnknown,
        }
    }

    /// Which part of the handshake this is.
    #[must_use]
    pub fn part(&self) -> Part {
        match &self.0 {
            State::Policy(_) | State::Resumption(_) => Part::Negotiation,
            _ => Part::Authentication,
        }
    }
}

impl Asking {
    /// Goes on with the answer.
    ///
    /// # Errors
    /// [`Error`], after which the connection is of no use: above all [`Error::PeerNotProven`].
    pub fn answer(self, answer: Answer) -> Result<Next, Error> {
        match self.0 {
            Open::Method(state) => state.answer(answer),
            Open::Token(state) => state.answer(answer),
        }
    }
}

impl ExpectPolicy {
    fn receive(self, message: &Incoming) -> Result<Next, Error> {
        let policy = Policy::decode(message)?;
        let request = self.request;
        // judged now, before anything of ours is proven to a server that could not keep a secret
        policy.key_offer(request.wish)?;
        if !policy.authentication {
            if request.wish.authentication == Level::Required {
                return Err(Error::AuthenticationDeclined);
            }
            return Trying::new(request, policy, Methods::none()).install(None);
        }
        let left = policy.methods.common(&request.methods);
        // servers hang up on an empty list even where they would survive methods that fail
        if left.is_empty() {
            return Err(Error::NoCommonMethod {
                offered: request.methods.names(),
            });
        }
        Trying::new(request, policy, left).begin()
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "handshake/method_tests.rs"]
mod method_tests;
