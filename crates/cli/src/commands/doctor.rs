//! `mtk doctor`: every hop of a service tried, and what to do about each that fails.

use anyhow::anyhow;
use pipeline::{Check, Diagnosis, Health};

use super::run::open_to_read;
use crate::{
    Problem,
    args::{Cli, Output},
    exit::Exit,
    output::{self, table::align},
    site,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Changes nothing anywhere. Exit status 1 if a hop failed; a warning alone is 0.")]
pub(crate) struct Args {
    /// The service: experiment_role as configured, or its name at HTCondor.
    #[arg(value_name = "SERVICE")]
    service: String,

    /// The form of the diagnosis on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit status 1 if a hop failed.
pub(crate) async fn doctor(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let service = site::service(&site, &args.service)?;
    let state = open_to_read(&site::state_dir(cli, &site)).await?;
    let (_stopper, stop) = pipeline::stop_pair();
    let diagnosis = pipeline::doctor(&site, state.clone(), service, stop)
        .await
        .map_err(|failure| Problem::usage(anyhow!("{}: {}", failure.peer, failure.text)))?;
    state.close().await;
    match args.output {
        Output::Json => output::data(&site::json(&diagnosis)?),
        Output::Text => output::data(&text(&diagnosis)),
    }
    Ok(if diagnosis.worst() == Health::Failed {
        Exit::SomeFailed
    } else {
        Exit::Fresh
    })
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
