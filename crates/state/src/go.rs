//! The Go service's database, of which the UIDs are read and nothing is written.

use std::{collections::BTreeMap, path::Path, time::Duration};

use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::Error;

/// What the Go service writes into the header of its file.
pub const GO_APPLICATION_ID: i64 = 0x5da8_2553;

/// UIDs by account, as `refresh-uids-from-ferry` last left them.
///
/// The file is opened read-only; while the Go service writes to it, this waits up to two seconds.
///
/// # Errors
/// [`Error::NoState`] if there is no such file, [`Error::Foreign`] if it is not the Go service's, [`Error::Database`]
/// if it cannot be read.
pub async fn go_uids(db: &Path) -> Result<BTreeMap<String, u32>, Error> {
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
    let uids = read(&mut connection, db).await;
    // it was only read from
    drop(connection.close().await);
    uids
}

async fn read(connection: &mut SqliteConnection, db: &Path) -> Result<BTreeMap<String, u32>, Error> {
    let failed = |source| Error::Database {
        path: db.to_owned(),
        source,
    };
    let row = sqlx::query("PRAGMA application_id")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let id: i64 = row.try_get(0).map_err(failed)?;
    if id != GO_APPLICATION_ID {
        return Err(Error::Foreign {
            path: db.to_owned(),
            id,
        });
    }
    // its column type STRING makes SQLite keep an account of digits as a number
    let query = sqlx::query("SELECT CAST(username AS TEXT), CAST(uid AS INTEGER) FROM uids");
    let mut uids = BTreeMap::new();
    for row in query.fetch_all(connection).await.map_err(failed)? {
        let account: String = row.try_get(0).map_err(failed)?;
        let uid: i64 = row.try_get(1).map_err(failed)?;
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
