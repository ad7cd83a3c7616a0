//! Export and import, UIDs, and that the documented schema is the real one.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::at;
use credential::{Lifetime, NodeToken};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use state::{
    Consent, EdgeId, ImportError, Learnt, Login, NodeLogin, NodeTokenRecord, Push, ServiceKey, State, Store,
};

fn service() -> ServiceKey {
    common::service("dunepro")
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("mtk")
    }
}

/// One of everything.
async fn full(state: &State) {
    let store = Store {
        service: service(),
        credd: "ap1".into(),
        credential_name: "dune_production".into(),
        accessor: "acc".into(),
        stored_at: Timestamp::from_microsecond(1_795_000_000_123_456).unwrap(),
        expires: at(1_797_000_000),
        top_time: None,
        user: "dunepro@mtk.test".into(),
    };
    state.record_store(&store).await.unwrap();
    let login = Login {
        service: service(),
        accessor: "acc".into(),
        issued: at(1),
        expires: at(2),
    };
    state.record_login(&login).await.unwrap();
    let push = Push {
        service: service(),
        node: "n1".into(),
        path: "/tmp/vt_u50001".into(),
        kind: "vault-token-default".into(),
        accessor: "child".into(),
        digest: state.digest(b"x"),
        pushed_at: at(5),
        expires: None,
    };
    state.record_push(&push).await.unwrap();
    let life = Lifetime::new(at(1000), SignedDuration::from_hours(168));
    let token = NodeToken::new("hvs.very-secret".into(), life).unwrap();
    state.save_node_token(&service(), &token).unwrap();
    let record = NodeTokenRecord {
        service: service(),
        accessor: "child".into(),
        parent_accessor: "acc".into(),
        issued: at(1000),
        expires: at(2000),
    };
    state.record_node_token(&record).await.unwrap();
    let consent = Consent {
        service: service(),
        person: "a person with \"quotes\"".into(),
        at: at(7),
        expires: Some(at(8)),
        granted: vec!["wlcg.groups:/dune".into()],
        missing: Vec::new(),
    };
    state.record_consent(&consent).await.unwrap();
    let edge = EdgeId::Login { service: service() };
    state
        .record_failure(&edge, at(3), "k", "t", Some(at(4)))
        .await
        .unwrap();
    state.learn_uid("dunepro", 50001, "ferry", at(3)).await.unwrap();
    let login = NodeLogin {
        method: "publickey".into(),
        since: at(9),
    };
    state.record_node_login("n1", 22, Some(&login)).await.unwrap();
    let elsewhere = ("n1", 2222);
    for login in [Some(&login), None] {
        state
            .record_node_login(elsewhere.0, elsewhere.1, login)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_goes_out_comes_in_again_the_same() {
    let (here, there) = (Dir::new(), Dir::new());
    let (state, _) = State::open(&here.path()).await.unwrap();
    full(&state).await;
    let document = state.export().await.unwrap();
    let text = serde_json::to_string_pretty(&document).unwrap();
    assert!(!text.contains("hvs."), "{text}");
    assert!(text.contains("2026-11-18T"), "times are for people: {text}");
    let document: Value = serde_json::from_str(&text).unwrap();

    let (other, _) = State::open(&there.path()).await.unwrap();
    let rows = other.import(&document, false).await.unwrap();
    assert_eq!(
        rows, 10,
        "service, login, node_token, store, push, consent, edge, attempt, uid, node"
    );
    assert_eq!(other.snapshot().await.unwrap(), state.snapshot().await.unwrap());
    assert_eq!(other.consents().await.unwrap(), state.consents().await.unwrap());
    assert_eq!(other.uids().await.unwrap(), state.uids().await.unwrap());
    let nodes = state.node_logins().await.unwrap();
    assert_eq!(nodes[&("n1".to_owned(), 22)].method, "publickey");
    assert_eq!(other.node_logins().await.unwrap(), nodes);
    assert_eq!(other.export().await.unwrap(), document);

    let again = other.import(&document, false).await;
    assert!(
        matches!(again, Err(ImportError::NotEmpty { rows: 10 })),
        "{again:?}"
    );
    other.import(&document, true).await.unwrap();
    assert_eq!(other.export().await.unwrap(), document);
    let about = other.about().await.unwrap();
    assert_eq!((about.integrity.as_str(), about.held), ("ok", None));
    assert!(about.rows.contains(&("store".into(), 1)));
}

#[tokio::test]
async fn a_state_that_knows_no_service_is_not_empty_for_that() {
    let (here, there) = (Dir::new(), Dir::new());
    let (state, _) = State::open(&here.path()).await.unwrap();
    full(&state).await;
    let document = state.export().await.unwrap();
    let (other, _) = State::open(&there.path()).await.unwrap();
    other.learn_uid("novapro", 50009, "ferry", at(3)).await.unwrap();
    let edge = EdgeId::Login { service: service() };
    other
        .record_failure(&edge, at(3), "k", "t", Some(at(4)))
        .await
        .unwrap();
    let before = other.export().await.unwrap();
    let refused = other.import(&document, false).await;
    assert!(
        matches!(refused, Err(ImportError::NotEmpty { rows: 3 })),
        "{refused:?}"
    );
    assert_eq!(other.export().await.unwrap(), before);
    other.import(&document, true).await.unwrap();
    assert_eq!(other.export().await.unwrap(), document);
}

#[tokio::test]
async fn what_does_not_fit_changes_nothing() {
    let dir = Dir::new();
    let (state, _) = State::open(&dir.path()).await.unwrap();
    full(&state).await;
    let good = state.export().await.unwrap();
    let changed = |path: &str, value: Value| {
        let mut document = good.clone();
        *document.pointer_mut(path).unwrap() = value;
        document
    };
    for (bad, says) in [
        (json!([]), "not an export"),
        (json!({"format": "mtk state"}), "no version"),
        (changed("/version", json!(2)), "version 2"),
        (changed("/tables", json!({"sqlite_schema": []})), "no such table"),
        (
            changed("/tables/store/0/expires", json!("tomorrow")),
            "store[0] does not fit: expires",
        ),
        (changed("/tables/store/0/expires", json!(1.5)), "no whole number"),
        (
            changed("/tables/store/0/expires", json!(i64::MAX)),
            "is not a time",
        ),
        (changed("/tables/store/0/service_id", json!(99)), "FOREIGN KEY"),
        (
            changed("/tables/store/0", json!({"credd) --": 1})),
            "is no column",
        ),
        (changed("/tables/store/0", json!({"speed": 1})), "speed"),
        (
            changed("/tables/edge/0/id", json!("no edge")),
            "is not the name of an edge",
        ),
        (changed("/tables/uid/0/uid", json!("x")), "uid[0] does not fit"),
        (
            changed("/tables/attempt/0/outcome", json!("flew")),
            "no try ends as",
        ),
    ] {
        let error = state.import(&bad, true).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error} does not say {says}");
        assert_eq!(state.export().await.unwrap(), good, "{error}");
    }
}

#[tokio::test]
async fn a_uid_that_drifts_is_an_alarm_and_not_an_overwrite() {
    let dir = Dir::new();
    let (state, _) = State::open(&dir.path()).await.unwrap();
    let learn = |uid, source, second| state.learn_uid("dunepro", uid, source, at(second));
    assert_eq!(learn(50001, "ferry", 1).await.unwrap(), Learnt::New);
    assert_eq!(learn(50001, "ferry", 2).await.unwrap(), Learnt::Same);
    assert_eq!(
        learn(666, "ferry", 3).await.unwrap(),
        Learnt::Drift { known: 50001 }
    );
    let known = state.uids().await.unwrap()["dunepro"].clone();
    assert_eq!((known.uid, known.since, known.confirmed), (50001, at(1), at(2)));
    assert_eq!(known.drift.map(|d| (d.uid, d.at)), Some((666, at(3))));
    // another source says what is known: the first one has not taken it back
    learn(50001, "nss", 4).await.unwrap();
    let known = state.uids().await.unwrap()["dunepro"].clone();
    assert!(known.drift.is_some() && known.confirmed == at(4));
    learn(50001, "ferry", 5).await.unwrap();
    assert_eq!(state.uids().await.unwrap()["dunepro"].drift, None);
    assert!(!state.accept_uid("dunepro").await.unwrap());
    learn(50002, "ferry", 6).await.unwrap();
    assert!(state.accept_uid("dunepro").await.unwrap());
    let known = state.uids().await.unwrap()["dunepro"].clone();
    assert_eq!((known.uid, known.since, known.drift), (50002, at(6), None));
}

/// Columns by table, as docs/state.md has them.
fn documented() -> BTreeMap<String, Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state.md");
    let text = std::fs::read_to_string(path).unwrap();
    let schema = text.split("\n## Schema\n").nth(1).unwrap();
    let schema = schema.split("\n## ").next().unwrap();
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in schema.lines() {
        if let Some(rest) = line.strip_prefix('`')
            && let Some((name, _)) = rest.split_once("`:")
        {
            table = name.to_owned();
            tables.insert(table.clone(), Vec::new());
        } else if let Some(rest) = line.strip_prefix("| `") {
            let names = rest.split('|').next().unwrap();
            let names = names.split('`').step_by(2).map(str::to_owned);
            tables
                .get_mut(&table)
                .unwrap()
                .extend(names.filter(|n| !n.trim().is_empty()));
        }
    }
    tables
}

#[tokio::test]
async fn the_documented_schema_is_the_real_one() {
    let dir = Dir::new();
    let (state, _) = State::open(&dir.path()).await.unwrap();
    state.close().await;
    let options = SqliteConnectOptions::new().filename(dir.path().join("state.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let query = "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
        WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\' ORDER BY m.name, c.cid";
    let mut real: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in sqlx::query(query).fetch_all(&mut connection).await.unwrap() {
        real.entry(row.get(0)).or_default().push(row.get(1));
    }
    let documented = documented();
    assert_eq!(
        documented.keys().collect::<Vec<_>>(),
        real.keys().collect::<Vec<_>>(),
        "docs/state.md has other tables"
    );
    for (table, columns) in real {
        assert_eq!(
            documented[&table], columns,
            "docs/state.md has other columns of {table}"
        );
    }
}
