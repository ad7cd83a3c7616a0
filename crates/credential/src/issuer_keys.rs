//! An issuer's public keys, and whether a bearer token was signed by one of them.

use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, Jwk},
};
use serde::Deserialize;

use crate::{BearerToken, Claims, Invalid};

/// Seconds by which an issuer's clock may differ from ours.
const LEEWAY: i64 = 60;
/// Issuers have two or three; each is tried where a token does not say which.
const MAX_KEYS: usize = 64;

/// The keys of one issuer (RFC 7517), as its `jwks_uri` gives them.
#[derive(Debug, Clone)]
pub struct IssuerKeys {
    issuer: String,
    keys: Vec<Jwk>,
}

/// Why a bearer token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unverified {
    /// It is not a JWT of the kind issuers make.
    #[error("the bearer token is not a signed JWT: {why}")]
    Malformed {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// It claims another issuer than the one whose keys these are.
    #[error("the bearer token was issued by {got:?}, not by {expected}")]
    OtherIssuer {
        /// Whose keys were used.
        expected: String,
        /// What the token says.
        got: String,
    },
    /// No key of the issuer fits: it may have changed them since they were read.
    #[error("the issuer {issuer} has no key that the bearer token could be signed with ({key_id})")]
    UnknownKey {
        /// Whose keys were used.
        issuer: String,
        /// The key the token names, or that it names none.
        key_id: String,
    },
    /// The signature is wrong: the token was changed or forged.
    #[error("the signature of the bearer token is not that of the issuer {issuer}")]
    BadSignature {
        /// Whose keys were used.
        issuer: String,
    },
    /// It ended before now, by more than a minute.
    #[error("the bearer token ended at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// It begins after now, by more than a minute.
    #[error("the bearer token is not good before {at}: does our clock run behind?")]
    NotYet {
        /// When.
        at: Timestamp,
    },
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl IssuerKeys {
    /// Reads a key set. Keys of kinds we do not know are passed over.
    ///
    /// # Errors
    /// [`Invalid::Keys`] if it is no key set, or holds no key that signs tokens.
    pub fn parse(issuer: &str, json: &[u8]) -> Result<Self, Invalid> {
        let bad = |why| Invalid::Keys {
            issuer: issuer.to_owned(),
            why,
        };
        let document: Document = serde_json::from_slice(json).map_err(|_| bad("it is not a JWK set"))?;
        let keys: Vec<Jwk> = document
            .keys
            .into_iter()
            .take(MAX_KEYS)
            .filter_map(|key| serde_json::from_value(key).ok())
            .filter(|key: &Jwk| !matches!(key.algorithm, AlgorithmParameters::OctetKey(_)))
            .filter(|key| DecodingKey::from_jwk(key).is_ok())
            .collect();
        if keys.is_empty() {
            return Err(bad("it holds no key of a kind we know"));
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            keys,
        })
    }

    /// Whose keys these are.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    fn check(&self, token: &str) -> Result<Claims, Unverified> {
        let malformed = |why| Unverified::Malformed { why };
        let header = decode_header(token).map_err(|_| malformed("its header cannot be read"))?;
        // the public key of an issuer must not become the secret of a keyed hash
        if !is_signature(header.alg) {
            return Err(malformed("it is not signed with a key pair"));
        }
        let fits = |key: &&Jwk| match (&header.kid, &key.common.key_id) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        };
        let mut validation = Validation::new(header.alg);
        // times are checked against the caller's clock, the rest is the caller's business
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let mut tried = 0;
        for key in self.keys.iter().filter(fits) {
            let Ok(key) = DecodingKey::from_jwk(key) else {
                continue;
            };
            match decode::<Claims>(token, &key, &validation) {
                Ok(found) => return Ok(found.claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => tried += 1,
                    ErrorKind::Json(_) | ErrorKind::Utf8(_) | ErrorKind::Base64(_) => {
                        return Err(malformed("its claims cannot be read"));
                    }
                    // a key of another kind
                    _ => {}
                },
            }
        }
        let issuer = self.issuer.clone();
        Err(if tried > 0 {
            Unverified::BadSignature { issuer }
        } else {
            let key_id = header.kid.map_or_else(
                || "it names none".to_owned(),
                |kid| format!("it names {:?}", kid.chars().take(100).collect::<String>()),
            );
            Unverified::UnknownKey { issuer, key_id }
        })
    }
}

fn is_signature(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

impl BearerToken {
    /// The claims, after the signature, the issuer and the times were checked. Whom the token is for is left to the
    /// caller, who knows what it is to be used for.
    ///
    /// # Errors
    /// [`Unverified`].
    pub fn verify(&self, keys: &IssuerKeys, now: Timestamp) -> Result<Claims, Unverified> {
        let claims = keys.check(self.expose())?;
        if claims.iss != keys.issuer {
            return Err(Unverified::OtherIssuer {
                expected: keys.issuer.clone(),
                got: claims.iss.chars().take(200).collect(),
            });
        }
        let now = now.as_second();
        let at = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        if claims.exp != 0 && claims.exp.saturating_add(LEEWAY) < now {
            return Err(Unverified::Expired { at: at(claims.exp) });
        }
        if claims.nbf > now.saturating_add(LEEWAY) {
            return Err(Unverified::NotYet { at: at(claims.nbf) });
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use rcgen::{KeyPair, PublicKeyData};
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://issuer.test";

    /// A key pair, and its JWK. P-256: rcgen makes it without a wait.
    fn pair(kid: &str) -> (EncodingKey, Value) {
        let pair = KeyPair::generate().unwrap();
        let point = pair.der_bytes().to_vec();
        let part = |from: usize| BASE64_URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        let jwk =
            json!({"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":kid,"x":part(1),"y":part(33)});
        (EncodingKey::from_ec_der(&pair.serialize_der()), jwk)
    }

    fn keys(all: &[&Value]) -> IssuerKeys {
        IssuerKeys::parse(ISSUER, json!({ "keys": all }).to_string().as_bytes()).unwrap()
    }

    fn sign(key: &EncodingKey, kid: Option<&str>, claims: &Value) -> BearerToken {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = kid.map(str::to_owned);
        BearerToken::new(encode(&header, claims, key).unwrap()).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_the_issuers_own_signature_counts() {
        let (ours, jwk) = pair("a");
        let (theirs, _) = pair("a");
        let (_, other) = pair("b");
        let claims = json!({"iss":ISSUER,"sub":"dunepro","exp":2000,"nbf":1000});
        let both = keys(&[&other, &jwk]);
        let now = at(1500);
        assert_eq!(
            sign(&ours, Some("a"), &claims).verify(&both, now).unwrap().sub,
            "dunepro"
        );
        // a token that names no key is tried with all
        sign(&ours, None, &claims).verify(&both, now).unwrap();
        let forged = sign(&theirs, Some("a"), &claims).verify(&both, now);
        assert!(
            matches!(forged, Err(Unverified::BadSignature { .. })),
            "{forged:?}"
        );
        let unknown = sign(&ours, Some("c"), &claims).verify(&both, now);
        assert!(
            matches!(unknown, Err(Unverified::UnknownKey { .. })),
            "{unknown:?}"
        );
        let foreign = sign(&ours, Some("a"), &json!({"iss":"https://evil"})).verify(&both, now);
        assert!(
            matches!(foreign, Err(Unverified::OtherIssuer { .. })),
            "{foreign:?}"
        );
    }

    #[test]
    fn times_are_the_callers() {
        let (ours, jwk) = pair("a");
        let keys = keys(&[&jwk]);
        let token = sign(&ours, Some("a"), &json!({"iss":ISSUER,"exp":2000,"nbf":1000}));
        for (now, fine) in [(900, false), (950, true), (2050, true), (2100, false)] {
            assert_eq!(token.verify(&keys, at(now)).is_ok(), fine, "{now}");
        }
    }

    #[test]
    fn a_changed_token_and_one_without_a_signature() {
        let (ours, jwk) = pair("a");
        let keys = keys(&[&jwk]);
        let token = sign(&ours, Some("a"), &json!({"iss":ISSUER,"sub":"a"}));
        let (head, rest) = token.expose().split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let payload = BASE64_URL_SAFE_NO_PAD.encode(json!({"iss":ISSUER,"sub":"root"}).to_string());
        let changed = BearerToken::new(format!("{head}.{payload}.{signature}")).unwrap();
        assert!(matches!(
            changed.verify(&keys, at(0)),
            Err(Unverified::BadSignature { .. })
        ));
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256","kid":"a"}"#, "{}", "x"] {
            let header = BASE64_URL_SAFE_NO_PAD.encode(header);
            let token = BearerToken::new(format!("{header}.{payload}.{signature}")).unwrap();
            let refused = token.verify(&keys, at(0));
            assert!(
                matches!(refused, Err(Unverified::Malformed { .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_set_without_a_usable_key_is_an_error() {
        for json in [
            "",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"odd"}]}"#,
            r#"{"keys":7}"#,
        ] {
            assert!(IssuerKeys::parse(ISSUER, json.as_bytes()).is_err(), "{json}");
        }
    }
}
