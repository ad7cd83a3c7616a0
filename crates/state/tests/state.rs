//! The state in real directories, with real SQLite.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use common::{at, service};
use credential::{Lifetime, NodeToken, VaultToken};
use jiff::SignedDuration;
use state::{EdgeId, Error, Login, NodeTokenRecord, Opened, Push, State, Store};

fn store(account: &str, credd: &str, stored_at: i64) -> Store {
    Store {
        service: service(account),
        credd: credd.into(),
        credential_name: "dune_production".into(),
        accessor: "acc".into(),
        stored_at: at(stored_at),
        expires: at(stored_at + 2_419_200),
        top_time: Some(at(stored_at + 1)),
        user: format!("{account}@mtk.test"),
    }
}

fn push(account: &str, node: &str) -> Push {
    Push {
        service: service(account),
        node: node.into(),
        path: "/tmp/vt_u50001".into(),
        kind: "vault-token".into(),
        accessor: "child".into(),
        digest: "00".into(),
        pushed_at: at(5),
        expires: Some(at(9)),
    }
}

fn node_token(text: &str) -> NodeToken {
    NodeToken::new(
        text.into(),
        Lifetime::new(at(1000), SignedDuration::from_hours(168)),
    )
    .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

struct Dir {
    _keep: tempfile::TempDir,
    path: PathBuf,
}

fn dir() -> Dir {
    let keep = tempfile::tempdir().unwrap();
    let path = keep.path().join("var/mtk");
    Dir { _keep: keep, path }
}

#[tokio::test]
async fn what_is_recorded_is_there_after_opening_again() {
    let dir = dir();
    let (state, opened) = State::open(&dir.path).await.unwrap();
    assert_eq!(opened, Opened::Fresh);
    let login = |accessor: &str, issued| Login {
        service: service("dunepro"),
        accessor: accessor.into(),
        issued: at(issued),
        expires: at(issued + 100),
    };
    let record = NodeTokenRecord {
        service: service("dunepro"),
        accessor: "child".into(),
        parent_accessor: "b".into(),
        issued: "2026-11-24T20:05:29.123456Z".parse().unwrap(),
        expires: at(2_000_000_000),
    };
    state.record_login(&login("a", 10)).await.unwrap();
    state.record_login(&login("b", 20)).await.unwrap();
    state.record_node_token(&record).await.unwrap();
    state.record_store(&store("dunepro", "ap1", 10)).await.unwrap();
    state.record_store(&store("dunepro", "ap1", 20)).await.unwrap();
    state.record_store(&store("dunepro", "ap2", 20)).await.unwrap();
    state
        .record_pushes(&[push("dunepro", "n1"), push("dunepro", "n2")])
        .await
        .unwrap();
    state.close().await;

    let (state, opened) = State::open(&dir.path).await.unwrap();
    assert_eq!(opened, Opened::Existing);
    let all = state.snapshot().await.unwrap();
    let accessors: Vec<_> = all.logins[&service("dunepro")]
        .iter()
        .map(|l| l.accessor.as_str())
        .collect();
    assert_eq!(accessors, ["a", "b"]);
    assert_eq!(all.last_login(&service("dunepro")), Some(&login("b", 20)));
    assert_eq!(all.node_tokens[&service("dunepro")], record);
    assert_eq!(all.stores.len(), 2);
    assert_eq!(
        all.store(&service("dunepro"), "ap1", "dune_production"),
        Some(&store("dunepro", "ap1", 20))
    );
    assert_eq!(
        all.push(&service("dunepro"), "n2", "/tmp/vt_u50001"),
        Some(&push("dunepro", "n2"))
    );
    assert_eq!(state.prune_logins(at(115)).await.unwrap(), 1);
    state
        .forget_store(&service("dunepro"), "ap1", "dune_production")
        .await
        .unwrap();
    state.forget_node_token(&service("dunepro")).await.unwrap();
    let all = state.snapshot().await.unwrap();
    assert_eq!(
        (
            all.logins[&service("dunepro")].len(),
            all.stores.len(),
            all.node_tokens.len()
        ),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn services_of_one_name_and_different_accounts_stay_apart() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    for account in ["nearpro", "farpro"] {
        state.record_store(&store(account, "ap1", 1)).await.unwrap();
        state.record_push(&push(account, "n1")).await.unwrap();
        state
            .save_node_token(&service(account), &node_token(&format!("hvs.{account}")))
            .unwrap();
    }
    let all = state.snapshot().await.unwrap();
    assert_eq!((all.stores.len(), all.pushes.len()), (2, 2));
    assert_eq!(
        state.node_token(&service("farpro")).unwrap().unwrap().expose(),
        "hvs.farpro"
    );
    assert_eq!(
        state.node_token(&service("nearpro")).unwrap().unwrap().expose(),
        "hvs.nearpro"
    );
}

#[tokio::test]
async fn failures_count_until_a_success() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    let edge = EdgeId::Store {
        service: service("dunepro"),
        credd: "ap1".into(),
        name: "dune_production".into(),
    };
    state.record_success(&edge, at(1)).await.unwrap();
    state
        .record_failure(&edge, at(2), "timeout", "no\nanswer", None)
        .await
        .unwrap();
    state
        .record_failure(&edge, at(3), "refused", "no", Some(at(60)))
        .await
        .unwrap();
    let all = state.snapshot().await.unwrap();
    let known = &all.edges[&edge];
    assert_eq!((known.last_attempt, known.last_success), (at(3), Some(at(1))));
    assert_eq!((known.consecutive_failures, known.next_try), (2, Some(at(60))));
    assert_eq!(known.last_error_kind.as_deref(), Some("refused"));
    state.record_success(&edge, at(4)).await.unwrap();
    let known = state.snapshot().await.unwrap().edges[&edge].clone();
    assert_eq!(
        (known.consecutive_failures, known.next_try, known.last_error_text),
        (0, None, None)
    );
}

#[tokio::test]
async fn nothing_in_the_directory_is_for_others() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    state.record_push(&push("dunepro", "n1")).await.unwrap();
    state
        .save_node_token(&service("dunepro"), &node_token("hvs.x"))
        .unwrap();
    assert_eq!(mode(&dir.path), 0o700);
    let mut seen = 0;
    let mut open = vec![dir.path.clone()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path) & 0o077, 0, "{path:?}");
            seen += 1;
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    assert!(seen >= 4, "{seen}");
}

#[tokio::test]
async fn no_token_is_in_the_database() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    let secret = "hvs.CAESIJ-a-token-nobody-else-has";
    state
        .save_node_token(&service("dunepro"), &node_token(secret))
        .unwrap();
    let mut record = push("dunepro", "n1");
    record.digest = state.digest(secret.as_bytes());
    state.record_push(&record).await.unwrap();
    state.close().await;
    for name in ["state.db", "digest-key"] {
        let bytes = fs::read(dir.path.join(name)).unwrap();
        assert!(
            !bytes.windows(16).any(|w| secret.as_bytes().starts_with(w)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_digest_is_stable_here_and_different_elsewhere() {
    let (here, there) = (dir(), dir());
    let (state, _) = State::open(&here.path).await.unwrap();
    let (other, _) = State::open(&there.path).await.unwrap();
    let digest = state.digest(b"hvs.x");
    assert_eq!(digest.len(), 64);
    assert_ne!(digest, other.digest(b"hvs.x"));
    assert_ne!(digest, state.digest(b"hvs.y"));
    state.close().await;
    let (state, _) = State::open(&here.path).await.unwrap();
    assert_eq!(digest, state.digest(b"hvs.x"));
    let reader = State::open_read_only(&here.path).await.unwrap();
    assert_eq!(digest, reader.digest(b"hvs.x"));
}

#[tokio::test]
async fn a_node_token_is_replaced_whole_and_removed() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    let who = service("dunepro");
    assert!(state.node_token(&who).unwrap().is_none());
    state.remove_node_token(&who).unwrap();
    state.save_node_token(&who, &node_token("hvs.one")).unwrap();
    let file = fs::read_dir(dir.path.join("node-tokens"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    // one that was killed while writing left this
    let beside = PathBuf::from(format!("{}.new", file.display()));
    fs::write(&beside, "half").unwrap();
    state.save_node_token(&who, &node_token("hvs.two")).unwrap();
    assert!(!beside.exists());
    let token = state.node_token(&who).unwrap().unwrap();
    assert_eq!(
        (token.expose(), token.lifetime().until()),
        ("hvs.two", at(1000 + 604_800))
    );
    state.remove_node_token(&who).unwrap();
    assert!(state.node_token(&who).unwrap().is_none());
}

#[tokio::test]
async fn a_token_file_that_is_not_ours_alone_is_refused() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    let who = service("dunepro");
    let save = || state.save_node_token(&who, &node_token("hvs.one")).unwrap();
    save();
    let file = fs::read_dir(dir.path.join("node-tokens"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let refused = |why: &str| match state.node_token(&who) {
        Err(Error::Untrusted { why: said, .. }) => assert!(said.contains(why), "{said}"),
        other => panic!("{why}: {other:?}"),
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    refused("0640");
    save();
    fs::hard_link(&file, dir.path.join("second")).unwrap();
    refused("second name");
    fs::remove_file(&file).unwrap();
    symlink(dir.path.join("second"), &file).unwrap();
    refused("symbolic link");
    // writing goes beside and renames: the link is replaced, not followed
    save();
    assert_eq!(state.node_token(&who).unwrap().unwrap().expose(), "hvs.one");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(state.node_token(&who).is_err());
    fs::remove_dir(&file).unwrap();
    fs::write(&file, vec![b'x'; 100_000]).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    refused("longer");
    fs::write(&file, "rubbish").unwrap();
    assert!(matches!(state.node_token(&who), Err(Error::Unreadable { .. })));
}

#[tokio::test]
async fn a_directory_others_can_enter_is_refused() {
    let dir = dir();
    fs::create_dir_all(&dir.path).unwrap();
    fs::set_permissions(&dir.path, fs::Permissions::from_mode(0o755)).unwrap();
    let error = State::open(&dir.path).await.unwrap_err();
    assert!(
        matches!(&error, Error::Untrusted { why, .. } if why.contains("0755")),
        "{error}"
    );
    fs::set_permissions(&dir.path, fs::Permissions::from_mode(0o700)).unwrap();
    let link = dir.path.with_file_name("link");
    symlink(&dir.path, &link).unwrap();
    assert!(State::open(&link).await.is_err());
    assert!(State::open(&dir.path).await.is_ok());
}

#[tokio::test]
async fn a_damaged_database_is_set_aside() {
    for damage in ["header", "middle", "not a database"] {
        let dir = dir();
        let file = dir.path.join("state.db");
        let (state, _) = State::open(&dir.path).await.unwrap();
        for n in 0..200 {
            state
                .record_push(&push("dunepro", &format!("node{n}")))
                .await
                .unwrap();
        }
        state.close().await;
        let mut bytes = fs::read(&file).unwrap();
        match damage {
            "header" => bytes[..32].fill(0x55),
            "middle" => bytes[4096 * 2..].fill(0x55),
            _ => bytes = b"this is no database, whatever its name says".repeat(100),
        }
        fs::write(&file, bytes).unwrap();
        let (state, opened) = State::open(&dir.path).await.unwrap();
        let Opened::Recovered { aside } = opened else {
            panic!("{damage}: {opened:?}")
        };
        assert!(
            aside
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("state.db.damaged-2"),
            "{aside:?}"
        );
        assert!(aside.exists());
        assert!(state.snapshot().await.unwrap().pushes.is_empty());
        state.record_push(&push("dunepro", "n1")).await.unwrap();
        state.close().await;
        let (_, opened) = State::open(&dir.path).await.unwrap();
        assert_eq!(opened, Opened::Existing);
    }
}

#[tokio::test]
async fn a_log_left_by_a_killed_process_is_replayed() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    state.record_push(&push("dunepro", "n1")).await.unwrap();
    // what a kill would leave: the files as they are now, the log not yet written back
    let copy = dir.path.with_file_name("copy");
    fs::create_dir(&copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["state.db", "state.db-wal", "digest-key"] {
        fs::copy(dir.path.join(name), copy.join(name)).unwrap();
    }
    assert!(fs::metadata(copy.join("state.db-wal")).unwrap().len() > 0);
    let (state, opened) = State::open(&copy).await.unwrap();
    assert_eq!(opened, Opened::Existing);
    assert_eq!(state.snapshot().await.unwrap().pushes.len(), 1);
}

#[tokio::test]
async fn an_empty_file_is_a_state_not_yet_begun() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    state.close().await;
    fs::write(dir.path.join("state.db"), "").unwrap();
    let (_, opened) = State::open(&dir.path).await.unwrap();
    assert_eq!(opened, Opened::Fresh);
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    state.close().await;
    let file = dir.path.join("state.db");
    let options = SqliteConnectOptions::new().filename(&file);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("PRAGMA application_id = 7")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert!(matches!(
        State::open(&dir.path).await,
        Err(Error::Foreign { id: 7, .. })
    ));
    assert!(matches!(
        State::open_read_only(&dir.path).await,
        Err(Error::Foreign { .. })
    ));
    assert!(file.exists());
}

#[tokio::test]
async fn a_later_versions_schema_is_not_touched() {
    use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    state.close().await;
    let options = SqliteConnectOptions::new().filename(dir.path.join("state.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'later', 1, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    assert!(matches!(State::open(&dir.path).await, Err(Error::Schema { .. })));
}

#[tokio::test]
async fn reading_begins_nothing() {
    let dir = dir();
    assert!(matches!(
        State::open_read_only(&dir.path).await,
        Err(Error::NoState { .. })
    ));
    assert!(!dir.path.exists());
    fs::create_dir_all(&dir.path).unwrap();
    fs::set_permissions(&dir.path, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(
        State::open_read_only(&dir.path).await,
        Err(Error::NoState { .. })
    ));
    assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 0);

    let (state, _) = State::open(&dir.path).await.unwrap();
    state.record_push(&push("dunepro", "n1")).await.unwrap();
    // beside an open writer
    let reader = State::open_read_only(&dir.path).await.unwrap();
    assert_eq!(reader.snapshot().await.unwrap().pushes.len(), 1);
    assert!(reader.record_push(&push("dunepro", "n2")).await.is_err());
}

#[tokio::test]
async fn many_at_once_all_get_recorded() {
    let dir = dir();
    let (state, _) = State::open(&dir.path).await.unwrap();
    let work: Vec<_> = (0..200)
        .map(|n| {
            let state = state.clone();
            tokio::spawn(async move { state.record_push(&push("dunepro", &format!("n{n}"))).await })
        })
        .collect();
    for one in work {
        one.await.unwrap().unwrap();
    }
    assert_eq!(state.snapshot().await.unwrap().pushes.len(), 200);
}
