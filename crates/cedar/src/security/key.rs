//! Key agreement: ECDH on P-256, then HKDF (cedar.md 4.3).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hkdf::Hkdf;
use p256::{PublicKey, SecretKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::Malformed;

/// An ephemeral key pair, one per handshake. The driver hands in the randomness.
pub struct KeyPair(SecretKey);

impl KeyPair {
    /// From 32 random bytes; `None` for the few values that are no scalar of the curve: draw again.
    #[must_use]
    pub fn from_random(bytes: &[u8; 32]) -> Option<Self> {
        SecretKey::from_slice(bytes).ok().map(Self)
    }

    /// The public half as it stands in an ad: base64 of the uncompressed point, 88 characters.
    pub(crate) fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().to_sec1_bytes())
    }

    /// The session key agreed with the peer whose public half this is.
    ///
    /// # Errors
    /// [`Malformed::Unreadable`] for what is no point of the curve.
    pub(crate) fn agree(&self, peer: &str) -> Result<SessionKey, Malformed> {
        let unreadable = Malformed::Unreadable("the peer's public key");
        let bytes = STANDARD.decode(peer.trim()).map_err(|_| unreadable.clone())?;
        let peer = PublicKey::from_sec1_bytes(&bytes).map_err(|_| unreadable.clone())?;
        let shared = self.0.diffie_hellman(&peer);
        SessionKey::derive(shared.raw_secret_bytes()).ok_or(unreadable)
    }
}

/// The AES-256 key of a session. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct SessionKey(Zeroizing<[u8; 32]>);

impl SessionKey {
    /// A key already known, for replaying recorded conversations.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    fn derive(secret: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(b"htcondor"), secret)
            .expand(b"keygen", key.as_mut_slice())
            .ok()?;
        Some(Self(key))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    /// The vector of cedar.md 4.3.
    #[test]
    fn hkdf_of_the_specification() {
        let secret: Vec<u8> = (0..32).collect();
        let key = SessionKey::derive(&secret).unwrap();
        assert_eq!(
            key.bytes().to_vec(),
            hex("7eee2b53b21d8ff7a44536f836471d12cf7b42b1c8a61902aabe690504027afb")
        );
    }

    #[test]
    fn both_sides_agree_and_the_key_is_88_characters() {
        let a = KeyPair::from_random(&[7; 32]).unwrap();
        let b = KeyPair::from_random(&[9; 32]).unwrap();
        assert_eq!(a.public().len(), 88);
        assert_eq!(
            a.agree(&b.public()).unwrap().bytes(),
            b.agree(&a.public()).unwrap().bytes()
        );
    }

    #[test]
    fn what_is_no_point_is_an_error() {
        let a = KeyPair::from_random(&[7; 32]).unwrap();
        for text in ["", "AAAA", "!!", &"A".repeat(88), &STANDARD.encode([4u8; 65])] {
            assert!(a.agree(text).is_err(), "{text}");
        }
        assert!(KeyPair::from_random(&[0; 32]).is_none() && KeyPair::from_random(&[0xff; 32]).is_none());
    }
}
