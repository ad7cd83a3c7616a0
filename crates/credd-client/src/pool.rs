//! A pool: its collectors in order, what they last said, and where that puts schedds and credds (cedar.md 6.2).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as Lock, PoisonError},
    time::Duration,
};

use cedar::{
    classad::Ad,
    commands::collector::{Kind as AdKind, Query},
    sinful::Sinful,
};
use tokio::{sync::Mutex, time::Instant};

use crate::{Collector, CreddAddress, Error, Kind, Options, Stage, deadline::Deadline};

const SCHEDD_ATTRIBUTES: [&str; 5] = ["Name", "Machine", "MyAddress", "CredDIpAddr", "CondorVersion"];
const CREDD_ATTRIBUTES: [&str; 4] = ["Name", "Machine", "MyAddress", "CredDIpAddr"];

/// A schedd as a collector describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedd {
    /// Its name.
    pub name: String,
    /// The host it runs on.
    pub machine: String,
    /// Its version text.
    pub version: Option<String>,
    /// The credd that keeps credentials for its jobs, if one is advertised.
    pub credd: Option<CreddAddress>,
}

/// How long answers are good for. Nothing is kept by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// So long the same question is not asked again.
    pub fresh: Duration,
    /// So long an answer stands in when no collector answers.
    pub stale: Duration,
}

/// What a pool answered.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The ads.
    pub ads: Arc<Vec<Ad>>,
    /// The collector they are from.
    pub collector: String,
    /// How long ago it said so; zero if it was asked just now.
    pub age: Duration,
    /// The collectors that failed before.
    pub failures: Vec<Error>,
}

#[derive(Clone)]
struct Remembered {
    ads: Arc<Vec<Ad>>,
    at: Instant,
}

/// One question to one collector. Whoever asks it while it is being asked waits for that answer.
type Slot = Arc<Mutex<Option<Remembered>>>;

/// The collectors of a pool, in the order to try them. Answers are remembered by collector and query (kind, constraint,
/// projection, limit): one is kept a question, so memory is bounded by the questions asked.
pub struct Pool {
    collectors: Vec<String>,
    options: Options,
    keep: Keep,
    slots: Arc<Slots>,
}

type Slots = Lock<HashMap<(String, Query), Slot>>;

impl Pool {
    /// From entries of `COLLECTOR_HOST`. Nothing is asked yet.
    #[must_use]
    pub fn new(collectors: &[String], keep: Keep, options: Options) -> Self {
        Self {
            collectors: collectors.to_vec(),
            options,
            keep,
            slots: Arc::default(),
        }
    }

    /// The same with other collectors, sharing what each collector said: two lists with a collector in common ask it
    /// the same question once.
    #[must_use]
    pub fn of(&self, collectors: &[String]) -> Self {
        Self {
            collectors: collectors.to_vec(),
            options: self.options.clone(),
            keep: self.keep,
            slots: Arc::clone(&self.slots),
        }
    }

    /// The same on other terms, above all as another reader, sharing what each collector said.
    #[must_use]
    pub fn with(&self, options: Options) -> Self {
        Self {
            options,
            ..self.of(&self.collectors)
        }
    }

    /// The ads that match: a fresh answer if one is remembered, else of the first collector that answers, else the last
    /// good one.
    ///
    /// # Errors
    /// The collector's [`Error`] if there is one only; [`Kind::NoCollector`] with all of theirs otherwise.
    ///
    /// # Cancel safety
    /// Cancel safe: connections are dropped.
    pub async fn ads(&self, query: &Query) -> Result<Answered, Error> {
        self.ads_within(query, Deadline::after(self.options.total)).await
    }

    async fn ads_within(&self, query: &Query, deadline: Deadline) -> Result<Answered, Error> {
        // one that is down is not waited for as long as another has said enough
        if let Some(fresh) = self.youngest(query, self.keep.fresh) {
            return Ok(fresh);
        }
        let mut failures = Vec::new();
        for collector in &self.collectors {
            match self.ask(collector, query, deadline).await {
                Ok(Remembered { ads, at }) => {
                    return Ok(Answered {
                        ads,
                        collector: collector.clone(),
                        age: at.elapsed(),
                        failures,
                    });
                }
                Err(error) => failures.push(error),
            }
        }
        // a query that is wrong stays wrong, whatever an earlier one got
        let rejected = failures
            .iter()
            .any(|error| matches!(error.kind, Kind::ConstraintRejected { .. }));
        match self.youngest(query, self.keep.stale).filter(|_| !rejected) {
            Some(stale) => {
                tracing::warn!(collector = %stale.collector, age = stale.age.as_secs(), "no collector answers: its last answer stands in");
                Ok(Answered { failures, ..stale })
            }
            None => Err(combined(failures)),
        }
    }

    async fn ask(&self, collector: &str, query: &Query, deadline: Deadline) -> Result<Remembered, Error> {
        let slot = self.slot(collector, query);
        let mut slot = slot.lock().await;
        if let Some(known) = slot.as_ref().filter(|known| known.at.elapsed() < self.keep.fresh) {
            return Ok(known.clone());
        }
        let asked = Collector::new(collector).map_err(|error| {
            Error::new(
                &format!("collector {}", collector.trim()),
                Stage::Preparing,
                error,
            )
        })?;
        let ads = asked.query_within(query, &self.options, deadline).await?;
        let known = Remembered {
            ads: Arc::new(ads),
            at: Instant::now(),
        };
        if self.keep.stale.max(self.keep.fresh) > Duration::ZERO {
            *slot = Some(known.clone());
        }
        Ok(known)
    }

    fn slot(&self, collector: &str, query: &Query) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots
            .entry((collector.to_owned(), query.clone()))
            .or_default()
            .clone()
    }

    /// The youngest remembered answer that is younger than `limit`. A question that is being asked right now has none.
    fn youngest(&self, query: &Query, limit: Duration) -> Option<Answered> {
        let known = |collector: &String| {
            let known = self.slot(collector, query).try_lock().ok()?.clone()?;
            let age = known.at.elapsed();
            (age < limit).then(|| Answered {
                ads: known.ads,
                collector: collector.clone(),
                age,
                failures: Vec::new(),
            })
        };
        self.collectors
            .iter()
            .filter_map(known)
            .min_by_key(|answered| answered.age)
    }

    /// The schedds that match `constraint`, each with its credd.
    ///
    /// # Errors
    /// As [`Pool::ads`]; [`Kind::ConstraintRejected`] for what a collector cannot parse.
    ///
    /// # Cancel safety
    /// Cancel safe: connections are dropped.
    pub async fn schedds(&self, constraint: Option<&str>) -> Result<Vec<Schedd>, Error> {
        let deadline = Deadline::after(self.options.total);
        let query = Query::all(AdKind::Schedd, &SCHEDD_ATTRIBUTES).matching(constraint);
        let answered = self.ads_within(&query, deadline).await?;
        let mut schedds: Vec<Schedd> = answered.ads.iter().filter_map(schedd).collect();
        // schedds from 25.4 on name their credd themselves
        if schedds.iter().any(|schedd| schedd.credd.is_none()) {
            let all = self
                .ads_within(&Query::all(AdKind::Credd, &CREDD_ATTRIBUTES), deadline)
                .await?;
            let credds: Vec<_> = all.ads.iter().filter_map(credd).collect();
            for schedd in schedds.iter_mut().filter(|schedd| schedd.credd.is_none()) {
                schedd.credd = belonging(schedd, &credds).cloned();
            }
        }
        Ok(schedds)
    }

    /// The credd called `name`: advertised under that name or, failing that, running on that host. `host:port` and
    /// sinful strings are taken as they are, without asking a collector.
    ///
    /// # Errors
    /// [`Kind::NoSuchCredd`] if the collectors know none; else as [`Pool::ads`].
    ///
    /// # Cancel safety
    /// Cancel safe: connections are dropped.
    pub async fn locate(&self, name: &str) -> Result<CreddAddress, Error> {
        let name = name.trim();
        if name.starts_with('<') || name.contains(':') {
            return CreddAddress::from_entry(name)
                .map_err(|error| Error::new(&format!("credd {name}"), Stage::Preparing, error));
        }
        let deadline = Deadline::after(self.options.total);
        let query = Query::all(AdKind::Credd, &CREDD_ATTRIBUTES);
        let wanted = Schedd {
            name: name.to_owned(),
            machine: name.to_owned(),
            version: None,
            credd: None,
        };
        let mut failures = Vec::new();
        for collector in &self.collectors {
            match self.ask(collector, &query, deadline).await {
                Ok(known) => {
                    let credds: Vec<_> = known.ads.iter().filter_map(credd).collect();
                    if let Some(credd) = belonging(&wanted, &credds) {
                        return Ok(credd.clone());
                    }
                    let kind = Kind::NoSuchCredd {
                        name: name.to_owned(),
                    };
                    failures.push(Error::new(
                        &format!("collector {collector}"),
                        Stage::Commanding,
                        kind,
                    ));
                }
                Err(error) => failures.push(error),
            }
        }
        Err(combined(failures))
    }
}

/// A name as daemons have them: printable ASCII without blanks. Names end up in logs, on terminals and in Kerberos
/// principals, and whoever advertises an ad chooses them; an ad with another name is left out.
fn word<'a>(ad: &'a Ad, attribute: &str) -> Option<&'a str> {
    let text = ad.text(attribute)?;
    let good = !text.is_empty() && text.len() <= 512 && text.bytes().all(|b| b.is_ascii_graphic());
    if !good {
        tracing::warn!(attribute, text = ?text.chars().take(80).collect::<String>(), "an ad's name is none, it is left out");
    }
    good.then_some(text)
}

fn schedd(ad: &Ad) -> Option<Schedd> {
    let name = word(ad, "Name")?.to_owned();
    let machine = word(ad, "Machine").unwrap_or(&name).to_owned();
    let version = ad.text("CondorVersion").map(str::to_owned);
    let own: Option<Sinful> = ad.text("CredDIpAddr").and_then(|text| text.parse().ok());
    let credd = own.map(|sinful| CreddAddress::new(name.clone(), Some(machine.clone()), sinful));
    Some(Schedd {
        name,
        machine,
        version,
        credd,
    })
}

fn credd(ad: &Ad) -> Option<CreddAddress> {
    let name = word(ad, "Name")?.to_owned();
    let sinful = ["CredDIpAddr", "MyAddress"]
        .into_iter()
        .find_map(|key| ad.text(key)?.parse().ok())?;
    Some(CreddAddress::new(
        name,
        word(ad, "Machine").map(str::to_owned),
        sinful,
    ))
}

/// The credd called like the schedd, else the one on the same host.
fn belonging<'a>(schedd: &Schedd, credds: &'a [CreddAddress]) -> Option<&'a CreddAddress> {
    let named = credds
        .iter()
        .find(|credd| credd.name.eq_ignore_ascii_case(&schedd.name));
    named.or_else(|| {
        let same = |machine: &String| machine.eq_ignore_ascii_case(&schedd.machine);
        credds
            .iter()
            .find(|credd| credd.machine.as_ref().is_some_and(same))
    })
}

/// The schedds that match `constraint`, each with its credd, from the first collector that answers. Nothing is
/// remembered: [`Pool`] does.
///
/// # Errors
/// The collector's [`Error`] if there is one only; [`Kind::NoCollector`] with all of theirs otherwise.
///
/// # Cancel safety
/// Cancel safe: connections are dropped.
pub async fn schedds(
    collectors: &[String],
    constraint: Option<&str>,
    options: &Options,
) -> Result<Vec<Schedd>, Error> {
    Pool::new(collectors, Keep::default(), options.clone())
        .schedds(constraint)
        .await
}

/// [`Pool::locate`], without remembering.
///
/// # Errors
/// As [`Pool::locate`].
///
/// # Cancel safety
/// Cancel safe: connections are dropped.
pub async fn locate(collectors: &[String], name: &str, options: &Options) -> Result<CreddAddress, Error> {
    Pool::new(collectors, Keep::default(), options.clone())
        .locate(name)
        .await
}

fn combined(mut failures: Vec<Error>) -> Error {
    match failures.pop() {
        Some(only) if failures.is_empty() => only,
        Some(last) => {
            failures.push(last);
            Error::new(&"every collector", Stage::Commanding, Kind::NoCollector(failures))
        }
        None => Error::new(&"every collector", Stage::Preparing, Kind::NoCollector(failures)),
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
