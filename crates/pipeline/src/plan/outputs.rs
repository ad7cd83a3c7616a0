//! What a service gives out beside the files of the Go service, as the planner sees it.

use config::{Content, Kind, Output, Service, THIS_HOST, To};
use credential::Lifetime;
use jiff::{SignedDuration, Timestamp};
use state::{EdgeId, ServiceKey};

use super::{Due, Memory, bearer_due};
use crate::{run::COMMAND_PLACE, selection::Selection};

/// What an output would hold now, as far as it matters here: not the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOutput {
    /// From when to when a bearer token is good; `None` for all else.
    pub life: Option<Lifetime>,
    /// [`state::State::digest`] of what is given out.
    pub digest: String,
}

impl HeldOutput {
    /// As [`super::push_due`] wants it; only Vault tokens have an accessor.
    pub(super) fn wanted(&self) -> (String, String) {
        (String::new(), self.digest.clone())
    }
}

/// Whether an output is asked for somewhere.
pub(crate) fn asked(service: &Service, selection: &Selection, index: usize, output: &Output) -> bool {
    match &output.to {
        To::Nodes { nodes, .. } => nodes.iter().any(|node| selection.wants_node(node)),
        To::Here { .. } => selection.wants_node(THIS_HOST) && !service.yields_here(index),
        To::Command { .. } => selection.wants_node(THIS_HOST),
    }
}

/// The bearer tokens that have to be read, by output. What several outputs hold is read once, for the longest of their
/// minima.
pub(super) fn bearers<'s>(
    service: &'s Service,
    key: &ServiceKey,
    selection: &Selection,
    memory: &Memory<'_>,
    now: Timestamp,
) -> Vec<(&'s str, Due)> {
    let outputs = || {
        let all = service.outputs.iter().enumerate();
        all.filter(|(i, output)| asked(service, selection, *i, output))
            .map(|(_, output)| output)
    };
    outputs()
        .filter(|output| matches!(output.content, Content::Bearer { .. }))
        .filter_map(|output| {
            let minimum = outputs()
                .filter(|other| other.content == output.content)
                .map(|other| SignedDuration::try_from(other.minimum).unwrap_or(SignedDuration::MAX))
                .max()
                .unwrap_or_default();
            let held = memory.outputs.get(&(key.clone(), output.name.clone()));
            let life = held.and_then(|held| held.life);
            let edge = EdgeId::Bearer {
                service: key.clone(),
                output: output.name.clone(),
            };
            let reason = bearer_due(life, minimum, now)?;
            let ends = life.map(Lifetime::until);
            Some((output.name.as_str(), Due { edge, reason, ends }))
        })
        .collect()
}

/// Every file and command of the service: where, under which name there, and what it is.
pub(crate) fn places(service: &Service, selection: &Selection, uid: u32) -> Vec<(String, String, Kind)> {
    let mut places = Vec::new();
    for node in service.nodes.iter().filter(|n| selection.wants_node(n)) {
        let Ok(files) = service.destinations_on(node, uid) else {
            return places;
        };
        places.extend(files.into_iter().map(|file| (node.clone(), file.path, file.kind)));
    }
    for (index, output) in service.outputs.iter().enumerate() {
        let Ok(kind) = u16::try_from(index).map(Kind::Output) else {
            continue;
        };
        if !asked(service, selection, index, output) {
            continue;
        }
        match &output.to {
            To::Nodes { .. } => {}
            To::Here { .. } => {
                if let Some(path) = service.output_path(output, uid) {
                    places.push((THIS_HOST.to_owned(), path, kind));
                }
            }
            To::Command { .. } => places.push((COMMAND_PLACE.to_owned(), output.name.clone(), kind)),
        }
    }
    places
}
