//! The Go service's database, which is read and never written.

use std::{collections::BTreeMap, path::Path, time::Duration};

use sqlx::{
    Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::Error;

/// What the Go service writes into the header of its file.
pub const GO_APPLICATION_ID: i64 = 0x5da8_2553;

/// What the Go service remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GoDatabase {
    /// UIDs by account, as `refresh-uids-from-ferry` last left them.
    pub uids: BTreeMap<String, u32>,
    /// The names of its services, as at HTCondor.
    pub services: Vec<String>,
    /// The names of its nodes.
    pub nodes: Vec<String>,
    /// Consecutive failures to set a service up, where there are any.
    pub setup_errors: BTreeMap<String, u32>,
    /// Consecutive failures to push, by service and node, where there are any.
    pub push_errors: BTreeMap<(String, String), u32>,
}

/// UIDs by account; see [`go_database`].
///
/// # Errors
/// As [`go_database`].
pub async fn go_uids(db: &Path) -> Result<BTreeMap<String, u32>, Error> {
    Ok(go_database(db).await?.uids)
}

/// Everything in the Go service's file. Tables that an older version of it did not have count as empty.
///
/// The file is opened read-only; while the Go service writes to it, this waits up to two seconds.
///
/// # Errors
/// [`Error::NoState`] if there is no such file, [`Error::Foreign`] if it is not the Go service's, [`Error::Database`]
/// if it cannot be read.
pub async fn go_database(db: &Path) -> Result<GoDatabase, Error> {
    if !db.is_file() {
        return Err(Error::NoState { path: db.to_owned() });
    }
    let failed = |source| Error::Database {
        path: db.to_owned(),
        source,
    };
    let options = SqliteConnectOptions::new()
        .filename(db)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(2));
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
    let read = async {
        check(&mut connection, db).await?;
        let rest = tables(&mut connection).await.map_err(failed)?;
        Ok(rest)
    }
    .await;
    // it was only read from
    drop(connection.close().await);
    read
}

async fn tables(connection: &mut SqliteConnection) -> Result<GoDatabase, sqlx::Error> {
    let mut go = GoDatabase {
        uids: uids(connection).await?,
        ..GoDatabase::default()
    };
    let count = |row: &SqliteRow, column| -> Result<u32, sqlx::Error> {
        let count: i64 = row.try_get(column)?;
        Ok(u32::try_from(count.max(0)).unwrap_or(u32::MAX))
    };
    for row in rows(
        connection,
        "services",
        "SELECT CAST(name AS TEXT) FROM services ORDER BY id",
    )
    .await?
    {
        go.services.push(row.try_get(0)?);
    }
    for row in rows(
        connection,
        "nodes",
        "SELECT CAST(name AS TEXT) FROM nodes ORDER BY id",
    )
    .await?
    {
        go.nodes.push(row.try_get(0)?);
    }
    let setup = "SELECT CAST(s.name AS TEXT), CAST(e.count AS INTEGER) FROM setup_errors e
        JOIN services s ON s.id = e.service_id WHERE e.count > 0";
    for row in rows(connection, "setup_errors", setup).await? {
        go.setup_errors.insert(row.try_get(0)?, count(&row, 1)?);
    }
    let push =
        "SELECT CAST(s.name AS TEXT), CAST(n.name AS TEXT), CAST(e.count AS INTEGER) FROM push_errors e
        JOIN services s ON s.id = e.service_id JOIN nodes n ON n.id = e.node_id WHERE e.count > 0";
    for row in rows(connection, "push_errors", push).await? {
        go.push_errors
            .insert((row.try_get(0)?, row.try_get(1)?), count(&row, 2)?);
    }
    Ok(go)
}

async fn rows(
    connection: &mut SqliteConnection,
    table: &str,
    query: &'static str,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let there = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").bind(table);
    match there.fetch_optional(&mut *connection).await? {
        Some(_) => sqlx::query(query).fetch_all(connection).await,
        None => Ok(Vec::new()),
    }
}

async fn check(connection: &mut SqliteConnection, db: &Path) -> Result<(), Error> {
    let failed = |source| Error::Database {
        path: db.to_owned(),
        source,
    };
    let row = sqlx::query("PRAGMA application_id")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    match row.try_get(0).map_err(failed)? {
        GO_APPLICATION_ID => Ok(()),
        id => Err(Error::Foreign {
            path: db.to_owned(),
            id,
        }),
    }
}

async fn uids(connection: &mut SqliteConnection) -> Result<BTreeMap<String, u32>, sqlx::Error> {
    // its column type STRING makes SQLite keep an account of digits as a number
    let query = "SELECT CAST(username AS TEXT), CAST(uid AS INTEGER) FROM uids";
    let mut uids = BTreeMap::new();
    for row in rows(connection, "uids", query).await? {
        let account: String = row.try_get(0)?;
        let uid: i64 = row.try_get(1)?;
        match u32::try_from(uid) {
            Ok(uid) if uid != 0 && uid != u32::MAX => {
                uids.insert(account, uid);
            }
            _ => tracing::warn!(
                account,
                uid,
                "the Go service's database has a uid that is no account's"
            ),
        }
    }
    Ok(uids)
}
