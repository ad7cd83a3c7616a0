//! The outputs of a service that are no files on nodes, and what there is to say about those that are.

use config::{Content, Output, Service, To};
use jiff::SignedDuration;
use state::EdgeId;

use super::{Life, StatusEdge, view::View};
use crate::{
    run::{BEARER_PLACE, COMMAND_PLACE, HERE},
    words::span,
};

/// Bearer tokens, files of this host and commands.
pub(super) fn edges(view: &View<'_>, edges: &mut Vec<StatusEdge>) {
    let service = view.service;
    for (index, output) in service.outputs.iter().enumerate() {
        if matches!(output.content, Content::Bearer { .. }) && asked(output, view) {
            // its own failures are kept under its own name
            let id = EdgeId::Bearer {
                service: view.key.clone(),
                output: output.name.clone(),
            };
            let there = pushed(view, BEARER_PLACE, &output.name);
            let place = service.vault_server.clone();
            edges.push(of(
                output,
                view.edge("bearer", &id, life(view, &there)),
                place,
                &output.name,
            ));
        }
        if !view.selection.shows_node(HERE) {
            continue;
        }
        let (kind, node, name) = match &output.to {
            To::Command { .. } => ("command", COMMAND_PLACE, output.name.clone()),
            To::Here { .. } if !service.yields_here(index) => {
                // without a known UID the path may be unknown; what was written there is known by it
                let path = service.uid.and_then(|uid| service.output_path(output, uid));
                ("here", HERE, path.unwrap_or_else(|| output.name.clone()))
            }
            _ => continue,
        };
        let id = pushed(view, node, &name);
        let edge = view.edge(kind, &id, life(view, &id));
        edges.push(warned(of(output, edge, "this host".to_owned(), &name), output));
    }
}

fn asked(output: &Output, view: &View<'_>) -> bool {
    match &output.to {
        To::Nodes { nodes, .. } => nodes.iter().any(|node| view.selection.shows_node(node)),
        _ => view.selection.shows_node(HERE),
    }
}

fn pushed(view: &View<'_>, node: &str, name: &str) -> EdgeId {
    EdgeId::Push {
        service: view.key.clone(),
        node: node.to_owned(),
        path: name.to_owned(),
    }
}

fn life(view: &View<'_>, id: &EdgeId) -> Life {
    let there = view.snapshot.pushes.get(id);
    there.map_or(Life::Never, |p| Life::of(p.expires, view.now))
}

/// The edge as one of this output, which has a minimum of its own.
fn of(output: &Output, edge: StatusEdge, place: String, name: &str) -> StatusEdge {
    StatusEdge {
        place,
        name: name.to_owned(),
        lives_hours: matches!(output.content, Content::Bearer { .. }),
        overdue: edge.life.left() < i64::try_from(output.minimum.as_secs()).unwrap_or(i64::MAX),
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
        Some(output) => {
            let (place, name) = (edge.place.clone(), edge.name.clone());
            warned(of(output, edge, place, &name), output)
        }
        None => edge,
    }
}

fn warned(mut edge: StatusEdge, output: &Output) -> StatusEdge {
    if let (Content::File { source }, Life::Until { seconds_left, .. }) = (&output.content, edge.life)
        && edge.overdue
    {
        let left = span(SignedDuration::from_secs(seconds_left.max(0)));
        edge.warning = Some(format!("ends in {left}: {} has to be renewed", source.display()));
    }
    edge
}
