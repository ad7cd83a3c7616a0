//! What we ask of a session, and what the server decides (cedar.md 4.1, 4.2).

use super::{CLAIMED_VERSION, DC_AUTHENTICATE};
use crate::{
    Error, Malformed, Unsendable,
    auth::{Method, Methods},
    classad::{self, Ad, Value},
    handshake::Request,
    wire::{Incoming, Mode, Outgoing},
};

/// How much a security feature is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not with it.
    Never,
    /// If the server wants it.
    Optional,
    /// If the server can.
    Preferred,
    /// Not without it.
    Required,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Never => "NEVER",
            Level::Optional => "OPTIONAL",
            Level::Preferred => "PREFERRED",
            Level::Required => "REQUIRED",
        }
    }
}

/// Our levels for the three features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Proving who we are, and who the server is.
    pub authentication: Level,
    /// AES.
    pub encryption: Level,
    /// Tamper evidence; comes with AES.
    pub integrity: Level,
}

impl Wish {
    /// What a credential needs: everything, or no conversation.
    pub const CREDENTIAL: Wish = Wish {
        authentication: Level::Required,
        encryption: Level::Required,
        integrity: Level::Required,
    };
    /// What a collector's public answers need: whatever the pool wants.
    pub const READING: Wish = Wish {
        authentication: Level::Optional,
        encryption: Level::Optional,
        integrity: Level::Optional,
    };

    /// What is left for public answers where [`Wish::READING`] would mean authenticating, and we cannot.
    pub const ANONYMOUS: Wish = Wish {
        authentication: Level::Never,
        encryption: Level::Never,
        integrity: Level::Never,
    };

    /// Servers before 23.10 look at this one alone and make no key without authentication.
    fn strongest(self) -> Level {
        self.authentication.max(self.encryption).max(self.integrity)
    }
}

/// What the first message of every conversation has, new session or resumed.
pub(crate) fn base_request(command: u32, sinful: &str) -> Ad {
    let mut ad = Ad::new();
    ad.set("Command", i64::from(command));
    ad.set("CryptoMethods", "AES");
    ad.set("RemoteVersion", CLAIMED_VERSION);
    ad.set("ConnectSinful", sinful);
    ad
}

/// The message that asks for a new session.
pub(crate) fn policy_request(request: &Request) -> Result<Outgoing, Unsendable> {
    let wish = request.wish;
    let mut ad = base_request(request.command, &request.sinful);
    ad.set("AuthMethods", request.methods.names().as_str());
    ad.set("ECDHPublicKey", request.key_pair.public().as_str());
    ad.set("Authentication", wish.strongest().word());
    ad.set("AuthenticationNew", wish.authentication.word());
    ad.set("Encryption", wish.encryption.word());
    ad.set("Integrity", wish.integrity.word());
    ad.set("Enact", "NO");
    ad.set("NewSession", "YES");
    ad.set("OutgoingNegotiation", "PREFERRED");
    ad.set("NegotiatedSession", Value::Boolean(true));
    // a string: an integer counts as 0
    ad.set("SessionDuration", request.session_seconds.to_string().as_str());
    ad.set("SessionLease", 3600);
    ad.set("Subsystem", "TOOL");
    ad.encode(Outgoing::new(Mode::Plain).int(DC_AUTHENTICATE))
}

/// The server's decision.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whether a method is run.
    pub authentication: bool,
    /// Whether going on without a successful method is offered.
    pub authentication_may_fail: bool,
    /// Methods in common, in the server's order.
    pub methods: Methods,
    /// Whether encryption was decided.
    pub encryption: bool,
    /// The cipher it named, possibly empty.
    pub cipher: String,
    /// Its public key, if a key is to be agreed.
    pub public_key: Option<String>,
    /// Its version text, such as `$CondorVersion: 23.9.6 ... $`.
    pub version: Option<String>,
    /// Life of the session in seconds, as granted.
    pub session_seconds: Option<u64>,
    /// How long it may lie idle, in seconds; 0 for no limit.
    pub lease_seconds: Option<u64>,
    /// Whose tokens the server accepts for TOKEN.
    pub trust_domain: Option<String>,
    /// The names of the keys they may be signed with.
    pub issuer_keys: Vec<String>,
}

impl Policy {
    pub(crate) fn decode(message: &Incoming) -> Result<Self, Malformed> {
        let mut reader = message.reader();
        let ad = Ad::decode(&mut reader, classad::Limits::HANDSHAKE)?;
        reader.finish()?;
        let yes = |name| ad.text(name).is_some_and(is_yes);
        let list = ad
            .text("AuthMethodsList")
            .or(ad.text("AuthMethods"))
            .unwrap_or_default();
        Ok(Self {
            authentication: yes("Authentication"),
            authentication_may_fail: ad.boolean("AuthRequired") == Some(false),
            methods: words(list).filter_map(Method::from_name).collect(),
            encryption: yes("Encryption"),
            cipher: ad.text("CryptoMethods").unwrap_or_default().to_owned(),
            public_key: ad.text("ECDHPublicKey").map(str::to_owned),
            version: ad.text("RemoteVersion").map(str::to_owned),
            session_seconds: ad
                .text("SessionDuration")
                .and_then(|text| text.trim().parse().ok()),
            lease_seconds: ad
                .integer("SessionLease")
                .and_then(|seconds| u64::try_from(seconds).ok()),
            trust_domain: ad
                .text("TrustDomain")
                .filter(|domain| !domain.is_empty())
                .map(str::to_owned),
            issuer_keys: words(ad.text("IssuerKeys").unwrap_or_default())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// The server's public key, if both sides agree that there is to be a key.
    pub(crate) fn key_offer(&self, wish: Wish) -> Result<Option<&str>, Error> {
        let refused = || Error::NotEncrypted {
            chosen: self.cipher.clone(),
        };
        match &self.public_key {
            Some(key)
                if self
                    .cipher
                    .get(..3)
                    .is_some_and(|c| c.eq_ignore_ascii_case("AES")) =>
            {
                Ok(Some(key))
            }
            Some(_) => Err(refused()),
            None if self.encryption || wish.encryption == Level::Required => Err(refused()),
            None => Ok(None),
        }
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ']).filter(|word| !word.is_empty())
}

/// Only the first letter of such a word is looked at, as HTCondor does.
fn is_yes(word: &str) -> bool {
    matches!(
        word.bytes().next().map(|b| b.to_ascii_uppercase()),
        Some(b'Y' | b'T')
    )
}
