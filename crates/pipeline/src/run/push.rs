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

use config::{Destination, Kind, Service};
use credential::{SecretBytes, VaultToken};
use distribute::{File, Mode, Node, Placed};
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    World,
    known::{Kept, Known},
};
use crate::{
    failure::{Failure, Stage},
    ledger::Ending,
    plan,
    report::{Outcome, Shared, Target},
};

/// How long a postman waits for the other services of an account before it leaves with what it has.
const LINGER: Duration = Duration::from_millis(100);

/// A service with its token, or the reason why it has none.
pub(crate) struct Letter {
    pub(crate) index: usize,
    pub(crate) service: Arc<Service>,
    pub(crate) known: Arc<Known>,
    pub(crate) token: Result<Kept, Failure>,
}

/// A file of one letter for one node.
struct Item {
    index: usize,
    service: Arc<Service>,
    known: Arc<Known>,
    destination: Destination,
    content: SecretBytes,
    expires: Option<Timestamp>,
    accessor: String,
    /// In a dry run: why there is no token yet. The node is asked all the same.
    planned: Option<String>,
}

impl Item {
    fn target(&self, node: &str) -> Target {
        Target::Push {
            node: node.to_owned(),
            path: self.destination.path.clone(),
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
            match items(world, &letter, node) {
                Ok(items) => by_node.entry(node.clone()).or_default().extend(items),
                Err(failure) => undelivered(world, &letter, node, failure),
            }
        }
    }
    by_node
}

/// Nothing can be brought there: there is no token, or it is not known which files.
fn undelivered(world: &World, letter: &Letter, node: &str, failure: Failure) {
    let (node, path) = (node.to_owned(), "*".to_owned());
    let target = Target::Push { node, path };
    world.ledger.end(letter.index, target, Ending::failed(failure));
}

fn items(world: &World, letter: &Letter, node: &str) -> Result<Vec<Item>, Failure> {
    let service = &letter.service;
    let (kept, planned) = match &letter.token {
        Ok(kept) => (Some(kept), None),
        Err(failure) if world.request.dry_run => (None, Some(failure.text.clone())),
        Err(failure) => return Err(failure.clone()),
    };
    let uid = world.uid(service)?;
    let destinations = service
        .destinations_on(node, uid)
        .map_err(|e| Failure::new(Stage::Configuration, service.account.clone(), &e, false))?;
    Ok(destinations
        .into_iter()
        .map(|destination| {
            // what holds no token is what it is, whatever token there will be
            let planned = planned.clone().filter(|_| destination.kind != Kind::DefaultRole);
            let (content, expires, accessor) = match (destination.kind, kept) {
                (Kind::DefaultRole, _) => (service.role_file_content().into(), None, String::new()),
                (Kind::VaultTokenDefault | Kind::VaultTokenService, Some(kept)) => (
                    SecretBytes::from(format!("{}\n", kept.token.expose())),
                    Some(kept.until()),
                    kept.accessor.clone(),
                ),
                (Kind::VaultTokenDefault | Kind::VaultTokenService, None) => {
                    (String::new().into(), None, String::new())
                }
            };
            let (index, service, known) = (letter.index, service.clone(), letter.known.clone());
            Item {
                index,
                service,
                known,
                destination,
                content,
                expires,
                accessor,
                planned,
            }
        })
        .collect())
}

/// Everything for one node in one session.
async fn deliver(world: &World, node: &str, items: Vec<Item>) {
    let (trusted, items): (Vec<_>, Vec<_>) = items
        .into_iter()
        .partition(|item| !world.request.verify && remembered(world, node, item));
    for item in trusted {
        world.ledger.end(
            item.index,
            item.target(node),
            Ending::new(Outcome::Trusted).until(item.expires),
        );
    }
    let Some(first) = items.first() else { return };
    for item in &items {
        world.ledger.begin(item.index, item.target(node));
    }
    if world.stop.asked() {
        return;
    }
    let address = address(world, node, &first.service).await;
    let began = world.ledger.elapsed();
    let placed = place(world, &address, &items).await;
    world.ledger.took(Shared::Session {
        node: node.to_owned(),
        seconds: world.ledger.elapsed() - began,
        failed: placed.is_err(),
    });
    match placed {
        Err(failure) => {
            for item in &items {
                world.ledger.end(
                    item.index,
                    item.target(node),
                    Ending::failed(failure.clone()).until(item.expires),
                );
            }
        }
        Ok(report) => {
            let way = format!("{} over {}: {}", report.method, report.transport, report.chosen);
            for (item, landed) in items.iter().zip(report.files) {
                settle(world, node, item, landed, &way).await;
            }
        }
    }
}

/// Whether the state says that exactly this content went there.
fn remembered(world: &World, node: &str, item: &Item) -> bool {
    let key = (node.to_owned(), item.destination.path.clone());
    let digest = world.state.digest(item.content.expose());
    plan::push_due(item.known.pushes.get(&key), &item.accessor, &digest).is_none()
}

/// How the account is reached on the node. Without a ticket a key may still do.
pub(crate) async fn address(world: &World, node: &str, service: &Service) -> Node {
    let ssh = service.ssh_on(node);
    let over = |transport| ssh.transport == transport;
    let kerberos = if ssh.kerberos && !over(config::Transport::Libssh2) && !over(config::Transport::OpenSsh) {
        let ticket = world.tickets.of(service).await.ok();
        ticket.map(|ticket| (ticket, world.gss.clone()))
    } else {
        None
    };
    let keys = if ssh.public_keys {
        ssh.identity_files.clone()
    } else {
        Vec::new()
    };
    let login = match ssh.transport {
        config::Transport::Auto | config::Transport::Libssh2 => distribute::Login::Auto { kerberos, keys },
        config::Transport::Russh => match kerberos {
            Some((ticket, gss)) => distribute::Login::Gssapi { ticket, gss },
            None => distribute::Login::Russh {
                identities: keys.into_iter().map(distribute::Identity::Key).collect(),
            },
        },
        config::Transport::OpenSsh => distribute::Login::OpenSsh {
            program: "ssh".into(),
            identities: keys.into_iter().map(distribute::Identity::Key).collect(),
        },
    };
    Node {
        host: node.to_owned(),
        port: ssh.port,
        user: ssh.user.as_ref().unwrap_or(&service.account).clone(),
        known_hosts: ssh.known_hosts.clone(),
        login,
        options: options(world, ssh),
    }
}

fn options(world: &World, ssh: &config::Ssh) -> distribute::Options {
    let record = world.state.dir().join("known_hosts");
    let jump = ssh.jump.iter().map(|jump| distribute::Jump {
        host: jump.host.clone(),
        port: jump.port,
        user: jump.user.clone(),
    });
    distribute::Options {
        trust: match ssh.checking {
            config::Checking::Strict => distribute::Trust::Strict,
            config::Checking::AcceptNew => distribute::Trust::FirstUse { record },
            config::Checking::Off => distribute::Trust::Any { record },
        },
        address: ssh.address.clone(),
        host_key_alias: ssh.host_key_alias.clone(),
        gssapi_server: ssh.gssapi_server.clone(),
        algorithms: distribute::Algorithms {
            host_keys: ssh.host_key_algorithms.clone(),
            kex: ssh.kex_algorithms.clone(),
            ciphers: ssh.ciphers.clone(),
            macs: ssh.macs.clone(),
        },
        jump: jump.collect(),
    }
}

async fn place(world: &World, node: &Node, items: &[Item]) -> Result<distribute::Report, Failure> {
    let files: Vec<File> = items
        .iter()
        .map(|item| File {
            path: item.destination.path.clone(),
            content: item.content.clone(),
            mode: item.destination.mode,
        })
        .collect();
    let mode = if world.request.dry_run {
        Mode::Verify
    } else {
        Mode::Write
    };
    crate::retry::retry(world.push_budget, &world.stop, || async {
        distribute::place(&world.gate, node, &files, mode, &world.ssh_limits)
            .await
            .map_err(|e| Failure::new(Stage::Push, node.host.clone(), &e, e.retryable()))
    })
    .await
}

/// Writes down how one file ended.
async fn settle(
    world: &World,
    node: &str,
    item: &Item,
    landed: Result<distribute::Landed, distribute::FileError>,
    way: &str,
) {
    let target = item.target(node);
    let landed = match landed {
        Ok(landed) => landed,
        Err(e) => {
            let failure = Failure::new(Stage::Push, node, &e, e.retryable());
            return world
                .ledger
                .end(item.index, target, Ending::failed(failure).until(item.expires));
        }
    };
    if let Some(planned) = &item.planned {
        let reason = format!("{planned}; {way}");
        return world.ledger.end(
            item.index,
            target,
            Ending::new(Outcome::Due).because(Some(reason)),
        );
    }
    let reason = landed.difference.map(difference);
    let outcome = match landed.placed {
        Placed::Unchanged => Outcome::Fresh,
        Placed::Written | Placed::Removed => Outcome::Done,
        Placed::WouldWrite => {
            // A dry run says how it would go, too.
            let reason = format!("{}; {way}", reason.unwrap_or_default());
            return world.ledger.end(
                item.index,
                target,
                Ending::new(Outcome::Due).because(Some(reason)),
            );
        }
    };
    if outcome == Outcome::Done {
        world
            .files_written
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    if !world.request.dry_run && (outcome == Outcome::Done || !remembered(world, node, item)) {
        let record = state::Push {
            service: item.known.key.clone(),
            node: node.to_owned(),
            path: item.destination.path.clone(),
            kind: kind(item.destination.kind).to_owned(),
            accessor: item.accessor.clone(),
            digest: world.state.digest(item.content.expose()),
            pushed_at: Timestamp::now(),
            expires: item.expires,
        };
        world.remember(world.state.record_push(&record).await);
    }
    world.ledger.end(
        item.index,
        target,
        Ending::new(outcome).because(reason).until(item.expires),
    );
}

pub(crate) fn difference(d: distribute::Difference) -> &'static str {
    use distribute::Difference;
    match d {
        Difference::Missing => "not there",
        Difference::Content => "another content there",
        Difference::Mode => "another mode there",
        Difference::NotAFile => "not a file there",
        Difference::Unreadable => "not readable there",
        _ => "different there",
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::VaultTokenDefault => "vault-token-default",
        Kind::VaultTokenService => "vault-token-service",
        Kind::DefaultRole => "default-role",
    }
}
