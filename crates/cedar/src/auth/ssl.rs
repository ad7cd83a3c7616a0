//! SSL, and SCITOKENS inside it, with a TLS library at the other end of questions (cedar.md 5.4, 5.5).
//!
//! Only the library sees inside the records; here is what HTCondor wraps around them: strictly alternating messages
//! of a status and some bytes. That keeps this crate free of sockets, certificates and a clock.

use super::{Answer, Method, MethodFailure, Question, Running, Step};
use crate::{
    Error, Malformed,
    wire::{Incoming, Mode, Outgoing},
};

const ERROR: i64 = -1;
const OK: i64 = 0;
const RECEIVING: i64 = 2;
const QUITTING: i64 = 3;
const HOLDING: i64 = 4;

/// What one message may carry; the protocol allows a MiB, certificate chains have some KiB.
const MAX_RECORDS: usize = 100 * 1024;
/// Messages of ours in one phase, as in HTCondor.
const MAX_TURNS: usize = 256;
/// The key that servers before 9.9 wrap theirs with. Read to its end, and not used.
const KEY: usize = 256;

/// What the TLS library has made of the peer's records.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsTurn {
    /// Records to send.
    pub records: Vec<u8>,
    /// Whether the handshake is complete, the peer's certificate verified.
    pub established: bool,
    /// How many bytes of the peer's data have come out so far. What they are does not matter.
    pub received: usize,
}

impl std::fmt::Debug for TlsTurn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (length, established) = (self.records.len(), self.established);
        write!(
            f,
            "TlsTurn({length} bytes, established: {established}, received: {})",
            self.received
        )
    }
}

/// The method under way: which of the two, and where it is.
#[derive(Debug)]
pub(crate) struct State {
    method: Method,
    turns: usize,
    /// Records that came out when it was not our turn.
    pending: Vec<u8>,
    at: At,
}

#[derive(Debug)]
enum At {
    /// The TLS client is being made.
    WantClient,
    /// The server says first whether it can; whether we can is known.
    ExpectStatus(Result<(), Box<str>>),
    /// The library works on the server's last message, which had this status.
    WantTurn(i64),
    /// Our last message, of this status, is out.
    ExpectTurn(i64),
    /// Both sides have said that they are done; the library looks at what came along with that.
    WantRest,
    /// The server owes its key.
    ExpectKey,
    /// The server owes its key, and will be told that it was not believed.
    ExpectKeyInVain(Box<str>),
    /// The library works on the key.
    WantKey,
    /// The token is being put into records.
    WantBearer,
    /// The token is out.
    ExpectVerdict,
}

pub(super) fn start(method: Method) -> Step {
    let state = State {
        method,
        turns: 0,
        pending: Vec::new(),
        at: At::WantClient,
    };
    let bearer = method == Method::SciTokens;
    Step::Ask(Question::TlsClient { bearer }, Running::Tls(state))
}

fn message(status: i64, records: &[u8]) -> Outgoing {
    Outgoing::new(Mode::Plain)
        .int(status)
        .length(records.len())
        .raw(records)
}

fn split(message: &Incoming) -> Result<(i64, Vec<u8>), Malformed> {
    let mut reader = message.reader();
    let what = "the TLS status";
    let status = reader.int(what)?;
    let length = reader.length("TLS records", MAX_RECORDS)?;
    let records = reader.raw("TLS records", length)?.to_vec();
    reader.finish()?;
    match status {
        ERROR..=HOLDING => Ok((status, records)),
        got => Err(Malformed::Unexpected { what, got }),
    }
}

/// The peer gave up, and expects us to know.
fn has_quit(status: i64) -> bool {
    matches!(status, QUITTING | ERROR)
}

impl State {
    pub(super) fn method(&self) -> Method {
        self.method
    }

    fn at(mut self, at: At) -> Running {
        self.at = at;
        Running::Tls(self)
    }

    pub(super) fn receive(self, incoming: &Incoming) -> Result<Step, Error> {
        if let At::ExpectStatus(able) = &self.at {
            let able = able.clone();
            return self.receive_status(incoming, able);
        }
        let (status, records) = split(incoming)?;
        let ask = |at: At, state: Self| Ok(Step::Ask(Question::Tls(records), state.at(at)));
        match &self.at {
            At::ExpectVerdict if status == HOLDING => Ok(Step::Succeeded(Vec::new())),
            At::ExpectVerdict => Ok(Step::Failed(MethodFailure::Refused, Vec::new())),
            At::ExpectTurn(_) | At::ExpectKey | At::ExpectKeyInVain(_) if has_quit(status) => {
                Ok(Step::Failed(MethodFailure::Refused, Vec::new()))
            }
            At::ExpectTurn(HOLDING) if status == HOLDING => ask(At::WantRest, self),
            At::ExpectTurn(_) => ask(At::WantTurn(status), self),
            At::ExpectKey => ask(At::WantKey, self),
            At::ExpectKeyInVain(why) => Ok(distrusted(why.clone())),
            _ => Err(Malformed::LeftOver(incoming.bytes().len()).into()),
        }
    }

    fn receive_status(self, incoming: &Incoming, able: Result<(), Box<str>>) -> Result<Step, Error> {
        let mut reader = incoming.reader();
        let status = reader.int("the server's readiness")?;
        reader.finish()?;
        let code = |value| Outgoing::new(Mode::Plain).int(value);
        match able {
            // both sides say what they have to say, then both leave
            Err(why) => Ok(Step::Failed(MethodFailure::Unavailable(why), vec![code(ERROR)])),
            Ok(()) if status != OK => Ok(Step::Failed(MethodFailure::PeerUnable, vec![code(OK)])),
            Ok(()) => Ok(Step::SendThenAsk(
                vec![code(OK)],
                Question::Tls(Vec::new()),
                self.at(At::WantTurn(OK)),
            )),
        }
    }

    pub(super) fn answer(mut self, answer: Answer) -> Result<Step, Error> {
        match (&self.at, answer) {
            (At::WantClient, Answer::Unavailable(why)) => Ok(Step::Read(self.at(At::ExpectStatus(Err(why))))),
            (At::WantClient, Answer::Tls(_)) => Ok(Step::Read(self.at(At::ExpectStatus(Ok(()))))),
            // nothing of ours is due before the key, which is then answered
            (At::WantRest, Answer::Unavailable(why)) => Ok(Step::Read(self.at(At::ExpectKeyInVain(why)))),
            (At::WantTurn(_) | At::WantKey | At::WantBearer, Answer::Unavailable(why)) => Ok(distrusted(why)),
            (At::WantRest, Answer::Tls(turn)) => {
                self.pending.extend_from_slice(&turn.records);
                Ok(Step::Read(self.at(At::ExpectKey)))
            }
            (&At::WantTurn(theirs), Answer::Tls(turn)) => self.take_turn(theirs, &turn),
            (At::WantKey, Answer::Tls(turn)) => self.take_key(&turn),
            (At::WantBearer, Answer::Tls(turn)) => {
                let message = self.message(HOLDING, &turn.records)?;
                Ok(Step::Send(vec![message], self.at(At::ExpectVerdict)))
            }
            _ => Err(Error::PeerNotProven(self.method)),
        }
    }

    /// A message with what is to be sent, unless there have been too many.
    fn message(&mut self, status: i64, records: &[u8]) -> Result<Outgoing, Malformed> {
        self.turns += 1;
        if self.turns > MAX_TURNS {
            return Err(Malformed::TooLong {
                what: "the TLS handshake, in messages",
                got: self.turns as u64,
                limit: MAX_TURNS as u64,
            });
        }
        let mut all = std::mem::take(&mut self.pending);
        all.extend_from_slice(records);
        Ok(message(status, &all))
    }

    fn take_turn(mut self, theirs: i64, turn: &TlsTurn) -> Result<Step, Error> {
        let ours = if turn.established { HOLDING } else { RECEIVING };
        let message = self.message(ours, &turn.records)?;
        let next = match (ours, theirs) {
            (HOLDING, HOLDING) => At::ExpectKey,
            _ => At::ExpectTurn(ours),
        };
        Ok(Step::Send(vec![message], self.at(next)))
    }

    fn take_key(mut self, turn: &TlsTurn) -> Result<Step, Error> {
        let message = match turn.received {
            0..KEY => {
                let message = self.message(RECEIVING, &turn.records)?;
                return Ok(Step::Send(vec![message], self.at(At::ExpectKey)));
            }
            KEY => self.message(HOLDING, &turn.records)?,
            got => {
                return Err(Malformed::TooLong {
                    what: "the key inside TLS",
                    got: got as u64,
                    limit: KEY as u64,
                }
                .into());
            }
        };
        Ok(match self.method {
            Method::SciTokens => {
                Step::SendThenAsk(vec![message], Question::TlsBearer, self.at(At::WantBearer))
            }
            _ => Step::Succeeded(vec![message]),
        })
    }
}

/// In the place of our next message: the server leaves the method, too.
fn distrusted(why: Box<str>) -> Step {
    Step::Failed(MethodFailure::PeerNotProven(why), vec![message(QUITTING, &[])])
}
