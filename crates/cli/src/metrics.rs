//! What monitors are told after a run. Nothing here can fail the run or hold it up for longer than the configured time.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use config::Site;
use jiff::Timestamp;
use pipeline::Report;
use state::State;
use telemetry::{Facts, Gateway};

/// The Go service's program that did what a run of mtk does.
const EXECUTABLE: &str = "token-push";

/// Writes the textfile and asks the Pushgateway, each if configured; what went wrong is for the caller to say.
pub(crate) async fn tell(site: &Site, state_dir: &Path, report: &Report) -> Vec<anyhow::Error> {
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

async fn registry(site: &Site, state_dir: &Path, report: &Report) -> anyhow::Result<telemetry::Registry> {
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

async fn push(site: &Site, address: &str, registry: &telemetry::Registry) -> anyhow::Result<()> {
    let trust = tls::Trust {
        system: true,
        ca_file: site.vault.ca_file.clone(),
        ca_dir: site.vault.ca_dir.clone(),
        crl: tls::Crl::Off,
        name: None,
    };
    let tls = tls::client_config(&trust).context("the trust settings cannot be honoured")?;
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let gateway = Gateway {
        address: address.to_owned(),
        job: site.metrics.job.clone(),
        instance: site.metrics.instance.clone().unwrap_or_else(host),
        timeout: site.metrics.timeout,
    };
    Ok(telemetry::push(registry, &gateway, Arc::clone(&tls)).await?)
}
