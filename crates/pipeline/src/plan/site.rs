//! The whole site at once: every edge that is due, why, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use config::{Content, Kind, Service, Site};
use jiff::Timestamp;
use state::{EdgeId, ServiceKey, Snapshot};

use super::{
    AtPeer, Policy, Pushed, Reason, StoredThere, node_token_due,
    outputs::{self, HeldOutput},
    push_due, store_due,
};
use crate::{run::service_key, selection::Selection};

/// A node token in hand, as far as it matters here: not the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// When it was made, by our own clock.
    pub issued: Timestamp,
    /// When it ends, its parent's end considered.
    pub until: Timestamp,
    /// Its accessor; empty if the record of it is lost.
    pub accessor: String,
    /// [`state::State::digest`] of a file that holds it.
    pub digest: String,
}

/// Everything that is remembered, as the planner reads it.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// The database at one moment.
    pub snapshot: &'a Snapshot,
    /// The node tokens of the state directory. A token without its record counts, a record without its token does not.
    pub node_tokens: &'a BTreeMap<ServiceKey, Held>,
    /// What outputs would hold now, by service and output: bearer tokens that are kept, files that could be read.
    pub outputs: &'a BTreeMap<(ServiceKey, String), HeldOutput>,
    /// UIDs by account, where the configuration says nothing.
    pub uids: &'a BTreeMap<String, u32>,
    /// [`state::State::digest`].
    pub digest: &'a dyn Fn(&[u8]) -> String,
}

/// An edge that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub edge: EdgeId,
    /// Why.
    pub reason: Reason,
    /// When what is there now ends; `None` if nothing is there. What ends first comes first.
    pub ends: Option<Timestamp>,
}

/// Every edge of the selected services that is due at `now`, from what is remembered alone: what ends first, first, and
/// what is not there at all before everything.
///
/// A function of its arguments: called twice it says the same. Work grows with services times their edges, not with
/// what is remembered of others.
///
/// Stores are planned at the credds that are configured, else at those known from before; where a service has none yet,
/// its login stands for all that will be found. Files are planned where the account's UID is known.
#[must_use]
pub fn plan(site: &Site, selection: &Selection, memory: &Memory<'_>, now: Timestamp) -> Vec<Due> {
    let mut due: Vec<(usize, Due)> = site
        .services
        .iter()
        .enumerate()
        .filter(|(_, service)| selection.wants(service))
        .flat_map(|(index, service)| {
            let policy = Policy::of(site, service);
            let of_service = one(service, selection, memory, &policy, now);
            of_service.into_iter().map(move |due| (index, due))
        })
        .collect();
    due.sort_by(|(a, x), (b, y)| (x.ends, a, &x.edge).cmp(&(y.ends, b, &y.edge)));
    due.into_iter().map(|(_, due)| due).collect()
}

/// The due edges of one service.
#[must_use]
pub fn one(
    service: &Service,
    selection: &Selection,
    memory: &Memory<'_>,
    policy: &Policy,
    now: Timestamp,
) -> Vec<Due> {
    let key = service_key(service);
    let held = memory.node_tokens.get(&key);
    let wants_node_token = service.wants_node_token();
    let name = service.name.to_string();
    let known = memory.snapshot.stores_of(&key);
    let known = known.filter(|s| s.credential_name == name);
    let known = known.map(|s| (s.credd.clone(), StoredThere::from(s))).collect();
    let stores = stores(service, selection, &known);
    let apart = policy.token_per_credd && stores.len() > 1;
    let mut due = Vec::new();

    let node_token = wants_node_token
        .then(|| node_token_due(held.map(|h| (h.issued, h.until)), policy, now))
        .flatten();
    let own: Vec<_> = stores
        .iter()
        .map(|(_, known)| store_due(*known, AtPeer::NotAsked, policy, now))
        .collect();
    let undiscovered = stores.is_empty() && discovers(service);
    let login = node_token
        .clone()
        .or_else(|| own.iter().flatten().next().cloned())
        .or_else(|| undiscovered.then_some(Reason::NeverStored));

    for (n, ((credd, known), own)) in stores.into_iter().zip(own).enumerate() {
        // a login's token goes to all credds, for it costs nothing at Vault; where each has one of its own, the node
        // token's goes to the first
        let with_login = match apart {
            true => node_token.clone().filter(|_| n == 0),
            false => login.as_ref().map(|_| Reason::NewToken),
        };
        if let Some(reason) = own.or(with_login) {
            let ends = known.map(|k| k.expires);
            let (service, credd, name) = (key.clone(), credd.to_owned(), name.clone());
            let edge = EdgeId::Store { service, credd, name };
            due.push(Due { edge, reason, ends });
        }
    }
    let new_token = if apart {
        node_token.is_some()
    } else {
        login.is_some()
    };
    let bearers = outputs::bearers(service, &key, selection, memory, now);
    let renewed: BTreeSet<&str> = bearers.iter().map(|(output, _)| *output).collect();
    let new = New {
        token: new_token,
        bearers: &renewed,
    };
    push_edges(service, &key, selection, memory, new, &mut due);
    due.extend(bearers.into_iter().map(|(_, bearer)| bearer));
    if let Some(reason) = login {
        // what outputs hold is no reason to log in
        let of_login = due.iter().filter(|d| !matches!(d.edge, EdgeId::Bearer { .. }));
        let ends = of_login.map(|d| d.ends).min().flatten();
        let ends = match (held.filter(|_| wants_node_token), wants_node_token) {
            (None, true) => None,
            (Some(held), _) => ends.map(|ends| ends.min(held.until)),
            (None, false) => ends,
        };
        let edge = EdgeId::Login { service: key };
        due.push(Due { edge, reason, ends });
    }
    due
}

/// When the first of what a service has ends; `None` if it lacks something. Whoever has least time left is begun with.
pub(crate) fn first_end<'a>(
    stores: impl Iterator<Item = &'a StoredThere>,
    node_token: Option<Timestamp>,
    wants_stores: bool,
    wants_node_token: bool,
) -> Option<Timestamp> {
    let credds = stores.map(|s| s.expires).min();
    match (credds, node_token) {
        (Some(credds), Some(nodes)) => Some(credds.min(nodes)),
        (Some(credds), None) if !wants_node_token => Some(credds),
        (None, Some(nodes)) if !wants_stores => Some(nodes),
        _ => None,
    }
}

/// Whether credds are looked for.
pub(crate) fn discovers(service: &Service) -> bool {
    service.store && !(service.collectors.is_empty() && service.credds.is_empty())
}

/// The credds a service's token belongs in, with what is known of each: those that are configured, in their order, else
/// those known from before, by name. `known` is what is remembered of the service's own credential.
pub(crate) fn stores<'a>(
    service: &'a Service,
    selection: &Selection,
    known: &'a BTreeMap<String, StoredThere>,
) -> Vec<(&'a str, Option<&'a StoredThere>)> {
    if !discovers(service) {
        return Vec::new();
    }
    let mut credds: Vec<&str> = service.credds.iter().map(String::as_str).collect();
    if credds.is_empty() {
        credds.extend(known.keys().map(String::as_str));
    }
    let mut seen = BTreeSet::new();
    credds
        .into_iter()
        .filter(|credd| selection.wants_credd(credd) && seen.insert(*credd))
        .map(|credd| (credd, known.get(credd)))
        .collect()
}

/// What will be made anew, and placed then.
#[derive(Clone, Copy)]
struct New<'a> {
    /// The node token.
    token: bool,
    /// By output.
    bearers: &'a BTreeSet<&'a str>,
}

fn push_edges(
    service: &Service,
    key: &ServiceKey,
    selection: &Selection,
    memory: &Memory<'_>,
    new: New<'_>,
    due: &mut Vec<Due>,
) {
    let Some(uid) = service.uid.or_else(|| memory.uids.get(&service.account).copied()) else {
        return;
    };
    let held = memory.node_tokens.get(key);
    let token = || held.map(|held| (held.accessor.clone(), held.digest.clone()));
    for (node, path, kind) in outputs::places(service, selection, uid) {
        let record = memory.snapshot.push(key, &node, &path);
        let known = record.map(Pushed::from);
        let output = service.output(kind);
        let kept = output.and_then(|o| memory.outputs.get(&(key.clone(), o.name.clone())));
        let (wanted, renewed) = match (kind, output.map(|o| (&o.content, o.name.as_str()))) {
            (Kind::VaultTokenDefault | Kind::VaultTokenService, _)
            | (Kind::Output(_), Some((Content::VaultToken, _))) => {
                (token(), new.token.then_some(Reason::NewToken))
            }
            (Kind::DefaultRole, _) => {
                let content = service.role_file_content();
                (Some((String::new(), (memory.digest)(content.as_bytes()))), None)
            }
            (Kind::Output(_), Some((Content::Bearer { .. }, name))) => {
                let renewed = new.bearers.contains(name).then_some(Reason::NewBearer);
                (kept.map(HeldOutput::wanted), renewed)
            }
            // a source that cannot be read is given to nobody
            (Kind::Output(_), _) if kept.is_none() => continue,
            (Kind::Output(_), _) => (kept.map(HeldOutput::wanted), None),
        };
        let own = match &wanted {
            Some((accessor, digest)) => push_due(known.as_ref(), accessor, digest),
            None => known.is_none().then_some(Reason::NeverPushed),
        };
        if let Some(reason) = own.or(renewed) {
            let service = key.clone();
            due.push(Due {
                edge: EdgeId::Push { service, node, path },
                reason,
                ends: record.and_then(|r| r.expires),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(role: &str) -> Service {
        let text = format!(
            "vaultServer: vault.test\ncondorCollectorHost: cm.test\n\
             kerberosPrincipalPattern: '{{{{.Account}}}}/robot@TEST'\nexperiments:\n  dune:\n    roles:\n      \
             production: {{account: dunepro{role}}}\n"
        );
        let path = std::path::Path::new("managedTokens.yml");
        let mut site = config::parse(path, &text, &config::Env::default()).unwrap().site;
        assert!(site.broken.is_empty(), "{:#?}", site.broken);
        site.services.remove(0)
    }

    #[test]
    fn credds_no_longer_configured_are_out() {
        let there = StoredThere {
            stored_at: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
            file_time: None,
        };
        let known = ["old.test", "new.test"].map(|credd| (credd.to_owned(), there.clone()));
        let known = BTreeMap::from(known);
        let of = |role| {
            let service = service(role);
            let stores = stores(&service, &Selection::default(), &known);
            let names = stores
                .iter()
                .map(|(credd, known)| format!("{credd} {}", known.is_some()));
            names.collect::<Vec<_>>()
        };
        assert_eq!(of(""), ["new.test true", "old.test true"]);
        assert_eq!(
            of(", condorCreddHostOverride: 'third.test,new.test'"),
            ["third.test false", "new.test true"]
        );
        assert!(of(", tokenGetterOverride: getToken").is_empty());
    }
}
