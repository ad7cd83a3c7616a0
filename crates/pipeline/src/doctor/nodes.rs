//! Nodes: the host key, the login, the files.

use config::Kind;
use credential::{SecretBytes, VaultToken};
use distribute::{Difference, File, Mode};
use futures_util::future::join_all;
use state::EdgeId;

use super::{Case, Check, Hop};
use crate::{
    failure::{Failure, Stage},
    run::{difference, held, node_address, service_key},
};

pub(super) async fn examine(case: &Case<'_>) -> Vec<Check> {
    let nodes = case.service.nodes.iter();
    let each = nodes
        .filter(|node| case.selection.shows_node(node))
        .map(|node| one(case, node));
    join_all(each).await.into_iter().flatten().collect()
}

async fn one(case: &Case<'_>, node: &str) -> Vec<Check> {
    let service = case.service;
    let files = match files(case, node) {
        Ok(files) => files,
        Err(failure) => return vec![Check::failed(Hop::Node, &failure, service)],
    };
    let address = node_address(case.world, node, service).await;
    let world = case.world;
    let looked = distribute::place(&world.gate, &address, &files, Mode::Verify, &world.ssh_limits).await;
    let report = match looked {
        Ok(report) => report,
        Err(e) => {
            let failure = Failure::new(Stage::Push, node, &e, e.retryable());
            let mut check = Check::failed(Hop::Node, &failure, service);
            if let distribute::Error::AuthRefused { unheard: true, .. } = &e {
                check.remedy = Some(super::remedy::unheard(service));
            }
            return vec![check];
        }
    };
    let found = format!(
        "its host key is the known one; {} logged in by {} ({})",
        service.account, report.method, report.server
    );
    let mut checks = vec![Check::good(Hop::Node, node, found)];
    for (file, landed) in files.iter().zip(report.files) {
        checks.push(match landed {
            Ok(landed) => lies(case, node, &file.path, landed.difference),
            Err(e) => {
                let failure = Failure::new(Stage::Push, format!("{node}:{}", file.path), &e, e.retryable());
                Check::failed(Hop::File, &failure, service)
            }
        });
    }
    checks
}

fn lies(case: &Case<'_>, node: &str, path: &str, differs: Option<Difference>) -> Check {
    let service = case.service;
    let peer = format!("{node}:{path}");
    let Some(differs) = differs else {
        return Check::good(Hop::File, peer, "is there, as it should be");
    };
    let id = EdgeId::Push {
        service: service_key(service),
        node: node.to_owned(),
        path: path.to_owned(),
    };
    let push = format!("mtk push --service {}", service.id);
    let pushed = case.snapshot.pushes.get(&id);
    match (differs, pushed) {
        (Difference::Missing, Some(pushed)) => {
            let found = format!("is gone again since {}", pushed.pushed_at.strftime("%F %T"));
            let remedy = format!(
                "{push} puts it back; if it vanishes again, something cleans that directory (tmpfiles.d, tmpwatch): \
                 exempt the file there"
            );
            Check::warning(Hop::File, peer, found, remedy)
        }
        (Difference::Missing, None) => {
            Check::warning(Hop::File, peer, "was never put there by this mtk", push)
        }
        (Difference::NotAFile, _) => Check::warning(
            Hop::File,
            peer,
            "is no file but something else",
            format!("{push} replaces it"),
        ),
        (other, _) => {
            let found = format!("is not what it should be: {}", difference(other));
            Check::warning(Hop::File, peer, found, format!("{push} replaces it"))
        }
    }
}

/// The files as they should be. Without a node token there is nothing to compare with, and every file differs.
fn files(case: &Case<'_>, node: &str) -> Result<Vec<File>, Failure> {
    let service = case.service;
    let uid = case.world.uid(service)?;
    let destinations = service
        .destinations_on(node, uid)
        .map_err(|e| Failure::new(Stage::Configuration, service.account.clone(), &e, false))?;
    let token = case.world.state.node_token(&service_key(service)).ok().flatten();
    let key = service_key(service);
    let content = |kind| match (kind, &token) {
        (Kind::Output(_), _) => service
            .output(kind)
            .and_then(|output| held(case.world, service, &key, output))
            .unwrap_or_else(|| SecretBytes::from(String::new())),
        (Kind::DefaultRole, _) => SecretBytes::from(service.role_file_content()),
        // compared at the node's end of our session, and written nowhere
        (_, Some(token)) => SecretBytes::from(format!("{}\n", token.expose())),
        (_, None) => SecretBytes::from(String::new()),
    };
    Ok(destinations
        .into_iter()
        .map(|destination| File {
            content: content(destination.kind),
            path: destination.path,
            mode: destination.mode,
        })
        .collect())
}
