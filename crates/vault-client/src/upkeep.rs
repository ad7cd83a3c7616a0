//! What is asked of Vault beside the way of a token: revoking by accessor, how the server is.

use credential::VaultToken;
use credential::act::{Act, Verb};
use http::{HeaderName, StatusCode};
use jiff::{SignedDuration, Timestamp};
use rustify_derive::Endpoint;
use vaultrs::api::token::requests::{LookupTokenAccessorRequest, RevokeTokenAccessorRequest};

use crate::{Client, Doing, Error, answer::Envelope, ask::Call, grant::Of};

/// Says that a request comes from a client of Vault; stands where a token is not wanted.
pub(crate) const X_VAULT_REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Whatever the server's state is, it is told with status 200.
#[derive(Debug, Endpoint)]
#[endpoint(path = "sys/health", method = "GET")]
struct ReadHealth {
    #[endpoint(query)]
    standbyok: bool,
    /// HashiCorp's has nodes of two more kinds, which would answer 473 and 472.
    #[endpoint(query)]
    perfstandbyok: bool,
    #[endpoint(query)]
    drsecondarycode: u16,
    #[endpoint(query)]
    sealedcode: u16,
    #[endpoint(query)]
    uninitcode: u16,
}

/// A GET of a login that only takes POST: it is refused either way, and the refusal says whether the mount exists.
#[derive(Debug, Endpoint)]
#[endpoint(path = "auth/{self.mount}/login", method = "GET")]
struct ProbeLogin {
    #[endpoint(skip)]
    mount: String,
}

/// How a server is (`sys/health`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it was ever set up.
    pub initialized: bool,
    /// Whether nobody has unsealed it.
    pub sealed: bool,
    /// Whether the node that answered forwards to another.
    pub standby: bool,
    /// What it calls its version.
    pub version: String,
    /// Its clock, to the second.
    pub clock: Option<Timestamp>,
}

/// A token that is still good, known by its accessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// What is left of its life by the server's clock.
    pub ttl: SignedDuration,
    /// Whether it is the root of a tree.
    pub orphan: bool,
}

impl Client {
    /// Whether the token of an accessor is still good; only operators may ask.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] or [`Error::TokenInvalid`] for a token that is no operator's, and what any request may meet.
    pub async fn lookup_accessor(
        &self,
        operator: &dyn VaultToken,
        accessor: &str,
    ) -> Result<Option<Alive>, Error> {
        let request = LookupTokenAccessorRequest {
            accessor: accessor.to_owned(),
        };
        let call = self.with_token(Doing::Accessor, "auth/token/lookup-accessor", operator);
        match self.ask(request, &call).await {
            Ok(envelope) => alive(self.of(&call), envelope).map(Some),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Revokes the token of an accessor and everything below it; only operators may. One that is gone already is fine.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] or [`Error::TokenInvalid`] for a token that is no operator's, and what any request may meet.
    pub async fn revoke_accessor(&self, operator: &dyn VaultToken, accessor: &str) -> Result<(), Error> {
        let request = RevokeTokenAccessorRequest {
            accessor: accessor.to_owned(),
        };
        let call = self.with_token(Doing::Accessor, "auth/token/revoke-accessor", operator);
        let done = match self.ask(request, &call).await {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        };
        self.tell_done(Act::new(Verb::Revoke, &self.0.shown).accessor(accessor), &done);
        done
    }

    /// How the server is. Sealed and never set up are answers, not errors.
    ///
    /// # Errors
    /// What any request may meet.
    pub async fn health(&self) -> Result<Health, Error> {
        let call = self.without_token(Doing::Health, "sys/health", "");
        let code = StatusCode::OK.as_u16();
        let request = ReadHealth {
            standbyok: true,
            perfstandbyok: true,
            drsecondarycode: code,
            sealedcode: code,
            uninitcode: code,
        };
        let envelope = self.ask(request, &call).await?;
        health(self.of(&call), envelope)
    }

    /// Whether the Kerberos login of issuer and role exists, without a ticket.
    ///
    /// # Errors
    /// [`Error::MountMissing`] if it does not, and what any request may meet.
    pub async fn probe_kerberos(&self, issuer: &str, role: &str) -> Result<(), Error> {
        let mount = self.0.places.kerberos(issuer, role)?;
        let call = self.without_token(Doing::Login, &mount, "");
        let mount = mount.clone();
        match self.ask(ProbeLogin { mount }, &call).await {
            // that no ticket was sent is what a login that exists has to say
            Ok(_) | Err(Error::HeaderNotSeen { .. } | Error::TicketRefused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A request nobody's token goes with.
    pub(crate) fn without_token<'a>(&self, doing: Doing, path: &'a str, secret: &'a str) -> Call<'a> {
        Call {
            doing,
            path,
            minimum_seconds: 0,
            patience: self.0.read_timeout,
            secret,
            header: (X_VAULT_REQUEST, "true"),
        }
    }
}

pub(crate) fn alive(of: Of<'_>, mut envelope: Envelope) -> Result<Alive, Error> {
    let data = envelope.data.take().ok_or_else(|| of.bad("it has no data"))?;
    let ttl = data.ttl.ok_or_else(|| of.bad("it has no ttl"))?;
    Ok(Alive {
        ttl: SignedDuration::from_secs(ttl),
        orphan: data.orphan,
    })
}

pub(crate) fn health(of: Of<'_>, envelope: Envelope) -> Result<Health, Error> {
    Ok(Health {
        initialized: envelope.initialized.unwrap_or(true),
        sealed: envelope
            .sealed
            .ok_or_else(|| of.bad("it does not say whether it is sealed"))?,
        standby: envelope.standby.unwrap_or(false),
        version: crate::answer::clean(&envelope.version.unwrap_or_default(), &[]),
        clock: envelope
            .server_time_utc
            .and_then(|s| Timestamp::from_second(s).ok()),
    })
}

/// OpenBao answers 403 `invalid accessor` for one that is not there, HashiCorp's 403 or 400.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Rejected { status: 400 | 403 | 404, text, .. } if text.contains("invalid accessor"))
}
