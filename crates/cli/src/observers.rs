//! Who is told after a run: monitors, Loki, a receiver of traces, people. All at once, each within its time; none can fail the run.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use config::{Receiver, Site};
use jiff::Timestamp;
use pipeline::Report;
use state::State;
use telemetry::{Facts, Gateway, Labels, Registry, Teller, Trace};

use crate::logging;

/// The Go service's program that did what a run of mtk does.
const EXECUTABLE: &str = "token-push";

/// Which people are told of what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notices {
    /// Nobody.
    Off,
    /// Those of the configuration. `whole`: the run was about everything there is.
    On { whole: bool },
    /// Those of test runs, of all that failed.
    Test,
}

/// Tells everybody who is configured; what went wrong is for the caller to say.
pub(crate) async fn tell(
    site: &Site,
    state_dir: &Path,
    report: &Report,
    notices: Notices,
) -> Vec<anyhow::Error> {
    let (metrics, loki, traces, people) = tokio::join!(
        metrics(site, state_dir, report),
        lines(site, report),
        trace(site, report),
        people(site, state_dir, report, notices)
    );
    let people = people.unwrap_or_else(|error| vec![error]);
    metrics
        .into_iter()
        .chain(loki.err())
        .chain(traces.err())
        .chain(people)
        .collect()
}

/// Mail, Slack, a web hook: planned from what is remembered, and remembered as far as it was delivered.
async fn people(
    site: &Site,
    state_dir: &Path,
    report: &Report,
    notices: Notices,
) -> anyhow::Result<Vec<anyhow::Error>> {
    let (whole, test) = match notices {
        Notices::Off => return Ok(Vec::new()),
        Notices::On { whole } => (whole, false),
        Notices::Test => (false, true),
    };
    const WITHOUT: &str = "nobody is told of failures without the state";
    let state = State::open_beside(state_dir).await.context(WITHOUT)?;
    let snapshot = state.snapshot().await.context(WITHOUT)?;
    let told = state.notices().await.context(WITHOUT)?;
    let now = jiff::ZonedDateTime::now();
    let facts = notify::Facts {
        site,
        snapshot: &snapshot,
        report,
        notices: &told,
        whole,
        now: now.timestamp(),
        minute: minute_of(&now),
        test,
    };
    let planned = notify::plan(&facts);
    let mut changes = planned.changes;
    let mut problems = Vec::new();
    if !planned.digests.is_empty() {
        let roots = tls::certificates(&trust(site)).context("the trust settings cannot be honoured")?;
        let trace_id = report.trace_id.to_string();
        let anchor = audit::kept().and_then(|log| log.settle().ok().flatten());
        let anchor = anchor.map(|a| a.to_string());
        let host = host();
        let means = notify::Means {
            site,
            tls: tls(site)?,
            roots: &roots,
            trace_id: &trace_id,
            host: &host,
            environment: &site.dev_label,
            version: env!("CARGO_PKG_VERSION"),
            now: now.timestamp(),
            anchor: anchor.as_deref(),
            test,
        };
        let delivered = notify::deliver(planned.digests, &means).await;
        for outlet in &delivered.told {
            tracing::info!(%outlet, trace_id, "told of what failed or is well again");
        }
        problems.extend(delivered.untold.into_iter().map(anyhow::Error::from));
        changes.extend(delivered.changes);
    }
    if !test && !changes.is_empty() {
        let recorded = state.record_notices(&changes).await;
        recorded.context("who was told could not be remembered; they may be told again")?;
    }
    state.close().await;
    Ok(problems)
}

fn minute_of(now: &jiff::ZonedDateTime) -> u16 {
    u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs())
}

async fn metrics(site: &Site, state_dir: &Path, report: &Report) -> Vec<anyhow::Error> {
    let wanted = &site.metrics;
    if wanted.textfile.is_none() && wanted.pushgateway.is_none() {
        return Vec::new();
    }
    let registry = match registry(site, state_dir, report).await {
        Ok(registry) => registry,
        Err(error) => return vec![error],
    };
    let mut problems = Vec::new();
    if let Some(path) = &wanted.textfile
        && let Err(error) = telemetry::write_textfile(&registry, path)
    {
        problems.push(error.into());
    }
    if let Some(address) = &wanted.pushgateway
        && let Err(error) = push(site, address, &registry).await
    {
        problems.push(error);
    }
    problems
}

async fn registry(site: &Site, state_dir: &Path, report: &Report) -> anyhow::Result<Registry> {
    let state = State::open_read_only(state_dir)
        .await
        .context("there are no metrics without the state")?;
    let snapshot = state
        .snapshot()
        .await
        .context("there are no metrics without the state")?;
    let facts = Facts {
        site,
        snapshot: &snapshot,
        report: Some(report),
        executable: EXECUTABLE,
        version: env!("CARGO_PKG_VERSION"),
        now: Timestamp::now(),
    };
    telemetry::metrics(&facts).context("the metrics contradict each other")
}

async fn push(site: &Site, address: &str, registry: &Registry) -> anyhow::Result<()> {
    let gateway = Gateway {
        address: address.to_owned(),
        job: site.metrics.job.clone(),
        instance: site.metrics.instance.clone().unwrap_or_else(host),
        timeout: site.metrics.timeout,
    };
    Ok(telemetry::push(registry, &gateway, tls(site)?).await?)
}

async fn lines(site: &Site, report: &Report) -> anyhow::Result<()> {
    let Some(Receiver { url, timeout }) = &site.loki else {
        return Ok(());
    };
    let labels = Labels {
        command: EXECUTABLE,
        environment: &site.dev_label,
    };
    let Some(lines) = logging::lines().and_then(|l| l.take(&labels, &report.trace_id.to_string())) else {
        return Ok(());
    };
    Ok(telemetry::send_lines(&lines, url, at_least(*timeout), tls(site)?).await?)
}

async fn trace(site: &Site, report: &Report) -> anyhow::Result<()> {
    let Some(Receiver { url, timeout }) = &site.traces else {
        return Ok(());
    };
    let teller = Teller {
        executable: EXECUTABLE,
        environment: &site.dev_label,
        version: env!("CARGO_PKG_VERSION"),
        host: &host(),
    };
    let trace = Trace::of(report, &teller);
    Ok(telemetry::send_trace(&trace, url, at_least(*timeout), tls(site)?).await?)
}

/// A TLS handshake with a receiver far away wants more than the milliseconds somebody may have written.
fn at_least(timeout: Duration) -> Duration {
    timeout.max(Duration::from_millis(500))
}

pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The roots that Vault is recognised by; who is told is at the same site.
pub(crate) fn trust(site: &Site) -> tls::Trust {
    tls::Trust {
        system: true,
        ca_file: site.vault.ca_file.clone(),
        ca_dir: site.vault.ca_dir.clone(),
        crl: tls::Crl::Off,
        name: None,
    }
}

pub(crate) fn tls(site: &Site) -> anyhow::Result<Arc<tls::ClientConfig>> {
    tls::client_config(&trust(site)).context("the trust settings cannot be honoured")
}
