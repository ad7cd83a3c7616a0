//! `mtk silence`: what is known to be down is still tried, and nobody's alarm until a time said beforehand.

use std::collections::BTreeSet;

use anyhow::{Context, anyhow};
use config::Site;
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use pipeline::Unmatched;
use serde_json::{Value, json};
use state::{Silence, SilenceKind};

use super::{run::open_beside, status::snapshot};
use crate::{
    Problem,
    args::{Cli, TableOutput, days},
    audit_log::logged_in,
    exit::Exit,
    output::{
        self,
        table::{align, csv},
    },
    site,
};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "What is silenced is tried as ever, and shown by mtk status as silenced; it does not count in the exit \
                  status of a run, in mtk status --fail-below or in notifications. It ends by itself."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<SilenceCommand>,

    /// What is known to be down: a node, a credd, or a service as configured. A host that is both node and credd is
    /// silenced as both.
    #[arg(required = true, value_name = "NODE|CREDD|SERVICE")]
    names: Vec<String>,

    /// Until when: a span (3d, 12h), a date (its beginning, here) or a time (2026-12-01T08:00, 2026-12-01T08:00:00Z).
    #[arg(long, required = true, value_name = "DATE", value_parser = until)]
    until: Option<Until>,

    /// Why, for those who wonder.
    #[arg(long, required = true, value_name = "TEXT")]
    why: Option<String>,

    /// Only as this, where a name is several.
    #[arg(long, value_enum)]
    kind: Option<Kind>,

    /// Who says so; without it whoever is logged in.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SilenceCommand {
    /// What is silenced now.
    List {
        /// Those too that are over; they are told of for a year.
        #[arg(long)]
        all: bool,

        /// The form of the answer on stdout.
        #[arg(long, short, value_enum, default_value_t = TableOutput::Text)]
        output: TableOutput,
    },
    /// End a silence before its time.
    End {
        /// What is silenced.
        #[arg(required = true, value_name = "NODE|CREDD|SERVICE")]
        names: Vec<String>,

        /// Who says so; without it whoever is logged in.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Node,
    Credd,
    Service,
}

impl From<Kind> for SilenceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Node => Self::Node,
            Kind::Credd => Self::Credd,
            Kind::Service => Self::Service,
        }
    }
}

/// An end, as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    After(SignedDuration),
    At(Timestamp),
    /// By the clock on the wall here.
    Here(civil::DateTime),
}

fn until(text: &str) -> Result<Until, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Until::At(at));
    }
    if let Ok(date) = text.parse::<civil::Date>().map(civil::DateTime::from) {
        // a date with a time is a date to jiff, too
        return Ok(Until::Here(text.parse().unwrap_or(date)));
    }
    days(text)
        .map(Until::After)
        .map_err(|_| format!("{text:?} is neither a date, a time, nor a span such as 3d or 12h"))
}

impl Until {
    fn at(self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let at = match self {
            Self::At(at) => at,
            Self::After(span) => now.checked_add(span)?,
            Self::Here(civil) => TimeZone::system().to_timestamp(civil)?,
        };
        if at <= now {
            return Err(anyhow!("{at} is over"));
        }
        // whole seconds are enough for people
        Ok(Timestamp::from_second(at.as_second())?)
    }
}

/// Nothing but a change of mind is written, and it may be while a run is at work.
pub(crate) async fn silence(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    match &args.command {
        Some(SilenceCommand::List { all, output }) => list(cli, *all, *output).await,
        Some(SilenceCommand::End { names, by }) => end(cli, names, by.as_deref()).await,
        None => set(cli, args).await,
    }
}

async fn set(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let (Some(until), Some(why)) = (args.until, &args.why) else {
        return Err(Problem::usage(anyhow!("say --until when and --why")));
    };
    let site = site::load(cli)?;
    let dir = site::state_dir(cli, &site);
    let now = Timestamp::now();
    let until = until
        .at(now)
        .context("nothing is silenced")
        .map_err(Problem::usage)?;
    let known = pipeline::known_credds(&site, &snapshot(&dir).await?);
    let kind = args.kind.map(SilenceKind::from);
    let mut meant = BTreeSet::new();
    for name in &args.names {
        match of_name(&site, &known, name, kind) {
            Ok(found) => meant.extend(found),
            Err(unmatched) => site::exist(&site, &[unmatched])?,
        }
    }
    let who = who(args.by.as_deref());
    let (_lock, state) = open_beside(&dir).await?;
    for (kind, name) in meant {
        let silence = Silence {
            kind,
            name,
            why: why.clone(),
            who: who.clone(),
            since: now,
            until,
            ended: None,
        };
        state.silence(&silence).await.map_err(Problem::usage)?;
        output::data(&format!(
            "{} {}: silenced until {until}",
            silence.kind, silence.name
        ));
    }
    state.close().await;
    Ok(Exit::Fresh)
}

/// Everything of the site that goes by this name.
fn of_name(
    site: &Site,
    credds: &BTreeSet<String>,
    name: &str,
    kind: Option<SilenceKind>,
) -> Result<Vec<(SilenceKind, String)>, Unmatched> {
    let nodes = site.services.iter().flat_map(|s| s.nodes.iter().cloned());
    let ids = site.services.iter().map(|s| s.id.to_string());
    let ids: BTreeSet<String> = ids.chain(site.broken.iter().map(|b| b.id.to_string())).collect();
    let all = [
        (SilenceKind::Node, nodes.collect::<BTreeSet<String>>()),
        (SilenceKind::Credd, credds.clone()),
        (SilenceKind::Service, ids),
    ];
    let asked = all.iter().filter(|(k, _)| kind.is_none_or(|kind| kind == *k));
    let mut found: Vec<(SilenceKind, String)> = asked
        .clone()
        .filter(|(_, names)| names.contains(name))
        .map(|(k, _)| (*k, name.to_owned()))
        .collect();
    if found.is_empty() && kind.is_none_or(|k| k == SilenceKind::Service) {
        // all that share a name at HTCondor
        let called = site.services.iter().filter(|s| s.name.to_string() == name);
        found.extend(called.map(|s| (SilenceKind::Service, s.id.to_string())));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let near = asked
        .map(|(k, names)| Unmatched::new(k.word(), name, names.iter().map(String::as_str)))
        .max_by_key(|unmatched| unmatched.near.is_some());
    Err(near.unwrap_or_else(|| Unmatched::new("node", name, [])))
}

async fn end(cli: &Cli, names: &[String], by: Option<&str>) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let dir = site::state_dir(cli, &site);
    let now = Timestamp::now();
    let holding: Vec<Silence> = snapshot(&dir).await?.silences;
    let holding: Vec<&Silence> = holding.iter().filter(|s| s.holds(now)).collect();
    let counts = |name: &&String| !holding.iter().any(|s| s.name == **name);
    if let Some(name) = names.iter().find(counts) {
        let silenced = holding.iter().map(|s| s.name.as_str());
        let unmatched = Unmatched::new("silenced", name, silenced);
        return Err(Problem::usage(anyhow!("nothing silences {unmatched}")));
    }
    let (_lock, state) = open_beside(&dir).await?;
    let who = who(by);
    for silence in holding.iter().filter(|s| names.contains(&s.name)) {
        state
            .end_silence(silence.kind, &silence.name, &who, now)
            .await
            .map_err(Problem::usage)?;
        output::data(&format!("{} {}: counts again", silence.kind, silence.name));
    }
    state.close().await;
    Ok(Exit::Fresh)
}

async fn list(cli: &Cli, all: bool, form: TableOutput) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let silences = snapshot(&site::state_dir(cli, &site)).await?.silences;
    let now = Timestamp::now();
    let mut shown: Vec<&Silence> = silences.iter().filter(|s| all || s.holds(now)).collect();
    shown.sort_by_key(|s| (!s.holds(now), s.until));
    let ended = |s: &Silence| s.ended.as_ref().map(|(at, who)| (at.to_string(), who.clone()));
    let text = match form {
        TableOutput::Json => {
            let rows: Vec<Value> = shown
                .iter()
                .map(|s| {
                    let (at, who) = ended(s).unzip();
                    json!({
                        "kind": s.kind.word(), "name": s.name, "until": s.until, "why": s.why, "who": s.who,
                        "since": s.since, "ended": at, "ended_by": who, "holds": s.holds(now),
                    })
                })
                .collect();
            site::json(&json!({ "silences": rows }))?
        }
        TableOutput::Csv => {
            let row = |s: &&Silence| {
                let (at, who) = ended(s).unwrap_or_default();
                let (since, until) = (s.since.to_string(), s.until.to_string());
                let (kind, name) = (s.kind.word().to_owned(), s.name.clone());
                vec![kind, name, until, s.why.clone(), s.who.clone(), since, at, who]
            };
            csv(
                &[
                    "kind", "name", "until", "why", "who", "since", "ended", "ended_by",
                ],
                &shown.iter().map(row).collect::<Vec<_>>(),
            )?
        }
        TableOutput::Text => {
            let row = |s: &&Silence| {
                let end = match ended(s) {
                    Some((at, who)) => format!("ended {at} by {who}"),
                    None if s.holds(now) => format!("until {}", s.until),
                    None => format!("over since {}", s.until),
                };
                let said = format!("by {} at {:.0}", s.who, s.since);
                vec![s.kind.word().to_owned(), s.name.clone(), end, said, s.why.clone()]
            };
            align(&shown.iter().map(row).collect::<Vec<_>>(), "")
        }
    };
    if !(text.is_empty() && form == TableOutput::Text) {
        output::data(&text);
    }
    Ok(Exit::Fresh)
}

/// Who is behind this process: whoever called sudo, or logged in, or else the user it runs as.
fn who(by: Option<&str>) -> String {
    if let Some(name) = by {
        return name.to_owned();
    }
    if let Some(name) = std::env::var_os(crate::env::SUDO_USER).filter(|name| !name.is_empty()) {
        return name.to_string_lossy().into_owned();
    }
    let uid = logged_in().unwrap_or_else(|| rustix::process::getuid().as_raw());
    pipeline::user_name(uid).unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_date_a_time_or_a_span() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let at = |text: &str| until(text).unwrap().at(now);
        let is = |text: &str, end: &str| assert_eq!(at(text).unwrap(), end.parse().unwrap(), "{text}");
        is("3d", "2026-11-28T10:00:00Z");
        is("12h", "2026-11-25T22:00:00Z");
        is("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z");
        is("2026-12-01T08:00:00+01:00", "2026-12-01T07:00:00Z");
        let here = |text: &str| TimeZone::system().to_timestamp(text.parse().unwrap()).unwrap();
        assert_eq!(at("2026-12-01").unwrap(), here("2026-12-01T00:00"));
        assert_eq!(at("2026-12-01T08:30").unwrap(), here("2026-12-01T08:30"));
        assert!(at("2026-11-25T09:59:59Z").is_err());
        assert!(until("Monday").is_err());
    }
}
