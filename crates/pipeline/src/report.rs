//! What a run did, edge by edge: the data behind the summary, `--output json` and the exit code.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

/// How an edge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Something new was made, stored or written.
    Done,
    /// Nothing was due, and the peer said that it still holds what was stored.
    Fresh,
    /// Nothing was due by our own records; the peer was not asked (`--no-verify`).
    Trusted,
    /// A dry run: it would have been done.
    Due,
    /// It failed; what was there before still is.
    Failed,
    /// The run was told to stop before this edge ended.
    Interrupted,
}

impl Outcome {
    /// As it is written in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Fresh => "fresh",
            Self::Trusted => "trusted",
            Self::Due => "due",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the edge is as it should be.
    #[must_use]
    pub fn is_fresh(self) -> bool {
        matches!(self, Self::Done | Self::Fresh | Self::Trusted)
    }
}

/// One thing that can succeed or fail alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Target {
    /// The service itself could not be set up from the configuration.
    Setup,
    /// The login to Vault and the node token made from it.
    Login {
        /// The Vault server as configured.
        vault: String,
    },
    /// Finding the credds of the service.
    Discover {
        /// The collectors asked.
        collectors: String,
    },
    /// A credential at a credd.
    Store {
        /// The credd's name.
        credd: String,
        /// The name of the credential there.
        credential: String,
    },
    /// A bearer token read for an output.
    Bearer {
        /// The output's name.
        output: String,
    },
    /// A file of this host.
    Here {
        /// Its path.
        path: String,
    },
    /// A command that takes an output.
    Command {
        /// The output's name.
        output: String,
    },
    /// A file on a node.
    Push {
        /// The node.
        node: String,
        /// The file's path there.
        path: String,
    },
}

/// One edge of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Edge {
    /// Which edge.
    pub target: Target,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was due, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When what lies there ends, by our own clock, if we know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether it is known to be down (`mtk silence`): it was tried, but how it ended is nobody's alarm.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub silenced: bool,
    /// Seconds since the start of the run at which work on it began.
    pub began: f64,
    /// Seconds since the start of the run at which the edge ended.
    pub ended: f64,
}

/// How long something took that several edges share.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Shared {
    /// A ticket of the KDC's.
    Ticket {
        /// The first service that wanted it, as configured.
        service: String,
        /// Seconds, all tries together.
        seconds: f64,
        /// Whether none came.
        failed: bool,
    },
    /// An SSH session with a node.
    Session {
        /// The node.
        node: String,
        /// Seconds, all tries and files together.
        seconds: f64,
        /// Whether there was none.
        failed: bool,
    },
}

/// All edges of one service.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceReport {
    /// As written in the configuration.
    pub experiment: String,
    /// As written in the configuration.
    pub role: String,
    /// The credential's name at HTCondor.
    pub service: String,
    /// The robot's account.
    pub account: String,
    /// The robot's principal.
    pub principal: String,
    /// Its edges, in order: setup, login, discover, stores, pushes.
    pub edges: Vec<Edge>,
}

/// What was sent to others in a run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Traffic {
    /// Requests sent to Vault, whatever the answer.
    pub vault_requests: u64,
    /// Credentials handed to credds.
    pub stores: u64,
    /// Files written on nodes.
    pub files_written: u64,
}

/// What a run is called in traces, logs and mails: 16 random bytes, written as 32 hexadecimal digits (W3C Trace Context).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for TraceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it is called in traces and logs.
    pub trace_id: TraceId,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether it was told to stop before its end.
    pub interrupted: bool,
    /// Whether nothing was sent, only planned.
    pub dry_run: bool,
    /// What was sent.
    pub traffic: Traffic,
    /// Tickets and sessions, in the order in which they ended.
    pub shared: Vec<Shared>,
    /// The services, in the order of the configuration.
    pub services: Vec<ServiceReport>,
}

impl Report {
    /// Every edge with its service.
    pub fn edges(&self) -> impl Iterator<Item = (&ServiceReport, &Edge)> {
        self.services
            .iter()
            .flat_map(|s| s.edges.iter().map(move |e| (s, e)))
    }

    /// Whether every edge that was asked for is fresh (or, in a dry run, was planned), silenced ones aside.
    #[must_use]
    pub fn all_fresh(&self) -> bool {
        self.edges()
            .all(|(_, e)| e.silenced || e.outcome.is_fresh() || (self.dry_run && e.outcome == Outcome::Due))
    }

    /// Whether anything was due.
    #[must_use]
    pub fn nothing_was_due(&self) -> bool {
        self.edges()
            .all(|(_, e)| matches!(e.outcome, Outcome::Fresh | Outcome::Trusted))
    }

    /// How many edges ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.edges().filter(|(_, e)| e.outcome == outcome).count()
    }
}
