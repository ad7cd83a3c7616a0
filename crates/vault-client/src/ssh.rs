//! The login with a key of an SSH agent (vault.md 5.5): the server gives a nonce, the agent signs it.
//!
//! Who holds the key signs; here is only what is said to the server.

use std::fmt;

use jiff::Timestamp;
use rustify_derive::Endpoint;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::{Client, Doing, Error, Login, Turn, grant, oidc::Hidden, transport};

/// What the server wants signed: good for one login, and for 30 s. With it goes the turn of that login in the budget, so
/// that none of the 30 s is spent waiting for it; dropped unused, the turn is given back.
pub struct SshNonce {
    text: SecretString,
    turn: Turn,
}

impl SshNonce {
    /// The bytes to sign.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.text.expose_secret().as_bytes()
    }
}

impl fmt::Debug for SshNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SshNonce(..)")
    }
}

/// As whom, and with which key.
#[derive(Debug, Clone, Copy)]
pub struct SshProof<'a> {
    /// The issuer, as Vault calls it.
    pub issuer: &'a str,
    /// The role at the issuer.
    pub role: &'a str,
    /// Under which name the key was registered.
    pub credkey: &'a str,
    /// The public key in OpenSSH's form, `type base64 comment`.
    pub public_key: &'a str,
    /// The bare signature over [`SshNonce::bytes`], without its algorithm: that of the key's own type.
    pub signature: &'a [u8],
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "auth/{self.mount}/nonce", method = "GET")]
struct ReadNonce {
    #[endpoint(skip)]
    mount: String,
}

#[derive(Debug, Serialize)]
struct Metadata {
    issuer: String,
    group: String,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "auth/{self.mount}/login", method = "POST")]
struct SshLogin {
    #[endpoint(skip)]
    mount: String,
    role: String,
    public_key: String,
    signature: Hidden,
    nonce: Hidden,
    metadata: Metadata,
}

impl Client {
    /// A nonce for one login with a key of an SSH agent, and the turn for it.
    ///
    /// # Errors
    /// [`Error::RateLimited`] if the login would have its turn later than [`Quota::patience`](crate::Quota::patience) allows,
    /// [`Error::MountMissing`] if the server has no such login, and what any request may meet.
    pub async fn ssh_nonce(&self, issuer: &str, role: &str) -> Result<SshNonce, Error> {
        let mount = self.0.places.ssh(issuer, role)?;
        let call = self.without_token(Doing::SshNonce, &mount, "");
        let request = ReadNonce { mount: mount.clone() };
        // first: the nonce ages from the moment it is made
        let turn = self.turn().await?;
        let envelope = self.ask(request, &call).await?;
        let text = grant::nonce(self.of(&call), envelope)?;
        Ok(SshNonce { text, turn })
    }

    /// Logs in with a signature over `nonce`, which is used up by it. `now` is when the token's life is counted from.
    ///
    /// # Errors
    /// [`Error::SshRefused`] if the server does not take the key, and what any request may meet.
    pub async fn login_ssh(
        &self,
        nonce: SshNonce,
        proof: &SshProof<'_>,
        now: Timestamp,
    ) -> Result<Login, Error> {
        let mount = self.0.places.ssh(proof.issuer, proof.role)?;
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(nonce.bytes()));
        let call = self.without_token(Doing::SshLogin, &mount, &encoded);
        let request = SshLogin {
            mount: mount.clone(),
            role: proof.credkey.to_owned(),
            public_key: proof.public_key.to_owned(),
            signature: Hidden(BASE64_STANDARD.encode(proof.signature).into()),
            nonce: Hidden(encoded.as_str().into()),
            metadata: Metadata {
                issuer: proof.issuer.to_owned(),
                group: proof.role.to_owned(),
            },
        };
        let turn = transport::Turn::had(nonce.turn.0);
        let login = self.ask_in(turn, request, &call).await.and_then(|envelope| {
            let warnings = self.warnings(&call, &envelope);
            grant::token(self.of(&call), envelope, warnings, now)
        });
        self.tell_login(proof.credkey, &mount, &login);
        login
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_what_is_shown() {
        use rustify::Endpoint;
        let login = SshLogin {
            mount: "ssh".into(),
            role: "alice".into(),
            public_key: "ssh-ed25519 AAAA key1".into(),
            signature: Hidden("U0lH".to_owned().into()),
            nonce: Hidden("Tk9OQ0U=".to_owned().into()),
            metadata: Metadata {
                issuer: "dune".into(),
                group: "production".into(),
            },
        };
        assert!(!format!("{login:?}").contains("Tk9"), "{login:?}");
        let request = login.request("https://vault.test:8200").unwrap();
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"role": "alice", "public_key": "ssh-ed25519 AAAA key1", "signature": "U0lH",
                "nonce": "Tk9OQ0U=", "metadata": {"issuer": "dune", "group": "production"}})
        );
        assert_eq!(request.uri().path(), "/auth/ssh/login");
    }
}
