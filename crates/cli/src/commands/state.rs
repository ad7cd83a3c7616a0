//! `mtk state`: what is remembered, looked at, moved and taken over.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use serde_json::json;
use state::{About, State};

use super::run::{lock, open};
use crate::{
    Problem,
    args::{Cli, Output},
    exit::Exit,
    output::{self, table::align},
    site,
};

/// No site remembers more.
const LARGEST: u64 = 512 * 1024 * 1024;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum StateCommand {
    /// What there is, whether it is sound, and who is writing; exit 1 if it is not sound.
    Show {
        /// The form of the answer on stdout.
        #[arg(long, short, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print everything that is remembered as one JSON document, without any token.
    Export,
    /// Take in what `export` printed, all or nothing.
    Import(ImportArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// What `export` printed; `-` is stdin.
    #[arg(value_name = "FILE", required_unless_present = "go", conflicts_with = "go")]
    file: Option<PathBuf>,

    /// Put it in the place of what there is.
    #[arg(long, conflicts_with = "go")]
    replace: bool,

    /// Take over UIDs and counts of failures from the Go service's database, which is only read; without a file the
    /// one of the configuration (dbLocation).
    #[arg(long, value_name = "DB", num_args = 0..=1)]
    go: Option<Option<PathBuf>>,
}

pub(crate) async fn state(cli: &Cli, command: &StateCommand) -> Result<Exit, Problem> {
    match command {
        StateCommand::Show { output } => show(cli, *output).await,
        StateCommand::Export => export(cli).await,
        StateCommand::Import(ImportArgs { go: Some(db), .. }) => import_go(cli, db.clone()).await,
        StateCommand::Import(args) => import(cli, args).await,
    }
}

async fn look(cli: &Cli) -> Result<State, Problem> {
    let site = site::load(cli)?;
    let dir = site::state_dir(cli, &site);
    State::open_read_only(&dir)
        .await
        .with_context(|| format!("the state in {} cannot be read", dir.display()))
        .map_err(Problem::usage)
}

async fn show(cli: &Cli, form: Output) -> Result<Exit, Problem> {
    let state = look(cli).await?;
    let about = state.about().await.map_err(Problem::usage)?;
    match form {
        Output::Json => output::data(&site::json(&as_json(&about))?),
        Output::Text => output::data(&as_text(&about)),
    }
    Ok(if about.integrity == "ok" {
        Exit::Fresh
    } else {
        Exit::SomeFailed
    })
}

fn as_json(about: &About) -> serde_json::Value {
    let rows: serde_json::Map<_, _> = about.rows.iter().map(|(t, n)| (t.clone(), json!(n))).collect();
    let held = about.held.as_ref().map(|held| {
        let since = held.since.map(|t| t.to_string());
        json!({"since": since, "pid": held.pid, "host": held.host})
    });
    json!({
        "path": about.path,
        "bytes": about.bytes,
        "integrity": about.integrity,
        "migrations": about.migrations,
        "rows": rows,
        "set_aside": about.set_aside,
        "held": held,
    })
}

fn as_text(about: &About) -> String {
    let migrations: Vec<String> = about.migrations.iter().map(ToString::to_string).collect();
    let mut out = format!(
        "{} ({} bytes)\n  integrity   {}\n  migrations  {}\n",
        about.path.display(),
        about.bytes,
        about.integrity,
        migrations.join(", ")
    );
    match &about.held {
        Some(held) => out.push_str(&format!("  lock        {held}\n")),
        None => out.push_str("  lock        free\n"),
    }
    for path in &about.set_aside {
        out.push_str(&format!("  damaged     {}\n", path.display()));
    }
    let rows: Vec<Vec<String>> = about
        .rows
        .iter()
        .map(|(table, count)| vec![table.clone(), count.to_string()])
        .collect();
    out.push_str(&align(&rows, "  "));
    out
}

async fn export(cli: &Cli) -> Result<Exit, Problem> {
    let document = look(cli).await?.export().await.map_err(Problem::usage)?;
    output::data(&site::json(&document)?);
    Ok(Exit::Fresh)
}

async fn import(cli: &Cli, args: &ImportArgs) -> Result<Exit, Problem> {
    let path = args.file.as_deref().unwrap_or_else(|| "-".as_ref());
    let text = read(path)
        .with_context(|| format!("{} cannot be read", path.display()))
        .map_err(Problem::usage)?;
    let document: serde_json::Value = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not JSON", path.display()))
        .map_err(Problem::usage)?;
    let site = site::load(cli)?;
    let dir = site::state_dir(cli, &site);
    let _lock = lock(&dir)?;
    let state = open(&dir).await?;
    let rows = state.import(&document, args.replace).await;
    state.close().await;
    match rows {
        Ok(rows) => output::data(&format!("{rows} rows taken in")),
        Err(error @ state::ImportError::NotEmpty { .. }) => {
            return Err(Problem::usage(
                anyhow!(error).context("nothing was taken in; --replace drops what there is"),
            ));
        }
        Err(error) => return Err(Problem::usage(anyhow!(error).context("nothing was taken in"))),
    }
    Ok(Exit::Fresh)
}

fn read(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let taken = if path.as_os_str() == "-" {
        std::io::stdin().take(LARGEST + 1).read_to_end(&mut text)?
    } else {
        std::fs::File::open(path)?
            .take(LARGEST + 1)
            .read_to_end(&mut text)?
    };
    if u64::try_from(taken).is_ok_and(|n| n > LARGEST) {
        return Err(std::io::Error::other(format!(
            "it is longer than {LARGEST} bytes"
        )));
    }
    Ok(text)
}

async fn import_go(cli: &Cli, db: Option<PathBuf>) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let db = db
        .or_else(|| site.db_location.clone())
        .ok_or_else(|| Problem::usage(anyhow!("no database is named, here or in the configuration")))?;
    let go = state::go_database(&db)
        .await
        .context("nothing was taken over")
        .map_err(Problem::usage)?;
    let dir = site::state_dir(cli, &site);
    let _lock = lock(&dir)?;
    let state = open(&dir).await?;
    let taken = pipeline::take_over(&site, &state, &go, Timestamp::now()).await;
    state.close().await;
    let taken = taken
        .context("not everything was taken over")
        .map_err(Problem::usage)?;
    output::data(&format!(
        "{} UIDs and {} counts of failures taken over from {}",
        taken.uids,
        taken.failures,
        db.display()
    ));
    for account in &taken.drifted {
        output::warn(&format!(
            "the UID of {account} there is not the one known here, which stays in use: mtk uids show"
        ));
    }
    if !taken.unknown.is_empty() {
        output::warn(&format!(
            "no service of {} goes by {}",
            site.path.display(),
            taken.unknown.join(", ")
        ));
    }
    Ok(Exit::Fresh)
}
