//! What was issued, stored and pushed, when, and until when it is good.
//!
//! One directory (0700) holds it all: an SQLite database without any token in it, one file (0600) per service with
//! its node token, a key for digests, and the lock that keeps two mtk apart. The schema: docs/state.md.
//!
//! What to do about it is not decided here, and there is no clock: times are arguments.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use state::{EdgeId, ServiceKey, State};
//! # let dir = tempfile::tempdir()?; let dir = dir.path().join("mtk"); let now = jiff::Timestamp::UNIX_EPOCH;
//! let (state, opened) = State::open(&dir).await?;
//! assert_eq!(opened, state::Opened::Fresh);
//! let service = ServiceKey {
//!     experiment: "dune".into(), role: "production".into(), account: "dunepro".into(),
//!     principal: "dunepro/managedtokens/mtk.example.org@EXAMPLE.ORG".into(),
//! };
//! let login = EdgeId::Login { service };
//! state.record_failure(&login, now, "unreachable", "vault.example.org: connection refused", None).await?;
//! assert_eq!(state.snapshot().await?.edges[&login].consecutive_failures, 1);
//! # Ok(()) }) }
//! ```

mod about;
mod attempt;
mod bearer_token;
mod consent;
mod database;
mod directory;
mod edge;
mod go;
mod lock;
mod node_login;
mod node_token;
mod notice;
mod portable;
mod records;
mod silence;
mod snapshot;
mod token_file;
mod uid;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::SqlitePool;
use zeroize::Zeroizing;

pub use about::About;
pub use attempt::Attempt;
pub use bearer_token::KeptBearer;
pub use consent::Consent;
pub use edge::{EdgeId, NotAnEdge};
pub use go::{GO_APPLICATION_ID, GoDatabase, go_database, go_uids};
pub use lock::{Held, Lock, LockError, lock};
pub use node_login::NodeLogin;
pub use notice::{Notice, Notices};
pub use portable::{FORMAT, ImportError, VERSION};
pub use records::{EdgeState, Login, NodeTokenRecord, Push, ServiceKey, Snapshot, Store};
pub use silence::{Silence, SilenceKind, is_service_silenced, is_silenced};
pub use uid::{Drift, KnownUid, Learnt};
pub use write::{Fared, Fault};

use directory::Directory;

/// Name of the database in the state directory.
pub const DATABASE: &str = "state.db";

/// The state, open. A handle: clones share everything.
#[derive(Clone)]
pub struct State {
    pool: SqlitePool,
    path: PathBuf,
    directory: Arc<Directory>,
    key: Arc<Zeroizing<[u8; 32]>>,
}

/// How the state was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was none; it was begun.
    Fresh,
    /// It was there.
    Existing,
    /// It was damaged and lies where `aside` says; a new one was begun. What credds and nodes hold is unharmed, but
    /// everything is due.
    Recovered {
        /// Where the damaged database lies now.
        aside: PathBuf,
    },
}

/// Why the state cannot be used. All of it is ours or this machine's; nothing is worth trying again at once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no state to be read.
    #[error("there is no state in {}", path.display())]
    NoState {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory is not ours alone.
    #[error("{} cannot be trusted with tokens: {why}", path.display())]
    Untrusted {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what would put it right.
        why: String,
    },
    /// The system would not.
    #[error("{} cannot be {action}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried: opened, read, written, ...
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// SQLite would not.
    #[error("the database {} failed", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// An SQLite file of another program.
    #[error("{} is another program's database (application id {id:#x})", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its application id.
        id: i64,
    },
    /// Written by a later mtk, or changed by hand.
    #[error("the schema of {} is not this version's", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// A value that was not written by mtk.
    #[error("{} holds something that cannot be read: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
    },
}

impl State {
    /// Opens the state to write, beginning it if there is none. The directory is made (0700) if it is not there.
    ///
    /// A database that is damaged is renamed and a new one begun: see [`Opened::Recovered`]. Hold the [`Lock`] while
    /// writing.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed then.
    pub async fn open(dir: &Path) -> Result<(Self, Opened), Error> {
        let directory = Directory::open_or_create(dir)?;
        let key = directory.digest_key()?;
        let (pool, opened) = database::open(&directory).await?;
        let state = Self::new(pool, directory, key);
        // a file that SQLite finds sound may still say what nobody wrote
        match state.probe().await {
            Ok(()) => Ok((state, opened)),
            Err(error) if database::is_nonsense(&error) => {
                tracing::warn!(
                    error = credential::chain(&error),
                    "the state database says what mtk never wrote"
                );
                state.close().await;
                let directory = Directory::open_or_create(dir)?;
                let key = directory.digest_key()?;
                let (pool, aside) = database::begin_anew(&directory).await?;
                Ok((Self::new(pool, directory, key), Opened::Recovered { aside }))
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the state to look at it. Nothing is begun, repaired or locked.
    ///
    /// # Errors
    /// [`Error::NoState`] if there is none, else [`Error`].
    pub async fn open_read_only(dir: &Path) -> Result<Self, Error> {
        Self::open_as_it_is(dir, true).await
    }

    /// Opens the state to write while another holds the [`Lock`]: nothing is begun, migrated or repaired, for it is in use.
    ///
    /// # Errors
    /// [`Error::NoState`] if there is none, else [`Error`].
    pub async fn open_beside(dir: &Path) -> Result<Self, Error> {
        Self::open_as_it_is(dir, false).await
    }

    async fn open_as_it_is(dir: &Path, read_only: bool) -> Result<Self, Error> {
        let directory = Directory::open(dir)?.ok_or_else(|| Error::NoState { path: dir.to_owned() })?;
        if !directory.holds(DATABASE)? {
            return Err(Error::NoState { path: dir.to_owned() });
        }
        // without the key no digest matches, which is what a reader without it should see
        let key = match directory.existing_digest_key()? {
            Some(key) => key,
            None => directory::random_key()?,
        };
        let pool = database::open_as_it_is(&directory, read_only).await?;
        Ok(Self::new(pool, directory, key))
    }

    /// Reads everything once.
    async fn probe(&self) -> Result<(), Error> {
        let mut work = self.pool.begin().await.map_err(|e| self.failed(e))?;
        self.read_all(&mut work).await
    }

    fn new(pool: SqlitePool, directory: Directory, key: Zeroizing<[u8; 32]>) -> Self {
        Self {
            pool,
            path: directory.path_of(DATABASE),
            directory: Arc::new(directory),
            key: Arc::new(key),
        }
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Writes everything out and closes the database for all clones.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A digest of the content of a pushed file: enough to see whether it changed, of no use to whoever reads the
    /// database, for it is keyed with 32 random bytes that lie beside it.
    #[must_use]
    pub fn digest(&self, content: &[u8]) -> String {
        // HMAC takes a key of any length
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.as_slice()) else {
            return String::new();
        };
        mac.update(b"mtk pushed content 1\0");
        mac.update(content);
        hex(&mac.finalize().into_bytes())
    }

    fn failed(&self, source: sqlx::Error) -> Error {
        Error::Database {
            path: self.path.clone(),
            source,
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
