//! The logins that ask nobody anything.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use distribute::{agent_keys, agent_sign};
use jiff::Timestamp;
use kerberos::{Gss, Mech, Target};
use vault_client::{Error, SshProof};

use super::{Ask, Got};

/// A silent KDC is not waited for longer; each of the two calls.
const KERBEROS: Duration = Duration::from_secs(20);

impl Ask {
    /// With a ticket the person has. The credkey, if nobody says it, is the principal's name (vault.md 5.4).
    pub(super) async fn kerberos(&self, credkey: Option<&str>) -> anyhow::Result<Got> {
        let gss = Gss::new(1);
        let held = gss.held(self.ccache.as_deref(), self.principal.as_ref());
        let ticket = tokio::time::timeout(KERBEROS, held)
            .await
            .context("the Kerberos library does not come back")??;
        let turn = self.vault.turn().await?;
        let target = Target::Principal(self.vault.kerberos_target());
        let begun = gss.begin(&ticket, &target, Mech::Krb5, false);
        let (_, ap_req) = tokio::time::timeout(KERBEROS, begun)
            .await
            .context("the KDC does not answer")??;
        let principal = ticket.principal();
        let now = Timestamp::now();
        let login = self
            .vault
            .login_kerberos_in(turn, &self.issuer, &self.role, &ap_req, principal, now)
            .await?;
        let credkey = credkey.unwrap_or_else(|| principal.credkey());
        let got = self.proven(login, Some(credkey)).await;
        got.with_context(|| format!("logged in as {principal}"))
    }

    /// With the first key of the agent that the server takes; each has a nonce of its own.
    pub(super) async fn ssh(&self, socket: &Path, credkey: &str) -> anyhow::Result<Got> {
        let keys = agent_keys(socket).await?;
        if keys.is_empty() {
            bail!("the agent at {} holds no keys", socket.display());
        }
        let mut last = None;
        for (number, key) in keys.iter().enumerate() {
            let nonce = self.vault.ssh_nonce(&self.issuer, &self.role).await?;
            let signature = match agent_sign(socket, key, nonce.bytes()).await {
                Ok(signature) => signature,
                Err(error) => {
                    last = Some(anyhow::Error::new(error));
                    continue;
                }
            };
            let proof = SshProof {
                issuer: &self.issuer,
                role: &self.role,
                credkey,
                public_key: &format!("{} key{}", key.public(), number + 1),
                signature: &signature,
            };
            match self.vault.login_ssh(nonce, &proof, Timestamp::now()).await {
                Ok(login) => return self.proven(login, Some(credkey)).await,
                Err(error @ Error::SshRefused { .. }) => last = Some(error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no key was tried")))
    }
}
