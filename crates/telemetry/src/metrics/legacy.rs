//! The Go service's metrics under its names, so that dashboards and alerts go on.
//!
//! Two differences, both on purpose: times of the last success come from the state, so that they age while something
//! fails instead of vanishing, and a run of one service leaves those of the others as they are.

use std::collections::BTreeMap;

use pipeline::{Edge, Report, Shared, Target};
use prometheus::{Gauge, HistogramOpts, HistogramVec, Registry};
use state::EdgeId;

use super::{Facts, gauges, unix};

/// Its ping took milliseconds; what is measured here is a whole SSH session.
const SESSION_BUCKETS: [f64; 9] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0];

pub(super) fn register(registry: &Registry, facts: &Facts<'_>) -> prometheus::Result<()> {
    remembered(registry, facts)?;
    match facts.report {
        Some(report) => {
            stages(registry, facts.executable, report)?;
            shared(registry, report)?;
            durations(registry, report)
        }
        None => Ok(()),
    }
}

/// Times of last successes and counts of failures since, from the state.
fn remembered(registry: &Registry, facts: &Facts<'_>) -> prometheus::Result<()> {
    let of = |name: &str, help: &str, labels: &[&str]| gauges(registry, name, help, labels);
    let stored = of(
        "managed_tokens_last_token_store_timestamp",
        "The timestamp of the last successful store of a service vault token in a credd",
        &["service", "credd"],
    )?;
    let got = of(
        "managed_tokens_last_token_get_timestamp",
        "The timestamp of the last successful get of a service vault token",
        &["service"],
    )?;
    let pushed = of(
        "managed_tokens_last_token_push_timestamp",
        "The timestamp of the last successful push of a service vault token to an interactive node",
        &["service", "node"],
    )?;
    let setup_errors = of(
        "managed_tokens_current_setup_error_count",
        "The number of consecutive setup errors for a given service",
        &["service"],
    )?;
    let push_errors = of(
        "managed_tokens_current_push_error_count",
        "The number of consecutive push errors for a given service and node",
        &["service", "node"],
    )?;
    for service in &facts.site.services {
        let name = service.id.to_string();
        let mut setup: u32 = 0;
        // a node's files count together: the oldest success, the most failures
        let mut nodes: BTreeMap<&str, (Option<f64>, u32)> = BTreeMap::new();
        let edges = facts.snapshot.edges.iter().filter(|(id, _)| {
            let key = id.service();
            (&key.experiment, &key.role, &key.account)
                == (&service.id.experiment, &service.id.role, &service.account)
        });
        for (id, edge) in edges {
            let last = edge.last_success.map(unix);
            match id {
                EdgeId::Login { .. } => {
                    setup = setup.max(edge.consecutive_failures);
                    if let Some(last) = last {
                        got.with_label_values(&[&name]).set(last);
                    }
                }
                EdgeId::Store { credd, .. } => {
                    setup = setup.max(edge.consecutive_failures);
                    if let Some(last) = last {
                        stored.with_label_values(&[&name, credd]).set(last);
                    }
                }
                // `@here` and `@command` are no nodes, and the Go service has neither
                EdgeId::Push { node, .. } if !node.starts_with('@') => {
                    let (oldest, failures) = nodes.entry(node).or_insert((last, 0));
                    *oldest = match (*oldest, last) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        _ => None,
                    };
                    *failures = edge.consecutive_failures.max(*failures);
                }
                _ => {}
            }
        }
        setup_errors.with_label_values(&[&name]).set(f64::from(setup));
        for (node, (oldest, failures)) in nodes {
            let labels = [name.as_str(), node];
            push_errors.with_label_values(&labels).set(f64::from(failures));
            if let Some(oldest) = oldest {
                pushed.with_label_values(&labels).set(oldest);
            }
        }
    }
    for service in &facts.site.broken {
        setup_errors
            .with_label_values(&[&service.id.to_string()])
            .set(1.0);
    }
    Ok(())
}

/// Its stages come one after another; ours overlap, so each is the time from its first beginning to its last end.
fn stages(registry: &Registry, executable: &str, report: &Report) -> prometheus::Result<()> {
    let stage = gauges(
        registry,
        "managed_tokens_stage_duration_seconds",
        "The amount of time it took to run a stage Managed Tokens Service executable",
        &["executable", "stage"],
    )?;
    let span = |wanted: fn(&Target) -> bool| {
        let edges = || report.edges().map(|(_, e)| e).filter(|e| wanted(&e.target));
        let first = edges().map(|e| e.began).fold(f64::INFINITY, f64::min);
        let last = edges().map(|e| e.ended).fold(0.0, f64::max);
        (last >= first).then_some((first, last))
    };
    let set = |name: &str, seconds: f64| stage.with_label_values(&[executable, name]).set(seconds.max(0.0));
    let length = |span: Option<(f64, f64)>| span.map_or(0.0, |(first, last)| last - first);
    let all = span(|_| true);
    set("setup", all.map_or(report.seconds, |(first, _)| first));
    set("cleanup", all.map_or(0.0, |(_, last)| report.seconds - last));
    set("getTokens", length(span(|t| matches!(t, Target::Login { .. }))));
    set(
        "storeAndGetTokens",
        length(span(|t| matches!(t, Target::Login { .. } | Target::Store { .. }))),
    );
    set("pushTokens", length(span(|t| matches!(t, Target::Push { .. }))));
    let longest =
        |seconds: fn(&Shared) -> Option<f64>| report.shared.iter().filter_map(seconds).fold(0.0, f64::max);
    set(
        "getKerberosTickets",
        longest(|s| match s {
            Shared::Ticket { seconds, .. } => Some(*seconds),
            Shared::Session { .. } => None,
        }),
    );
    set(
        "pingNodes",
        longest(|s| match s {
            Shared::Session { seconds, .. } => Some(*seconds),
            Shared::Ticket { .. } => None,
        }),
    );
    let failed = report
        .services
        .iter()
        .filter(|s| !s.edges.iter().all(|e| e.outcome.is_fresh()))
        .count();
    let gauge = Gauge::new(
        "managed_tokens_failed_services_push_count",
        "The number of services for which pushing tokens failed in the last round",
    )?;
    gauge.set(f64::from(u32::try_from(failed).unwrap_or(u32::MAX)));
    registry.register(Box::new(gauge))
}

/// Tickets, and sessions in the place of pings.
fn shared(registry: &Registry, report: &Report) -> prometheus::Result<()> {
    let of = |name: &str, help: &str, labels: &[&str]| gauges(registry, name, help, labels);
    let kinit = of(
        "managed_tokens_kinit_duration_seconds",
        "Duration (in seconds) for a kerberos ticket to be created from the service principal",
        &["service"],
    )?;
    let no_ticket = of(
        "managed_tokens_failed_kinit_count",
        "The number of times the Managed Tokens service failed to create a kerberos ticket from the service principal",
        &["service"],
    )?;
    let no_session = of(
        "managed_tokens_failed_ping_count",
        "The number of times the Managed Tokens service could not reach an interactive node",
        &["node"],
    )?;
    let ping = HistogramVec::new(
        HistogramOpts::new(
            "managed_tokens_ping_duration_seconds",
            "Duration (in seconds) of an SSH session with a node",
        )
        .buckets(SESSION_BUCKETS.to_vec()),
        &["node"],
    )?;
    registry.register(Box::new(ping.clone()))?;
    for one in &report.shared {
        match one {
            Shared::Ticket {
                service,
                seconds,
                failed,
            } => {
                kinit.with_label_values(&[service]).set(*seconds);
                no_ticket.with_label_values(&[service]).add(count(*failed));
            }
            Shared::Session {
                node,
                seconds,
                failed,
            } => {
                ping.with_label_values(&[node]).observe(*seconds);
                no_session.with_label_values(&[node]).add(count(*failed));
            }
        }
    }
    Ok(())
}

/// How long edges took in this run, and which failed.
fn durations(registry: &Registry, report: &Report) -> prometheus::Result<()> {
    let of = |name: &str, help: &str, labels: &[&str]| gauges(registry, name, help, labels);
    let store = of(
        "managed_tokens_token_store_duration_seconds",
        "Duration (in seconds) for a vault token to get stored in a credd",
        &["service", "credd"],
    )?;
    let not_stored = of(
        "managed_tokens_failed_vault_token_store_count",
        "The number of times the Managed Tokens Service failed to store a vault token in a credd",
        &["service", "credd"],
    )?;
    let get = of(
        "managed_tokens_token_get_duration_seconds",
        "Duration (in seconds) for a vault token to be obtained",
        &["service"],
    )?;
    let not_got = of(
        "managed_tokens_failed_vault_token_get_count",
        "The number of times the Managed Tokens Service failed to obtain a vault token",
        &["service"],
    )?;
    let push = of(
        "managed_tokens_token_push_duration_seconds",
        "Duration (in seconds) for a vault token to get pushed to a node",
        &["service", "node"],
    )?;
    let not_pushed = of(
        "managed_tokens_failed_token_push_count",
        "The number of times the Managed Tokens service failed to push a token to an interactive node",
        &["service", "node"],
    )?;
    for (service, edge) in report.edges() {
        let name = format!("{}_{}", service.experiment, service.role);
        let (took, failed) = (edge.ended - edge.began, count(edge.failure.is_some()));
        let longer = |before: f64| before.max(took);
        match &edge.target {
            Target::Login { .. } if has_run(edge) => {
                get.with_label_values(&[&name]).set(took);
                not_got.with_label_values(&[&name]).add(failed);
            }
            Target::Store { credd, .. } if has_run(edge) => {
                let labels = [name.as_str(), credd];
                store.with_label_values(&labels).set(took);
                not_stored.with_label_values(&labels).add(failed);
            }
            Target::Push { node, .. } if has_run(edge) => {
                let labels = [name.as_str(), node];
                let duration = push.with_label_values(&labels);
                duration.set(longer(duration.get()));
                // one push is several files here: it failed if one of them did
                let failures = not_pushed.with_label_values(&labels);
                failures.set(failures.get().max(failed));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether anybody was asked anything.
fn has_run(edge: &Edge) -> bool {
    !matches!(edge.outcome, pipeline::Outcome::Trusted | pipeline::Outcome::Due)
}

fn count(failed: bool) -> f64 {
    f64::from(u8::from(failed))
}
