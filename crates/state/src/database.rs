//! The database: opened, judged, brought to this version's schema, and set aside if it is damaged.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use rustix::fs::OFlags;
use sqlx::{
    Row, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{DATABASE, Error, Opened, directory::Directory};

/// "mtk1" in the header of the file: which program it belongs to.
const APPLICATION_ID: i64 = 0x6d74_6b31;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// What opening came to, when it was not an error of another kind.
enum Outcome {
    Good(SqlitePool, bool),
    Damaged,
}

pub(crate) async fn open(directory: &Directory) -> Result<(SqlitePool, Opened), Error> {
    directory.ensure_file(DATABASE)?;
    match connect(directory).await? {
        Outcome::Good(pool, fresh) => Ok((pool, if fresh { Opened::Fresh } else { Opened::Existing })),
        Outcome::Damaged => {
            let aside = set_aside(directory)?;
            tracing::warn!(aside = %aside.display(), "the state database was damaged; a new one is begun");
            directory.ensure_file(DATABASE)?;
            match connect(directory).await? {
                Outcome::Good(pool, _) => Ok((pool, Opened::Recovered { aside })),
                Outcome::Damaged => Err(Error::Unreadable {
                    path: directory.path_of(DATABASE),
                    what: "it is damaged from the start: is the disk full or failing?".into(),
                }),
            }
        }
    }
}

pub(crate) async fn open_read_only(directory: &Directory) -> Result<SqlitePool, Error> {
    let path = directory.path_of(DATABASE);
    let failed = |source| Error::Database {
        path: path.clone(),
        source,
    };
    let pool = pool(options(directory).read_only(true)).await.map_err(failed)?;
    match application_id(&pool).await.map_err(failed)? {
        APPLICATION_ID => Ok(pool),
        0 => Err(Error::NoState {
            path: directory.path().to_owned(),
        }),
        id => Err(Error::Foreign { path, id }),
    }
}

fn options(directory: &Directory) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(directory.path_of(DATABASE))
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
}

/// One connection: writers never wait for each other in SQLite's own way, and there is little to write.
async fn pool(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
}

async fn application_id(pool: &SqlitePool) -> Result<i64, sqlx::Error> {
    sqlx::query("PRAGMA application_id")
        .fetch_one(pool)
        .await?
        .try_get(0)
}

async fn connect(directory: &Directory) -> Result<Outcome, Error> {
    let path = directory.path_of(DATABASE);
    let judged = |source: sqlx::Error| {
        if is_damage(&source) {
            Ok(Outcome::Damaged)
        } else {
            Err(Error::Database {
                path: path.clone(),
                source,
            })
        }
    };
    // with a write-ahead log a kill loses nothing; a power cut may lose the last records, and what they told is
    // then seen at the peers
    let options = options(directory)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let pool = match pool(options).await {
        Ok(pool) => pool,
        Err(error) => return judged(error),
    };
    match prepare(&pool).await {
        Ok(Prepared::Good { fresh }) => Ok(Outcome::Good(pool, fresh)),
        Ok(Prepared::Damaged) => {
            pool.close().await;
            Ok(Outcome::Damaged)
        }
        Ok(Prepared::Foreign(id)) => Err(Error::Foreign { path, id }),
        Err(MigrateError::Execute(error)) => {
            pool.close().await;
            judged(error)
        }
        Err(source) => Err(Error::Schema { path, source }),
    }
}

enum Prepared {
    Good { fresh: bool },
    Damaged,
    Foreign(i64),
}

async fn prepare(pool: &SqlitePool) -> Result<Prepared, MigrateError> {
    let verdict: String = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(pool)
        .await?
        .try_get(0)?;
    if verdict != "ok" {
        return Ok(Prepared::Damaged);
    }
    let tables: i64 = sqlx::query("SELECT count(*) FROM sqlite_schema")
        .fetch_one(pool)
        .await?
        .try_get(0)?;
    let id = application_id(pool).await?;
    let fresh = tables == 0 && id == 0;
    if fresh {
        sqlx::query("PRAGMA application_id = 0x6d746b31")
            .execute(pool)
            .await?;
    } else if id != APPLICATION_ID {
        return Ok(Prepared::Foreign(id));
    }
    MIGRATIONS.run(pool).await?;
    Ok(Prepared::Good { fresh })
}

/// `SQLITE_CORRUPT` and `SQLITE_NOTADB`, with whatever detail SQLite adds in the higher bits.
fn is_damage(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(|e| e.code())
        .and_then(|c| c.parse::<i32>().ok());
    matches!(code.map(|c| c & 0xff), Some(11 | 26))
}

/// Renames the database and what belongs to it. The name tells when it was last written, which is as near as one
/// gets to when it broke.
fn set_aside(directory: &Directory) -> Result<PathBuf, Error> {
    let written = directory
        .open_file(DATABASE, OFlags::RDONLY)?
        .and_then(|f| f.metadata().ok()?.modified().ok())
        .and_then(|t| Timestamp::try_from(t).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let stamp = written.strftime("%Y%m%dT%H%M%SZ");
    for attempt in 0..1000 {
        let name = match attempt {
            0 => format!("{DATABASE}.damaged-{stamp}"),
            n => format!("{DATABASE}.damaged-{stamp}-{n}"),
        };
        if directory.rename_if_free(DATABASE, &name)? {
            for tail in ["-wal", "-shm"] {
                // a log without its database would be replayed into the new one
                if !directory.rename_if_free(&format!("{DATABASE}{tail}"), &format!("{name}{tail}"))? {
                    directory.remove(&format!("{DATABASE}{tail}"))?;
                }
            }
            return Ok(directory.path_of(&name));
        }
    }
    Err(Error::Unreadable {
        path: directory.path_of(DATABASE),
        what: "it is damaged, and a thousand damaged ones lie beside it".into(),
    })
}
