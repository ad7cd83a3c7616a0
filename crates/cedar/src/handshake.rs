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

use crate::{
    Error, Malformed, Unsendable,
    auth::{Answer, Method, MethodFailure, Methods, Question, Running, Step},
    security::{Established, KeyPair, Known, Level, Policy, Session, SessionKey, Wish, policy_request},
    wire::{Incoming, Mode, Outgoing},
};

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
pub struct Asking(ExpectMethod);

#[derive(Debug)]
enum State {
    Policy(ExpectPolicy),
    Choice(ExpectChoice),
    Method(ExpectMethod),
    NoMethod(ExpectNoMethod),
    KeyExchange(ExpectKeyExchange),
    PostAuth(ExpectPostAuth),
    Resumption(ExpectResumption),
}

/// The request is out.
#[derive(Debug)]
struct ExpectPolicy {
    request: Request,
}

/// Policy is settled, methods are tried.
#[derive(Debug)]
struct Trying {
    request: Request,
    policy: Policy,
    left: Methods,
    failed: Vec<(Method, MethodFailure)>,
}

/// Our bitmask is out.
#[derive(Debug)]
struct ExpectChoice(Trying);

/// A method is running.
#[derive(Debug)]
struct ExpectMethod {
    trying: Trying,
    running: Running,
}

/// We gave up on methods, which the server allows, and it owes its confirmation.
#[derive(Debug)]
struct ExpectNoMethod(Trying);

/// A method has succeeded.
#[derive(Debug)]
struct ExpectKeyExchange {
    trying: Trying,
    method: Method,
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
        Waiting(State::Policy(ExpectPolicy { request })),
    ))
}

/// Resumes `session` on a new connection for `command`. `nonce` is 33 fresh random bytes.
///
/// # Errors
/// [`Unsendable`] for an address with a NUL in it.
pub fn resume(session: Session, command: u32, sinful: &str, nonce: &[u8; 33]) -> Result<Next, Unsendable> {
    let message = session.resume_request(command, sinful, nonce)?;
    let state = State::Resumption(ExpectResumption(Box::new(session)));
    Ok(Next::Send(vec![message], Waiting(state)))
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
            State::Method(state) => {
                let method = state.running.method();
                state.trying.step(state.running.receive(message)?, method)
            }
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
            State::Choice(ExpectChoice(trying)) | State::NoMethod(ExpectNoMethod(trying)) => {
                trying.given_up()
            }
            State::Method(state) => Error::ClosedInMethod(state.running.method()),
            State::KeyExchange(state) => Error::ClosedInMethod(state.method),
            State::PostAuth(ExpectPostAuth(known)) => match known.method {
                Some(method) => Error::Unmapped { method },
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
        let method = self.0.running.method();
        self.0.trying.step(self.0.running.answer(answer)?, method)
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
            return Trying {
                request,
                policy,
                left: Methods::none(),
                failed: Vec::new(),
            }
            .install(None);
        }
        let left = policy.methods.common(&request.methods);
        // servers hang up on an empty list even where they would survive methods that fail
        if left.is_empty() {
            return Err(Error::NoCommonMethod {
                offered: request.methods.names(),
            });
        }
        Trying {
            request,
            policy,
            left,
            failed: Vec::new(),
        }
        .offer(Vec::new())
    }
}

impl Trying {
    /// Sends `first`, then what is left to try; the server picks.
    fn offer(self, mut first: Vec<Outgoing>) -> Result<Next, Error> {
        let may_fail =
            self.policy.authentication_may_fail && self.request.wish.authentication != Level::Required;
        if self.left.is_empty() && !may_fail {
            return Err(self.given_up());
        }
        first.push(Outgoing::new(Mode::Plain).int(self.left.mask()));
        let state = if self.left.is_empty() {
            State::NoMethod(ExpectNoMethod(self))
        } else {
            State::Choice(ExpectChoice(self))
        };
        Ok(Next::Send(first, Waiting(state)))
    }

    fn given_up(&self) -> Error {
        if self.failed.is_empty() {
            return Error::NoCommonMethod {
                offered: self.request.methods.names(),
            };
        }
        Error::MethodsFailed(self.failed.clone())
    }

    fn step(mut self, step: Step, method: Method) -> Result<Next, Error> {
        match step {
            Step::Send(messages, running) => Ok(Next::Send(
                messages,
                Waiting(State::Method(ExpectMethod {
                    trying: self,
                    running,
                })),
            )),
            Step::Read(running) => Ok(Next::Read(Waiting(State::Method(ExpectMethod {
                trying: self,
                running,
            })))),
            Step::Ask(question, running) => Ok(Next::Ask(
                question,
                Asking(ExpectMethod {
                    trying: self,
                    running,
                }),
            )),
            Step::Succeeded => Ok(Next::Read(Waiting(State::KeyExchange(ExpectKeyExchange {
                trying: self,
                method,
            })))),
            Step::Failed(why, messages) => {
                self.failed.push((method, why));
                self.left.remove(method);
                self.offer(messages)
            }
        }
    }

    /// Puts the agreed key to use, if there is to be one.
    fn install(self, method: Option<Method>) -> Result<Next, Error> {
        let key = match self.policy.key_offer(self.request.wish)? {
            Some(public) => Some(self.request.key_pair.agree(public)?),
            None => None,
        };
        let known = Known {
            method,
            key: key.clone(),
            version: self.policy.version,
            session_seconds: self.policy.session_seconds,
        };
        let state = Waiting(State::PostAuth(ExpectPostAuth(known)));
        Ok(match key {
            Some(key) => Next::Seal(key, state),
            None => Next::Read(state),
        })
    }
}

impl ExpectChoice {
    fn receive(self, message: &Incoming) -> Result<Next, Error> {
        let Self(mut trying) = self;
        let what = "the chosen method";
        let mut reader = message.reader();
        let bit = reader.int(what)?;
        reader.finish()?;
        if bit == 0 {
            trying
                .failed
                .extend(trying.left.iter().map(|method| (method, MethodFailure::NoneLeft)));
            trying.left = Methods::none();
            return trying.offer(Vec::new());
        }
        let method = trying
            .left
            .of_bit(bit)
            .ok_or(Malformed::Unexpected { what, got: bit })?;
        trying.step(Running::start(method), method)
    }
}

impl ExpectNoMethod {
    fn receive(self, message: &Incoming) -> Result<Next, Error> {
        let mut reader = message.reader();
        let what = "the confirmation that no method is left";
        let bit = reader.int(what)?;
        reader.finish()?;
        if bit != 0 {
            return Err(Malformed::Unexpected { what, got: bit }.into());
        }
        // no key-exchange message without a successful method
        self.0.install(None)
    }
}

impl ExpectKeyExchange {
    fn receive(self, message: &Incoming) -> Result<Next, Error> {
        let mut reader = message.reader();
        let wrapped = reader.int("the key exchange")?;
        reader.finish()?;
        if wrapped != 0 {
            // a server before 9.9.0: with some methods the key would travel in the clear
            return Err(Error::NotEncrypted {
                chosen: self.trying.policy.cipher,
            });
        }
        self.trying.install(Some(self.method))
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
