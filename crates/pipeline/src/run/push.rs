//! The second half: the node token of a service becomes files on its nodes.
//!
//! One postman per (account, principal) collects what the services of that account have ready within a moment and
//! brings it to each node in one SSH session. Nodes do not wait for one another; what comes later for the same node
//! goes in the order it came, so that an older token never lands on a newer one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use config::{Content, Destination, Kind, Service};
use distribute::{File, Mode, Placed, Sink};
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    World,
    address::address,
    known::{Kept, Known},
    outputs::{Giver, HERE, PLANNED, Prepared, Ready},
};
use crate::{
    failure::{Failure, Stage},
    ledger::Ending,
    plan,
    report::{Outcome, Shared, Target},
};

/// Under which place the state has what commands were told: no node can be called that.
pub(crate) const COMMAND_PLACE: &str = "@command";

/// How long a postman waits for the other services of an account before it leaves with what it has.
const LINGER: Duration = Duration::from_millis(100);

/// What a service has for its nodes: its token or the reason why it has none, and outputs that are ready.
pub(crate) struct Letter {
    pub(crate) index: usize,
    pub(crate) service: Arc<Service>,
    pub(crate) known: Arc<Known>,
    /// `None` where only outputs are brought.
    pub(crate) token: Option<Result<Kept, Failure>>,
    pub(crate) outputs: Vec<Prepared>,
}

impl Letter {
    fn item(&self, destination: &Destination, ready: Ready) -> Item {
        Item {
            index: self.index,
            service: self.service.clone(),
            known: self.known.clone(),
            destination: destination.clone(),
            ready,
            planned: None,
        }
    }
}

/// Where an item goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A node.
    Node(String),
    /// This host's own files.
    Here,
    /// A command, by its output's name.
    Command(String),
}

impl Place {
    pub(crate) fn target(&self, path: &str) -> Target {
        let path = path.to_owned();
        match self {
            Self::Node(node) => Target::Push {
                node: node.clone(),
                path,
            },
            Self::Here => Target::Here { path },
            Self::Command(output) => Target::Command {
                output: output.clone(),
            },
        }
    }

    /// What the state calls it.
    fn key(&self) -> &str {
        match self {
            Self::Node(node) => node,
            Self::Here => HERE,
            Self::Command(_) => COMMAND_PLACE,
        }
    }
}

/// A file of one letter for one place.
pub(crate) struct Item {
    index: usize,
    service: Arc<Service>,
    known: Arc<Known>,
    destination: Destination,
    ready: Ready,
    /// In a dry run: why there is no token yet. The node is asked all the same.
    planned: Option<String>,
}

impl Item {
    pub(crate) fn of_output(giver: &Giver, index: usize, path: String, mode: u32, ready: Ready) -> Self {
        let kind = Kind::Output(u16::try_from(index).unwrap_or(u16::MAX));
        Self {
            index: giver.index,
            service: giver.service.clone(),
            known: giver.known.clone(),
            destination: Destination { path, kind, mode },
            ready,
            planned: None,
        }
    }

    pub(crate) fn target(&self, place: &Place) -> Target {
        place.target(&self.destination.path)
    }

    /// Its end as it stands in the ledger: until when, and what somebody should know.
    fn ending(&self, ending: Ending) -> Ending {
        let ending = ending.until(self.ready.expires);
        match &self.ready.warning {
            Some(warning) => ending.because(Some(warning)),
            None => ending,
        }
    }
}

type NodeLocks = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

/// Runs until every service of the account has posted its last letter and every session is over.
///
/// `services` is how many of them there are: when all have posted there is nobody to linger for.
pub(crate) async fn postman(
    world: Arc<World>,
    services: usize,
    mut letters: mpsc::UnboundedReceiver<Letter>,
) {
    let mut silent = services;
    let locks: NodeLocks = Arc::default();
    let mut sessions = JoinSet::new();
    while let Some(first) = letters.recv().await {
        let mut bag = vec![first];
        let until = tokio::time::Instant::now() + LINGER;
        silent = silent.saturating_sub(1);
        while silent > 0
            && let Ok(Some(next)) = tokio::time::timeout_at(until, letters.recv()).await
        {
            bag.push(next);
            silent -= 1;
        }
        if world.stop.asked() {
            break;
        }
        for (node, items) in sort(&world, bag) {
            let lock = locks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(node.clone())
                .or_default()
                .clone();
            let world = world.clone();
            sessions.spawn(async move {
                let _turn = lock.lock_owned().await;
                deliver(&world, &node, items).await;
            });
        }
    }
    while sessions.join_next().await.is_some() {}
}

/// The letters of one bag by node; letters that cannot be delivered end here.
fn sort(world: &World, bag: Vec<Letter>) -> BTreeMap<String, Vec<Item>> {
    let mut by_node: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    for letter in bag {
        let nodes = letter
            .service
            .nodes
            .iter()
            .filter(|n| world.request.selection.wants_node(n));
        for node in nodes {
            let here = by_node.entry(node.clone()).or_default();
            match destinations(world, &letter, node) {
                Ok(found) => {
                    match items(world, &letter, &found) {
                        Ok(items) => here.extend(items),
                        Err(failure) => undelivered(world, &letter, node, failure),
                    }
                    here.extend(outputs(world, &letter, node, &found));
                }
                Err(failure) if letter.token.is_some() || !letter.outputs.is_empty() => {
                    undelivered(world, &letter, node, failure);
                }
                Err(_) => {}
            }
        }
    }
    by_node
}

fn destinations(world: &World, letter: &Letter, node: &str) -> Result<Vec<Destination>, Failure> {
    let service = &letter.service;
    service
        .destinations_on(node, world.uid(service)?)
        .map_err(|e| Failure::new(Stage::Configuration, service.account.clone(), &e, false))
}

/// Nothing can be brought there: there is no token, or it is not known which files.
fn undelivered(world: &World, letter: &Letter, node: &str, failure: Failure) {
    let (node, path) = (node.to_owned(), "*".to_owned());
    let target = Target::Push { node, path };
    world.ledger.end(letter.index, target, Ending::failed(failure));
}

/// The files of the Go service.
fn items(world: &World, letter: &Letter, destinations: &[Destination]) -> Result<Vec<Item>, Failure> {
    let service = &letter.service;
    let (kept, planned) = match &letter.token {
        None => return Ok(Vec::new()),
        Some(Ok(kept)) => (Some(kept), None),
        Some(Err(failure)) if world.request.dry_run => (None, Some(failure.text.clone())),
        Some(Err(failure)) => return Err(failure.clone()),
    };
    let item = |destination: &Destination| {
        let ready = match (destination.kind, kept) {
            (Kind::Output(_), _) => return None,
            (Kind::DefaultRole, _) => Ready::of_role(service),
            (Kind::VaultTokenDefault | Kind::VaultTokenService, Some(kept)) => Ready::vault_token(kept),
            (Kind::VaultTokenDefault | Kind::VaultTokenService, None) => Ready::nothing(),
        };
        Some(Item {
            // what holds no token is what it is, whatever token there will be
            planned: planned.clone().filter(|_| destination.kind != Kind::DefaultRole),
            ..letter.item(destination, ready)
        })
    };
    Ok(destinations.iter().filter_map(item).collect())
}

/// The outputs that are ready for this node; of the others it is said why they are not.
fn outputs(world: &World, letter: &Letter, node: &str, destinations: &[Destination]) -> Vec<Item> {
    let mut items = Vec::new();
    for destination in destinations {
        let Kind::Output(wanted) = destination.kind else {
            continue;
        };
        let prepared = letter.outputs.iter().find(|(i, _)| *i == usize::from(wanted));
        match prepared {
            None => {}
            Some((_, Ok(ready))) => items.push(letter.item(destination, ready.clone())),
            Some((_, Err(failure))) => {
                let target = Place::Node(node.to_owned()).target(&destination.path);
                world.ledger.end(letter.index, target, not_ready(failure));
            }
        }
    }
    items
}

/// How an output ends that could not be made ready: in a plan it may be that it is made only then.
pub(crate) fn not_ready(failure: &Failure) -> Ending {
    if failure.kind == PLANNED {
        Ending::new(Outcome::Due).because(Some(&failure.text))
    } else {
        Ending::failed(failure.clone())
    }
}

/// Everything for one node in one session.
async fn deliver(world: &World, node: &str, items: Vec<Item>) {
    let Some(first) = items.first() else { return };
    let place = Place::Node(node.to_owned());
    if !world.request.verify && items.iter().all(|item| remembered(world, &place, item)) {
        // neither a ticket nor a connection is needed to say so
        return trust(world, &place, items);
    }
    let node = address(world, node, &first.service).await;
    let sink = distribute::OnNode {
        gate: &world.gate,
        node: &node,
        limits: &world.ssh_limits,
    };
    deliver_to(world, &sink, &place, items).await;
}

fn trust(world: &World, place: &Place, items: Vec<Item>) {
    for item in items {
        let ending = item.ending(Ending::new(Outcome::Trusted));
        world.ledger.end(item.index, item.target(place), ending);
    }
}

/// Everything for one sink, each file an edge of its own.
pub(crate) async fn deliver_to<S: Sink>(world: &World, sink: &S, place: &Place, items: Vec<Item>) {
    let (trusted, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| {
        let asks = world.request.verify && sink.can_look();
        !asks && remembered(world, place, item)
    });
    trust(world, place, trusted);
    if items.is_empty() {
        return;
    }
    for item in &items {
        world.ledger.begin(item.index, item.target(place));
    }
    if world.stop.asked() {
        return;
    }
    let began = world.ledger.elapsed();
    let brought = bring(world, sink, &items).await;
    if let Place::Node(node) = place {
        world.ledger.took(Shared::Session {
            node: node.clone(),
            seconds: world.ledger.elapsed() - began,
            failed: brought.is_err(),
        });
    }
    match brought {
        Err(failure) => {
            for item in &items {
                let ending = Ending::failed(failure.clone()).until(item.ready.expires);
                world.ledger.end(item.index, item.target(place), ending);
            }
        }
        Ok(brought) => {
            for (item, landed) in items.iter().zip(brought.files) {
                settle(world, sink.name(), place, item, landed, brought.way.as_deref()).await;
            }
        }
    }
}

/// Whether the state says that exactly this content went there.
fn remembered(world: &World, place: &Place, item: &Item) -> bool {
    let key = (place.key().to_owned(), item.destination.path.clone());
    let digest = world.state.digest(item.ready.content.expose());
    plan::push_due(item.known.pushes.get(&key), &item.ready.accessor, &digest).is_none()
}

async fn bring<S: Sink>(world: &World, sink: &S, items: &[Item]) -> Result<distribute::Brought, Failure> {
    let files: Vec<File> = items
        .iter()
        .map(|item| File {
            path: item.destination.path.clone(),
            content: item.ready.content.clone(),
            mode: item.destination.mode,
        })
        .collect();
    let mode = if world.request.dry_run {
        Mode::Verify
    } else {
        Mode::Write
    };
    crate::retry::retry(world.push_budget, &world.stop, || async {
        sink.place(&files, mode)
            .await
            .map_err(|e| Failure::new(Stage::Push, sink.name(), &e, e.retryable()))
    })
    .await
}

/// Writes down how one file ended.
async fn settle(
    world: &World,
    peer: &str,
    place: &Place,
    item: &Item,
    landed: Result<distribute::Landed, distribute::FileError>,
    way: Option<&str>,
) {
    let target = item.target(place);
    let landed = match landed {
        Ok(landed) => landed,
        Err(e) => {
            let failure = Failure::new(Stage::Push, peer, &e, e.retryable());
            let ending = Ending::failed(failure).until(item.ready.expires);
            return world.ledger.end(item.index, target, ending);
        }
    };
    if let Some(planned) = &item.planned {
        let ending = Ending::new(Outcome::Due).because(Some(by(Some(planned), way)));
        return world.ledger.end(item.index, target, ending);
    }
    let reason = landed.difference.map(difference);
    let outcome = match landed.placed {
        Placed::Unchanged => Outcome::Fresh,
        Placed::Written | Placed::Removed => Outcome::Done,
        Placed::WouldWrite => {
            // A dry run says how it would go, too.
            let ending = Ending::new(Outcome::Due).because(Some(by(reason, way)));
            return world.ledger.end(item.index, target, ending);
        }
    };
    if outcome == Outcome::Done {
        world
            .files_written
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    if !world.request.dry_run && (outcome == Outcome::Done || !remembered(world, place, item)) {
        let record = state::Push {
            service: item.known.key.clone(),
            node: place.key().to_owned(),
            path: item.destination.path.clone(),
            kind: kind(&item.service, item.destination.kind).to_owned(),
            accessor: item.ready.accessor.clone(),
            digest: world.state.digest(item.ready.content.expose()),
            pushed_at: Timestamp::now(),
            expires: item.ready.expires,
        };
        world.remember(world.state.record_push(&record).await);
    }
    let ending = Ending::new(outcome).because(reason);
    world.ledger.end(item.index, target, item.ending(ending));
}

/// A reason with the way it went.
pub(super) fn by(reason: Option<&str>, way: Option<&str>) -> String {
    [reason, way].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

pub(crate) fn difference(d: distribute::Difference) -> &'static str {
    use distribute::Difference;
    match d {
        Difference::Missing => "not there",
        Difference::Content => "another content there",
        Difference::Mode => "another mode there",
        Difference::NotAFile => "not a file there",
        Difference::Unreadable => "not readable there",
        Difference::Owner => "another owner there",
        Difference::NotTold => "not told yet",
        _ => "different there",
    }
}

fn kind(service: &Service, kind: Kind) -> &'static str {
    match (kind, service.output(kind).map(|output| &output.content)) {
        (Kind::VaultTokenDefault, _) => "vault-token-default",
        (Kind::VaultTokenService, _) => "vault-token-service",
        (Kind::DefaultRole, _) => "default-role",
        (Kind::Output(_), Some(Content::Bearer { .. })) => "bearer-token",
        (Kind::Output(_), Some(Content::File { .. })) => "file",
        (Kind::Output(_), _) => "vault-token",
    }
}
