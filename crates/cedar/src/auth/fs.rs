//! FS: who can make a directory here, as whom (cedar.md 5.7). It says nothing about the server.

use super::{Answer, Method, MethodFailure, Question, Running, Step};
use crate::{
    Error, Malformed,
    wire::{Incoming, Mode, Outgoing},
};

const MADE: i64 = 0;
const NOT_MADE: i64 = -1;
const MAX_PATH: usize = 4096;

#[derive(Debug)]
pub(crate) enum State {
    /// The server names a directory.
    ExpectPath,
    /// It is being made.
    WantDirectory,
    /// What came of it is out; the reason if it was not made.
    ExpectVerdict(Option<MethodFailure>),
}

pub(super) fn start() -> Step {
    Step::Read(Running::Fs(State::ExpectPath))
}

/// The server waits for our word in any case, and gives its own.
fn not_made(why: MethodFailure) -> Step {
    let message = Outgoing::new(Mode::Plain).int(NOT_MADE);
    Step::Send(vec![message], Running::Fs(State::ExpectVerdict(Some(why))))
}

impl State {
    pub(super) fn receive(self, message: &Incoming) -> Result<Step, Error> {
        let mut reader = message.reader();
        match self {
            Self::ExpectPath => {
                let path = reader.string("the directory to make", MAX_PATH)?.to_owned();
                reader.finish()?;
                if path.is_empty() {
                    return Ok(not_made(MethodFailure::PeerUnable));
                }
                Ok(Step::Ask(
                    Question::Directory(path),
                    Running::Fs(Self::WantDirectory),
                ))
            }
            Self::ExpectVerdict(failed) => {
                let verdict = reader.int("the verdict on the directory")?;
                reader.finish()?;
                Ok(match failed {
                    None if verdict == 0 => Step::Succeeded(Vec::new()),
                    None => Step::Failed(MethodFailure::Refused, Vec::new()),
                    Some(why) => Step::Failed(why, Vec::new()),
                })
            }
            Self::WantDirectory => Err(Malformed::LeftOver(message.bytes().len()).into()),
        }
    }

    pub(super) fn answer(self, answer: Answer) -> Result<Step, Error> {
        match (self, answer) {
            (Self::WantDirectory, Answer::Directory { extension }) => {
                let made = Outgoing::new(Mode::Plain).int(MADE);
                let made = match extension {
                    Some(text) => made.string("our view of the server", &text)?,
                    None => made,
                };
                Ok(Step::Send(vec![made], Running::Fs(Self::ExpectVerdict(None))))
            }
            (Self::WantDirectory, Answer::Unavailable(why)) => Ok(not_made(MethodFailure::Unavailable(why))),
            _ => Err(Error::PeerNotProven(Method::Fs)),
        }
    }
}
