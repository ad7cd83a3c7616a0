//! What is done with credentials, told to whoever keeps an audit log.
//!
//! Whoever does something with a credential says so with [`tell`], whatever program it is part of: a login, a store, a
//! file on a node, a revocation. The program decides with [`set_witness`] who hears of it, as programs decide on loggers.
//! Never the token: an [`Act`] has an accessor or a digest.

use std::{error::Error, fmt::Write, sync::OnceLock};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::chain;

/// Longest text of one field, in characters: peers are not trusted to be brief.
const LONGEST: usize = 400;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verb {
    /// Somebody logged in to Vault: a Vault token was handed out.
    Login,
    /// A child of a Vault token was made.
    Child,
    /// A bearer token was read with a Vault token.
    Bearer,
    /// A refresh token was stored in Vault: a robot was onboarded.
    Onboard,
    /// A refresh token was deleted from Vault.
    Forget,
    /// A Vault token was revoked, and everything below it.
    Revoke,
    /// A credential was stored at a credd.
    Store,
    /// A credential was deleted at a credd.
    Delete,
    /// A file was written, on a node or here.
    Write,
    /// A file was removed, on a node or here.
    Remove,
}

impl Verb {
    /// As it stands in a line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Child => "child",
            Self::Bearer => "bearer",
            Self::Onboard => "onboard",
            Self::Forget => "forget",
            Self::Revoke => "revoke",
            Self::Store => "store",
            Self::Delete => "delete",
            Self::Write => "write",
            Self::Remove => "remove",
        }
    }
}

/// One act: what was done, for whom, where, with which credential. Nothing in it is a secret.
///
/// ```
/// use credential::act::{Act, Verb, tell};
/// let act = Act::new(Verb::Store, "ap1.example.org").by("dunepro@example.org").what("dune_production");
/// tell(&act);
/// ```
#[derive(Debug, Clone)]
pub struct Act<'a> {
    verb: Verb,
    place: &'a str,
    by: Option<&'a str>,
    what: Option<&'a str>,
    accessor: Option<&'a str>,
    parent: Option<&'a str>,
    digest: Option<String>,
    expires: Option<Timestamp>,
    error: Option<String>,
}

impl<'a> Act<'a> {
    /// An act that was carried out at `place`: a Vault server, a credd, a node, or this host.
    #[must_use]
    pub fn new(verb: Verb, place: &'a str) -> Self {
        Self {
            verb,
            place,
            by: None,
            what: None,
            accessor: None,
            parent: None,
            digest: None,
            expires: None,
            error: None,
        }
    }

    /// Whose credential it is: a principal, an account.
    #[must_use]
    pub fn by(mut self, by: &'a str) -> Self {
        self.by = Some(by);
        self
    }

    /// What it is called there: a path, the name of a credential.
    #[must_use]
    pub fn what(mut self, what: &'a str) -> Self {
        self.what = Some(what);
        self
    }

    /// The accessor of the Vault token: names it without being it.
    #[must_use]
    pub fn accessor(mut self, accessor: &'a str) -> Self {
        self.accessor = Some(accessor).filter(|a| !a.is_empty());
        self
    }

    /// The accessor of the token this one hangs below.
    #[must_use]
    pub fn parent(mut self, parent: &'a str) -> Self {
        self.parent = Some(parent).filter(|a| !a.is_empty());
        self
    }

    /// What [`digest`] says of the content.
    #[must_use]
    pub fn digest(mut self, digest: String) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Until when the credential is good.
    #[must_use]
    pub fn expires(mut self, expires: Option<Timestamp>) -> Self {
        self.expires = expires;
        self
    }

    /// It failed, or may have: what is said of an error holds no secret anywhere in mtk.
    #[must_use]
    pub fn failed(mut self, error: &dyn Error) -> Self {
        self.error = Some(chain(error));
        self
    }

    /// What it says, by the names it goes by in a log, in the order they stand in; each text of bounded length.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let outcome = if self.error.is_some() { "failed" } else { "done" };
        let expires = self.expires.map(|t| t.to_string());
        let texts = [
            ("act", Some(self.verb.word())),
            ("outcome", Some(outcome)),
            ("by", self.by),
            ("place", Some(self.place)),
            ("what", self.what),
            ("accessor", self.accessor),
            ("parent", self.parent),
            ("sha256", self.digest.as_deref()),
            ("expires", expires.as_deref()),
            ("error", self.error.as_deref()),
        ];
        texts
            .into_iter()
            .filter_map(|(key, text)| Some((key, cut(text?))))
            .collect()
    }
}

/// Who hears of every act of this process. It must not wait long: it is called where the act is done.
pub trait Witness: Send + Sync {
    /// Something was done.
    fn hear(&self, act: &Act<'_>);
}

static WITNESS: OnceLock<&dyn Witness> = OnceLock::new();

/// From now on `witness` hears of acts. The first one counts.
pub fn set_witness(witness: &'static dyn Witness) {
    WITNESS.get_or_init(|| witness);
}

/// Says what was done.
pub fn tell(act: &Act<'_>) {
    if let Some(witness) = WITNESS.get() {
        witness.hear(act);
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The SHA-256 of a content, in hexadecimal digits: what `sha256sum` says of a file with it. Of a token, which nobody
/// can guess, it tells nothing else.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// The same of a text with a newline behind it: of a token's file.
#[must_use]
pub fn digest_of_line(text: &str) -> String {
    hex(&Sha256::new().chain_update(text).chain_update("\n").finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_has_what_was_said_of_it_and_no_more() {
        let act = Act::new(Verb::Child, "vault").by("p@R").accessor("a").parent("");
        let fields = act.fields();
        let said: Vec<_> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let expected = [
            ("act", "child"),
            ("outcome", "done"),
            ("by", "p@R"),
            ("place", "vault"),
            ("accessor", "a"),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_failure_is_told_with_its_causes_and_briefly() {
        let error = std::io::Error::other("x".repeat(5000));
        let fields = Act::new(Verb::Login, "vault").failed(&error).fields();
        assert!(fields.contains(&("outcome", "failed".to_owned())));
        assert!(
            fields
                .iter()
                .any(|(key, text)| *key == "error" && text.len() < 410)
        );
    }

    #[test]
    fn a_digest_is_what_sha256sum_says() {
        assert_eq!(
            digest(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest_of_line("abc"), digest(b"abc\n"));
    }
}
