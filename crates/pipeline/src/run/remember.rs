//! How every edge fared, for `mtk status` and for the next run.

use jiff::Timestamp;
use state::{EdgeId, Fault, ServiceKey};

use super::World;
use crate::report::{Outcome, ServiceReport, Target};

/// Writes down the successes and failures of a run, each under the name of its edge.
pub(crate) async fn outcomes(world: &World, services: &[ServiceReport]) {
    let now = Timestamp::now();
    let mut fared = Vec::new();
    for service in services.iter().filter(|s| !s.principal.is_empty()) {
        let key = ServiceKey {
            experiment: service.experiment.clone(),
            role: service.role.clone(),
            account: service.account.clone(),
            principal: service.principal.clone(),
        };
        for edge in &service.edges {
            let Some(id) = id(&key, &edge.target) else {
                continue;
            };
            let fault = match (&edge.outcome, &edge.failure) {
                (_, Some(failure)) => Some(Fault {
                    kind: failure.kind.clone(),
                    text: failure.text.clone(),
                    next_try: None,
                }),
                (Outcome::Done | Outcome::Fresh, None) => None,
                _ => continue,
            };
            fared.push((id, fault));
        }
    }
    world.remember(world.state.record_outcomes(now, &fared).await);
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
        Target::Setup | Target::Discover { .. } => None,
    }
}
