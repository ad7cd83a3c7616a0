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
            let (pool, aside) = begin_anew(directory).await?;
            Ok((pool, Opened::Recovered { aside }))
        }
    }
}

/// Sets the database aside and begins a new one.
pub(crate) async fn begin_anew(directory: &Directory) -> Result<(SqlitePool, PathBuf), Error> {
    let aside = set_aside(directory)?;
    tracing::warn!(aside = %aside.display(), "the state database was damaged; a new one is begun");
    directory.ensure_file(DATABASE)?;
    match connect(directory).await? {
        Outcome::Good(pool, _) => Ok((pool, aside)),
        Outcome::Damaged => Err(Error::Unreadable {
            path: directory.path_of(DATABASE),
            what: "it is damaged from the start: is the disk full or failing?".into(),
        }),
    }
}

/// Whether an error of reading everything says that the content is at fault, not the disk, the system or somebody who
/// holds the file.
pub(crate) fn is_nonsense(error: &Error) -> bool {
    match error {
        Error::Unreadable { .. } => true,
        Error::Database { source, .. } => {
            is_damage(source)
                || has_code(source, &[SQLITE_ERROR])
                || matches!(
                    source,
                    sqlx::Error::ColumnDecode { .. }
                        | sqlx::Error::Decode(_)
                        | sqlx::Error::ColumnNotFound(_)
                )
        }
        _ => false,
    }
}

/// Opens what there is and leaves it what it is: nothing is begun, brought to this version's schema, or set aside.
pub(crate) async fn open_as_it_is(directory: &Directory, read_only: bool) -> Result<SqlitePool, Error> {
    let path = directory.path_of(DATABASE);
    let failed = |source| Error::Database {
        path: path.clone(),
        source,
    };
    let pool = pool(options(directory).read_only(read_only))
        .await
        .map_err(failed)?;
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
        // no such table, no such column: the schema is not what the list of migrations says
        Err(MigrateError::Execute(error)) if has_code(&error, &[SQLITE_ERROR]) => {
            pool.close().await;
            Ok(Outcome::Damaged)
        }
        Err(MigrateError::ExecuteMigration(error, _)) if has_code(&error, &[SQLITE_ERROR]) => {
            pool.close().await;
            Ok(Outcome::Damaged)
        }
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
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
    let verdict: String = sqlx::query("PRAGMA integrity_check(1)")
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

/// A statement that does not fit the schema.
const SQLITE_ERROR: i32 = 1;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

fn is_damage(error: &sqlx::Error) -> bool {
    has_code(error, &[SQLITE_CORRUPT, SQLITE_NOTADB])
}

/// Whether it is one of these errors of SQLite, with whatever detail that adds in the higher bits.
fn has_code(error: &sqlx::Error, codes: &[i32]) -> bool {
    let code = error
        .as_database_error()
        .and_then(|e| e.code())
        .and_then(|c| c.parse::<i32>().ok());
    code.is_some_and(|c| codes.contains(&(c & 0xff)))
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
