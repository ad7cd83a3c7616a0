//! Files of the state directory with any bytes in them: mtk goes on, says what it did, and loses nothing it could read.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use credential::{Lifetime, NodeToken};
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};
use state::{EdgeId, Error, Opened, ServiceKey, State, Store};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn service(n: usize) -> ServiceKey {
    ServiceKey {
        experiment: "dune".into(),
        role: format!("role{n}"),
        account: "dunepro".into(),
        principal: "dunepro@MTK.TEST".into(),
    }
}

async fn fill(dir: &Path) {
    let (state, _) = State::open(dir).await.unwrap();
    for n in 0..40 {
        let service = service(n);
        let store = Store {
            service: service.clone(),
            credd: "ap1".into(),
            credential_name: "dune_production".into(),
            accessor: "acc".into(),
            stored_at: at(1),
            expires: at(2_419_201),
            top_time: None,
            user: "dunepro@mtk.test".into(),
        };
        state.record_store(&store).await.unwrap();
        state
            .record_failure(&EdgeId::Login { service }, at(1), "kind", "text", None)
            .await
            .unwrap();
    }
    let life = Lifetime::new(at(1), SignedDuration::from_hours(168));
    let token = NodeToken::new("hvs.x".into(), life).unwrap();
    state.save_node_token(&service(0), &token).unwrap();
    state.close().await;
}

fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
}

/// Opens, writes and reads: as it was, begun anew with the old one set aside, or refused with everything where it was.
async fn survives(dir: &Path, bytes: &[u8]) -> Opened {
    let database = dir.join("state.db");
    match State::open(dir).await {
        Ok((state, opened)) => {
            let before = state.snapshot().await.unwrap();
            match &opened {
                Opened::Recovered { aside } => {
                    assert!(aside.exists());
                    assert!(before.edges.is_empty(), "a new one is empty");
                }
                Opened::Fresh => assert!(bytes.is_empty()),
                Opened::Existing => {}
            }
            let login = EdgeId::Login { service: service(1) };
            state.record_success(&login, at(9)).await.unwrap();
            state.close().await;
            let (again, found) = State::open(dir).await.unwrap();
            assert_eq!(found, Opened::Existing);
            assert_eq!(
                again.snapshot().await.unwrap().edges[&login].last_success,
                Some(at(9))
            );
            again.close().await;
            opened
        }
        // another program's, or of a schema that is not ours: not for us to put away
        Err(Error::Foreign { .. } | Error::Schema { .. }) => {
            assert!(database.exists());
            Opened::Existing
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mtk")
    }
}

fn filled() -> (Dir, Vec<u8>) {
    let dir = Dir::new();
    runtime().block_on(fill(&dir.path()));
    let bytes = fs::read(dir.path().join("state.db")).unwrap();
    (dir, bytes)
}

#[test]
fn a_database_cut_anywhere() {
    let (dir, whole) = filled();
    let database = dir.path().join("state.db");
    for n in 0..24 {
        let cut = whole.len() * n / 24 + n;
        write(&database, &whole[..cut]);
        runtime().block_on(survives(&dir.path(), &whole[..cut]));
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("state.db")
            {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn a_database_of_any_bytes(bytes in vec(any::<u8>(), 0..3000), header in any::<bool>()) {
        let dir = Dir::new();
        runtime().block_on(fill(&dir.path()));
        let mut content = if header { b"SQLite format 3\0".to_vec() } else { Vec::new() };
        content.extend(bytes);
        write(&dir.path().join("state.db"), &content);
        runtime().block_on(survives(&dir.path(), &content));
    }

    #[test]
    fn a_database_with_bytes_changed_anywhere(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let (dir, mut bytes) = filled();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        write(&dir.path().join("state.db"), &bytes);
        runtime().block_on(survives(&dir.path(), &bytes));
    }

    #[test]
    fn a_log_of_any_bytes(wal in vec(any::<u8>(), 0..9000), shm in vec(any::<u8>(), 0..40_000)) {
        let (dir, bytes) = filled();
        write(&dir.path().join("state.db-wal"), &wal);
        write(&dir.path().join("state.db-shm"), &shm);
        let opened = runtime().block_on(survives(&dir.path(), &bytes));
        prop_assert_eq!(opened, Opened::Existing, "a log that is none costs nothing");
    }

    #[test]
    fn small_files_of_any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        let (dir, _) = filled();
        let dir = dir.path();
        let tokens: Vec<PathBuf> = fs::read_dir(dir.join("node-tokens"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        prop_assert_eq!(tokens.len(), 1);
        write(&tokens[0], &bytes);
        write(&dir.join("digest-key"), &bytes);
        write(&dir.join("lock"), &bytes);
        runtime().block_on(async {
            let (state, opened) = State::open(&dir).await.unwrap();
            assert_eq!(opened, Opened::Existing);
            // no token of ours, and no panic
            let read = state.node_token(&service(0));
            assert!(matches!(read, Err(Error::Unreadable { .. })), "{read:?}");
            assert!(!state.digest(b"x").is_empty());
            let held = state::lock(&dir, at(5)).unwrap();
            let second = state::lock(&dir, at(6)).unwrap_err();
            assert!(second.to_string().contains("since 1970-01-01T00:00:05Z"), "{second}");
            drop(held);
            state.close().await;
        });
    }
}

/// What SQLite holds to be sound, and mtk never wrote.
#[tokio::test]
async fn a_sound_database_that_talks_nonsense_is_set_aside() {
    use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
    for nonsense in [
        "UPDATE store SET expires = 9223372036854775807",
        "UPDATE edge SET id = 'no edge' WHERE rowid = (SELECT min(rowid) FROM edge)",
        "UPDATE store SET credd = CAST(x'ff' AS TEXT)",
        "ALTER TABLE store RENAME COLUMN expires TO expirez",
        "DROP TABLE push",
        "INSERT INTO uid VALUES ('a', -1, 'go', 0, 0, NULL, NULL, NULL)",
    ] {
        let dir = Dir::new();
        fill(&dir.path()).await;
        let options = SqliteConnectOptions::new().filename(dir.path().join("state.db"));
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(nonsense).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let (state, opened) = State::open(&dir.path()).await.unwrap();
        assert!(
            matches!(opened, Opened::Recovered { .. }),
            "{nonsense}: {opened:?}"
        );
        assert!(state.snapshot().await.unwrap().stores.is_empty());
        // the token in its file is as good as ever
        assert!(state.node_token(&service(0)).unwrap().is_some());
    }
}
