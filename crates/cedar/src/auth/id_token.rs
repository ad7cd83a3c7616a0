//! Tokens of a pool (IDTOKENS), as the TOKEN method presents them (cedar.md 5.6).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use zeroize::Zeroizing;

/// Tokens have some hundred bytes; a directory's file may hold anything.
const MAX_TOKEN: usize = 16 * 1024;

/// A token of a pool: a JWT whose signature is the secret shared with the daemons. The rest of it travels in clear.
#[derive(Clone)]
pub struct IdToken {
    signed: String,
    signature: Zeroizing<Vec<u8>>,
    subject: String,
    issuer: String,
    key: String,
    expires: Option<i64>,
}

/// Why a text is no token of a pool. Never says what the text was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadToken {
    /// Not three parts, or far too long for a token.
    #[error("it is not of the form header.payload.signature")]
    Form,
    /// A part that is not base64 of what belongs there.
    #[error("its {0} cannot be read")]
    Part(&'static str),
    /// Signed by another kind of key: a SciToken, say, which is for the method SCITOKENS.
    #[error("it is not signed with a pool's key (HS256, HS384, HS512)")]
    Algorithm,
    /// Without a subject and without an id nobody could be told by it.
    #[error("it names no subject")]
    NoSubject,
}

impl IdToken {
    /// Reads a token as `condor_token_create` prints it.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        let (signed, signature) = text.rsplit_once('.').ok_or(BadToken::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(BadToken::Form)?;
        if payload.contains('.') || text.len() > MAX_TOKEN {
            return Err(BadToken::Form);
        }
        let bytes = |part: &str, what| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Part(what));
        let json = |part: &str, what| -> Result<Value, BadToken> {
            serde_json::from_slice(&bytes(part, what)?).map_err(|_| BadToken::Part(what))
        };
        let (header, payload) = (json(header, "header")?, json(payload, "payload")?);
        let word = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        if !word(&header, "alg").is_some_and(|alg| ["HS256", "HS384", "HS512"].contains(&alg.as_str())) {
            return Err(BadToken::Algorithm);
        }
        let signature = Zeroizing::new(bytes(signature, "signature")?);
        if signature.is_empty() {
            return Err(BadToken::Part("signature"));
        }
        // HTCondor takes the id for a name where there is no subject
        let subject = word(&payload, "sub").or_else(|| word(&payload, "jti"));
        Ok(Self {
            signed: signed.to_owned(),
            signature,
            subject: subject
                .filter(|subject| !subject.is_empty() && !subject.contains('\0'))
                .ok_or(BadToken::NoSubject)?,
            issuer: word(&payload, "iss").unwrap_or_default(),
            key: word(&header, "kid").unwrap_or_default(),
            expires: payload.get("exp").and_then(Value::as_i64),
        })
    }

    /// Whom it is for, `name@domain`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The trust domain it was made in.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The name of the key it is signed with.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// When it ends, in seconds since 1970; `None` for one that does not.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        self.expires
    }

    /// The part that is sent: header and payload.
    pub(super) fn signed(&self) -> &str {
        &self.signed
    }

    /// The secret.
    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl std::fmt::Debug for IdToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdToken({} of {}, ..)", self.subject, self.issuer)
    }
}

/// Which tokens a server accepts, as its policy says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenWanted {
    /// The server's trust domain; empty if it named none.
    pub trust_domain: String,
    /// The names of its signing keys; empty if it named none.
    pub keys: Vec<String>,
}

impl TokenWanted {
    /// Whether `token` is one the server accepts at `now`, in seconds since 1970. As HTCondor, it takes a server
    /// that names no domain or no keys to accept all; unlike HTCondor, it leaves out tokens that have ended.
    #[must_use]
    pub fn fits(&self, token: &IdToken, now: i64) -> bool {
        (self.trust_domain.is_empty() || self.trust_domain == token.issuer)
            && (self.keys.is_empty() || self.keys.contains(&token.key))
            && token.expires.is_none_or(|end| end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part(payload), part("secret"))
    }

    #[test]
    fn what_a_token_says() {
        let text = token(
            r#"{"alg":"HS256","kid":"POOL"}"#,
            r#"{"iss":"mtk.test","sub":"dunepro@mtk.test","exp":100,"jti":"x"}"#,
        );
        let token = IdToken::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(
            (token.subject(), token.issuer(), token.key(), token.expires()),
            ("dunepro@mtk.test", "mtk.test", "POOL", Some(100))
        );
        assert_eq!(token.signature(), b"secret");
        assert!(!format!("{token:?}").contains(text.rsplit('.').next().unwrap()));
    }

    #[test]
    fn what_is_no_token() {
        let good = r#"{"alg":"HS256"}"#;
        for (text, error) in [
            ("", BadToken::Form),
            ("a.b", BadToken::Form),
            ("a.b.c.d", BadToken::Form),
            ("!.e30.e30", BadToken::Part("header")),
            (token(good, "[").as_str(), BadToken::Part("payload")),
            (&token(r#"{"alg":"RS256"}"#, "{}"), BadToken::Algorithm),
            (&token(r#"{"alg":"none"}"#, "{}"), BadToken::Algorithm),
            (&token(good, "{}"), BadToken::NoSubject),
            (&token(good, r#"{"sub":""}"#), BadToken::NoSubject),
            (&token(good, r#"{"sub":7}"#), BadToken::NoSubject),
            (&"x.".repeat(MAX_TOKEN), BadToken::Form),
        ] {
            assert_eq!(IdToken::parse(text).unwrap_err(), error, "{text}");
        }
        let only_id = token(good, r#"{"jti":"7f"}"#);
        assert_eq!(IdToken::parse(&only_id).unwrap().subject(), "7f");
    }

    #[test]
    fn the_servers_domain_its_keys_and_the_clock_decide() {
        let text = token(
            r#"{"alg":"HS256","kid":"POOL"}"#,
            r#"{"iss":"mtk.test","sub":"a@b","exp":100}"#,
        );
        let token = IdToken::parse(&text).unwrap();
        let wanted = |domain: &str, keys: &[&str]| TokenWanted {
            trust_domain: domain.into(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        assert!(wanted("mtk.test", &["OTHER", "POOL"]).fits(&token, 99));
        assert!(wanted("", &[]).fits(&token, 99));
        assert!(!wanted("mtk.test", &["POOL"]).fits(&token, 100));
        assert!(!wanted("other.test", &["POOL"]).fits(&token, 99));
        assert!(!wanted("mtk.test", &["OTHER"]).fits(&token, 99));
    }
}
