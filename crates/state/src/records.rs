//! What is remembered: plain data, no token among it.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

use crate::{EdgeId, Silence};

/// Who a service is: its place in the configuration, its account and its principal.
///
/// Never the name at HTCondor, which two services with different accounts may share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The experiment, as configured.
    pub experiment: String,
    /// The role, as configured.
    pub role: String,
    /// The UNIX account.
    pub account: String,
    /// The principal, realm included.
    pub principal: String,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}_{} ({}, {})",
            self.experiment, self.role, self.account, self.principal
        )
    }
}

/// A login at Vault: the long token that came of it is known here by its accessor only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Who logged in.
    pub service: ServiceKey,
    /// Accessor of the long token.
    pub accessor: String,
    /// When, by our clock.
    pub issued: Timestamp,
    /// Until when.
    pub expires: Timestamp,
}

/// The node token of a service, without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTokenRecord {
    /// Whose.
    pub service: ServiceKey,
    /// Its accessor.
    pub accessor: String,
    /// Accessor of the long token it hangs below.
    pub parent_accessor: String,
    /// When it was made.
    pub issued: Timestamp,
    /// Until when, its parent's end considered.
    pub expires: Timestamp,
}

/// What lies in a credd because we put it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Whose token.
    pub service: ServiceKey,
    /// The credd.
    pub credd: String,
    /// The credential's name there, handle included: `dune_production`.
    pub credential_name: String,
    /// Accessor of the token in it.
    pub accessor: String,
    /// When it was stored, by our clock.
    pub stored_at: Timestamp,
    /// Until when the token is good, by our clock.
    pub expires: Timestamp,
    /// The time of the file as the credd told it afterwards.
    pub top_time: Option<Timestamp>,
    /// The HTCondor user it was stored for.
    pub user: String,
}

/// What lies on a node because we put it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Whose file.
    pub service: ServiceKey,
    /// The node.
    pub node: String,
    /// The file's path there.
    pub path: String,
    /// What it holds, in the caller's words.
    pub kind: String,
    /// Accessor of the token in it; empty if there is none.
    pub accessor: String,
    /// [`crate::State::digest`] of the content.
    pub digest: String,
    /// When it was placed, or last seen to be there.
    pub pushed_at: Timestamp,
    /// Until when the content is good, if it ever ends.
    pub expires: Option<Timestamp>,
}

/// How an edge has fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeState {
    /// Which.
    pub edge: EdgeId,
    /// When it was last tried.
    pub last_attempt: Timestamp,
    /// When it last succeeded.
    pub last_success: Option<Timestamp>,
    /// Failures since then.
    pub consecutive_failures: u32,
    /// What kind the last failure was; none after a success.
    pub last_error_kind: Option<String>,
    /// What it said.
    pub last_error_text: Option<String>,
    /// Not before this is it to be tried again.
    pub next_try: Option<Timestamp>,
}

/// Everything known at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Logins by service, oldest first.
    pub logins: BTreeMap<ServiceKey, Vec<Login>>,
    /// Node tokens by service.
    pub node_tokens: BTreeMap<ServiceKey, NodeTokenRecord>,
    /// What lies in credds, by [`EdgeId::Store`].
    pub stores: BTreeMap<EdgeId, Store>,
    /// What lies on nodes, by [`EdgeId::Push`].
    pub pushes: BTreeMap<EdgeId, Push>,
    /// How edges have fared.
    pub edges: BTreeMap<EdgeId, EdgeState>,
    /// What was silenced, those over included: see [`crate::is_silenced`].
    pub silences: Vec<Silence>,
}

impl Snapshot {
    /// The latest login of a service.
    #[must_use]
    pub fn last_login(&self, service: &ServiceKey) -> Option<&Login> {
        self.logins.get(service)?.last()
    }

    /// What a credd holds of a service under a name.
    #[must_use]
    pub fn store(&self, service: &ServiceKey, credd: &str, name: &str) -> Option<&Store> {
        self.stores.get(&EdgeId::Store {
            service: service.clone(),
            credd: credd.into(),
            name: name.into(),
        })
    }

    /// Everything in credds of a service, with its edges, whatever else there is.
    pub fn store_edges_of<'a>(
        &'a self,
        service: &'a ServiceKey,
    ) -> impl Iterator<Item = (&'a EdgeId, &'a Store)> {
        let (credd, name) = (String::new(), String::new());
        let first = EdgeId::Store {
            service: service.clone(),
            credd,
            name,
        };
        self.stores
            .range(first..)
            .take_while(move |(_, store)| store.service == *service)
    }

    /// The same without the edges.
    pub fn stores_of<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = &'a Store> {
        self.store_edges_of(service).map(|(_, store)| store)
    }

    /// Everything on nodes of a service, with its edges.
    pub fn push_edges_of<'a>(
        &'a self,
        service: &'a ServiceKey,
    ) -> impl Iterator<Item = (&'a EdgeId, &'a Push)> {
        let (node, path) = (String::new(), String::new());
        let first = EdgeId::Push {
            service: service.clone(),
            node,
            path,
        };
        self.pushes
            .range(first..)
            .take_while(move |(_, push)| push.service == *service)
    }

    /// The same without the edges.
    pub fn pushes_of<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = &'a Push> {
        self.push_edges_of(service).map(|(_, push)| push)
    }

    /// How the edges of this kind and service have fared, those before `first` left out.
    pub fn fared_from(&self, first: EdgeId) -> impl Iterator<Item = &EdgeState> {
        let (kind, service) = (first.kind(), first.service().clone());
        self.edges
            .range(first..)
            .map(|(_, fared)| fared)
            .take_while(move |fared| fared.edge.kind() == kind && *fared.edge.service() == service)
    }

    /// What a node holds of a service at a path.
    #[must_use]
    pub fn push(&self, service: &ServiceKey, node: &str, path: &str) -> Option<&Push> {
        self.pushes.get(&EdgeId::Push {
            service: service.clone(),
            node: node.into(),
            path: path.into(),
        })
    }
}

/// A service for tests.
#[cfg(test)]
pub(crate) fn of_account(account: &str) -> ServiceKey {
    ServiceKey {
        experiment: "dune".into(),
        role: "production".into(),
        account: account.into(),
        principal: format!("{account}/managedtokens/mtk.test@MTK.TEST"),
    }
}
