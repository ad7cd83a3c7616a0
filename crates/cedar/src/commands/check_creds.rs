//! Asking a credd whether all credentials a job would want are there (cedar.md 6.6).

use super::store_cred::{CredName, Restriction};
use crate::{
    Malformed, Unsendable,
    classad::Ad,
    security::Authenticated,
    wire::{Incoming, Mode, Outgoing},
};

/// The command.
pub const CREDD_CHECK_CREDS: u32 = 81030;

/// The largest reply taken: it is one line of text.
pub const MAX_REPLY: usize = 64 * 1024;

/// A credential a job would want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub name: CredName,
    /// With which restriction.
    pub restriction: Restriction,
}

/// Asks whether the authenticated user has all of these. There is no way to ask for somebody else.
///
/// # Errors
/// [`Unsendable::Nul`] in a restriction.
pub fn request(_proof: &Authenticated, wanted: &[Wanted]) -> Result<Outgoing, Unsendable> {
    encode(wanted)
}

fn encode(wanted: &[Wanted]) -> Result<Outgoing, Unsendable> {
    let mut message = Outgoing::new(Mode::Sealed).length(wanted.len());
    for one in wanted {
        let mut ad = Ad::new();
        ad.set("Service", one.name.service());
        // absent ones are no strings to the credd's code, which then refuses
        ad.set("Handle", one.name.handle().unwrap_or_default());
        ad.set("Scopes", one.restriction.scopes.as_deref().unwrap_or_default());
        ad.set(
            "Audience",
            one.restriction.audience.as_deref().unwrap_or_default(),
        );
        message = ad.encode(message)?;
    }
    Ok(message)
}

/// A credd's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All are there.
    Present,
    /// Some are not: a person gets them by visiting this address.
    Visit(String),
    /// Some are not, or cannot be looked at: the credd's words.
    Problem(String),
}

/// Reads a reply.
///
/// # Errors
/// [`Malformed`], after which the connection is of no use.
pub fn decode(message: &Incoming) -> Result<Verdict, Malformed> {
    let mut reader = message.reader();
    let text = reader.string("the verdict", MAX_REPLY)?.trim().to_owned();
    reader.finish()?;
    Ok(match text {
        text if text.is_empty() => Verdict::Present,
        text if text.starts_with("http://") || text.starts_with("https://") => Verdict::Visit(text),
        text => Verdict::Problem(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classad::Limits;

    #[test]
    fn what_is_not_wanted_is_said_with_empty_strings() {
        let wanted = Wanted {
            name: CredName::new("dune", Some("h")).unwrap(),
            restriction: Restriction::default(),
        };
        let message = encode(&[wanted]).unwrap();
        let incoming = Incoming::new(Mode::Sealed, message.bytes().to_vec().into());
        let mut reader = incoming.reader();
        assert_eq!(reader.int("count").unwrap(), 1);
        let ad = Ad::decode(&mut reader, Limits::GENERAL).unwrap();
        reader.finish().unwrap();
        let texts = ["Service", "Handle", "Scopes", "Audience"].map(|name| ad.text(name).unwrap());
        assert_eq!(texts, ["dune", "h", "", ""]);
    }

    #[test]
    fn verdicts() {
        for (text, verdict) in [
            ("", Verdict::Present),
            ("https://x/key", Verdict::Visit("https://x/key".into())),
            ("ERROR no", Verdict::Problem("ERROR no".into())),
        ] {
            let message = Outgoing::new(Mode::Sealed).string("text", text).unwrap();
            let incoming = Incoming::new(Mode::Sealed, message.bytes().to_vec().into());
            assert_eq!(decode(&incoming).unwrap(), verdict);
        }
    }
}
