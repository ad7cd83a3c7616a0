//! `mtk list`: what the configuration is about.

use std::collections::{BTreeMap, BTreeSet};

use config::{Service, Site};
use jiff::Timestamp;
use pipeline::Selection;
use serde::Serialize;
use state::{Silence, SilenceKind, Snapshot};

use super::status::snapshot;
use crate::{
    Problem,
    args::{Cli, SelectionArgs, TableOutput},
    exit::Exit,
    output::{
        self,
        table::{align, csv},
    },
    site,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of what.
    #[arg(value_enum, default_value_t = What::Services)]
    what: What,

    #[command(flatten)]
    selection: SelectionArgs,

    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = TableOutput::Text)]
    output: TableOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The services, with their accounts and where their tokens go.
    Services,
    /// The nodes, with the services that push there.
    Nodes,
    /// The credds of the configuration and those found before, with the services that store there.
    Credds,
}

#[derive(Debug, Serialize)]
struct Row {
    service: String,
    experiment: String,
    role: String,
    name: String,
    account: String,
    principal: String,
    vault: String,
    credds: BTreeSet<String>,
    nodes: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
    silenced_until: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct Place {
    #[serde(skip)]
    name: String,
    services: BTreeSet<String>,
    accounts: BTreeSet<String>,
    silenced_until: Option<Timestamp>,
}

pub(crate) async fn list(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let snapshot = snapshot(&site::state_dir(cli, &site)).await?;
    let selection = site::selected(&site, Selection::from(&args.selection))?;
    site::credds_exist(&site, &selection, &pipeline::known_credds(&site, &snapshot))?;
    let listing = Listing {
        site: &site,
        snapshot: &snapshot,
        selection: &selection,
        now: Timestamp::now(),
    };
    let text = match args.what {
        What::Services => services(&listing.services(), args.output)?,
        What::Nodes => places("node", &listing.nodes(), args.output)?,
        What::Credds => places("credd", &listing.credds(), args.output)?,
    };
    output::data(&text);
    Ok(Exit::Fresh)
}

struct Listing<'a> {
    site: &'a Site,
    snapshot: &'a Snapshot,
    selection: &'a Selection,
    now: Timestamp,
}

impl Listing<'_> {
    fn services(&self) -> Vec<Row> {
        let whole = self.chosen().map(|s| Row {
            service: s.id.to_string(),
            experiment: s.id.experiment.clone(),
            role: s.id.role.clone(),
            name: s.name.to_string(),
            account: s.account.clone(),
            principal: s.principal.to_string(),
            vault: s.vault_server.clone(),
            credds: self.credds_of(s),
            nodes: s.nodes.iter().cloned().collect(),
            broken: None,
            silenced_until: self.silenced(SilenceKind::Service, &s.id.to_string()),
        });
        let broken = self.site.broken.iter().filter(|b| self.selection.wants_broken(b));
        let broken = broken.map(|b| Row {
            service: b.id.to_string(),
            experiment: b.id.experiment.clone(),
            role: b.id.role.clone(),
            name: String::new(),
            account: String::new(),
            principal: String::new(),
            vault: String::new(),
            credds: BTreeSet::new(),
            nodes: BTreeSet::new(),
            broken: Some(b.reason.clone()),
            silenced_until: self.silenced(SilenceKind::Service, &b.id.to_string()),
        });
        whole.chain(broken).collect()
    }

    fn nodes(&self) -> Vec<Place> {
        let of = |s: &Service| s.nodes.iter().cloned().collect();
        self.places(SilenceKind::Node, &|name| self.selection.wants_node(name), &of)
    }

    fn credds(&self) -> Vec<Place> {
        self.places(
            SilenceKind::Credd,
            &|name| self.selection.wants_credd(name),
            &|s| self.credds_of(s),
        )
    }

    fn places(
        &self,
        kind: SilenceKind,
        wants: &dyn Fn(&str) -> bool,
        of: &dyn Fn(&Service) -> BTreeSet<String>,
    ) -> Vec<Place> {
        let mut all: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for service in self.chosen() {
            for name in of(service).into_iter().filter(|name| wants(name)) {
                let (services, accounts) = all.entry(name).or_default();
                services.insert(service.id.to_string());
                accounts.insert(service.account.clone());
            }
        }
        all.into_iter()
            .map(|(name, (services, accounts))| Place {
                silenced_until: self.silenced(kind, &name),
                name,
                services,
                accounts,
            })
            .collect()
    }

    fn chosen(&self) -> impl Iterator<Item = &Service> {
        self.site.services.iter().filter(|s| self.selection.wants(s))
    }

    /// Those of the configuration, else those that were found before.
    fn credds_of(&self, service: &Service) -> BTreeSet<String> {
        if !service.credds.is_empty() {
            return service.credds.iter().cloned().collect();
        }
        let name = service.name.to_string();
        let key = pipeline::service_key(service);
        let stored = self.snapshot.stores_of(&key);
        let stored = stored.filter(|s| s.credential_name == name);
        stored.map(|s| s.credd.clone()).collect()
    }

    fn silenced(&self, kind: SilenceKind, name: &str) -> Option<Timestamp> {
        let about = |s: &&Silence| s.kind == kind && s.name == name && s.holds(self.now);
        let silences = self.snapshot.silences.iter().filter(about);
        silences.map(|s| s.until).max()
    }
}

fn words(set: &BTreeSet<String>) -> String {
    set.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn until(silenced: Option<Timestamp>) -> String {
    silenced.map(|at| at.to_string()).unwrap_or_default()
}

fn services(rows: &[Row], form: TableOutput) -> Result<String, Problem> {
    let cells = |row: &Row| {
        vec![
            row.service.clone(),
            row.name.clone(),
            row.account.clone(),
            row.principal.clone(),
            row.vault.clone(),
            words(&row.credds),
            words(&row.nodes),
            row.broken.clone().unwrap_or_default(),
            until(row.silenced_until),
        ]
    };
    match form {
        TableOutput::Json => site::json(&serde_json::json!({"services": rows})),
        TableOutput::Csv => csv(
            &[
                "service",
                "name",
                "account",
                "principal",
                "vault",
                "credds",
                "nodes",
                "broken",
                "silenced_until",
            ],
            &rows.iter().map(cells).collect::<Vec<_>>(),
        ),
        TableOutput::Text => {
            let line = |row: &Row| {
                let mut cells = vec![row.service.clone()];
                if let Some(reason) = &row.broken {
                    cells.push(format!("cannot be set up: {reason}"));
                    return cells;
                }
                cells.extend([
                    row.name.clone(),
                    row.account.clone(),
                    format!("{} credds", row.credds.len()),
                    format!("{} nodes", row.nodes.len()),
                    row.vault.clone(),
                    mark(row.silenced_until),
                ]);
                cells
            };
            let (whole, broken): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|r| r.broken.is_none());
            let lines = |rows: &[&Row]| align(&rows.iter().map(|r| line(r)).collect::<Vec<_>>(), "");
            Ok(lines(&whole) + &lines(&broken))
        }
    }
}

fn mark(silenced: Option<Timestamp>) -> String {
    silenced.map_or_else(String::new, |at| format!("silenced until {at}"))
}

fn places(kind: &str, all: &[Place], form: TableOutput) -> Result<String, Problem> {
    let cells = |place: &Place| {
        vec![
            place.name.clone(),
            words(&place.services),
            words(&place.accounts),
            until(place.silenced_until),
        ]
    };
    match form {
        TableOutput::Json => {
            let mut list = Vec::new();
            for place in all {
                let mut value = serde_json::to_value(place).map_err(Problem::usage)?;
                if let Some(object) = value.as_object_mut() {
                    object.insert(kind.to_owned(), place.name.clone().into());
                }
                list.push(value);
            }
            site::json(&serde_json::json!({ format!("{kind}s"): list }))
        }
        TableOutput::Csv => csv(
            &[kind, "services", "accounts", "silenced_until"],
            &all.iter().map(cells).collect::<Vec<_>>(),
        ),
        TableOutput::Text => {
            let line = |place: &Place| {
                let services = words(&place.services);
                vec![place.name.clone(), services, mark(place.silenced_until)]
            };
            Ok(align(&all.iter().map(line).collect::<Vec<_>>(), ""))
        }
    }
}
