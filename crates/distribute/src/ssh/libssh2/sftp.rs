//! Placement's requests over ssh2. Every call blocks; no future here is ever left pending.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    time::Instant,
};

use ssh2::{ErrorCode, FileStat, OpenFlags, OpenType, RenameFlags};
use zeroize::Zeroizing;

use super::{budget, raw::Extensions};
use crate::{
    dial::clip,
    placement::{Attrs, Fault, Sftp, Space},
};

/// libssh2's ways of saying that the connection is no more.
pub(super) const CONNECTION_GONE: [i32; 7] = [
    libssh2_sys::LIBSSH2_ERROR_SOCKET_SEND,
    libssh2_sys::LIBSSH2_ERROR_SOCKET_RECV,
    libssh2_sys::LIBSSH2_ERROR_SOCKET_DISCONNECT,
    libssh2_sys::LIBSSH2_ERROR_SOCKET_TIMEOUT,
    libssh2_sys::LIBSSH2_ERROR_BANNER_RECV,
    libssh2_sys::LIBSSH2_ERROR_BANNER_SEND,
    libssh2_sys::LIBSSH2_ERROR_CHANNEL_CLOSED,
];

pub(super) struct Session<'a> {
    // Dropped first: what they hold lies in the session.
    sftp: ssh2::Sftp,
    /// A second SFTP channel, opened when something is to be replaced or measured: ssh2 hides the first one's pointer.
    extensions: Option<Extensions>,
    session: ssh2::Session,
    line: &'a TcpStream,
    deadline: Instant,
    broken: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(session: ssh2::Session, sftp: ssh2::Sftp, line: &'a TcpStream) -> Self {
        Self {
            sftp,
            extensions: None,
            session,
            line,
            deadline: Instant::now(),
            broken: false,
        }
    }

    /// Gives the next call what is left of the time.
    fn arm(&self) -> Result<(), Fault> {
        let left = self
            .deadline
            .saturating_duration_since(Instant::now())
            .as_millis();
        // After a timeout libssh2 would go on with the unfinished request where a new one is meant.
        if left == 0 || self.broken {
            return Err(Fault::Timeout);
        }
        self.session.set_timeout(u32::try_from(left).unwrap_or(u32::MAX));
        budget::until(self.deadline);
        Ok(())
    }

    fn note<T>(&mut self, answer: Result<T, Fault>) -> Result<T, Fault> {
        let answer = match (answer, budget::complaint()) {
            (Err(fault), Some(complaint)) if fault.ends_the_session() => Err(Fault::Lost(complaint)),
            (Err(fault), None) if fault.ends_the_session() && budget::is_late() => Err(Fault::Timeout),
            (answer, _) => answer,
        };
        if answer.as_ref().is_err_and(Fault::ends_the_session) {
            self.broken = true;
            // What is dropped from here on would say goodbye first and wait for an answer.
            let _ = self.line.shutdown(Shutdown::Both);
        }
        answer
    }

    fn call<T>(&mut self, call: impl FnOnce(&ssh2::Sftp) -> Result<T, ssh2::Error>) -> Result<T, Fault> {
        self.arm()?;
        let answer = call(&self.sftp).map_err(|error| fault(&error));
        self.note(answer)
    }

    fn transfer<T>(&mut self, call: impl FnOnce() -> io::Result<T>) -> Result<T, Fault> {
        self.arm()?;
        let answer = call().map_err(|error| self.transfer_fault(&error));
        self.note(answer)
    }

    /// ssh2 keeps only the text of an error in reading and writing; the session has its code.
    fn transfer_fault(&self, error: &io::Error) -> Fault {
        let text = error.to_string();
        match ssh2::Error::last_session_error(&self.session).map(|last| last.code()) {
            Some(ErrorCode::Session(libssh2_sys::LIBSSH2_ERROR_SFTP_PROTOCOL)) => match text.as_str() {
                "permission denied" => Fault::PermissionDenied,
                "no space on filesystem" => Fault::NoSpace,
                "quota exceeded" => Fault::Quota,
                "operation unsupported" => Fault::Unsupported,
                _ => Fault::Failure(clip(&text)),
            },
            _ if error.kind() == io::ErrorKind::TimedOut => Fault::Timeout,
            _ => Fault::Lost(clip(&text)),
        }
    }

    fn extended<T>(&mut self, call: impl FnOnce(&Extensions) -> Result<T, Fault>) -> Result<T, Fault> {
        self.arm()?;
        if self.extensions.is_none() {
            let opened = Extensions::open(&self.session);
            self.extensions = Some(self.note(opened)?);
            self.arm()?;
        }
        let answer = self.extensions.as_ref().map_or(Err(Fault::Unsupported), call);
        self.note(answer)
    }
}

impl Sftp for Session<'_> {
    type Handle = ssh2::File;

    fn set_deadline(&mut self, at: Instant) {
        self.deadline = at;
    }

    async fn lstat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.call(|sftp| sftp.lstat(Path::new(path)))
            .map(|stat| attrs(&stat))
    }

    async fn stat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.call(|sftp| sftp.stat(Path::new(path)))
            .map(|stat| attrs(&stat))
    }

    async fn open(&mut self, path: &str) -> Result<ssh2::File, Fault> {
        self.call(|sftp| sftp.open_mode(Path::new(path), OpenFlags::READ, 0, OpenType::File))
    }

    async fn create(&mut self, path: &str, mode: u32) -> Result<ssh2::File, Fault> {
        let flags = OpenFlags::WRITE | OpenFlags::EXCLUSIVE;
        let mode = i32::try_from(mode).unwrap_or(0);
        self.call(|sftp| sftp.open_mode(Path::new(path), flags, mode, OpenType::File))
    }

    async fn read(&mut self, file: &mut ssh2::File, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let mut bytes = Zeroizing::new(vec![0; limit]);
        let read = self.transfer(|| file.read(&mut bytes))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    async fn write(&mut self, file: &mut ssh2::File, bytes: &[u8]) -> Result<(), Fault> {
        self.transfer(|| file.write_all(bytes))
    }

    async fn fstat(&mut self, file: &mut ssh2::File) -> Result<Attrs, Fault> {
        self.call(|_| file.stat()).map(|stat| attrs(&stat))
    }

    async fn set_mode(&mut self, file: &mut ssh2::File, mode: u32) -> Result<(), Fault> {
        let only_mode = FileStat {
            size: None,
            uid: None,
            gid: None,
            perm: Some(mode),
            atime: None,
            mtime: None,
        };
        self.call(|_| file.setstat(only_mode))
    }

    async fn fsync(&mut self, file: &mut ssh2::File) -> Result<(), Fault> {
        self.call(|_| file.fsync())
    }

    async fn close(&mut self, mut file: ssh2::File) -> Result<(), Fault> {
        self.call(|_| file.close())
    }

    async fn replace(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        self.extended(|extensions| extensions.replace(from, to))
    }

    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        // flags are for later versions of SFTP, and are not sent in this one
        self.call(|sftp| sftp.rename(Path::new(from), Path::new(to), Some(RenameFlags::empty())))
    }

    async fn remove(&mut self, path: &str) -> Result<(), Fault> {
        self.call(|sftp| sftp.unlink(Path::new(path)))
    }

    async fn list(
        &mut self,
        directory: &str,
        keep: fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<(String, Attrs)>, Fault> {
        let mut handle = self.call(|sftp| sftp.opendir(Path::new(directory)))?;
        let mut kept = Vec::new();
        for _ in 0..limit {
            self.arm()?;
            match handle.readdir() {
                Ok((name, stat)) => {
                    let name = name.to_string_lossy().into_owned();
                    if keep(&name) {
                        kept.push((name, attrs(&stat)));
                    }
                }
                Err(error) if error.code() == ErrorCode::Session(libssh2_sys::LIBSSH2_ERROR_FILE) => break,
                Err(error) => return self.note(Err(fault(&error))),
            }
        }
        let _ = self.call(|_| handle.close());
        Ok(kept)
    }

    async fn space(&mut self, path: &str) -> Result<Space, Fault> {
        self.extended(|extensions| extensions.space(path))
    }
}

fn attrs(stat: &FileStat) -> Attrs {
    Attrs::new(stat.perm, stat.size, stat.uid).modified(stat.mtime)
}

fn fault(error: &ssh2::Error) -> Fault {
    match error.code() {
        ErrorCode::SFTP(code) => refused(code),
        ErrorCode::Session(code) => lost(code, error.message()),
    }
}

/// By SFTP's code (draft-ietf-secsh-filexfer-02, section 7, and those later versions added).
pub(super) fn refused(code: i32) -> Fault {
    match code {
        libssh2_sys::LIBSSH2_FX_NO_SUCH_FILE | libssh2_sys::LIBSSH2_FX_NO_SUCH_PATH => Fault::NoSuchFile,
        libssh2_sys::LIBSSH2_FX_PERMISSION_DENIED | libssh2_sys::LIBSSH2_FX_WRITE_PROTECT => {
            Fault::PermissionDenied
        }
        libssh2_sys::LIBSSH2_FX_OP_UNSUPPORTED => Fault::Unsupported,
        libssh2_sys::LIBSSH2_FX_NO_SPACE_ON_FILESYSTEM => Fault::NoSpace,
        libssh2_sys::LIBSSH2_FX_QUOTA_EXCEEDED => Fault::Quota,
        libssh2_sys::LIBSSH2_FX_NO_CONNECTION | libssh2_sys::LIBSSH2_FX_CONNECTION_LOST => {
            Fault::Lost("the server lost its connection".into())
        }
        code => Fault::Failure(clip(ssh2::Error::from_errno(ErrorCode::SFTP(code)).message())),
    }
}

/// By libssh2's own code.
pub(super) fn lost(code: i32, text: &str) -> Fault {
    match code {
        libssh2_sys::LIBSSH2_ERROR_TIMEOUT => Fault::Timeout,
        code if CONNECTION_GONE.contains(&code) => Fault::Lost("the server closed the connection".to_owned()),
        _ => Fault::Lost(clip(text)),
    }
}
