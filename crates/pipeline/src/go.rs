//! What the Go service remembers, taken over.

use std::collections::{BTreeMap, BTreeSet};

use config::{Service, Site};
use jiff::Timestamp;
use state::{EdgeId, GoDatabase, KnownUid, Learnt, State};

use crate::run::service_key;

/// What was taken over from the Go service's database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Accounts whose UID is known now.
    pub uids: usize,
    /// Edges that have a past now.
    pub failures: usize,
    /// Accounts of which something else was known: that stays.
    pub drifted: Vec<String>,
    /// Services with failures that the configuration does not know.
    pub unknown: Vec<String>,
}

/// Takes UIDs over, and counts of failures for edges that have no past of their own here.
///
/// The Go service counts by its own service name, which is the one at HTCondor, and by node: each of the service's files
/// on the node gets the count.
///
/// # Errors
/// [`state::Error`]; what was taken over until then is.
pub async fn take_over(
    site: &Site,
    state: &State,
    go: &GoDatabase,
    now: Timestamp,
) -> Result<TakenOver, state::Error> {
    let mut taken = TakenOver::default();
    for (account, uid) in &go.uids {
        match state.learn_uid(account, *uid, "go", now).await? {
            Learnt::Drift { .. } => taken.drifted.push(account.clone()),
            Learnt::New | Learnt::Same => taken.uids += 1,
        }
    }
    // where another UID was known, that one is in use, and its files are the ones that were failed to push
    let uids = state.uids().await?;
    let mut unknown = BTreeSet::new();
    for (name, count) in &go.setup_errors {
        let edges: Vec<EdgeId> = named(site, name)
            .map(|s| EdgeId::Login {
                service: service_key(s),
            })
            .collect();
        if edges.is_empty() {
            unknown.insert(name.clone());
        }
        let text = format!("the Go service could not set it up {count} times");
        taken.failures += count_for(state, &edges, now, *count, &text).await?;
    }
    for ((name, node), count) in &go.push_errors {
        let mut edges = Vec::new();
        let mut any = false;
        for service in named(site, name) {
            any = true;
            if service.nodes.contains(node) {
                edges.extend(pushes(service, node, &uids));
            }
        }
        if !any {
            unknown.insert(name.clone());
        }
        let text = format!("the Go service could not push to {node} {count} times");
        taken.failures += count_for(state, &edges, now, *count, &text).await?;
    }
    taken.unknown = unknown.into_iter().collect();
    Ok(taken)
}

/// The services that go by this name at HTCondor, or as configured.
fn named<'a>(site: &'a Site, name: &'a str) -> impl Iterator<Item = &'a Service> {
    site.services
        .iter()
        .filter(move |s| s.name.to_string() == name || s.id.to_string().eq_ignore_ascii_case(name))
}

fn pushes(service: &Service, node: &str, uids: &BTreeMap<String, KnownUid>) -> Vec<EdgeId> {
    let uid = service
        .uid
        .or_else(|| uids.get(&service.account).map(|known| known.uid));
    let files = uid.and_then(|uid| service.destinations_on(node, uid).ok());
    files
        .unwrap_or_default()
        .into_iter()
        // the Go service has no outputs
        .filter(|file| !matches!(file.kind, config::Kind::Output(_)))
        .map(|file| EdgeId::Push {
            service: service_key(service),
            node: node.to_owned(),
            path: file.path,
        })
        .collect()
}

async fn count_for(
    state: &State,
    edges: &[EdgeId],
    now: Timestamp,
    count: u32,
    text: &str,
) -> Result<usize, state::Error> {
    let mut taken = 0;
    for edge in edges {
        taken += usize::from(state.take_over_failures(edge, now, count, text).await?);
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_belong_to_the_files_of_the_uid_in_use() {
        let text = "vaultServer: vault.test\ncondorCollectorHost: cm.test\n\
                    kerberosPrincipalPattern: '{{.Account}}/robot@TEST'\nexperiments:\n  dune:\n    roles:\n      \
                    production: {account: dunepro, destinationNodes: [node.test]}\n";
        let path = std::path::Path::new("managedTokens.yml");
        let site = config::parse(path, text, &config::Env::default()).unwrap().site;
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(&dir.path().join("mtk")).await.unwrap();
        let now = Timestamp::now();
        state.learn_uid("dunepro", 50001, "ferry", now).await.unwrap();
        let go = GoDatabase {
            uids: [("dunepro".to_owned(), 666)].into(),
            push_errors: [(("dune_production".to_owned(), "node.test".to_owned()), 3)].into(),
            ..GoDatabase::default()
        };
        let taken = take_over(&site, &state, &go, now).await.unwrap();
        assert_eq!(taken.drifted, ["dunepro"]);
        let edges = state.snapshot().await.unwrap().edges;
        assert!(!edges.is_empty());
        for edge in edges.keys() {
            assert!(!edge.to_string().contains("666"), "{edge}");
        }
        assert!(edges.keys().any(|e| e.to_string().contains("50001")), "{edges:?}");
    }
}
