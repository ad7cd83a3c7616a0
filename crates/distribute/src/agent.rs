//! The keys of a person's SSH agent, for a peer that wants something signed and is no SSH server.

use std::{path::Path, time::Duration};

use russh::keys::{
    PublicKey, PublicKeyBase64,
    agent::{AgentIdentity, client::AgentClient},
};
use tokio::time::timeout;

/// For the list of keys.
const LIST: Duration = Duration::from_secs(10);
/// For a signature, which the agent may first ask its owner about: what Vault wants signed is good for 30 s.
const SIGN: Duration = Duration::from_secs(25);
/// No more are tried, whatever an agent holds.
const MAX_KEYS: usize = 32;

/// Why an agent was of no use. `text` is what it or the library said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the SSH agent at {socket} cannot be used: {text}")]
pub struct AgentError {
    /// The agent's socket.
    pub socket: String,
    /// What went wrong.
    pub text: String,
}

/// A key that an agent holds.
#[derive(Debug, Clone)]
pub struct AgentKey(PublicKey);

impl AgentKey {
    /// The public key, `type base64`.
    #[must_use]
    pub fn public(&self) -> String {
        format!("{} {}", self.0.algorithm().as_str(), self.0.public_key_base64())
    }
}

fn error(socket: &Path, text: impl ToString) -> AgentError {
    AgentError {
        socket: socket.display().to_string(),
        text: text.to_string(),
    }
}

/// The plain keys (no certificates) of the agent at `socket`, at most 32.
///
/// # Errors
/// [`AgentError`].
pub async fn agent_keys(socket: &Path) -> Result<Vec<AgentKey>, AgentError> {
    let list = async {
        let mut agent = AgentClient::connect_uds(socket).await?;
        agent.request_identities().await
    };
    let identities = timeout(LIST, list)
        .await
        .map_err(|_| error(socket, "it does not answer"))?
        .map_err(|e| error(socket, e))?;
    let keys = identities.into_iter().filter_map(|identity| match identity {
        AgentIdentity::PublicKey { key, .. } => Some(AgentKey(key)),
        AgentIdentity::Certificate { .. } => None,
    });
    Ok(keys.take(MAX_KEYS).collect())
}

/// A bare signature over `data` by the key's own type of signature, without its name (`ssh-rsa`'s is with SHA-1).
///
/// # Errors
/// [`AgentError`], also if the agent's owner says no.
pub async fn agent_sign(socket: &Path, key: &AgentKey, data: &[u8]) -> Result<Vec<u8>, AgentError> {
    let sign = async {
        let mut agent = AgentClient::connect_uds(socket).await?;
        agent.sign_request_signature(&key.0, None, data).await
    };
    let signature = timeout(SIGN, sign)
        .await
        .map_err(|_| error(socket, "it does not sign"))?
        .map_err(|e| error(socket, e))?;
    Ok(signature.as_bytes().to_vec())
}
