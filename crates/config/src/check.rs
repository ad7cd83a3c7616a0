//! Services that get into each other's way, found in the finished plan.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use credential::ServiceName;

use crate::{Content, Finding, Kind, Service, Site, Transport, finding::Reporter};

/// Findings about services that want the same file on the same node, the same credential at the same credd, or the
/// same account, and about nodes that cannot be reached as they are to be.
#[must_use]
pub fn check(site: &Site) -> Vec<Finding> {
    let mut report = Reporter::new(site.files.clone());
    shared_files(site, &mut report);
    shared_credentials(site, &mut report);
    shared_accounts(site, &mut report);
    uids(site, &mut report);
    unreachable(site, &mut report);
    report.finish()
}

/// The UID of each account, as far as any service says it.
fn known_uids(site: &Site) -> HashMap<&str, u32> {
    let mut all = HashMap::new();
    for service in &site.services {
        if let Some(uid) = service.uid {
            all.entry(service.account.as_str()).or_insert(uid);
        }
    }
    all
}

/// One of several that want a path: place among the services, and what it would put there.
type Claims = Vec<(usize, Kind)>;

fn shared_files(site: &Site, report: &mut Reporter) {
    let uids = known_uids(site);
    let mut by_path: BTreeMap<String, Claims> = BTreeMap::new();
    let mut here: BTreeMap<String, Claims> = BTreeMap::new();
    for (index, service) in site.services.iter().enumerate() {
        let uid = service
            .uid
            .or_else(|| uids.get(service.account.as_str()).copied());
        let uid = uid.map_or_else(|| format!("<uid of {}>", service.account), |uid| uid.to_string());
        for (output, path) in service.paths_here(&uid) {
            here.entry(path).or_default().push((index, Kind::Output(output)));
        }
        for destination in service.paths(&uid) {
            by_path
                .entry(destination.path)
                .or_default()
                .push((index, destination.kind));
        }
    }
    for (path, claims) in here.into_iter().filter(|(_, claims)| claims.len() > 1) {
        let nodes = BTreeSet::from(["this host".to_owned()]);
        shared_file(&path, &services_of(site, &claims), &nodes, report);
    }
    // one service alone may meet itself only where a node has two names, or an output one path with another file
    for (path, claims) in by_path {
        let mut by_sshd: BTreeMap<String, Contested<'_>> = BTreeMap::new();
        for (index, kind) in claims {
            let Some(service) = site.services.get(index) else {
                continue;
            };
            for node in service.nodes.iter().filter(|node| service.goes_to(node, kind)) {
                let contested = by_sshd.entry(service.sshd_of(node)).or_default();
                contested.claims.push((index, kind));
                contested.names.insert(node);
            }
        }
        // the same claim on fifty nodes is one finding
        let mut by_claim: BTreeMap<Claims, BTreeSet<String>> = BTreeMap::new();
        for contested in by_sshd.into_values().filter(|c| c.claims.len() > 1) {
            let names: Vec<&str> = contested.names.into_iter().collect();
            by_claim
                .entry(contested.claims)
                .or_default()
                .insert(names.join(" = "));
        }
        for (claims, nodes) in by_claim {
            shared_file(&path, &services_of(site, &claims), &nodes, report);
        }
    }
}

/// A path behind one sshd, by whatever name that is reached.
#[derive(Default)]
struct Contested<'a> {
    claims: Claims,
    names: BTreeSet<&'a str>,
}

fn services_of<'a>(site: &'a Site, claims: &Claims) -> Vec<(&'a Service, Kind)> {
    claims
        .iter()
        .filter_map(|(i, kind)| Some((site.services.get(*i)?, *kind)))
        .collect()
}

fn shared_file(path: &str, all: &[(&Service, Kind)], nodes: &BTreeSet<String>, report: &mut Reporter) {
    let Some((first, kind)) = all.first() else { return };
    let names: Vec<String> = all.iter().map(|(s, _)| s.id.to_string()).collect();
    let (names, nodes) = (names.join(", "), some(nodes));
    let Some((second, _)) = all.get(1) else { return };
    let key = second.id.to_string();
    if all.iter().all(|(s, _)| s.id == first.id) {
        let same = all.iter().all(|(_, k)| k == kind);
        let message = if same {
            format!(
                "{path} on {nodes} would be written by {} under each name of that node",
                first.id
            )
        } else {
            format!(
                "{path} on {nodes} would be written by {} more than once",
                first.id
            )
        };
        let advice = if same {
            "name it once in destinationNodes"
        } else {
            "change the path of one"
        };
        report.error(first.at, &first.id.to_string(), message, advice);
    } else if all.iter().any(|(s, _)| s.account != first.account) {
        let message = format!("{names} of different accounts would write {path} on {nodes}");
        let advice = if all.iter().any(|(_, k)| matches!(k, Kind::Output(_))) {
            "put {{.Account}} or {{.Name}} into the path of the output"
        } else {
            "put {{.Account}} or {{.DesiredUID}} into defaultRoleFileDestinationTemplate"
        };
        report.error(second.at, &key, message, advice);
    } else if all.iter().any(|(_, k)| k != kind) {
        let mut whats: Vec<&str> = all.iter().map(|(s, k)| what(s, *k)).collect();
        whats.dedup();
        let message = format!("{path} on {nodes} would be {} of {names}", whats.join(" and "));
        let advice = "change defaultRoleFileDestinationTemplate, or the path of the output";
        report.error(second.at, &key, message, advice);
    } else if !matches!(kind, Kind::VaultTokenDefault | Kind::DefaultRole) {
        let message = format!(
            "{names} of account {} would write {path} on {nodes}, each {} of its own",
            first.account,
            what(first, *kind)
        );
        let advice =
            "part them by {{.Name}} or {{.Role}} in the path; two entries of one name by destinationNodes";
        report.error(second.at, &key, message, advice);
    } else {
        let owner = all
            .iter()
            .find(|(s, _)| s.marked_primary)
            .unwrap_or(&(*first, *kind))
            .0;
        let message = format!(
            "{names} of account {} want {path} on {nodes}: it is {}'s",
            first.account, owner.id
        );
        if owner.marked_primary {
            report.note(second.at, &key, message, "as marked with primary: true");
        } else {
            let advice = "as the first in the file; say primary: true in the one that is to have it";
            report.warn(second.at, &key, message, advice);
        }
    }
}

/// What a kind of file is to people.
fn what(service: &Service, kind: Kind) -> &'static str {
    match service.output(kind).map(|output| &output.content) {
        Some(Content::Bearer { .. }) => "a bearer token",
        Some(Content::File { .. }) => "a file made elsewhere",
        Some(Content::VaultToken) => "a Vault token",
        None if kind == Kind::DefaultRole => "a default-role file",
        None => "a Vault token",
    }
}

fn some(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Two entries storing one credential at one credd would each find the other's and store again, at every run.
fn shared_credentials(site: &Site, report: &mut Reporter) {
    let mut same: BTreeMap<(&str, &ServiceName), Vec<&Service>> = BTreeMap::new();
    for service in site.services.iter().filter(|s| s.store) {
        same.entry((&service.account, &service.name))
            .or_default()
            .push(service);
    }
    for services in same.into_values() {
        for (index, service) in services.iter().enumerate() {
            let Some(before) = services.iter().take(index).find(|before| meet(before, service)) else {
                continue;
            };
            report.error(
                service.at,
                &service.id.to_string(),
                format!(
                    "{} stores {} of {} at the same credds",
                    before.id, service.name, service.account
                ),
                "remove one, or part them by condorCreddHostOverride or condorCollectorHostOverride",
            );
        }
    }
}

fn meet(before: &Service, service: &Service) -> bool {
    match (before.credds.is_empty(), service.credds.is_empty()) {
        (true, true) => {
            before.schedd_constraint == service.schedd_constraint
                && before.collectors.iter().any(|c| service.collectors.contains(c))
        }
        (false, false) => before.credds.iter().any(|c| service.credds.contains(c)),
        // which credds a collector will name is not known here
        _ => false,
    }
}

/// An account of two experiments works, but is a copied line more often than not, and its files name one of them.
fn shared_accounts(site: &Site, report: &mut Reporter) {
    let mut first: HashMap<&str, &Service> = HashMap::new();
    let mut said = BTreeSet::new();
    for service in &site.services {
        let before = *first.entry(service.account.as_str()).or_insert(service);
        let pair = (&service.account, service.name.issuer());
        if before.name.issuer() != service.name.issuer() && said.insert(pair) {
            report.warn(
                service.at,
                &format!("{}.account", service.id),
                format!(
                    "account {} serves {} as well, of another experiment",
                    service.account, before.id
                ),
                "give each experiment an account of its own, if this one is a slip",
            );
        }
    }
}

fn uids(site: &Site, report: &mut Reporter) {
    let mut by_uid: HashMap<u32, &Service> = HashMap::new();
    let mut by_account: HashMap<&str, (u32, &Service)> = HashMap::new();
    for service in &site.services {
        let Some(uid) = service.uid else { continue };
        let key = format!("{}.desiredUIDOverride", service.id);
        let before = *by_uid.entry(uid).or_insert(service);
        if before.account != service.account {
            let message = format!(
                "uid {uid} is {}'s, account {}, as well",
                before.id, before.account
            );
            report.error(service.at, &key, message, "");
        }
        let (other, before) = *by_account.entry(&service.account).or_insert((uid, service));
        if other != uid {
            let message = format!("account {} has uid {other} in {}", service.account, before.id);
            report.warn(service.at, &key, message, "");
        }
    }
}

/// The system's ssh would go through other hosts with none of mtk's options: such a session ends before it begins.
fn unreachable(site: &Site, report: &mut Reporter) {
    for service in &site.services {
        let through = |node: &&String| {
            let ssh = service.ssh_on(node);
            ssh.transport == Transport::OpenSsh && !ssh.jump.is_empty()
        };
        let nodes: BTreeSet<String> = service.nodes.iter().filter(through).cloned().collect();
        if !nodes.is_empty() {
            report.error(
                service.at,
                &format!("{}.destinationNodes", service.id),
                format!(
                    "{} cannot be reached: the transport openssh does not go through other hosts (ProxyJump)",
                    some(&nodes)
                ),
                "set mtk.ssh.transport to auto, russh or libssh2, which do",
            );
        }
    }
}
