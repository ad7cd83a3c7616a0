//! Vault, from its certificate to what a bearer token carries.

use credential::Claims;
use jiff::{SignedDuration, Timestamp};
use state::Consent;
use vault_client::{Client, Health as Server};

use super::{Case, Check, Hop};
use crate::{
    failure::{Failure, Stage},
    robot::Robot,
    words::span,
};

/// Kerberos allows five minutes; half a minute is more than a synchronised clock ever differs.
const CLOCK_WARNING: SignedDuration = SignedDuration::from_secs(30);
/// Who must agree again needs some days to be found.
const CONSENT_WARNING: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) async fn examine(case: &Case<'_>, consent: Option<&Consent>) -> Vec<Check> {
    let service = case.service;
    let mut checks = Vec::new();
    let vault = match case.world.vault(&service.vault_server) {
        Ok(vault) => vault,
        Err(failure) => return vec![Check::failed(Hop::Vault, &failure, service)],
    };
    let (server, usable) = server(case, &vault).await;
    checks.push(server);
    let claims = if usable {
        login_and_read(case, vault, &mut checks).await
    } else {
        for hop in [Hop::Login, Hop::Bearer] {
            checks.push(Check::skipped(hop, &service.vault_server, "Vault is of no use"));
        }
        None
    };
    if let Some(claims) = claims {
        checks.push(carried(case, &claims, consent));
    }
    checks.extend(consent.map(|consent| agreed(case, consent)));
    checks
}

/// Whether the server can be worked with at all.
async fn server(case: &Case<'_>, vault: &Client) -> (Check, bool) {
    let peer = case.service.vault_server.clone();
    let health = match vault.health().await {
        Ok(health) => health,
        Err(e) => {
            let failure = Failure::new(Stage::Login, peer, &e, e.retryable());
            return (Check::failed(Hop::Vault, &failure, case.service), false);
        }
    };
    let broken = |kind: &str, text: &str| {
        let failure = Failure::text(Stage::Login, kind, peer.clone(), text);
        (Check::failed(Hop::Vault, &failure, case.service), false)
    };
    if !health.initialized {
        return broken("uninitialized", "the server was never set up");
    }
    if health.sealed {
        return broken("sealed", "the server is sealed");
    }
    (answers(peer, &health), true)
}

fn answers(peer: String, health: &Server) -> Check {
    let role = if health.standby { ", a standby" } else { "" };
    let found = format!(
        "version {}{role}, unsealed, its certificate is believed",
        health.version
    );
    let skew = health.clock.map(|clock| Timestamp::now().duration_since(clock));
    match skew.filter(|skew| skew.abs() > CLOCK_WARNING) {
        Some(skew) => Check::warning(
            Hop::Vault,
            peer,
            format!("{found}; its clock differs from ours by {}", span(skew)),
            "synchronise both clocks: Kerberos allows a difference of five minutes",
        ),
        None => Check::good(Hop::Vault, peer, found),
    }
}

async fn login_and_read(case: &Case<'_>, vault: Client, checks: &mut Vec<Check>) -> Option<Claims> {
    let service = case.service;
    let robot = Robot::new(case.world, service, vault.clone());
    let Some(ticket) = &case.ticket else {
        // without a ticket it can still be seen whether the login exists
        let (issuer, role) = (service.name.issuer(), service.name.role());
        checks.push(match vault.probe_kerberos(issuer, role).await {
            Ok(()) => Check::skipped(Hop::Login, &service.vault_server, "there is no ticket"),
            Err(e) => Check::failed(Hop::Login, &robot.failed(Stage::Login, &e), service),
        });
        checks.push(Check::skipped(
            Hop::Bearer,
            &service.vault_server,
            "there is no ticket",
        ));
        return None;
    };
    let login = match robot.log_in(ticket).await {
        Ok(login) => login,
        Err(failure) => {
            checks.push(Check::failed(Hop::Login, &failure, service));
            checks.push(Check::skipped(
                Hop::Bearer,
                &service.vault_server,
                "the login failed",
            ));
            return None;
        }
    };
    let life = span(login.lifetime.granted());
    checks.push(Check::good(
        Hop::Login,
        &service.vault_server,
        format!("logged in as {} for {life}", service.principal),
    ));
    let read = robot.read(&login).await;
    robot.give_back(&login).await;
    let bearer = match read {
        Ok(bearer) => bearer,
        Err(failure) => {
            checks.push(Check::failed(Hop::Bearer, &failure, service));
            return None;
        }
    };
    let left = bearer.expires.map(|at| span(at.duration_since(Timestamp::now())));
    let found = format!(
        "a bearer token was read at {}:{}, good for {}",
        service.credkey,
        service.name.role(),
        left.as_deref().unwrap_or("a time it does not tell")
    );
    checks.push(if bearer.warnings.is_empty() {
        Check::good(Hop::Bearer, &service.vault_server, found)
    } else {
        Check::warning(
            Hop::Bearer,
            &service.vault_server,
            format!("{found}, but Vault says: {}", bearer.warnings.join("; ")),
            format!(
                "if this stays, let somebody agree again: mtk onboard {}",
                service.id
            ),
        )
    });
    bearer.token.claims().ok()
}

/// Against what the role should have, and against what it had when somebody agreed.
fn carried(case: &Case<'_>, claims: &Claims, consent: Option<&Consent>) -> Check {
    let service = case.service;
    let peer = if claims.iss.is_empty() {
        "the issuer"
    } else {
        &claims.iss
    };
    let missing = claims.missing(service.scopes.iter().map(String::as_str));
    if !missing.is_empty() {
        return Check::warning(
            Hop::Claims,
            peer,
            format!("the bearer token of {} lacks {}", claims.sub, missing.join(" ")),
            format!(
                "give {} that capability at the issuer, then mtk onboard {}",
                claims.sub, service.id
            ),
        );
    }
    let before = consent.map(|c| c.granted.as_slice()).unwrap_or_default();
    let lost = claims.missing(before.iter().map(String::as_str));
    if !lost.is_empty() {
        return Check::warning(
            Hop::Claims,
            peer,
            format!(
                "the bearer token no longer carries {}, which it had after the consent",
                lost.join(" ")
            ),
            format!("ask the issuer who took that away from {}", claims.sub),
        );
    }
    Check::good(
        Hop::Claims,
        peer,
        format!(
            "{} has what the role should have: {}",
            claims.sub,
            service.scopes.join(" ")
        ),
    )
}

fn agreed(case: &Case<'_>, consent: &Consent) -> Check {
    let found = format!("{} agreed on {}", consent.person, consent.at.strftime("%F"));
    // the configuration may have been told since
    let expires = case
        .site
        .consent_lifetime
        .and_then(|life| consent.at.checked_add(life).ok())
        .or(consent.expires);
    let again = format!("let somebody agree again: mtk onboard {}", case.service.id);
    let Some(expires) = expires else {
        return Check::good(Hop::Consent, &consent.person, found);
    };
    let left = expires.duration_since(Timestamp::now());
    if left.is_negative() {
        let found = format!(
            "{found}, and that ended {} ago by mtk.consentLifetime",
            span(left.abs())
        );
        Check::warning(Hop::Consent, &consent.person, found, again)
    } else if left < CONSENT_WARNING {
        let found = format!("{found}, and that ends in {}", span(left));
        Check::warning(Hop::Consent, &consent.person, found, again)
    } else {
        Check::good(
            Hop::Consent,
            &consent.person,
            format!("{found}, for {} more", span(left)),
        )
    }
}
