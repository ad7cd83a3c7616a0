//! One service, from what is remembered of it.

use config::{Checking, Service, Site};
use jiff::{SignedDuration, Timestamp};
use state::{EdgeId, ServiceKey, Snapshot};

use super::{Life, ServiceStatus, Silenced, StatusEdge, WeakHostKeys, outputs};
use crate::{plan::Policy, run::service_key, selection::Selection};

/// How long a credd that is found and no longer there is told of, after what it held has ended.
const GONE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One service, as it is looked at.
pub(super) struct View<'a> {
    pub(super) service: &'a Service,
    pub(super) key: ServiceKey,
    pub(super) snapshot: &'a Snapshot,
    pub(super) selection: &'a Selection,
    pub(super) policy: Policy,
    pub(super) now: Timestamp,
}

impl<'a> View<'a> {
    pub(super) fn new(
        site: &Site,
        service: &'a Service,
        snapshot: &'a Snapshot,
        selection: &'a Selection,
        now: Timestamp,
    ) -> Self {
        Self {
            service,
            key: service_key(service),
            snapshot,
            selection,
            policy: Policy::of(site, service),
            now,
        }
    }

    pub(super) fn service(&self) -> ServiceStatus {
        let service = self.service;
        let mut edges = Vec::new();
        self.credds(&mut edges);
        for node in service.nodes.iter().filter(|n| self.selection.shows_node(n)) {
            let before = edges.len();
            let there = self
                .snapshot
                .push_edges_of(&self.key)
                .filter(|(_, p)| p.node == *node);
            edges.extend(there.map(|(id, p)| {
                let edge = self.edge("node", id, Life::of(p.expires, self.now));
                outputs::on_node(service, edge)
            }));
            if edges.len() == before {
                edges.push(self.never_on(node));
            }
        }
        outputs::edges(self, &mut edges);
        let id = &service.id;
        let silences = &self.snapshot.silences;
        ServiceStatus {
            experiment: id.experiment.clone(),
            role: id.role.clone(),
            service: service.name.to_string(),
            account: service.account.clone(),
            node_token: self
                .snapshot
                .node_tokens
                .get(&self.key)
                .map_or(Life::Never, |t| Life::of(Some(t.expires), self.now)),
            silenced: state::is_service_silenced(silences, &id.experiment, &id.role, self.now).is_some(),
            edges,
            weak_host_keys: weak_host_keys(service, self.selection),
        }
    }

    fn credds(&self, edges: &mut Vec<StatusEdge>) {
        let (service, name) = (self.service, self.service.name.to_string());
        let may_be = |credd: &str| {
            service.credds.is_empty() || service.credds.iter().any(|configured| configured == credd)
        };
        let stored = self.snapshot.store_edges_of(&self.key);
        let stored = stored.filter(|(_, s)| {
            s.credential_name == name && self.selection.shows_credd(&s.credd) && may_be(&s.credd)
        });
        for (id, store) in stored {
            let tried = self
                .snapshot
                .edges
                .get(id)
                .map_or(store.stored_at, |e| e.last_attempt);
            let told = tried.max(store.expires);
            let gone = service.credds.is_empty() && self.now.duration_since(told) > GONE;
            if !gone {
                edges.push(self.edge("credd", id, Life::of(Some(store.expires), self.now)));
            }
        }
        // what was never stored, because nobody tried or because it failed
        let mut lacking: Vec<&str> = service.credds.iter().map(String::as_str).collect();
        let first = EdgeId::Store {
            service: self.key.clone(),
            credd: String::new(),
            name: String::new(),
        };
        let failing = self
            .snapshot
            .fared_from(first)
            .filter(|e| e.consecutive_failures > 0 && self.now.duration_since(e.last_attempt) <= GONE);
        let ours = failing.filter(|e| e.edge.name() == name && may_be(e.edge.place()));
        lacking.extend(ours.map(|e| e.edge.place()));
        for credd in lacking {
            if self.selection.shows_credd(credd) && !edges.iter().any(|e| e.place == credd) {
                let id = EdgeId::Store {
                    service: self.key.clone(),
                    credd: credd.to_owned(),
                    name: name.clone(),
                };
                edges.push(self.edge("credd", &id, Life::Never));
            }
        }
    }

    /// A node on which nothing was ever placed: how the last try went, whichever file it was about.
    fn never_on(&self, node: &str) -> StatusEdge {
        let none = EdgeId::Push {
            service: self.key.clone(),
            node: node.to_owned(),
            path: String::new(),
        };
        let tried = self.snapshot.fared_from(none.clone());
        let last = tried
            .filter(|e| e.edge.place() == node)
            .max_by_key(|e| e.last_attempt);
        let id = last.map_or(none, |last| last.edge.clone());
        StatusEdge {
            name: String::new(),
            ..self.edge("node", &id, Life::Never)
        }
    }

    pub(super) fn edge(&self, kind: &'static str, id: &EdgeId, life: Life) -> StatusEdge {
        let known = self.snapshot.edges.get(id);
        let minimum = match kind {
            "credd" => self.policy.renew_before,
            _ => self.policy.node_minimum,
        };
        StatusEdge {
            kind,
            place: id.place().to_owned(),
            name: id.name().to_owned(),
            life,
            overdue: life.left() < minimum.as_secs(),
            last_error: known.and_then(|e| e.last_error_text.clone()),
            warning: None,
            lives_hours: false,
            edge: known.map(|_| id.to_string()),
            last_attempt: known.map(|e| e.last_attempt),
            last_success: known.and_then(|e| e.last_success),
            consecutive_failures: known.map_or(0, |e| e.consecutive_failures),
            silenced: state::is_silenced(&self.snapshot.silences, id, self.now).map(Silenced::from),
        }
    }
}

fn weak_host_keys(service: &Service, selection: &Selection) -> Vec<WeakHostKeys> {
    let nodes = service.nodes.iter().filter(|node| selection.shows_node(node));
    nodes
        .filter_map(|node| {
            let strict_host_key_checking = match service.ssh_on(node).checking {
                Checking::Strict => return None,
                Checking::AcceptNew => "accept-new",
                Checking::Off => "no",
            };
            let node = node.clone();
            Some(WeakHostKeys {
                node,
                strict_host_key_checking,
            })
        })
        .collect()
}
