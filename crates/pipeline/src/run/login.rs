//! The login of one service: its own ticket, its long token, the proof that it reads bearer tokens.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use config::Service;
use credential::act::{Act, Verb, tell};
use jiff::{SignedDuration, Timestamp};
use kerberos::{Mech, Target, Ticket};
use state::ServiceKey;
use tokio::sync::OnceCell;
use vault_client::SecretPath;

use super::{World, known::Kept, tickets::silent_kdc};
use crate::{
    failure::{Failure, Stage},
    retry::retry_beside,
};

/// Lower than any bearer token's life: the proof asks for a token, not for a new one.
pub(crate) const PROOF_SECONDS: u32 = 60;

/// A login that has proven itself.
pub(crate) struct Proven {
    /// The long token and its life.
    pub(crate) login: vault_client::Login,
    /// Where the credmon will read bearer tokens with it.
    pub(crate) url: String,
}

/// At most one login a run for one service, whichever of its edges asks first.
pub(crate) struct Logins<'a> {
    world: &'a World,
    service: &'a Service,
    key: ServiceKey,
    /// When the first of what the service has ends: its place where Vault lets only so many requests through.
    first_end: Option<Timestamp>,
    vault: OnceLock<Result<vault_client::Client, Failure>>,
    once: OnceCell<Result<Arc<Proven>, Failure>>,
}

impl<'a> Logins<'a> {
    pub(crate) fn new(
        world: &'a World,
        service: &'a Service,
        key: ServiceKey,
        first_end: Option<Timestamp>,
    ) -> Self {
        Self {
            world,
            service,
            key,
            first_end,
            vault: OnceLock::new(),
            once: OnceCell::new(),
        }
    }

    /// The service's client of Vault, the same for all its requests, so that they keep their place together.
    fn vault(&self) -> Result<vault_client::Client, Failure> {
        self.vault
            .get_or_init(|| {
                let shared = self.world.vault(&self.service.vault_server)?;
                Ok(shared.in_turn_of(self.first_end))
            })
            .clone()
    }

    /// The login, made now if nobody asked before.
    pub(crate) async fn get(&self, ticket: &Ticket) -> Result<Arc<Proven>, Failure> {
        self.once.get_or_init(|| self.make(ticket)).await.clone()
    }

    /// The login, if one was asked for and has ended in any way.
    pub(crate) fn made(&self) -> Option<Result<Arc<Proven>, Failure>> {
        self.once.get().cloned()
    }

    async fn make(&self, ticket: &Ticket) -> Result<Arc<Proven>, Failure> {
        let vault = self.vault()?;
        let server = self.service.vault_server.clone();
        let path = secret_path(self.service)?;
        let login = self.trying(&vault, || self.attempt(ticket, &vault)).await?;
        let url = vault.bearer_url(&path);
        let proof = self
            .trying(&vault, || async {
                vault
                    .bearer(&login.token, &path, PROOF_SECONDS)
                    .await
                    .map_err(|e| Failure::new(Stage::Proof, server.clone(), &e, e.retryable()))
            })
            .await;
        if let Err(failure) = proof {
            // Nobody holds it and nobody will: it must not lie about unheld for its 28 days.
            let revoked = vault.revoke_self(&login.token).await;
            tell_revoked(self.service, &login.accessor, &revoked);
            if let Err(error) = revoked {
                tracing::warn!(service = %self.service.id, %error, "a login token that could not be used was not revoked");
            }
            return Err(failure);
        }
        let record = state::Login {
            service: self.key.clone(),
            accessor: login.accessor.clone(),
            issued: login.lifetime.issued(),
            expires: login.lifetime.until(),
        };
        self.world.remember(self.world.state.record_login(&record).await);
        Ok(Arc::new(Proven { login, url }))
    }

    /// Tries within the budget of a login; waiting for a turn at Vault is no trying.
    async fn trying<T, Fut>(
        &self,
        vault: &vault_client::Client,
        step: impl FnMut() -> Fut,
    ) -> Result<T, Failure>
    where
        Fut: Future<Output = Result<T, Failure>>,
    {
        let world = self.world;
        retry_beside(world.login_budget, &world.stop, || vault.waited(), step).await
    }

    async fn attempt(
        &self,
        ticket: &Ticket,
        vault: &vault_client::Client,
    ) -> Result<vault_client::Login, Failure> {
        log_in(self.world, self.service, vault, ticket).await
    }

    /// The node token S below the login, remembered in the state.
    pub(crate) async fn child(&self, proven: &Proven) -> Result<Kept, Failure> {
        let vault = self.vault()?;
        let ttl =
            SignedDuration::try_from(self.world.node_token_life).unwrap_or(SignedDuration::from_hours(168));
        let child = self
            .trying(&vault, || async {
                vault
                    .create_child(&proven.login.token, proven.login.lifetime, ttl, Timestamp::now())
                    .await
                    .map_err(|e| {
                        let server = self.service.vault_server.clone();
                        Failure::new(Stage::Child, server, &e, e.retryable())
                    })
            })
            .await?;
        let act = Act::new(Verb::Child, &self.service.vault_server)
            .accessor(&child.accessor)
            .parent(&proven.login.accessor)
            .expires(Some(child.token.lifetime().until()));
        tell(&act.by(&self.service.principal.to_string()));
        self.world
            .state
            .save_node_token(&self.key, &child.token)
            .map_err(|e| Failure::new(Stage::State, "the state directory", &e, false))?;
        let life = child.token.lifetime();
        let record = state::NodeTokenRecord {
            service: self.key.clone(),
            accessor: child.accessor.clone(),
            parent_accessor: proven.login.accessor.clone(),
            issued: life.issued(),
            expires: life.until(),
        };
        self.world
            .remember(self.world.state.record_node_token(&record).await);
        Ok(Kept {
            token: child.token,
            accessor: child.accessor,
        })
    }

    /// Gives a login token back that no credd took and that has no child.
    pub(crate) async fn give_back(&self, proven: &Proven) {
        let Ok(vault) = self.vault() else {
            return;
        };
        let revoked = vault.revoke_self(&proven.login.token).await;
        tell_revoked(self.service, &proven.login.accessor, &revoked);
        match revoked {
            Ok(()) => tracing::info!(service = %self.service.id, "revoked a login token that nobody took"),
            Err(error) => {
                tracing::warn!(service = %self.service.id, %error, "a login token that nobody took was not revoked");
            }
        }
    }
}

/// For whoever keeps an audit log: a Vault token of the service's was revoked.
pub(crate) fn tell_revoked<E: std::error::Error>(service: &Service, accessor: &str, done: &Result<(), E>) {
    let by = service.principal.to_string();
    let act = Act::new(Verb::Revoke, &service.vault_server)
        .by(&by)
        .accessor(accessor);
    tell(&match done {
        Ok(()) => act,
        Err(error) => act.failed(error),
    });
}

/// One login of the service's robot. One that meets a block is made anew when the block is over; twice is enough to see
/// that waiting helps. Each has a new AP-REQ: Vault remembers those it has seen (vault.md 2.2).
pub(crate) async fn log_in(
    world: &World,
    service: &Service,
    vault: &vault_client::Client,
    ticket: &Ticket,
) -> Result<vault_client::Login, Failure> {
    let failed =
        |e: &vault_client::Error| Failure::new(Stage::Login, service.vault_server.clone(), e, e.retryable());
    let name = &service.name;
    let mut blocks = 0;
    loop {
        // before the AP-REQ, which is good for 5 minutes only
        let turn = vault.turn().await.map_err(|e| failed(&e))?;
        let ap_req = ap_req(world, service, vault, ticket).await?;
        let login = vault.login_kerberos_in(
            turn,
            name.issuer(),
            name.role(),
            &ap_req,
            &service.principal,
            Timestamp::now(),
        );
        match login.await {
            Err(vault_client::Error::RateLimited { .. }) if blocks < 2 => blocks += 1,
            other => return other.map_err(|e| failed(&e)),
        }
    }
}

/// A fresh AP-REQ of the service's robot for Vault.
async fn ap_req(
    world: &World,
    service: &Service,
    vault: &vault_client::Client,
    ticket: &Ticket,
) -> Result<Vec<u8>, Failure> {
    let realm = service.principal.realm();
    let target = Target::Principal(vault.kerberos_target());
    let begin = world.gss.begin(ticket, &target, Mech::Krb5, false);
    match tokio::time::timeout(world.kerberos_deadline, begin).await {
        Ok(Ok((_, ap_req))) => Ok(ap_req),
        Ok(Err(e)) => Err(Failure::new(
            Stage::Ticket,
            format!("KDC of {realm}"),
            &e,
            e.retryable(),
        )),
        Err(_) => Err(silent_kdc(realm, world.kerberos_deadline)),
    }
}

/// Where the refresh token of the service's robot lies.
pub(crate) fn secret_path(service: &Service) -> Result<SecretPath, Failure> {
    let name = &service.name;
    SecretPath::new(name.issuer(), &service.credkey, name.role())
        .map_err(|e| Failure::new(Stage::Configuration, service.id.to_string(), &e, false))
}

/// A deadline from the configuration, never zero.
pub(crate) fn at_least_a_second(d: Duration) -> Duration {
    d.max(Duration::from_secs(1))
}
