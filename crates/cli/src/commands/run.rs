//! `mtk refresh`, `mtk push`, `mtk run`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context;
use config::Site;
use jiff::{SignedDuration, Timestamp};
use pipeline::{Edge, Outcome, Report, Request, Selection, Target, What};
use state::State;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Problem,
    args::{Cli, Output, RunArgs},
    exit::Exit,
    logging,
    observers::{self, Notices},
    output, progress, site,
};

/// Monitors that answer at once are told of a run that was stopped, too; with the pipeline's grace mtk is gone within 5 s.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs, prints the summary, and says by the exit status whether all is fresh.
pub(crate) async fn run(cli: &Cli, args: &RunArgs, what: What) -> Result<Exit, Problem> {
    let site = if args.quiet {
        // what is doubtful in the configuration is doubtful every hour: `mtk config check` says it
        Arc::new(site::load_quietly(cli)?.0)
    } else {
        site::load(cli)?
    };
    let site = if args.no_loki {
        let mut site = Arc::unwrap_or_clone(site);
        site.loki = None;
        Arc::new(site)
    } else {
        site
    };
    logging::attach(&site.log_files);
    let notices = match (args.dont_notify, args.test_notices) {
        (true, _) => Notices::Off,
        (_, true) => Notices::Test,
        _ => Notices::On {
            whole: what == What::Run && Selection::from(&args.selection).is_all(),
        },
    };
    let selection = site::selected(&site, Selection::from(&args.selection))?;
    let dir = site::state_dir(cli, &site);
    // first the lock: a damaged database is not put away under somebody's hands
    let (lock, state) = if args.dry_run {
        (None, open_to_read(&dir).await?)
    } else {
        let lock = match args.wait {
            None => lock(&dir)?,
            Some(patience) => lock_in_time(&dir, patience).await?,
        };
        (Some(lock), open(&dir).await?)
    };
    if lock.is_some()
        && let Err(error) = state.sweep()
    {
        tracing::warn!(%error, "what a killed run left half written is still there");
    }
    let (stopper, stop) = pipeline::stop_pair();
    let mut term = signal(SignalKind::terminate()).map_err(Problem::usage)?;
    let mut int = signal(SignalKind::interrupt()).map_err(Problem::usage)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Problem::usage)?;
    // log files are opened again by themselves when they were rotated: whoever says so this way must not end us
    let rotated = tokio::spawn(async move { while hangup.recv().await.is_some() {} });
    let listener = tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::warn!("told to stop: no new step begins");
        stopper.stop();
        // Asked twice, we still keep to the grace: what is under way may be a store.
        std::future::pending::<()>().await;
    });
    let request = Request {
        what,
        selection,
        verify: !args.no_verify,
        dry_run: args.dry_run,
    };
    let asked = request.selection.clone();
    let known = if asked.credds.is_empty() {
        BTreeSet::new()
    } else {
        let snapshot = state.snapshot().await.map_err(Problem::usage)?;
        pipeline::known_credds(&site, &snapshot)
    };
    if what == What::Push {
        site::credds_exist(&site, &asked, &known)?;
    }
    let progress = progress::new(args.output);
    let report = pipeline::run(site.clone(), state, request, progress.clone(), stop.clone())
        .await
        .context("nothing was done")
        .map_err(Problem::usage)?;
    progress.finish();
    let all_fresh = report.all_fresh() && !report.interrupted;
    match args.output {
        _ if args.quiet && all_fresh => {}
        Output::Json => output::data(&site::json(&report)?),
        Output::Text => output::data(&output::report::text(&report)),
    }
    let found = match what {
        What::Push => Ok(()),
        What::Refresh | What::Run => credds_found(&site, asked, &known, &report),
    };
    // whoever waits for the state need not wait for monitors
    drop(lock);
    if !args.dry_run {
        // whoever told us to stop does not wait for monitors either
        let stopped = async {
            stop.wait().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            problems = observers::tell(&site, &dir, &report, notices) => {
                for problem in problems {
                    output::warn(&format!("{problem:#}"));
                }
            }
            () = stopped => output::warn("told to stop: not every monitor was told of this run"),
        }
    }
    listener.abort();
    rotated.abort();
    found?;
    Ok(if all_fresh { Exit::Fresh } else { Exit::SomeFailed })
}

/// A credd that was asked for by name and that no service has: a typo must not look like success. Which there are is
/// known only when the collectors have said so; `known` are those of before.
fn credds_found(
    site: &Site,
    mut asked: Selection,
    known: &BTreeSet<String>,
    report: &Report,
) -> Result<(), Problem> {
    let cannot_tell = |edge: &Edge| {
        matches!(edge.target, Target::Discover { .. } | Target::Setup) && edge.outcome == Outcome::Failed
    };
    if report.interrupted || report.edges().any(|(_, edge)| cannot_tell(edge)) {
        return Ok(());
    }
    asked.credds.retain(|name| {
        let here = |edge: &Edge| matches!(&edge.target, Target::Store { credd, .. } if credd == name);
        !report.edges().any(|(_, edge)| here(edge))
    });
    let known: BTreeSet<String> = known
        .iter()
        .filter(|k| !asked.credds.contains(k))
        .cloned()
        .collect();
    site::credds_exist(site, &asked, &known)
}

/// Opens the state for a command that writes nothing into it. The lock is held for the opening only, which may migrate
/// the database or set it aside; while another mtk has it, it is left as it is.
pub(crate) async fn open_to_read(dir: &std::path::Path) -> Result<State, Problem> {
    match lock(dir) {
        Ok(_lock) => open(dir).await,
        Err(locked) if locked.exit == Exit::Locked => match State::open_read_only(dir).await {
            // whoever holds the lock is about to begin it
            Err(state::Error::NoState { .. }) => Err(locked),
            other => unusable(dir, other),
        },
        Err(problem) => Err(problem),
    }
}

/// Opens the state to write into it beside whoever holds the lock, if somebody does: then it is left as it is.
pub(crate) async fn open_beside(dir: &std::path::Path) -> Result<(Option<state::Lock>, State), Problem> {
    match lock(dir) {
        Ok(lock) => Ok((Some(lock), open(dir).await?)),
        Err(locked) if locked.exit == Exit::Locked => match State::open_beside(dir).await {
            Err(state::Error::NoState { .. }) => Err(locked),
            other => Ok((None, unusable(dir, other)?)),
        },
        Err(problem) => Err(problem),
    }
}

fn unusable(dir: &std::path::Path, opened: Result<State, state::Error>) -> Result<State, Problem> {
    opened
        .with_context(|| {
            format!(
                "the state in {} cannot be used, and another mtk holds its lock: nothing was repaired",
                dir.display()
            )
        })
        .map_err(Problem::usage)
}

/// Opens the state. Who calls this holds the lock.
pub(crate) async fn open(dir: &std::path::Path) -> Result<State, Problem> {
    let (state, opened) = State::open(dir)
        .await
        .with_context(|| format!("the state in {} cannot be used", dir.display()))
        .map_err(Problem::usage)?;
    if let state::Opened::Recovered { aside } = opened {
        output::warn(&format!(
            "the state was damaged and set aside as {}; credds and nodes are asked, and what cannot be known is done again",
            aside.display()
        ));
    }
    Ok(state)
}

/// Waits for whoever holds the lock: for so long, or as long as it takes.
pub(crate) async fn lock_in_time(
    dir: &std::path::Path,
    patience: Option<SignedDuration>,
) -> Result<state::Lock, Problem> {
    let began = std::time::Instant::now();
    let patience = patience.map(|p| std::time::Duration::try_from(p).unwrap_or_default());
    let mut told = false;
    loop {
        match lock(dir) {
            Err(problem) if problem.exit == Exit::Locked && patience.is_none_or(|p| began.elapsed() < p) => {
                if !told {
                    output::warn(&format!("{}; waiting for its end", problem.error));
                    told = true;
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            other => return other,
        }
    }
}

pub(crate) fn lock(dir: &std::path::Path) -> Result<state::Lock, Problem> {
    state::lock(dir, Timestamp::now()).map_err(|e| {
        let exit = if matches!(e, state::LockError::Held(_)) {
            Exit::Locked
        } else {
            Exit::Usage
        };
        Problem {
            error: anyhow::Error::new(e),
            exit,
        }
    })
}
