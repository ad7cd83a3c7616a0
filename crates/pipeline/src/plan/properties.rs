//! What must hold for any configuration, any state and any clock. The rule is written here a second time, as a question
//! about one edge, and asked of every edge there can be.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use config::{Env, Service, Site};
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, option, prelude::*};
use state::{EdgeId, NodeTokenRecord, Push, ServiceKey, Snapshot, Store};

use super::*;
use crate::{Selection, run::service_key};

const DAY: i64 = 86_400;
/// 2026-11-24: far from both ends of time.
const NOW: i64 = 1_795_000_000;

/// One service as the generator thinks of it. Times are days from now.
#[derive(Debug, Clone)]
struct Wish {
    /// Credds that are named; none: those of the collector.
    named: Vec<u8>,
    nodes: usize,
    uid: bool,
    stores: Vec<(u8, f64, f64)>,
    token: Option<(f64, f64)>,
    /// Per file, in order: whether it was pushed, and whether with the token in hand.
    pushed: Vec<(bool, bool)>,
    /// Whether each credd has a login of its own: the first wish decides for the site.
    apart: bool,
}

fn day() -> impl Strategy<Value = f64> {
    // ends near the minimum are where mistakes are
    prop_oneof![
        -40.0..60.0f64,
        Just(14.0),
        Just(3.0),
        Just(0.0),
        2.999..3.001f64,
        13.999..14.001f64
    ]
}

fn past() -> impl Strategy<Value = f64> {
    prop_oneof![8 => -40.0..0.0f64, 1 => 0.0..40.0f64, 1 => Just(300.0 / DAY as f64)]
}

fn wish() -> impl Strategy<Value = Wish> {
    (
        vec(0..4u8, 0..3),
        0..3usize,
        any::<bool>(),
        vec((0..4u8, past(), day()), 0..4),
        option::of((past(), day())),
        vec(any::<(bool, bool)>(), 9),
        any::<bool>(),
    )
        .prop_map(|(named, nodes, uid, stores, token, pushed, apart)| Wish {
            named,
            nodes,
            uid,
            stores,
            token,
            pushed,
            apart,
        })
}

/// A clock, its memory, and the site it is about.
struct World {
    site: Site,
    snapshot: Snapshot,
    held: BTreeMap<ServiceKey, Held>,
}

fn at(days: f64) -> Timestamp {
    let from_now = SignedDuration::try_from_secs_f64(days * DAY as f64).unwrap();
    Timestamp::from_second(NOW).unwrap() + from_now
}

fn digest(content: &[u8]) -> String {
    format!("digest of {}", String::from_utf8_lossy(content))
}

fn site(wishes: &[Wish]) -> Site {
    let apart = wishes.first().is_some_and(|wish| wish.apart);
    let mut text = format!(
        "vaultServer: vault.test\ncondorCollectorHost: cm.test\nmtk: {{vault: {{tokenPerCredd: {apart}}}}}\n\
         kerberosPrincipalPattern: '{{{{.Account}}}}/robot@TEST'\nexperiments:\n"
    );
    for (n, wish) in wishes.iter().enumerate() {
        let nodes: Vec<String> = (0..wish.nodes).map(|k| format!("node{k}.test")).collect();
        text += &format!("  exp{n}:\n    roles:\n      production:\n        account: acc{n}\n");
        text += &format!("        destinationNodes: [{}]\n", nodes.join(", "));
        if wish.uid {
            text += &format!("        desiredUIDOverride: {}\n", 1000 + n);
        }
        if !wish.named.is_empty() {
            let named: Vec<String> = wish.named.iter().map(|c| format!("credd{c}.test")).collect();
            text += &format!("        condorCreddHostOverride: \"{}\"\n", named.join(","));
        }
    }
    let loaded = config::parse(Path::new("managedTokens.yml"), &text, &Env::default()).unwrap();
    assert!(loaded.site.broken.is_empty(), "{:#?}", loaded.site.broken);
    loaded.site
}

fn world(wishes: &[Wish]) -> World {
    let site = site(wishes);
    let (mut snapshot, mut held) = (Snapshot::default(), BTreeMap::new());
    for (service, wish) in site.services.iter().zip(wishes) {
        let key = service_key(service);
        for (credd, stored, expires) in &wish.stores {
            add_store(
                &mut snapshot,
                &key,
                service,
                &format!("credd{credd}.test"),
                at(*stored),
                at(*expires),
            );
        }
        if let Some((issued, until)) = wish.token {
            let token = Held {
                issued: at(issued),
                until: at(until),
                accessor: "now".into(),
                digest: "now".into(),
            };
            held.insert(key.clone(), token);
        }
        let files = service.nodes.iter().flat_map(|node| {
            let files = service.destinations_on(node, service.uid.unwrap_or(1)).unwrap();
            files.into_iter().map(move |f| (node.clone(), f))
        });
        for ((node, file), (pushed, same)) in files.zip(&wish.pushed) {
            if !pushed {
                continue;
            }
            let role = file.kind == config::Kind::DefaultRole;
            let (accessor, digest) = match (role, same) {
                (true, true) => (String::new(), digest(service.role_file_content().as_bytes())),
                (false, true) => ("now".to_owned(), "now".to_owned()),
                (_, false) => ("before".to_owned(), "before".to_owned()),
            };
            let push = Push {
                service: key.clone(),
                node,
                path: file.path,
                kind: String::new(),
                accessor,
                digest,
                pushed_at: at(-1.0),
                expires: (!role).then(|| at(wish.token.map_or(1.0, |t| t.1))),
            };
            snapshot.pushes.insert(push_edge(&push), push);
        }
    }
    World { site, snapshot, held }
}

fn push_edge(push: &Push) -> EdgeId {
    let (service, node, path) = (push.service.clone(), push.node.clone(), push.path.clone());
    EdgeId::Push { service, node, path }
}

fn add_store(
    snapshot: &mut Snapshot,
    key: &ServiceKey,
    service: &Service,
    credd: &str,
    stored_at: Timestamp,
    expires: Timestamp,
) {
    let name = service.name.to_string();
    let store = Store {
        service: key.clone(),
        credd: credd.into(),
        credential_name: name.clone(),
        accessor: "long".into(),
        stored_at,
        expires,
        top_time: None,
        user: String::new(),
    };
    let (service, credd) = (key.clone(), credd.to_owned());
    snapshot
        .stores
        .insert(EdgeId::Store { service, credd, name }, store);
}

impl World {
    fn plan(&self, now: Timestamp) -> Vec<Due> {
        let outputs = BTreeMap::new();
        let memory = Memory {
            outputs: &outputs,
            snapshot: &self.snapshot,
            node_tokens: &self.held,
            uids: &BTreeMap::new(),
            digest: &digest,
        };
        plan(&self.site, &Selection::default(), &memory, now)
    }

    /// Whether each of the service's credds has a login of its own.
    fn apart(&self, service: &Service) -> bool {
        self.site.vault.token_per_credd && self.credds(service).len() > 1
    }

    /// The credd whose login the node token is made from.
    fn first(&self, service: &Service) -> Option<String> {
        let named = service.credds.first().cloned();
        named.or_else(|| self.credds(service).into_iter().next())
    }

    /// Every credd a service's token belongs in, as far as one can know.
    fn credds(&self, service: &Service) -> BTreeSet<String> {
        if !service.credds.is_empty() {
            return service.credds.iter().cloned().collect();
        }
        let key = service_key(service);
        let known = self.snapshot.stores.values().filter(|s| s.service == key);
        known.map(|s| s.credd.clone()).collect()
    }

    /// Every edge there can be.
    fn edges(&self) -> BTreeSet<EdgeId> {
        let mut all = BTreeSet::new();
        for service in &self.site.services {
            let key = service_key(service);
            all.insert(EdgeId::Login { service: key.clone() });
            for credd in self.credds(service) {
                let (service, name) = (key.clone(), service.name.to_string());
                all.insert(EdgeId::Store { service, credd, name });
            }
            for node in &service.nodes {
                for file in service.destinations_on(node, service.uid.unwrap_or(1)).unwrap() {
                    let (service, node, path) = (key.clone(), node.clone(), file.path);
                    all.insert(EdgeId::Push { service, node, path });
                }
            }
        }
        all
    }

    /// The rule, as a question about one edge.
    fn must(&self, edge: &EdgeId, now: Timestamp) -> bool {
        let key = edge.service();
        let service = self
            .site
            .services
            .iter()
            .find(|s| service_key(s) == *key)
            .unwrap();
        let too_short = |from: Timestamp, to: Timestamp, days: i64| {
            from > now + SignedDuration::from_mins(5) || to < now + SignedDuration::from_secs(days * DAY)
        };
        let store = |credd: &str| match self.snapshot.store(key, credd, &service.name.to_string()) {
            None => true,
            Some(s) => too_short(s.stored_at, s.expires, 14),
        };
        let held = self.held.get(key);
        let credds = self.credds(service);
        let node_token = !service.nodes.is_empty() && held.is_none_or(|h| too_short(h.issued, h.until, 3));
        let login = credds.is_empty() || credds.iter().any(|c| store(c)) || node_token;
        let apart = self.apart(service);
        let new_token = if apart { node_token } else { login };
        match edge {
            EdgeId::Login { .. } => login,
            EdgeId::Store { credd, .. } if apart => {
                store(credd) || node_token && self.first(service).as_ref() == Some(credd)
            }
            EdgeId::Store { credd, .. } => login || store(credd),
            EdgeId::Push { path, .. } if service.uid.is_some() => {
                let there = self.snapshot.pushes.get(edge).map(|p| p.digest.as_str());
                if path.contains("/vt_u") {
                    new_token || there != Some("now")
                } else {
                    there != Some(digest(service.role_file_content().as_bytes()).as_str())
                }
            }
            _ => false,
        }
    }

    /// Does what is planned, by a clock that shows `now` while the true time is `truth`; returns how every thing
    /// really ends.
    fn obey(&mut self, now: Timestamp, truth: Timestamp, ends: &mut BTreeMap<EdgeId, Timestamp>) {
        let (long, short) = (
            SignedDuration::from_hours(28 * 24),
            SignedDuration::from_hours(7 * 24),
        );
        for due in self.plan(now) {
            let key = due.edge.service().clone();
            let service = self
                .site
                .services
                .iter()
                .find(|s| service_key(s) == key)
                .unwrap()
                .clone();
            match &due.edge {
                EdgeId::Login { .. } => {
                    // with logins apart the node token is made anew only when it is due itself
                    let lives = |h: &Held| {
                        h.issued <= now + CLOCK_STEP && h.until >= now + SignedDuration::from_hours(3 * 24)
                    };
                    if self.apart(&service) && self.held.get(&key).is_some_and(lives) {
                        continue;
                    }
                    let (accessor, digest) = (now.to_string(), now.to_string());
                    let (issued, until) = (now, now + short);
                    let held = Held {
                        issued,
                        until,
                        accessor,
                        digest,
                    };
                    self.held.insert(key.clone(), held);
                    ends.insert(due.edge.clone(), truth + short);
                    if service.credds.is_empty() && self.credds(&service).is_empty() {
                        add_store(&mut self.snapshot, &key, &service, "found.test", now, now + long);
                        let (credd, name) = ("found.test".to_owned(), service.name.to_string());
                        ends.insert(
                            EdgeId::Store {
                                service: key,
                                credd,
                                name,
                            },
                            truth + long,
                        );
                    }
                }
                EdgeId::Store { credd, .. } => {
                    add_store(&mut self.snapshot, &key, &service, credd, now, now + long);
                    ends.insert(due.edge.clone(), truth + long);
                }
                EdgeId::Push { .. } | EdgeId::Bearer { .. } => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn nothing_due_is_left_out_and_nothing_else_is_in(wishes in vec(wish(), 1..6)) {
        let world = world(&wishes);
        let now = at(0.0);
        let planned: BTreeSet<EdgeId> = world.plan(now).into_iter().map(|d| d.edge).collect();
        for edge in world.edges() {
            prop_assert_eq!(planned.contains(&edge), world.must(&edge, now), "{}", edge);
        }
        prop_assert!(planned.is_subset(&world.edges()));
    }

    #[test]
    fn each_edge_once_and_what_ends_first_comes_first(wishes in vec(wish(), 1..6)) {
        let plan = world(&wishes).plan(at(0.0));
        let edges: BTreeSet<_> = plan.iter().map(|d| &d.edge).collect();
        prop_assert_eq!(edges.len(), plan.len());
        prop_assert!(plan.is_sorted_by_key(|d| d.ends));
        // nobody waits for a login behind what needs it
        for (n, due) in plan.iter().enumerate() {
            let login = EdgeId::Login { service: due.edge.service().clone() };
            if let Some(k) = plan.iter().position(|d| d.edge == login) {
                let after = plan.get(k).is_none_or(|l| l.ends <= due.ends);
                prop_assert!(after, "{} at {}: its login ends later", due.edge, n);
            }
        }
    }

    #[test]
    fn a_plan_made_twice_is_the_same(wishes in vec(wish(), 1..6), seconds in -5_000_000i64..5_000_000) {
        let now = Timestamp::from_second(NOW + seconds).unwrap();
        prop_assert_eq!(world(&wishes).plan(now), world(&wishes).plan(now));
    }

    #[test]
    fn a_selection_takes_edges_away_and_adds_none(wishes in vec(wish(), 1..5), picked in 0..5usize) {
        let world = world(&wishes);
        let selection = Selection { experiments: vec![format!("exp{picked}")], ..Selection::default() };
        let outputs = BTreeMap::new();
        let memory = Memory {
            outputs: &outputs,
            snapshot: &world.snapshot,
            node_tokens: &world.held,
            uids: &BTreeMap::new(),
            digest: &digest,
        };
        let some = plan(&world.site, &selection, &memory, at(0.0));
        let all = world.plan(at(0.0));
        let wanted = |d: &&Due| d.edge.service().experiment == format!("exp{picked}");
        prop_assert_eq!(some, all.iter().filter(wanted).cloned().collect::<Vec<_>>());
    }

    /// However the clock jumped about before, by days: one run by the right clock, and all lives as long as it should.
    #[test]
    fn a_clock_that_jumps_by_days_does_no_lasting_harm(
        wishes in vec(wish(), 1..4),
        jumps in vec((-40.0..40.0f64, 0.0..5.0f64), 1..6),
    ) {
        let mut world = world(&wishes);
        // what the generator remembers was true
        world.snapshot = Snapshot::default();
        world.held.clear();
        let (mut truth, mut ends) = (0.0, BTreeMap::new());
        for (off, passes) in jumps {
            world.obey(at(truth + off), at(truth), &mut ends);
            // cron sees to a run soon after the clock is right again
            world.obey(at(truth), at(truth), &mut ends);
            truth += passes;
        }
        world.obey(at(truth), at(truth), &mut ends);
        for (edge, really) in &ends {
            let service = world.site.services.iter().find(|s| service_key(s) == *edge.service()).unwrap();
            let minimum = match edge {
                EdgeId::Login { .. } if service.nodes.is_empty() => continue,
                EdgeId::Login { .. } => 3,
                _ => 14,
            };
            let least = SignedDuration::from_secs(minimum * DAY) - CLOCK_STEP;
            let left = really.duration_since(at(truth));
            prop_assert!(left >= least, "{} lives {:?} more", edge, left);
        }
        // and the run after that has nothing to do but files
        let again = world.plan(at(truth));
        prop_assert!(again.iter().all(|d| matches!(d.edge, EdgeId::Push { .. })), "{:#?}", again);
    }
}

/// Thousands of services with three credds and two nodes each: what `mtk run` decides before it asks anybody.
#[test]
fn thousands_of_services_are_planned_in_a_moment() {
    let wish = Wish {
        named: Vec::new(),
        nodes: 2,
        uid: true,
        stores: vec![(0, -1.0, 20.0), (1, -1.0, 20.0), (2, -1.0, 13.0)],
        token: Some((-1.0, 6.0)),
        pushed: vec![(true, true); 9],
        apart: false,
    };
    let world = world(&vec![wish; 2_000]);
    let began = std::time::Instant::now();
    let plan = world.plan(at(0.0));
    let took = began.elapsed();
    // a login, three credds and the two files with tokens on each of two nodes
    assert_eq!(plan.len(), 2_000 * (1 + 3 + 4));
    println!("2000 services planned in {took:?}");
    // a square of the services would be minutes
    assert!(took.as_secs() < 20, "{took:?}");
    let record = NodeTokenRecord {
        service: service_key(&world.site.services[0]),
        accessor: String::new(),
        parent_accessor: String::new(),
        issued: at(0.0),
        expires: at(0.0),
    };
    // a record of a token that is not there is no token
    let mut without = world;
    without.held.clear();
    without
        .snapshot
        .node_tokens
        .insert(record.service.clone(), record);
    assert_eq!(
        without.plan(at(0.0)).first().map(|d| d.reason.clone()),
        Some(Reason::NoNodeToken)
    );
}
