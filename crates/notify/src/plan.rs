//! Who is told what: a pure function of the run, what is remembered, and the clock.

use std::collections::BTreeSet;

use config::{Site, StakeholdersGet};
use jiff::{SignedDuration, Timestamp};
use pipeline::{Report, Target};
use state::{Notice, Notices, Snapshot};

use crate::{
    digest::{Digest, Outlet, Problem, Recovered, Why},
    subject::{Gathered, Item, Kind, Severity, Subject, escape, gather},
};

/// Under this name failures are counted that the state has no edge for.
const COUNTED: &str = "";

/// What the people of an experiment can do something about, wherever it happens: somebody has to agree again.
const FOR_PEOPLE: [&str; 4] = [
    "not-onboarded",
    "refresh-refused",
    "token-expired400",
    "issuer-removed",
];

/// Everything a plan depends on.
pub struct Facts<'a> {
    /// The site.
    pub site: &'a Site,
    /// What is remembered of edges, the run included.
    pub snapshot: &'a Snapshot,
    /// The run.
    pub report: &'a Report,
    /// What was told before.
    pub notices: &'a Notices,
    /// Whether the run was about everything there is: what it has no edge for is gone.
    pub whole: bool,
    /// The moment.
    pub now: Timestamp,
    /// The minute of the day, by this host's clock.
    pub minute: u16,
    /// Whether those of test runs are told, of all that fails.
    pub test: bool,
}

/// What is to be sent, and what is to be remembered however it goes.
#[derive(Debug, Default)]
pub struct Planned {
    /// For each outlet that is told something.
    pub digests: Vec<Digest>,
    /// Counts, and what is not there any more.
    pub changes: Vec<Change>,
}

/// A row to be remembered, or to be forgotten.
pub type Change = ((String, String), Option<Notice>);

/// Decides who is told what.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Planned {
    let outlets = outlets(facts);
    let mut planned = Planned::default();
    if outlets.is_empty() {
        return planned;
    }
    let mut gathered = gather(facts);
    let there = gathered.subjects.clone();
    if !facts.test {
        count(facts, &mut gathered, &mut planned.changes);
    }
    let heard = |subject: &Subject| !is_disabled(facts, subject);
    gathered.failing.retain(|item| heard(&item.subject));
    gathered.well.retain(heard);
    gathered
        .failing
        .sort_by(|a, b| (b.severity, a.ends, &a.subject).cmp(&(a.severity, b.ends, &b.subject)));
    for outlet in outlets {
        if let Some(digest) = digest(facts, &gathered, outlet) {
            planned.digests.push(digest);
        }
    }
    if facts.whole && !facts.test {
        planned.changes.extend(gone(facts, &there));
    }
    planned
}

/// Who could be told anything.
fn outlets(facts: &Facts<'_>) -> Vec<Outlet> {
    let wanted = &facts.site.notifications;
    let receivers = if facts.test {
        &wanted.test_receivers
    } else {
        &wanted.receivers
    };
    let mut outlets = Vec::new();
    if wanted.mail.is_some() && !receivers.admins.is_empty() {
        outlets.push(Outlet::Admins);
    }
    if wanted.mail.is_some() && !facts.test && wanted.stakeholders_get != StakeholdersGet::Nothing {
        let with_people = wanted
            .stakeholders
            .iter()
            .filter(|(_, people)| !people.is_empty());
        outlets.extend(with_people.map(|(name, _)| Outlet::Experiment(name.clone())));
    }
    if receivers.slack.is_some() || (wanted.slack_file.is_some() && !facts.test) {
        outlets.push(Outlet::Slack);
    }
    if wanted.webhook.is_some() && !facts.test {
        outlets.push(Outlet::Webhook);
    }
    outlets
}

/// The state counts failures of edges; setups and searches for credds have none and are counted here.
fn count(facts: &Facts<'_>, gathered: &mut Gathered, changes: &mut Vec<Change>) {
    let counted = |kind| matches!(kind, Kind::Setup | Kind::Discover);
    for item in gathered.failing.iter_mut().filter(|i| counted(i.subject.kind)) {
        let key = (item.subject.to_string(), COUNTED.to_owned());
        let before = facts.notices.get(&key);
        item.failures = before.map_or(1, |b| b.failures.saturating_add(1));
        let notice = Notice {
            since: before.map_or(facts.now, |b| b.since),
            told_at: None,
            severity: item.severity.number(),
            failures: item.failures,
        };
        changes.push((key, Some(notice)));
    }
    for subject in gathered.well.iter().filter(|s| counted(s.kind)) {
        let key = (subject.to_string(), COUNTED.to_owned());
        if facts.notices.contains_key(&key) {
            changes.push((key, None));
        }
    }
}

/// `disableNotifications`, of the role or of all.
fn is_disabled(facts: &Facts<'_>, subject: &Subject) -> bool {
    let of_service = facts
        .site
        .services
        .iter()
        .find(|s| s.id.experiment == subject.experiment && s.id.role == subject.role)
        .map(|s| s.disable_notifications);
    of_service.unwrap_or(facts.site.disable_notifications)
}

fn concerns(facts: &Facts<'_>, outlet: &Outlet, item: &Item) -> bool {
    match outlet {
        Outlet::Admins | Outlet::Slack | Outlet::Webhook => true,
        Outlet::Experiment(name) => {
            item.subject.experiment == *name
                && (facts.site.notifications.stakeholders_get == StakeholdersGet::All
                    || item.subject.kind == Kind::Push
                    || (item.severity >= Severity::Warning && item.subject.kind != Kind::Setup)
                    || FOR_PEOPLE.contains(&item.error_kind.as_str()))
        }
    }
}

fn digest(facts: &Facts<'_>, gathered: &Gathered, outlet: Outlet) -> Option<Digest> {
    let wanted = &facts.site.notifications;
    let name = outlet.to_string();
    let quiet = !facts.test && wanted.quiet.is_some_and(|quiet| quiet.holds(facts.minute));
    let (mut problems, mut known) = (Vec::new(), 0);
    for item in gathered
        .failing
        .iter()
        .filter(|item| concerns(facts, &outlet, item))
    {
        let row = facts.notices.get(&(item.subject.to_string(), name.clone()));
        match due(facts, item, row) {
            Some(why) if !quiet || item.severity == Severity::Critical => problems.push(Problem {
                item: item.clone(),
                why,
                since: row.map_or(facts.now, |row| row.since),
            }),
            _ => known += usize::from(row.is_some()),
        }
    }
    let mut recovered = Vec::new();
    if !quiet && !facts.test {
        for subject in &gathered.well {
            if let Some(row) = facts.notices.get(&(subject.to_string(), name.clone())) {
                recovered.push(Recovered {
                    subject: subject.clone(),
                    since: row.since,
                });
            }
        }
    }
    (!problems.is_empty() || !recovered.is_empty()).then_some(Digest {
        outlet,
        problems,
        recovered,
        known,
    })
}

fn due(facts: &Facts<'_>, item: &Item, row: Option<&Notice>) -> Option<Why> {
    let wanted = &facts.site.notifications;
    if facts.test {
        return Some(Why::New);
    }
    let Some(row) = row else {
        // the configuration does not come right by itself, and what ends today has no time for a third try
        let at_once = item.subject.kind == Kind::Setup || item.severity == Severity::Critical;
        return (at_once || item.failures >= wanted.threshold).then_some(Why::New);
    };
    if item.severity.number() > row.severity {
        return Some(Why::Worse);
    }
    let remind = SignedDuration::try_from(wanted.remind_every).unwrap_or(SignedDuration::MAX);
    // told in the future: the clock was ahead then
    let told = row.told_at.filter(|told| *told <= facts.now);
    told.is_none_or(|told| facts.now.duration_since(told) >= remind)
        .then_some(Why::Reminder)
}

/// What was told of things that are not configured any more is forgotten without a word. A service that could not be set up, or
/// whose credds were not found, says nothing about what it has.
fn gone(facts: &Facts<'_>, there: &BTreeSet<String>) -> Vec<Change> {
    if facts.report.interrupted {
        return Vec::new();
    }
    let unclear: BTreeSet<(String, String)> = facts
        .report
        .services
        .iter()
        .filter(|s| {
            let hides = |t: &Target| matches!(t, Target::Setup | Target::Discover { .. });
            s.edges.iter().any(|e| hides(&e.target))
        })
        .map(|s| (escape(&s.experiment), escape(&s.role)))
        .collect();
    let is_gone = |subject: &str| {
        let mut parts = subject.split('/').skip(1).map(str::to_owned);
        let service = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // the login has an edge only where one was due
        !there.contains(subject) && !unclear.contains(&service) && !subject.starts_with("login/")
    };
    let gone = facts.notices.keys().filter(|(subject, _)| is_gone(subject));
    gone.map(|key| (key.clone(), None)).collect()
}
