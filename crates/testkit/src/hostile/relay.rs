//! Between a client and a real daemon: hears both, and changes what it is told to.
//!
//! HTCondor's public keys are not signed, and Kerberos proves both sides without binding the keys (cedar.md 4.3): so
//! whoever stands in between may agree on a key with each of them. That is how this reads sealed messages, of our
//! own client and of HTCondor's tools alike. It follows KERBEROS, and conversations without authentication.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use cedar::{
    classad::{Ad, Limits},
    security::SessionKey,
    shared_port,
    wire::{Mode, Reader},
};
use rustix::event::{PollFd, PollFlags, poll};

use super::{IV, PATIENCE, Peer, Session, broken, keys::Pair};

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client.
    Client,
    /// The daemon.
    Server,
}

/// A message on its way.
#[derive(Debug)]
pub struct Passing<'a> {
    /// The connection's number, from 0 on.
    pub connection: usize,
    /// Who says it.
    pub from: Side,
    /// How the stream is.
    pub mode: Mode,
    /// Which message of this side it is, from 0 on.
    pub number: usize,
    /// What it holds, opened.
    pub payload: &'a [u8],
}

/// What is to become of it.
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// Another goes on in its place.
    Replace(Vec<u8>),
    /// Its bytes on the wire are changed: framed and sealed before.
    Spoil(fn(Vec<u8>) -> Vec<u8>),
    /// Both connections are closed.
    Close,
    /// Nothing is ever said again.
    Silence,
}

/// What decides about every message.
pub type Hook = dyn Fn(&Passing<'_>) -> Verdict + Send + Sync;

/// A relay that listens until it is dropped.
pub struct Relay(Peer);

/// The keys of the sessions seen, so that they can be resumed through the relay.
type Keys = Arc<Mutex<HashMap<String, (SessionKey, SessionKey)>>>;

impl Relay {
    /// Listens on a free port of `ip`, and speaks to the daemon at `upstream` for whoever connects.
    ///
    /// # Errors
    /// The address is not ours.
    pub fn start(ip: Ipv4Addr, upstream: SocketAddr, hook: Arc<Hook>) -> io::Result<Self> {
        Self::to(ip, upstream, None, hook)
    }

    /// The same for a daemon behind a shared port, whose id the relay names: to its clients it is the daemon itself.
    ///
    /// # Errors
    /// The address is not ours.
    pub fn behind_shared_port(
        ip: Ipv4Addr,
        upstream: SocketAddr,
        id: &'static str,
        hook: Arc<Hook>,
    ) -> io::Result<Self> {
        Self::to(ip, upstream, Some(id), hook)
    }

    fn to(ip: Ipv4Addr, upstream: SocketAddr, id: Option<&'static str>, hook: Arc<Hook>) -> io::Result<Self> {
        let keys = Keys::default();
        Peer::start(ip, move |connection, stream| {
            let server = TcpStream::connect(upstream)?;
            let mut wires = Wires::new(connection, stream, server, hook.clone(), keys.clone())?;
            if let Some(id) = id {
                let hello = shared_port::connect(id, "relay", 20).map_err(broken)?;
                wires.server.send(hello.bytes())?;
                wires.server.channel.reset_digests();
            }
            wires.run()
        })
        .map(Self)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// How many connections it has had.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.connections()
    }
}

/// How far the two have come, as far as the switch to sealed frames depends on it.
enum State {
    /// The client asks for a session, or to be passed on first.
    Request,
    /// The server owes its policy, or its word on a session known before.
    Policy(Option<String>),
    /// The server owes its choice of a method.
    Choice,
    /// The server owes so many messages of the method, and then the key exchange.
    Method(usize),
    /// The server's verdict comes first, then the command.
    Sealed(Option<(SessionKey, SessionKey)>),
}

struct Wires {
    connection: usize,
    client: Session,
    server: Session,
    hook: Arc<Hook>,
    keys: Keys,
    state: State,
    numbers: [usize; 2],
    /// The public keys, theirs and the one shown in its place, by who is to see it.
    client_public: String,
    server_public: String,
}

impl Wires {
    fn new(
        connection: usize,
        client: TcpStream,
        server: TcpStream,
        hook: Arc<Hook>,
        keys: Keys,
    ) -> io::Result<Self> {
        Ok(Self {
            connection,
            client: Session::new(client, None)?,
            server: Session {
                pair: Pair::new(9),
                ..Session::new(server, None)?
            },
            hook,
            keys,
            state: State::Request,
            numbers: [0, 0],
            client_public: String::new(),
            server_public: String::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            if let Some(message) = self.client.take()? {
                self.pass(Side::Client, message.bytes())?;
            } else if let Some(message) = self.server.take()? {
                self.pass(Side::Server, message.bytes())?;
            } else {
                let (client, server) = self.wait()?;
                if server {
                    self.server.fill()?;
                } else if client {
                    self.client.fill()?;
                }
            }
        }
    }

    /// Who has something to say.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let patience = rustix::event::Timespec {
            tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(60),
            tv_nsec: 0,
        };
        let mut both = [&self.client, &self.server].map(|s| PollFd::new(&s.stream, PollFlags::IN));
        poll(&mut both, Some(&patience))?;
        match both.map(|fd| !fd.revents().is_empty()) {
            [false, false] => Err(io::ErrorKind::TimedOut.into()),
            [client, server] => Ok((client, server)),
        }
    }

    fn pass(&mut self, from: Side, payload: &[u8]) -> io::Result<()> {
        let mode = self.client.mode();
        let counter = match from {
            Side::Client => &mut self.numbers[0],
            Side::Server => &mut self.numbers[1],
        };
        let number = *counter;
        *counter += 1;
        let verdict = (self.hook)(&Passing {
            connection: self.connection,
            from,
            mode,
            number,
            payload,
        });
        let (payload, spoil) = match verdict {
            Verdict::Pass => (payload.to_vec(), None),
            Verdict::Replace(other) => (other, None),
            Verdict::Spoil(how) => (payload.to_vec(), Some(how)),
            Verdict::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
            Verdict::Silence => return self.client.silence(),
        };
        let payload = self.with_our_key(from, payload);
        let to = match from {
            Side::Client => &mut self.server,
            Side::Server => &mut self.client,
        };
        let bytes = to.framed(&payload)?;
        to.raw(&spoil.map_or(bytes.clone(), |how| how(bytes)))?;
        self.follow(from, &payload);
        Ok(())
    }

    /// Takes the speaker's public key down and shows ours, which has the same length.
    fn with_our_key(&mut self, from: Side, mut payload: Vec<u8>) -> Vec<u8> {
        let ad = match (&self.state, from) {
            (State::Request, Side::Client) => ad_behind_int(&payload),
            (State::Policy(_), Side::Server) => ad_of(&payload),
            _ => None,
        };
        let Some(theirs) = ad.as_ref().and_then(|ad| ad.text("ECDHPublicKey")) else {
            return payload;
        };
        // what the client shows is replaced by what the server is to see, and the other way round
        let ours = match from {
            Side::Client => {
                self.client_public = theirs.to_owned();
                self.server.pair.public()
            }
            Side::Server => {
                self.server_public = theirs.to_owned();
                self.client.pair.public()
            }
        };
        let at = payload
            .windows(theirs.len())
            .position(|window| window == theirs.as_bytes());
        if let (Some(at), true) = (at, theirs.len() == ours.len()) {
            payload.splice(at..at + ours.len(), ours.into_bytes());
        }
        payload
    }

    fn follow(&mut self, from: Side, payload: &[u8]) {
        let first = Reader::new(Mode::Plain, payload).int("a number").ok();
        let state = std::mem::replace(&mut self.state, State::Choice);
        self.state = match (state, from) {
            (State::Request, Side::Client) if first == Some(75) => {
                self.client.channel.reset_digests();
                self.server.channel.reset_digests();
                State::Request
            }
            (State::Request, Side::Client) => {
                let ad = ad_behind_int(payload).unwrap_or_default();
                match ad.text("UseSession").and(ad.text("Sid")) {
                    Some(sid) if ad.boolean("ResumeResponse") == Some(false) => self.resume(sid),
                    sid => State::Policy(sid.map(str::to_owned)),
                }
            }
            (State::Policy(None), Side::Server) => {
                let ad = ad_of(payload).unwrap_or_default();
                match ad.text("Authentication") {
                    Some(word) if word.starts_with(['Y', 'y']) => State::Choice,
                    _ => self.seal(),
                }
            }
            (State::Policy(Some(sid)), Side::Server) => self.resume(&sid),
            // 64 is KERBEROS: its three messages of the server, unless it says no
            (State::Choice, Side::Server) if first == Some(64) => State::Method(3),
            (State::Method(0), Side::Server) => self.seal(),
            (State::Method(_), Side::Server) if first == Some(0) => State::Choice,
            (State::Method(left), Side::Server) => State::Method(left - 1),
            (State::Sealed(Some(keys)), Side::Server) => {
                if let Some(sid) = ad_in(self.client.mode(), payload)
                    .as_ref()
                    .and_then(|ad| ad.text("Sid"))
                {
                    let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
                    known.insert(sid.to_owned(), keys);
                }
                State::Sealed(None)
            }
            (state, _) => state,
        };
    }

    /// Seals both wires with the keys of a session seen before.
    fn resume(&mut self, sid: &str) -> State {
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, server)) = known.get(sid) {
            self.client.channel.seal(client, IV);
            self.server.channel.seal(server, [0xa5; 16]);
        }
        State::Sealed(None)
    }

    /// Seals both wires, if both sides have shown a key.
    fn seal(&mut self) -> State {
        let keys = self
            .client
            .pair
            .agree(&self.client_public)
            .zip(self.server.pair.agree(&self.server_public));
        if let Some((client, server)) = &keys {
            self.client.channel.seal(client, IV);
            self.server.channel.seal(server, [0xa5; 16]);
        }
        State::Sealed(keys)
    }
}

fn ad_in(mode: Mode, payload: &[u8]) -> Option<Ad> {
    Ad::decode(&mut Reader::new(mode, payload), Limits::GENERAL).ok()
}

fn ad_of(payload: &[u8]) -> Option<Ad> {
    ad_in(Mode::Plain, payload)
}

fn ad_behind_int(payload: &[u8]) -> Option<Ad> {
    ad_of(payload.get(8..)?)
}
