//! Services that get into each other's way, found in the finished plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Finding, Kind, Service, Severity, Site, finding::Reporter};

/// Findings about services that want the same file on the same node, or the same credential at the same credd.
#[must_use]
pub fn check(site: &Site) -> Vec<Finding> {
    let mut report = Reporter::new(site.files.clone());
    shared_files(site, &mut report);
    shared_credentials(site, &mut report);
    uids(site, &mut report);
    report.finish()
}

fn uid_text(service: &Service, site: &Site) -> String {
    let same = site.services.iter().filter(|s| s.account == service.account);
    service
        .uid
        .or_else(|| same.filter_map(|s| s.uid).next())
        .map_or_else(|| format!("<uid of {}>", service.account), |uid| uid.to_string())
}

/// One of several that want a path: place among the services, and what it would put there.
type Claims = Vec<(usize, Kind)>;

fn shared_files(site: &Site, report: &mut Reporter) {
    let mut wanted: BTreeMap<(String, String), Claims> = BTreeMap::new();
    for (index, service) in site.services.iter().enumerate() {
        for destination in service.paths(&uid_text(service, site)) {
            for node in &service.nodes {
                let claims = wanted
                    .entry((destination.path.clone(), node.clone()))
                    .or_default();
                claims.push((index, destination.kind));
            }
        }
    }
    // the same claim on fifty nodes is one finding
    let mut by_claim: BTreeMap<(String, Claims), BTreeSet<String>> = BTreeMap::new();
    for ((path, node), claims) in wanted {
        if claims.len() > 1 {
            by_claim.entry((path, claims)).or_default().insert(node);
        }
    }
    for ((path, claims), nodes) in by_claim {
        let all: Vec<(&Service, Kind)> = claims
            .iter()
            .filter_map(|(i, kind)| Some((site.services.get(*i)?, *kind)))
            .collect();
        shared_file(&path, &all, &nodes, report);
    }
}

fn shared_file(path: &str, all: &[(&Service, Kind)], nodes: &BTreeSet<String>, report: &mut Reporter) {
    let Some((first, kind)) = all.first() else { return };
    let names: Vec<String> = all.iter().map(|(s, _)| s.id.to_string()).collect();
    let (names, nodes) = (names.join(", "), some(nodes));
    let Some((second, _)) = all.get(1) else { return };
    let key = second.id.to_string();
    if all.iter().any(|(s, _)| s.account != first.account) {
        let message = format!("{names} of different accounts would write {path} on {nodes}");
        let advice = "put {{.Account}} or {{.DesiredUID}} into defaultRoleFileDestinationTemplate";
        report.error(second.at, &key, message, advice);
    } else if all.iter().any(|(_, k)| k != kind) {
        let message = format!("{path} on {nodes} would be a Vault token and a default-role file");
        report.error(
            second.at,
            &key,
            message,
            "change defaultRoleFileDestinationTemplate",
        );
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

fn some(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Two entries storing one credential at one credd would each find the other's and store again, at every run.
fn shared_credentials(site: &Site, report: &mut Reporter) {
    for (index, service) in site.services.iter().enumerate().filter(|(_, s)| s.store) {
        for before in site.services.iter().take(index).filter(|s| s.store) {
            let same = before.account == service.account && before.name == service.name;
            let meet = match (before.credds.is_empty(), service.credds.is_empty()) {
                (true, true) => {
                    before.schedd_constraint == service.schedd_constraint
                        && before.collectors.iter().any(|c| service.collectors.contains(c))
                }
                (false, false) => before.credds.iter().any(|c| service.credds.contains(c)),
                // which credds a collector will name is not known here
                _ => false,
            };
            if same && meet {
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
}

fn uids(site: &Site, report: &mut Reporter) {
    for (index, service) in site.services.iter().enumerate() {
        let Some(uid) = service.uid else { continue };
        for before in site.services.iter().take(index) {
            let (severity, message) = match before.uid {
                Some(other) if other == uid && before.account != service.account => (
                    Severity::Error,
                    format!(
                        "uid {uid} is {}'s, account {}, as well",
                        before.id, before.account
                    ),
                ),
                Some(other) if other != uid && before.account == service.account => (
                    Severity::Warning,
                    format!("account {} has uid {other} in {}", service.account, before.id),
                ),
                _ => continue,
            };
            report.say(
                severity,
                service.at,
                &format!("{}.desiredUIDOverride", service.id),
                message,
                "",
            );
        }
    }
}
