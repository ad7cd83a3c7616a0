//! Who writes a file that several services of one account want.
//!
//! Two roles on one account both want `/tmp/vt_u<uid>`. On each node it belongs to the role marked `primary: true`,
//! else to the first in the file; the others leave it alone there. A role that cannot run keeps its place: what it
//! put on a node stays until it runs again, rather than being replaced by another role's token.

use std::collections::{BTreeMap, HashMap};

use crate::{Kind, Service, THIS_HOST, finding::Reporter, role::Claim};

/// A role in the order of the file, whether it can run or not.
pub(crate) struct Claimant {
    pub(crate) claim: Claim,
    /// Its place among the services, if it is one.
    pub(crate) service: Option<usize>,
}

pub(crate) fn assign(services: &mut [Service], claimants: &[Claimant], report: &mut Reporter) {
    choose_primaries(services, claimants, report);
    let mut uids: HashMap<&str, u32> = HashMap::new();
    for claim in claimants.iter().map(|c| &c.claim) {
        if let Some(uid) = claim.uid {
            uids.entry(claim.account.as_str()).or_insert(uid);
        }
    }
    // who wants what, by account and path
    let mut wanted: BTreeMap<(&str, String), Vec<(usize, Kind)>> = BTreeMap::new();
    let mut here: BTreeMap<String, Vec<(usize, Kind)>> = BTreeMap::new();
    for (index, claimant) in claimants.iter().enumerate() {
        let claim = &claimant.claim;
        if claim.account.is_empty() {
            continue;
        }
        let uid = claim.uid.or_else(|| uids.get(claim.account.as_str()).copied());
        let uid = uid.map_or_else(|| format!("<uid of {}>", claim.account), |uid| uid.to_string());
        let paths = match claimant.service.and_then(|s| services.get(s)) {
            Some(service) => service
                .paths(&uid)
                .into_iter()
                .map(|d| (d.path, d.kind))
                .collect(),
            None => vec![(format!("/tmp/vt_u{uid}"), Kind::VaultTokenDefault)],
        };
        let service = claimant.service.and_then(|s| services.get(s));
        for (output, path) in service.into_iter().flat_map(|service| service.paths_here(&uid)) {
            here.entry(path).or_default().push((index, Kind::Output(output)));
        }
        for (path, kind) in paths {
            wanted
                .entry((claim.account.as_str(), path))
                .or_default()
                .push((index, kind));
        }
    }
    for all in wanted.into_values().filter(|all| all.len() > 1) {
        // a node may go by several names
        let mut by_sshd: BTreeMap<String, Vec<Wish<'_>>> = BTreeMap::new();
        for (index, kind) in all {
            let Some(claimant) = claimants.get(index) else {
                continue;
            };
            let service = claimant.service.and_then(|s| services.get(s));
            for node in &claimant.claim.nodes {
                if service.is_some_and(|service| !service.goes_to(node, kind)) {
                    continue;
                }
                // one that cannot run is taken to reach the node as ssh does by itself
                let sshd = service.map_or_else(|| Service::plain_sshd(node), |s| s.sshd_of(node));
                by_sshd
                    .entry(sshd)
                    .or_default()
                    .push((index, kind, node.as_str()));
            }
        }
        for all in by_sshd.into_values() {
            give(&all, services, claimants);
        }
    }
    for all in here.into_values() {
        let all: Vec<Wish<'_>> = all.into_iter().map(|(i, kind)| (i, kind, THIS_HOST)).collect();
        give(&all, services, claimants);
    }
}

/// Who wants what there, and the name it has for the node.
type Wish<'n> = (usize, Kind, &'n str);

/// A file on a node goes to one of those that want it; the others yield.
fn give(all: &[Wish<'_>], services: &mut [Service], claimants: &[Claimant]) {
    let marked = all
        .iter()
        .find(|(i, ..)| claimants.get(*i).is_some_and(|c| c.claim.marked));
    let Some(owner) = marked.or(all.first()).copied() else {
        return;
    };
    for (index, kind, node) in all.iter().copied().filter(|one| *one != owner) {
        let service = claimants
            .get(index)
            .and_then(|c| c.service)
            .and_then(|s| services.get_mut(s));
        if let Some(service) = service {
            service.yields.entry(node.to_owned()).or_default().insert(kind);
        }
    }
}

fn choose_primaries(services: &mut [Service], claimants: &[Claimant], report: &mut Reporter) {
    let mut owner: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for (index, claimant) in claimants.iter().enumerate() {
        let claim = &claimant.claim;
        let entry = owner
            .entry(claim.account.as_str())
            .or_insert((index, claim.marked));
        if claim.marked && entry.1 && entry.0 != index {
            if let Some(service) = claimant.service.and_then(|s| services.get(s)) {
                report.error(
                    service.at,
                    &format!("{}.primary", service.id),
                    format!(
                        "another role of account {} is marked primary before",
                        claim.account
                    ),
                    "the first one counts; mark only one",
                );
            }
        } else if claim.marked && !entry.1 {
            *entry = (index, true);
        }
    }
    for (index, _) in owner.into_values() {
        let service = claimants
            .get(index)
            .and_then(|c| c.service)
            .and_then(|s| services.get_mut(s));
        if let Some(service) = service {
            service.primary = true;
        }
    }
}
