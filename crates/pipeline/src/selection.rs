//! Which services, credds and nodes of the site a command is about.

use std::collections::BTreeSet;

use config::{Broken, Service, Site, THIS_HOST, To};
use state::{EdgeId, Snapshot};

/// A subset of the site; an empty list means all. A service must match every list that is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// `experiment_role` as written, or the name at HTCondor.
    pub services: Vec<String>,
    /// Experiments as written.
    pub experiments: Vec<String>,
    /// Roles as written.
    pub roles: Vec<String>,
    /// UNIX accounts.
    pub accounts: Vec<String>,
    /// Names of credds: services that may have one of them, and of their credds those.
    pub credds: Vec<String>,
    /// Names of nodes: services that have one of them, and of their nodes those.
    pub nodes: Vec<String>,
}

/// A name that was asked for and is nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    /// What it should have been: `service`, `experiment`, `role`, `account`, `credd`, `node`.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// One that may have been meant.
    pub near: Option<String>,
}

impl Unmatched {
    /// A name of none of `known`.
    #[must_use]
    pub fn new<'a>(what: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            what,
            name: name.to_owned(),
            near: config::nearest(name, known).map(str::to_owned),
        }
    }
}

impl std::fmt::Display for Unmatched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        match &self.near {
            Some(near) => write!(f, " (is the {} {near} meant?)", self.what),
            None => Ok(()),
        }
    }
}

impl Selection {
    /// Whether everything is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the service is meant.
    #[must_use]
    pub fn wants(&self, service: &Service) -> bool {
        let one_of = |list: &[String], of: &[String]| list.is_empty() || of.iter().any(|x| list.contains(x));
        // those it will find by itself may be any
        let credds = self.credds.is_empty()
            || (crate::plan::discovers(service)
                && (service.credds.is_empty() || one_of(&self.credds, &service.credds)));
        self.wants_names(
            &service.id.experiment,
            &service.id.role,
            &[&service.name.to_string()],
        ) && any(&self.accounts, &service.account)
            && credds
            && (one_of(&self.nodes, &service.nodes) || (self.is_here() && gives_here(service)))
    }

    /// Whether what this host itself is given is asked for by name.
    fn is_here(&self) -> bool {
        self.nodes.iter().any(|node| node == THIS_HOST)
    }

    /// Whether a service that could not be set up is meant. Its account, credds and nodes are not known: who asks for
    /// some by name does not mean it.
    #[must_use]
    pub fn wants_broken(&self, broken: &Broken) -> bool {
        self.accounts.is_empty()
            && self.credds.is_empty()
            && self.nodes.is_empty()
            && self.wants_names(&broken.id.experiment, &broken.id.role, &[])
    }

    fn wants_names(&self, experiment: &str, role: &str, also_called: &[&str]) -> bool {
        let written = format!("{experiment}_{role}");
        any(&self.experiments, experiment)
            && any(&self.roles, role)
            && (any(&self.services, &written) || also_called.iter().any(|n| any(&self.services, n)))
    }

    /// Whether the credd is meant.
    #[must_use]
    pub fn wants_credd(&self, name: &str) -> bool {
        any(&self.credds, name)
    }

    /// Whether the node is meant.
    #[must_use]
    pub fn wants_node(&self, name: &str) -> bool {
        any(&self.nodes, name)
    }

    /// Whether credds are to be shown at all.
    #[must_use]
    pub fn shows_credds(&self) -> bool {
        self.nodes.is_empty() || !self.credds.is_empty()
    }

    /// Whether the credd is to be shown: who asks for nodes alone wants to see no credds.
    #[must_use]
    pub fn shows_credd(&self, name: &str) -> bool {
        self.wants_credd(name) && self.shows_credds()
    }

    /// Whether the node is to be shown: who asks for credds alone wants to see no nodes.
    #[must_use]
    pub fn shows_node(&self, name: &str) -> bool {
        self.wants_node(name) && (self.credds.is_empty() || !self.nodes.is_empty())
    }

    /// The names asked for that are nobody's: a typo must not look like success. Of credds only those are known that
    /// are configured; see [`Selection::unmatched_credds`].
    #[must_use]
    pub fn unmatched(&self, site: &Site) -> Vec<Unmatched> {
        let mut names: [BTreeSet<&str>; 5] = Default::default();
        let [services, experiments, roles, accounts, nodes] = &mut names;
        let ids = site
            .services
            .iter()
            .map(|s| &s.id)
            .chain(site.broken.iter().map(|b| &b.id));
        let mut called: Vec<String> = site.services.iter().map(|s| s.name.to_string()).collect();
        for id in ids {
            called.push(id.to_string());
            experiments.insert(&id.experiment);
            roles.insert(&id.role);
        }
        services.extend(called.iter().map(String::as_str));
        accounts.extend(site.services.iter().map(|s| s.account.as_str()));
        nodes.extend(
            site.services
                .iter()
                .flat_map(|s| s.nodes.iter().map(String::as_str)),
        );
        nodes.insert(THIS_HOST);
        let asked = [
            ("service", &self.services),
            ("experiment", &self.experiments),
            ("role", &self.roles),
            ("account", &self.accounts),
            ("node", &self.nodes),
        ];
        let mut out = Vec::new();
        for ((what, asked), known) in asked.into_iter().zip(names) {
            let strange = asked.iter().filter(|name| !known.contains(name.as_str()));
            out.extend(strange.map(|name| Unmatched::new(what, name, known.iter().copied())));
        }
        out
    }

    /// The credds asked for that are none of `known`.
    #[must_use]
    pub fn unmatched_credds(&self, known: &BTreeSet<String>) -> Vec<Unmatched> {
        let strange = self.credds.iter().filter(|name| !known.contains(*name));
        strange
            .map(|name| Unmatched::new("credd", name, known.iter().map(String::as_str)))
            .collect()
    }
}

/// The credds that are known: those of the configuration, and those that were found before.
#[must_use]
pub fn known_credds(site: &Site, snapshot: &Snapshot) -> BTreeSet<String> {
    let configured = site.services.iter().flat_map(|s| s.credds.iter().cloned());
    let stored = snapshot.stores.values().map(|s| s.credd.clone());
    let tried = snapshot.edges.keys().filter_map(|edge| match edge {
        EdgeId::Store { credd, .. } => Some(credd.clone()),
        _ => None,
    });
    configured.chain(stored).chain(tried).collect()
}

/// Why a name does not mean one service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoService {
    /// No service goes by it.
    #[error("there is no service {0}")]
    Unknown(Unmatched),
    /// It goes by it, but cannot be set up.
    #[error("{name} cannot be set up: {reason}")]
    Broken {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Several share it as their name at HTCondor.
    #[error("{name} is the name at HTCondor of several services: say which of {} is meant", .which.join(", "))]
    Several {
        /// The name.
        name: String,
        /// The services, as configured.
        which: Vec<String>,
    },
}

/// The one service of this name: `experiment_role` as configured, else the name at HTCondor if no two share it.
///
/// # Errors
/// [`NoService`].
pub fn one_service<'a>(site: &'a Site, name: &str) -> Result<&'a Service, NoService> {
    let name_owned = || name.to_owned();
    if let Some(service) = site.services.iter().find(|s| s.id.to_string() == name) {
        return Ok(service);
    }
    if let Some(broken) = site.broken.iter().find(|b| b.id.to_string() == name) {
        return Err(NoService::Broken {
            name: name_owned(),
            reason: broken.reason.clone(),
        });
    }
    let named: Vec<&Service> = site
        .services
        .iter()
        .filter(|s| s.name.to_string() == name)
        .collect();
    match named.as_slice() {
        [] => {
            let ids = site
                .services
                .iter()
                .map(|s| &s.id)
                .chain(site.broken.iter().map(|b| &b.id));
            let ids: Vec<String> = ids.map(ToString::to_string).collect();
            Err(NoService::Unknown(Unmatched::new(
                "service",
                name,
                ids.iter().map(String::as_str),
            )))
        }
        [service] => Ok(service),
        several => Err(NoService::Several {
            name: name_owned(),
            which: several.iter().map(|s| s.id.to_string()).collect(),
        }),
    }
}

/// Whether the service gives this host something: files, or what a command is fed.
fn gives_here(service: &Service) -> bool {
    service
        .outputs
        .iter()
        .any(|output| matches!(output.to, To::Here { .. } | To::Command { .. }))
}

fn any(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|x| x == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let text = "vaultServer: vault.test\ncondorCollectorHost: cm.test\n\
                    kerberosPrincipalPattern: '{{.Account}}/robot@TEST'\nexperiments:\n  dune:\n    roles:\n      \
                    production: {account: dunepro, destinationNodes: [gpvm01.test, gpvm02.test]}\n      \
                    analysis: {account: duneana, destinationNodes: [gpvm02.test], condorCreddHostOverride: ap1.test}\n  \
                    dune-near:\n    experimentOverride: dune\n    roles:\n      production: {account: nearpro}\n  \
                    mu2e:\n    roles:\n      production: {acount: x}\n";
        let path = std::path::Path::new("managedTokens.yml");
        config::parse(path, text, &config::Env::default()).unwrap().site
    }

    /// The services a selection is about, those that are broken last.
    fn chosen(change: impl Fn(&mut Selection)) -> Vec<String> {
        let (site, mut selection) = (site(), Selection::default());
        change(&mut selection);
        let whole = site.services.iter().filter(|s| selection.wants(s));
        let broken = site.broken.iter().filter(|b| selection.wants_broken(b));
        let ids = whole.map(|s| s.id.to_string());
        ids.chain(broken.map(|b| b.id.to_string())).collect()
    }

    #[test]
    fn lists_narrow_one_another() {
        let list = |name: &str| vec![name.to_owned()];
        assert_eq!(chosen(|_| {}).len(), 4);
        assert_eq!(
            chosen(|s| s.roles = list("production")),
            ["dune_production", "dune-near_production", "mu2e_production"]
        );
        let both = chosen(|s| (s.experiments, s.roles) = (list("dune"), list("production")));
        assert_eq!(both, ["dune_production"]);
        // both its names
        assert_eq!(
            chosen(|s| s.services = list("dune_production")),
            ["dune_production", "dune-near_production"]
        );
        assert_eq!(chosen(|s| s.accounts = list("nearpro")), ["dune-near_production"]);
        assert_eq!(chosen(|s| s.nodes = list("gpvm01.test")), ["dune_production"]);
        assert_eq!(
            chosen(|s| s.credds = list("ap2.test")),
            ["dune_production", "dune-near_production"]
        );
    }

    #[test]
    fn who_asks_for_nodes_sees_no_credds() {
        let mut selection = Selection::default();
        assert!(selection.shows_credd("ap1") && selection.shows_node("n1"));
        selection.nodes = vec!["n1".into()];
        assert!(selection.wants_credd("ap1") && !selection.shows_credd("ap1"));
        assert!(selection.shows_node("n1") && !selection.shows_node("n2"));
        selection.credds = vec!["ap1".into()];
        assert!(selection.shows_credd("ap1") && selection.shows_node("n1"));
    }

    #[test]
    fn what_is_nobodys_is_named_with_the_near_miss() {
        let name = |name: &str| vec![name.to_owned()];
        let selection = Selection {
            services: name("dune_prodution"),
            experiments: name("mu2e"),
            accounts: name("dunepr"),
            nodes: name("elsewhere"),
            credds: name("ap2.test"),
            ..Selection::default()
        };
        let says: Vec<String> = selection
            .unmatched(&site())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            says,
            [
                "dune_prodution (is the service dune_production meant?)",
                "dunepr (is the account dunepro meant?)",
                "elsewhere"
            ]
        );
        let known = known_credds(&site(), &Snapshot::default());
        let says = selection.unmatched_credds(&known);
        assert_eq!(says[0].to_string(), "ap2.test (is the credd ap1.test meant?)");
        let error = one_service(&site(), "dune_analysys").unwrap_err();
        assert!(error.to_string().contains("dune_analysis"), "{error}");
    }
}
