//! Who is told what and when: the plan for made-up runs, one after the other, each remembered as if it had been delivered.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, path::Path};

use config::Site;
use jiff::{SignedDuration, Timestamp};
use notify::{Digest, Facts, Outlet, Severity, Why, plan};
use pipeline::{Edge, Failure, Outcome, Report, ServiceReport, Stage, Target, TraceId, Traffic, edge_id};
use state::{EdgeState, Notice, Notices, Push, ServiceKey, Snapshot, Store};

const BASE: &str = "vaultServer: vault.test\ncondorCollectorHost: cm.test\nerrorCountToSendMessage: 3\n\
    kerberosPrincipalPattern: '{{.Account}}/robot@TEST'\nemail: {smtpHost: mail.test}\n\
    notifications: {admin_email: ops@test}\nnotifications_test: {admin_email: me@test}\n";

const EXPERIMENTS: &str = "experiments:\n  dune:\n    emails: [dune@test]\n    roles:\n      production:\n        \
    account: dunepro\n        destinationNodes: [n1, n2]\n  nova:\n    emails: [nova@test]\n    roles:\n      \
    production: {account: novapro, disableNotificationsOverride: true}\n";

fn site(more: &str) -> Site {
    let text = format!("{BASE}{more}{EXPERIMENTS}");
    let path = Path::new("managedTokens.yml");
    let loaded = config::parse(path, &text, &config::Env::default()).unwrap();
    assert!(loaded.site.broken.is_empty(), "{:?}", loaded.site.broken);
    loaded.site
}

/// A site whose runs follow each other.
struct World {
    site: Site,
    notices: Notices,
    edges: BTreeMap<Target, u32>,
    now: Timestamp,
    minute: u16,
    /// What is left of everything that lies anywhere.
    left: SignedDuration,
}

fn service() -> ServiceReport {
    ServiceReport {
        experiment: "dune".into(),
        role: "production".into(),
        service: "dune_production".into(),
        account: "dunepro".into(),
        principal: "dunepro/robot@TEST".into(),
        edges: Vec::new(),
    }
}

fn key() -> ServiceKey {
    ServiceKey {
        experiment: "dune".into(),
        role: "production".into(),
        account: "dunepro".into(),
        principal: "dunepro/robot@TEST".into(),
    }
}

fn push(node: &str) -> Target {
    Target::Push {
        node: node.into(),
        path: "/tmp/vt".into(),
    }
}

fn store() -> Target {
    Target::Store {
        credd: "ap1".into(),
        credential: "dune_production".into(),
    }
}

fn edge(target: Target, failure: Option<&str>) -> Edge {
    Edge {
        target,
        outcome: if failure.is_some() {
            Outcome::Failed
        } else {
            Outcome::Fresh
        },
        reason: None,
        expires: None,
        failure: failure.map(|kind| Failure::text(Stage::Push, kind, "peer", format!("it is {kind}"))),
        silenced: false,
        began: 0.0,
        ended: 1.0,
    }
}

fn report(edges: Vec<Edge>) -> Report {
    Report {
        trace_id: TraceId::random(),
        started: Timestamp::UNIX_EPOCH,
        seconds: 1.0,
        interrupted: false,
        dry_run: false,
        traffic: Traffic::default(),
        shared: Vec::new(),
        services: vec![ServiceReport { edges, ..service() }],
    }
}

impl World {
    fn new(more: &str) -> Self {
        Self {
            site: site(more),
            notices: Notices::new(),
            edges: BTreeMap::new(),
            now: "2026-11-25T12:00:00Z".parse().unwrap(),
            minute: 720,
            left: SignedDuration::from_hours(24 * 6),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let expires = self.now + self.left;
        for (target, failures) in &self.edges {
            let id = edge_id(&service(), target).unwrap();
            let state = EdgeState {
                edge: id.clone(),
                last_attempt: self.now,
                last_success: None,
                consecutive_failures: *failures,
                last_error_kind: None,
                last_error_text: None,
                next_try: None,
            };
            snapshot.edges.insert(id.clone(), state);
            if let Target::Push { node, path } = target {
                let push = Push {
                    service: key(),
                    node: node.clone(),
                    path: path.clone(),
                    kind: String::new(),
                    accessor: String::new(),
                    digest: String::new(),
                    pushed_at: self.now,
                    expires: Some(expires),
                };
                snapshot.pushes.insert(id, push);
            } else if let Target::Store { credd, credential } = target {
                let store = Store {
                    service: key(),
                    credd: credd.clone(),
                    credential_name: credential.clone(),
                    accessor: String::new(),
                    stored_at: self.now,
                    expires,
                    top_time: None,
                    user: String::new(),
                };
                snapshot.stores.insert(id, store);
            }
        }
        snapshot
    }

    /// One run, an hour after the one before; what it tells is delivered and remembered.
    fn run(&mut self, edges: Vec<Edge>) -> Vec<Digest> {
        self.run_of(&report(edges), true)
    }

    fn run_of(&mut self, report: &Report, delivered: bool) -> Vec<Digest> {
        self.now += SignedDuration::from_hours(1);
        for edge in &report.services[0].edges {
            let failures = self.edges.entry(edge.target.clone()).or_default();
            *failures = if edge.outcome == Outcome::Failed {
                *failures + 1
            } else {
                0
            };
        }
        self.edges
            .retain(|target, _| !matches!(target, Target::Setup | Target::Discover { .. }));
        let snapshot = self.snapshot();
        let planned = plan(&Facts {
            site: &self.site,
            snapshot: &snapshot,
            report,
            notices: &self.notices,
            whole: true,
            now: self.now,
            minute: self.minute,
            test: false,
        });
        for (key, notice) in planned.changes {
            match notice {
                Some(notice) => drop(self.notices.insert(key, notice)),
                None => drop(self.notices.remove(&key)),
            }
        }
        for digest in planned.digests.iter().filter(|_| delivered) {
            let outlet = digest.outlet.to_string();
            for problem in &digest.problems {
                let notice = Notice {
                    since: problem.since,
                    told_at: Some(self.now),
                    severity: problem.item.severity.number(),
                    failures: problem.item.failures,
                };
                self.notices
                    .insert((problem.item.subject.to_string(), outlet.clone()), notice);
            }
            for over in &digest.recovered {
                self.notices.remove(&(over.subject.to_string(), outlet.clone()));
            }
        }
        planned.digests
    }
}

fn bad() -> Vec<Edge> {
    vec![
        edge(store(), None),
        edge(push("n1"), Some("refused")),
        edge(push("n2"), None),
    ]
}

fn good() -> Vec<Edge> {
    vec![
        edge(store(), None),
        edge(push("n1"), None),
        edge(push("n2"), None),
    ]
}

fn whys(digests: &[Digest], outlet: &Outlet) -> Vec<Why> {
    let digest = digests.iter().find(|d| d.outlet == *outlet);
    digest
        .map(|d| d.problems.iter().map(|p| p.why).collect())
        .unwrap_or_default()
}

#[test]
fn the_third_failure_is_told_once_and_its_end_too() {
    let mut world = World::new("");
    assert!(world.run(bad()).is_empty() && world.run(bad()).is_empty());
    let told = world.run(bad());
    let outlets: Vec<String> = told.iter().map(|d| d.outlet.to_string()).collect();
    assert_eq!(outlets, ["admins", "experiment/dune"]);
    assert_eq!(told[0].problems.len(), 1);
    let item = &told[0].problems[0].item;
    assert_eq!(
        (item.subject.to_string().as_str(), item.failures),
        ("push/dune/production/n1", 3)
    );
    assert_eq!(item.severity, Severity::Notice);
    assert!(world.run(bad()).is_empty(), "told twice");
    let over = world.run(good());
    assert_eq!(over.len(), 2);
    assert!(
        over.iter()
            .all(|d| d.problems.is_empty() && d.recovered.len() == 1 && d.severity().is_none())
    );
    assert!(world.notices.is_empty(), "{:?}", world.notices);
    assert!(world.run(good()).is_empty());
}

#[test]
fn a_short_failure_is_nobodys_business() {
    let mut world = World::new("");
    for _ in 0..3 {
        assert!(world.run(bad()).is_empty() && world.run(bad()).is_empty() && world.run(good()).is_empty());
    }
}

#[test]
fn reminders_come_once_a_day_and_what_gets_worse_at_once() {
    let mut world = World::new("");
    let mut told = Vec::new();
    for hour in 0..60 {
        for why in whys(&world.run(bad()), &Outlet::Admins) {
            told.push((hour, why));
        }
    }
    assert_eq!(told, [(2, Why::New), (26, Why::Reminder), (50, Why::Reminder)]);
    world.left = SignedDuration::from_hours(71);
    assert_eq!(whys(&world.run(bad()), &Outlet::Admins), [Why::Worse]);
    assert!(world.run(bad()).is_empty());
    world.left = SignedDuration::from_hours(-1);
    let worse = world.run(bad());
    assert_eq!(whys(&worse, &Outlet::Admins), [Why::Worse]);
    assert_eq!(worse[0].severity(), Some(Severity::Critical));
}

#[test]
fn what_ends_today_is_told_at_the_first_failure() {
    let mut world = World::new("");
    world.left = SignedDuration::from_hours(5);
    let told = world.run(bad());
    assert_eq!(whys(&told, &Outlet::Admins), [Why::New]);
    assert_eq!(told[0].severity(), Some(Severity::Critical));
}

#[test]
fn at_night_only_what_is_critical() {
    let mut world = World::new("mtk: {notify: {quietHours: '22:00-07:00'}}\n");
    world.minute = 60;
    for _ in 0..5 {
        assert!(world.run(bad()).is_empty());
    }
    world.minute = 8 * 60;
    assert_eq!(
        whys(&world.run(bad()), &Outlet::Admins),
        [Why::New],
        "held back, not lost"
    );
    world.minute = 60;
    assert!(world.run(good()).is_empty(), "that it is over can wait, too");
    world.minute = 8 * 60;
    assert_eq!(world.run(good())[0].recovered.len(), 1);
    world.minute = 60;
    world.left = SignedDuration::from_hours(5);
    assert_eq!(whys(&world.run(bad()), &Outlet::Admins), [Why::New]);
}

#[test]
fn what_was_not_delivered_is_told_again() {
    let mut world = World::new("");
    for _ in 0..2 {
        world.run(bad());
    }
    for _ in 0..3 {
        let told = world.run_of(&report(bad()), false);
        assert_eq!(whys(&told, &Outlet::Admins), [Why::New]);
    }
}

#[test]
fn people_of_an_experiment_hear_of_their_nodes_and_of_what_they_can_mend() {
    let people = Outlet::Experiment("dune".into());
    let failing = |kind: &str| vec![edge(store(), Some(kind)), edge(push("n1"), None)];
    let told = |more: &str, kind: &str, left: i64| {
        let mut world = World::new(more);
        world.left = SignedDuration::from_hours(left);
        world.run(failing(kind));
        world.run(failing(kind));
        let told = world.run(failing(kind));
        assert!(!whys(&told, &Outlet::Admins).is_empty() || left < 24);
        whys(&told, &people).len()
    };
    assert_eq!(told("", "timeout", 144), 0);
    assert_eq!(told("", "timeout", 48), 1, "it ends soon");
    assert_eq!(told("", "not-onboarded", 144), 1, "somebody has to agree");
    assert_eq!(told("mtk: {notify: {stakeholders: all}}\n", "timeout", 144), 1);
    assert_eq!(
        told("mtk: {notify: {stakeholders: none}}\n", "not-onboarded", 144),
        0
    );
}

#[test]
fn silenced_and_disabled_is_not_told() {
    let mut world = World::new("");
    for _ in 0..5 {
        let mut edges = bad();
        edges[1].silenced = true;
        assert!(world.run(edges).is_empty());
    }
    assert_eq!(
        whys(&world.run(bad()), &Outlet::Admins),
        [Why::New],
        "the silence is over"
    );
    // novapro's role says disableNotificationsOverride
    let mut world = World::new("");
    for _ in 0..5 {
        let mut report = report(bad());
        report.services[0].experiment = "nova".into();
        assert!(world.run_of(&report, true).is_empty());
    }
    let mut world = World::new("disableNotifications: true\n");
    for _ in 0..5 {
        assert!(world.run(bad()).is_empty());
    }
}

#[test]
fn a_service_that_cannot_be_set_up_is_told_at_once_and_again_daily() {
    let mut world = World::new("");
    let broken = || vec![edge(Target::Setup, Some("configuration"))];
    assert_eq!(whys(&world.run(broken()), &Outlet::Admins), [Why::New]);
    let reminders: usize = (0..48)
        .map(|_| whys(&world.run(broken()), &Outlet::Admins).len())
        .sum();
    assert_eq!(reminders, 2);
    let over = world.run(good());
    assert_eq!(over[0].recovered.len(), 1);
    assert!(world.notices.is_empty(), "{:?}", world.notices);
}

#[test]
fn collectors_that_do_not_answer_are_counted_as_well() {
    let mut world = World::new("");
    let lost = || {
        let collectors = "cm.test".into();
        vec![
            edge(Target::Discover { collectors }, Some("unreachable")),
            edge(push("n1"), None),
        ]
    };
    assert!(world.run(lost()).is_empty() && world.run(lost()).is_empty());
    let told = world.run(lost());
    assert_eq!(told[0].problems[0].item.failures, 3);
    assert_eq!(world.run(good())[0].recovered.len(), 1);
    assert!(world.notices.is_empty(), "{:?}", world.notices);
}

#[test]
fn a_node_that_is_not_configured_any_more_is_forgotten() {
    let mut world = World::new("");
    for _ in 0..3 {
        world.run(bad());
    }
    assert_eq!(world.notices.len(), 2);
    assert!(
        world
            .run(vec![edge(store(), None), edge(push("n2"), None)])
            .is_empty()
    );
    assert!(world.notices.is_empty(), "{:?}", world.notices);
}

#[test]
fn a_clock_that_was_ahead_when_somebody_was_told_holds_back_no_reminder() {
    let mut world = World::new("");
    world.now += SignedDuration::from_hours(24 * 30);
    for _ in 0..3 {
        world.run(bad());
    }
    world.now = "2026-11-25T12:00:00Z".parse().unwrap();
    assert_eq!(whys(&world.run(bad()), &Outlet::Admins), [Why::Reminder]);
}
