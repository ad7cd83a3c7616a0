//! A dry run that trusts what is remembered: the plan itself, and nobody is asked anything.

use std::collections::{BTreeMap, BTreeSet};

use config::{Service, Site};
use state::{EdgeId, ServiceKey, Snapshot};

use super::{What, World, known, known::Known};
use crate::{
    ledger::Ending,
    plan::{self, Held, Memory, Policy, Reason},
    report::{Outcome, Target},
};

/// Writes down for every edge that is known whether it is due. `services` with what is known of each, by their place in
/// the report.
pub(super) fn write_down<'a>(
    world: &World,
    site: &Site,
    services: impl Iterator<Item = (usize, &'a Service, &'a Known)>,
    snapshot: &Snapshot,
    uids: &BTreeMap<String, u32>,
) {
    let now = jiff::Timestamp::now();
    let digest = |content: &[u8]| world.state.digest(content);
    let what = world.request.what;
    for (index, service, known) in services {
        let cannot_push = match what {
            What::Refresh => None,
            What::Push => known.pushable(service).and_then(|_| world.uid(service)).err(),
            What::Run => world.uid(service).err(),
        };
        if let Some(failure) = &cannot_push {
            let nodes = service.nodes.iter();
            for node in nodes.filter(|n| world.request.selection.wants_node(n)) {
                let (node, path) = (node.clone(), "*".to_owned());
                let ending = Ending::failed(failure.clone());
                world.ledger.end(index, Target::Push { node, path }, ending);
            }
            if what == What::Push {
                continue;
            }
        }
        let held = held(world, known);
        let memory = Memory {
            snapshot,
            node_tokens: &held,
            uids,
            digest: &digest,
        };
        let policy = Policy::of(site, service);
        let due = plan::one(service, &world.request.selection, &memory, &policy, now);
        let mut planned = BTreeSet::new();
        for due in due {
            let push = matches!(due.edge, EdgeId::Push { .. });
            let other_half = match what {
                What::Run => false,
                What::Refresh => push,
                What::Push => !push || due.reason == Reason::NewToken,
            };
            if other_half {
                continue;
            }
            let ending = Ending::new(Outcome::Due)
                .because(Some(due.reason))
                .until(due.ends);
            if let Some(target) = target(service, &due.edge) {
                world.ledger.end(index, target, ending);
            }
            planned.insert(due.edge);
        }
        let stores = snapshot.store_edges_of(&known.key);
        let stores = stores.map(|(edge, store)| (edge, Some(store.expires)));
        let pushes = snapshot.push_edges_of(&known.key);
        let pushes = pushes.map(|(edge, push)| (edge, push.expires));
        for (edge, expires) in stores
            .filter(|_| what != What::Push)
            .chain(pushes.filter(|_| what != What::Refresh))
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

/// What was remembered of a credd or node that is no longer configured is nobody's business here.
fn asked_for(world: &World, service: &Service, edge: &EdgeId) -> bool {
    match edge {
        EdgeId::Store { credd, name, .. } => {
            world.request.selection.wants_credd(credd)
                && *name == service.name.to_string()
                && (service.credds.is_empty() || service.credds.contains(credd))
        }
        EdgeId::Push { node, .. } => world.request.selection.wants_node(node) && service.nodes.contains(node),
        EdgeId::Login { .. } | EdgeId::Bearer { .. } => false,
    }
}

fn held(world: &World, known: &Known) -> BTreeMap<ServiceKey, Held> {
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
        EdgeId::Push { node, path, .. } => Some(Target::Push {
            node: node.clone(),
            path: path.clone(),
        }),
        EdgeId::Bearer { .. } => None,
    }
}
