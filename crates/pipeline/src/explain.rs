//! One edge told at length: how it fared, what is remembered of its last tries, and when it is due, by the planner.

use std::{collections::BTreeSet, sync::Arc};

use config::{Service, Site};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use state::{Attempt, EdgeId, Fared, Snapshot, State};

use crate::{
    bystander::{bystander, cannot},
    doctor::advice,
    failure::{Failure, Stage},
    plan::{Due, Policy},
    run::{Planner, service_key},
    selection::Selection,
    status::{Life, Silenced},
    stop::Stop,
};

/// One edge.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// Its name in the state, which is what to ask by.
    pub edge: String,
    /// `login`, `store`, `push` or `bearer`.
    pub kind: &'static str,
    /// `experiment_role` as configured.
    pub service: String,
    /// The credd or node; the Vault server of a login.
    pub place: String,
    /// The credential's name or the file's path there.
    pub name: String,
    /// How long what is there lives; of a login the node token it made.
    pub life: Life,
    /// By what it is nobody's alarm now.
    pub silenced: Option<Silenced>,
    /// When it was last tried.
    pub last_attempt: Option<Timestamp>,
    /// When it last succeeded.
    pub last_success: Option<Timestamp>,
    /// Failures since then.
    pub consecutive_failures: u32,
    /// The last tries, the latest first; those that ended alike are one.
    pub tries: Vec<Try>,
    /// When there is something to do about it again, and why.
    pub next: Next,
}

/// One try, or several that ended alike.
#[derive(Debug, Clone, Serialize)]
pub struct Try {
    /// `done`, `fresh` or `failed`.
    pub outcome: &'static str,
    /// When the first of them ended.
    pub since: Timestamp,
    /// When the last of them ended.
    pub at: Timestamp,
    /// How many there were.
    pub times: u32,
    /// Why it was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where on the way it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// A word for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// When something is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// Whether the next run does it.
    pub due: bool,
    /// From when on it is due; absent if it is now, or if nothing will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The edges of the selected services that are wanted, as they are at `now`. Nobody is asked anything.
///
/// # Errors
/// A [`Failure`] if the state or the trust settings cannot be used.
pub async fn explain(
    site: &Site,
    state: &State,
    selection: &Selection,
    wanted: &(dyn Fn(&EdgeId) -> bool + Sync),
    now: Timestamp,
    stop: Stop,
) -> Result<Vec<Explained>, Failure> {
    let failed = |e: &state::Error| Failure::new(Stage::State, "the state directory", e, false);
    let snapshot = state.snapshot().await.map_err(|e| failed(&e))?;
    let world = Arc::new(
        bystander(site, state.clone(), stop)
            .await
            .map_err(|error| cannot(&error))?,
    );
    let mut all = Vec::new();
    for service in site.services.iter().filter(|s| selection.wants(s)) {
        let case = Case {
            service,
            snapshot: &snapshot,
            selection,
            now,
        };
        let planner = Planner::new(&world, site, service, &snapshot).await;
        let moments = case.moments(&Policy::of(site, service));
        let plans: Vec<(Timestamp, Vec<Due>)> = moments.into_iter().map(|at| (at, planner.due(at))).collect();
        for edge in case.edges(&plans).into_iter().filter(|edge| wanted(edge)) {
            let attempts = state.attempts(&edge).await.map_err(|e| failed(&e))?;
            all.push(case.told(&edge, attempts, &plans));
        }
    }
    Ok(all)
}

struct Case<'a> {
    service: &'a Service,
    snapshot: &'a Snapshot,
    selection: &'a Selection,
    now: Timestamp,
}

impl Case<'_> {
    /// Now, and when what is held comes to what the policy lets it come to: in between, no plan changes.
    fn moments(&self, policy: &Policy) -> BTreeSet<Timestamp> {
        let key = service_key(self.service);
        let stores = self
            .snapshot
            .stores_of(&key)
            .map(|s| (s.expires, policy.renew_before));
        let node = self.snapshot.node_tokens.get(&key);
        let node = node.map(|t| (t.expires, policy.node_minimum));
        let outputs = self.service.outputs.iter().flat_map(|output| {
            let minimum = SignedDuration::try_from(output.minimum).unwrap_or(SignedDuration::MAX);
            self.snapshot
                .pushes_of(&key)
                .filter_map(move |p| Some((p.expires?, minimum)))
        });
        let ends = stores.chain(node).chain(outputs);
        let below = |(end, minimum): (Timestamp, SignedDuration)| {
            let at = end.checked_sub(minimum).ok()?;
            at.checked_add(SignedDuration::from_secs(1)).ok()
        };
        let later = ends.filter_map(below).filter(|at| *at > self.now);
        later.chain([self.now]).collect()
    }

    /// Everything that is remembered of the service or will be due, as far as it is configured and asked for.
    fn edges(&self, plans: &[(Timestamp, Vec<Due>)]) -> BTreeSet<EdgeId> {
        let key = service_key(self.service);
        let service = || key.clone();
        let (none, empty) = (String::new, String::new);
        let firsts = [
            EdgeId::Login { service: service() },
            EdgeId::Store {
                service: service(),
                credd: none(),
                name: empty(),
            },
            EdgeId::Push {
                service: service(),
                node: none(),
                path: empty(),
            },
            EdgeId::Bearer {
                service: service(),
                output: none(),
            },
        ];
        let fared = firsts
            .into_iter()
            .flat_map(|first| self.snapshot.fared_from(first));
        let stored = self.snapshot.store_edges_of(&key).map(|(edge, _)| edge.clone());
        let pushed = self.snapshot.push_edges_of(&key).map(|(edge, _)| edge.clone());
        let planned = plans
            .iter()
            .flat_map(|(_, due)| due.iter().map(|d| d.edge.clone()));
        let all = fared
            .map(|e| e.edge.clone())
            .chain(stored)
            .chain(pushed)
            .chain(planned);
        all.filter(|edge| self.is_shown(edge)).collect()
    }

    fn is_shown(&self, edge: &EdgeId) -> bool {
        let s = self.service;
        match edge {
            EdgeId::Login { .. } => self.selection.credds.is_empty() && self.selection.nodes.is_empty(),
            EdgeId::Store { credd, name, .. } => {
                let may_be = s.credds.is_empty() || s.credds.contains(credd);
                may_be && self.selection.shows_credd(credd) && *name == s.name.to_string()
            }
            // a place that begins so is no node: this host, a command, what a bearer token is remembered by
            EdgeId::Push { node, .. } if node.starts_with('@') => {
                node != crate::run::BEARER_PLACE && self.selection.shows_node(config::THIS_HOST)
            }
            EdgeId::Push { node, path, .. } => {
                s.nodes.contains(node)
                    && self.selection.shows_node(node)
                    && (path != "*" || self.still_so(edge))
            }
            EdgeId::Bearer { .. } => {
                self.selection.shows_node(config::THIS_HOST) || !self.selection.nodes.is_empty()
            }
        }
    }

    /// Whether nothing could be brought there when it was last tried: no file was tried since.
    fn still_so(&self, edge: &EdgeId) -> bool {
        let tried = |id: &EdgeId| self.snapshot.edges.get(id).map(|e| e.last_attempt);
        let first = EdgeId::Push {
            service: edge.service().clone(),
            node: edge.place().to_owned(),
            path: String::new(),
        };
        let files = self.snapshot.fared_from(first);
        let files = files.filter(|e| e.edge.place() == edge.place() && e.edge != *edge);
        files.map(|e| Some(e.last_attempt)).max().flatten() < tried(edge)
    }

    fn told(&self, edge: &EdgeId, attempts: Vec<Attempt>, plans: &[(Timestamp, Vec<Due>)]) -> Explained {
        let known = self.snapshot.edges.get(edge);
        let life = |expires: Option<Timestamp>| Life::of(expires, self.now);
        let life = match edge {
            EdgeId::Login { service } => {
                let token = self.snapshot.node_tokens.get(service);
                token.map_or(Life::Never, |t| life(Some(t.expires)))
            }
            EdgeId::Store { .. } => {
                let store = self.snapshot.stores.get(edge);
                store.map_or(Life::Never, |s| life(Some(s.expires)))
            }
            EdgeId::Push { .. } => {
                let push = self.snapshot.pushes.get(edge);
                push.map_or(Life::Never, |p| life(p.expires))
            }
            EdgeId::Bearer { service, output } => {
                let push = self.snapshot.push(service, crate::run::BEARER_PLACE, output);
                push.map_or(Life::Never, |p| life(p.expires))
            }
        };
        let place = match edge {
            EdgeId::Login { .. } => self.service.vault_server.as_str(),
            other => other.place(),
        };
        Explained {
            edge: edge.to_string(),
            kind: edge.kind(),
            service: self.service.id.to_string(),
            place: place.to_owned(),
            name: edge.name().to_owned(),
            life,
            silenced: state::is_silenced(&self.snapshot.silences, edge, self.now).map(Silenced::from),
            last_attempt: known.map(|e| e.last_attempt),
            last_success: known.and_then(|e| e.last_success),
            consecutive_failures: known.map_or(0, |e| e.consecutive_failures),
            tries: attempts.into_iter().map(|a| self.tried(a)).collect(),
            next: self.next(edge, plans),
        }
    }

    fn next(&self, edge: &EdgeId, plans: &[(Timestamp, Vec<Due>)]) -> Next {
        let first = plans.iter().find_map(|(at, due)| {
            let due = due.iter().find(|due| due.edge == *edge)?;
            Some((*at, due.reason.to_string()))
        });
        let failing = self
            .snapshot
            .edges
            .get(edge)
            .is_some_and(|e| e.consecutive_failures > 0);
        match first {
            Some((at, reason)) if at <= self.now => Next {
                due: true,
                from: None,
                reason: Some(reason),
            },
            // what failed and is not due failed at being looked at, and is looked at again
            _ if failing => Next {
                due: true,
                from: None,
                reason: Some("its last try failed".to_owned()),
            },
            Some((at, reason)) => Next {
                due: false,
                from: Some(at),
                reason: Some(reason),
            },
            None => Next {
                due: false,
                from: None,
                reason: None,
            },
        }
    }

    fn tried(&self, attempt: Attempt) -> Try {
        let Attempt {
            fared,
            since,
            at,
            times,
        } = attempt;
        let blank = Try {
            outcome: "fresh",
            since,
            at,
            times,
            reason: None,
            stage: None,
            kind: None,
            text: None,
            advice: None,
        };
        match fared {
            Fared::Fresh => blank,
            Fared::Done { reason } => Try {
                outcome: "done",
                reason,
                ..blank
            },
            Fared::Failed(fault) => Try {
                outcome: "failed",
                advice: Stage::of_word(&fault.stage)
                    .and_then(|stage| advice(stage, &fault.kind, self.service)),
                stage: Some(fault.stage).filter(|s| !s.is_empty()),
                kind: Some(fault.kind),
                text: Some(fault.text),
                ..blank
            },
        }
    }
}
