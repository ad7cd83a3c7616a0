//! `mtk uids`: which UID each account has on the nodes, who says so, and what to do when that changes.

use anyhow::{Context, anyhow};
use pipeline::{Selection, UidAnswer, UidOutcome};
use serde_json::json;
use state::State;

use super::{
    run::{lock, open, open_to_read},
    status::snapshot,
};
use crate::{
    Problem,
    args::{Cli, Output, SelectionArgs},
    exit::Exit,
    output::{self, table::align},
    site,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum UidsCommand {
    /// Ask for the UIDs of all accounts (FERRY, the Go service's database, NSS: mtk.uids.order) and remember the answers;
    /// exit 1 if somebody did not answer, or not as before.
    Refresh(RefreshArgs),
    /// Which UID each account has, and who said so; exit 1 if one has none or is said to have another.
    Show(Args),
    /// Make the UID an account is said to have now the one in use.
    Accept {
        /// The account.
        account: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: SelectionArgs,

    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RefreshArgs {
    #[command(flatten)]
    args: Args,

    /// Ask, and remember nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn uids(cli: &Cli, command: &UidsCommand) -> Result<Exit, Problem> {
    match command {
        UidsCommand::Refresh(args) => refresh(cli, args).await,
        UidsCommand::Show(args) => show(cli, args).await,
        UidsCommand::Accept { account } => accept(cli, account).await,
    }
}

async fn refresh(cli: &Cli, RefreshArgs { args, dry_run }: &RefreshArgs) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let selection = site::selected(&site, Selection::from(&args.selection))?;
    let dir = site::state_dir(cli, &site);
    let (_lock, state) = if *dry_run {
        (None, open_to_read(&dir).await?)
    } else {
        (Some(lock(&dir)?), open(&dir).await?)
    };
    let (_stopper, stop) = pipeline::stop_pair();
    let snapshot = state.snapshot().await.map_err(Problem::usage)?;
    site::credds_exist(&site, &selection, &pipeline::known_credds(&site, &snapshot))?;
    let answers = pipeline::refresh_uids(&site, &state, &selection, *dry_run, stop).await;
    state.close().await;
    let answers = answers.map_err(|f| Problem::usage(anyhow!("{}: {}", f.peer, f.text)))?;
    match args.output {
        Output::Json => output::data(&site::json(&json!({"accounts": answers}))?),
        Output::Text => output::data(&text(&answers)),
    }
    Ok(if answers.iter().all(UidAnswer::is_good) {
        Exit::Fresh
    } else {
        Exit::SomeFailed
    })
}

fn text(answers: &[UidAnswer]) -> String {
    let mut rows = Vec::new();
    for answer in answers {
        let says = match &answer.outcome {
            UidOutcome::New => "new".to_owned(),
            UidOutcome::Same => "as known".to_owned(),
            UidOutcome::Drift { known } => {
                format!("! another than {known}, which stays in use; see mtk uids accept")
            }
            UidOutcome::Unknown => "! nobody knows it".to_owned(),
        };
        rows.push(vec![
            answer.account.clone(),
            answer.uid.map_or_else(String::new, |uid| uid.to_string()),
            answer.source.unwrap_or_default().to_owned(),
            says,
        ]);
        for failure in &answer.failures {
            let said = format!("! {}: {}", failure.peer, failure.text);
            rows.push(vec![String::new(), String::new(), String::new(), said]);
        }
    }
    align(&rows, "")
}

async fn show(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let selection = site::selected(&site, Selection::from(&args.selection))?;
    let dir = site::state_dir(cli, &site);
    let credds = pipeline::known_credds(&site, &snapshot(&dir).await?);
    site::credds_exist(&site, &selection, &credds)?;
    let known = match State::open_read_only(&dir).await {
        Ok(state) => state.uids().await,
        Err(state::Error::NoState { .. }) => Ok(std::collections::BTreeMap::new()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("the state in {} cannot be read", dir.display()))
    .map_err(Problem::usage)?;
    let mut accounts = std::collections::BTreeMap::new();
    for service in site.services.iter().filter(|s| selection.wants(s)) {
        let fixed = accounts.entry(service.account.as_str()).or_insert(None);
        *fixed = fixed.or(service.uid);
    }
    let mut good = true;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for (account, fixed) in accounts {
        let remembered = known.get(account);
        let drift = remembered
            .and_then(|k| k.drift.as_ref())
            .filter(|_| fixed.is_none());
        let uid = fixed.or_else(|| remembered.map(|k| k.uid));
        let source = if fixed.is_some() {
            "configuration"
        } else {
            remembered.map_or("", |k| k.source.as_str())
        };
        let confirmed = remembered
            .filter(|_| fixed.is_none())
            .map(|k| k.confirmed.to_string());
        good &= uid.is_some() && drift.is_none();
        let other = drift.map(|d| format!("! {} says {} since {}", d.source, d.uid, d.at));
        rows.push(vec![
            account.to_owned(),
            uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string()),
            source.to_owned(),
            confirmed.clone().unwrap_or_default(),
            other.unwrap_or_default(),
        ]);
        let drift = drift.map(|d| json!({"uid": d.uid, "source": d.source, "at": d.at.to_string()}));
        list.push(json!({
            "account": account, "uid": uid, "source": source, "confirmed": confirmed, "drift": drift,
        }));
    }
    match args.output {
        Output::Json => output::data(&site::json(&json!({"accounts": list}))?),
        Output::Text => output::data(&align(&rows, "")),
    }
    Ok(if good { Exit::Fresh } else { Exit::SomeFailed })
}

async fn accept(cli: &Cli, account: &str) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let dir = site::state_dir(cli, &site);
    let _lock = lock(&dir)?;
    let state = open(&dir).await?;
    let accepted = state.accept_uid(account).await.map_err(Problem::usage);
    state.close().await;
    if accepted? {
        output::data(&format!(
            "the UID of {account} is the one it is said to have now: the next run pushes by it"
        ));
        Ok(Exit::Fresh)
    } else {
        Err(Problem::usage(anyhow!(
            "nobody says that {account} has another UID than the known one"
        )))
    }
}
