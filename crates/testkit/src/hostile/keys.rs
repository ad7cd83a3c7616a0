//! The serving side's half of the key agreement, written a second time: a mistake in `cedar` shows against it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cedar::security::SessionKey;
use hkdf::Hkdf;
use p256::{PublicKey, SecretKey};
use sha2::Sha256;

/// A key pair of no secrecy at all.
#[derive(Clone)]
pub struct Pair(SecretKey);

impl Pair {
    /// The pair of the scalar that consists of this byte, which must not be 0 or 255.
    ///
    /// # Panics
    /// For those two bytes.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the caller's constant")]
    pub fn new(byte: u8) -> Self {
        Self(SecretKey::from_slice(&[byte; 32]).expect("no scalar of the curve"))
    }

    /// Its public half as an ad has it.
    #[must_use]
    pub fn public(&self) -> String {
        BASE64_STANDARD.encode(self.0.public_key().to_sec1_bytes())
    }

    /// The key agreed with the holder of `public`.
    #[must_use]
    pub fn agree(&self, public: &str) -> Option<SessionKey> {
        let point = PublicKey::from_sec1_bytes(&BASE64_STANDARD.decode(public).ok()?).ok()?;
        let shared = self.0.diffie_hellman(&point);
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(Some(b"htcondor"), shared.raw_secret_bytes())
            .expand(b"keygen", &mut key)
            .ok()?;
        Some(SessionKey::from_bytes(key))
    }
}
