//! The outputs of a service that are no files on nodes, and what there is to say about those that are.

use std::time::Duration;

use config::{Content, Service, To};
use jiff::{SignedDuration, Timestamp};
use state::{EdgeId, ServiceKey, Snapshot};

use super::{Life, StatusEdge, last_error, never};
use crate::{
    run::{BEARER_PLACE, COMMAND_PLACE, HERE},
    selection::Selection,
    words::span,
};

/// Bearer tokens, files of this host and commands.
pub(super) fn edges(
    service: &Service,
    key: &ServiceKey,
    snapshot: &Snapshot,
    selection: &Selection,
    now: Timestamp,
) -> Vec<StatusEdge> {
    let mut edges = Vec::new();
    for (index, output) in service.outputs.iter().enumerate() {
        if matches!(output.content, Content::Bearer { .. }) && asked(output, selection) {
            let edge = one(
                "bearer",
                BEARER_PLACE,
                &service.vault_server,
                &output.name,
                key,
                snapshot,
                now,
            );
            // its own failures are kept under its own name
            let id = EdgeId::Bearer {
                service: key.clone(),
                output: output.name.clone(),
            };
            let last_error = last_error(snapshot, &id);
            edges.push(StatusEdge { last_error, ..edge });
        }
        if !selection.wants_node(HERE) {
            continue;
        }
        match &output.to {
            To::Command { .. } => {
                let edge = one(
                    "command",
                    COMMAND_PLACE,
                    "this host",
                    &output.name,
                    key,
                    snapshot,
                    now,
                );
                edges.push(warned(edge, &output.content, output.minimum));
            }
            To::Here { .. } if !service.yields_here(index) => {
                // without a known UID the path may be unknown; what was written there is known by it
                let path = service.uid.and_then(|uid| service.output_path(output, uid));
                let path = path.unwrap_or_else(|| output.name.clone());
                let edge = one("here", HERE, "this host", &path, key, snapshot, now);
                edges.push(warned(edge, &output.content, output.minimum));
            }
            _ => {}
        }
    }
    edges
}

fn asked(output: &config::Output, selection: &Selection) -> bool {
    match &output.to {
        To::Nodes { nodes, .. } => nodes.iter().any(|node| selection.wants_node(node)),
        _ => selection.wants_node(HERE),
    }
}

fn one(
    kind: &'static str,
    node: &str,
    place: &str,
    name: &str,
    key: &ServiceKey,
    snapshot: &Snapshot,
    now: Timestamp,
) -> StatusEdge {
    let id = EdgeId::Push {
        service: key.clone(),
        node: node.to_owned(),
        path: name.to_owned(),
    };
    let edge = never(kind, place, name);
    StatusEdge {
        life: snapshot
            .pushes
            .get(&id)
            .map_or(Life::Never, |p| Life::of(p.expires, now)),
        last_error: last_error(snapshot, &id),
        ..edge
    }
}

/// The edge of a file on a node, with a warning where its source has to be renewed.
pub(super) fn on_node(service: &Service, edge: StatusEdge) -> StatusEdge {
    let uid = service.uid;
    let output = service.outputs.iter().find(|output| {
        matches!(&output.to, To::Nodes { nodes, .. } if nodes.contains(&edge.place))
            && uid.and_then(|uid| service.output_path(output, uid)).as_ref() == Some(&edge.name)
    });
    match output {
        Some(output) => warned(edge, &output.content, output.minimum),
        None => edge,
    }
}

fn warned(mut edge: StatusEdge, content: &Content, minimum: Duration) -> StatusEdge {
    if let (Content::File { source }, Life::Until { seconds_left, .. }) = (content, edge.life)
        && u64::try_from(seconds_left).unwrap_or(0) < minimum.as_secs()
    {
        let left = span(SignedDuration::from_secs(seconds_left.max(0)));
        edge.warning = Some(format!("ends in {left}: {} has to be renewed", source.display()));
    }
    edge
}
