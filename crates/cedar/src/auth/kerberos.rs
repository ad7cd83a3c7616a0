//! KERBEROS with a GSSAPI library at the other end of a question (cedar.md 5.3).
//!
//! HTCondor carries the raw AP-REQ and AP-REP; GSSAPI wraps them as RFC 1964 1.1 says. Taking the wrapping off
//! and putting it on again is all there is between the two, so no krb5 binding is needed.

use super::{Answer, Method, MethodFailure, Question, Running, Step};
use crate::{
    Error, Malformed,
    wire::{Incoming, Mode, Outgoing},
};

const DENY: i64 = 0;
const GRANT: i64 = 1;
const MUTUAL: i64 = 3;
const PROCEED: i64 = 4;
const ABORT: i64 = -1;

/// An AP-REP has about 150 bytes; tickets with a PAC make AP-REQs of some KiB.
const MAX_TOKEN: usize = 64 * 1024;

/// 1.2.840.113554.1.2.2 in DER, with tag and length.
const KRB5_OID: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];
const AP_REQ: [u8; 2] = [0x01, 0x00];
const AP_REP: [u8; 2] = [0x02, 0x00];

/// One struct per state.
#[derive(Debug)]
pub(crate) enum State {
    WantToken(WantToken),
    ExpectMutual(ExpectMutual),
    ExpectReply(ExpectReply),
    WantProof(WantProof),
    ExpectGrant(ExpectGrant),
}

/// Nothing sent yet, the ticket is being asked for.
#[derive(Debug)]
pub(crate) struct WantToken;
/// The AP-REQ is out.
#[derive(Debug)]
pub(crate) struct ExpectMutual;
/// The server took the AP-REQ and owes its AP-REP.
#[derive(Debug)]
pub(crate) struct ExpectReply;
/// The AP-REP is being checked.
#[derive(Debug)]
pub(crate) struct WantProof;
/// The server has proven itself and owes its verdict on the mapping.
#[derive(Debug)]
pub(crate) struct ExpectGrant;

pub(super) fn start() -> Step {
    Step::Ask(
        Question::KerberosToken,
        Running::Kerberos(State::WantToken(WantToken)),
    )
}

fn code(value: i64) -> Outgoing {
    Outgoing::new(Mode::Plain).int(value)
}

impl State {
    pub(super) fn receive(self, message: &Incoming) -> Result<Step, Error> {
        match self {
            Self::ExpectMutual(state) => state.receive(message),
            Self::ExpectReply(state) => state.receive(message),
            Self::ExpectGrant(state) => state.receive(message),
            Self::WantToken(_) | Self::WantProof(_) => Err(Malformed::LeftOver(message.bytes().len()).into()),
        }
    }

    pub(super) fn answer(self, answer: Answer) -> Result<Step, Error> {
        match self {
            Self::WantToken(state) => state.answer(answer),
            Self::WantProof(state) => state.answer(&answer),
            Self::ExpectMutual(_) | Self::ExpectReply(_) | Self::ExpectGrant(_) => {
                Err(Error::PeerNotProven(Method::Kerberos))
            }
        }
    }
}

impl WantToken {
    fn answer(self, answer: Answer) -> Result<Step, Error> {
        let token = match answer {
            Answer::KerberosToken(token) => token,
            // ends the method with both sides in step, so that another may be tried
            Answer::Unavailable(why) => {
                return Ok(Step::Failed(MethodFailure::Unavailable(why), vec![code(ABORT)]));
            }
            _ => return Err(Error::PeerNotProven(Method::Kerberos)),
        };
        let request = unframe(&token, AP_REQ).ok_or(Malformed::Unreadable("our own GSS token"))?;
        let message = code(PROCEED).length(request.len()).raw(request);
        let next = Running::Kerberos(State::ExpectMutual(ExpectMutual));
        Ok(Step::Send(vec![code(PROCEED), message], next))
    }
}

impl ExpectMutual {
    fn receive(self, message: &Incoming) -> Result<Step, Error> {
        match single(message, "the answer to the AP-REQ")? {
            MUTUAL => Ok(Step::Read(Running::Kerberos(State::ExpectReply(ExpectReply)))),
            DENY => Ok(Step::Failed(MethodFailure::Refused, Vec::new())),
            got => Err(Malformed::Unexpected {
                what: "the answer to the AP-REQ",
                got,
            }
            .into()),
        }
    }
}

impl ExpectReply {
    fn receive(self, message: &Incoming) -> Result<Step, Error> {
        let mut reader = message.reader();
        let what = "the AP-REP's announcement";
        match reader.int(what)? {
            PROCEED => {}
            got => return Err(Malformed::Unexpected { what, got }.into()),
        }
        let length = reader.length("the AP-REP", MAX_TOKEN)?;
        let token = frame(reader.raw("the AP-REP", length)?, AP_REP);
        reader.finish()?;
        Ok(Step::Ask(
            Question::KerberosProof(token),
            Running::Kerberos(State::WantProof(WantProof)),
        ))
    }
}

impl WantProof {
    fn answer(self, answer: &Answer) -> Result<Step, Error> {
        match answer {
            Answer::KerberosProven => Ok(Step::Send(
                vec![code(GRANT)],
                Running::Kerberos(State::ExpectGrant(ExpectGrant)),
            )),
            // the server ignores our verdict and would go on: the connection must end here
            _ => Err(Error::PeerNotProven(Method::Kerberos)),
        }
    }
}

impl ExpectGrant {
    fn receive(self, message: &Incoming) -> Result<Step, Error> {
        match single(message, "the verdict on the mapping")? {
            GRANT => Ok(Step::Succeeded(Vec::new())),
            DENY => Ok(Step::Failed(MethodFailure::NotMapped, Vec::new())),
            got => Err(Malformed::Unexpected {
                what: "the verdict on the mapping",
                got,
            }
            .into()),
        }
    }
}

fn single(message: &Incoming, what: &'static str) -> Result<i64, Malformed> {
    let mut reader = message.reader();
    let value = reader.int(what)?;
    reader.finish()?;
    Ok(value)
}

/// The krb5 message inside a GSS token: `60 len 06 09 <oid> <kind> message`.
fn unframe(token: &[u8], kind: [u8; 2]) -> Option<&[u8]> {
    let (&[0x60, first], mut rest) = token.split_first_chunk::<2>()? else {
        return None;
    };
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 4 {
            return None;
        }
        length = digits
            .iter()
            .fold(0, |length, digit| (length << 8) | usize::from(*digit));
        rest = behind;
    }
    if rest.len() != length {
        return None;
    }
    rest.strip_prefix(&KRB5_OID)?.strip_prefix(&kind)
}

/// A krb5 message as a GSS token.
fn frame(message: &[u8], kind: [u8; 2]) -> Vec<u8> {
    let length = KRB5_OID.len() + kind.len() + message.len();
    let mut token = vec![0x60];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => token.push(short),
        _ => {
            let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
            token.push(0x80 | u8::try_from(digits.len()).unwrap_or(0x7f));
            token.extend_from_slice(&digits);
        }
    }
    token.extend_from_slice(&KRB5_OID);
    token.extend_from_slice(&kind);
    token.extend_from_slice(message);
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_goes_both_ways_at_every_length_form() {
        for n in [0, 1, 100, 114, 115, 200, 242, 243, 300, 65_000, 70_000] {
            let message = vec![0x6e; n];
            let token = frame(&message, AP_REQ);
            assert_eq!(unframe(&token, AP_REQ), Some(message.as_slice()), "{n}");
            assert_eq!(unframe(&token, AP_REP), None);
            for cut in (0..token.len()).step_by(1 + n / 50) {
                assert_eq!(unframe(&token[..cut], AP_REQ), None);
            }
        }
        assert_eq!(frame(&[0x6f; 3], AP_REP)[..4], [0x60, 16, 0x06, 0x09]);
    }

    #[test]
    fn a_length_of_many_digits_is_refused() {
        let token = [&[0x60, 0x85, 0, 0, 0, 0, 13][..], &KRB5_OID, &AP_REQ].concat();
        assert_eq!(unframe(&token, AP_REQ), None);
        assert_eq!(unframe(&[0x60, 0x80], AP_REQ), None);
        assert_eq!(unframe(&[0x60, 0xff], AP_REQ), None);
    }
}
