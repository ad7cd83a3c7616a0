//! What there is, for people.

use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sqlx::Row;

use crate::{DATABASE, Error, Held, State, directory::Directory, lock};

/// The state at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The database.
    pub path: PathBuf,
    /// Its size in bytes, without its log.
    pub bytes: u64,
    /// `ok`, or what SQLite finds wrong with it.
    pub integrity: String,
    /// The migrations it has seen.
    pub migrations: Vec<i64>,
    /// Rows by table, in the order of the schema.
    pub rows: Vec<(String, i64)>,
    /// Damaged databases that were set aside.
    pub set_aside: Vec<PathBuf>,
    /// Who is writing to it now.
    pub held: Option<Held>,
}

impl State {
    /// Looks at the state from outside. Changes nothing, takes no lock.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn about(&self) -> Result<About, Error> {
        let failed = |e| self.failed(e);
        let mut work = self.pool.begin().await.map_err(failed)?;
        let verdict = sqlx::query("PRAGMA integrity_check(1)")
            .fetch_one(&mut *work)
            .await;
        let integrity: String = verdict.and_then(|row| row.try_get(0)).map_err(failed)?;
        let seen = sqlx::query("SELECT version FROM _sqlx_migrations ORDER BY version");
        let seen = seen.fetch_all(&mut *work).await.map_err(failed)?;
        let migrations = seen
            .iter()
            .map(|row| row.try_get(0).map_err(failed))
            .collect::<Result<_, _>>()?;
        let rows = self.counts(&mut work).await?;
        let file = self.directory.open_file(DATABASE, OFlags::RDONLY)?;
        let bytes = file.and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        Ok(About {
            path: self.path.clone(),
            bytes,
            integrity,
            migrations,
            rows,
            set_aside: set_aside(self.dir()),
            held: holder(&self.directory)?,
        })
    }
}

fn set_aside(dir: &Path) -> Vec<PathBuf> {
    let damaged = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("state.db.damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut all: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(damaged)
        .collect();
    all.sort();
    all
}

/// Who holds the lock, without trying to take it: that could make a run believe that somebody is at work.
fn holder(directory: &Directory) -> Result<Option<Held>, Error> {
    use std::os::unix::fs::MetadataExt;
    let Some(mut file) = directory.open_file(lock::NAME, OFlags::RDONLY)? else {
        return Ok(None);
    };
    let Ok(about) = file.metadata() else {
        return Ok(None);
    };
    let (major, minor) = (rustix::fs::major(about.dev()), rustix::fs::minor(about.dev()));
    let ours = format!("{major:02x}:{minor:02x}:{}", about.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let held = locks
        .lines()
        .any(|line| line.contains(" FLOCK ") && line.split_whitespace().any(|word| word == ours));
    Ok(held.then(|| lock::read(&mut file)))
}
