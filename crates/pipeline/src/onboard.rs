//! A person agrees once, in a browser, and a robot can read bearer tokens from then on.
//!
//! Nothing that comes from the person stays: the login token is exchanged before anything is stored (it shows the
//! refresh token to whoever holds it), and given back at the end. What is proven at the end is the robot's own way:
//! its keytab, its login, its bearer token.

use std::time::Duration;

use config::{Service, Site};
use credential::{Claims, not_asked, not_published};
use jiff::{SignedDuration, Timestamp};
use kerberos::Ticket;
use serde::Serialize;
use state::{Consent, State};
use vault_client::{Client, Error, Flow, Mode, OidcError, OidcLogin, published_scopes};

use crate::{
    bystander::{bystander, cannot},
    failure::{Failure, Stage},
    robot::Robot,
    run::{service_key, tell_revoked, trust},
    stop::Stop,
};

/// The life of the child that stores the refresh token: longer than any issuer takes.
const CHILD: SignedDuration = SignedDuration::from_mins(10);

/// What a person is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invitation {
    /// The service, as configured.
    pub service: String,
    /// The robot's secret in Vault.
    pub credkey: String,
    /// The address to open in a browser.
    pub address: String,
    /// The code that stands there or is to be typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Whether the browser must be able to reach Vault itself.
    pub browser_goes_to_vault: bool,
    /// How long we wait, in seconds.
    pub seconds: u64,
    /// Who is to agree: the name the issuer must give the person by for Vault to let them act for this robot.
    pub person: String,
    /// What the robot's bearer tokens must carry afterwards.
    pub scopes: Vec<String>,
    /// What of that cannot come of it, as far as it is known before anybody has agreed.
    #[serde(flatten)]
    pub forecast: Forecast,
}

/// What is known of the scopes before anybody has agreed. What the person really gets is known afterwards alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The scopes that Vault asks the issuer for; only in direct mode does the address tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Vec<String>>,
    /// Those of the role's that are not asked for: nobody's consent gives them.
    pub not_asked: Vec<String>,
    /// Those of the role's that the issuer does not publish among those it knows.
    pub not_published: Vec<String>,
    /// What the bearer token carries that the robot gets by the consent there is; `None` if there is none that works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Vec<String>>,
    /// Those of the role's that it lacks.
    pub missing_now: Vec<String>,
}

/// Who is told how it goes.
pub trait Audience: Send {
    /// Somebody is to open an address.
    fn invite(&mut self, invitation: &Invitation);
    /// Somebody did, and agreed.
    fn agreed(&mut self, _person: &str) {}
    /// The refresh token lies in Vault.
    fn stored(&mut self) {}
}

/// What came of it: the refresh token is stored, and the robot has read a bearer token by itself.
#[derive(Debug, Clone, Serialize)]
pub struct Onboarded {
    /// The service, as configured.
    pub service: String,
    /// The robot's account.
    pub account: String,
    /// The robot's principal.
    pub principal: String,
    /// The Vault server.
    pub vault: String,
    /// The robot's secret in Vault.
    pub credkey: String,
    /// Who agreed, in Vault's words.
    pub person: String,
    /// When.
    pub at: Timestamp,
    /// Until when consents last, if the configuration says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Scopes and groups of the bearer token that was read.
    pub granted: Vec<String>,
    /// What the role should have given it and did not.
    pub missing: Vec<String>,
    /// When that bearer token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_expires: Option<Timestamp>,
    /// Whether it could be written down who agreed and when.
    pub recorded: bool,
}

/// Asks a person to agree to the robot of `service`, waits up to `patience`, stores what comes of it, and proves it.
///
/// The robot's own half is tried first: nobody is asked to open a browser for a robot that cannot log in.
///
/// # Errors
/// The [`Failure`] that ended it, with what to do. Before [`Audience::stored`] nothing was changed in Vault, except
/// after a failure of kind `timeout` or `interrupted` at the stage of consent, where the server may have stored it.
pub async fn onboard(
    site: &Site,
    state: State,
    service: &Service,
    patience: Duration,
    audience: &mut dyn Audience,
    stop: Stop,
) -> Result<Onboarded, Failure> {
    let world = bystander(site, state, stop)
        .await
        .map_err(|error| cannot(&error))?;
    let key = service_key(service);
    let vault = world.vault(&service.vault_server)?;
    let robot = Robot::new(&world, service, vault.clone());
    let ticket = world.tickets.of(service).await?;
    let path = robot.path()?;
    let name = &service.name;
    let before = before(&robot, &ticket).await?;

    let failed = |error: OidcError| refused(service, &error);
    let mut flow = vault
        .oidc_start(name.issuer(), name.role())
        .await
        .map_err(failed)?;
    let forecast = forecast(site, service, &flow, before.as_ref()).await;
    audience.invite(&invitation(service, &flow, patience, forecast));
    let login = tokio::select! {
        login = vault.oidc_wait(&mut flow, patience) => login.map_err(failed)?,
        () = world.stop.wait() => return Err(stopped(service)),
    };
    audience.agreed(&login.person);
    let at = Timestamp::now();
    let stored = vault.store_refresh_token(&login, &path, CHILD).await;
    give_back(&vault, &login, service).await;
    stored.map_err(failed)?;
    audience.stored();

    let bearer = robot.prove(&ticket).await?;
    let claims = bearer.token.claims().unwrap_or_default();
    let wanted = service.scopes.iter().map(String::as_str);
    let missing = owned(claims.missing(wanted));
    let granted = granted(&claims);
    let expires = site.consent_lifetime.and_then(|life| at.checked_add(life).ok());
    let consent = Consent {
        service: key,
        person: login.person.clone(),
        at,
        expires,
        granted: granted.clone(),
        missing: missing.clone(),
    };
    // a row of its own that no run reads: it needs no lock
    let recorded = world.state.record_consent(&consent).await;
    let written = recorded.is_ok();
    world.remember(recorded);
    Ok(Onboarded {
        service: service.id.to_string(),
        account: service.account.clone(),
        principal: service.principal.to_string(),
        vault: service.vault_server.clone(),
        credkey: service.credkey.clone(),
        person: login.person.clone(),
        at,
        expires,
        granted,
        missing,
        bearer_expires: bearer.expires,
        recorded: written,
    })
}

/// What the robot's bearer token says of itself by the consent there is, if there is one that works.
///
/// This is the robot's whole way, so what stands in it besides a missing consent is found before anybody is asked: a ticket
/// that is refused, a credkey that is not the robot's.
async fn before(robot: &Robot<'_>, ticket: &Ticket) -> Result<Option<Claims>, Failure> {
    match robot.prove(ticket).await {
        Ok(bearer) => Ok(Some(bearer.token.claims().unwrap_or_default())),
        Err(failure) if failure.stage == Stage::Proof && !BARS_ALL.contains(&failure.kind.as_str()) => {
            tracing::debug!(%failure.text, "by the consent there is, no bearer token can be read");
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Refusals of a bearer read that no consent changes.
const BARS_ALL: [&str; 2] = ["not-permitted", "issuer-removed"];

/// Nobody waits longer for what is good to know.
const FORECAST: Duration = Duration::from_secs(5);

/// What of the role's scopes cannot come of a consent, and why.
async fn forecast(site: &Site, service: &Service, flow: &Flow, before: Option<&Claims>) -> Forecast {
    let wanted = || service.scopes.iter().map(String::as_str);
    let asked = (flow.mode() == Mode::Direct).then(|| flow.scopes());
    let issuer = before
        .map(|claims| claims.iss.as_str())
        .filter(|iss| !iss.is_empty());
    // Vault's certificate may have another name than its host, the issuer's has not
    let issuers = tls::Trust {
        name: None,
        ..trust(&site.vault)
    };
    let published = match tls::client_config(&issuers) {
        Ok(tls) => tokio::time::timeout(FORECAST, published_scopes(flow, issuer, &tls)).await,
        Err(_) => Ok(Vec::new()),
    };
    Forecast {
        not_asked: asked
            .as_ref()
            .map(|asked| owned(not_asked(asked, wanted())))
            .unwrap_or_default(),
        not_published: owned(not_published(&published.unwrap_or_default(), wanted())),
        now: before.map(granted),
        missing_now: before
            .map(|claims| owned(claims.missing(wanted())))
            .unwrap_or_default(),
        asked,
    }
}

/// Scopes and groups of a bearer token.
fn granted(claims: &Claims) -> Vec<String> {
    let mut granted: Vec<String> = claims.scope.split_ascii_whitespace().map(str::to_owned).collect();
    for group in claims.groups.iter().map(|group| format!("wlcg.groups:{group}")) {
        if !granted.contains(&group) {
            granted.push(group);
        }
    }
    granted
}

fn owned(scopes: Vec<&str>) -> Vec<String> {
    scopes.into_iter().map(str::to_owned).collect()
}

fn invitation(service: &Service, flow: &Flow, patience: Duration, forecast: Forecast) -> Invitation {
    Invitation {
        service: service.id.to_string(),
        credkey: service.credkey.clone(),
        address: flow.address().to_owned(),
        code: flow.code(),
        browser_goes_to_vault: flow.mode() == Mode::Direct,
        seconds: patience.as_secs(),
        person: service.credkey.split('/').next().unwrap_or_default().to_owned(),
        scopes: service.scopes.clone(),
        forecast,
    }
}

/// The login of the person goes, and its child with it: neither is needed any more, and the first shows the refresh
/// token to whoever has it.
async fn give_back(vault: &Client, login: &OidcLogin, service: &Service) {
    let revoked = vault.revoke_self(&login.token).await;
    tell_revoked(service, &login.accessor, &revoked);
    if let Err(error) = revoked {
        tracing::warn!(service = %service.id, accessor = login.accessor, %error,
            "the login of the person was not revoked; it ends by itself");
    }
}

fn refused(service: &Service, error: &OidcError) -> Failure {
    let server = service.vault_server.clone();
    match error {
        OidcError::Vault(inner) => {
            let mut failure = Failure::new(Stage::Consent, server, inner, inner.retryable());
            if matches!(inner, Error::Timeout { .. } | Error::Interrupted { .. }) {
                failure
                    .text
                    .push_str("; whether it was stored is not known: `mtk doctor` tells");
            }
            failure
        }
        other => Failure::new(Stage::Consent, server, other, false),
    }
}

fn stopped(service: &Service) -> Failure {
    let text = "told to stop while nobody had agreed yet: nothing was changed";
    Failure::text(Stage::Consent, "stopped", service.vault_server.clone(), text)
}
