//! Where every edge of a run is written down, from whichever task it ends in.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jiff::Timestamp;

use crate::{
    failure::Failure,
    report::{Edge, Outcome, ServiceReport, Shared, Target, TraceId},
};

/// Somebody who wants to see edges end while the run goes on.
pub trait Progress: Send + Sync {
    /// One more edge will end.
    fn began(&self) {}
    /// An edge ended. It may end twice: first as fresh, then as done, if a login gave it something newer.
    fn ended(&self, _service: &str, _edge: &Edge) {}
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct NoProgress;

impl Progress for NoProgress {}

/// How an edge ended, before it is written down.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    outcome: Outcome,
    reason: Option<String>,
    expires: Option<Timestamp>,
    failure: Option<Failure>,
}

impl Ending {
    pub(crate) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: None,
            expires: None,
            failure: None,
        }
    }

    pub(crate) fn failed(failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::new(Outcome::Failed)
        }
    }

    pub(crate) fn because(mut self, reason: Option<impl ToString>) -> Self {
        self.reason = reason.map(|r| r.to_string());
        self
    }

    pub(crate) fn until(mut self, expires: Option<Timestamp>) -> Self {
        self.expires = expires;
        self
    }
}

/// Shared by all tasks of a run.
#[derive(Clone)]
pub(crate) struct Ledger {
    trace_id: TraceId,
    began: Instant,
    services: Arc<Mutex<Vec<ServiceReport>>>,
    shared: Arc<Mutex<Vec<Shared>>>,
    progress: Arc<dyn Progress>,
}

impl Ledger {
    pub(crate) fn new(services: Vec<ServiceReport>, progress: Arc<dyn Progress>) -> Self {
        Self {
            trace_id: TraceId::random(),
            began: Instant::now(),
            services: Arc::new(Mutex::new(services)),
            shared: Arc::default(),
            progress,
        }
    }

    /// Notes that the edge is under way: if nothing more is heard of it, it was interrupted.
    pub(crate) fn begin(&self, service: usize, target: Target) {
        let began = self.elapsed();
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = services.get_mut(service)
            && !report.edges.iter().any(|e| e.target == target)
        {
            report.edges.push(Edge {
                target,
                outcome: Outcome::Interrupted,
                reason: None,
                expires: None,
                failure: None,
                silenced: false,
                began,
                ended: began,
            });
            self.progress.began();
        }
    }

    /// Notes how the edge ended. The last word counts.
    pub(crate) fn end(&self, service: usize, target: Target, ending: Ending) {
        self.begin(service, target.clone());
        let ended = self.elapsed();
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = services.get_mut(service) else {
            return;
        };
        let who = (report.experiment.clone(), report.role.clone());
        let name = format!("{}_{}", report.experiment, report.role);
        let Some(edge) = report.edges.iter_mut().find(|e| e.target == target) else {
            return;
        };
        *edge = Edge {
            target,
            outcome: ending.outcome,
            reason: ending.reason,
            expires: ending.expires,
            failure: ending.failure,
            silenced: false,
            began: edge.began,
            ended,
        };
        let edge = edge.clone();
        drop(services);
        say(self.trace_id, &who, &name, &edge);
        self.progress.ended(&name, &edge);
    }

    /// Notes how long a ticket or a session took.
    pub(crate) fn took(&self, shared: Shared) {
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(shared);
    }

    pub(crate) fn shared(&self) -> Vec<Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    pub(crate) fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Everything so far, edges in a fixed order.
    pub(crate) fn services(&self) -> Vec<ServiceReport> {
        let mut services = self
            .services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for service in &mut services {
            service.edges.sort_by(|a, b| a.target.cmp(&b.target));
        }
        services
    }
}

/// One line for each edge, for those who read logs; its fields are named as the Go service names them.
fn say(trace_id: TraceId, (experiment, role): &(String, String), service: &str, edge: &Edge) {
    let (mut vault, mut credd, mut node, mut path, mut output) = (None, None, None, None, None);
    let kind = match &edge.target {
        Target::Setup => "setup",
        Target::Discover { .. } => "discover",
        Target::Login { vault: server } => {
            vault = Some(server.as_str());
            "login"
        }
        Target::Store { credd: name, .. } => {
            credd = Some(name.as_str());
            "store"
        }
        Target::Bearer { output: name } => {
            output = Some(name.as_str());
            "bearer"
        }
        Target::Here { path: file } => {
            path = Some(file.as_str());
            "here"
        }
        Target::Command { output: name } => {
            output = Some(name.as_str());
            "command"
        }
        Target::Push {
            node: name,
            path: file,
        } => {
            node = Some(name.as_str());
            path = Some(file.as_str());
            "push"
        }
    };
    match &edge.failure {
        Some(f) => tracing::warn!(
            %trace_id, experiment, role, service, edge = kind, vaultServer = vault, credd, node, path, output,
            peer = %f.peer, stage = ?f.stage, kind = %f.kind, error = %f.text, "edge failed"
        ),
        None => tracing::info!(
            %trace_id, experiment, role, service, edge = kind, vaultServer = vault, credd, node, path, output,
            outcome = edge.outcome.word(), seconds = edge.ended - edge.began, "edge ended"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let report = ServiceReport {
            experiment: "dune".into(),
            role: "production".into(),
            service: "dune_production".into(),
            account: "dunepro".into(),
            principal: "dunepro@R".into(),
            edges: Vec::new(),
        };
        Ledger::new(vec![report], Arc::new(NoProgress))
    }

    #[test]
    fn an_edge_that_never_ended_was_interrupted() {
        let ledger = ledger();
        ledger.begin(0, Target::Setup);
        assert_eq!(ledger.services()[0].edges[0].outcome, Outcome::Interrupted);
    }

    #[test]
    fn the_last_word_counts() {
        let ledger = ledger();
        ledger.end(0, Target::Setup, Ending::new(Outcome::Fresh));
        ledger.end(
            0,
            Target::Setup,
            Ending::new(Outcome::Done).because(Some("lost there")),
        );
        let edges = &ledger.services()[0].edges;
        assert_eq!(edges.len(), 1);
        assert_eq!(
            (edges[0].outcome, edges[0].reason.as_deref()),
            (Outcome::Done, Some("lost there"))
        );
    }
}
