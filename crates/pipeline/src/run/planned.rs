//! A dry run that trusts what is remembered: the plan itself, and nobody is asked anything.

use std::collections::{BTreeMap, BTreeSet};

use config::{Content, Output, Service, Site, To};
use state::{EdgeId, ServiceKey, Snapshot};

use super::{
    What, World, known,
    known::Known,
    nodes,
    outputs::{self, HERE},
    push::{COMMAND_PLACE, by},
};
use crate::{
    failure::Failure,
    ledger::Ending,
    plan::{self, Held, HeldOutput, Memory, Policy, Reason},
    report::{Outcome, Target},
};

/// Writes down for every edge that is known whether it is due. `services` with what is known of each, by their place in
/// the report.
pub(super) async fn write_down<'a>(
    world: &World,
    site: &Site,
    services: impl Iterator<Item = (usize, &'a Service, &'a Known)>,
    snapshot: &Snapshot,
    uids: &BTreeMap<String, u32>,
) {
    let now = jiff::Timestamp::now();
    let what = world.request.what;
    for (index, service, known) in services {
        let no_uid = (what != What::Refresh)
            .then(|| world.uid(service).err())
            .flatten();
        let no_token = (what == What::Push && service.wants_node_token())
            .then(|| known.pushable(service).err())
            .flatten();
        let cannot_push = no_token.as_ref().or(no_uid.as_ref());
        if let Some(failure) = cannot_push {
            let nodes = service.nodes.iter();
            for node in nodes.filter(|n| world.request.selection.wants_node(n)) {
                let (node, path) = (node.clone(), "*".to_owned());
                let ending = Ending::failed(failure.clone());
                world.ledger.end(index, Target::Push { node, path }, ending);
            }
        }
        if let (Some(failure), true) = (&no_uid, world.request.selection.wants_node(HERE)) {
            let here = |output: &&Output| !matches!(output.to, To::Nodes { .. });
            for output in service.outputs.iter().filter(here) {
                let output = output.name.clone();
                let ending = Ending::failed(failure.clone());
                world.ledger.end(index, Target::Command { output }, ending);
            }
        }
        let held = held(world, known);
        let (outputs, mut failed) = outputs_of(world, service, known).await;
        if let Some(failure) = &no_token {
            let of = |output: &Output| outputs.get(&(known.key.clone(), output.name.clone()));
            let all = service.outputs.iter();
            let lacking = all.filter(|output| made_of_a_token(output, of(output), now));
            failed.extend(lacking.map(|output| (output.name.as_str(), failure.clone())));
        }
        let digest = |content: &[u8]| world.state.digest(content);
        let memory = Memory {
            snapshot,
            node_tokens: &held,
            outputs: &outputs,
            uids,
            digest: &digest,
        };
        let policy = Policy::of(site, service);
        let due = plan::one(service, &world.request.selection, &memory, &policy, now);
        let mut planned = cannot_come(world, index, service, known, no_token.is_some(), &failed);
        for due in due {
            let push = matches!(due.edge, EdgeId::Push { .. } | EdgeId::Bearer { .. });
            let other_half = match what {
                What::Run => false,
                What::Refresh => push,
                What::Push => !push || due.reason == Reason::NewToken,
            };
            // without a node token no bearer token is read anew, and what there is stays
            let stays = no_token.is_some() && due.reason == Reason::NewBearer;
            if other_half || stays || planned.contains(&due.edge) {
                continue;
            }
            let ending = match (&due.edge, &no_token) {
                (EdgeId::Bearer { .. }, Some(failure)) => Ending::failed(failure.clone()),
                _ => Ending::new(Outcome::Due),
            };
            let way = match &due.edge {
                EdgeId::Push { node, .. } if service.nodes.contains(node) => {
                    nodes::way_before(world, service, node)
                }
                _ => None,
            };
            let reason = due.reason.to_string();
            let reason = by(Some(&reason), way.as_deref());
            let ending = ending.because(Some(reason)).until(due.ends);
            if let Some(target) = target(service, &due.edge) {
                world.ledger.end(index, target, ending);
            }
            planned.insert(due.edge);
        }
        for output in &service.outputs {
            let held = outputs.get(&(known.key.clone(), output.name.clone()));
            let life = held.and_then(|held| held.life);
            let edge = EdgeId::Bearer {
                service: known.key.clone(),
                output: output.name.clone(),
            };
            if let (Some(life), false) = (life, what == What::Refresh || planned.contains(&edge)) {
                let output = output.name.clone();
                let ending = Ending::new(Outcome::Trusted).until(Some(life.until()));
                world.ledger.end(index, Target::Bearer { output }, ending);
            }
        }
        let stores = snapshot.store_edges_of(&known.key);
        let stores = stores.map(|(edge, store)| (edge, Some(store.expires)));
        let pushes = snapshot.push_edges_of(&known.key);
        let pushes = pushes.map(|(edge, push)| (edge, push.expires));
        for (edge, expires) in stores
            .filter(|_| what != What::Push)
            .chain(pushes.filter(|_| what == What::Run || (what == What::Push && no_uid.is_none())))
        {
            if planned.contains(edge) || !asked_for(world, service, edge) {
                continue;
            }
            if let Some(target) = target(service, edge) {
                let ending = Ending::new(Outcome::Trusted).until(expires);
                world.ledger.end(index, target, ending);
            }
        }
    }
}

/// Whether an output wants a node token that is not there: a bearer token in hand is as good as it is without one.
fn made_of_a_token(output: &Output, held: Option<&HeldOutput>, now: jiff::Timestamp) -> bool {
    match output.content {
        Content::VaultToken => true,
        Content::Bearer { .. } => held.and_then(|h| h.life).is_none_or(|life| life.until() <= now),
        Content::File { .. } => false,
    }
}

/// The places where nothing can be brought, with the outputs among them written down. Of the files that hold the node
/// token, and of what goes with them, that was said for the whole node.
fn cannot_come(
    world: &World,
    index: usize,
    service: &Service,
    known: &Known,
    no_token: bool,
    failed: &BTreeMap<&str, Failure>,
) -> BTreeSet<EdgeId> {
    let mut there = BTreeSet::new();
    let (Ok(uid), true) = (world.uid(service), world.request.what != What::Refresh) else {
        return there;
    };
    for (node, path, kind) in plan::places(service, &world.request.selection, uid) {
        let output = service.output(kind);
        let failure = output.and_then(|output| failed.get(output.name.as_str()));
        if failure.is_none() && (output.is_some() || !no_token) {
            continue;
        }
        let service_key = known.key.clone();
        let edge = EdgeId::Push {
            service: service_key,
            node,
            path,
        };
        if let (Some(target), Some(failure)) = (target(service, &edge), failure) {
            world.ledger.end(index, target, Ending::failed(failure.clone()));
        }
        there.insert(edge);
    }
    there
}

/// What was remembered of a credd or node that is no longer configured is nobody's business here.
fn asked_for(world: &World, service: &Service, edge: &EdgeId) -> bool {
    match edge {
        EdgeId::Store { credd, name, .. } => {
            world.request.selection.wants_credd(credd)
                && *name == service.name.to_string()
                && (service.credds.is_empty() || service.credds.contains(credd))
        }
        EdgeId::Push { node, path, .. } if node == HERE || node == COMMAND_PLACE => {
            let Ok(uid) = world.uid(service) else {
                return false;
            };
            plan::places(service, &world.request.selection, uid)
                .iter()
                .any(|(place, name, _)| place == node && name == path)
        }
        EdgeId::Push { node, .. } => world.request.selection.wants_node(node) && service.nodes.contains(node),
        EdgeId::Login { .. } | EdgeId::Bearer { .. } => false,
    }
}

/// What the service's outputs would hold, and why those do not that come from elsewhere.
pub(super) async fn outputs_of<'s>(
    world: &World,
    service: &'s Service,
    known: &Known,
) -> (
    BTreeMap<(ServiceKey, String), HeldOutput>,
    BTreeMap<&'s str, Failure>,
) {
    let (mut in_hand, mut failed) = (BTreeMap::new(), BTreeMap::new());
    if world.request.what == What::Refresh {
        return (in_hand, failed);
    }
    for (index, output) in service.outputs.iter().enumerate() {
        if !plan::asked(service, &world.request.selection, index, output) {
            continue;
        }
        match outputs::in_hand(world, service, &known.key, output).await {
            Ok(Some(held)) => {
                in_hand.insert((known.key.clone(), output.name.clone()), held);
            }
            Ok(None) => {}
            Err(failure) => {
                failed.insert(output.name.as_str(), failure);
            }
        }
    }
    (in_hand, failed)
}

pub(super) fn held(world: &World, known: &Known) -> BTreeMap<ServiceKey, Held> {
    let held = known.node_token.as_ref().map(|kept| {
        let (issued, until) = kept.life();
        let held = Held {
            issued,
            until,
            accessor: kept.accessor.clone(),
            digest: world.state.digest(&known::file_of(kept)),
        };
        (known.key.clone(), held)
    });
    held.into_iter().collect()
}

fn target(service: &Service, edge: &EdgeId) -> Option<Target> {
    match edge {
        EdgeId::Login { .. } => Some(Target::Login {
            vault: service.vault_server.clone(),
        }),
        EdgeId::Store { credd, name, .. } => Some(Target::Store {
            credd: credd.clone(),
            credential: name.clone(),
        }),
        EdgeId::Push { node, path, .. } if node == HERE => Some(Target::Here { path: path.clone() }),
        EdgeId::Push { node, path, .. } if node == COMMAND_PLACE => {
            Some(Target::Command { output: path.clone() })
        }
        EdgeId::Push { node, path, .. } => Some(Target::Push {
            node: node.clone(),
            path: path.clone(),
        }),
        EdgeId::Bearer { output, .. } => Some(Target::Bearer {
            output: output.clone(),
        }),
    }
}
