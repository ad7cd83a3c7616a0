//! The summary of a run, by service.

use jiff::Timestamp;
use pipeline::{Edge, Failure, Outcome, Report, ServiceReport, Target, span};

use super::table::align;

/// What was stored where, what failed and why, and how long everything lives.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    let now = Timestamp::now();
    for service in &report.services {
        out.push_str(&heading(service));
        let rows: Vec<Vec<String>> = service.edges.iter().map(|e| row(e, now)).collect();
        out.push_str(&align(&rows, "  "));
        out.push_str(&failures(service));
        out.push('\n');
    }
    out.push_str(&last_line(report));
    out
}

/// Each failure once, however many edges it cost.
fn failures(service: &ServiceReport) -> String {
    let mut said: Vec<&Failure> = Vec::new();
    for failure in service.edges.iter().filter_map(|e| e.failure.as_ref()) {
        if !said.contains(&failure) {
            said.push(failure);
        }
    }
    let line = |f: &&Failure| {
        let again = if f.retryable {
            "may pass by itself"
        } else {
            "needs somebody"
        };
        let tries = if f.attempts == 1 {
            "tried once".to_owned()
        } else {
            format!("tried {} times", f.attempts)
        };
        format!(
            "  ! {}: {} [{}; {again}; {tries}, again at the next run]\n",
            f.peer, f.text, f.kind
        )
    };
    said.iter().map(line).collect()
}

fn heading(service: &ServiceReport) -> String {
    let written = format!("{}/{}", service.experiment, service.role);
    if service.service.is_empty() {
        return format!("{written}\n");
    }
    format!(
        "{written} as {} ({}, {})\n",
        service.service, service.account, service.principal
    )
}

fn row(edge: &Edge, now: Timestamp) -> Vec<String> {
    let (what, place) = match &edge.target {
        Target::Setup => ("setup", String::new()),
        Target::Login { vault } => ("login", vault.clone()),
        Target::Discover { collectors } => ("credds", collectors.clone()),
        Target::Store { credd, credential } => ("store", format!("{credd} {credential}")),
        Target::Push { node, path } => ("push", format!("{node}:{path}")),
        Target::Bearer { output } => ("bearer", output.clone()),
        Target::Here { path } => ("file", path.clone()),
        Target::Command { output } => ("command", output.clone()),
    };
    let left = edge.expires.map_or_else(String::new, |at| {
        let left = at.duration_since(now);
        if left.is_negative() {
            "expired".to_owned()
        } else {
            format!("{} left", span(left))
        }
    });
    let reason = edge
        .reason
        .as_deref()
        .map_or_else(String::new, |r| format!("({r})"));
    vec![
        what.to_owned(),
        place,
        word(edge.outcome, &edge.target).to_owned(),
        left,
        reason,
    ]
}

fn word(outcome: Outcome, target: &Target) -> &'static str {
    match (outcome, target) {
        (Outcome::Done, Target::Login { .. }) => "logged in",
        (Outcome::Done, Target::Store { .. }) => "stored",
        (Outcome::Done, Target::Push { .. } | Target::Here { .. }) => "written",
        (Outcome::Done, Target::Bearer { .. }) => "read",
        (Outcome::Done, Target::Command { .. }) => "told",
        (Outcome::Done, _) => "done",
        (Outcome::Fresh, _) => "fresh",
        (Outcome::Trusted, _) => "fresh, not asked",
        (Outcome::Due, _) => "due",
        (Outcome::Failed, _) => "FAILED",
        (Outcome::Interrupted, _) => "interrupted",
    }
}

fn last_line(report: &Report) -> String {
    let traffic = report.traffic;
    let sent = format!(
        "{} Vault requests, {} stores, {} files written",
        traffic.vault_requests, traffic.stores, traffic.files_written
    );
    let counts = format!(
        "{} done, {} fresh, {} failed",
        report.count(Outcome::Done),
        report.count(Outcome::Fresh) + report.count(Outcome::Trusted),
        report.count(Outcome::Failed),
    );
    let head = if report.dry_run {
        format!("dry run: {} due, {counts}", report.count(Outcome::Due))
    } else if report.interrupted {
        format!(
            "interrupted: {counts}, {} not ended",
            report.count(Outcome::Interrupted)
        )
    } else if report.nothing_was_due() {
        format!("nothing was due: {counts}")
    } else {
        counts
    };
    format!("{head}; {sent}; {:.2} s", report.seconds)
}
