//! Why one file was not placed. In every case but [`FileError::ReadBackDiffers`] and [`FileError::Displaced`] the old
//! file is as it was.

use std::time::Duration;

/// What failed about one file. The other files of the session are not touched by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The path cannot be a file's.
    #[error("{path:?} cannot be a destination: {why}")]
    BadPath {
        /// As given.
        path: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The content is larger than anything mtk places.
    #[error("{path} would have {size} bytes; at most {limit} are placed")]
    TooLarge {
        /// The destination.
        path: String,
        /// The content's size in bytes.
        size: usize,
        /// [`crate::MAX_FILE`].
        limit: usize,
    },
    /// The directory is not there.
    #[error("there is no directory {directory} for {path}: it must be made there")]
    NoSuchDirectory {
        /// The destination.
        path: String,
        /// Its directory.
        directory: String,
    },
    /// What should be the directory is something else.
    #[error("{directory} is not a directory, so {path} cannot be in it")]
    NotADirectory {
        /// The destination.
        path: String,
        /// What stands there.
        directory: String,
    },
    /// The account may not do it.
    #[error("the account may not {doing} {path}")]
    PermissionDenied {
        /// The destination, or its directory.
        path: String,
        /// What it tried.
        doing: &'static str,
    },
    /// The file system is mounted read-only.
    #[error("the file system of {directory} is read-only")]
    ReadOnly {
        /// The destination's directory.
        directory: String,
    },
    /// The file system is full.
    #[error("no room for {path}: the file system of {directory} has {free} bytes and {files} files left")]
    DiskFull {
        /// The destination.
        path: String,
        /// Its directory.
        directory: String,
        /// Bytes left for the account.
        free: u64,
        /// Files (inodes) left for the account.
        files: u64,
    },
    /// The account's quota is used up: the server says so, or writing failed although the file system has room.
    #[error("no room for {path}: {}", if *inferred { "writing failed with room left, so a quota is probably used up" } else { "the account's quota is used up" })]
    Quota {
        /// The destination.
        path: String,
        /// Whether this was concluded; SFTP version 3 has one code for every failure.
        inferred: bool,
    },
    /// A directory stands where the file should be.
    #[error("{path} is a directory: remove it on the node, or change the destination")]
    TargetIsDirectory {
        /// The destination.
        path: String,
    },
    /// The file belongs to another user, in a directory where only owners may replace (such as /tmp).
    #[error(
        "{path} belongs to user {owner} and only that user or root may replace it: somebody else put it there"
    )]
    ForeignFile {
        /// The destination.
        path: String,
        /// Its numeric owner.
        owner: u32,
    },
    /// The server can give a file no other name at all.
    #[error("the server can rename no file, so {path} cannot be replaced without a job seeing half of it")]
    RenameUnsupported {
        /// The destination.
        path: String,
    },
    /// The server lacks `posix-rename@openssh.com`, and broke off between the two steps that take its place.
    #[error(
        "the server lacks posix-rename@openssh.com and failed while {path} was being replaced: if there is none now, what \
         was there before is {aside}; the next run puts the new one in place"
    )]
    Displaced {
        /// The destination, where there may be no file.
        path: String,
        /// Where the one that was there is then; a later session removes it as one of a dead run.
        aside: String,
    },
    /// The server would not give the new file its mode.
    #[error("the new {path} has mode {got:04o} instead of {wanted:04o}: it was not put in place")]
    ModeDiffers {
        /// The destination.
        path: String,
        /// Permission bits asked for.
        wanted: u32,
        /// Permission bits it has.
        got: u32,
    },
    /// What was read back is not what was written.
    #[error(
        "{path} was put in place and reads back differently: something else writes it, or the storage is broken"
    )]
    ReadBackDiffers {
        /// The destination.
        path: String,
    },
    /// The server refused without saying more.
    #[error("the server refused to {doing} {path}: {said}")]
    Refused {
        /// The destination.
        path: String,
        /// What was tried.
        doing: &'static str,
        /// The server's words.
        said: String,
    },
    /// A command could not be run.
    #[error("the command {command} could not be run: {why}")]
    NotRun {
        /// What the configuration calls it.
        command: String,
        /// What the system says.
        why: String,
    },
    /// A command that was given a secret did not take it.
    #[error("the command {command} failed ({status}): {said}")]
    CommandFailed {
        /// What the configuration calls it.
        command: String,
        /// How it ended.
        status: String,
        /// Its last words, as far as they hold nothing of the secret.
        said: String,
    },
    /// The deadline passed while working on this file.
    #[error("working on {path} took longer than {:.1} s", after.as_secs_f64())]
    TimedOut {
        /// The destination.
        path: String,
        /// The deadline that passed.
        after: Duration,
    },
    /// The session broke, at this file or at an earlier one.
    #[error("the session ended before {path} was done: {why}")]
    SessionLost {
        /// The destination.
        path: String,
        /// How it ended.
        why: String,
    },
}

impl FileError {
    /// Whether the same may succeed later without anybody changing the node's set-up.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::DiskFull { .. }
                | Self::Quota { .. }
                | Self::Displaced { .. }
                | Self::TimedOut { .. }
                | Self::SessionLost { .. }
                | Self::CommandFailed { .. }
                | Self::ReadBackDiffers { .. }
        )
    }
}
