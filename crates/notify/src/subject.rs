//! What can be told of as one thing, and how bad it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp};
use pipeline::{Edge, Outcome, ServiceReport, Target, edge_id};
use serde::Serialize;
use state::ServiceKey;

use crate::plan::Facts;

/// What of a service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The service could not be set up from the configuration.
    Setup,
    /// Its login to Vault.
    Login,
    /// Finding its credds.
    Discover,
    /// Its credential at a credd.
    Store,
    /// Its files on a node.
    Push,
    /// A bearer token for an output.
    Bearer,
    /// A file of this host.
    Here,
    /// A command that takes an output.
    Command,
}

impl Kind {
    fn of(target: &Target) -> (Self, String) {
        match target {
            Target::Setup => (Self::Setup, String::new()),
            Target::Login { vault } => (Self::Login, vault.clone()),
            Target::Discover { collectors } => (Self::Discover, collectors.clone()),
            Target::Store { credd, .. } => (Self::Store, credd.clone()),
            Target::Push { node, .. } => (Self::Push, node.clone()),
            Target::Bearer { output } => (Self::Bearer, output.clone()),
            Target::Here { path } => (Self::Here, path.clone()),
            Target::Command { output } => (Self::Command, output.clone()),
        }
    }

    /// As it stands in the name of a subject.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Login => "login",
            Self::Discover => "discover",
            Self::Store => "store",
            Self::Push => "push",
            Self::Bearer => "bearer",
            Self::Here => "here",
            Self::Command => "command",
        }
    }

    /// For people.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Setup => "cannot be set up",
            Self::Login => "login to Vault",
            Self::Discover => "finding credds",
            Self::Store => "store at credd",
            Self::Push => "push to node",
            Self::Bearer => "bearer token for output",
            Self::Here => "file of this host",
            Self::Command => "command of output",
        }
    }
}

/// One thing somebody is told of: all files on a node are one, for they fail together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Subject {
    /// As configured.
    pub experiment: String,
    /// As configured.
    pub role: String,
    /// What of the service.
    pub kind: Kind,
    /// The Vault server, collectors, credd or node; empty for a setup.
    pub place: String,
}

impl fmt::Display for Subject {
    /// Its name where notices are remembered: stable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.word())?;
        // who logs in where is one thing, whatever the server is called
        let place = match self.kind {
            Kind::Login | Kind::Discover | Kind::Setup => "",
            _ => self.place.as_str(),
        };
        for part in [&self.experiment, &self.role, place] {
            write!(f, "/{}", escape(part))?;
        }
        Ok(())
    }
}

pub(crate) fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

/// How bad it is, by the time left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It fails, and there is time.
    Notice,
    /// What lies there ends in some days.
    Warning,
    /// It ends today, or is over.
    Critical,
}

impl Severity {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// As it is remembered.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Notice => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }
}

/// Something that fails.
#[derive(Debug, Clone)]
pub struct Item {
    /// What.
    pub subject: Subject,
    /// The account, if it is known.
    pub account: String,
    /// How often in a row, this run included.
    pub failures: u32,
    /// A word for the error.
    pub error_kind: String,
    /// Who answered or did not.
    pub peer: String,
    /// The whole chain of causes.
    pub text: String,
    /// When what lies there ends, if anything does.
    pub ends: Option<Timestamp>,
    /// When it last went well.
    pub last_success: Option<Timestamp>,
    /// How bad it is.
    pub severity: Severity,
}

/// What of a run fails, and what is well.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) failing: Vec<Item>,
    pub(crate) well: Vec<Subject>,
    /// The names of all that the run knows of.
    pub(crate) subjects: BTreeSet<String>,
}

pub(crate) fn gather(facts: &Facts<'_>) -> Gathered {
    let mut gathered = Gathered::default();
    for service in &facts.report.services {
        let subject = |kind, place| Subject {
            experiment: service.experiment.clone(),
            role: service.role.clone(),
            kind,
            place,
        };
        let mut by_subject: BTreeMap<Subject, Vec<&Edge>> = BTreeMap::new();
        for edge in &service.edges {
            let (kind, place) = Kind::of(&edge.target);
            by_subject.entry(subject(kind, place)).or_default().push(edge);
        }
        let has = |kind| by_subject.keys().any(|s| s.kind == kind);
        // these have an edge only where they fail, or where they were due
        let fresh = service.edges.iter().all(|e| e.outcome.is_fresh());
        for (kind, well) in [
            (Kind::Setup, true),
            (Kind::Discover, has(Kind::Store)),
            (Kind::Login, fresh && has(Kind::Store)),
        ] {
            if !has(kind) && well {
                let subject = subject(kind, String::new());
                gathered.subjects.insert(subject.to_string());
                gathered.well.push(subject);
            }
        }
        for (subject, edges) in by_subject {
            gathered.subjects.insert(subject.to_string());
            let fails = |e: &&&Edge| e.outcome == Outcome::Failed;
            // somebody has said that it is down
            let failed: Vec<&Edge> = edges
                .iter()
                .filter(fails)
                .filter(|e| !e.silenced)
                .copied()
                .collect();
            if !failed.is_empty() {
                gathered.failing.push(item(facts, service, subject, &failed));
            } else if edges.iter().all(|e| e.outcome.is_fresh()) {
                gathered.well.push(subject);
            }
        }
    }
    gathered
}

fn item(facts: &Facts<'_>, service: &ServiceReport, subject: Subject, failed: &[&Edge]) -> Item {
    let (mut failures, mut last_success) = (0, None);
    for edge in failed {
        let id = edge_id(service, &edge.target);
        if let Some(state) = id.and_then(|id| facts.snapshot.edges.get(&id)) {
            failures = failures.max(state.consecutive_failures);
            last_success = last_success.max(state.last_success);
        }
    }
    let ends = ends(facts, service, &subject, failed);
    let failure = failed.iter().find_map(|e| e.failure.as_ref());
    Item {
        failures,
        ends,
        last_success,
        severity: severity(facts, subject.kind, ends),
        error_kind: failure.map(|f| f.kind.clone()).unwrap_or_default(),
        peer: failure.map(|f| f.peer.clone()).unwrap_or_default(),
        text: failure.map(|f| f.text.clone()).unwrap_or_default(),
        account: service.account.clone(),
        subject,
    }
}

/// When the first of what depends on it ends: what lies at the place; all of the service's where nothing can be renewed
/// anywhere.
fn ends(
    facts: &Facts<'_>,
    service: &ServiceReport,
    subject: &Subject,
    failed: &[&Edge],
) -> Option<Timestamp> {
    let snapshot = facts.snapshot;
    // of a service that is broken nobody knows account and principal
    let mine = |key: &ServiceKey| {
        (key.experiment == service.experiment && key.role == service.role)
            && (subject.kind == Kind::Setup
                || (key.account == service.account && key.principal == service.principal))
    };
    let stores = || {
        snapshot
            .stores
            .values()
            .filter(|s| mine(&s.service))
            .map(|s| s.expires)
    };
    let pushes = |node: Option<&str>| {
        let here = |n: &str| node.is_none_or(|node| node == n);
        let pushes = snapshot
            .pushes
            .values()
            .filter(|p| mine(&p.service) && here(&p.node));
        pushes.filter_map(|p| p.expires).min()
    };
    match subject.kind {
        Kind::Setup | Kind::Login => stores().chain(pushes(None)).min(),
        Kind::Discover => stores().min(),
        Kind::Push => pushes(Some(&subject.place)),
        Kind::Store | Kind::Here | Kind::Command => {
            let there = failed.iter().filter_map(|edge| {
                let id = edge_id(service, &edge.target)?;
                let stored = snapshot.stores.get(&id).map(|s| s.expires);
                stored.or_else(|| snapshot.pushes.get(&id)?.expires)
            });
            there.min()
        }
        Kind::Bearer => failed.iter().filter_map(|edge| edge.expires).min(),
    }
}

fn severity(facts: &Facts<'_>, kind: Kind, ends: Option<Timestamp>) -> Severity {
    let wanted = &facts.site.notifications;
    let within = |span| {
        let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        ends.is_some_and(|ends| ends.duration_since(facts.now) < span)
    };
    if within(wanted.critical_below) {
        Severity::Critical
    } else if within(wanted.warn_below) || kind == Kind::Setup {
        Severity::Warning
    } else {
        Severity::Notice
    }
}
