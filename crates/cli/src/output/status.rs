//! What `mtk status` says to people and to programs.

use std::collections::BTreeMap;

use pipeline::{Life, ServiceStatus, Status, StatusEdge, VaultStanding, span};

use super::{
    matrix::{Limits, first_end, matrix},
    table::{Cell, Paint, Shade, csv},
};
use crate::Problem;

/// One line on all of it, the matrix, and what is wrong.
pub(crate) fn text(status: &Status, limits: &Limits, width: usize, paint: Paint) -> String {
    let mut out = summary(status);
    out.push_str("\n\n");
    out.push_str(&matrix(status, limits, width, paint));
    out.push_str(&remarks(status, paint));
    out
}

/// Each service with every credential and file, what breaks first at the top of each.
pub(crate) fn long(status: &Status, limits: &Limits, paint: Paint) -> String {
    let mut out = summary(status);
    out.push_str("\n\n");
    let mut services: Vec<&ServiceStatus> = status.services.iter().collect();
    services.sort_by_key(|s| first_end(s));
    for service in services {
        out.push_str(&heading(service));
        let mut edges: Vec<_> = service.edges.iter().collect();
        edges.sort_by_key(|e| (!e.counts(), e.life.left()));
        let rows: Vec<Vec<Cell>> = edges.iter().map(|e| row(e, limits)).collect();
        out.push_str(&paint.align(&rows, "  "));
        if service.edges.is_empty() {
            out.push_str("  nothing was ever stored\n");
        }
        out.push('\n');
    }
    out.push_str(remarks(status, paint).trim_start());
    out
}

fn row(edge: &StatusEdge, limits: &Limits) -> Vec<Cell> {
    let error = edge.last_error.as_deref().or(edge.warning.as_deref());
    let silenced = edge
        .silenced
        .as_ref()
        .map_or_else(String::new, |s| format!("silenced until {:.0}", s.until));
    vec![
        Cell::plain(edge.kind),
        Cell::plain(edge.place.as_str()),
        Cell::plain(edge.name.as_str()),
        Cell::new(life(edge.life), limits.shade(edge)),
        Cell::new(silenced, Shade::Dim),
        Cell::plain(error.map_or_else(String::new, |t| format!("! {t}"))),
    ]
}

/// How many edges there are, how many are well, and what ends first.
fn summary(status: &Status) -> String {
    let count = |test: &dyn Fn(&StatusEdge) -> bool| status.edges().filter(|(_, e)| test(e)).count();
    let (silenced, all) = (count(&|e| !e.counts()), count(&|_| true));
    let dead = count(&|e| e.counts() && !e.life.is_alive());
    let failing = count(&|e| e.counts() && e.consecutive_failures > 0);
    let mut line = format!(
        "{} services, {all} edges: {} alive, {dead} not",
        status.services.len(),
        all - dead - silenced
    );
    for (n, what) in [(failing, "failing"), (silenced, "silenced")] {
        if n > 0 {
            line += &format!(", {n} {what}");
        }
    }
    match first(status) {
        Some((service, edge)) if edge.life.is_alive() => {
            line + &format!("; first to end: {} in {}", place(service, edge), lives(edge.life))
        }
        _ => line,
    }
}

/// What ends first of what counts; bearer tokens that live are always about to.
pub(crate) fn first(status: &Status) -> Option<(&ServiceStatus, &StatusEdge)> {
    let counting = status
        .edges()
        .filter(|(_, e)| e.counts() && e.life != Life::Endless && !(e.lives_hours && e.life.is_alive()));
    counting.min_by_key(|(_, e)| e.life.left())
}

/// An edge, for a sentence.
pub(crate) fn place(service: &ServiceStatus, edge: &StatusEdge) -> String {
    format!("{}_{} at {}", service.experiment, service.role, edge.place)
}

pub(crate) fn lives(life: Life) -> String {
    match life {
        Life::Until { seconds_left, .. } => span(jiff::SignedDuration::from_secs(seconds_left)),
        Life::Never | Life::Endless => String::new(),
    }
}

/// What a person should know beside the numbers, each thing once however many edges it costs.
fn remarks(status: &Status, paint: Paint) -> String {
    let mut out = String::new();
    let mut paragraph = |lines: Vec<String>| {
        if !lines.is_empty() {
            out.push_str(&format!("\n{}\n", lines.join("\n")));
        }
    };
    let mut errors: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (service, edge) in status.edges().filter(|(_, e)| e.counts()) {
        if let Some(text) = edge.last_error.as_ref().or(edge.warning.as_ref()) {
            let services = errors.entry((edge.place.as_str(), text.as_str())).or_default();
            let name = format!("{}_{}", service.experiment, service.role);
            if !services.contains(&name) {
                services.push(name);
            }
        }
    }
    let said = |((place, text), services): ((&str, &str), Vec<String>)| {
        let mark = paint.text("!", Shade::Bad);
        format!("{mark} {place} ({}): {text}", services.join(", "))
    };
    paragraph(errors.into_iter().map(said).collect());
    let broken = status.broken.iter().map(|(service, reason)| {
        let silenced = status.silenced_broken.contains(service);
        let shade = if silenced { Shade::Dim } else { Shade::Bad };
        format!("{} {service} cannot be set up: {reason}", paint.text("!", shade))
    });
    paragraph(broken.collect());
    let mut weak: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for node in status.services.iter().flat_map(|s| &s.weak_host_keys) {
        *weak
            .entry((&node.node, node.strict_host_key_checking))
            .or_default() += 1;
    }
    let weak = weak.into_keys().map(|(node, checking)| {
        let mark = paint.text("!", Shade::Warn);
        format!("{mark} the host key of {node} is not verified (StrictHostKeyChecking={checking})")
    });
    paragraph(weak.collect());
    let silences = status.silences.iter().map(|s| {
        format!(
            "silenced: {} {} until {:.0} by {}: {}",
            s.kind, s.name, s.until, s.who, s.why
        )
    });
    paragraph(silences.collect());
    paragraph(status.vaults.iter().map(|v| budget(v, status.now)).collect());
    out
}

/// One line on the budget of requests at one Vault.
fn budget(vault: &VaultStanding, now: jiff::Timestamp) -> String {
    let mut line = format!(
        "Vault {}: {} of {} requests used in the last {}",
        vault.server,
        vault.used,
        vault.allowed,
        span(jiff::SignedDuration::from_secs(
            i64::try_from(vault.window_seconds).unwrap_or(i64::MAX)
        ))
    );
    if let Some(until) = vault.blocked_until {
        line += &format!(", BLOCKED for another {}", span(until.duration_since(now)));
    } else if vault.cautious_until.is_some() {
        line += ", less than our share since it blocked us";
    }
    line
}

fn heading(service: &ServiceStatus) -> String {
    format!(
        "{}/{} as {} ({}), node token {}\n",
        service.experiment,
        service.role,
        service.service,
        service.account,
        life(service.node_token)
    )
}

fn life(life: Life) -> String {
    match life {
        Life::Never => "never stored".to_owned(),
        Life::Until { seconds_left, .. } if seconds_left <= 0 => "EXPIRED".to_owned(),
        Life::Until { .. } => format!("{} left", lives(life)),
        Life::Endless => "does not end".to_owned(),
    }
}

const COLUMNS: [&str; 14] = [
    "experiment",
    "role",
    "service",
    "account",
    "kind",
    "place",
    "name",
    "state",
    "expires",
    "seconds_left",
    "last_success",
    "consecutive_failures",
    "last_error",
    "silenced_until",
];

/// One line for each edge; services that cannot be set up have one of kind `setup`.
pub(crate) fn table(status: &Status) -> Result<String, Problem> {
    let mut rows = Vec::new();
    for (service, edge) in status.edges() {
        let (state, expires, left) = match edge.life {
            Life::Never => ("never", String::new(), String::new()),
            Life::Endless => ("endless", String::new(), String::new()),
            Life::Until {
                expires,
                seconds_left,
            } => ("until", expires.to_string(), seconds_left.to_string()),
        };
        rows.push(vec![
            service.experiment.clone(),
            service.role.clone(),
            service.service.clone(),
            service.account.clone(),
            edge.kind.to_owned(),
            edge.place.clone(),
            edge.name.clone(),
            state.to_owned(),
            expires,
            left,
            edge.last_success.map(|at| at.to_string()).unwrap_or_default(),
            edge.consecutive_failures.to_string(),
            edge.last_error.clone().unwrap_or_default(),
            edge.silenced
                .as_ref()
                .map(|s| s.until.to_string())
                .unwrap_or_default(),
        ]);
    }
    for (service, reason) in &status.broken {
        let mut row = vec![String::new(); COLUMNS.len()];
        for (column, value) in [(2, service.as_str()), (4, "setup"), (7, "broken"), (12, reason)] {
            if let Some(cell) = row.get_mut(column) {
                value.clone_into(cell);
            }
        }
        rows.push(row);
    }
    csv(&COLUMNS, &rows)
}
