//! How long everything still lives, from what is remembered alone: nobody is asked.

mod outputs;

use std::{collections::BTreeSet, path::Path};

use config::{Checking, Service, Site};
use jiff::Timestamp;
use serde::Serialize;
use state::{EdgeId, Snapshot};

use crate::{
    run::{quota, service_key},
    selection::Selection,
};

/// What is known of the life of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Life {
    /// It was never stored or pushed.
    Never,
    /// It lives until then.
    Until {
        /// When it ends, by our own clock.
        expires: Timestamp,
        /// Seconds left; negative once it is over.
        seconds_left: i64,
    },
    /// It does not end (a default-role file).
    Endless,
}

impl Life {
    fn of(expires: Option<Timestamp>, now: Timestamp) -> Self {
        expires.map_or(Self::Endless, |expires| Self::Until {
            expires,
            seconds_left: expires.duration_since(now).as_secs(),
        })
    }

    /// Whether it can be used now.
    #[must_use]
    pub fn is_alive(self) -> bool {
        match self {
            Self::Never => false,
            Self::Until { seconds_left, .. } => seconds_left > 0,
            Self::Endless => true,
        }
    }
}

/// One thing at one place.
#[derive(Debug, Clone, Serialize)]
pub struct StatusEdge {
    /// `credd`, `node`, `bearer` (a token read for an output), `here` (a file of this host) or `command`.
    pub kind: &'static str,
    /// The credd or the node.
    pub place: String,
    /// The credential's name or the file's path; empty if nothing was ever put there.
    pub name: String,
    /// How long it lives.
    pub life: Life,
    /// When it last failed since it last succeeded, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What should be seen to although all is well so far: whoever makes a file given out has to renew it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// All of one service.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceStatus {
    /// As written in the configuration.
    pub experiment: String,
    /// As written in the configuration.
    pub role: String,
    /// Its name at HTCondor.
    pub service: String,
    /// Its account.
    pub account: String,
    /// The node token that would be pushed now.
    pub node_token: Life,
    /// Its credds and nodes.
    pub edges: Vec<StatusEdge>,
    /// Nodes whose host keys the site wants trusted without anybody vouching for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weak_host_keys: Vec<WeakHostKeys>,
}

/// A node that gets tokens without its host key being known beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeakHostKeys {
    /// The node.
    pub node: String,
    /// What the site wrote: `accept-new` or `no`.
    pub strict_host_key_checking: &'static str,
}

fn weak_host_keys(service: &Service, selection: &Selection) -> Vec<WeakHostKeys> {
    let nodes = service.nodes.iter().filter(|node| selection.shows_node(node));
    nodes
        .filter_map(|node| {
            let strict_host_key_checking = match service.ssh_on(node).checking {
                Checking::Strict => return None,
                Checking::AcceptNew => "accept-new",
                Checking::Off => "no",
            };
            let node = node.clone();
            Some(WeakHostKeys {
                node,
                strict_host_key_checking,
            })
        })
        .collect()
}

/// The whole site.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// When this was true.
    pub now: Timestamp,
    /// The services in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// Those the configuration does not allow to be set up, with the reason.
    pub broken: Vec<(String, String)>,
    /// The budgets of requests at the Vault servers that were asked from here.
    pub vaults: Vec<vault_client::Standing>,
}

impl Status {
    /// Whether everything that is configured is alive.
    #[must_use]
    pub fn all_alive(&self) -> bool {
        self.broken.is_empty()
            && self
                .services
                .iter()
                .all(|s| !s.edges.is_empty() && s.edges.iter().all(|e| e.life.is_alive()))
    }
}

/// The status of the selected services at `now`.
#[must_use]
pub fn status(site: &Site, snapshot: &Snapshot, selection: &Selection, now: Timestamp) -> Status {
    let services = site
        .services
        .iter()
        .filter(|s| selection.wants(s))
        .map(|s| one(s, snapshot, selection, now))
        .collect();
    let broken = site
        .broken
        .iter()
        .filter(|b| selection.wants_broken(b))
        .map(|b| (b.id.to_string(), b.reason.clone()))
        .collect();
    Status {
        now,
        services,
        broken,
        vaults: Vec::new(),
    }
}

impl Status {
    /// Adds how the budgets of the site's Vault servers stand, by the files in the state directory.
    #[must_use]
    pub fn with_vaults(mut self, site: &Site, state_dir: &Path) -> Self {
        let servers: BTreeSet<&str> = site.services.iter().map(|s| s.vault_server.as_str()).collect();
        let quota = quota(&site.vault.quota);
        for server in servers {
            let Ok(server) = server.parse() else { continue };
            match vault_client::standing(state_dir, &server, &quota, self.now) {
                Ok(standing) => self.vaults.extend(standing),
                Err(error) => tracing::warn!(%server, %error, "the budget of Vault requests cannot be read"),
            }
        }
        self.vaults.dedup();
        self
    }
}

fn one(service: &Service, snapshot: &Snapshot, selection: &Selection, now: Timestamp) -> ServiceStatus {
    let key = service_key(service);
    let name = service.name.to_string();
    let mut edges: Vec<StatusEdge> = snapshot
        .store_edges_of(&key)
        .filter(|(_, s)| s.credential_name == name && selection.shows_credd(&s.credd))
        .map(|(id, s)| StatusEdge {
            kind: "credd",
            place: s.credd.clone(),
            name: s.credential_name.clone(),
            life: Life::of(Some(s.expires), now),
            last_error: last_error(snapshot, id),
            warning: None,
        })
        .collect();
    for credd in service.credds.iter().filter(|c| selection.shows_credd(c)) {
        if !edges.iter().any(|e| e.place == *credd) {
            edges.push(never("credd", credd, &name));
        }
    }
    for node in service.nodes.iter().filter(|n| selection.shows_node(n)) {
        let before = edges.len();
        let there = snapshot.push_edges_of(&key).filter(|(_, p)| p.node == *node);
        edges.extend(there.map(|(id, p)| {
            let edge = StatusEdge {
                kind: "node",
                place: p.node.clone(),
                name: p.path.clone(),
                life: Life::of(p.expires, now),
                last_error: last_error(snapshot, id),
                warning: None,
            };
            outputs::on_node(service, edge)
        }));
        if edges.len() == before {
            edges.push(never("node", node, ""));
        }
    }
    edges.extend(outputs::edges(service, &key, snapshot, selection, now));
    let node_token = snapshot
        .node_tokens
        .get(&key)
        .map_or(Life::Never, |t| Life::of(Some(t.expires), now));
    ServiceStatus {
        experiment: service.id.experiment.clone(),
        role: service.id.role.clone(),
        service: name,
        account: service.account.clone(),
        node_token,
        edges,
        weak_host_keys: weak_host_keys(service, selection),
    }
}

/// What the edge last said when it failed, unless it succeeded since.
fn last_error(snapshot: &Snapshot, id: &EdgeId) -> Option<String> {
    snapshot.edges.get(id)?.last_error_text.clone()
}

fn never(kind: &'static str, place: &str, name: &str) -> StatusEdge {
    StatusEdge {
        kind,
        place: place.to_owned(),
        name: name.to_owned(),
        life: Life::Never,
        last_error: None,
        warning: None,
    }
}
