//! Methods, one after the other on one connection, until one succeeds (cedar.md 5.1, 5.2).

use super::{Asking, ExpectPostAuth, Next, Open, Request, State, Waiting};
use crate::{
    Error, Malformed,
    auth::{Answer, Method, MethodFailure, Methods, Presented, Question, Running, Step, TokenWanted},
    security::{Known, Level, Policy},
    wire::{Incoming, Mode, Outgoing},
};

/// Policy is settled, methods are tried.
#[derive(Debug)]
pub(super) struct Trying {
    request: Request,
    policy: Policy,
    left: Methods,
    failed: Vec<(Method, MethodFailure)>,
    /// For TOKEN, once it is known whether there is one that fits.
    token: Option<Presented>,
    /// To be written before the next message of ours.
    held: Vec<Outgoing>,
}

/// TOKEN is possible if we have one that fits.
#[derive(Debug)]
pub(super) struct WantToken(Trying);

/// Our bitmask is out.
#[derive(Debug)]
pub(super) struct ExpectChoice(Trying);

/// A method is running.
#[derive(Debug)]
pub(super) struct ExpectMethod {
    trying: Trying,
    running: Running,
}

/// We gave up on methods, which the server allows, and it owes its confirmation.
#[derive(Debug)]
pub(super) struct ExpectNoMethod(Trying);

/// A method has succeeded.
#[derive(Debug)]
pub(super) struct ExpectKeyExchange {
    trying: Trying,
    method: Method,
}

impl Trying {
    pub(super) fn new(request: Request, policy: Policy, left: Methods) -> Self {
        Self {
            request,
            policy,
            left,
            failed: Vec::new(),
            token: None,
            held: Vec::new(),
        }
    }

    /// Offers what is left; TOKEN only with a token that fits.
    pub(super) fn begin(self) -> Result<Next, Error> {
        if !self.left.contains(Method::Token) {
            return self.offer();
        }
        let question = Question::IdToken(TokenWanted {
            trust_domain: self.policy.trust_domain.clone().unwrap_or_default(),
            keys: self.policy.issuer_keys.clone(),
        });
        Ok(Next::Ask(
            question,
            Asking(Open::Token(Box::new(WantToken(self)))),
        ))
    }

    /// Sends what is held and what is left to try; the server picks.
    fn offer(mut self) -> Result<Next, Error> {
        let may_fail =
            self.policy.authentication_may_fail && self.request.wish.authentication != Level::Required;
        if self.left.is_empty() && !may_fail {
            return Err(self.given_up());
        }
        let mut messages = std::mem::take(&mut self.held);
        messages.push(Outgoing::new(Mode::Plain).int(self.left.mask()));
        let state = if self.left.is_empty() {
            State::NoMethod(Box::new(ExpectNoMethod(self)))
        } else {
            State::Choice(Box::new(ExpectChoice(self)))
        };
        Ok(Next::Send(messages, Waiting(state)))
    }

    fn given_up(&self) -> Error {
        if self.failed.is_empty() {
            return Error::NoCommonMethod {
                offered: self.request.methods.names(),
            };
        }
        Error::MethodsFailed(self.failed.clone())
    }

    fn fail(&mut self, method: Method, why: MethodFailure) {
        self.failed.push((method, why));
        self.left.remove(method);
    }

    /// Writes what is held and `messages`, if there is any of it, then waits in the state made of the rest.
    fn proceed(mut self, messages: Vec<Outgoing>, wait: impl FnOnce(Self) -> State) -> Next {
        let mut all = std::mem::take(&mut self.held);
        all.extend(messages);
        let state = Waiting(wait(self));
        if all.is_empty() {
            Next::Read(state)
        } else {
            Next::Send(all, state)
        }
    }

    fn step(mut self, step: Step, method: Method) -> Result<Next, Error> {
        let running = |running| |trying| State::Method(Box::new(ExpectMethod { trying, running }));
        match step {
            Step::Send(messages, next) => Ok(self.proceed(messages, running(next))),
            Step::Read(next) => Ok(self.proceed(Vec::new(), running(next))),
            Step::SendThenAsk(messages, question, running) => {
                self.held.extend(messages);
                self.step(Step::Ask(question, running), method)
            }
            Step::Ask(question, running) => Ok(Next::Ask(
                question,
                Asking(Open::Method(Box::new(ExpectMethod {
                    trying: self,
                    running,
                }))),
            )),
            Step::Succeeded(messages) => Ok(self.proceed(messages, |trying| {
                State::KeyExchange(Box::new(ExpectKeyExchange { trying, method }))
            })),
            Step::Failed(why, messages) => {
                self.held.extend(messages);
                self.fail(method, why);
                self.offer()
            }
        }
    }

    /// Puts the agreed key to use, if there is to be one.
    pub(super) fn install(self, method: Option<Method>) -> Result<Next, Error> {
        let key = match self.policy.key_offer(self.request.wish)? {
            Some(public) => Some(self.request.key_pair.agree(public)?),
            None => None,
        };
        let known = Known {
            method,
            key: key.clone(),
            version: self.policy.version,
            session_seconds: self.policy.session_seconds,
            lease_seconds: self.policy.lease_seconds,
            must_be_somebody: self.request.wish.authentication == Level::Required,
            failed: self.failed,
        };
        let state = Waiting(State::PostAuth(Box::new(ExpectPostAuth(known))));
        Ok(match key {
            Some(key) => Next::Seal(key, state),
            None => Next::Read(state),
        })
    }
}

impl WantToken {
    pub(super) fn answer(self, answer: Answer) -> Result<Next, Error> {
        let Self(mut trying) = self;
        match answer {
            Answer::IdToken(token, nonce) => trying.token = Some(Presented::new(token, nonce)),
            Answer::Unavailable(why) => trying.fail(Method::Token, MethodFailure::Unavailable(why)),
            _ => return Err(Error::PeerNotProven(Method::Token)),
        }
        // what we cannot do is not offered; with nothing else in common the server would hang up on an empty list
        if trying.left.is_empty() {
            return Err(trying.given_up());
        }
        trying.offer()
    }
}

impl ExpectChoice {
    pub(super) fn receive(self, message: &Incoming) -> Result<Next, Error> {
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
            return trying.offer();
        }
        let method = trying
            .left
            .of_bit(bit)
            .ok_or(Malformed::Unexpected { what, got: bit })?;
        let token = if method == Method::Token {
            trying.token.take()
        } else {
            None
        };
        let first = Running::start(method, token)?;
        trying.step(first, method)
    }

    pub(super) fn closed(&self) -> Error {
        self.0.given_up()
    }
}

impl ExpectMethod {
    pub(super) fn receive(self, message: &Incoming) -> Result<Next, Error> {
        let method = self.running.method();
        self.trying.step(self.running.receive(message)?, method)
    }

    pub(super) fn answer(self, answer: Answer) -> Result<Next, Error> {
        let method = self.running.method();
        self.trying.step(self.running.answer(answer)?, method)
    }

    pub(super) fn closed(&self) -> Error {
        Error::ClosedInMethod {
            method: self.running.method(),
            failed: self.trying.failed.clone(),
        }
    }
}

impl ExpectNoMethod {
    pub(super) fn receive(self, message: &Incoming) -> Result<Next, Error> {
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

    pub(super) fn closed(&self) -> Error {
        self.0.given_up()
    }
}

impl ExpectKeyExchange {
    pub(super) fn receive(self, message: &Incoming) -> Result<Next, Error> {
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

    pub(super) fn closed(&self) -> Error {
        Error::ClosedInMethod {
            method: self.method,
            failed: self.trying.failed.clone(),
        }
    }
}
