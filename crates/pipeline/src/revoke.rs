//! What a robot was given is taken back, in the order in which it does harm.
//!
//! First the refresh token: from then on nobody mints a bearer token, whatever they stole. Then what lies in credds and
//! on nodes. Last the long tokens, which only an operator of Vault may revoke. Each step is tried whatever became of the
//! one before, and what is gone already is fine: the whole is safe to repeat.

mod credds;

use std::collections::BTreeSet;

use config::{Service, Site};
use credential::{LongToken, SecretBytes};
use distribute::{File, Here, Mode, Placed, Sink};
use futures_util::future::join_all;
use jiff::Timestamp;
use kerberos::Ticket;
use serde::Serialize;
use state::ServiceKey;
use vault_client::{Client, Error};

use crate::{
    bystander::Bystander,
    failure::{Failure, Stage},
    robot::Robot,
    run::{HERE, World, forget_bearers, local_files, node_address, owner_uid, service_key, tell_revoked},
};

/// The token of a Vault operator, who may revoke what robots may not. It is sent to Vault, and nowhere else.
pub type Operator = LongToken;

/// What is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Taken {
    /// The refresh token in Vault.
    RefreshToken,
    /// A credential at a credd.
    Credential,
    /// The node token.
    NodeToken,
    /// A file on a node.
    File,
    /// A long token, known by its accessor, and everything below it.
    LongToken,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It was there and is gone.
    Done,
    /// There was nothing.
    Nothing,
    /// Only an operator of Vault may do it; the text says how.
    ForOperators,
    /// It failed.
    Failed,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was to be taken back.
    pub what: Taken,
    /// Where.
    pub place: String,
    /// How it ended.
    pub ended: Ended,
    /// What there is to say about it.
    pub text: String,
}

impl Step {
    fn new(what: Taken, place: impl Into<String>, ended: Ended, text: impl Into<String>) -> Self {
        Self {
            what,
            place: place.into(),
            ended,
            text: text.into(),
        }
    }

    fn failed(what: Taken, place: impl Into<String>, failure: &Failure) -> Self {
        Self::new(what, place, Ended::Failed, failure.text.clone())
    }
}

/// What became of all of it.
#[derive(Debug, Clone, Serialize)]
pub struct Revocation {
    /// The service, as configured.
    pub service: String,
    /// Whether credds and nodes were cleared, too.
    pub everywhere: bool,
    /// In the order they were taken.
    pub steps: Vec<Step>,
}

impl Revocation {
    /// Whether nothing failed and nothing is left to others.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.steps
            .iter()
            .all(|s| matches!(s.ended, Ended::Done | Ended::Nothing))
    }
}

struct Case<'a> {
    world: &'a World,
    service: &'a Service,
    key: ServiceKey,
    /// What the account's other services are called at the credds.
    others: Vec<String>,
    /// Of the node token, as far as it is remembered.
    node_accessor: String,
}

/// What the account's other services are called at the credds. Of those whose configuration is broken neither account
/// nor name is known: they count, by what they are called in the file.
fn others(site: &Site, service: &Service) -> Vec<String> {
    let whole = site
        .services
        .iter()
        .filter(|other| other.account == service.account && other.name != service.name)
        .map(|other| other.name.to_string());
    let broken = site.broken.iter().flat_map(|other| {
        let (experiment, role) = (&other.id.experiment, other.id.role.to_lowercase());
        // an experiment may go by another name at HTCondor, and all its roles do then
        let issuer = (*experiment == service.id.experiment).then(|| service.name.issuer());
        let experiments = [experiment.clone(), experiment.to_lowercase()];
        let experiments = experiments.into_iter().chain(issuer.map(str::to_owned));
        experiments.map(move |experiment| format!("{experiment}_{role}"))
    });
    let name = service.name.to_string();
    let all: BTreeSet<String> = whole.chain(broken).filter(|other| *other != name).collect();
    all.into_iter().collect()
}

/// Takes back what the robot of `service` was given: at Vault, and `everywhere` also at credds and on nodes. `told`
/// hears of each step as it ends.
///
/// # Errors
/// A [`Failure`] if nothing could be begun: the state or the Vault's name cannot be used.
pub async fn revoke(
    bystander: &Bystander,
    site: &Site,
    service: &Service,
    everywhere: bool,
    operator: Option<&Operator>,
    told: &mut (dyn FnMut(&Step) + Send),
) -> Result<Revocation, Failure> {
    let world = &bystander.0;
    let snapshot = world.state.snapshot().await;
    let snapshot = snapshot.map_err(|e| Failure::new(Stage::State, "the state directory", &e, false))?;
    let key = service_key(service);
    let node_token = snapshot.node_tokens.get(&key);
    let node_accessor = node_token.map(|token| token.accessor.clone()).unwrap_or_default();
    let case = Case {
        world,
        service,
        key,
        others: others(site, service),
        node_accessor,
    };
    let ticket = world.tickets.of(service).await;
    let mut steps = Vec::new();
    let mut tell = |new: Vec<Step>| {
        new.iter().for_each(&mut *told);
        steps.extend(new);
    };
    let vault = world.vault(&service.vault_server)?;
    tell(vec![case.refresh_token(&vault, ticket.as_ref()).await]);
    if everywhere {
        let known: BTreeSet<String> = snapshot
            .stores
            .values()
            .filter(|s| s.service == case.key)
            .map(|s| s.credd.clone())
            .collect();
        tell(case.credds(known).await);
    }
    tell(vec![case.node_token(&vault).await]);
    if everywhere {
        tell(case.nodes().await);
        tell(case.this_host().await);
    }
    let now = Timestamp::now();
    let logins = snapshot
        .logins
        .get(&case.key)
        .map(Vec::as_slice)
        .unwrap_or_default();
    for login in logins.iter().filter(|login| login.expires > now) {
        tell(vec![case.long_token(&vault, &login.accessor, operator).await]);
    }
    Ok(Revocation {
        service: service.id.to_string(),
        everywhere,
        steps,
    })
}

impl Case<'_> {
    /// With a login of its own, which ends with this: a stolen token is no condition for taking anything back.
    async fn refresh_token(&self, vault: &Client, ticket: Result<&Ticket, &Failure>) -> Step {
        let robot = Robot::new(self.world, self.service, vault.clone());
        let done = async {
            let path = robot.path()?;
            let login = robot.log_in(ticket.map_err(Clone::clone)?).await?;
            // without a read there is no telling whether anything is there, for deleting nothing succeeds as well
            let there = robot.read(&login).await;
            let deleted = vault.forget(&login.token, &path).await;
            robot.give_back(&login).await;
            deleted.map_err(|e| robot.failed(Stage::Revoke, &e))?;
            Ok::<_, Failure>((
                path.path(),
                !matches!(&there, Err(f) if f.kind == "not-onboarded"),
            ))
        };
        match done.await {
            Ok((place, was_there)) => {
                self.world
                    .remember(self.world.state.forget_consent(&self.key).await);
                if was_there {
                    let text = "deleted: nothing can be minted from now on";
                    Step::new(Taken::RefreshToken, place, Ended::Done, text)
                } else {
                    Step::new(Taken::RefreshToken, place, Ended::Nothing, "there was none")
                }
            }
            Err(failure) => {
                let mut step = Step::failed(Taken::RefreshToken, &self.service.vault_server, &failure);
                let name = &self.service.name;
                step.text.push_str(&format!(
                    "; until this is done bearer tokens can be minted; Vault's operators can do it: \
                     bao delete secret/oauth/creds/{}/{}:{}",
                    name.issuer(),
                    self.service.credkey,
                    name.role()
                ));
                step
            }
        }
    }

    /// The node token revokes itself: nobody else needs a right to.
    async fn node_token(&self, vault: &Client) -> Step {
        let place = self.service.vault_server.clone();
        let step = |ended, text: &str| Step::new(Taken::NodeToken, place.clone(), ended, text);
        let token = match self.world.state.node_token(&self.key) {
            Ok(Some(token)) => token,
            Ok(None) => return step(Ended::Nothing, "there is none in the state directory"),
            Err(e) => {
                let failure = Failure::new(Stage::State, &place, &e, false);
                return Step::failed(Taken::NodeToken, place.clone(), &failure);
            }
        };
        let revoked = vault.revoke_self(&token).await;
        tell_revoked(self.service, &self.node_accessor, &revoked);
        let ended = match revoked {
            Ok(()) => step(Ended::Done, "revoked: every copy of it on every node is dead"),
            Err(Error::TokenInvalid { .. }) => step(Ended::Nothing, "it was dead already"),
            Err(e) => {
                let failure = Failure::new(Stage::Revoke, &place, &e, e.retryable());
                return Step::failed(Taken::NodeToken, place.clone(), &failure);
            }
        };
        // the token is what a repetition would need, so it goes last
        let removed = self.world.state.remove_node_token(&self.key);
        self.world.remember(removed);
        self.world
            .remember(self.world.state.forget_node_token(&self.key).await);
        forget_bearers(self.world, self.service, &self.key);
        ended
    }

    /// Its files on this host. What a command did with a secret is not ours to undo.
    async fn this_host(&self) -> Vec<Step> {
        let world = self.world;
        let files = match local_files(world, self.service) {
            Ok(files) => files,
            Err(failure) => return vec![Step::failed(Taken::File, "this host", &failure)],
        };
        let mut steps = Vec::new();
        for (_, owner, file) in files {
            let place = format!("this host:{}", file.path);
            let taken = async {
                let limits = world.ssh_limits;
                let owner = owner_uid(owner).await?;
                let here = Here { owner, limits };
                let failed =
                    |e: &distribute::FileError| Failure::new(Stage::Revoke, "this host", e, e.retryable());
                let results = here.place(std::slice::from_ref(&file), Mode::Remove).await;
                let results =
                    results.map_err(|e| Failure::new(Stage::Revoke, "this host", &e, e.retryable()))?;
                results
                    .files
                    .into_iter()
                    .next()
                    .map_or(Ok(Placed::Unchanged), |one| {
                        one.map(|l| l.placed).map_err(|e| failed(&e))
                    })
            };
            steps.push(match taken.await {
                Ok(placed) => {
                    let forgotten = world.state.forget_push(&self.key, HERE, &file.path).await;
                    world.remember(forgotten);
                    match placed {
                        Placed::Removed => Step::new(Taken::File, place, Ended::Done, "removed"),
                        _ => Step::new(Taken::File, place, Ended::Nothing, "there was none"),
                    }
                }
                Err(failure) => Step::failed(Taken::File, place, &failure),
            });
        }
        steps
    }

    async fn nodes(&self) -> Vec<Step> {
        let each = self.service.nodes.iter().map(|node| self.node(node));
        join_all(each).await.into_iter().flatten().collect()
    }

    async fn node(&self, node: &str) -> Vec<Step> {
        let (service, world) = (self.service, self.world);
        let failed = |failure: &Failure| vec![Step::failed(Taken::File, node, failure)];
        let destinations = world.uid(service).and_then(|uid| {
            service
                .destinations_on(node, uid)
                .map_err(|e| Failure::new(Stage::Configuration, service.account.clone(), &e, false))
        });
        let files: Vec<File> = match destinations {
            Ok(all) => all
                .into_iter()
                .map(|d| File {
                    path: d.path,
                    content: SecretBytes::new(Vec::new()),
                    mode: d.mode,
                })
                .collect(),
            Err(failure) => return failed(&failure),
        };
        let address = node_address(world, node, service).await;
        let report =
            match distribute::place(&world.gate, &address, &files, Mode::Remove, &world.ssh_limits).await {
                Ok(report) => report,
                Err(e) => return failed(&Failure::new(Stage::Revoke, node, &e, e.retryable())),
            };
        let mut steps = Vec::new();
        for (file, landed) in files.iter().zip(report.files) {
            let place = format!("{node}:{}", file.path);
            steps.push(match landed {
                Ok(landed) => {
                    let forgotten = world.state.forget_push(&self.key, node, &file.path).await;
                    world.remember(forgotten);
                    match landed.placed {
                        Placed::Removed => Step::new(Taken::File, place, Ended::Done, "removed"),
                        _ => Step::new(Taken::File, place, Ended::Nothing, "there was none"),
                    }
                }
                Err(e) => {
                    let failure = Failure::new(Stage::Revoke, node, &e, e.retryable());
                    Step::failed(Taken::File, place, &failure)
                }
            });
        }
        steps
    }

    async fn long_token(&self, vault: &Client, accessor: &str, operator: Option<&Operator>) -> Step {
        let place = format!("accessor {accessor}");
        let by_hand = format!("bao token revoke -accessor {accessor}");
        let Some(operator) = operator else {
            let text = format!("may still be alive, and only Vault's operators may revoke it: {by_hand}");
            return Step::new(Taken::LongToken, place, Ended::ForOperators, text);
        };
        let done = async {
            let alive = vault.lookup_accessor(operator, accessor).await?;
            if alive.is_some() {
                vault.revoke_accessor(operator, accessor).await?;
            }
            Ok::<_, Error>(alive.is_some())
        };
        match done.await {
            Ok(alive) => {
                let forgotten = self.world.state.forget_login(&self.key, accessor).await;
                self.world.remember(forgotten);
                if alive {
                    let text = "revoked with everything below it";
                    Step::new(Taken::LongToken, place, Ended::Done, text)
                } else {
                    Step::new(Taken::LongToken, place, Ended::Nothing, "it was dead already")
                }
            }
            Err(e) => {
                let failure = Failure::new(Stage::Revoke, &place, &e, e.retryable());
                let mut step = Step::failed(Taken::LongToken, place, &failure);
                step.text.push_str(&format!("; by hand: {by_hand}"));
                step
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_service_is_another_service() {
        let text = "vaultServer: vault.test\ncondorCollectorHost: cm.test\n\
                    kerberosPrincipalPattern: '{{.Account}}/robot@TEST'\nexperiments:\n  Dune:\n    experimentOverride: neutrino\n    \
                    roles:\n      production:\n        account: dunepro\n      analysis:\n        account: dunepro\n      \
                    production_Test:\n        account: dunepro\n        desiredUIDOverride: none\n";
        let path = std::path::Path::new("managedTokens.yml");
        let site = config::parse(path, text, &config::Env::default()).unwrap().site;
        assert_eq!(site.broken.len(), 1, "{:#?}", site.broken);
        let service = |role: &str| site.services.iter().find(|s| s.id.role == role).unwrap();
        assert_eq!(
            others(&site, service("production")),
            [
                "Dune_production_test",
                "dune_production_test",
                "neutrino_analysis",
                "neutrino_production_test"
            ]
        );
    }
}
