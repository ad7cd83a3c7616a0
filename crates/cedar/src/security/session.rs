//! What a conversation has become: who we are to the peer, and what may be resumed (cedar.md 4.4, 4.5).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{DC_AUTHENTICATE, SessionKey, base_request};
use crate::{
    Error, Malformed, Unsendable,
    auth::{Method, MethodFailure},
    classad::{self, Ad, Value},
    wire::{Incoming, Mode, Outgoing},
};

/// Who we are to a server: `name@domain`, split at the last `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    name: String,
    domain: String,
}

impl User {
    pub(crate) fn parse(text: &str) -> Self {
        let (name, domain) = text.rsplit_once('@').unwrap_or((text, ""));
        Self {
            name: name.to_owned(),
            domain: domain.to_owned(),
        }
    }

    /// The part before the `@`: the directory a credd would use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part behind the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    fn is_unmapped(&self) -> bool {
        self.domain.eq_ignore_ascii_case("unmapped")
    }
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.domain)
    }
}

/// A version as servers write it: `$CondorVersion: 23.9.6 ...`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads the first three numbers of a version text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text
            .strip_prefix("$CondorVersion:")
            .unwrap_or(text)
            .split_whitespace()
            .next()?;
        let mut parts = number.split('.').map(str::parse);
        let mut part = || parts.next()?.ok();
        Some(Self(part()?, part()?, part()?))
    }
}

/// A conversation ready for its command. Whether a credential may be sent on it is another question:
/// [`Established::authenticated_as`].
#[derive(Debug, Clone)]
pub struct Established {
    pub(crate) user: User,
    pub(crate) method: Option<Method>,
    pub(crate) key: Option<SessionKey>,
    pub(crate) sid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) session_seconds: Option<u64>,
    pub(crate) lease_seconds: Option<u64>,
    pub(crate) failed: Vec<(Method, MethodFailure)>,
    /// Resumed without the server's word on it.
    pub(crate) unanswered: bool,
}

impl Established {
    /// Who we are to the server.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The method we proved ourselves with, `None` if none was run.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    /// The methods that were tried before it, each with its reason.
    #[must_use]
    pub fn failed(&self) -> &[(Method, MethodFailure)] {
        &self.failed
    }

    /// Whether the stream is sealed.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.key.is_some()
    }

    /// The server's version text.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What to keep for a resumption; `None` without key or id.
    #[must_use]
    pub fn session(&self) -> Option<Session> {
        (self.key.is_some() && self.sid.is_some()).then(|| Session(self.clone()))
    }

    /// Proof that this conversation is sealed, was authenticated, and that the server takes us for `expected` (a
    /// user name without domain: the domain plays no part at a credd, cedar.md 6.3).
    ///
    /// # Errors
    /// [`Error::NotEncrypted`], [`Error::AuthenticationDeclined`], [`Error::WrongUser`].
    pub fn authenticated_as(&self, expected: &str) -> Result<Authenticated, Error> {
        if self.key.is_none() {
            return Err(Error::NotEncrypted {
                chosen: String::new(),
            });
        }
        if self.method.is_none() {
            return Err(Error::AuthenticationDeclined);
        }
        if expected.is_empty() || self.user.name() != expected || self.user.domain().is_empty() {
            let mapped = self.user.to_string();
            return Err(Error::WrongUser {
                expected: expected.to_owned(),
                mapped,
            });
        }
        Ok(Authenticated {
            user: self.user.clone(),
            unanswered: self.unanswered,
        })
    }

    /// From the post-auth ad, the first message under the key (cedar.md 4.4).
    pub(crate) fn from_post_auth(message: &Incoming, known: Known) -> Result<Self, Error> {
        let mut reader = message.reader();
        let ad = Ad::decode(&mut reader, classad::Limits::HANDSHAKE)?;
        reader.finish()?;
        let user = User::parse(ad.text("User").unwrap_or_default());
        match ad.text("ReturnCode") {
            None => {}
            Some(code) if code.eq_ignore_ascii_case("AUTHORIZED") => {}
            Some(code) => {
                return Err(Error::Denied {
                    user: user.to_string(),
                    code: code.to_owned(),
                    failed: known.failed,
                });
            }
        }
        // for a reader it is well to be nobody: TLS without a certificate is that
        if let (true, Some(method), true) = (user.is_unmapped(), known.method, known.must_be_somebody) {
            let failed = known.failed;
            return Err(Error::Unmapped { method, failed });
        }
        Ok(Self {
            user,
            method: known.method,
            key: known.key,
            sid: ad.text("Sid").filter(|sid| !sid.is_empty()).map(str::to_owned),
            version: known.version,
            session_seconds: known.session_seconds,
            lease_seconds: known.lease_seconds,
            failed: known.failed,
            unanswered: false,
        })
    }
}

/// What the handshake knows before the post-auth ad comes.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) method: Option<Method>,
    pub(crate) key: Option<SessionKey>,
    pub(crate) version: Option<String>,
    pub(crate) session_seconds: Option<u64>,
    pub(crate) lease_seconds: Option<u64>,
    /// Whether a user of the server must come of it.
    pub(crate) must_be_somebody: bool,
    pub(crate) failed: Vec<(Method, MethodFailure)>,
}

/// Proof that a credential may be sent: only [`Established::authenticated_as`] hands it out, and the requests that
/// carry a credential ask for it.
#[derive(Debug)]
pub struct Authenticated {
    user: User,
    unanswered: bool,
}

impl Authenticated {
    /// Who we are to the server, checked.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// For what changes something at the server: whoever recorded it must not be able to have it carried out again.
    pub(crate) fn may_change(&self) -> Result<(), Unsendable> {
        if self.unanswered {
            return Err(Unsendable::Unanswered);
        }
        Ok(())
    }
}

/// A session that can be resumed on another connection to the same server. It belongs to the one identity it was
/// made for.
#[derive(Debug, Clone)]
pub struct Session(Established);

impl Session {
    /// Seconds the server keeps it, if it said so; it may forget earlier.
    #[must_use]
    pub fn seconds(&self) -> Option<u64> {
        self.0.session_seconds
    }

    /// Whether the server can be expected to know it still: `age` after the handshake began, `idle` after it was
    /// last used, both by one clock of the caller's. The server keeps it some seconds longer than it says, so time
    /// spent on the way does not count. It may still forget earlier, by a restart.
    #[must_use]
    pub fn lives(&self, age: Duration, idle: Duration) -> bool {
        let within = |limit: Option<u64>, time: Duration| limit.is_none_or(|limit| time.as_secs() < limit);
        // a lease of 0 is none
        within(self.0.session_seconds, age) && within(self.0.lease_seconds.filter(|s| *s > 0), idle)
    }

    /// Who we are in it.
    #[must_use]
    pub fn user(&self) -> &User {
        self.0.user()
    }

    /// The first message of a resumed conversation. The nonce makes the digests, and so the first sealed frames,
    /// unique to this connection.
    pub(crate) fn resume_request(
        &self,
        command: u32,
        sinful: &str,
        nonce: &[u8; 33],
        answered: bool,
    ) -> Result<Outgoing, Unsendable> {
        let mut ad = base_request(command, sinful);
        ad.set("UseSession", "YES");
        ad.set("Sid", self.0.sid.as_deref().unwrap_or_default());
        ad.set("Nonce", STANDARD.encode(nonce).as_str());
        ad.set("ResumeResponse", Value::Boolean(answered));
        ad.encode(Outgoing::new(Mode::Plain).int(DC_AUTHENTICATE))
    }

    /// What it is without the server's answer.
    pub(crate) fn unanswered(self) -> Option<(SessionKey, Established)> {
        let key = self.0.key.clone()?;
        let established = Established {
            unanswered: true,
            ..self.0
        };
        Some((key, established))
    }

    /// Judges the server's answer to it.
    pub(crate) fn resumed(self, message: &Incoming) -> Result<(SessionKey, Established), Error> {
        let mut reader = message.reader();
        let ad = Ad::decode(&mut reader, classad::Limits::HANDSHAKE)?;
        reader.finish()?;
        match ad.text("ReturnCode") {
            Some(code) if code.eq_ignore_ascii_case("AUTHORIZED") => {}
            Some(code) if code.eq_ignore_ascii_case("SID_NOT_FOUND") => return Err(Error::SessionUnknown),
            Some(code) => {
                return Err(Error::Denied {
                    user: self.0.user.to_string(),
                    code: code.to_owned(),
                    failed: Vec::new(),
                });
            }
            None => return Err(Malformed::Missing("ReturnCode").into()),
        }
        let key = self.0.key.clone().ok_or(Error::SessionUnknown)?;
        let established = Established {
            unanswered: false,
            ..self.0
        };
        Ok((key, established))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn established(user: &str, method: Option<Method>, key: bool) -> Established {
        Established {
            user: User::parse(user),
            method,
            key: key.then(|| SessionKey::from_bytes([1; 32])),
            sid: Some("s".into()),
            version: None,
            session_seconds: None,
            lease_seconds: None,
            failed: Vec::new(),
            unanswered: false,
        }
    }

    #[test]
    fn a_session_lives_as_long_as_the_server_said() {
        let after =
            |age, idle, session: &Session| session.lives(Duration::from_secs(age), Duration::from_secs(idle));
        let mut established = established("a@b", Some(Method::Kerberos), true);
        let for_ever = established.session().unwrap();
        assert!(after(1 << 40, 1 << 40, &for_ever));
        established.session_seconds = Some(60);
        established.lease_seconds = Some(20);
        let session = established.session().unwrap();
        assert!(after(0, 0, &session) && after(59, 19, &session));
        assert!(!after(60, 0, &session) && !after(59, 20, &session));
        established.lease_seconds = Some(0);
        assert!(after(59, 59, &established.session().unwrap()));
        // a server that gives no time gives a session of no use
        established.session_seconds = Some(0);
        assert!(!after(0, 0, &established.session().unwrap()));
    }

    #[test]
    fn a_credential_needs_method_key_and_the_expected_user() {
        let kerberos = Some(Method::Kerberos);
        let good = established("dunepro@mtk.test", kerberos, true);
        assert_eq!(
            good.authenticated_as("dunepro").unwrap().user().domain(),
            "mtk.test"
        );
        for (user, expected) in [
            ("dunepro@mtk.test", "novapro"),
            ("dunepro@mtk.test", ""),
            ("dunepro@mtk.test", "dune"),
            ("DUNEPRO@mtk.test", "dunepro"),
            ("a@dunepro@mtk.test", "dunepro"),
            ("dunepro", "dunepro"),
        ] {
            let error = established(user, kerberos, true)
                .authenticated_as(expected)
                .unwrap_err();
            assert!(matches!(error, Error::WrongUser { .. }), "{user} {expected}");
        }
        let error = established("dunepro@x", None, true)
            .authenticated_as("dunepro")
            .unwrap_err();
        assert_eq!(error, Error::AuthenticationDeclined);
        let error = established("dunepro@x", kerberos, false)
            .authenticated_as("dunepro")
            .unwrap_err();
        assert!(matches!(error, Error::NotEncrypted { .. }));
    }

    #[test]
    fn versions() {
        let text = "$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $";
        assert_eq!(Version::parse(text), Some(Version(23, 9, 6)));
        assert!(Version::parse("25.4.0") > Version::parse(text));
        assert_eq!(Version::parse("$CondorVersion: "), None);
    }
}
