//! One connection to one daemon, from dialling to ready for its command.

use std::{collections::VecDeque, io, net::SocketAddr};

use cedar::{
    auth::{Method, Methods},
    handshake::{self, MAX_MESSAGE, Next, Part, Request, Waiting},
    security::{Established, KeyPair, Level, Session, Wish},
    shared_port,
    sinful::Endpoint,
    wire::{Incoming, Outgoing},
};
use tokio::net::{TcpStream, lookup_host};
use zeroize::Zeroizing;

use crate::{
    Error, Identity, Kind, Options, Stage,
    address::Peer,
    answers::{Answers, Ends},
    deadline::{Deadline, Elapsed, Stretch},
    framed::{Broken, Framed},
};

/// How long a session should stay resumable, in seconds: a batch of stores with room to spare.
const SESSION_SECONDS: u32 = 3600;

/// Ready for a command.
pub(crate) struct Conversation {
    pub(crate) framed: Framed,
    pub(crate) established: Established,
}

/// What the conversation is to be.
pub(crate) struct Plan<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) options: &'a Options,
    pub(crate) deadline: Deadline,
    pub(crate) command: u32,
    pub(crate) wish: Wish,
    pub(crate) identity: Option<&'a Identity>,
    /// The command changes nothing, so that on a session of before it goes along with the first message.
    pub(crate) at_once: bool,
}

impl From<Elapsed> for Kind {
    fn from(Elapsed(after): Elapsed) -> Self {
        Self::Timeout(after)
    }
}

impl From<Broken> for Kind {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Closed => Self::Closed,
            Broken::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            Broken::Io(error) => Self::Broken(error),
            Broken::Malformed(error) => error.into(),
            Broken::Unsendable(error) => error.into(),
        }
    }
}

impl Plan<'_> {
    fn failed(&self, stage: Stage, kind: impl Into<Kind>) -> Error {
        Error::new(self.peer, stage, kind)
    }

    /// Connects and negotiates: a resumption of `session` if there is one, else a new session.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future drops the connection.
    pub(crate) async fn open(&self, session: Option<Session>) -> Result<Conversation, Error> {
        let stream = self.dial().await?;
        let ends = Ends::of(&stream).map_err(|error| self.failed(Stage::Connecting, Kind::Broken(error)))?;
        let mut framed = Framed::new(stream);
        let stretch = self.deadline.stage(self.options.step);
        if let Some(id) = self.peer.sinful.sock() {
            let hello = shared_port::connect(id, &self.options.client_name, stretch.seconds())
                .map_err(|error| self.failed(Stage::Preparing, error))?;
            framed
                .pass_on(&hello)
                .map_err(|error| self.failed(Stage::Preparing, error))?;
        }
        let sinful = self.peer.sinful.to_string();
        if let Some(session) = session.as_ref().filter(|_| self.at_once) {
            let resumed =
                handshake::resume_unanswered(session.clone(), self.command, &sinful, &rand::random());
            let resumed = resumed.map_err(|error| self.failed(Stage::Preparing, error))?;
            if let Some((message, key, established)) = resumed {
                framed
                    .hold_back(&message)
                    .map_err(|error| self.failed(Stage::Preparing, error))?;
                framed.channel.seal(&key, rand::random());
                return Ok(Conversation {
                    framed,
                    established: *established,
                });
            }
        }
        let next = match session {
            Some(session) => handshake::resume(session, self.command, &sinful, &rand::random()),
            None => handshake::start(self.request(sinful, ends)),
        };
        let next = next.map_err(|error| self.failed(Stage::Preparing, error))?;
        let established = Driver {
            plan: self,
            framed: &mut framed,
            answers: Answers::new(self, ends),
        }
        .run(next, stretch)
        .await?;
        tracing::debug!(peer = %self.peer, user = %established.user(), method = ?established.method(), "conversation stands");
        for (method, why) in established.failed() {
            tracing::warn!(peer = %self.peer, %method, %why, "authentication fell through to another method");
        }
        Ok(Conversation { framed, established })
    }

    /// The methods to offer: those configured for which we have something to present.
    fn methods(&self, ends: Ends) -> Methods {
        let must_be_somebody = self.wish.authentication == Level::Required;
        let tls = self.options.tls.is_some();
        let has = |it: fn(&Identity) -> bool| self.identity.is_some_and(it);
        let possible = |method: &Method| match method {
            #[cfg(feature = "kerberos")]
            Method::Kerberos => has(|identity| identity.kerberos.is_some()),
            Method::SciTokens => tls && has(|identity| identity.bearer.is_some()),
            Method::Token => has(|identity| !identity.id_tokens.is_empty()),
            // without a certificate it makes us nobody, which is good enough for reading alone
            Method::Ssl => tls && (!must_be_somebody || has(|identity| identity.certificate.is_some())),
            Method::Fs => ends.are_on_one_host(),
            Method::ClaimToBe => self.identity.is_some(),
            Method::Anonymous => true,
            _ => false,
        };
        self.options.methods.iter().filter(possible).collect()
    }

    fn request(&self, sinful: String, ends: Ends) -> Request {
        let methods = self.methods(ends);
        Request {
            command: self.command,
            wish: self.wish,
            methods,
            key_pair: key_pair(),
            sinful,
            session_seconds: SESSION_SECONDS,
        }
    }

    async fn dial(&self) -> Result<TcpStream, Error> {
        let failed = |kind: Kind| self.failed(Stage::Connecting, kind);
        let endpoints = self
            .peer
            .sinful
            .endpoints()
            .map_err(|error| failed(error.into()))?;
        let mut addresses: VecDeque<SocketAddr> = VecDeque::new();
        for endpoint in endpoints {
            match endpoint {
                Endpoint::Address(address) => addresses.push_back(address),
                Endpoint::Name(host, port) => {
                    let stretch = self.deadline.stage(self.options.connect);
                    let found = stretch.run(lookup_host((host.as_str(), port))).await;
                    let found = found.map_err(|elapsed| failed(elapsed.into()))?;
                    let found = found.map(Iterator::collect::<Vec<_>>);
                    addresses.extend(found.map_err(|source| failed(Kind::Resolve { host, source }))?);
                }
            }
        }
        let mut tried = Vec::new();
        for address in addresses {
            let stretch = self.deadline.stage(self.options.connect);
            let outcome = match stretch.run(TcpStream::connect(address)).await {
                Ok(outcome) => outcome,
                Err(Elapsed(_)) => Err(io::ErrorKind::TimedOut.into()),
            };
            // without it small messages wait for each other
            match outcome.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => return Ok(stream),
                Err(error) => tried.push((address, error)),
            }
        }
        Err(failed(Kind::Unreachable(tried)))
    }

    /// One outcome of a stage: time-out, broken connection, or a value.
    fn settle<T>(&self, outcome: Result<Result<T, Broken>, Elapsed>, stage: Stage) -> Result<T, Error> {
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(broken)) => Err(self.failed(stage, broken)),
            Err(elapsed) => Err(self.failed(stage, elapsed)),
        }
    }

    /// Sends the command's message, within `stretch`.
    pub(crate) async fn send(
        &self,
        framed: &mut Framed,
        message: &Outgoing,
        stretch: Stretch,
    ) -> Result<(), Error> {
        let sent = stretch.run(framed.send(message)).await;
        self.settle(sent, Stage::Commanding)
    }

    /// Reads the answer to it, within `stretch`.
    pub(crate) async fn receive(
        &self,
        framed: &mut Framed,
        limit: usize,
        stretch: Stretch,
    ) -> Result<Incoming, Error> {
        let read = stretch.run(framed.message(limit)).await;
        self.settle(read, Stage::Commanding)
    }
}

fn key_pair() -> KeyPair {
    loop {
        // one draw in 2^32 is no scalar of the curve
        if let Some(pair) = KeyPair::from_random(&Zeroizing::new(rand::random())) {
            return pair;
        }
    }
}

/// Does what the handshake says until it is done.
struct Driver<'a> {
    plan: &'a Plan<'a>,
    framed: &'a mut Framed,
    answers: Answers<'a>,
}

fn stage_of(part: Part) -> Stage {
    match part {
        Part::Negotiation => Stage::Negotiating,
        Part::Authentication => Stage::Authenticating,
    }
}

impl Driver<'_> {
    async fn run(mut self, mut next: Next, mut stretch: Stretch) -> Result<Established, Error> {
        let mut stage = Stage::Negotiating;
        loop {
            next = match next {
                Next::Send(messages, state) => {
                    // authentication has a time of its own, from our first message on
                    if stage != stage_of(state.part()) {
                        stage = stage_of(state.part());
                        stretch = self.plan.deadline.stage(self.plan.options.step);
                    }
                    for message in &messages {
                        let sent = stretch.run(self.framed.send(message)).await;
                        let sent = sent.map_err(|elapsed| self.plan.failed(stage, elapsed))?;
                        sent.map_err(|broken| self.broken(broken, &state))?;
                    }
                    self.read(state, stretch).await?
                }
                Next::Read(state) => self.read(state, stretch).await?,
                Next::Ask(question, state) => {
                    let answer = stretch.run(self.answers.answer(question)).await;
                    let answer = answer.map_err(|elapsed| self.plan.failed(stage, elapsed))?;
                    state.answer(answer).map_err(|error| self.judged(error, stage))?
                }
                Next::Seal(key, state) => {
                    self.framed.channel.seal(&key, rand::random());
                    self.read(state, stretch).await?
                }
                Next::Ready(key, established) => {
                    self.framed.channel.seal(&key, rand::random());
                    return Ok(*established);
                }
                Next::Done(established) => return Ok(*established),
            };
        }
    }

    async fn read(&mut self, state: Waiting, stretch: Stretch) -> Result<Next, Error> {
        let stage = stage_of(state.part());
        let read = stretch.run(self.framed.message(MAX_MESSAGE)).await;
        let read = read.map_err(|elapsed| self.plan.failed(stage, elapsed))?;
        let message = read.map_err(|broken| self.broken(broken, &state))?;
        state.receive(&message).map_err(|error| self.judged(error, stage))
    }

    fn judged(&mut self, error: cedar::Error, stage: Stage) -> Error {
        let kind = self.answers.explain(error);
        self.plan.failed(stage, kind)
    }

    /// What the end of the connection means at this point of the handshake.
    fn broken(&self, broken: Broken, state: &Waiting) -> Error {
        let stage = stage_of(state.part());
        let reset = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            )
        };
        match (broken, self.plan.peer.sinful.sock()) {
            (Broken::Closed, _) => self.plan.failed(stage, state.closed()),
            // a shared port resets for an unknown id; a daemon that refuses has read everything and closes
            (Broken::Io(error), Some(id)) if reset(&error) && stage == Stage::Negotiating => self
                .plan
                .failed(stage, Kind::UnknownSharedPort { id: id.to_owned() }),
            (broken, _) => self.plan.failed(stage, broken),
        }
    }
}
