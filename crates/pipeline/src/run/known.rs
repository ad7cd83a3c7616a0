//! What the state knows of one service, in the form the planner asks for.

use std::collections::BTreeMap;

use config::Service;
use credential::{NodeToken, VaultToken};
use jiff::Timestamp;
use state::{ServiceKey, Snapshot};
use zeroize::Zeroizing;

use crate::{
    failure::{Failure, Stage},
    plan::{self, Pushed, StoredThere},
};

/// A node token with its accessor.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) token: NodeToken,
    /// Empty if the record of it is lost.
    pub(crate) accessor: String,
}

impl Kept {
    /// When it was made and when it ends.
    pub(crate) fn life(&self) -> (Timestamp, Timestamp) {
        let life = self.token.lifetime();
        (life.issued(), life.until())
    }

    /// When it ends, by our own clock, its parent's end considered.
    pub(crate) fn until(&self) -> Timestamp {
        self.token.lifetime().until()
    }
}

/// The file of a node token, byte for byte as it lies on a node.
pub(crate) fn file_of(kept: &Kept) -> Zeroizing<Vec<u8>> {
    // it is pushed to nodes, or its digest is taken
    let token = kept.token.expose().as_bytes();
    let mut file = Zeroizing::new(Vec::with_capacity(token.len() + 1));
    file.extend_from_slice(token);
    file.push(b'\n');
    file
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

/// What the state calls the service: never its name at HTCondor alone, which two may share.
#[must_use]
pub fn key(service: &Service) -> ServiceKey {
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
        let node_token = self.node_token.as_ref().map(Kept::until);
        plan::first_end(self.stores.values(), node_token, wants_stores, wants_node_token)
    }

    /// The node token, if there is one that nodes can use now.
    pub(crate) fn pushable(&self, service: &Service) -> Result<Kept, Failure> {
        let alive = |token: &&Kept| token.until() > Timestamp::now();
        self.node_token.as_ref().filter(alive).cloned().ok_or_else(|| {
            Failure::text(
                Stage::Push,
                "no-node-token",
                service.id.to_string(),
                "there is no node token to push; `mtk refresh` makes one",
            )
        })
    }

    /// From everything that is remembered.
    pub(crate) fn of(service: &Service, snapshot: &Snapshot, node_token: Option<NodeToken>) -> Self {
        let key = key(service);
        let name = service.name.to_string();
        let stores = snapshot
            .stores_of(&key)
            .filter(|s| s.credential_name == name)
            .map(|s| (s.credd.clone(), StoredThere::from(s)))
            .collect();
        let pushes = snapshot
            .pushes_of(&key)
            .map(|p| ((p.node.clone(), p.path.clone()), Pushed::from(p)))
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
