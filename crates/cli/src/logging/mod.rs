//! Logs go to stderr or the journal, to the files of the configuration, and into memory for Loki; what other people's crates say at debug and trace is never shown.

mod file;

use std::sync::OnceLock;

use telemetry::Lines;
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{DynFilterFn, FilterFn},
    fmt,
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use self::file::LogFile;
use crate::{args::LogFormat, output};

static LOG_FILE: LogFile = LogFile::new();
static DEBUG_FILE: LogFile = LogFile::new();
static LINES: OnceLock<Lines> = OnceLock::new();

/// The crates of mtk, as they name themselves in logs.
const OURS: &[&str] = &[
    "mtk",
    "pipeline",
    "credential",
    "kerberos",
    "tls",
    "vault_client",
    "cedar",
    "credd_client",
    "distribute",
    "ferry_client",
    "config",
    "state",
    "telemetry",
    "audit",
    "notify",
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
    let lines = LINES.get_or_init(Lines::default).clone();
    tracing_subscriber::registry()
        .with(
            shown(format)
                .with_filter(FilterFn::new(may_be_heard))
                .with_filter(filter),
        )
        .with(lines.with_filter(FilterFn::new(|meta| is_worth_keeping(meta, Level::INFO))))
        .with(in_file(&LOG_FILE, Level::INFO))
        .with(in_file(&DEBUG_FILE, Level::DEBUG))
        .init();
}

/// Where lines go for whoever started us.
fn shown<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let human = || fmt::layer().with_writer(std::io::stderr).with_ansi(ansi());
    match format {
        LogFormat::Human => human().boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(layer) => layer.with_field_prefix(Some("MTK".to_owned())).boxed(),
            Err(error) => {
                output::warn(&format!(
                    "the journal cannot be reached ({error}): logs go to stderr"
                ));
                human().boxed()
            }
        },
    }
}

/// A file that is named later, if at all.
fn in_file<S>(file: &'static LogFile, most: Level) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = DynFilterFn::new(move |meta, _| file.is_named() && is_worth_keeping(meta, most))
        .with_max_level_hint(LevelFilter::from_level(most));
    fmt::layer()
        .with_ansi(false)
        .with_writer(file)
        .with_filter(filter)
}

/// From now on lines go to the files of the configuration as well. A file that cannot be opened stops no run.
pub(crate) fn attach(files: &config::LogFiles) {
    for (log, path) in [(&LOG_FILE, &files.log), (&DEBUG_FILE, &files.debug)] {
        if let Some(path) = path
            && let Err(error) = log.name(path)
        {
            output::warn(&format!("{} cannot be written: {error}", path.display()));
        }
    }
}

/// What was logged at INFO and above since the start.
pub(crate) fn lines() -> Option<&'static Lines> {
    LINES.get()
}

/// Ours up to `most`, and what others warn of.
fn is_worth_keeping(meta: &Metadata<'_>, most: Level) -> bool {
    may_be_heard(meta) && *meta.level() <= if is_ours(meta) { most } else { Level::WARN }
}

fn ours_at(level: &str) -> String {
    OURS.iter().fold("warn".to_owned(), |filter, name| {
        format!("{filter},{name}={level}")
    })
}

fn may_be_heard(meta: &Metadata<'_>) -> bool {
    is_ours(meta) || *meta.level() <= Level::INFO
}

fn is_ours(meta: &Metadata<'_>) -> bool {
    let name = meta.target().split("::").next().unwrap_or_default();
    OURS.contains(&name)
}

fn ansi() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os(crate::env::NO_COLOR).is_none()
}
