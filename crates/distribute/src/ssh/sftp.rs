//! Placement's requests over russh-sftp's raw session, which reaches OpenSSH's extensions.

use std::time::{Duration, Instant};

use russh_sftp::{
    client::{Config, RawSftpSession, error::Error},
    protocol::{FileAttributes, OpenFlags, Packet, Status, StatusCode},
};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::{
    dial::clip,
    placement::{Attrs, Fault, Sftp, Space},
};

/// The largest packet taken from a server: a chunk of a file with room to spare.
const MAX_PACKET: u32 = 64 * 1024;

/// `SSH_FXE_STATVFS_ST_RDONLY` of OpenSSH's PROTOCOL, section 4.5.
const READ_ONLY: u64 = 1;

pub(crate) struct Session {
    raw: RawSftpSession,
    deadline: Instant,
    replaces: bool,
    syncs: bool,
    knows_space: bool,
}

/// An open file and its position.
pub(crate) struct Handle {
    name: String,
    at: u64,
}

impl Session {
    /// Over whatever leads to an SFTP server.
    pub(crate) async fn start(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        patience: Duration,
    ) -> Result<Self, Error> {
        let config = Config {
            max_packet_len: MAX_PACKET,
            // Each request has its own deadline; this one only keeps the library from waiting for ever.
            request_timeout_secs: patience.as_secs().saturating_add(1),
            ..Config::default()
        };
        let raw = RawSftpSession::new_with_config(stream, config);
        let version = raw.init().await?;
        let offers = |name: &str| version.extensions.contains_key(name);
        let (replaces, syncs) = (offers("posix-rename@openssh.com"), offers("fsync@openssh.com"));
        let knows_space = offers("statvfs@openssh.com");
        Ok(Self {
            raw,
            deadline: Instant::now(),
            replaces,
            syncs,
            knows_space,
        })
    }

    async fn bound<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
        match tokio::time::timeout_at(self.deadline.into(), request).await {
            Ok(answer) => answer.map_err(fault),
            Err(_) => Err(Fault::Timeout),
        }
    }
}

impl Sftp for Session {
    type Handle = Handle;

    fn set_deadline(&mut self, at: Instant) {
        self.deadline = at;
    }

    async fn lstat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.bound(self.raw.lstat(path))
            .await
            .map(|answer| attrs(&answer.attrs))
    }

    async fn stat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.bound(self.raw.stat(path))
            .await
            .map(|answer| attrs(&answer.attrs))
    }

    async fn open(&mut self, path: &str) -> Result<Handle, Fault> {
        let opening = self.raw.open(path, OpenFlags::READ, FileAttributes::empty());
        self.bound(opening).await.map(|answer| Handle {
            name: answer.handle,
            at: 0,
        })
    }

    async fn create(&mut self, path: &str, mode: u32) -> Result<Handle, Fault> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let opening = self.raw.open(path, flags, with_mode(mode));
        self.bound(opening).await.map(|answer| Handle {
            name: answer.handle,
            at: 0,
        })
    }

    async fn read(&mut self, file: &mut Handle, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        match self
            .bound(self.raw.read(file.name.as_str(), file.at, limit))
            .await
        {
            Ok(answer) => {
                file.at += answer.data.len() as u64;
                Ok(Zeroizing::new(answer.data))
            }
            Err(Fault::Failure(said)) if said == END_OF_FILE => Ok(Zeroizing::default()),
            Err(fault) => Err(fault),
        }
    }

    async fn write(&mut self, file: &mut Handle, bytes: &[u8]) -> Result<(), Fault> {
        self.bound(self.raw.write(file.name.as_str(), file.at, bytes.to_vec()))
            .await?;
        file.at += bytes.len() as u64;
        Ok(())
    }

    async fn fstat(&mut self, file: &mut Handle) -> Result<Attrs, Fault> {
        self.bound(self.raw.fstat(file.name.as_str()))
            .await
            .map(|answer| attrs(&answer.attrs))
    }

    async fn set_mode(&mut self, file: &mut Handle, mode: u32) -> Result<(), Fault> {
        self.bound(self.raw.fsetstat(file.name.as_str(), with_mode(mode)))
            .await
            .map(drop)
    }

    async fn fsync(&mut self, file: &mut Handle) -> Result<(), Fault> {
        if !self.syncs {
            return Err(Fault::Unsupported);
        }
        self.bound(self.raw.fsync(file.name.as_str())).await.map(drop)
    }

    async fn close(&mut self, file: Handle) -> Result<(), Fault> {
        self.bound(self.raw.close(file.name)).await.map(drop)
    }

    async fn replace(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        if !self.replaces {
            return Err(Fault::Unsupported);
        }
        let names = [string(from), string(to)].concat();
        match self
            .bound(self.raw.extended("posix-rename@openssh.com", names))
            .await?
        {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(refused(&status)),
            _ => Err(Fault::Lost("it answered a rename with something else".into())),
        }
    }

    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        self.bound(self.raw.rename(from, to)).await.map(drop)
    }

    async fn remove(&mut self, path: &str) -> Result<(), Fault> {
        self.bound(self.raw.remove(path)).await.map(drop)
    }

    async fn list(
        &mut self,
        directory: &str,
        keep: fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<(String, Attrs)>, Fault> {
        let handle = self.bound(self.raw.opendir(directory)).await?.handle;
        let (mut kept, mut seen) = (Vec::new(), 0);
        let end = loop {
            match self.bound(self.raw.readdir(handle.as_str())).await {
                // A server that goes on with empty answers would never come to the limit.
                Ok(names) if names.files.is_empty() => break Ok(()),
                Ok(names) => {
                    seen += names.files.len();
                    let ours = names.files.into_iter().filter(|file| keep(&file.filename));
                    kept.extend(ours.map(|file| (file.filename, attrs(&file.attrs))));
                    if seen >= limit {
                        break Ok(());
                    }
                }
                Err(Fault::Failure(said)) if said == END_OF_FILE => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        if !end.as_ref().is_err_and(Fault::ends_the_session) {
            let _ = self.bound(self.raw.close(handle)).await;
        }
        end.map(|()| kept)
    }

    async fn space(&mut self, path: &str) -> Result<Space, Fault> {
        if !self.knows_space {
            return Err(Fault::Unsupported);
        }
        let answer = self.bound(self.raw.statvfs(path)).await?;
        Ok(Space {
            free_bytes: answer.blocks_avail.saturating_mul(answer.fragment_size),
            free_files: answer.inodes_avail,
            counts_files: answer.inodes != 0,
            read_only: answer.flags & READ_ONLY != 0,
        })
    }
}

/// How the end of a file travels through [`Fault`], which has no name for it: only `read` meets it.
const END_OF_FILE: &str = "\0end of file";

fn fault(error: Error) -> Fault {
    match error {
        Error::Status(status) => refused(&status),
        Error::Timeout => Fault::Timeout,
        Error::Limited(said) => Fault::Failure(clip(&said)),
        // The library says no more than that its task is gone.
        Error::UnexpectedBehavior(said) if said == "sender dropped" => {
            Fault::Lost("the server ended the SFTP session or broke its protocol".to_owned())
        }
        Error::IO(_) | Error::UnexpectedPacket | Error::UnexpectedBehavior(_) => {
            Fault::Lost(clip(&error.to_string()))
        }
    }
}

fn refused(status: &Status) -> Fault {
    match status.status_code {
        StatusCode::NoSuchFile => Fault::NoSuchFile,
        StatusCode::PermissionDenied => Fault::PermissionDenied,
        StatusCode::OpUnsupported => Fault::Unsupported,
        StatusCode::Eof => Fault::Failure(END_OF_FILE.to_owned()),
        StatusCode::NoConnection | StatusCode::ConnectionLost => Fault::Lost(clip(&status.error_message)),
        StatusCode::Ok | StatusCode::Failure | StatusCode::BadMessage => Fault::Failure(clip(&format!(
            "{} ({})",
            status.status_code, status.error_message
        ))),
    }
}

fn attrs(from: &FileAttributes) -> Attrs {
    Attrs::new(from.permissions, from.size, from.uid).modified(from.mtime.map(u64::from))
}

fn with_mode(mode: u32) -> FileAttributes {
    FileAttributes {
        permissions: Some(mode),
        ..FileAttributes::empty()
    }
}

/// RFC 4251, section 5: a length and the bytes.
fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
