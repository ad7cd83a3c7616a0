//! `mtk config check` and `mtk config show`.

use config::{Finding, Severity, Site};
use serde_json::{Value, json};

use crate::{
    Problem,
    args::{Cli, ConfigArgs, ConfigCommand, Output},
    exit::Exit,
    output, site,
};

/// Judges or shows the configuration.
pub(crate) fn config(cli: &Cli, command: &ConfigCommand) -> Result<Exit, Problem> {
    match command {
        ConfigCommand::Check(args) => check(cli, args),
        ConfigCommand::Show(args) => show(cli, args),
    }
}

fn check(cli: &Cli, args: &ConfigArgs) -> Result<Exit, Problem> {
    let (site, findings) = site::load_quietly(cli)?;
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

fn show(cli: &Cli, args: &ConfigArgs) -> Result<Exit, Problem> {
    let (site, _) = site::load_quietly(cli)?;
    match args.output {
        Output::Json => output::data(&site::json(&as_json(&site))?),
        Output::Text => output::data(&as_text(&site)),
    }
    Ok(Exit::Fresh)
}

fn as_json(site: &Site) -> Value {
    let values = |values: &[config::Effective]| -> Vec<Value> {
        values
            .iter()
            .map(|v| json!({"key": v.key, "value": v.value, "origin": v.origin.to_string()}))
            .collect()
    };
    let services: Vec<Value> = site
        .services
        .iter()
        .map(|s| {
            json!({
                "experiment": s.id.experiment, "role": s.id.role, "service": s.name.to_string(),
                "account": s.account, "principal": s.principal.to_string(), "keytab": s.keytab,
                "credkey": s.credkey, "vaultServer": s.vault_server, "collectors": s.collectors,
                "scheddConstraint": s.schedd_constraint, "credds": s.credds, "nodes": s.nodes, "uid": s.uid,
                "primary": s.primary, "values": values(&s.values),
            })
        })
        .collect();
    let later: Vec<Value> = site
        .later
        .iter()
        .map(|k| json!({"key": k.key, "line": k.line, "column": k.column, "neededLater": k.needed}))
        .collect();
    let broken: Vec<Value> = site
        .broken
        .iter()
        .map(|b| json!({"experiment": b.id.experiment, "role": b.id.role, "line": b.at.line, "reason": b.reason}))
        .collect();
    json!({
        "file": site.path, "values": values(&site.values), "services": services, "broken": broken,
        "acceptedWithoutFunction": later,
    })
}

fn as_text(site: &Site) -> String {
    let rows = |values: &[config::Effective]| -> Vec<Vec<String>> {
        values
            .iter()
            .map(|v| vec![v.key.clone(), v.value.clone(), format!("({})", v.origin)])
            .collect()
    };
    let mut out = format!("{}\n", site.path.display());
    out.push_str(&output::table::align(&rows(&site.values), "  "));
    for service in &site.services {
        out.push_str(&format!(
            "\n{} as {} ({}, {})\n",
            service.id, service.name, service.account, service.principal
        ));
        out.push_str(&output::table::align(&rows(&service.values), "  "));
    }
    for broken in &site.broken {
        out.push_str(&format!(
            "\n{} (line {}) cannot be set up: {}\n",
            broken.id, broken.at.line, broken.reason
        ));
    }
    if !site.later.is_empty() {
        out.push_str("\naccepted, without function in this version:\n");
        let rows: Vec<Vec<String>> = site
            .later
            .iter()
            .map(|k| {
                let why = if k.needed {
                    "comes later"
                } else {
                    "steers nothing that mtk does"
                };
                vec![k.key.clone(), format!("line {}", k.line), why.to_owned()]
            })
            .collect();
        out.push_str(&output::table::align(&rows, "  "));
    }
    out
}
