//! The plan of one service at any moment, from what is remembered: for those who want to know, not for those who run.

use std::collections::BTreeMap;

use config::{Service, Site};
use jiff::Timestamp;
use state::{ServiceKey, Snapshot};

use super::{World, known::Known, planned, service_key};
use crate::plan::{self, Due, Held, HeldOutput, Memory, Policy};

/// What the planner needs of one service, gathered once.
pub(crate) struct Planner<'a> {
    world: &'a World,
    service: &'a Service,
    snapshot: &'a Snapshot,
    held: BTreeMap<ServiceKey, Held>,
    outputs: BTreeMap<(ServiceKey, String), HeldOutput>,
    policy: Policy,
}

impl<'a> Planner<'a> {
    pub(crate) async fn new(
        world: &'a World,
        site: &Site,
        service: &'a Service,
        snapshot: &'a Snapshot,
    ) -> Self {
        // one that cannot be read is no token, as a run sees it
        let token = world.state.node_token(&service_key(service)).ok().flatten();
        let known = Known::of(service, snapshot, token);
        let (outputs, _) = planned::outputs_of(world, service, &known).await;
        Self {
            world,
            service,
            snapshot,
            held: planned::held(world, &known),
            outputs,
            policy: Policy::of(site, service),
        }
    }

    /// What is due at that moment if nothing happens until then.
    pub(crate) fn due(&self, at: Timestamp) -> Vec<Due> {
        let digest = |content: &[u8]| self.world.state.digest(content);
        let memory = Memory {
            snapshot: self.snapshot,
            node_tokens: &self.held,
            outputs: &self.outputs,
            uids: self.world.uids(),
            digest: &digest,
        };
        plan::one(
            self.service,
            &self.world.request.selection,
            &memory,
            &self.policy,
            at,
        )
    }
}
