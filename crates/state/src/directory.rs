//! The state directory, and the small files in it that nobody else may read.
//!
//! Everything is reached through the directory's own handle, never by a path that somebody could change meanwhile;
//! what was opened is judged, not what a name pointed to before.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use credential::SecretBytes;
use rand::TryRngCore;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};
use zeroize::Zeroizing;

use crate::Error;

const KEY_FILE: &str = "digest-key";
/// The end of the name of a file that is not whole yet.
const HALF: &str = ".new";

/// A directory that is ours alone.
pub(crate) struct Directory {
    path: PathBuf,
    handle: OwnedFd,
}

impl Directory {
    pub(crate) fn open_or_create(path: &Path) -> Result<Self, Error> {
        if let Some(found) = Self::open(path)? {
            return Ok(found);
        }
        let failed = |source| Error::Io {
            path: path.to_owned(),
            action: "made",
            source,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error.into())),
        }
        Self::open(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// The directory, judged; `None` if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let why = "it is not a directory, or a link to one".into();
                return Err(Error::Untrusted {
                    path: path.to_owned(),
                    why,
                });
            }
            Err(error) => {
                return Err(Error::Io {
                    path: path.to_owned(),
                    action: "opened",
                    source: error.into(),
                });
            }
        };
        let directory = Self {
            path: path.to_owned(),
            handle,
        };
        let about = rustix::fs::fstat(&directory.handle).map_err(|e| directory.io("", "looked at", e))?;
        if let Some(why) = ours_alone(&about) {
            return Err(Error::Untrusted {
                path: path.to_owned(),
                why: format!("{why} (wanted: chmod 0700)"),
            });
        }
        Ok(Some(directory))
    }

    /// The same for a directory in this one, made if it is not there.
    pub(crate) fn below(&self, name: &str) -> Result<Self, Error> {
        match rustix::fs::mkdirat(&self.handle, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(self.io(name, "made", error)),
        }
        self.existing(name)?
            .ok_or_else(|| self.io(name, "opened", Errno::NOENT))
    }

    /// The same without making it.
    pub(crate) fn existing(&self, name: &str) -> Result<Option<Self>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.io(name, "opened", error)),
        };
        let below = Self {
            path: self.path_of(name),
            handle,
        };
        let about = rustix::fs::fstat(&below.handle).map_err(|e| below.io("", "looked at", e))?;
        match ours_alone(&about) {
            None => Ok(Some(below)),
            Some(why) => Err(Error::Untrusted {
                path: below.path,
                why,
            }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.path.clone()
        } else {
            self.path.join(name)
        }
    }

    pub(crate) fn io(&self, name: &str, action: &'static str, error: Errno) -> Error {
        Error::Io {
            path: self.path_of(name),
            action,
            source: error.into(),
        }
    }

    fn std_io(&self, name: &str, action: &'static str, source: io::Error) -> Error {
        Error::Io {
            path: self.path_of(name),
            action,
            source,
        }
    }

    /// Opens a file of this directory and judges the handle: a plain file, ours, nobody else's to read.
    pub(crate) fn open_file(&self, name: &str, extra: OFlags) -> Result<Option<File>, Error> {
        // without NONBLOCK a pipe of that name would hold us for ever
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | extra;
        let handle = match rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(Error::Untrusted {
                    path: self.path_of(name),
                    why: "it is a symbolic link".into(),
                });
            }
            Err(error) => return Err(self.io(name, "opened", error)),
        };
        let about = rustix::fs::fstat(&handle).map_err(|e| self.io(name, "looked at", e))?;
        let untrusted = |why| Error::Untrusted {
            path: self.path_of(name),
            why,
        };
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(untrusted("it is not a plain file".into()));
        }
        if about.st_nlink != 1 {
            return Err(untrusted("it has a second name elsewhere".into()));
        }
        match ours_alone(&about) {
            None => Ok(Some(File::from(handle))),
            Some(why) => Err(untrusted(why)),
        }
    }

    pub(crate) fn holds(&self, name: &str) -> Result<bool, Error> {
        Ok(self.open_file(name, OFlags::RDONLY)?.is_some())
    }

    /// Makes an empty file (0600) unless there is one; says whether it made it.
    pub(crate) fn ensure_file(&self, name: &str) -> Result<bool, Error> {
        if self.holds(name)? {
            return Ok(false);
        }
        self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        Ok(true)
    }

    /// The content of a file, at most `limit` bytes; `None` if it is not there.
    pub(crate) fn read(&self, name: &str, limit: usize) -> Result<Option<SecretBytes>, Error> {
        let Some(file) = self.open_file(name, OFlags::RDONLY)? else {
            return Ok(None);
        };
        // reserved at once: a buffer that grows leaves copies behind
        let mut content = Vec::with_capacity(limit + 1);
        let read = file.take(limit as u64 + 1).read_to_end(&mut content);
        let content = SecretBytes::new(content);
        read.map_err(|e| self.std_io(name, "read", e))?;
        if content.len() > limit {
            return Err(Error::Untrusted {
                path: self.path_of(name),
                why: format!("it is longer than {limit} bytes"),
            });
        }
        Ok(Some(content))
    }

    /// Puts a file in place whole or not at all, 0600 from the first moment.
    pub(crate) fn write(&self, name: &str, content: &SecretBytes) -> Result<(), Error> {
        let beside = format!("{name}{HALF}");
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.handle, beside.as_str(), create, Mode::RUSR | Mode::WUSR);
        let handle = match open() {
            // left by one that was killed; the lock says no other is at work
            Err(Errno::EXIST) => {
                self.remove(&beside)?;
                open()
            }
            other => other,
        };
        let handle = handle.map_err(|e| self.io(&beside, "made", e))?;
        let written = self.fill(&beside, handle, content).and_then(|()| {
            rustix::fs::renameat(&self.handle, beside.as_str(), &self.handle, name)
                .map_err(|e| self.io(name, "replaced", e))
        });
        if let Err(error) = written {
            // the first error is the one to tell
            drop(self.remove(&beside));
            return Err(error);
        }
        rustix::fs::fsync(&self.handle).map_err(|e| self.io("", "synced", e))
    }

    fn fill(&self, name: &str, handle: OwnedFd, content: &SecretBytes) -> Result<(), Error> {
        // a umask can only have taken away from the mode; this makes it what it should be
        rustix::fs::fchmod(&handle, Mode::RUSR | Mode::WUSR).map_err(|e| self.io(name, "made private", e))?;
        let mut file = File::from(handle);
        file.write_all(content.expose())
            .map_err(|e| self.std_io(name, "written", e))?;
        file.sync_all().map_err(|e| self.std_io(name, "synced", e))
    }

    /// Removes a file; that it is not there is fine.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.io(name, "removed", error)),
        }
    }

    /// Removes what [`Directory::write`] began and did not end, of files whose name begins so.
    pub(crate) fn sweep(&self, begin: &str) -> Result<usize, Error> {
        let entries = std::fs::read_dir(&self.path).map_err(|e| self.std_io("", "listed", e))?;
        let mut swept = 0;
        for name in entries.filter_map(|e| e.ok()?.file_name().into_string().ok()) {
            if name.starts_with(begin) && name.ends_with(HALF) {
                self.remove(&name)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Renames a file unless the new name is taken; says whether it did. That it is not there is fine.
    pub(crate) fn rename_if_free(&self, from: &str, to: &str) -> Result<bool, Error> {
        match rustix::fs::renameat_with(&self.handle, from, &self.handle, to, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(self.io(from, "set aside", error)),
        }
    }

    /// The key of the digests, made if there is none or it is damaged: what it costs is one look at each file.
    pub(crate) fn digest_key(&self) -> Result<Zeroizing<[u8; 32]>, Error> {
        if let Some(key) = self.existing_digest_key()? {
            return Ok(key);
        }
        let key = random_key()?;
        self.write(KEY_FILE, &SecretBytes::new(key.to_vec()))?;
        Ok(key)
    }

    pub(crate) fn existing_digest_key(&self) -> Result<Option<Zeroizing<[u8; 32]>>, Error> {
        let Some(file) = self.open_file(KEY_FILE, OFlags::RDONLY)? else {
            return Ok(None);
        };
        // one byte more than a key has: whatever is longer is none, however long it is
        let mut content = Zeroizing::new(Vec::with_capacity(33));
        file.take(33)
            .read_to_end(&mut content)
            .map_err(|e| self.std_io(KEY_FILE, "read", e))?;
        Ok(<[u8; 32]>::try_from(content.as_slice()).ok().map(Zeroizing::new))
    }
}

pub(crate) fn random_key() -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut key = Zeroizing::new([0; 32]);
    rand::rngs::OsRng
        .try_fill_bytes(key.as_mut_slice())
        .map_err(|e| Error::Io {
            path: "the system's random source".into(),
            action: "read",
            source: io::Error::other(e),
        })?;
    Ok(key)
}

/// Why a file or directory is not ours alone, if it is not.
fn ours_alone(about: &Stat) -> Option<String> {
    let us = rustix::process::geteuid().as_raw();
    if about.st_uid != us {
        return Some(format!("it belongs to uid {}, not to us ({us})", about.st_uid));
    }
    let mode = about.st_mode & 0o7777;
    (mode & 0o077 != 0).then(|| format!("its mode is {mode:04o}: others may get at it"))
}
