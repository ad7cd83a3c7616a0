//! `mtk config`: judge, show, rewrite.

mod import;
mod show;

use clap::{Args, Subcommand};
use config::{Finding, Severity};
use serde_json::{Value, json};

use crate::{
    Problem,
    args::{Cli, Output},
    exit::Exit,
    output, site,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Judge the configuration; exit 2 if anything in it is an error.
    Check(CheckArgs),
    /// Show what is in effect, and which keys have no function.
    Show(show::ShowArgs),
    /// Rewrite the configuration into a tidy one of the same meaning: keys explained, each experiment in a file of its own.
    Import(import::ImportArgs),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Do not look at the files the configuration names (keytabs, CA certificates): it is for another host.
    #[arg(long)]
    no_files: bool,

    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs one of the commands.
pub(crate) fn config(cli: &Cli, command: &ConfigCommand) -> Result<Exit, Problem> {
    match command {
        ConfigCommand::Check(args) => check(cli, args),
        ConfigCommand::Show(args) => show::show(cli, args),
        ConfigCommand::Import(args) => import::import(cli, args),
        ConfigCommand::Schema => {
            output::data(&config::schema());
            Ok(Exit::Fresh)
        }
    }
}

fn check(cli: &Cli, args: &CheckArgs) -> Result<Exit, Problem> {
    let (site, mut findings) = site::load_quietly(cli)?;
    if !args.no_files {
        findings.extend(config::check_files(&site, |path, principal| {
            // the error and its causes on one line
            kerberos::Keytab::open(path, principal)
                .map(drop)
                .map_err(|error| format!("{:#}", anyhow::Error::new(error)))
        }));
    }
    match args.output {
        Output::Json => output::data(&site::json(&findings.iter().map(as_data).collect::<Vec<_>>())?),
        Output::Text => {
            for finding in &findings {
                output::data(&finding.to_string());
            }
            output::data(&format!(
                "{}: {} services, {} that cannot be set up, {} findings",
                site.path.display(),
                site.services.len(),
                site.broken.len(),
                findings.len()
            ));
        }
    }
    let wrong = !site.broken.is_empty() || findings.iter().any(|f| f.severity == Severity::Error);
    Ok(if wrong { Exit::Usage } else { Exit::Fresh })
}

fn as_data(f: &Finding) -> Value {
    json!({
        "severity": f.severity.to_string(), "file": f.file, "line": f.line, "column": f.column, "key": f.key,
        "message": f.message, "advice": f.advice,
    })
}
