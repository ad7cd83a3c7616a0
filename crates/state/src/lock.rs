//! One mtk at a time on one state directory.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    path::Path,
};

use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, OFlags},
    io::Errno,
};

use crate::{Error, directory::Directory};

pub(crate) const NAME: &str = "lock";

/// Holding this, no other mtk writes to the state directory. Dropping it, or dying, lets go.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

/// Who holds the lock, as far as it wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Since when.
    pub since: Option<Timestamp>,
    /// Its process.
    pub pid: Option<u32>,
    /// On which host.
    pub host: Option<String>,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("another mtk is at work")?;
        if let Some(pid) = self.pid {
            write!(f, ", process {pid}")?;
        }
        if let Some(host) = &self.host {
            write!(f, " on {host}")?;
        }
        if let Some(since) = self.since {
            write!(f, ", since {since}")?;
        }
        Ok(())
    }
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another has it.
    #[error("{0}")]
    Held(Held),
    /// It cannot be had at all.
    #[error("the lock cannot be taken")]
    Failed(#[from] Error),
}

/// Takes the lock of a state directory, which is made if it is not there. Does not wait.
///
/// # Errors
/// [`LockError::Held`] if another has it.
pub fn lock(dir: &Path, now: Timestamp) -> Result<Lock, LockError> {
    let directory = Directory::open_or_create(dir)?;
    let file = directory.open_file(NAME, OFlags::RDWR | OFlags::CREATE)?;
    let mut file = file.ok_or_else(|| directory.io(NAME, "made", Errno::NOENT))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(LockError::Held(read(&mut file))),
        Err(error) => return Err(directory.io(NAME, "locked", error).into()),
    }
    // who we are is a help to whoever waits; the lock is the lock
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}\n{host}\n{now}", std::process::id()));
    if let Err(error) = written {
        tracing::warn!(%error, "the lock is held, but by whom could not be written into it");
    }
    Ok(Lock(file))
}

pub(crate) fn read(file: &mut File) -> Held {
    let mut text = String::new();
    let read = file.take(1024).read_to_string(&mut text);
    let mut lines = if read.is_ok() { text.lines() } else { "".lines() };
    Held {
        pid: lines.next().and_then(|l| l.parse().ok()),
        host: lines
            .next()
            .filter(|l| !l.is_empty() && !l.contains(char::is_control))
            .map(str::to_owned),
        since: lines.next().and_then(|l| l.parse().ok()),
    }
}
