//! The few SFTP requests placement is made of, as both transports offer them.

use std::time::Instant;

use zeroize::Zeroizing;

/// What a server or a transport answers instead of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SSH_FX_NO_SUCH_FILE.
    NoSuchFile,
    /// SSH_FX_PERMISSION_DENIED.
    PermissionDenied,
    /// SSH_FX_OP_UNSUPPORTED, or an extension the server does not offer.
    Unsupported,
    /// A later version's code for a full file system.
    NoSpace,
    /// A later version's code for a used-up quota.
    Quota,
    /// SSH_FX_FAILURE and every other code, with the server's words.
    Failure(String),
    /// The deadline passed. The session's state is unknown from here on.
    Timeout,
    /// The connection or the protocol broke.
    Lost(String),
}

impl Fault {
    /// Whether the session can serve no further request.
    pub(crate) fn ends_the_session(&self) -> bool {
        matches!(self, Self::Timeout | Self::Lost(_))
    }
}

/// What something on the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// Links, pipes, sockets, devices: never opened.
    Other,
}

/// Attributes, as far as the server gives them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attrs {
    pub(crate) kind: Kind,
    /// Permission bits (07777).
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) uid: Option<u32>,
    /// Seconds since 1970 by the node's clock.
    pub(crate) modified: Option<u64>,
}

impl Attrs {
    pub(crate) fn new(permissions: Option<u32>, size: Option<u64>, uid: Option<u32>) -> Self {
        let bits = permissions.unwrap_or(0);
        let kind = match bits & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Directory,
            _ => Kind::Other,
        };
        Self {
            kind,
            mode: bits & 0o7777,
            size: size.unwrap_or(0),
            uid,
            modified: None,
        }
    }

    pub(crate) fn modified(self, modified: Option<u64>) -> Self {
        Self { modified, ..self }
    }
}

/// What is left on a file system, for the account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    pub(crate) free_bytes: u64,
    pub(crate) free_files: u64,
    /// Some file systems count no files at all.
    pub(crate) counts_files: bool,
    pub(crate) read_only: bool,
}

/// An SFTP session. Every request ends by the deadline its owner has set.
///
/// russh answers asynchronously; libssh2 blocks its own thread inside these functions and never leaves a future
/// pending, which is what its driver relies on.
pub(crate) trait Sftp {
    /// An open file with its own position.
    type Handle;

    /// Until when the requests to come may take.
    fn set_deadline(&mut self, at: Instant);

    /// Whom files are to belong to, where that is not settled by who is logged in.
    fn owner(&self) -> Option<u32> {
        None
    }

    async fn lstat(&mut self, path: &str) -> Result<Attrs, Fault>;
    async fn stat(&mut self, path: &str) -> Result<Attrs, Fault>;
    async fn open(&mut self, path: &str) -> Result<Self::Handle, Fault>;
    /// Creates a file that must not exist yet, with this mode from its first moment (less what the server's umask takes).
    async fn create(&mut self, path: &str, mode: u32) -> Result<Self::Handle, Fault>;
    /// The next bytes, at most `limit`; empty at the end.
    async fn read(&mut self, file: &mut Self::Handle, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault>;
    async fn write(&mut self, file: &mut Self::Handle, bytes: &[u8]) -> Result<(), Fault>;
    async fn fstat(&mut self, file: &mut Self::Handle) -> Result<Attrs, Fault>;
    async fn set_mode(&mut self, file: &mut Self::Handle, mode: u32) -> Result<(), Fault>;
    /// `fsync@openssh.com`; [`Fault::Unsupported`] where it is not offered.
    async fn fsync(&mut self, file: &mut Self::Handle) -> Result<(), Fault>;
    async fn close(&mut self, file: Self::Handle) -> Result<(), Fault>;
    /// `posix-rename@openssh.com`: replaces what is there, atomically; [`Fault::Unsupported`] where it is not offered.
    async fn replace(&mut self, from: &str, to: &str) -> Result<(), Fault>;
    /// SFTP's own rename, which refuses where something has that name already.
    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Fault>;
    async fn remove(&mut self, path: &str) -> Result<(), Fault>;
    /// The names in a directory that are to be kept, of its first `limit` or so.
    async fn list(
        &mut self,
        directory: &str,
        keep: fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<(String, Attrs)>, Fault>;
    /// `statvfs@openssh.com`; [`Fault::Unsupported`] where it is not offered.
    async fn space(&mut self, path: &str) -> Result<Space, Fault>;
}
