//! Vault tokens, split by what may happen to them: a long one stays in memory, a node one may be a file.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::{Invalid, Lifetime};

/// The longest life, in seconds, of a Vault token that may be written to a file (the IGTF rule htgettoken enforces).
pub const NODE_TOKEN_LIMIT: i64 = 1_000_000;

/// What every Vault token has, whichever kind it is: enough to present it to Vault.
pub trait VaultToken: Send + Sync {
    /// The token itself, for the `X-Vault-Token` header.
    fn expose(&self) -> &str;
}

/// A Vault token as a login grants it (28 d in practice): memory and the credd's wire only.
///
/// Nothing takes it to a file by mistake: what writes files takes bytes or a [`NodeToken`], and a long token is neither.
/// Its text comes out by [`VaultToken::expose`] alone, which is there for the header and the credd's wire; whoever makes
/// a [`NodeToken`] of it has to say for how long the server granted it, as `vault_client::Login::short` does.
///
/// ```compile_fail,E0277
/// # let token = credential::LongToken::new("s.x".to_owned())?;
/// std::fs::write("/tmp/vt_u1000", token)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// ```compile_fail,E0308
/// # let token = credential::LongToken::new("s.x".to_owned())?;
/// let token: credential::NodeToken = token;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Nor does it become text or JSON by the way:
///
/// ```compile_fail,E0277
/// # let token = credential::LongToken::new("s.x".to_owned())?;
/// println!("{token}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// ```compile_fail,E0277
/// # let token = credential::LongToken::new("s.x".to_owned())?;
/// serde_json::to_string(&token)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct LongToken(SecretString);

/// A Vault token short enough to lie in a file on a node.
#[derive(Clone)]
pub struct NodeToken {
    token: SecretString,
    lifetime: Lifetime,
}

fn check(kind: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::Token {
            kind,
            why: "it is empty",
        });
    }
    if text.len() > 64 * 1024 {
        return Err(Invalid::Token {
            kind,
            why: "it is longer than 64 KiB",
        });
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Invalid::Token {
            kind,
            why: "it holds blanks, control or non-ASCII characters",
        });
    }
    Ok(())
}

impl LongToken {
    /// Accepts any non-empty printable ASCII: prefixes differ between servers and are not ours to judge.
    ///
    /// # Errors
    /// [`Invalid::Token`] if it is empty or could not stand in a header.
    pub fn new(text: String) -> Result<Self, Invalid> {
        check("Vault token", &text)?;
        Ok(Self(text.into()))
    }
}

impl NodeToken {
    /// Accepts a token whose granted life is at most [`NODE_TOKEN_LIMIT`].
    ///
    /// # Errors
    /// [`Invalid::TooLongLived`] or [`Invalid::Token`].
    pub fn new(text: String, lifetime: Lifetime) -> Result<Self, Invalid> {
        check("node Vault token", &text)?;
        let seconds = lifetime.granted().as_secs();
        if seconds > NODE_TOKEN_LIMIT {
            return Err(Invalid::TooLongLived { seconds });
        }
        Ok(Self {
            token: text.into(),
            lifetime,
        })
    }

    /// From when to when it was granted.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }
}

impl VaultToken for LongToken {
    fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl VaultToken for NodeToken {
    fn expose(&self) -> &str {
        self.token.expose_secret()
    }
}

impl fmt::Debug for LongToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LongToken(..)")
    }
}

impl fmt::Debug for NodeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeToken(.., until {})", self.lifetime.until())
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    #[test]
    fn a_token_beyond_a_million_seconds_cannot_become_a_node_token() {
        let life = |s| Lifetime::new(Timestamp::UNIX_EPOCH, SignedDuration::from_secs(s));
        assert!(NodeToken::new("s.x".into(), life(1_000_000)).is_ok());
        assert_eq!(
            NodeToken::new("s.x".into(), life(1_000_001)).unwrap_err(),
            Invalid::TooLongLived { seconds: 1_000_001 }
        );
    }

    #[test]
    fn a_token_that_could_split_a_header_is_refused_without_being_shown() {
        let error = LongToken::new("s.secret\r\nX: y".into()).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn debug_shows_no_token() {
        let shown = format!("{:?}", LongToken::new("s.secret".into()).unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
