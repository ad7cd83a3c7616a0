//! Which credds a service's tokens go to, found once for all services that ask the same question.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use config::Service;
use credd_client::{CreddAddress, Keep, Options, Pool};
use tokio::sync::OnceCell;

use crate::failure::{Failure, Stage};

/// One credd, or why it cannot be addressed.
pub(crate) type Found = Result<CreddAddress, (String, Failure)>;

/// The question: which collectors, which schedds of theirs, or which credds by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    collectors: Vec<String>,
    constraint: Option<String>,
    credds: Vec<String>,
}

/// A run asks each question once; what a collector said stands in for the rest of the day, should a process live so
/// long and no collector answer any more.
const KEEP: Keep = Keep {
    fresh: Duration::from_secs(300),
    stale: Duration::from_secs(86_400),
};

type Slot = Arc<OnceCell<Result<Vec<Found>, Failure>>>;

/// Answers each question once a run. What collectors say is kept by collector, constraint and projection, however the
/// lists of collectors overlap.
pub(crate) struct Credds {
    pool: Pool,
    slots: Mutex<HashMap<Question, Slot>>,
}

impl Credds {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            pool: Pool::new(&[], KEEP, options),
            slots: Mutex::default(),
        }
    }

    /// The credds of the service.
    pub(crate) async fn of(&self, service: &Service) -> Result<Vec<Found>, Failure> {
        if !service.store {
            return Ok(Vec::new());
        }
        let question = Question {
            collectors: service.collectors.clone(),
            constraint: service.schedd_constraint.clone(),
            credds: service.credds.clone(),
        };
        let slot = self
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(question.clone())
            .or_default()
            .clone();
        slot.get_or_init(|| self.ask(question)).await.clone()
    }

    async fn ask(&self, q: Question) -> Result<Vec<Found>, Failure> {
        if q.credds.is_empty() && q.collectors.is_empty() {
            return Ok(Vec::new());
        }
        if q.credds.is_empty() {
            return self.discover(&q).await;
        }
        let pool = self.pool.of(&q.collectors);
        let mut found = Vec::new();
        for name in &q.credds {
            let address = pool.locate(name).await;
            found.push(address.map_err(|e| {
                (
                    name.clone(),
                    Failure::at_credd(Stage::Discover, q.collectors.join(", "), &e),
                )
            }));
        }
        Ok(found)
    }

    async fn discover(&self, q: &Question) -> Result<Vec<Found>, Failure> {
        let peer = q.collectors.join(", ");
        let schedds = self
            .pool
            .of(&q.collectors)
            .schedds(q.constraint.as_deref())
            .await
            .map_err(|e| Failure::at_credd(Stage::Discover, peer.clone(), &e))?;
        if schedds.is_empty() {
            let which = q.constraint.as_deref().unwrap_or("true");
            return Err(Failure::text(
                Stage::Discover,
                "no-schedd",
                peer,
                format!("no schedd matches {which}; check condorScheddConstraint"),
            ));
        }
        let mut found: Vec<Found> = Vec::new();
        for schedd in schedds {
            let next = schedd.credd.ok_or_else(|| {
                let text = "this schedd advertises no credd and no credd ad names its machine; \
                            see that condor_credd runs there";
                (
                    schedd.name.clone(),
                    Failure::text(Stage::Discover, "no-credd", peer.clone(), text),
                )
            });
            // Several schedds of one access point share its credd.
            let known = next.as_ref().ok().is_some_and(|new| {
                found
                    .iter()
                    .any(|old| old.as_ref().is_ok_and(|old| old.name() == new.name()))
            });
            if !known {
                found.push(next);
            }
        }
        Ok(found)
    }
}

/// What the edge of a found credd is called.
pub(crate) fn name(found: &Found) -> &str {
    match found {
        Ok(address) => address.name(),
        Err((name, _)) => name,
    }
}
