//! Storing, querying and deleting OAuth credentials at a credd (cedar.md 6.3, 6.4).

use std::fmt;

use credential::SecretBytes;

use crate::{
    Malformed, Unsendable,
    classad::{self, Ad, Value},
    security::Authenticated,
    wire::{Incoming, Mode, Outgoing},
};

/// The command.
pub const STORE_CRED: u32 = 479;

/// The largest reply taken: a listing of everything a user has stays far below it.
pub const MAX_REPLY: usize = 1024 * 1024;

/// The largest credential a credd takes.
const MAX_CREDENTIAL: usize = 100 * 1024 * 1024;

const ADD: i64 = 0x28;
const DELETE: i64 = 0x29;
const QUERY: i64 = 0x2a;

/// Whose credential: a user named in full, never left to the server's idea of who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(String);

impl Target {
    /// `name` in the domain the server knows *us* in. The domain plays no part at the credd, but it must be there.
    ///
    /// # Errors
    /// [`Unsendable::Characters`] for a name that could not be a directory of the credd's.
    pub fn new(name: &str, session: &Authenticated) -> Result<Self, Unsendable> {
        check("a user name", name)?;
        Ok(Self(format!("{name}@{}", session.user().domain())))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which credential: a service, and possibly a handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredName {
    service: String,
    handle: Option<String>,
}

impl CredName {
    /// From names a credd would accept.
    ///
    /// # Errors
    /// [`Unsendable::Characters`], also for an empty name: a delete without a service would wipe the directory.
    pub fn new(service: &str, handle: Option<&str>) -> Result<Self, Unsendable> {
        check("a service name", service)?;
        if let Some(handle) = handle {
            check("a handle", handle)?;
        }
        Ok(Self {
            service: service.to_owned(),
            handle: handle.map(str::to_owned),
        })
    }

    /// The stem of its files at the credd.
    #[must_use]
    pub fn stem(&self) -> String {
        match &self.handle {
            Some(handle) => format!("{}_{handle}", self.service),
            None => self.service.clone(),
        }
    }

    fn options(&self) -> Ad {
        let mut ad = Ad::new();
        ad.set("Service", self.service.as_str());
        if let Some(handle) = &self.handle {
            ad.set("Handle", handle.as_str());
        }
        ad
    }
}

impl fmt::Display for CredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem())
    }
}

fn check(what: &'static str, text: &str) -> Result<(), Unsendable> {
    let good = !text.is_empty()
        && text.len() <= 200
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-+=_.".contains(&b));
    good.then_some(()).ok_or_else(|| Unsendable::Characters {
        what,
        text: text.to_owned(),
    })
}

fn request(mode: i64, target: &Target, credential: &[u8], options: &Ad) -> Result<Outgoing, Unsendable> {
    if credential.len() > MAX_CREDENTIAL {
        let got = credential.len();
        return Err(Unsendable::TooLong {
            what: "a credential",
            got,
            limit: MAX_CREDENTIAL,
        });
    }
    let room = 1024 + target.0.len() + credential.len();
    let message = Outgoing::with_capacity(Mode::Sealed, room)
        .string("the user", &target.0)?
        .string("the password field", "")?
        .int(mode)
        .length(credential.len())
        .raw(credential);
    options.encode(message)
}

/// Stores a credential that a credmon is to refresh. Built for a sealed stream only, and only with the proof that
/// the server takes us for whom it should.
///
/// # Errors
/// [`Unsendable::TooLong`] beyond 100 MiB.
pub fn add(
    _proof: &Authenticated,
    target: &Target,
    name: &CredName,
    credential: &SecretBytes,
) -> Result<Outgoing, Unsendable> {
    add_unproven(target, name, credential)
}

fn add_unproven(target: &Target, name: &CredName, credential: &SecretBytes) -> Result<Outgoing, Unsendable> {
    let mut options = name.options();
    // absent, the server guesses, and some guess wrong
    options.set("NeedRefresh", Value::Boolean(true));
    // the credd's wire is what the credential is for
    request(ADD, target, credential.expose(), &options)
}

/// Asks when a credential was stored and last refreshed.
///
/// # Errors
/// None in practice: the names are checked already.
pub fn query(_proof: &Authenticated, target: &Target, name: &CredName) -> Result<Outgoing, Unsendable> {
    request(QUERY, target, &[], &name.options())
}

/// Deletes one credential. There is no way here to delete all of them.
///
/// # Errors
/// None in practice: the names are checked already.
pub fn delete(_proof: &Authenticated, target: &Target, name: &CredName) -> Result<Outgoing, Unsendable> {
    request(DELETE, target, &[], &name.options())
}

/// A credd's result code (cedar.md 6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultCode {
    /// 1: done.
    Success,
    /// More than 100: done; the Unix time is that of the `.use` file, not of our store.
    SuccessAt(i64),
    /// 6: stored, and the credmon has made no access token of it yet.
    SuccessPending,
    /// 0: writing failed.
    Failure,
    /// 2.
    BadPassword,
    /// 3.
    NotSupported,
    /// 4.
    NotSecure,
    /// 5: there is no such credential.
    NotFound,
    /// 7: we may not act for this user.
    NotAllowed,
    /// 8: names or mode are not acceptable.
    BadArguments,
    /// 9: the message was not understood.
    ProtocolMismatch,
    /// 10: the credmon was waited for in vain; the credential is stored nevertheless.
    CredmonTimeout,
    /// 11: the credd has no usable credential directory.
    ConfigError,
    /// 12: the credential, given or stored, is no JSON object.
    NotJson,
    /// 13: stored with other scopes or audience.
    OtherScopes,
    /// 14: the Vault server of the credential is not trusted by the credd.
    UntrustedVault,
    /// Any other number.
    Unknown(i64),
}

impl ResultCode {
    /// From the wire.
    #[must_use]
    pub fn from_wire(value: i64) -> Self {
        match value {
            0 => Self::Failure,
            1 => Self::Success,
            2 => Self::BadPassword,
            3 => Self::NotSupported,
            4 => Self::NotSecure,
            5 => Self::NotFound,
            6 => Self::SuccessPending,
            7 => Self::NotAllowed,
            8 => Self::BadArguments,
            9 => Self::ProtocolMismatch,
            10 => Self::CredmonTimeout,
            11 => Self::ConfigError,
            12 => Self::NotJson,
            13 => Self::OtherScopes,
            14 => Self::UntrustedVault,
            101.. => Self::SuccessAt(value),
            _ => Self::Unknown(value),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Failure => 0,
            Self::Success => 1,
            Self::BadPassword => 2,
            Self::NotSupported => 3,
            Self::NotSecure => 4,
            Self::NotFound => 5,
            Self::SuccessPending => 6,
            Self::NotAllowed => 7,
            Self::BadArguments => 8,
            Self::ProtocolMismatch => 9,
            Self::CredmonTimeout => 10,
            Self::ConfigError => 11,
            Self::NotJson => 12,
            Self::OtherScopes => 13,
            Self::UntrustedVault => 14,
            Self::SuccessAt(value) | Self::Unknown(value) => value,
        }
    }

    /// Whether the request was carried out.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(
            self,
            Self::Success | Self::SuccessAt(_) | Self::SuccessPending | Self::CredmonTimeout
        )
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self {
            Self::Success | Self::SuccessAt(_) => "done",
            Self::SuccessPending => "stored, not yet used by the credmon",
            Self::Failure => "the credd could not write",
            Self::BadPassword => "bad password",
            Self::NotSupported => "not supported",
            Self::NotSecure => "not secure",
            Self::NotFound => "not found",
            Self::NotAllowed => "not allowed to act for this user",
            Self::BadArguments => "the credd does not accept the names or the mode",
            Self::ProtocolMismatch => "the credd did not understand the message",
            Self::CredmonTimeout => "stored, the credmon did not react in time",
            Self::ConfigError => "the credd has no usable credential directory",
            Self::NotJson => "the credential is no JSON object",
            Self::OtherScopes => "stored with other scopes or audience",
            Self::UntrustedVault => "the credd does not trust the credential's Vault server",
            Self::Unknown(_) => "unknown",
        };
        write!(f, "{} ({meaning})", self.number())
    }
}

/// A credd's reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What became of the request.
    pub code: ResultCode,
    ad: Ad,
}

impl Reply {
    /// Reads a reply.
    ///
    /// # Errors
    /// [`Malformed`], after which the connection is of no use.
    pub fn decode(message: &Incoming) -> Result<Self, Malformed> {
        let mut reader = message.reader();
        let code = ResultCode::from_wire(reader.int("the result")?);
        // legacy servers send no ad
        let ad = match reader.remaining() {
            0 => Ad::new(),
            _ => Ad::decode(&mut reader, classad::Limits::GENERAL)?,
        };
        reader.finish()?;
        Ok(Self { code, ad })
    }

    /// Whom the credd took us for, from 23.10.1 on.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.ad.text("fully_qualified_user")
    }

    /// Unix time the credential was stored at, in answer to a query.
    #[must_use]
    pub fn top_time(&self, name: &CredName) -> Option<i64> {
        self.ad.integer(&format!("Top{}Time", name.stem()))
    }

    /// Unix time the credmon last made an access token of it, in answer to a query.
    #[must_use]
    pub fn use_time(&self, name: &CredName) -> Option<i64> {
        self.ad.integer(&name.stem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing::hex, wire::Reader};

    /// The example of cedar.md 6.3, which leaves the user empty; ours never is, so the field is put in by hand.
    #[test]
    fn request_of_the_specification() {
        let expected = hex(
            "0000000000000001 00 0000000000000001 00 0000000000000028 0000000000000003 7b7d0a \
             0000000000000002 \
             0000000000000011 53657276696365203d202264756e652200 \
             0000000000000013 4e65656452656672657368203d207472756500 \
             0000000000000001 00 0000000000000001 00",
        );
        assert_eq!(expected.len(), 115);
        let name = CredName::new("dune", None).unwrap();
        let json = SecretBytes::new(b"{}\n".to_vec());
        let empty = Target(String::new());
        assert_eq!(add_unproven(&empty, &name, &json).unwrap().bytes(), expected);
    }

    #[test]
    fn a_credential_is_only_ever_built_sealed() {
        let name = CredName::new("dune_production", Some("h")).unwrap();
        let message =
            add_unproven(&Target("a@b".into()), &name, &SecretBytes::new(b"{}\n".to_vec())).unwrap();
        assert_eq!(message.mode(), Mode::Sealed);
        let mut plain = crate::wire::Channel::new();
        assert!(matches!(plain.send(&message), Err(Unsendable::Mode { .. })));
    }

    #[test]
    fn names_that_would_leave_the_directory_or_wipe_it() {
        for text in ["", ".", "..", "../x", "a/b", "a b", "ä", "a@b", "a\0b"] {
            assert!(CredName::new(text, None).is_err(), "{text:?}");
            assert!(CredName::new("a", Some(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_code_of_the_table() {
        for number in (-5..=102).chain([1_795_319_343, i64::MAX, i64::MIN]) {
            let code = ResultCode::from_wire(number);
            assert_eq!(code.number(), number);
            assert_eq!(
                code.is_success(),
                number == 1 || number == 6 || number == 10 || number > 100
            );
        }
        assert_eq!(ResultCode::from_wire(100), ResultCode::Unknown(100));
    }

    #[test]
    fn replies() {
        let name = CredName::new("dune", Some("h=1")).unwrap();
        let mut ad = Ad::new();
        ad.set("fully_qualified_user", "dunepro@mtk.test");
        let message = ad.encode(Outgoing::new(Mode::Sealed).int(6)).unwrap();
        let reply = Reply::decode(&Incoming::new(Mode::Sealed, message.bytes().to_vec().into())).unwrap();
        assert_eq!(
            (reply.code, reply.user()),
            (ResultCode::SuccessPending, Some("dunepro@mtk.test"))
        );
        assert_eq!(reply.top_time(&name), None);

        let line = b"Topdune_h=1Time = 12\0";
        let mut bytes = [6i64.to_be_bytes(), 1i64.to_be_bytes(), 21i64.to_be_bytes()].concat();
        bytes.extend_from_slice(line);
        bytes.extend(hex("0000000000000001 00 0000000000000001 00"));
        let reply = Reply::decode(&Incoming::new(Mode::Sealed, bytes.clone().into())).unwrap();
        assert_eq!((reply.top_time(&name), reply.use_time(&name)), (Some(12), None));
        for n in (0..bytes.len()).filter(|n| *n != 8) {
            let cut = Incoming::new(Mode::Sealed, bytes[..n].to_vec().into());
            assert!(Reply::decode(&cut).is_err(), "{n}");
        }
        assert_eq!(Reader::new(Mode::Sealed, &bytes).int("x"), Ok(6));
    }
}
