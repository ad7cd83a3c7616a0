//! `mtk config show`: what is in effect, and where each value comes from.

use clap::Args;
use config::{Broken, Effective, Service, Site};
use pipeline::Selection;
use serde_json::{Value, json};

use crate::{
    Problem,
    args::{Cli, Output, SelectionArgs},
    exit::Exit,
    output, site,
};

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    selection: SelectionArgs,

    /// Say of each value where it comes from.
    #[arg(long)]
    origin: bool,

    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What of the site is shown.
struct View<'a> {
    site: &'a Site,
    services: Vec<&'a Service>,
    broken: Vec<&'a Broken>,
    /// Whether all of it is.
    whole: bool,
}

pub(super) fn show(cli: &Cli, args: &ShowArgs) -> Result<Exit, Problem> {
    let (site, _) = site::load_quietly(cli)?;
    let selection = site::selected(&site, Selection::from(&args.selection))?;
    let view = View {
        site: &site,
        services: site.services.iter().filter(|s| selection.wants(s)).collect(),
        broken: site.broken.iter().filter(|b| selection.wants_broken(b)).collect(),
        whole: selection.is_all(),
    };
    match args.output {
        Output::Json => output::data(&site::json(&view.as_json())?),
        Output::Text => output::data(&view.as_text(args.origin)),
    }
    Ok(Exit::Fresh)
}

impl View<'_> {
    fn as_json(&self) -> Value {
        let values = |values: &[Effective]| -> Vec<Value> {
            values
                .iter()
                .map(|v| json!({"key": v.key, "value": v.value, "origin": self.site.origin(&v.origin)}))
                .collect()
        };
        let services: Vec<Value> = self
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
        let broken: Vec<Value> = self
            .broken
            .iter()
            .map(|b| {
                json!({
                    "experiment": b.id.experiment, "role": b.id.role, "file": self.site.files.get(usize::from(b.at.file)),
                    "line": b.at.line, "reason": b.reason,
                })
            })
            .collect();
        let later: Vec<Value> = self
            .site
            .later
            .iter()
            .filter(|_| self.whole)
            .map(|k| {
                json!({
                    "key": k.key, "file": self.site.files.get(usize::from(k.at.file)), "line": k.at.line,
                    "column": k.at.column, "reason": k.reason,
                })
            })
            .collect();
        json!({
            "file": self.site.path, "files": self.site.files, "values": values(&self.site.values),
            "services": services, "broken": broken, "acceptedWithoutFunction": later,
        })
    }

    fn as_text(&self, origin: bool) -> String {
        let rows = |values: &[Effective]| -> Vec<Vec<String>> {
            values
                .iter()
                .map(|v| {
                    let mut row = vec![v.key.clone(), v.value.clone()];
                    if origin {
                        row.push(format!("({})", self.site.origin(&v.origin)));
                    }
                    row
                })
                .collect()
        };
        let mut out = format!("{}\n", self.site.path.display());
        if self.whole {
            for file in self.site.files.iter().filter(|file| **file != self.site.path) {
                out.push_str(&format!("{}\n", file.display()));
            }
            out.push_str(&output::table::align(&rows(&self.site.values), "  "));
        }
        for service in &self.services {
            out.push_str(&format!(
                "\n{} as {} ({}, {})\n",
                service.id, service.name, service.account, service.principal
            ));
            out.push_str(&output::table::align(&rows(&service.values), "  "));
        }
        for broken in &self.broken {
            out.push_str(&format!(
                "\n{} ({}) cannot be set up: {}\n",
                broken.id,
                self.site.place(broken.at),
                broken.reason
            ));
        }
        if self.whole && !self.site.later.is_empty() {
            out.push_str("\naccepted, without function:\n");
            let rows: Vec<Vec<String>> = self
                .site
                .later
                .iter()
                .map(|k| vec![k.key.clone(), self.site.place(k.at), k.reason.to_owned()])
                .collect();
            out.push_str(&output::table::align(&rows, "  "));
        }
        out
    }
}
