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

/// What was found without saying who asks, and whether the collectors want to know that.
type Slot = Arc<OnceCell<(Result<Vec<Found>, Failure>, bool)>>;

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

    /// The credds of the service. Collectors are asked as nobody, which most answer; `reader` says how else, and one robot that
    /// cannot say it does not speak for another.
    pub(crate) async fn of(
        &self,
        service: &Service,
        reader: impl Future<Output = Result<Options, Failure>>,
    ) -> Result<Vec<Found>, Failure> {
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
        let pool = self.pool.of(&question.collectors);
        // on the heap: with the conversations inside, callers' futures would outgrow small stacks
        let (found, wants_identity) = slot.get_or_init(|| Box::pin(ask(&question, &pool))).await.clone();
        if !wants_identity {
            return found;
        }
        Box::pin(ask(&question, &pool.with(reader.await?))).await.0
    }
}

async fn ask(q: &Question, pool: &Pool) -> (Result<Vec<Found>, Failure>, bool) {
    let mut wants_identity = false;
    let found = find(q, pool, &mut wants_identity).await;
    (found, wants_identity)
}

async fn find(q: &Question, pool: &Pool, wants_identity: &mut bool) -> Result<Vec<Found>, Failure> {
    if q.credds.is_empty() && q.collectors.is_empty() {
        return Ok(Vec::new());
    }
    if q.credds.is_empty() {
        return discover(q, pool, wants_identity).await;
    }
    let mut found = Vec::new();
    for name in &q.credds {
        let address = pool.locate(name).await;
        *wants_identity |= address.as_ref().is_err_and(credd_client::Error::wants_identity);
        found.push(address.map_err(|e| {
            (
                name.clone(),
                Failure::at_credd(Stage::Discover, q.collectors.join(", "), &e),
            )
        }));
    }
    Ok(found)
}

async fn discover(q: &Question, pool: &Pool, wants_identity: &mut bool) -> Result<Vec<Found>, Failure> {
    let peer = q.collectors.join(", ");
    let schedds = pool.schedds(q.constraint.as_deref()).await.map_err(|e| {
        *wants_identity = e.wants_identity();
        Failure::at_credd(Stage::Discover, peer.clone(), &e)
    })?;
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

/// What the edge of a found credd is called.
pub(crate) fn name(found: &Found) -> &str {
    match found {
        Ok(address) => address.name(),
        Err((name, _)) => name,
    }
}
