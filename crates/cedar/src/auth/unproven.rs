//! CLAIMTOBE and ANONYMOUS: no proof at all, of either side (cedar.md 5.8, 5.9). Never offered unless named.

use super::{Answer, Method, MethodFailure, Question, Running, Step};
use crate::{
    Error, Malformed,
    wire::{Incoming, Mode, Outgoing},
};

const YES: i64 = 1;
const NO: i64 = 0;

#[derive(Debug)]
pub(crate) enum State {
    /// CLAIMTOBE: who we say we are is being asked for.
    WantUser,
    /// CLAIMTOBE: the claim is out.
    ExpectBelief,
    /// ANONYMOUS: the server says whether it may be.
    ExpectLeave,
}

pub(super) fn claim() -> Step {
    Step::Ask(Question::User, Running::Unproven(State::WantUser))
}

pub(super) fn anonymous() -> Step {
    Step::Read(Running::Unproven(State::ExpectLeave))
}

impl State {
    pub(super) fn method(&self) -> Method {
        match self {
            Self::WantUser | Self::ExpectBelief => Method::ClaimToBe,
            Self::ExpectLeave => Method::Anonymous,
        }
    }

    pub(super) fn receive(self, message: &Incoming) -> Result<Step, Error> {
        let mut reader = message.reader();
        let said = reader.int("the server's word")?;
        reader.finish()?;
        match self {
            Self::WantUser => Err(Malformed::LeftOver(message.bytes().len()).into()),
            _ if said == YES => Ok(Step::Succeeded(Vec::new())),
            _ => Ok(Step::Failed(MethodFailure::Refused, Vec::new())),
        }
    }

    pub(super) fn answer(self, answer: Answer) -> Result<Step, Error> {
        let code = |value| Outgoing::new(Mode::Plain).int(value);
        match (self, answer) {
            (Self::WantUser, Answer::User(name)) => {
                let message = code(YES).string("the user", &name)?;
                Ok(Step::Send(vec![message], Running::Unproven(Self::ExpectBelief)))
            }
            (Self::WantUser, Answer::Unavailable(why)) => {
                Ok(Step::Failed(MethodFailure::Unavailable(why), vec![code(NO)]))
            }
            (state, _) => Err(Error::PeerNotProven(state.method())),
        }
    }
}
