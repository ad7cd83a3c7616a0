//! The runner: all edges of all services at once, within limits, each failing alone.

mod address;
mod apart;
mod credds;
mod known;
mod login;
mod nodes;
mod outputs;
mod planned;
mod planner;
mod push;
mod refresh;
mod remember;
mod tickets;
mod world;

use std::{collections::HashMap, sync::Arc, time::Duration};

use config::{Service, Site};
use credential::Principal;
use jiff::Timestamp;
use state::State;
use tokio::{sync::mpsc, task::JoinSet};

pub use self::known::key as service_key;
pub use self::remember::edge_id;
pub(crate) use self::{
    address::address as node_address,
    credds::name as credd_name,
    login::{PROOF_SECONDS, log_in, secret_path, tell_revoked},
    outputs::{BEARER_PLACE, HERE, forget_bearers, held, local_files, owner_uid},
    planner::Planner,
    push::{COMMAND_PLACE, difference},
    world::{World, quota, trust},
};
use self::{known::Known, outputs::Giver, push::Letter};
use crate::{
    failure::{Failure, Stage},
    ledger::{Ending, Ledger, Progress},
    report::{Outcome, Report, ServiceReport, Target, Traffic},
    selection::Selection,
    stop::{GRACE, Stop},
};

/// Which halves of the way a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Login and credds.
    Refresh,
    /// Nodes, with what is held.
    Push,
    /// Both.
    Run,
}

/// What is asked of a run.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which halves.
    pub what: What,
    /// Which services, credds and nodes.
    pub selection: Selection,
    /// Whether credds and nodes are asked if they still hold what was stored.
    pub verify: bool,
    /// Whether everything is only planned.
    pub dry_run: bool,
}

/// Why a run could not even begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CannotRun {
    /// The state could not be read.
    #[error("what was done before cannot be read")]
    State(#[source] state::Error),
    /// The TLS settings for Vault cannot be honoured.
    #[error("the trust settings for Vault cannot be honoured")]
    Trust(#[source] tls::Error),
}

/// Runs until every edge has ended, or until `stop` was asked for and the grace is over.
///
/// # Errors
/// [`CannotRun`]; what goes wrong at one edge is in the report.
pub async fn run(
    site: Arc<Site>,
    state: State,
    request: Request,
    progress: Arc<dyn Progress>,
    stop: Stop,
) -> Result<Report, CannotRun> {
    let started = Timestamp::now();
    let snapshot = state.snapshot().await.map_err(CannotRun::State)?;
    let services: Vec<Arc<Service>> = site
        .services
        .iter()
        .filter(|s| request.selection.wants(s))
        .cloned()
        .map(Arc::new)
        .collect();
    let mut reports: Vec<ServiceReport> = services.iter().map(|s| blank(s)).collect();
    let broken: Vec<_> = site
        .broken
        .iter()
        .filter(|b| request.selection.wants_broken(b))
        .collect();
    reports.extend(broken.iter().map(|b| ServiceReport {
        experiment: b.id.experiment.clone(),
        role: b.id.role.clone(),
        service: String::new(),
        account: String::new(),
        principal: String::new(),
        edges: Vec::new(),
    }));
    let ledger = Ledger::new(reports, progress);
    if let Some(log) = audit::kept() {
        log.in_run(&ledger.trace_id().to_string());
    }
    for (n, b) in broken.iter().enumerate() {
        let place = site.place(b.at);
        let failure = Failure::text(Stage::Configuration, "configuration", place, b.reason.clone());
        ledger.end(services.len() + n, Target::Setup, Ending::failed(failure));
    }
    let dry_run = request.dry_run;
    let world = Arc::new(World::new(&site, state, request, ledger.clone(), stop.clone()).await?);
    let mut tasks = JoinSet::new();
    let all = known_of_all(&world, services, &snapshot);
    if dry_run && !world.request.verify {
        let of_all = all
            .iter()
            .map(|(index, service, known)| (*index, &**service, &**known));
        planned::write_down(&world, &site, of_all, &snapshot, world.uids()).await;
    } else {
        spawn_all(&world, all, &mut tasks);
    }
    let interrupted = tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => false,
        () = async { stop.wait().await; tokio::time::sleep(GRACE).await } => true,
        () = overdue(&world, site.timeouts.global) => true,
    };
    tasks.abort_all();
    let mut services = ledger.services();
    remember::silenced(&world, &mut services).await;
    if !dry_run {
        remember::outcomes(&world, &services).await;
        nodes::remember(&world).await;
    }
    world.state.close().await;
    let report = Report {
        trace_id: ledger.trace_id(),
        started,
        seconds: ledger.elapsed(),
        interrupted: interrupted || stop.asked(),
        dry_run,
        traffic: Traffic {
            vault_requests: world.vault_requests(),
            stores: world.stores.load(std::sync::atomic::Ordering::Relaxed),
            files_written: world.files_written.load(std::sync::atomic::Ordering::Relaxed),
        },
        shared: ledger.shared(),
        services,
    };
    tracing::info!(
        trace_id = %report.trace_id,
        seconds = report.seconds,
        done = report.count(Outcome::Done),
        fresh = report.count(Outcome::Fresh) + report.count(Outcome::Trusted),
        failed = report.count(Outcome::Failed),
        interrupted = report.interrupted,
        vault_requests = report.traffic.vault_requests,
        "run ended"
    );
    Ok(report)
}

/// Ends when the whole run has taken too long. While Vault's quota lets nothing through, nothing can be done about it: that
/// time does not count. No request waits longer than its quota's patience, so this ends.
async fn overdue(world: &World, limit: Duration) {
    let began = tokio::time::Instant::now();
    loop {
        let until = began + limit + world.held_back();
        if tokio::time::Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

type Begun = (usize, Arc<Service>, Arc<Known>);

/// What is known of each service, those first that have least time left: every limit on the way lets through in the
/// order of asking.
fn known_of_all(world: &World, services: Vec<Arc<Service>>, snapshot: &state::Snapshot) -> Vec<Begun> {
    let mut all: Vec<Begun> = Vec::with_capacity(services.len());
    for (index, service) in services.into_iter().enumerate() {
        let key = known::key(&service);
        let token = match world.state.node_token(&key) {
            Ok(token) => token,
            Err(error) => {
                // A damaged or foreign file holds no token for us; a new one is made and takes its place.
                tracing::warn!(service = %service.id, %error, "the node token in the state directory is not used");
                None
            }
        };
        let known = Known::of(&service, snapshot, token);
        all.push((index, service, Arc::new(known)));
    }
    all.sort_by_key(|(index, service, known)| {
        (known.first_end(service.store, service.wants_node_token()), *index)
    });
    all
}

/// A task per service for the first half, a postman per account for the second.
fn spawn_all(world: &Arc<World>, all: Vec<Begun>, tasks: &mut JoinSet<()>) {
    let mut postmen: HashMap<(String, Principal), mpsc::UnboundedSender<Letter>> = HashMap::new();
    let of_one_robot = |service: &Service| (service.account.clone(), service.principal.clone());
    let mut pushing: HashMap<(String, Principal), usize> = HashMap::new();
    for (_, service, _) in all.iter().filter(|(_, s, _)| !s.nodes.is_empty()) {
        *pushing.entry(of_one_robot(service)).or_default() += 1;
    }
    for (index, service, known) in all {
        let gives = world.request.what != What::Refresh;
        let postman = (gives && !service.nodes.is_empty()).then(|| {
            let robot = of_one_robot(&service);
            let services = pushing.get(&robot).copied().unwrap_or_default();
            postmen
                .entry(robot)
                .or_insert_with(|| {
                    let (tx, rx) = mpsc::unbounded_channel();
                    tasks.spawn(push::postman(world.clone(), services, rx));
                    tx
                })
                .clone()
        });
        let post = if gives && !service.outputs.is_empty() {
            let (tx, rx) = mpsc::unbounded_channel();
            let giver = Giver {
                world: world.clone(),
                index,
                service: service.clone(),
                known: known.clone(),
                postman,
            };
            tasks.spawn(giver.give_out(rx));
            Posting::ThroughOutputs(tx)
        } else {
            postman.map_or(Posting::Nowhere, Posting::ToNodes)
        };
        tasks.spawn(one(world.clone(), index, service, known, post));
    }
}

/// Who takes a service's tokens on from the first half.
enum Posting {
    Nowhere,
    ToNodes(mpsc::UnboundedSender<Letter>),
    ThroughOutputs(mpsc::UnboundedSender<outputs::Token>),
}

/// One service: the first half, with its tokens posted to the second as they come.
async fn one(world: Arc<World>, index: usize, service: Arc<Service>, known: Arc<Known>, posting: Posting) {
    // Whoever takes it ends only after us, or with the whole run.
    let post = |token: outputs::Token| match &posting {
        Posting::Nowhere => {}
        Posting::ToNodes(postman) => {
            let letter = Letter {
                index,
                service: service.clone(),
                known: known.clone(),
                token: Some(token),
                outputs: Vec::new(),
            };
            let _ = postman.send(letter);
        }
        Posting::ThroughOutputs(giver) => {
            let _ = giver.send(token);
        }
    };
    if world.request.what == What::Push && !service.wants_node_token() {
        // only files made elsewhere, which wait for no token
    } else if world.request.what == What::Push {
        post(known.pushable(&service));
    } else {
        refresh::refresh(&world, index, &service, known.key.clone(), &known, &post).await;
    }
}

fn blank(service: &Service) -> ServiceReport {
    ServiceReport {
        experiment: service.id.experiment.clone(),
        role: service.id.role.clone(),
        service: service.name.to_string(),
        account: service.account.clone(),
        principal: service.principal.to_string(),
        edges: Vec::new(),
    }
}
