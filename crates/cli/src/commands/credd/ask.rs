//! The credds of each robot, all asked at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use credd_client::{Credd, CreddAddress, Entry, Held, Keep, Kind, Options, Pool, Restriction};
use jiff::{SignedDuration, Timestamp};
use kerberos::{Gss, Keytab, Ticket};
use pipeline::CondorRobot;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    names::{Pattern, split},
    robots::Robot,
};

/// Connections at once: credds answer one after another anyway.
const AT_ONCE: usize = 32;

/// Threads for GSSAPI, which blocks.
const GSS_THREADS: usize = 8;

/// One answer serves all robots of a command.
const ONE_COMMAND: Keep = Keep {
    fresh: Duration::from_secs(600),
    stale: Duration::from_secs(600),
};

/// Why a place has no answer.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// `behind-broker` for a daemon that is reachable through CCB only, `keytab`, `ticket`,
    /// `configuration`, `no-credd`, or `credd`.
    pub(crate) kind: &'static str,
    /// The whole chain of causes.
    pub(crate) text: String,
    /// What to do.
    pub(crate) advice: Option<&'static str>,
}

impl Failure {
    fn new(kind: &'static str, error: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            text: format!("{:#}", error.into()),
            advice: None,
        }
    }

    /// What the robot proves itself with could not be had.
    fn gathering(failure: pipeline::Failure) -> Self {
        let kind = match failure.kind.as_str() {
            "keytab" => "keytab",
            "ticket" => "ticket",
            _ => "configuration",
        };
        Self {
            kind,
            text: failure.text,
            advice: None,
        }
    }

    fn credd(error: credd_client::Error) -> Self {
        use credd_client::BadAddress::Broker;
        let advice = error.advice();
        let kind = match error.kind {
            Kind::Address(Broker { .. }) => "behind-broker",
            _ => "credd",
        };
        Self {
            advice,
            ..Self::new(kind, error)
        }
    }
}

pub(crate) type Answer<T> = Result<T, Failure>;

/// One robot at one credd.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    robot: Arc<Robot>,
    credd: Answer<Arc<Credd>>,
    /// The credd's name; the collectors where it was not found.
    name: String,
}

/// One credential of a listing.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) entry: Entry,
    /// The configured service it belongs to, and its handle.
    pub(crate) service: Option<(String, Option<String>)>,
}

/// A credential asked for by name.
#[derive(Debug, Clone)]
pub(crate) struct Queried {
    pub(crate) name: String,
    pub(crate) held: Held,
}

/// What became of a credential that a pattern or name chose.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// To be deleted, but --yes was not given.
    Would,
    Deleted,
    /// It was stored or renewed while we looked.
    Changed,
    Failed(Failure),
}

impl Fate {
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Changed)
    }
}

/// A chosen credential and its fate.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) listed: Listed,
    pub(crate) fate: Fate,
}

impl Place {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn robot(&self) -> &Robot {
        &self.robot
    }

    /// The credd's version and address, as far as known.
    pub(crate) fn about(&self) -> (Option<String>, Option<String>) {
        match &self.credd {
            Ok(credd) => (credd.server_version(), Some(credd.address().sinful().to_string())),
            Err(_) => (None, None),
        }
    }

    fn credd(&self) -> Answer<&Credd> {
        self.credd.as_deref().map_err(Clone::clone)
    }

    /// What is there, as far as it was asked for.
    pub(crate) async fn listing(&self) -> Answer<Vec<Listed>> {
        let entries = self
            .credd()?
            .list(&self.robot.account)
            .await
            .map_err(Failure::credd)?;
        let robot = &self.robot;
        let listed = entries.into_iter().map(|entry| {
            let service = split(&entry.name, robot.services.iter().map(String::as_str));
            let service = service.map(|(service, handle)| (service.to_owned(), handle.map(str::to_owned)));
            Listed { entry, service }
        });
        Ok(listed
            .filter(|listed| match (&robot.chosen, &listed.service) {
                (None, _) => true,
                (Some(chosen), Some((service, _))) => chosen.contains(service),
                (Some(_), None) => false,
            })
            .collect())
    }

    /// The state of the named credentials, or of the chosen services' own.
    pub(crate) async fn query(&self, names: &[String], restriction: &Restriction) -> Answer<Vec<Queried>> {
        let robot = &self.robot;
        let names: Vec<String> = if names.is_empty() {
            robot
                .chosen
                .as_ref()
                .unwrap_or(&robot.services)
                .iter()
                .cloned()
                .collect()
        } else {
            names.to_vec()
        };
        let credd = self.credd()?;
        let mut all = Vec::new();
        for name in names {
            let held = credd
                .query_restricted(&robot.account, &name, None, restriction)
                .await
                .map_err(Failure::credd)?;
            all.push(Queried { name, held });
        }
        Ok(all)
    }

    /// Deletes what the names choose and is old enough, or only says so.
    pub(crate) async fn delete(
        &self,
        names: &[Pattern],
        min_age: SignedDuration,
        yes: bool,
        now: Timestamp,
    ) -> Answer<Vec<Chosen>> {
        let mut all = Vec::new();
        for listed in self.listing().await? {
            let own = listed
                .service
                .as_ref()
                .is_some_and(|(_, handle)| handle.is_none());
            let named = names
                .iter()
                .any(|name| name.matches(&listed.entry.name) && (name.is_exact() || !own));
            let stored = listed.entry.top.or(listed.entry.used);
            let old = stored.is_some_and(|stored| now.duration_since(stored) >= min_age);
            if named && old {
                let fate = if yes {
                    self.delete_one(&listed.entry).await
                } else {
                    Fate::Would
                };
                all.push(Chosen { listed, fate });
            }
        }
        Ok(all)
    }

    async fn delete_one(&self, entry: &Entry) -> Fate {
        let delete = async {
            let credd = self.credd()?;
            let (account, name) = (&self.robot.account, &entry.name);
            // somebody may want it just now
            let held = credd.query(account, name, None).await.map_err(Failure::credd)?;
            if held.top != entry.top {
                return Ok(Fate::Changed);
            }
            credd.delete(account, name, None).await.map_err(Failure::credd)?;
            Ok(Fate::Deleted)
        };
        delete.await.unwrap_or_else(Fate::Failed)
    }
}

/// All robots at all their credds.
pub(crate) struct Places(Vec<Place>);

impl Places {
    /// Gets the robots' tickets and finds their credds, of which `only` counts.
    pub(crate) async fn find(robots: Vec<Robot>, only: &[String]) -> Self {
        let gss = Gss::new(GSS_THREADS);
        let mut pools: HashMap<Vec<String>, Arc<Pool>> = HashMap::new();
        let mut work = JoinSet::new();
        for (turn, robot) in robots.into_iter().enumerate() {
            let pool = pools
                .entry(robot.collectors.clone())
                .or_insert_with(|| Arc::new(Pool::new(&robot.collectors, ONE_COMMAND, Options::default())))
                .clone();
            let (gss, only) = (gss.clone(), only.to_vec());
            work.spawn(async move { (turn, at_credds(Arc::new(robot), &gss, &pool, &only).await) });
        }
        let mut found = work.join_all().await;
        found.sort_by_key(|(turn, _)| *turn);
        Self(found.into_iter().flat_map(|(_, places)| places).collect())
    }

    /// Does `work` at every place, all at once, and keeps their order.
    pub(crate) async fn each<T, F>(self, work: impl Fn(Place) -> F) -> Vec<(Place, Answer<T>)>
    where
        T: Send + 'static,
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut running = JoinSet::new();
        for (turn, place) in self.0.into_iter().enumerate() {
            let (gate, job) = (gate.clone(), work(place.clone()));
            running.spawn(async move {
                // never closed: an error would mean no limit, not no work
                let _permit = gate.acquire().await.ok();
                (turn, place, job.await)
            });
        }
        let mut all = running.join_all().await;
        all.sort_by_key(|(turn, _, _)| *turn);
        all.into_iter()
            .map(|(_, place, answer)| (place, answer))
            .collect()
    }
}

async fn at_credds(robot: Arc<Robot>, gss: &Gss, pool: &Pool, only: &[String]) -> Vec<Place> {
    let nowhere = |name: String, failure: Failure| Place {
        robot: robot.clone(),
        credd: Err(failure),
        name,
    };
    let ticket = async {
        ticket(&robot, gss).await.map_err(|failure| {
            let stage = pipeline::Stage::Ticket;
            pipeline::Failure::text(stage, failure.kind, robot.principal.to_string(), failure.text)
        })
    };
    let gathered = CondorRobot::gather(&robot.access, &robot.account, gss, Options::default(), ticket).await;
    let prover = match gathered {
        Ok(prover) => prover,
        Err(failure) => return vec![nowhere("-".to_owned(), Failure::gathering(failure))],
    };
    let mut found = match credds(&robot, &pool.with(prover.reads())).await {
        Ok(found) => found,
        Err(failure) => return vec![nowhere(robot.collectors.join(" "), failure)],
    };
    found.retain(|(name, _)| only.is_empty() || only.contains(name));
    for name in only {
        if !found.iter().any(|(known, _)| known == name) {
            let text = "it is none of this robot's credds";
            found.push((name.clone(), Err(Failure::new("no-credd", anyhow::anyhow!(text)))));
        }
    }
    found
        .into_iter()
        .map(|(name, address)| match address {
            Ok(address) => Place {
                robot: robot.clone(),
                credd: Ok(Arc::new(prover.at(address))),
                name,
            },
            Err(failure) => nowhere(name, failure),
        })
        .collect()
}

async fn ticket(robot: &Robot, gss: &Gss) -> Answer<Ticket> {
    let keytab =
        Keytab::open(&robot.keytab, &robot.principal).map_err(|error| Failure::new("keytab", error))?;
    let acquired = tokio::time::timeout(robot.kerberos, gss.acquire(&keytab)).await;
    let ticket = acquired
        .with_context(|| {
            let realm = robot.principal.realm();
            format!("no KDC of {realm} answered within {} s", robot.kerberos.as_secs())
        })
        .map_err(|error| Failure::new("ticket", error))?;
    ticket.map_err(|error| Failure::new("ticket", error))
}

/// By name if the robot's credds are named, else those of the schedds, each once.
async fn credds(robot: &Robot, pool: &Pool) -> Answer<Vec<(String, Answer<CreddAddress>)>> {
    let mut found: Vec<(String, Answer<CreddAddress>)> = Vec::new();
    for name in &robot.credds {
        let address = pool.locate(name).await.map_err(Failure::credd);
        found.push((name.clone(), address));
    }
    if !robot.credds.is_empty() {
        return Ok(found);
    }
    let schedds = pool
        .schedds(robot.constraint.as_deref())
        .await
        .map_err(Failure::credd)?;
    for schedd in schedds {
        let (name, address) = match schedd.credd {
            Some(address) => (address.name().to_owned(), Ok(address)),
            None => {
                let text = format!("no credd is advertised for the schedd {}", schedd.name);
                (schedd.name, Err(Failure::new("no-credd", anyhow::anyhow!(text))))
            }
        };
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, address));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}
