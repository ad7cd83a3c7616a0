//! The log's file and the small one beside it that says where the chain stands and is the lock of all writers.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use crate::chain::{Anchor, LONGEST_LINE, Record};

/// How long another writer is waited for, who needs a millisecond.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(3);
/// An anchor has 85 bytes at the most.
const LONGEST_HEAD: u64 = 256;

/// Why the audit log cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system would not.
    #[error("{} cannot be {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: opened, read, written.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another writer keeps it locked.
    #[error("{} is locked by another process for longer than {} s", path.display(), PATIENCE.as_secs())]
    Busy {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The file is not what it should be.
    #[error("{} cannot be trusted with an audit log: {why}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would put it right.
        why: String,
    },
}

/// A file and what is tried with it, for errors.
pub(crate) fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

/// The file beside the log: its name has what logrotate's patterns for logs do not match.
pub(crate) fn head_path(log: &Path) -> PathBuf {
    let mut name = OsString::from(log);
    name.push(".head");
    name.into()
}

/// Opens a file to write, made with `mode` if it is not there, and judges the handle.
///
/// What root makes in the directory of mtk's own user is given to that user: the next run must not fail on it.
pub(crate) fn open(path: &Path, mode: u32, extra: OFlags) -> Result<File, Error> {
    // without NONBLOCK a pipe of that name would hold us for ever
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | extra;
    let new = flags | OFlags::CREATE | OFlags::EXCL;
    let directory = path
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let home = directory.metadata().map_err(failed(directory, "opened"))?;
    let us = rustix::process::geteuid();
    let (handle, made) = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => match rustix::fs::open(path, new, Mode::from_raw_mode(mode)) {
            // another process was first
            Err(Errno::EXIST) => (rustix::fs::open(path, flags, Mode::empty()), false),
            other => (other, true),
        },
        other => (other, false),
    };
    let file = match handle {
        Ok(handle) => File::from(handle),
        Err(Errno::LOOP) => return Err(untrusted(path, "it is a symbolic link")),
        Err(error) => return Err(failed(path, "opened")(error.into())),
    };
    if made && us.is_root() && home.uid() != 0 {
        std::os::unix::fs::fchown(&file, Some(home.uid()), Some(home.gid()))
            .map_err(failed(path, "given away"))?;
    }
    let about = file.metadata().map_err(failed(path, "looked at"))?;
    if !about.is_file() || about.nlink() != 1 {
        return Err(untrusted(path, "it is not a plain file with one name"));
    }
    if about.uid() != us.as_raw() && !(us.is_root() && about.uid() == home.uid()) {
        let why = format!("it belongs to uid {}, not to us", about.uid());
        return Err(untrusted(path, why));
    }
    if about.mode() & 0o022 != 0 {
        let why = format!(
            "others may write it (mode {:04o}): chmod go-w it",
            about.mode() & 0o7777
        );
        return Err(untrusted(path, why));
    }
    Ok(file)
}

fn untrusted(path: &Path, why: impl Into<String>) -> Error {
    Error::Untrusted {
        path: path.to_owned(),
        why: why.into(),
    }
}

/// The small file, locked until it is dropped.
#[derive(Debug)]
pub(crate) struct Head {
    file: File,
    path: PathBuf,
}

impl Head {
    pub(crate) fn lock(log: &Path, mode: u32, patience: Duration) -> Result<Self, Error> {
        let path = head_path(log);
        let file = open(&path, mode, OFlags::empty())?;
        wait(&file, &path, FlockOperation::NonBlockingLockExclusive, patience)?;
        Ok(Self { file, path })
    }

    /// The same to look at; `None` if there is none.
    pub(crate) fn peek(log: &Path) -> Result<Option<Self>, Error> {
        let path = head_path(log);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "opened")(error)),
        };
        wait(&file, &path, FlockOperation::NonBlockingLockShared, PATIENCE)?;
        Ok(Some(Self { file, path }))
    }

    /// Where the chain stands; `None` if it does not say.
    pub(crate) fn read(&mut self) -> Result<Option<Anchor>, Error> {
        let mut text = String::new();
        let read = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| (&self.file).take(LONGEST_HEAD).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(failed(&self.path, "read")(error)),
            Ok(_) => Ok(text.strip_suffix('\n').and_then(|line| line.trim().parse().ok())),
        }
    }

    /// Says where the chain stands, in one write of always the same length: whatever happens, nothing old stays behind it.
    pub(crate) fn write(&mut self, anchor: Anchor) -> Result<(), Error> {
        let text = format!("{:>85}\n", anchor.to_string());
        self.file
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.file.set_len(text.len() as u64))
            .map_err(failed(&self.path, "written"))
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(failed(&self.path, "written"))
    }
}

fn wait(file: &File, path: &Path, how: FlockOperation, patience: Duration) -> Result<(), Error> {
    let until = Instant::now() + patience;
    loop {
        match rustix::fs::flock(file, how) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Busy {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(failed(path, "locked")(error.into())),
        }
    }
}

/// The end of a log: its last whole line, and what stands behind it.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Whether there is a whole line at all.
    pub(crate) any: bool,
    /// The last whole line, if it is a record.
    pub(crate) last: Option<Record>,
    /// What a writer did not bring to its end.
    pub(crate) torn: Vec<u8>,
}

impl Tail {
    pub(crate) fn of(file: &mut File, path: &Path) -> Result<Self, Error> {
        let length = file.metadata().map_err(failed(path, "looked at"))?.len();
        let window = 2 * LONGEST_LINE as u64;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(window)))
            .and_then(|_| file.take(window).read_to_end(&mut bytes))
            .map_err(failed(path, "read"))?;
        let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else {
            return Ok(Self {
                any: length > window,
                last: None,
                torn: bytes,
            });
        };
        let torn = bytes.split_off(end + 1);
        bytes.pop();
        let begin = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        Ok(Self {
            any: true,
            last: bytes.get(begin..).and_then(Record::parse),
            torn,
        })
    }
}

pub(crate) fn write(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    file.write_all(bytes).map_err(failed(path, "written"))
}
