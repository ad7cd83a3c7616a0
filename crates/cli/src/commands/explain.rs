//! `mtk explain`: everything that is known of an edge, and when it is due.

use std::collections::BTreeSet;

use anyhow::anyhow;
use config::Site;
use jiff::Timestamp;
use pipeline::{Explained, Life, Selection, Try, Unmatched, span};
use serde_json::json;
use state::EdgeId;

use super::run::open_to_read;
use crate::{
    Problem,
    args::{Cli, Color, Output, SelectionArgs},
    exit::Exit,
    output::{
        self,
        table::{Paint, Shade},
    },
    site,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "EDGE is an edge's name as mtk status --output json has it, or any of a service, a credd, a node, a path \
                  on a node, and login, store, push, bearer: what is all of them is explained. Nobody is asked; mtk doctor \
                  does that."
)]
pub(crate) struct Args {
    /// Which edges, such as `dune_production gpvm01.example.org`.
    #[arg(value_name = "EDGE")]
    words: Vec<String>,

    #[command(flatten)]
    selection: SelectionArgs,

    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Colours.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

const KINDS: [&str; 4] = ["login", "store", "push", "bearer"];

/// What the words say beside the selection.
#[derive(Default)]
struct Wanted {
    kinds: Vec<String>,
    paths: Vec<String>,
    edges: Vec<EdgeId>,
}

impl Wanted {
    fn wants(&self, edge: &EdgeId) -> bool {
        let path = |p: &String| matches!(edge, EdgeId::Push { path, .. } if path == p);
        (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == edge.kind()))
            && (self.paths.is_empty() || self.paths.iter().any(path))
            && (self.edges.is_empty() || self.edges.contains(edge))
    }
}

pub(crate) async fn explain(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let mut selection = Selection::from(&args.selection);
    if args.words.is_empty() && selection.is_all() {
        return Err(Problem::usage(anyhow!("say which edges are meant")));
    }
    let site = site::load(cli)?;
    let state = open_to_read(&site::state_dir(cli, &site)).await?;
    let snapshot = state.snapshot().await.map_err(Problem::usage)?;
    let credds = pipeline::known_credds(&site, &snapshot);
    let wanted = understand(&site, &credds, &args.words, &mut selection)?;
    let selection = site::selected(&site, selection)?;
    site::credds_exist(&site, &selection, &credds)?;
    let (_stopper, stop) = pipeline::stop_pair();
    let wants = |edge: &EdgeId| wanted.wants(edge);
    let now = Timestamp::now();
    let edges = pipeline::explain(&site, &state, &selection, &wants, now, stop).await;
    state.close().await;
    let edges = edges.map_err(|failure| Problem::usage(anyhow!("{}: {}", failure.peer, failure.text)))?;
    let broken = site.broken.iter().filter(|b| selection.wants_broken(b));
    let broken: Vec<(String, &str)> = broken.map(|b| (b.id.to_string(), b.reason.as_str())).collect();
    if edges.is_empty() && broken.is_empty() {
        return Err(Problem::usage(anyhow!(
            "nothing is remembered of such an edge, and none is due"
        )));
    }
    match args.output {
        Output::Json => output::data(&site::json(
            &json!({"now": now, "edges": edges, "broken": broken}),
        )?),
        Output::Text => {
            let paint = Paint::new(args.color);
            let told: Vec<String> = edges.iter().map(|edge| text(edge, now, paint)).collect();
            output::data(&told.join("\n"));
            for (service, reason) in &broken {
                output::data(&format!("{service} cannot be set up: {reason}"));
            }
        }
    }
    Ok(Exit::Fresh)
}

/// What each word is; one that is nothing is an error.
fn understand(
    site: &Site,
    credds: &BTreeSet<String>,
    words: &[String],
    selection: &mut Selection,
) -> Result<Wanted, Problem> {
    let nodes: BTreeSet<&str> = site
        .services
        .iter()
        .flat_map(|s| s.nodes.iter().map(String::as_str))
        .collect();
    let ids = site.services.iter().map(|s| s.id.to_string());
    let mut services: BTreeSet<String> = ids.chain(site.broken.iter().map(|b| b.id.to_string())).collect();
    services.extend(site.services.iter().map(|s| s.name.to_string()));
    let mut wanted = Wanted::default();
    for word in words {
        if let Ok(edge) = word.parse::<EdgeId>() {
            let service = edge.service();
            selection
                .services
                .push(format!("{}_{}", service.experiment, service.role));
            wanted.edges.push(edge);
        } else if KINDS.contains(&word.as_str()) {
            wanted.kinds.push(word.clone());
        } else if word.starts_with('/') {
            wanted.paths.push(word.clone());
        } else {
            let mut known = false;
            if services.contains(word) {
                selection.services.push(word.clone());
                known = true;
            }
            if nodes.contains(word.as_str()) || word == config::THIS_HOST {
                selection.nodes.push(word.clone());
                known = true;
            }
            if credds.contains(word) {
                selection.credds.push(word.clone());
                known = true;
            }
            if !known {
                let all = [
                    Unmatched::new("service", word, services.iter().map(String::as_str)),
                    Unmatched::new("node", word, nodes.iter().copied()),
                    Unmatched::new("credd", word, credds.iter().map(String::as_str)),
                ];
                let near = all.into_iter().max_by_key(|u| u.near.is_some());
                site::exist(site, near.as_slice())?;
            }
        }
    }
    Ok(wanted)
}

fn text(edge: &Explained, now: Timestamp, paint: Paint) -> String {
    let mut out = format!("{} of {} at {}", edge.kind, edge.service, edge.place);
    if !edge.name.is_empty() {
        out += &format!(": {}", edge.name);
    }
    out = format!("{}\n", paint.text(&out, Shade::Head));
    let mut line = |what: &str, text: String| out.push_str(&format!("  {what:<10}{text}\n"));
    line("edge", edge.edge.clone());
    let left = match edge.life {
        Life::Never if edge.kind == "login" => "no node token".to_owned(),
        Life::Never => paint.text("nothing of ours is there", Shade::Bad),
        Life::Endless => "is there, and does not end".to_owned(),
        Life::Until {
            expires,
            seconds_left,
        } if seconds_left <= 0 => paint.text(&format!("EXPIRED at {expires:.0}"), Shade::Bad),
        Life::Until {
            expires,
            seconds_left,
        } => format!(
            "{} left, until {expires:.0}",
            span(jiff::SignedDuration::from_secs(seconds_left))
        ),
    };
    line("now", left);
    if let Some(s) = &edge.silenced {
        line(
            "silenced",
            format!(
                "as {} {} until {:.0} by {} at {:.0}: {}",
                s.kind, s.name, s.until, s.who, s.since, s.why
            ),
        );
    }
    let ago = |at: Timestamp| format!("{at:.0} ({} ago)", span(now.duration_since(at)));
    line(
        "last try",
        edge.last_attempt.map_or_else(|| "never".to_owned(), ago),
    );
    line(
        "last good",
        edge.last_success.map_or_else(|| "never".to_owned(), ago),
    );
    if edge.consecutive_failures > 0 {
        let text = format!("{} in a row", edge.consecutive_failures);
        line("failures", paint.text(&text, Shade::Bad));
    }
    line("next", next(edge, now));
    for (n, tried) in edge.tries.iter().enumerate() {
        line(
            if n == 0 { "tries" } else { "" },
            one_try(edge.kind, tried, paint),
        );
        if let Some(advice) = &tried.advice {
            line("", format!("  -> {advice}"));
        }
    }
    out
}

fn next(edge: &Explained, now: Timestamp) -> String {
    let why = edge
        .next
        .reason
        .as_ref()
        .map_or_else(String::new, |r| format!(": {r}"));
    match (edge.next.due, edge.next.from) {
        (true, _) => format!("at the next run{why}"),
        (false, Some(from)) => format!(
            "looked at in each run; due from {from:.0} (in {}){why}",
            span(from.duration_since(now))
        ),
        (false, None) => "looked at in each run; nothing will be due by itself".to_owned(),
    }
}

fn one_try(kind: &str, tried: &Try, paint: Paint) -> String {
    let word = match (tried.outcome, kind) {
        ("failed", _) => paint.text("FAILED", Shade::Bad),
        ("done", "login") => "logged in".to_owned(),
        ("done", "store") => "stored".to_owned(),
        ("done", "push") => "written".to_owned(),
        (other, _) => other.to_owned(),
    };
    let mut text = format!("{:.0}  {word}", tried.at);
    if tried.times > 1 {
        text += &format!(", {} times since {:.0}", tried.times, tried.since);
    }
    if let Some(reason) = &tried.reason {
        text += &format!(" ({reason})");
    }
    if let (Some(kind), Some(said)) = (&tried.kind, &tried.text) {
        let stage = tried
            .stage
            .as_deref()
            .map_or_else(String::new, |s| format!("{s}: "));
        text += &format!(": {said} [{stage}{kind}]");
    }
    text
}
