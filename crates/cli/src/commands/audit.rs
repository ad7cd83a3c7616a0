//! `mtk audit`: whether the log of what was done with credentials is what was written.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use audit::{Anchor, Input, Verdict};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    Problem,
    args::{Cli, Output},
    audit_log,
    exit::Exit,
    output, site,
};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Find what was changed, taken out or cut off; exit status 1 if anything was.
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The files of a log, oldest first; without any the configured log with all its rotated files. `-` is standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// A record's number and hash that were noted elsewhere (logs, mails of a run): everything up to it is as it was then.
    #[arg(long, value_name = "NUMBER:HASH")]
    anchor: Vec<Anchor>,

    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit status 1 if the log is not what was written.
pub(crate) fn audit(cli: &Cli, AuditCommand::Verify(args): &AuditCommand) -> Result<Exit, Problem> {
    let (inputs, head, name) = if args.files.is_empty() {
        let (site, _) = site::load_quietly(cli)?;
        let path = audit_log::path(cli, &site).ok_or_else(|| {
            Problem::usage(anyhow!(
                "{} keeps no audit log (mtk.audit.enabled)",
                site.path.display()
            ))
        })?;
        let (inputs, head) = audit::inputs_of(&path).map_err(Problem::usage)?;
        if head.is_none() {
            let text =
                "where the log ended last is not noted beside it: whether its end was cut off cannot be told";
            output::warn(text);
        }
        (inputs, head, path.display().to_string())
    } else {
        let inputs: Result<Vec<_>, _> = args.files.iter().map(|path| input(path)).collect();
        (inputs.map_err(Problem::usage)?, None, "the log".to_owned())
    };
    let verdict = audit::verify(inputs, head, &args.anchor).map_err(Problem::usage)?;
    match args.output {
        Output::Json => output::data(&site::json(&as_json(&verdict))?),
        Output::Text => output::data(&text(&verdict, &name)),
    }
    Ok(if verdict.is_whole() {
        Exit::Fresh
    } else {
        Exit::SomeFailed
    })
}

fn input(path: &Path) -> Result<Input, audit::Error> {
    if path.as_os_str() == "-" {
        return Ok(Input {
            name: "-".to_owned(),
            content: Box::new(std::io::stdin()),
        });
    }
    Input::of(path)
}

fn text(verdict: &Verdict, name: &str) -> String {
    let mut lines = Vec::new();
    for note in &verdict.notes {
        lines.push(format!("note    {}: {}", note.place, note.text));
    }
    for finding in &verdict.findings {
        lines.push(format!("WRONG   {}: {}", finding.place, finding.text));
    }
    lines.push(match (verdict.first, verdict.last) {
        (Some(first), Some(last)) if verdict.is_whole() => {
            let older = if first > 1 {
                "; those before are elsewhere"
            } else {
                ""
            };
            format!(
                "ok      {name}: records {first} to {} are as they were written{older}; it stands at {last}",
                last.seq
            )
        }
        (None, _) if verdict.is_whole() => format!("ok      {name}: nothing was written yet"),
        _ => format!(
            "WRONG   {name}: {} records read, {} findings",
            verdict.records,
            verdict.findings.len()
        ),
    });
    lines.join("\n")
}

fn as_json(verdict: &Verdict) -> Value {
    let list = |all: &[audit::Finding]| -> Value {
        all.iter()
            .map(|f| json!({"place": f.place, "text": f.text}))
            .collect()
    };
    json!({
        "whole": verdict.is_whole(),
        "records": verdict.records,
        "first": verdict.first,
        "anchor": verdict.last.map(|last| last.to_string()),
        "findings": list(&verdict.findings),
        "notes": list(&verdict.notes),
    })
}
