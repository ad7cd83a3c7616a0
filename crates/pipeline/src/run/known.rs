//! What the state knows of one service, in the form the planner asks for.

use std::collections::BTreeMap;

use config::Service;
use credential::NodeToken;
use jiff::Timestamp;
use state::{ServiceKey, Snapshot};

use crate::plan::StoredThere;

/// A node's file as it was last pushed.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    /// The accessor of the token in it; empty for files that hold none.
    pub(crate) accessor: String,
    /// The keyed digest of its content.
    pub(crate) digest: String,
}

/// A node token with its accessor.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) token: NodeToken,
    /// Empty if the record of it is lost.
    pub(crate) accessor: String,
}

impl Kept {
    /// When it ends, by our own clock, its parent's end considered.
    pub(crate) fn until(&self) -> Timestamp {
        self.token.lifetime().until()
    }
}

/// What is remembered of one service.
pub(crate) struct Known {
    pub(crate) key: ServiceKey,
    /// By credd, for this service's name there.
    pub(crate) stores: BTreeMap<String, StoredThere>,
    /// By node and path.
    pub(crate) pushes: BTreeMap<(String, String), Pushed>,
    /// The node token of the state directory.
    pub(crate) node_token: Option<Kept>,
}

/// What the state calls the service (design.md section 1: never its HTCondor name alone).
pub(crate) fn key(service: &Service) -> ServiceKey {
    ServiceKey {
        experiment: service.id.experiment.clone(),
        role: service.id.role.clone(),
        account: service.account.clone(),
        principal: service.principal.to_string(),
    }
}

impl Known {
    /// When the first of what the service has ends; `None` if it has nothing or lacks something. Whoever has least
    /// time left goes first where Vault lets only so many requests through.
    pub(crate) fn first_end(&self, wants_stores: bool, wants_node_token: bool) -> Option<Timestamp> {
        let credds = self.stores.values().map(|s| s.expires).min();
        match (credds, self.node_token.as_ref().map(Kept::until)) {
            (Some(credds), Some(nodes)) => Some(credds.min(nodes)),
            (Some(credds), None) if !wants_node_token => Some(credds),
            (None, Some(nodes)) if !wants_stores => Some(nodes),
            _ => None,
        }
    }

    /// From everything that is remembered.
    pub(crate) fn of(service: &Service, snapshot: &Snapshot, node_token: Option<NodeToken>) -> Self {
        let key = key(service);
        let name = service.name.to_string();
        let stores = snapshot
            .stores
            .values()
            .filter(|s| s.service == key && s.credential_name == name)
            .map(|s| {
                (
                    s.credd.clone(),
                    StoredThere {
                        expires: s.expires,
                        file_time: s.top_time,
                    },
                )
            })
            .collect();
        let pushes = snapshot
            .pushes
            .values()
            .filter(|p| p.service == key)
            .map(|p| {
                let pushed = Pushed {
                    accessor: p.accessor.clone(),
                    digest: p.digest.clone(),
                };
                ((p.node.clone(), p.path.clone()), pushed)
            })
            .collect();
        let accessor = snapshot
            .node_tokens
            .get(&key)
            .map(|t| t.accessor.clone())
            .unwrap_or_default();
        let node_token = node_token.map(|token| Kept { token, accessor });
        Self {
            key,
            stores,
            pushes,
            node_token,
        }
    }
}
