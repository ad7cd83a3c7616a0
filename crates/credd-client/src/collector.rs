//! Asking collectors where schedds and credds are (cedar.md 6.1, 6.2).

use std::fmt;

use cedar::{
    classad::Ad,
    commands::collector::{Answer, Kind as AdKind, Query},
    security::Wish,
    sinful::{BadAddress, Sinful},
    wire::Mode,
};

use crate::{
    CreddAddress, Error, Kind, Options, Stage,
    address::Peer,
    conversation::{Conversation, Plan},
    deadline::Deadline,
};

/// Where collectors listen.
const COLLECTOR_PORT: u16 = 9618;

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

/// A collector: an entry of `COLLECTOR_HOST`.
#[derive(Debug, Clone)]
pub struct Collector {
    peer: Peer,
}

impl Collector {
    /// From `host[:port][?sock=id]` or a sinful string; the default port is 9618.
    ///
    /// # Errors
    /// [`BadAddress`].
    pub fn new(entry: &str) -> Result<Self, BadAddress> {
        let sinful = Sinful::from_entry(entry, COLLECTOR_PORT)?;
        Ok(Self {
            peer: Peer::new(format!("collector {}", entry.trim()), sinful, None),
        })
    }

    /// The schedds that match `constraint`, each with its credd.
    ///
    /// # Errors
    /// [`Error`]; [`Kind::ConstraintRejected`] for what the collector cannot parse.
    ///
    /// # Cancel safety
    /// Cancel safe: connections are dropped.
    pub async fn schedds(&self, constraint: Option<&str>, options: &Options) -> Result<Vec<Schedd>, Error> {
        self.schedds_within(constraint, options, Deadline::after(options.total))
            .await
    }

    async fn schedds_within(
        &self,
        constraint: Option<&str>,
        options: &Options,
        deadline: Deadline,
    ) -> Result<Vec<Schedd>, Error> {
        let query = Query {
            kind: AdKind::Schedd,
            constraint: constraint.map(str::to_owned),
            projection: SCHEDD_ATTRIBUTES.to_vec(),
            limit: None,
        };
        let ads = self.query(&query, options, deadline).await?;
        let mut schedds: Vec<Schedd> = ads.iter().filter_map(schedd).collect();
        // schedds from 25.4 on name their credd themselves
        if schedds.iter().any(|schedd| schedd.credd.is_none()) {
            let credds = self.credds(options, deadline).await?;
            for schedd in schedds.iter_mut().filter(|schedd| schedd.credd.is_none()) {
                schedd.credd = belonging(schedd, &credds).cloned();
            }
        }
        Ok(schedds)
    }

    async fn credds(&self, options: &Options, deadline: Deadline) -> Result<Vec<CreddAddress>, Error> {
        let query = Query {
            kind: AdKind::Credd,
            constraint: None,
            projection: CREDD_ATTRIBUTES.to_vec(),
            limit: None,
        };
        let ads = self.query(&query, options, deadline).await?;
        Ok(ads.iter().filter_map(credd).collect())
    }

    async fn query(&self, query: &Query, options: &Options, deadline: Deadline) -> Result<Vec<Ad>, Error> {
        match self.query_as(query, options, deadline, Wish::READING).await {
            // the pool prefers what we cannot do; maybe it does without
            Err(error) if is_about_security(&error) => self
                .query_as(query, options, deadline, Wish::ANONYMOUS)
                .await
                .map_err(|_| error),
            outcome => outcome,
        }
    }

    async fn query_as(
        &self,
        query: &Query,
        options: &Options,
        deadline: Deadline,
        wish: Wish,
    ) -> Result<Vec<Ad>, Error> {
        let plan = Plan {
            peer: &self.peer,
            options,
            deadline,
            command: query.kind.command(),
            wish,
            identity: options.reader.as_ref(),
        };
        let Conversation {
            mut framed,
            established,
        } = plan.open(None).await?;
        let mode = if established.is_encrypted() {
            Mode::Sealed
        } else {
            Mode::Plain
        };
        let failed = |kind: Kind| Error::new(&self.peer, Stage::Commanding, kind);
        let message = query.encode(mode).map_err(|error| failed(error.into()))?;
        let stretch = deadline.stage(options.step);
        plan.send(&mut framed, &message, stretch).await?;
        let mut answer = Answer::new(mode);
        let mut ads = Vec::new();
        while !answer.is_complete() {
            let chunk = stretch
                .run(framed.chunk())
                .await
                .map_err(|elapsed| failed(elapsed.into()))?;
            let chunk = chunk.map_err(|broken| match (Kind::from(broken), &query.constraint) {
                // it says nothing, it just closes
                (Kind::Closed, Some(constraint)) if ads.is_empty() => failed(Kind::ConstraintRejected {
                    constraint: constraint.clone(),
                }),
                (kind, _) => failed(kind),
            })?;
            ads.extend(answer.receive(&chunk).map_err(|error| failed(error.into()))?);
        }
        tracing::debug!(peer = %self.peer, kind = ?query.kind, ads = ads.len(), "collector answered");
        Ok(ads)
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

fn is_about_security(error: &Error) -> bool {
    use cedar::Error::{MethodsFailed, NoCommonMethod, NotEncrypted};
    matches!(
        error.kind,
        Kind::Cedar(NoCommonMethod { .. } | NotEncrypted { .. } | MethodsFailed(_))
    )
}

fn schedd(ad: &Ad) -> Option<Schedd> {
    let name = ad.text("Name")?.to_owned();
    let machine = ad.text("Machine").unwrap_or(&name).to_owned();
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
    let name = ad.text("Name")?.to_owned();
    let sinful = ["CredDIpAddr", "MyAddress"]
        .into_iter()
        .find_map(|key| ad.text(key)?.parse().ok())?;
    Some(CreddAddress::new(
        name,
        ad.text("Machine").map(str::to_owned),
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

/// The schedds that match `constraint`, each with its credd, from the first collector that answers.
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
    let deadline = Deadline::after(options.total);
    let mut failures = Vec::new();
    for entry in collectors {
        let asked = match collector(entry) {
            Ok(collector) => collector.schedds_within(constraint, options, deadline).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(schedds) => return Ok(schedds),
            Err(error) => failures.push(error),
        }
    }
    Err(combined(failures))
}

/// The credd called `name`: advertised under that name or, failing that, running on that host. `host:port` and
/// sinful strings are taken as they are, without asking a collector.
///
/// # Errors
/// [`Kind::NoSuchCredd`] if the collectors know none; else as [`schedds`].
///
/// # Cancel safety
/// Cancel safe: connections are dropped.
pub async fn locate(collectors: &[String], name: &str, options: &Options) -> Result<CreddAddress, Error> {
    let name = name.trim();
    if name.starts_with('<') || name.contains(':') {
        return CreddAddress::from_entry(name)
            .map_err(|error| Error::new(&format!("credd {name}"), Stage::Preparing, error));
    }
    let deadline = Deadline::after(options.total);
    let mut failures = Vec::new();
    for entry in collectors {
        let asked = match collector(entry) {
            Ok(collector) => collector.credds(options, deadline).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(credds) => {
                let wanted = Schedd {
                    name: name.to_owned(),
                    machine: name.to_owned(),
                    version: None,
                    credd: None,
                };
                if let Some(credd) = belonging(&wanted, &credds) {
                    return Ok(credd.clone());
                }
                let kind = Kind::NoSuchCredd {
                    name: name.to_owned(),
                };
                failures.push(Error::new(&format!("collector {entry}"), Stage::Commanding, kind));
            }
            Err(error) => failures.push(error),
        }
    }
    Err(combined(failures))
}

fn collector(entry: &str) -> Result<Collector, Error> {
    Collector::new(entry)
        .map_err(|error| Error::new(&format!("collector {}", entry.trim()), Stage::Preparing, error))
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
#[path = "collector_tests.rs"]
mod tests;
