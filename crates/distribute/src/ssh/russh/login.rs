//! `publickey` with keys, certificates and an agent.

use std::{path::Path, sync::Arc};

use russh::{
    client::AuthResult,
    keys::{
        HashAlg, PrivateKeyWithHashAlg,
        agent::{AgentIdentity, client::AgentClient},
        decode_secret_key,
    },
};

use super::{Session, broken};
use crate::{
    Error, KeyFault, Method, Stage,
    dial::{Deadline, clip},
    identity::{Credential, MAX_AGENT_KEYS},
    ssh::Job,
};

/// What came of trying something.
enum Tried {
    In,
    /// What the server still accepts.
    Out(Vec<String>),
}

impl Session {
    /// Logs in with the first that does.
    pub(in crate::ssh) async fn publickey(
        &mut self,
        job: &Job,
        credentials: &[Credential],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let trying = self.try_all(job, credentials);
        let tried = deadline.bound(job.host(), Stage::Authentication, trying).await?;
        match tried? {
            Tried::In => Ok(()),
            Tried::Out(accepted) => Err(job.refused(vec![Method::PublicKey], accepted)),
        }
    }

    async fn try_all(&mut self, job: &Job, credentials: &[Credential]) -> Result<Tried, Error> {
        let mut tried = Tried::Out(Vec::new());
        for credential in credentials {
            tried = match credential {
                Credential::Key { .. } => self.try_key(job, credential).await?,
                Credential::Agent { socket } => self.try_agent(job, socket).await?,
            };
            let goes_on = match &tried {
                Tried::In => false,
                Tried::Out(accepted) => accepted.iter().any(|name| name == Method::PublicKey.as_str()),
            };
            if !goes_on {
                break;
            }
        }
        Ok(tried)
    }

    async fn try_key(&mut self, job: &Job, credential: &Credential) -> Result<Tried, Error> {
        let Credential::Key {
            path,
            key,
            certificate,
        } = credential
        else {
            return Ok(Tried::Out(Vec::new()));
        };
        let key = decode_secret_key(key.expose(), None).map_err(|error| Error::KeyFile {
            path: path.clone(),
            why: KeyFault::NotAKey {
                detail: clip(&error.to_string()),
            },
        })?;
        let (key, user) = (Arc::new(key), job.node.user.clone());
        let answer = match certificate {
            Some((_, certificate)) => {
                let certificate = certificate.as_ref().clone();
                self.handle
                    .authenticate_openssh_cert(user, key, certificate)
                    .await
            }
            None => {
                let hash = if key.algorithm().is_rsa() {
                    self.rsa_hash().await
                } else {
                    None
                };
                let key = PrivateKeyWithHashAlg::new(key, hash);
                self.handle.authenticate_publickey(user, key).await
            }
        };
        let answer = answer.map_err(|error| broken(job, Stage::Authentication, &error))?;
        self.tried(job, &answer)
    }

    async fn try_agent(&mut self, job: &Job, socket: &Path) -> Result<Tried, Error> {
        let failed = |detail: String| Error::Agent {
            node: job.node.host.clone(),
            socket: socket.to_owned(),
            detail: clip(&detail),
        };
        let mut agent = AgentClient::connect_uds(socket)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let identities = agent
            .request_identities()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let mut tried = Tried::Out(Vec::new());
        for identity in identities.into_iter().take(MAX_AGENT_KEYS) {
            let user = job.node.user.clone();
            let rsa = identity.public_key().algorithm().is_rsa();
            let hash = if rsa { self.rsa_hash().await } else { None };
            let comment = clip(identity.comment());
            let answer = match identity {
                AgentIdentity::PublicKey { key, .. } => {
                    self.handle
                        .authenticate_publickey_with(user, key, hash, &mut agent)
                        .await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    self.handle
                        .authenticate_certificate_with(user, certificate, hash, &mut agent)
                        .await
                }
            };
            match answer {
                Ok(answer) => tried = self.tried(job, &answer)?,
                // It declined to sign; another of its keys may do.
                Err(error) => {
                    tracing::debug!(%error, key = comment, "a key of the agent did not do");
                    continue;
                }
            }
            if matches!(tried, Tried::In) {
                break;
            }
        }
        Ok(tried)
    }

    /// Never SHA-1: a server that knows nothing better refuses.
    async fn rsa_hash(&self) -> Option<HashAlg> {
        let best = self.handle.best_supported_rsa_hash().await;
        Some(best.ok().flatten().flatten().unwrap_or(HashAlg::Sha512))
    }

    fn tried(&self, job: &Job, answer: &AuthResult) -> Result<Tried, Error> {
        match answer {
            AuthResult::Success => Ok(Tried::In),
            AuthResult::Failure {
                remaining_methods,
                partial_success: true,
            } => {
                let more = remaining_methods
                    .iter()
                    .map(String::from)
                    .collect::<Vec<_>>()
                    .join(", ");
                let detail = format!("it wants more than one login: after the key also {more}");
                Err(job.protocol(Stage::Authentication, detail))
            }
            AuthResult::Failure {
                remaining_methods, ..
            } => {
                let accepted = self.methods(job, remaining_methods)?;
                Ok(Tried::Out(accepted))
            }
        }
    }
}
