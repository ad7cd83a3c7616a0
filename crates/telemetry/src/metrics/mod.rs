//! From what is known to a registry.

mod legacy;
mod ours;

use config::Site;
use jiff::Timestamp;
use pipeline::Report;
use prometheus::{Encoder as _, GaugeVec, Opts, Registry, TextEncoder};
use state::Snapshot;

/// What metrics are made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What is configured; what is not in it any more has no metrics.
    pub site: &'a Site,
    /// What is remembered, this run's outcome included.
    pub snapshot: &'a Snapshot,
    /// What this run did, if there was one.
    pub report: Option<&'a Report>,
    /// The Go service's name of the program whose work this was: `token-push`.
    pub executable: &'a str,
    /// Our version.
    pub version: &'a str,
    /// When this is true.
    pub now: Timestamp,
}

/// Every metric there is to tell, in a registry of its own.
///
/// # Errors
/// Only if two of our own families were in each other's way.
pub fn metrics(facts: &Facts<'_>) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    legacy::register(&registry, facts)?;
    ours::register(&registry, facts)?;
    Ok(registry)
}

/// The registry in the text format of Prometheus, version 0.0.4.
///
/// # Errors
/// [`prometheus::Error`] for a family without a metric, which is not registered here.
pub fn text(registry: &Registry) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

/// Gauges of one name; a family without a value is left out when it is gathered.
fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
    let gauges = GaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

/// Seconds since 1970, as Prometheus has times.
fn unix(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests;
