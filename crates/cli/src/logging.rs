//! Logs go to stderr; what other people's crates say at debug and trace is never shown.

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, filter::FilterFn, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::args::LogFormat;

/// The crates of mtk, as they name themselves in logs.
const OURS: [&str; 13] = [
    "mtk",
    "pipeline",
    "credential",
    "kerberos",
    "tls",
    "vault_client",
    "cedar",
    "credd_client",
    "distribute",
    "config",
    "state",
    "telemetry",
    "condor_config",
];

/// Sets up the log of this process.
///
/// Libraries below us print headers, packets and buffers at debug and trace, and with them tokens. So only our own
/// crates, whose every line is searched by a test, are heard at those levels, whatever `MTK_LOG` asks for.
pub(crate) fn init(verbose: u8, format: LogFormat) {
    let default = match verbose {
        0 => "warn".to_owned(),
        1 => ours_at("info"),
        2 => ours_at("debug"),
        _ => ours_at("trace"),
    };
    let wanted = std::env::var(crate::env::LOG).unwrap_or_else(|_| default.clone());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|_| EnvFilter::new(default));
    let layer = match format {
        LogFormat::Human => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(ansi())
            .boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(FilterFn::new(may_be_heard)))
        .with(filter)
        .init();
}

fn ours_at(level: &str) -> String {
    OURS.iter().fold("warn".to_owned(), |filter, name| {
        format!("{filter},{name}={level}")
    })
}

fn may_be_heard(meta: &Metadata<'_>) -> bool {
    let name = meta.target().split("::").next().unwrap_or_default();
    OURS.contains(&name) || *meta.level() <= Level::INFO
}

fn ansi() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os(crate::env::NO_COLOR).is_none()
}
