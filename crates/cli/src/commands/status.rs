//! `mtk status`: how long everything lives, from the state alone; a check in the way of Nagios.

use std::{ffi::OsString, io::IsTerminal, path::Path, time::Duration};

use anyhow::Context;
use config::Site;
use jiff::{SignedDuration, Timestamp};
use pipeline::{Selection, Status};
use state::{Snapshot, State};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Problem,
    args::{Cli, Color, SelectionArgs, TableOutput, days},
    exit::Exit,
    output::{self, matrix::Limits, table::Paint},
    site,
};

/// Red below this, where nobody says anything else.
const BAD: SignedDuration = SignedDuration::from_hours(24);

/// As wide as a table is where there is no terminal.
const WIDTH: usize = 120;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status 1 if something that is configured is not alive. With --fail-below or --warn-below it is a \
                  check for Nagios and its like: one line on stdout, exit status 0 (OK), 1 (WARNING: less than \
                  --warn-below is left of something), 2 (CRITICAL: less than --fail-below is left, something is not \
                  alive, or a service cannot be set up) or 3 (UNKNOWN: nothing can be said). What is silenced (mtk \
                  silence) counts in none of these."
)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: SelectionArgs,

    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = TableOutput::Text)]
    output: TableOutput,

    /// Every credential and every file, not only the matrix.
    #[arg(long, short)]
    long: bool,

    /// Look again every so many seconds, until stopped.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10",
          value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["fail_below", "warn_below"])]
    watch: Option<u64>,

    /// Colours: red is less than --fail-below or a day, or dead; yellow what should have been renewed, or less than
    /// --warn-below.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,

    /// A check: critical if less than this is left of something (3d, 12h).
    #[arg(long, value_name = "SPAN", value_parser = days)]
    fail_below: Option<SignedDuration>,

    /// A check: a warning if less than this is left of something.
    #[arg(long, value_name = "SPAN", value_parser = days)]
    warn_below: Option<SignedDuration>,
}

impl Args {
    fn is_check(&self) -> bool {
        self.fail_below.is_some() || self.warn_below.is_some()
    }

    fn limits(&self) -> Limits {
        Limits {
            bad: self.fail_below.unwrap_or(BAD),
            warn: self.warn_below,
        }
    }
}

/// Whether a command line that cannot be understood was meant as a check.
pub(crate) fn is_check(args: &[OsString]) -> bool {
    let said = |word: &OsString| {
        let word = word.to_string_lossy();
        word.starts_with("--fail-below") || word.starts_with("--warn-below")
    };
    args.iter().any(|word| word == "status") && args.iter().any(said)
}

/// Prints the matrix; exit status 1 if something that is configured is not alive.
pub(crate) async fn status(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    if !args.is_check() {
        return look(cli, args).await;
    }
    let checked = async {
        let (site, _) = site::load_quietly(cli)?;
        let dir = site::state_dir(cli, &site);
        read(&site, &dir, &args.selection).await
    };
    match checked.await {
        Ok(status) => check(args, &status),
        Err(problem) => {
            // one line, and no numbers behind a bar
            let said = format!("{:#}", problem.error).replace(['\n', '|'], " ");
            output::data(&format!("MTK UNKNOWN: {said}"));
            Ok(Exit::Unknown)
        }
    }
}

async fn look(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let dir = site::state_dir(cli, &site);
    let Some(seconds) = args.watch else {
        let status = read(&site, &dir, &args.selection).await?;
        print(args, &status, "")?;
        return Ok(if status.all_alive() {
            Exit::Fresh
        } else {
            Exit::SomeFailed
        });
    };
    let mut term = signal(SignalKind::terminate()).map_err(Problem::usage)?;
    let mut int = signal(SignalKind::interrupt()).map_err(Problem::usage)?;
    // to the top of an empty terminal
    let clear = if std::io::stdout().is_terminal() {
        "\u{1b}[H\u{1b}[2J"
    } else {
        ""
    };
    loop {
        let status = read(&site, &dir, &args.selection).await?;
        print(args, &status, clear)?;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            _ = term.recv() => return Ok(Exit::Fresh),
            _ = int.recv() => return Ok(Exit::Fresh),
        }
    }
}

/// What is remembered; nothing, if nothing was ever done.
pub(crate) async fn snapshot(dir: &Path) -> Result<Snapshot, Problem> {
    match State::open_read_only(dir).await {
        Ok(state) => state.snapshot().await,
        Err(state::Error::NoState { .. }) => Ok(Snapshot::default()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("the state in {} cannot be read", dir.display()))
    .map_err(Problem::usage)
}

async fn read(site: &Site, dir: &Path, selection: &SelectionArgs) -> Result<Status, Problem> {
    let snapshot = snapshot(dir).await?;
    let selection = site::selected(site, Selection::from(selection))?;
    site::credds_exist(site, &selection, &pipeline::known_credds(site, &snapshot))?;
    Ok(pipeline::status(site, &snapshot, &selection, Timestamp::now()).with_vaults(site, dir))
}

fn print(args: &Args, status: &Status, before: &str) -> Result<(), Problem> {
    let (limits, paint) = (args.limits(), Paint::new(args.color));
    let text = match args.output {
        TableOutput::Json if args.watch.is_some() => {
            output::event(&serde_json::to_value(status).map_err(Problem::usage)?);
            return Ok(());
        }
        TableOutput::Json => site::json(status)?,
        TableOutput::Csv => output::status::table(status)?,
        TableOutput::Text if args.long => output::status::long(status, &limits, paint),
        TableOutput::Text => output::status::text(status, &limits, width(), paint),
    };
    let at = if args.watch.is_some() && args.output == TableOutput::Text {
        format!("{}\n", status.now)
    } else {
        String::new()
    };
    output::data(&format!("{before}{at}{text}"));
    Ok(())
}

fn width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(WIDTH, |(width, _)| usize::from(width.0))
}

/// One line and the exit status, as Nagios wants them.
fn check(args: &Args, status: &Status) -> Result<Exit, Problem> {
    let seconds = |limit: Option<SignedDuration>| limit.map(|l| l.as_secs());
    let (fail, warn) = (seconds(args.fail_below), seconds(args.warn_below));
    let below = |limit: Option<i64>| {
        let counting = status.edges().filter(move |(_, e)| e.counts());
        counting.filter(move |(_, e)| limit.is_some_and(|l| e.is_below(l)))
    };
    let count =
        |test: &dyn Fn(&pipeline::StatusEdge) -> bool| status.edges().filter(|(_, e)| test(e)).count();
    let (all, silenced) = (count(&|_| true), count(&|e| !e.counts()));
    let dead = count(&|e| e.counts() && !e.life.is_alive());
    let failing = count(&|e| e.counts() && e.consecutive_failures > 0);
    let broken: Vec<&str> = status.broken_that_count().map(|(s, _)| s.as_str()).collect();
    let exit = if !status.all_alive() || below(fail).next().is_some() {
        Exit::Critical
    } else if below(warn).next().is_some() {
        Exit::Warning
    } else {
        Exit::Fresh
    };
    if args.output != TableOutput::Text {
        print(args, status, "")?;
        return Ok(exit);
    }
    let word = match exit {
        Exit::Critical => "CRITICAL",
        Exit::Warning => "WARNING",
        _ => "OK",
    };
    let first = output::status::first(status);
    let ends = match first {
        Some((service, edge)) if edge.life.is_alive() => format!(
            ", first to end: {} in {}",
            output::status::place(service, edge),
            output::status::lives(edge.life)
        ),
        Some((service, edge)) => format!(", first: {}", output::status::place(service, edge)),
        None => String::new(),
    };
    let setup = match broken.as_slice() {
        [] => String::new(),
        names => format!(", cannot be set up: {}", names.join(" ")),
    };
    let range = |limit: Option<i64>| limit.map_or_else(String::new, |l| format!("{l}:"));
    let left = first.map_or_else(
        || "U".to_owned(),
        |(_, edge)| format!("{}s", edge.life.left().max(0)),
    );
    output::data(&format!(
        "MTK {word}: {} of {} alive{ends}{setup} | first_end={left};{};{} dead={dead};;0;0 failing={failing} \
         silenced={silenced}",
        all - dead - silenced,
        all - silenced,
        range(warn),
        range(fail),
    ));
    Ok(exit)
}
