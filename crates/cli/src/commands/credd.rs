//! `mtk credd list`, `query` and `delete`: what credds hold, asked of the credds themselves.

mod ask;
mod names;
mod render;
mod robots;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};

use self::{
    ask::{Place, Places},
    names::Pattern,
    robots::RobotArgs,
};
use crate::{
    Problem,
    args::{Cli, Output, SelectionArgs, days},
    exit::Exit,
    output, site,
};

#[derive(Debug, Subcommand)]
pub(crate) enum CreddCommand {
    /// Everything each credd holds for the robots, with its age.
    List(ListArgs),
    /// Whether each credd holds a credential, and in which state.
    Query(QueryArgs),
    /// Delete credentials by name or pattern; without --yes it only says which.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    which: SelectionArgs,

    #[command(flatten)]
    robot: RobotArgs,

    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The credentials, SERVICE or SERVICE_HANDLE; without any, those of the services.
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Say whether it has exactly these scopes, compared as text.
    #[arg(long, value_name = "SCOPES")]
    scopes: Option<String>,

    /// Say whether it has exactly this audience, compared as text.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The credentials: names as `mtk credd list` shows them, or patterns with * and ?. A pattern leaves alone what the
    /// configuration's services themselves store.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<Pattern>,

    /// Only what was stored at least so long ago, such as 30d or 12h. A pattern needs it: a credd does not know when a
    /// credential was last asked for.
    #[arg(long, value_name = "AGE", value_parser = days)]
    min_age: Option<SignedDuration>,

    /// Do it.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// Exit status 1 if a credd did not answer, or (`query`) lacks what was asked for, or did not delete.
pub(crate) async fn credd(cli: &Cli, command: &CreddCommand) -> Result<Exit, Problem> {
    match command {
        CreddCommand::List(args) => list(cli, args).await,
        CreddCommand::Query(args) => query(cli, args).await,
        CreddCommand::Delete(args) => delete(cli, args).await,
    }
}

impl CommonArgs {
    async fn places(&self, cli: &Cli) -> Result<Places, Problem> {
        let robots = robots::all(cli, &self.which, &self.robot)?;
        Ok(Places::find(robots, &self.which.credd).await)
    }

    fn print(&self, text: impl FnOnce() -> String, json: serde_json::Value) -> Result<(), Problem> {
        match self.output {
            Output::Json => output::data(&site::json(&json)?),
            Output::Text => output::data(&text()),
        }
        Ok(())
    }
}

async fn list(cli: &Cli, args: &ListArgs) -> Result<Exit, Problem> {
    let places = args.common.places(cli).await?;
    let answers = places.each(|place| async move { place.listing().await }).await;
    let now = Timestamp::now();
    args.common
        .print(|| render::list(&answers, now), render::list_json(&answers, now))?;
    Ok(exit(answers.iter().all(|(_, answer)| answer.is_ok())))
}

async fn query(cli: &Cli, args: &QueryArgs) -> Result<Exit, Problem> {
    let places = args.common.places(cli).await?;
    let restriction = credd_client::Restriction {
        scopes: args.scopes.clone(),
        audience: args.audience.clone(),
    };
    let names = args.names.clone();
    let answers = places
        .each(move |place| {
            let (names, restriction) = (names.clone(), restriction.clone());
            async move { place.query(&names, &restriction).await }
        })
        .await;
    let now = Timestamp::now();
    let restricted = args.scopes.is_some() || args.audience.is_some();
    args.common.print(
        || render::query(&answers, restricted, now),
        render::query_json(&answers, restricted, now),
    )?;
    let good = |held: &credd_client::Held| {
        (held.top.is_some() || held.used.is_some())
            && !held.damaged
            && !(restricted && held.other_restriction)
    };
    Ok(exit(answers.iter().all(|(_, answer)| {
        answer
            .as_ref()
            .is_ok_and(|all| all.iter().all(|one| good(&one.held)))
    })))
}

async fn delete(cli: &Cli, args: &DeleteArgs) -> Result<Exit, Problem> {
    if let (Some(pattern), None) = (args.names.iter().find(|name| !name.is_exact()), args.min_age) {
        return Err(Problem::usage(anyhow!(
            "{pattern} is a pattern: say with --min-age how old what it may delete must be"
        )));
    }
    let places = args.common.places(cli).await?;
    let min_age = args.min_age.unwrap_or(SignedDuration::ZERO);
    let (names, yes, now) = (args.names.clone(), args.yes, Timestamp::now());
    let answers = places
        .each(move |place: Place| {
            let names = names.clone();
            async move { place.delete(&names, min_age, yes, now).await }
        })
        .await;
    args.common.print(
        || render::deleted(&answers, yes, now),
        render::deleted_json(&answers, yes, now),
    )?;
    // a typo must not look like success; an age that keeps everything is none
    let found = |name: &&Pattern| {
        let all = answers.iter().flat_map(|(_, answer)| answer.iter().flatten());
        all.into_iter().any(|one| name.matches(&one.listed.entry.name))
    };
    let nowhere: Vec<String> = args
        .names
        .iter()
        .filter(|name| name.is_exact() && min_age.is_zero() && !found(name))
        .map(Pattern::to_string)
        .collect();
    if !nowhere.is_empty() {
        output::warn(&format!("no credd holds {}", nowhere.join(", ")));
    }
    let done = answers.iter().all(|(_, answer)| {
        answer
            .as_ref()
            .is_ok_and(|all| all.iter().all(|one| !one.fate.is_failure()))
    });
    Ok(exit(done && nowhere.is_empty()))
}

fn exit(good: bool) -> Exit {
    if good { Exit::Fresh } else { Exit::SomeFailed }
}
