//! What one outlet is told after one run.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::subject::{Item, Severity, Subject};

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlet {
    /// Mail to the operators.
    Admins,
    /// Mail to the people of an experiment.
    Experiment(String),
    /// Slack.
    Slack,
    /// The web hook.
    Webhook,
}

impl fmt::Display for Outlet {
    /// Its name where notices are remembered: stable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admins => f.write_str("admins"),
            Self::Experiment(name) => write!(f, "experiment/{name}"),
            Self::Slack => f.write_str("slack"),
            Self::Webhook => f.write_str("webhook"),
        }
    }
}

/// Why something is told now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// They have not heard of it.
    New,
    /// They have, and it is worse.
    Worse,
    /// They heard of it long ago.
    Reminder,
}

/// Something that fails, and why it is told.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What.
    pub item: Item,
    /// Why now.
    pub why: Why,
    /// Since when they know.
    pub since: Timestamp,
}

/// Something they were told of that is well again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// What.
    pub subject: Subject,
    /// Since when they knew.
    pub since: Timestamp,
}

/// What one outlet is told.
#[derive(Debug, Clone)]
pub struct Digest {
    /// Who.
    pub outlet: Outlet,
    /// What fails, the worst first.
    pub problems: Vec<Problem>,
    /// What is well again.
    pub recovered: Vec<Recovered>,
    /// How many more fail that they know of.
    pub known: usize,
}

impl Digest {
    /// How bad the worst of it is; `None` if all of it is well again.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.problems.iter().map(|p| p.item.severity).max()
    }
}
