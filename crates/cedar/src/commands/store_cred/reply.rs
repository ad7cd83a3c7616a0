//! What a credd answers (cedar.md 6.4).

use std::{collections::BTreeMap, fmt};

use super::CredName;
use crate::{
    Malformed,
    classad::{self, Ad, Value},
    wire::Incoming,
};

/// One credential of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The stem of its files: the service, and behind a `_` the handle.
    pub stem: String,
    /// Unix time it was stored at.
    pub top: Option<i64>,
    /// Unix time an access token was last made of it.
    pub used: Option<i64>,
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

    /// All of the user's credentials by name, in answer to a [`list`](super::list). Files that are neither `.top` nor
    /// `.use` are left out.
    #[must_use]
    pub fn listing(&self) -> Vec<Listed> {
        let mut found: BTreeMap<&str, [Option<i64>; 2]> = BTreeMap::new();
        for (file, value) in self.ad.iter() {
            let Value::Integer(time) = *value else { continue };
            let Some((stem, kind)) = file.rsplit_once('.') else {
                continue;
            };
            let [top, used] = found.entry(stem).or_default();
            match kind {
                "top" => *top = Some(time),
                "use" => *used = Some(time),
                _ => {}
            }
        }
        found
            .into_iter()
            .filter(|(_, times)| *times != [None, None])
            .map(|(stem, [top, used])| Listed {
                stem: stem.to_owned(),
                top,
                used,
            })
            .collect()
    }
}
