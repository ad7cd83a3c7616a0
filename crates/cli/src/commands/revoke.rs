//! `mtk revoke`: the panic button of a service, or of all that push to a node.

use std::{
    io::{BufRead, IsTerminal, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, anyhow, bail};
use credential::LongToken;
use futures_util::{StreamExt, stream};
use pipeline::{Bystander, Ended, Failure, Selection, Step};
use serde_json::json;

use super::{
    doctor::{AT_ONCE, Patients},
    run::open_beside,
    status::snapshot,
};
use crate::{
    Problem,
    args::{Cli, Output, SelectionArgs},
    exit::Exit,
    output::{self, in_order::InOrder},
    site,
};

/// A Vault token has some dozen characters, or some hundred.
const LONGEST: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Takes back at Vault: the refresh token (nothing can be minted from then on), the node token, and \
                        the long tokens, for which a Vault operator's token is needed. What a stolen token can still \
                        do is in docs/onboarding.md. Safe to repeat; exit status 1 if something failed or is left to \
                        Vault's operators."
)]
pub(crate) struct Args {
    /// A service: experiment_role as configured, or its name at HTCondor.
    #[arg(value_name = "SERVICE", conflicts_with = "service")]
    services: Vec<String>,

    #[command(flatten)]
    selection: SelectionArgs,

    /// Also delete its credentials at the credds and its files on the nodes.
    #[arg(long)]
    everywhere: bool,

    /// The token of a Vault operator, in a file nobody else can read, to revoke long tokens with.
    #[arg(long, value_name = "FILE")]
    operator_token_file: Option<PathBuf>,

    /// Do not ask.
    #[arg(long, short)]
    yes: bool,

    /// The form of what was done on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit status 1 if something failed or is left to Vault's operators.
pub(crate) async fn revoke(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    if args.services.is_empty() && Selection::from(&args.selection).is_all() {
        return Err(Problem::usage(anyhow!("say which services are meant")));
    }
    let meant = Patients::of(&site, &args.services, &args.selection)?;
    let dir = site::state_dir(cli, &site);
    if !meant.selection.credds.is_empty() {
        // every service that finds its credds by itself may have one of any name
        let known = pipeline::known_credds(&site, &snapshot(&dir).await?);
        site::credds_exist(&site, &meant.selection, &known)?;
    }
    for (service, reason) in &meant.broken {
        output::warn(&format!(
            "{service} cannot be set up, and nothing of it is taken back: {reason}"
        ));
    }
    let file = args.operator_token_file.as_deref();
    let operator = file.map(operator_token).transpose().map_err(Problem::usage)?;
    if !args.yes {
        ask(&meant.services, args.everywhere).map_err(Problem::usage)?;
    }
    // a panic button does not wait for whoever is at work
    let (lock, state) = open_beside(&dir).await?;
    if lock.is_none() {
        output::warn("another mtk is at work and may put back what is taken: repeat this when it has ended");
    }
    let (_stopper, stop) = pipeline::stop_pair();
    let text = args.output == Output::Text;
    let usage = |failure: Failure| Problem::usage(anyhow!("{}: {}", failure.peer, failure.text));
    let bystander = Bystander::new(&site, state.clone(), stop).await.map_err(usage)?;
    let several = meant.services.len() > 1;
    let told = Mutex::new(InOrder::new(meant.services.len(), output::data));
    let tell = |n: usize, line: String| {
        if text {
            told.lock().unwrap_or_else(PoisonError::into_inner).tell(n, line);
        }
    };
    let taken = meant.services.iter().enumerate().map(async |(n, service)| {
        if several {
            tell(n, format!("{}:", service.id));
        }
        let mut step = |step: &Step| tell(n, line(step));
        let operator = operator.as_ref();
        let done = pipeline::revoke(&bystander, &site, service, args.everywhere, operator, &mut step).await;
        told.lock().unwrap_or_else(PoisonError::into_inner).complete(n);
        done
    });
    // one that cannot even be begun is no reason to leave the others alone
    let taken: Vec<_> = stream::iter(taken).buffered(AT_ONCE).collect().await;
    state.close().await;
    let all = taken.into_iter().collect::<Result<Vec<_>, _>>().map_err(usage)?;
    if !text {
        output::data(&match all.as_slice() {
            [one] if meant.by_name => site::json(one)?,
            several => site::json(&json!({"revocations": several, "broken": meant.broken}))?,
        });
    }
    let complete = meant.broken.is_empty() && all.iter().all(pipeline::Revocation::complete);
    Ok(if complete { Exit::Fresh } else { Exit::SomeFailed })
}

fn line(step: &Step) -> String {
    let word = match step.ended {
        Ended::Done => "ok",
        Ended::Nothing => "-",
        Ended::ForOperators => "TO DO",
        Ended::Failed => "FAILED",
    };
    let what = serde_json::to_value(step.what).ok();
    let what = what.as_ref().and_then(|v| v.as_str()).unwrap_or_default();
    format!("{word:<6}  {what:<13}  {}: {}", step.place, step.text)
}

fn ask(services: &[&config::Service], everywhere: bool) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody is there to be asked: say --yes");
    }
    let reach = if everywhere {
        "at Vault, at all its credds and on all its nodes"
    } else {
        "at Vault"
    };
    for service in services {
        output::data(&format!(
            "This takes back what {} ({}) was given {reach}. Jobs of it will find no tokens, and somebody must onboard \
             it again.",
            service.id, service.principal
        ));
    }
    let word = match services {
        [one] => one.id.to_string(),
        several => format!("{} services", several.len()),
    };
    output::data(&format!("Type {word} to go on:"));
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .take(1024)
        .read_line(&mut answer)
        .context("no answer could be read")?;
    if answer.trim() == word {
        Ok(())
    } else {
        bail!("nothing was done")
    }
}

/// Refuses a file that others may read: whoever holds this token is Vault's operator.
fn operator_token(path: &Path) -> anyhow::Result<LongToken> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    let meta = file
        .metadata()
        .with_context(|| format!("{shown} cannot be looked at"))?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        bail!(
            "{shown} holds an operator's token and is open to others (mode {:04o}): chmod 0600 it",
            meta.mode() & 0o7777
        );
    }
    let mut text = String::new();
    file.take(LONGEST)
        .read_to_string(&mut text)
        .with_context(|| format!("{shown} cannot be read"))?;
    LongToken::new(text.trim().to_owned()).with_context(|| format!("{shown} holds no token"))
}
