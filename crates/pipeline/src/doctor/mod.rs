//! Every hop of one service tried, each with what was found, and what to do where it fails.
//!
//! Nothing is changed anywhere: the login that is made is given back, credds are asked, nodes are looked at.

mod condor;
mod nodes;
mod remedy;
mod vault;

pub(crate) use remedy::advice;

use config::{Service, Site};
use jiff::Timestamp;
use kerberos::{Keytab, Ticket};
use serde::Serialize;
use state::Snapshot;

use crate::{
    bystander::Bystander,
    failure::Failure,
    run::{World, service_key},
    selection::Selection,
    words::span,
};

/// A hop of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Hop {
    /// The robot's keytab.
    Keytab,
    /// The KDC's ticket for it, and with it the clock and the key's version.
    Ticket,
    /// The Vault server itself: reachable, believed, unsealed.
    Vault,
    /// The Kerberos login at Vault.
    Login,
    /// The bearer token at the robot's credkey.
    Bearer,
    /// What that token carries.
    Claims,
    /// The person's consent.
    Consent,
    /// A collector.
    Collector,
    /// A credd: whom it takes us for, what it holds.
    Credd,
    /// A node: its host key, the login.
    Node,
    /// A file on a node.
    File,
}

/// How a hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// As it should be.
    Good,
    /// Not tried, because an earlier hop failed.
    Skipped,
    /// It works, and will not for long, or not as it should.
    Warning,
    /// It does not work.
    Failed,
}

/// One hop, tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub hop: Hop,
    /// Whom or what it is about.
    pub peer: String,
    /// How it is.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do, in one sentence; with every warning and failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(hop: Hop, peer: impl Into<String>, health: Health, found: impl Into<String>) -> Self {
        Self {
            hop,
            peer: peer.into(),
            health,
            found: found.into(),
            remedy: None,
        }
    }

    fn good(hop: Hop, peer: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(hop, peer, Health::Good, found)
    }

    fn skipped(hop: Hop, peer: impl Into<String>, because: &str) -> Self {
        Self::new(hop, peer, Health::Skipped, format!("not tried: {because}"))
    }

    fn warning(
        hop: Hop,
        peer: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..Self::new(hop, peer, Health::Warning, found)
        }
    }

    fn failed(hop: Hop, failure: &Failure, service: &Service) -> Self {
        Self {
            remedy: Some(remedy::remedy(failure, service)),
            ..Self::new(hop, failure.peer.clone(), Health::Failed, failure.text.clone())
        }
    }
}

/// Everything that was found of one service.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// When.
    pub at: Timestamp,
    /// The service, as configured.
    pub service: String,
    /// Its name at HTCondor.
    pub name: String,
    /// The robot's account.
    pub account: String,
    /// The robot's principal.
    pub principal: String,
    /// Hop by hop, in the order of a token's way.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// The worst there is.
    #[must_use]
    pub fn worst(&self) -> Health {
        self.checks.iter().map(|c| c.health).max().unwrap_or(Health::Good)
    }
}

/// What the parts of the examination share.
struct Case<'a> {
    world: &'a World,
    site: &'a Site,
    service: &'a Service,
    selection: &'a Selection,
    snapshot: Snapshot,
    ticket: Option<Ticket>,
}

/// Tries every hop of the service, at those credds and nodes of it that the selection shows.
///
/// # Errors
/// A [`Failure`] if the examination cannot even begin: the state cannot be used.
pub async fn doctor(
    bystander: &Bystander,
    site: &Site,
    service: &Service,
    selection: &Selection,
) -> Result<Diagnosis, Failure> {
    let at = Timestamp::now();
    let world = &bystander.0;
    let cannot_read = |e: &state::Error| Failure::new(crate::Stage::State, "the state directory", e, false);
    let snapshot = world.state.snapshot().await.map_err(|e| cannot_read(&e))?;
    let consent = world.state.consents().await.map_err(|e| cannot_read(&e))?;
    let consent = consent.get(&service_key(service)).cloned();
    let mut checks = vec![keytab(service)];
    let (check, ticket) = ticket(world, service).await;
    checks.push(check);
    let case = Case {
        world,
        site,
        service,
        selection,
        snapshot,
        ticket,
    };
    let (at_vault, at_condor, at_nodes) = tokio::join!(
        vault::examine(&case, consent.as_ref()),
        condor::examine(&case),
        nodes::examine(&case)
    );
    checks.extend(at_vault);
    checks.extend(at_condor);
    checks.extend(at_nodes);
    Ok(Diagnosis {
        at,
        service: service.id.to_string(),
        name: service.name.to_string(),
        account: service.account.clone(),
        principal: service.principal.to_string(),
        checks,
    })
}

fn keytab(service: &Service) -> Check {
    let peer = service.keytab.display().to_string();
    match Keytab::open(&service.keytab, &service.principal) {
        Ok(keytab) => {
            let kinds: Vec<String> = keytab.enctypes().iter().map(ToString::to_string).collect();
            let found = format!("key version {} ({})", keytab.kvno(), kinds.join(", "));
            Check::good(Hop::Keytab, peer, found)
        }
        Err(error) => Check::failed(
            Hop::Keytab,
            &Failure::new(crate::Stage::Keytab, peer, &error, false),
            service,
        ),
    }
}

async fn ticket(world: &World, service: &Service) -> (Check, Option<Ticket>) {
    match world.tickets.of(service).await {
        Ok(ticket) => {
            let left = jiff::SignedDuration::try_from(ticket.remaining()).unwrap_or_default();
            let found = format!(
                "{} has a ticket for {}: its key and the clock agree",
                service.principal,
                span(left)
            );
            let kdc = format!("KDC of {}", service.principal.realm());
            (Check::good(Hop::Ticket, kdc, found), Some(ticket))
        }
        Err(failure) if failure.stage == crate::Stage::Keytab => {
            let kdc = format!("KDC of {}", service.principal.realm());
            (Check::skipped(Hop::Ticket, kdc, "there is no keytab"), None)
        }
        Err(failure) => (Check::failed(Hop::Ticket, &failure, service), None),
    }
}
