use std::path::Path;

use pipeline::{Outcome, ServiceReport, Shared, Target, Traffic};
use state::{EdgeId, EdgeState, ServiceKey, Store};

use super::*;

const CONFIG: &str = "
vaultServer: vault.example.org
condorCreddHost: ap1.example.org
kerberosPrincipalPattern: '{{.Account}}/managedtokens/mtk.example.org@EXAMPLE.ORG'
experiments:
  dune: {roles: {production: {account: dunepro, destinationNodes: [n1], desiredUIDOverride: 50001}}}
  mu2e: {roles: {production: {acount: mu2epro}}}
";

fn site() -> Site {
    config::parse(Path::new("managedTokens.yml"), CONFIG, &config::Env::default())
        .unwrap()
        .site
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key(experiment: &str) -> ServiceKey {
    ServiceKey {
        experiment: experiment.into(),
        role: "production".into(),
        account: format!("{experiment}pro"),
        principal: format!("{experiment}pro/managedtokens/mtk.example.org@EXAMPLE.ORG"),
    }
}

fn fared(edge: EdgeId, last_success: Option<i64>, failures: u32) -> (EdgeId, EdgeState) {
    let state = EdgeState {
        edge: edge.clone(),
        last_attempt: at(9_000),
        last_success: last_success.map(at),
        consecutive_failures: failures,
        last_error_kind: None,
        last_error_text: None,
        next_try: None,
    };
    (edge, state)
}

fn file(experiment: &str, path: &str) -> EdgeId {
    EdgeId::Push {
        service: key(experiment),
        node: "n1".into(),
        path: path.into(),
    }
}

fn told(snapshot: &Snapshot, report: Option<&Report>) -> String {
    let site = site();
    let facts = Facts {
        site: &site,
        snapshot,
        report,
        executable: "token-push",
        version: "0.1.0",
        now: at(10_000),
    };
    String::from_utf8(text(&metrics(&facts).unwrap()).unwrap()).unwrap()
}

#[track_caller]
fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no {line}\n{text}");
}

#[test]
fn a_failing_edge_ages_and_does_not_vanish() {
    let store = EdgeId::Store {
        service: key("dune"),
        credd: "ap1.example.org".into(),
        name: "dune_production".into(),
    };
    let mut snapshot = Snapshot::default();
    snapshot.edges.extend([
        fared(store.clone(), Some(1_000), 4),
        fared(file("dune", "/tmp/vt_u50001"), Some(2_000), 0),
        fared(file("dune", "/tmp/vt_u50001-dune_production"), Some(1_500), 2),
    ]);
    snapshot.stores.insert(
        store,
        Store {
            service: key("dune"),
            credd: "ap1.example.org".into(),
            credential_name: "dune_production".into(),
            accessor: "a".into(),
            stored_at: at(1_000),
            expires: at(20_000),
            top_time: None,
            user: "dunepro".into(),
        },
    );
    let text = told(&snapshot, None);
    let edge = r#"{experiment="dune",kind="store",name="dune_production",place="ap1.example.org",role="production"}"#;
    has(
        &text,
        &format!("mtk_edge_last_success_timestamp_seconds{edge} 1000"),
    );
    has(&text, &format!("mtk_edge_expiry_timestamp_seconds{edge} 20000"));
    has(&text, &format!("mtk_edge_consecutive_failures{edge} 4"));
    // the node is as good as its worst file
    has(
        &text,
        r#"managed_tokens_last_token_push_timestamp{node="n1",service="dune_production"} 1500"#,
    );
    has(
        &text,
        r#"managed_tokens_current_push_error_count{node="n1",service="dune_production"} 2"#,
    );
    has(
        &text,
        r#"mtk_service_broken{experiment="mu2e",role="production"} 1"#,
    );
}

#[test]
fn a_node_that_never_had_all_its_files_has_no_success() {
    let mut snapshot = Snapshot::default();
    snapshot.edges.extend([
        fared(file("dune", "/tmp/a"), Some(2_000), 0),
        fared(file("dune", "/tmp/b"), None, 1),
    ]);
    assert!(!told(&snapshot, None).contains("managed_tokens_last_token_push_timestamp{"));
}

#[test]
fn what_is_not_configured_any_more_is_not_told() {
    let mut snapshot = Snapshot::default();
    snapshot.edges.extend([fared(file("nova", "/tmp/a"), Some(1), 0)]);
    assert!(!told(&snapshot, None).contains("nova"));
}

#[test]
fn a_run_is_told_under_the_names_dashboards_know() {
    let edge = |target, began, ended| pipeline::Edge {
        target,
        outcome: Outcome::Done,
        reason: None,
        expires: None,
        failure: None,
        silenced: false,
        began,
        ended,
    };
    let login = Target::Login { vault: "v".into() };
    let store = Target::Store {
        credd: "ap1".into(),
        credential: "dune_production".into(),
    };
    let push = |path: &str| Target::Push {
        node: "n1".into(),
        path: path.into(),
    };
    let report = Report {
        trace_id: pipeline::TraceId::random(),
        started: at(9_000),
        seconds: 5.0,
        interrupted: false,
        dry_run: false,
        traffic: Traffic::default(),
        shared: vec![
            Shared::Ticket {
                service: "dune_production".into(),
                seconds: 0.25,
                failed: false,
            },
            Shared::Session {
                node: "n1".into(),
                seconds: 1.5,
                failed: true,
            },
        ],
        services: vec![ServiceReport {
            experiment: "dune".into(),
            role: "production".into(),
            service: "dune_production".into(),
            account: "dunepro".into(),
            principal: "p".into(),
            edges: vec![
                edge(login, 1.0, 2.0),
                edge(store, 0.5, 3.0),
                edge(push("/tmp/a"), 2.0, 2.5),
                edge(push("/tmp/b"), 2.0, 4.0),
            ],
        }],
    };
    let text = told(&Snapshot::default(), Some(&report));
    for (stage, seconds) in [
        ("setup", "0.5"),
        ("getKerberosTickets", "0.25"),
        ("getTokens", "1"),
        ("storeAndGetTokens", "2.5"),
        ("pingNodes", "1.5"),
        ("pushTokens", "2"),
        ("cleanup", "1"),
    ] {
        has(
            &text,
            &format!(
                r#"managed_tokens_stage_duration_seconds{{executable="token-push",stage="{stage}"}} {seconds}"#
            ),
        );
    }
    has(
        &text,
        r#"managed_tokens_token_push_duration_seconds{node="n1",service="dune_production"} 2"#,
    );
    has(&text, r#"managed_tokens_failed_ping_count{node="n1"} 1"#);
    has(
        &text,
        r#"managed_tokens_ping_duration_seconds_bucket{node="n1",le="2"} 1"#,
    );
    has(&text, "mtk_run_all_fresh 1");
}

#[test]
fn the_page_on_migration_says_of_every_metric_of_the_go_service_what_becomes_of_it() {
    let page = include_str!("../../../../docs/migrate.md");
    let source = include_str!("legacy.rs");
    let names: Vec<&str> = source
        .split("\"managed_tokens_")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/migrate.md has no {name}"
        );
    }
}
