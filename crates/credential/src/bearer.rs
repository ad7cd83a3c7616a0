//! A bearer token, and its claims without anybody's word for them.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use crate::{Claims, Invalid};

const KIND: &str = "bearer token";

/// An OAuth access token (a JWT) as Vault's secrets engine hands it out.
#[derive(Clone)]
pub struct BearerToken(SecretString);

impl BearerToken {
    /// # Errors
    /// [`Invalid::Token`] if it is empty, above 64 KiB, or could not stand in a header.
    pub fn new(text: String) -> Result<Self, Invalid> {
        let why = if text.is_empty() {
            "it is empty"
        } else if text.len() > 64 * 1024 {
            "it is longer than 64 KiB"
        } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
            "it holds blanks, control or non-ASCII characters"
        } else {
            return Ok(Self(text.into()));
        };
        Err(Invalid::Token { kind: KIND, why })
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The claims, unverified.
    ///
    /// # Errors
    /// [`Invalid::Token`] if it is not a JWT with a JSON payload.
    pub fn claims(&self) -> Result<Claims, Invalid> {
        let bad = |why| Invalid::Token { kind: KIND, why };
        let payload = self.expose().split('.').nth(1).ok_or(bad("it is not a JWT"))?;
        let json = BASE64_URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| bad("its payload is not base64url"))?;
        serde_json::from_slice(&json).map_err(|_| bad("its payload is not the JSON of a token"))
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn claims_are_read_without_trust() {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(
            r#"{"iss":"https://i","sub":"dunepro","exp":1795319343,"wlcg.groups":["/dune"],"scope":"a b"}"#,
        );
        let claims = BearerToken::new(format!("e30.{payload}.x"))
            .unwrap()
            .claims()
            .unwrap();
        assert_eq!(claims.sub, "dunepro");
        assert_eq!(claims.groups, ["/dune"]);
        assert_eq!(
            claims.expires(),
            Some(Timestamp::from_second(1_795_319_343).unwrap())
        );
    }

    #[test]
    fn garbage_is_an_error_and_not_shown() {
        for text in ["x", "a.b.c", "a.####.c"] {
            let error = BearerToken::new(text.into()).unwrap().claims().unwrap_err();
            assert!(!error.to_string().contains("##"));
        }
    }
}
