//! How long everything still lives, from what is remembered alone: nobody is asked.

mod outputs;
mod view;

use std::{collections::BTreeSet, path::Path};

use config::{Broken, Site};
use jiff::Timestamp;
use serde::Serialize;
use state::{Silence, Snapshot};

use self::view::View;
use crate::{run::quota, selection::Selection};

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
    pub(crate) fn of(expires: Option<Timestamp>, now: Timestamp) -> Self {
        expires.map_or(Self::Endless, |expires| Self::Until {
            expires,
            seconds_left: expires.duration_since(now).as_secs(),
        })
    }

    /// Seconds left: least for what was never there, most for what does not end.
    #[must_use]
    pub fn left(self) -> i64 {
        match self {
            Self::Never => i64::MIN,
            Self::Until { seconds_left, .. } => seconds_left,
            Self::Endless => i64::MAX,
        }
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
    /// Whether less is left than mtk lets it come to: its renewal is overdue.
    pub overdue: bool,
    /// When it last failed since it last succeeded, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What should be seen to although all is well so far: whoever makes a file given out has to renew it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Whether it is a bearer token, which lives for hours however well it is looked after.
    #[serde(skip)]
    pub lives_hours: bool,
    /// The edge's name in the state; nothing if it was never tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
    /// When it was last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Timestamp>,
    /// When it last succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// Failures since then.
    #[serde(skip_serializing_if = "is_zero")]
    pub consecutive_failures: u32,
    /// By what it is nobody's alarm now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silenced: Option<Silenced>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl StatusEdge {
    /// Whether it is to worry anybody.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.silenced.is_none()
    }

    /// Whether less than this many seconds are left of it. A bearer token, which never has days, must only be alive.
    #[must_use]
    pub fn is_below(&self, seconds: i64) -> bool {
        if self.lives_hours {
            !self.life.is_alive()
        } else {
            self.life.left() < seconds
        }
    }
}

/// A silence that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silenced {
    /// `node`, `credd` or `service`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Why it was said.
    pub why: String,
    /// Who said so.
    pub who: String,
    /// When.
    pub since: Timestamp,
}

impl From<&Silence> for Silenced {
    fn from(silence: &Silence) -> Self {
        Self {
            kind: silence.kind.word(),
            name: silence.name.clone(),
            until: silence.until,
            why: silence.why.clone(),
            who: silence.who.clone(),
            since: silence.since,
        }
    }
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
    /// Whether it is silenced as a whole.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub silenced: bool,
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

/// The whole site.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// When this was true.
    pub now: Timestamp,
    /// The services in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// Those the configuration does not allow to be set up, with the reason.
    pub broken: Vec<(String, String)>,
    /// Those of them that are silenced.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub silenced_broken: BTreeSet<String>,
    /// What is silenced now.
    pub silences: Vec<Silenced>,
    /// The budgets of requests at the Vault servers that were asked from here.
    pub vaults: Vec<vault_client::Standing>,
}

impl Status {
    /// Every edge with its service.
    pub fn edges(&self) -> impl Iterator<Item = (&ServiceStatus, &StatusEdge)> {
        self.services
            .iter()
            .flat_map(|s| s.edges.iter().map(move |e| (s, e)))
    }

    /// Services that cannot be set up and are to worry somebody.
    pub fn broken_that_count(&self) -> impl Iterator<Item = &(String, String)> {
        self.broken
            .iter()
            .filter(|(service, _)| !self.silenced_broken.contains(service))
    }

    /// Whether everything that is configured is alive, what is silenced aside.
    #[must_use]
    pub fn all_alive(&self) -> bool {
        self.broken_that_count().next().is_none()
            && self.services.iter().all(|s| {
                s.silenced
                    || (!s.edges.is_empty() && s.edges.iter().all(|e| !e.counts() || e.life.is_alive()))
            })
    }
}

/// The status of the selected services at `now`.
#[must_use]
pub fn status(site: &Site, snapshot: &Snapshot, selection: &Selection, now: Timestamp) -> Status {
    let mut services: Vec<ServiceStatus> = site
        .services
        .iter()
        .filter(|s| selection.wants(s))
        .map(|s| View::new(site, s, snapshot, selection, now).service())
        .collect();
    // one that may have any credd does not have this one
    services.retain(|s| selection.credds.is_empty() || !s.edges.is_empty());
    let broken: Vec<_> = site.broken.iter().filter(|b| selection.wants_broken(b)).collect();
    let silenced = |b: &&&Broken| {
        state::is_service_silenced(&snapshot.silences, &b.id.experiment, &b.id.role, now).is_some()
    };
    Status {
        now,
        services,
        silenced_broken: broken.iter().filter(silenced).map(|b| b.id.to_string()).collect(),
        broken: broken
            .iter()
            .map(|b| (b.id.to_string(), b.reason.clone()))
            .collect(),
        silences: snapshot
            .silences
            .iter()
            .filter(|s| s.holds(now))
            .map(Silenced::from)
            .collect(),
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
