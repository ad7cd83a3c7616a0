//! Metrics of our own: per edge, from the state, whether or not this run had anything to do with it.

use std::collections::BTreeSet;

use prometheus::{Gauge, Registry};
use state::{EdgeId, ServiceKey};

use super::{Facts, gauges, unix};

const EDGE: [&str; 5] = ["experiment", "role", "kind", "place", "name"];

pub(super) fn register(registry: &Registry, facts: &Facts<'_>) -> prometheus::Result<()> {
    let expiry = gauges(
        registry,
        "mtk_edge_expiry_timestamp_seconds",
        "When what lies at the place ends, by mtk's own clock.",
        &EDGE,
    )?;
    let success = gauges(
        registry,
        "mtk_edge_last_success_timestamp_seconds",
        "When the edge last succeeded; it ages while the edge fails.",
        &EDGE,
    )?;
    let failures = gauges(
        registry,
        "mtk_edge_consecutive_failures",
        "Failed runs since the edge last succeeded.",
        &EDGE,
    )?;
    let configured = configured(facts);
    let snapshot = facts.snapshot;
    for (id, edge) in &snapshot.edges {
        let Some(labels) = labels(id, &configured) else {
            continue;
        };
        failures
            .with_label_values(&labels)
            .set(f64::from(edge.consecutive_failures));
        if let Some(last) = edge.last_success {
            success.with_label_values(&labels).set(unix(last));
        }
    }
    let stores = snapshot.stores.iter().map(|(id, s)| (id.clone(), s.expires));
    let pushes = snapshot
        .pushes
        .iter()
        .filter_map(|(id, p)| Some((id.clone(), p.expires?)));
    let tokens = snapshot.node_tokens.values().map(|t| {
        let service = t.service.clone();
        (EdgeId::Login { service }, t.expires)
    });
    for (id, expires) in stores.chain(pushes).chain(tokens) {
        if let Some(labels) = labels(&id, &configured) {
            expiry.with_label_values(&labels).set(unix(expires));
        }
    }
    let broken = gauges(
        registry,
        "mtk_service_broken",
        "1 for a service that the configuration does not allow to be set up.",
        &["experiment", "role"],
    )?;
    for service in &facts.site.services {
        let labels = [service.id.experiment.as_str(), service.id.role.as_str()];
        broken.with_label_values(&labels).set(0.0);
    }
    for service in &facts.site.broken {
        let labels = [service.id.experiment.as_str(), service.id.role.as_str()];
        broken.with_label_values(&labels).set(1.0);
    }
    gauges(
        registry,
        "mtk_build_info",
        "The version that last reported.",
        &["version"],
    )?
    .with_label_values(&[facts.version])
    .set(1.0);
    run(registry, facts)
}

/// What the run as a whole did.
fn run(registry: &Registry, facts: &Facts<'_>) -> prometheus::Result<()> {
    let Some(report) = facts.report else { return Ok(()) };
    let one = |name: &str, help: &str, value: f64| {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))
    };
    one(
        "mtk_run_end_timestamp_seconds",
        "When the last run ended.",
        unix(facts.now),
    )?;
    one(
        "mtk_run_duration_seconds",
        "How long the last run took.",
        report.seconds,
    )?;
    one(
        "mtk_run_all_fresh",
        "1 if every edge of the last run ended fresh.",
        f64::from(u8::from(report.all_fresh() && !report.interrupted)),
    )?;
    #[expect(clippy::cast_precision_loss, reason = "a run sends fewer than 2^52 requests")]
    let requests = report.traffic.vault_requests as f64;
    one(
        "mtk_run_vault_requests",
        "Requests the last run sent to Vault.",
        requests,
    )
}

fn configured(facts: &Facts<'_>) -> BTreeSet<(String, String, String)> {
    facts
        .site
        .services
        .iter()
        .map(|s| (s.id.experiment.clone(), s.id.role.clone(), s.account.clone()))
        .collect()
}

/// The labels of an edge; none if its service is not configured any more.
fn labels<'a>(id: &'a EdgeId, configured: &BTreeSet<(String, String, String)>) -> Option<[&'a str; 5]> {
    let ServiceKey {
        experiment,
        role,
        account,
        ..
    } = id.service();
    let known = configured.contains(&(experiment.clone(), role.clone(), account.clone()));
    known.then(|| {
        [
            experiment.as_str(),
            role.as_str(),
            id.kind(),
            id.place(),
            id.name(),
        ]
    })
}
