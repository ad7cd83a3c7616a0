//! The table of `mtk status`.

use pipeline::{Life, ServiceStatus, Status, VaultStanding, span};

use super::table::align;

/// Each service with its credds and nodes, what breaks first at the top of each.
pub(crate) fn text(status: &Status) -> String {
    let mut out = String::new();
    for service in &status.services {
        out.push_str(&heading(service));
        for weak in &service.weak_host_keys {
            out.push_str(&format!(
                "  ! the host key of {} is not verified (StrictHostKeyChecking={})\n",
                weak.node, weak.strict_host_key_checking
            ));
        }
        let mut edges: Vec<_> = service.edges.iter().collect();
        edges.sort_by_key(|e| (e.kind, left(e.life)));
        let rows: Vec<Vec<String>> = edges
            .iter()
            .map(|e| {
                let error = e
                    .last_error
                    .as_deref()
                    .or(e.warning.as_deref())
                    .map_or_else(String::new, |t| format!("! {t}"));
                vec![
                    e.kind.to_owned(),
                    e.place.clone(),
                    e.name.clone(),
                    life(e.life),
                    error,
                ]
            })
            .collect();
        out.push_str(&align(&rows, "  "));
        if service.edges.is_empty() {
            out.push_str("  nothing was ever stored\n");
        }
        out.push('\n');
    }
    for vault in &status.vaults {
        out.push_str(&budget(vault, status.now));
    }
    for (service, reason) in &status.broken {
        out.push_str(&format!("{service}\n  cannot be set up: {reason}\n\n"));
    }
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
    line + "\n\n"
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

fn left(life: Life) -> i64 {
    match life {
        Life::Never => i64::MIN,
        Life::Until { seconds_left, .. } => seconds_left,
        Life::Endless => i64::MAX,
    }
}

fn life(life: Life) -> String {
    match life {
        Life::Never => "never stored".to_owned(),
        Life::Until { seconds_left, .. } if seconds_left <= 0 => "EXPIRED".to_owned(),
        Life::Until { seconds_left, .. } => {
            format!("{} left", span(jiff::SignedDuration::from_secs(seconds_left)))
        }
        Life::Endless => "does not end".to_owned(),
    }
}
