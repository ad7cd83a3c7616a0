//! How every edge fared, for `mtk status` and for the next run.

use jiff::Timestamp;
use state::{EdgeId, Fared, Fault, ServiceKey};

use super::{World, outputs::HERE, push::COMMAND_PLACE};
use crate::report::{Outcome, ServiceReport, Target};

/// Writes down the successes and failures of a run, each under the name of its edge.
pub(crate) async fn outcomes(world: &World, services: &[ServiceReport]) {
    let now = Timestamp::now();
    let mut fared = Vec::new();
    for service in services.iter().filter(|s| !s.principal.is_empty()) {
        let key = key(service);
        for edge in &service.edges {
            let Some(id) = id(&key, &edge.target) else {
                continue;
            };
            let how = match (&edge.outcome, &edge.failure) {
                (_, Some(failure)) => Fared::Failed(Fault {
                    stage: failure.stage.word(),
                    kind: failure.kind.clone(),
                    text: failure.text.clone(),
                    next_try: None,
                }),
                (Outcome::Done, None) => Fared::Done {
                    reason: edge.reason.clone(),
                },
                (Outcome::Fresh, None) => Fared::Fresh,
                _ => continue,
            };
            fared.push((id, how));
        }
    }
    world.remember(world.state.record_outcomes(now, &fared).await);
}

/// Marks what is known to be down, by what somebody may have said while the run went on.
pub(crate) async fn silenced(world: &World, services: &mut [ServiceReport]) {
    let silences = match world.state.silences().await {
        Ok(silences) => silences,
        Err(error) => {
            tracing::warn!(%error, "what is silenced cannot be read: nothing is");
            return;
        }
    };
    let now = Timestamp::now();
    for service in services {
        let key = key(service);
        let whole = state::is_service_silenced(&silences, &key.experiment, &key.role, now).is_some();
        for edge in &mut service.edges {
            let at_its_place =
                || id(&key, &edge.target).and_then(|id| state::is_silenced(&silences, &id, now));
            edge.silenced = whole || at_its_place().is_some();
        }
    }
}

fn key(service: &ServiceReport) -> ServiceKey {
    ServiceKey {
        experiment: service.experiment.clone(),
        role: service.role.clone(),
        account: service.account.clone(),
        principal: service.principal.clone(),
    }
}

/// The name under which the state remembers an edge of a run; `None` for those it has none for.
#[must_use]
pub fn edge_id(service: &ServiceReport, target: &Target) -> Option<EdgeId> {
    id(&key(service), target)
}

fn id(key: &ServiceKey, target: &Target) -> Option<EdgeId> {
    let service = key.clone();
    match target {
        Target::Login { .. } => Some(EdgeId::Login { service }),
        Target::Store { credd, credential } => Some(EdgeId::Store {
            service,
            credd: credd.clone(),
            name: credential.clone(),
        }),
        Target::Push { node, path } => Some(EdgeId::Push {
            service,
            node: node.clone(),
            path: path.clone(),
        }),
        Target::Bearer { output } => Some(EdgeId::Bearer {
            service,
            output: output.clone(),
        }),
        Target::Here { path } => Some(EdgeId::Push {
            service,
            node: HERE.to_owned(),
            path: path.clone(),
        }),
        Target::Command { output } => Some(EdgeId::Push {
            service,
            node: COMMAND_PLACE.to_owned(),
            path: output.clone(),
        }),
        Target::Setup | Target::Discover { .. } => None,
    }
}
