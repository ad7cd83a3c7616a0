//! The lock between processes, and the Go service's database.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use state::{Error, GO_APPLICATION_ID, LockError, go_uids, lock};

fn now() -> Timestamp {
    "2026-11-24T20:05:29Z".parse().unwrap()
}

#[test]
fn one_holds_and_the_other_learns_who() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mtk");
    let held = lock(&dir, now()).unwrap();
    match lock(&dir, now()) {
        Err(LockError::Held(by)) => {
            assert_eq!(by.pid, Some(std::process::id()));
            assert_eq!(by.since, Some(now()));
            assert!(by.host.is_some());
            assert!(
                by.to_string().starts_with("another mtk is at work, process "),
                "{by}"
            );
        }
        other => panic!("{other:?}"),
    }
    drop(held);
    assert!(lock(&dir, now()).is_ok());
}

#[test]
fn the_lock_of_one_that_died_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mtk");
    drop(lock(&dir, now()).unwrap());
    let file = dir.join("lock");
    let mut holder = std::process::Command::new("flock")
        .arg(&file)
        .args(["sleep", "60"])
        .spawn()
        .unwrap();
    let taken = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        matches!(lock(&dir, now()), Err(LockError::Held(_)))
    });
    assert!(taken);
    // flock keeps the lock in its child as well
    let child = fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    std::process::Command::new("kill")
        .args(["-9", child.trim()])
        .status()
        .unwrap();
    let free = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        lock(&dir, now()).is_ok()
    });
    assert!(free);
}

#[test]
fn a_lock_file_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mtk");
    drop(lock(&dir, now()).unwrap());
    fs::set_permissions(dir.join("lock"), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(
        lock(&dir, now()),
        Err(LockError::Failed(Error::Untrusted { .. }))
    ));
}

/// The tables as the Go service makes them (its schema version 1).
async fn go_database(path: &Path, application_id: i64) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let sql = format!(
        "PRAGMA application_id = {application_id}; PRAGMA user_version = 1;
         CREATE TABLE uids (username STRING UNIQUE NOT NULL PRIMARY KEY, uid INTEGER UNIQUE NOT NULL);
         INSERT INTO uids VALUES ('dunepro', 50001), ('mu2epro', 50004), ('1234', 7), ('root', 0);"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

#[tokio::test]
async fn uids_are_read_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uid.db");
    go_database(&path, GO_APPLICATION_ID).await.close().await.unwrap();
    let before = (
        fs::read(&path).unwrap(),
        fs::metadata(&path).unwrap().modified().unwrap(),
    );
    let uids = go_uids(&path).await.unwrap();
    let uids: Vec<_> = uids.iter().map(|(a, u)| (a.as_str(), *u)).collect();
    assert_eq!(uids, [("1234", 7), ("dunepro", 50001), ("mu2epro", 50004)]);
    assert_eq!(
        before,
        (
            fs::read(&path).unwrap(),
            fs::metadata(&path).unwrap().modified().unwrap()
        )
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn uids_are_read_beside_a_reader_and_from_a_file_we_may_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uid.db");
    let other = go_database(&path, GO_APPLICATION_ID).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(go_uids(&path).await.unwrap().len(), 3);
    other.close().await.unwrap();
}

#[tokio::test]
async fn what_is_not_the_go_services_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uid.db");
    assert!(matches!(go_uids(&path).await, Err(Error::NoState { .. })));
    assert!(!path.exists());
    go_database(&path, 1).await.close().await.unwrap();
    assert!(matches!(go_uids(&path).await, Err(Error::Foreign { id: 1, .. })));
    fs::write(
        &path,
        "no database at all, but long enough to have a header of its own ".repeat(4),
    )
    .unwrap();
    assert!(matches!(go_uids(&path).await, Err(Error::Database { .. })));
}
