//! One robot's own way through Vault, a step at a time, for those who look at each step: onboarding, the doctor, revocation.

use config::Service;
use kerberos::Ticket;
use vault_client::{Bearer, Client, Login, SecretPath};

use crate::{
    failure::{Failure, Stage},
    run::{PROOF_SECONDS, World, log_in, secret_path, tell_revoked},
};

/// A service's robot at its Vault server.
pub(crate) struct Robot<'a> {
    world: &'a World,
    service: &'a Service,
    vault: Client,
}

impl<'a> Robot<'a> {
    pub(crate) fn new(world: &'a World, service: &'a Service, vault: Client) -> Self {
        Self {
            world,
            service,
            vault,
        }
    }

    /// Where its refresh token lies.
    pub(crate) fn path(&self) -> Result<SecretPath, Failure> {
        secret_path(self.service)
    }

    /// Logs in once.
    pub(crate) async fn log_in(&self, ticket: &Ticket) -> Result<Login, Failure> {
        log_in(self.world, self.service, &self.vault, ticket).await
    }

    /// Reads the bearer token with a login.
    pub(crate) async fn read(&self, login: &Login) -> Result<Bearer, Failure> {
        self.vault
            .bearer(&login.token, &self.path()?, PROOF_SECONDS)
            .await
            .map_err(|e| self.failed(Stage::Proof, &e))
    }

    /// Gives a login back that nobody needs any more, and everything below it.
    pub(crate) async fn give_back(&self, login: &Login) {
        let revoked = self.vault.revoke_self(&login.token).await;
        tell_revoked(self.service, &login.accessor, &revoked);
        if let Err(error) = revoked {
            tracing::warn!(service = %self.service.id, %error, "a login that is no longer needed was not revoked");
        }
    }

    /// A login with the ticket, a bearer token with that. The login is given back.
    pub(crate) async fn prove(&self, ticket: &Ticket) -> Result<Bearer, Failure> {
        let login = self.log_in(ticket).await?;
        let bearer = self.read(&login).await;
        self.give_back(&login).await;
        bearer
    }

    pub(crate) fn failed(&self, stage: Stage, error: &vault_client::Error) -> Failure {
        Failure::new(stage, self.service.vault_server.clone(), error, error.retryable())
    }
}
