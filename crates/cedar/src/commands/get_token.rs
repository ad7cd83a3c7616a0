//! Fetching the access token a credmon has made (cedar.md 6.6).

use credential::BearerToken;

use super::store_cred::CredName;
use crate::{
    Malformed, Unsendable,
    classad::Value,
    security::Authenticated,
    wire::{Incoming, Mode, Outgoing},
};

/// The command, known to credds from 24.1.1 on.
pub const CREDD_GET_TOKEN: u32 = 81004;

/// The largest reply taken: a token has 64 KiB at most.
pub const MAX_REPLY: usize = 128 * 1024;

/// Attributes an answer may have.
const MAX_ATTRIBUTES: usize = 100;

/// Asks for the access token of one credential of the authenticated user. There is no way to ask for somebody else.
///
/// # Errors
/// None in practice: the names are checked already.
pub fn request(_proof: &Authenticated, name: &CredName) -> Result<Outgoing, Unsendable> {
    name.options().encode(Outgoing::new(Mode::Sealed))
}

/// A credd's answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The token.
    Token(BearerToken),
    /// Why there is none, in the credd's words.
    Refused(String),
}

/// Reads a reply. The token is read in place: an ad would leave unwiped copies of it behind.
///
/// # Errors
/// [`Malformed`], after which the connection is of no use.
pub fn decode(message: &Incoming) -> Result<Answer, Malformed> {
    let mut reader = message.reader();
    let count = reader.length("the number of attributes", MAX_ATTRIBUTES)?;
    let mut answer = None;
    for _ in 0..count {
        let line = reader
            .string_bytes("an attribute", MAX_REPLY)?
            .unwrap_or_default();
        let at = line
            .iter()
            .position(|b| *b == b'=')
            .ok_or(Malformed::NotAnAttribute)?;
        let (name, value) = line.split_at_checked(at).ok_or(Malformed::NotAnAttribute)?;
        let value = value.get(1..).unwrap_or_default();
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"Token") {
            answer = Some(Answer::Token(token(value)?));
        } else if name.eq_ignore_ascii_case(b"ErrorString")
            && let Value::Text(text) = Value::parse(value)
        {
            answer = answer.or(Some(Answer::Refused(text)));
        }
    }
    for what in ["MyType", "TargetType"] {
        reader.string_bytes(what, MAX_REPLY)?;
    }
    reader.finish()?;
    answer.ok_or(Malformed::Missing("Token"))
}

/// What stands between the quotes; credmons end the file with a newline.
fn token(value: &[u8]) -> Result<BearerToken, Malformed> {
    let unreadable = || Malformed::Unreadable("the token");
    let quoted = value.trim_ascii();
    let inner = quoted
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let text = std::str::from_utf8(inner.ok_or_else(unreadable)?.trim_ascii()).map_err(|_| unreadable())?;
    BearerToken::new(text.to_owned()).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classad::Ad;

    fn reply(name: &str, value: &str) -> Result<Answer, Malformed> {
        let mut ad = Ad::new();
        ad.set("Other", 1);
        ad.set(name, value);
        let message = ad.encode(Outgoing::new(Mode::Sealed)).unwrap();
        decode(&Incoming::new(Mode::Sealed, message.bytes().to_vec().into()))
    }

    #[test]
    fn a_token_or_the_reason() {
        let Answer::Token(token) = reply("token", "ey.invented.x\n").unwrap() else {
            panic!("no token")
        };
        assert_eq!(token.expose(), "ey.invented.x");
        let Answer::Refused(why) = reply("ErrorString", "no \"such\" file").unwrap() else {
            panic!("no reason")
        };
        assert_eq!(why, "no \"such\" file");
        assert!(reply("Nothing", "x").is_err());
        assert!(reply("Token", "").is_err());
        assert!(reply("Token", "a b").is_err());
    }
}
