//! `mtk doctor`: every hop of a service tried, and what to do about each that fails.

use anyhow::anyhow;
use config::Site;
use futures_util::{StreamExt, stream};
use pipeline::{Bystander, Check, Diagnosis, Failure, Health, Hop, Selection};
use serde_json::json;

use super::run::open_to_read;
use crate::{
    Problem,
    args::{Cli, Output, SelectionArgs},
    exit::Exit,
    output::{self, table::align},
    site,
};

/// Services seen to at once: what is silent costs its own time alone, and no peer meets more than in a run.
pub(super) const AT_ONCE: usize = 8;

#[derive(Debug, clap::Args)]
#[command(after_help = "Changes nothing anywhere. Exit status 1 if a hop failed; a warning alone is 0.")]
pub(crate) struct Args {
    /// A service: experiment_role as configured, or its name at HTCondor. Without any, and without a selection: all.
    #[arg(value_name = "SERVICE", conflicts_with = "service")]
    services: Vec<String>,

    #[command(flatten)]
    selection: SelectionArgs,

    /// The form of the diagnosis on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit status 1 if a hop failed, or a service cannot even be set up.
pub(crate) async fn doctor(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let patients = Patients::of(&site, &args.services, &args.selection)?;
    let state = open_to_read(&site::state_dir(cli, &site)).await?;
    let snapshot = state.snapshot().await.map_err(Problem::usage)?;
    let (_stopper, stop) = pipeline::stop_pair();
    let usage = |failure: Failure| Problem::usage(anyhow!("{}: {}", failure.peer, failure.text));
    let bystander = Bystander::new(&site, state.clone(), stop).await.map_err(usage)?;
    let examined = patients
        .services
        .iter()
        .map(|service| pipeline::doctor(&bystander, &site, service, &patients.selection));
    let mut examined = stream::iter(examined).buffered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(diagnosis) = examined.next().await {
        let diagnosis = diagnosis.map_err(usage)?;
        // each as it is found: the next may wait for somebody silent
        if args.output == Output::Text {
            let gap = if all.is_empty() { "" } else { "\n" };
            output::data(&format!("{gap}{}", text(&diagnosis)));
        }
        all.push(diagnosis);
    }
    state.close().await;
    if args.output == Output::Json {
        output::data(&match all.as_slice() {
            [one] if patients.by_name => site::json(one)?,
            several => site::json(&json!({"diagnoses": several, "broken": patients.broken}))?,
        });
    }
    if args.output == Output::Text {
        for (service, reason) in &patients.broken {
            output::data(&format!("\n{service}\n  FAILED  cannot be set up: {reason}"));
        }
    }
    let failed = all.iter().any(|d| d.worst() == Health::Failed) || !patients.broken.is_empty();
    if !failed {
        // a credd of which nothing is remembered is one if the collectors have it
        let mut known = pipeline::known_credds(&site, &snapshot);
        let found = all.iter().flat_map(|d| &d.checks).filter(|c| c.hop == Hop::Credd);
        known.extend(found.map(|c| c.peer.clone()));
        site::credds_exist(&site, &patients.selection, &known)?;
    }
    Ok(if failed { Exit::SomeFailed } else { Exit::Fresh })
}

/// The services of a command that takes some by name or a selection of them.
pub(super) struct Patients<'a> {
    pub(super) services: Vec<&'a config::Service>,
    /// Those that cannot be set up, with the reason.
    pub(super) broken: Vec<(String, &'a str)>,
    pub(super) selection: Selection,
    /// Whether one service was named, and nothing else: then its answer is the whole answer.
    pub(super) by_name: bool,
}

impl<'a> Patients<'a> {
    pub(super) fn of(site: &'a Site, names: &[String], args: &SelectionArgs) -> Result<Self, Problem> {
        let mut selection = site::selected(site, Selection::from(args))?;
        let mut services: Vec<&config::Service> = Vec::new();
        for name in names {
            let service = site::service(site, name)?;
            if !services.iter().any(|known| known.id == service.id) {
                services.push(service);
            }
        }
        let mut broken = Vec::new();
        if names.is_empty() {
            services.extend(site.services.iter().filter(|s| selection.wants(s)));
            let chosen = site.broken.iter().filter(|b| selection.wants_broken(b));
            broken.extend(chosen.map(|b| (b.id.to_string(), b.reason.as_str())));
        } else {
            services.retain(|service| selection.wants(service));
            if services.is_empty() {
                selection.services = names.to_vec();
                // none of them is all of what was asked for
                site::selected(site, selection.clone())?;
            }
        }
        let by_name = names.len() == 1;
        Ok(Self {
            services,
            broken,
            selection,
            by_name,
        })
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut out = format!(
        "{} as {} ({}, {})\n",
        diagnosis.service, diagnosis.name, diagnosis.account, diagnosis.principal
    );
    let rows: Vec<Vec<String>> = diagnosis.checks.iter().map(row).collect();
    let lines = align(&rows, "  ");
    for (line, check) in lines.lines().zip(&diagnosis.checks) {
        out.push_str(line);
        out.push('\n');
        if let Some(remedy) = &check.remedy {
            out.push_str(&format!("      -> {remedy}\n"));
        }
    }
    let count = |health| diagnosis.checks.iter().filter(|c| c.health == health).count();
    out.push_str(&format!(
        "{} good, {} warnings, {} failed, {} not tried",
        count(Health::Good),
        count(Health::Warning),
        count(Health::Failed),
        count(Health::Skipped)
    ));
    out
}

fn row(check: &Check) -> Vec<String> {
    let mark = match check.health {
        Health::Good => "ok",
        Health::Skipped => "-",
        Health::Warning => "WARNING",
        Health::Failed => "FAILED",
    };
    let hop = serde_json::to_value(check.hop).ok();
    let hop = hop.as_ref().and_then(|v| v.as_str()).unwrap_or_default();
    vec![
        mark.to_owned(),
        hop.to_owned(),
        check.peer.clone(),
        check.found.clone(),
    ]
}
