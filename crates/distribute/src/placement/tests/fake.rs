//! A small POSIX file system behind SFTP's answers.

use std::{collections::BTreeMap, time::Instant};

use zeroize::Zeroizing;

use super::OWN;
use crate::placement::{Attrs, Fault, Sftp, Space, split};

/// What its clock says.
pub(super) const NOW: u64 = 1_800_000_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Thing {
    File { bytes: Vec<u8>, mode: u32, uid: u32 },
    Directory { sticky: bool },
    Link,
}

#[derive(Default)]
pub(super) struct Fake {
    pub(super) things: BTreeMap<String, Thing>,
    /// Bytes left on the file system.
    pub(super) free: Option<usize>,
    /// The user's quota in bytes: writing beyond it fails, and the file system says nothing.
    pub(super) quota: Option<usize>,
    pub(super) read_only: bool,
    pub(super) umask: u32,
    pub(super) no_posix_rename: bool,
    /// Which of SFTP's own renames fail, counted from one; zero stands for a server that has none.
    pub(super) renames_failing: Vec<usize>,
    /// At which of them, counted alike, the session stops answering.
    pub(super) rename_hanging: Option<usize>,
    pub(super) no_statvfs: bool,
    pub(super) no_fsync: bool,
    /// What others do between the rename and the reading back.
    pub(super) meddler: bool,
    /// The operation at which the session stops answering.
    pub(super) hangs_at: Option<&'static str>,
    /// How many seconds ago things were last written.
    pub(super) ages: BTreeMap<String, u64>,
    /// Modes temporary files were born with.
    pub(super) births: Vec<u32>,
    pub(super) log: Vec<&'static str>,
}

pub(super) struct Open {
    path: String,
    at: usize,
}

impl Fake {
    pub(super) fn new() -> Self {
        let mut fake = Self::default();
        fake.things
            .insert("/tmp".into(), Thing::Directory { sticky: true });
        fake
    }

    pub(super) fn with(mut self, path: &str, thing: Thing) -> Self {
        self.things.insert(path.into(), thing);
        self
    }

    fn log(&mut self, what: &'static str) -> Result<(), Fault> {
        self.log.push(what);
        if self.hangs_at == Some(what) {
            Err(Fault::Timeout)
        } else {
            Ok(())
        }
    }

    fn attrs(&self, path: &str) -> Result<Attrs, Fault> {
        Ok(match self.things.get(path).ok_or(Fault::NoSuchFile)? {
            Thing::File { bytes, mode, uid } => {
                Attrs::new(Some(0o100_000 | mode), Some(bytes.len() as u64), Some(*uid))
            }
            Thing::Directory { .. } => Attrs::new(Some(0o041_777), Some(0), Some(0)),
            Thing::Link => Attrs::new(Some(0o120_777), Some(9), Some(0)),
        })
    }

    fn failure<T>() -> Result<T, Fault> {
        Err(Fault::Failure("Failure".into()))
    }

    pub(super) fn temps(&self) -> usize {
        self.things.keys().filter(|path| path.contains(".mtk-")).count()
    }
}

impl Sftp for Fake {
    type Handle = Open;

    fn set_deadline(&mut self, _: Instant) {}

    async fn lstat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.log("lstat")?;
        self.attrs(path)
    }

    async fn stat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.log("stat")?;
        self.attrs(path)
    }

    async fn open(&mut self, path: &str) -> Result<Open, Fault> {
        self.log("open")?;
        match self.things.get(path) {
            Some(Thing::File { uid, mode, .. }) if *uid != OWN && mode & 0o004 == 0 => {
                Err(Fault::PermissionDenied)
            }
            Some(Thing::File { .. }) => Ok(Open {
                path: path.into(),
                at: 0,
            }),
            Some(_) => Self::failure(),
            None => Err(Fault::NoSuchFile),
        }
    }

    async fn create(&mut self, path: &str, mode: u32) -> Result<Open, Fault> {
        self.log("create")?;
        let (directory, _) = split(path).unwrap();
        match self.things.get(directory) {
            None => return Err(Fault::NoSuchFile),
            Some(Thing::Directory { .. }) if !self.read_only && !self.things.contains_key(path) => {}
            Some(_) => return Self::failure(),
        }
        self.births.push(mode);
        let mode = mode & !self.umask;
        self.things.insert(
            path.into(),
            Thing::File {
                bytes: vec![],
                mode,
                uid: OWN,
            },
        );
        Ok(Open {
            path: path.into(),
            at: 0,
        })
    }

    async fn read(&mut self, file: &mut Open, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
        self.log("read")?;
        let Some(Thing::File { bytes, .. }) = self.things.get(&file.path) else {
            return Self::failure();
        };
        // servers may send less than was asked for
        let end = bytes.len().min(file.at + limit.min(5));
        let part = bytes[file.at..end].to_vec();
        file.at = end;
        Ok(Zeroizing::new(part))
    }

    async fn write(&mut self, file: &mut Open, new: &[u8]) -> Result<(), Fault> {
        self.log("write")?;
        if let Some(free) = &mut self.free {
            if *free < new.len() {
                *free = 0;
                return Self::failure();
            }
            *free -= new.len();
        }
        if self.quota.is_some_and(|quota| quota < new.len()) {
            return Self::failure();
        }
        match self.things.get_mut(&file.path) {
            Some(Thing::File { bytes, .. }) => bytes.extend_from_slice(new),
            _ => return Self::failure(),
        }
        Ok(())
    }

    async fn fstat(&mut self, file: &mut Open) -> Result<Attrs, Fault> {
        self.log("fstat")?;
        self.attrs(&file.path)
    }

    async fn set_mode(&mut self, file: &mut Open, new: u32) -> Result<(), Fault> {
        self.log("set_mode")?;
        if let Some(Thing::File { mode, .. }) = self.things.get_mut(&file.path) {
            *mode = new;
        }
        Ok(())
    }

    async fn fsync(&mut self, _: &mut Open) -> Result<(), Fault> {
        self.log("fsync")?;
        if self.no_fsync {
            Err(Fault::Unsupported)
        } else {
            Ok(())
        }
    }

    async fn close(&mut self, _: Open) -> Result<(), Fault> {
        self.log("close")
    }

    async fn replace(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        self.log("replace")?;
        if self.no_posix_rename {
            return Err(Fault::Unsupported);
        }
        match self.things.get(to) {
            Some(Thing::Directory { .. }) => return Self::failure(),
            Some(Thing::File { uid, .. }) if *uid != OWN => return Err(Fault::PermissionDenied),
            _ => {}
        }
        let mut thing = self.things.remove(from).ok_or(Fault::NoSuchFile)?;
        if self.meddler
            && let Thing::File { bytes, .. } = &mut thing
        {
            *bytes = b"meddled\n".to_vec();
        }
        self.things.insert(to.into(), thing);
        Ok(())
    }

    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        self.log("rename")?;
        let count = self.log.iter().filter(|what| **what == "rename").count();
        if self.rename_hanging == Some(count) {
            return Err(Fault::Timeout);
        }
        if self.renames_failing.contains(&0) {
            return Err(Fault::Unsupported);
        }
        if self.renames_failing.contains(&count) || self.things.contains_key(to) {
            return Self::failure();
        }
        match self.things.get(from) {
            Some(Thing::File { uid, .. }) if *uid != OWN => return Err(Fault::PermissionDenied),
            _ => {}
        }
        let thing = self.things.remove(from).ok_or(Fault::NoSuchFile)?;
        self.things.insert(to.into(), thing);
        Ok(())
    }

    async fn remove(&mut self, path: &str) -> Result<(), Fault> {
        self.log("remove")?;
        self.things.remove(path).map(drop).ok_or(Fault::NoSuchFile)
    }

    async fn list(
        &mut self,
        directory: &str,
        keep: fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<(String, Attrs)>, Fault> {
        self.log("list")?;
        let names: Vec<String> = self.things.keys().cloned().collect();
        let here = names.iter().filter_map(|path| {
            let (parent, name) = path.rsplit_once('/')?;
            (parent == directory && keep(name)).then_some((path, name))
        });
        let with_age = |(path, name): (&String, &str)| {
            let age = self.ages.get(path).copied().unwrap_or(0);
            let attrs = self.attrs(path)?;
            Ok((name.to_owned(), attrs.modified(Some(NOW - age))))
        };
        here.take(limit).map(with_age).collect()
    }

    async fn space(&mut self, _: &str) -> Result<Space, Fault> {
        self.log("space")?;
        if self.no_statvfs {
            return Err(Fault::Unsupported);
        }
        let free_bytes = self.free.unwrap_or(1 << 30) as u64;
        Ok(Space {
            free_bytes,
            free_files: 100,
            counts_files: true,
            read_only: self.read_only,
        })
    }
}
