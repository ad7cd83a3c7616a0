//! Storing, querying and deleting OAuth credentials at a credd (cedar.md 6.3, 6.4).

mod reply;

use std::fmt;

use credential::SecretBytes;

pub use reply::{Listed, Reply, ResultCode};

use crate::{
    Unsendable,
    classad::{Ad, Value},
    security::Authenticated,
    wire::{Mode, Outgoing},
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
/// Added to [`ADD`].
const WAIT: i64 = 0x80;

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

    /// The service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The handle.
    #[must_use]
    pub fn handle(&self) -> Option<&str> {
        self.handle.as_deref()
    }

    pub(super) fn options(&self) -> Ad {
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

/// Who makes access tokens of a stored credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refresh {
    /// A credmon: it is kept as `.top`.
    #[default]
    ByCredmon,
    /// Nobody: it is an access token itself, and given to jobs as it is (`.use`; from 24.10.2 on).
    AsGiven,
}

/// What access tokens of a credential are restricted to. Both are compared as exact strings by credds, so order and
/// separators matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restriction {
    /// Scopes.
    pub scopes: Option<String>,
    /// Audience.
    pub audience: Option<String>,
}

impl Restriction {
    fn add_to(&self, options: &mut Ad) {
        for (name, value) in [("Scopes", &self.scopes), ("Audience", &self.audience)] {
            if let Some(value) = value {
                options.set(name, value.as_str());
            }
        }
    }
}

/// How a credential is to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// Who makes access tokens of it.
    pub refresh: Refresh,
    /// To be written into the credential, which must be a JSON object then, by the credd. Credds of 24.7.3 to 24.12.15,
    /// 25.0.0 to 25.0.5 and 25.1 to 25.5 may write garbage then (cedar.md 8): members put into the JSON beforehand
    /// have the same effect everywhere.
    pub restriction: Restriction,
    /// Whether the credd is to answer only when the credmon has made an access token, or after 20 s
    /// ([`ResultCode::CredmonTimeout`]): give the connection 25 s at least.
    pub wait: bool,
}

/// Stores a credential that a credmon is to refresh. Built for a sealed stream only, and only with the proof that
/// the server takes us for whom it should.
///
/// # Errors
/// [`Unsendable::TooLong`] beyond 100 MiB; [`Unsendable::Unanswered`].
pub fn add(
    proof: &Authenticated,
    target: &Target,
    name: &CredName,
    credential: &SecretBytes,
) -> Result<Outgoing, Unsendable> {
    add_on(proof, target, name, credential, &Terms::default())
}

/// The same on other terms.
///
/// # Errors
/// [`Unsendable::TooLong`] beyond 100 MiB; [`Unsendable::Nul`] in a restriction; [`Unsendable::Unanswered`].
pub fn add_on(
    proof: &Authenticated,
    target: &Target,
    name: &CredName,
    credential: &SecretBytes,
    terms: &Terms,
) -> Result<Outgoing, Unsendable> {
    proof.may_change()?;
    add_unproven(target, name, credential, terms)
}

fn add_unproven(
    target: &Target,
    name: &CredName,
    credential: &SecretBytes,
    terms: &Terms,
) -> Result<Outgoing, Unsendable> {
    let mut options = name.options();
    terms.restriction.add_to(&mut options);
    // absent, the server guesses, and some guess wrong
    options.set("NeedRefresh", Value::Boolean(terms.refresh == Refresh::ByCredmon));
    let mode = if terms.wait { ADD | WAIT } else { ADD };
    // the credd's wire is what the credential is for
    request(mode, target, credential.expose(), &options)
}

/// Asks when a credential was stored and last refreshed.
///
/// # Errors
/// None in practice: the names are checked already.
pub fn query(proof: &Authenticated, target: &Target, name: &CredName) -> Result<Outgoing, Unsendable> {
    query_restricted(proof, target, name, &Restriction::default())
}

/// The same, and whether it is restricted like this: [`ResultCode::OtherScopes`] if not. A part that is not given
/// stands for "not restricted".
///
/// # Errors
/// [`Unsendable::Nul`] in a restriction.
pub fn query_restricted(
    _proof: &Authenticated,
    target: &Target,
    name: &CredName,
    restriction: &Restriction,
) -> Result<Outgoing, Unsendable> {
    let mut options = name.options();
    restriction.add_to(&mut options);
    request(QUERY, target, &[], &options)
}

/// Asks for the names and times of all of the user's credentials: [`Reply::listing`].
///
/// # Errors
/// None in practice.
pub fn list(_proof: &Authenticated, target: &Target) -> Result<Outgoing, Unsendable> {
    request(QUERY, target, &[], &Ad::new())
}

/// Deletes one credential.
///
/// # Errors
/// [`Unsendable::Unanswered`].
pub fn delete(proof: &Authenticated, target: &Target, name: &CredName) -> Result<Outgoing, Unsendable> {
    proof.may_change()?;
    request(DELETE, target, &[], &name.options())
}

/// Says that all of a user's credentials are meant, so that an empty name never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct All;

/// Deletes the user's whole directory at the credd, whoever stored what is in it.
///
/// # Errors
/// [`Unsendable::Unanswered`].
pub fn delete_everything(proof: &Authenticated, target: &Target, _all: All) -> Result<Outgoing, Unsendable> {
    proof.may_change()?;
    request(DELETE, target, &[], &Ad::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classad,
        testing::hex,
        wire::{Incoming, Reader},
    };

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
        let message = add_unproven(&empty, &name, &json, &Terms::default()).unwrap();
        assert_eq!(message.bytes(), expected);
    }

    fn parts(message: &Outgoing) -> (i64, Ad) {
        let incoming = Incoming::new(message.mode(), message.bytes().to_vec().into());
        let mut reader = incoming.reader();
        reader.string("user", 100).unwrap();
        reader.string("password", 100).unwrap();
        let mode = reader.int("mode").unwrap();
        let length = reader.length("credential", 100).unwrap();
        reader.raw("credential", length).unwrap();
        let ad = Ad::decode(&mut reader, classad::Limits::GENERAL).unwrap();
        reader.finish().unwrap();
        (mode, ad)
    }

    #[test]
    fn terms_are_said_in_full() {
        let terms = Terms {
            refresh: Refresh::AsGiven,
            restriction: Restriction {
                scopes: Some("b,a".into()),
                audience: Some("https://x".into()),
            },
            wait: true,
        };
        let name = CredName::new("dune", Some("h")).unwrap();
        let json = SecretBytes::new(b"{}\n".to_vec());
        let (mode, ad) = parts(&add_unproven(&Target("a@b".into()), &name, &json, &terms).unwrap());
        assert_eq!(mode, 0xa8);
        assert_eq!(ad.text("Scopes"), Some("b,a"));
        assert_eq!(ad.text("Audience"), Some("https://x"));
        assert_eq!(
            (ad.text("Handle"), ad.boolean("NeedRefresh")),
            (Some("h"), Some(false))
        );
    }

    #[test]
    fn a_credential_is_only_ever_built_sealed() {
        let name = CredName::new("dune_production", Some("h")).unwrap();
        let json = SecretBytes::new(b"{}\n".to_vec());
        let message = add_unproven(&Target("a@b".into()), &name, &json, &Terms::default()).unwrap();
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

    #[test]
    fn a_listing_pairs_files_by_name() {
        let lines = [
            "dune.top = 5",
            "dune.use = 7",
            "dune_h=1.top = 6",
            "b.meta = 1",
            "fully_qualified_user = \"a@b\"",
            "nova.use = 9",
        ];
        let mut bytes = [6i64.to_be_bytes(), 6i64.to_be_bytes()].concat();
        for line in lines {
            bytes.extend_from_slice(&i64::try_from(line.len() + 1).unwrap().to_be_bytes());
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(0);
        }
        bytes.extend(hex("0000000000000001 00 0000000000000001 00"));
        let reply = Reply::decode(&Incoming::new(Mode::Sealed, bytes.into())).unwrap();
        let listed: Vec<_> = reply
            .listing()
            .into_iter()
            .map(|l| (l.stem, l.top, l.used))
            .collect();
        assert_eq!(
            listed,
            [
                ("dune".to_owned(), Some(5), Some(7)),
                ("dune_h=1".to_owned(), Some(6), None),
                ("nova".to_owned(), None, Some(9)),
            ]
        );
    }
}
