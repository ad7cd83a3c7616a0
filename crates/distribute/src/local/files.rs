//! Placement's requests answered by this host's own kernel.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, StatVfsMountFlags, Uid,
    },
    io::Errno,
};
use zeroize::Zeroizing;

use crate::placement::{Attrs, Fault, Kind, Sftp, Space, split};

/// The directories in use stay open: what is looked at, written and renamed is in one and the same directory, whatever
/// is done to the path meanwhile.
pub(super) struct Here {
    owner: Option<u32>,
    directories: HashMap<String, OwnedFd>,
    deadline: Option<Instant>,
}

impl Here {
    pub(super) fn new(owner: Option<u32>) -> Self {
        Self {
            owner,
            directories: HashMap::new(),
            deadline: None,
        }
    }

    fn in_time(&self) -> Result<(), Fault> {
        match self.deadline {
            Some(at) if Instant::now() > at => Err(Fault::Timeout),
            _ => Ok(()),
        }
    }

    /// The directory of a path, opened without following a link anywhere, and the name in it.
    fn beneath<'p>(&mut self, path: &'p str) -> Result<(&OwnedFd, &'p str), Fault> {
        self.in_time()?;
        let (directory, name) = split(path).map_err(|error| Fault::Failure(error.to_string()))?;
        if !self.directories.contains_key(directory) {
            let handle = open(directory, OFlags::DIRECTORY)?;
            self.directories.insert(directory.to_owned(), handle);
        }
        let handle = self
            .directories
            .get(directory)
            .ok_or_else(|| Fault::Lost("a directory was forgotten".into()))?;
        Ok((handle, name))
    }

    /// Gives a file that nobody has a word of yet to its owner.
    fn hand_over(&self, file: &OwnedFd) -> Result<(), Fault> {
        let Some(owner) = self.owner.filter(|owner| *owner != own()) else {
            return Ok(());
        };
        rustix::fs::fchown(file, Some(Uid::from_raw(owner)), None::<Gid>).map_err(|_| {
            Fault::Failure(format!(
                "only root may give a file to user {owner}, and mtk runs as user {}",
                own()
            ))
        })
    }
}

impl Sftp for Here {
    type Handle = OwnedFd;

    fn set_deadline(&mut self, at: Instant) {
        self.deadline = Some(at);
    }

    fn owner(&self) -> Option<u32> {
        self.owner
    }

    async fn lstat(&mut self, path: &str) -> Result<Attrs, Fault> {
        let (directory, name) = self.beneath(path)?;
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|about| attrs(&about))
            .map_err(fault)
    }

    async fn stat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.in_time()?;
        if path == "." {
            // asked by the sweep, for whose files are ours
            let mut attrs = Attrs::new(Some(0o040_700), None, Some(own()));
            attrs.kind = Kind::Directory;
            return Ok(attrs);
        }
        let handle = open(path, OFlags::PATH)?;
        rustix::fs::fstat(&handle)
            .map(|about| attrs(&about))
            .map_err(fault)
    }

    async fn open(&mut self, path: &str) -> Result<OwnedFd, Fault> {
        let (directory, name) = self.beneath(path)?;
        // not to wait for a pipe's writer, should one have come in the place of the file that was looked at
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(fault)
    }

    async fn create(&mut self, path: &str, mode: u32) -> Result<OwnedFd, Fault> {
        let (directory, name) = self.beneath(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = rustix::fs::openat(directory, name, flags, mode).map_err(fault)?;
        // an umask may have taken the owner's own right to read
        let ready = rustix::fs::fchmod(&file, mode)
            .map_err(fault)
            .and_then(|()| self.hand_over(&file));
        if let Err(fault) = ready {
            let (directory, name) = self.beneath(path)?;
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
            return Err(fault);
        }
        Ok(file)
    }

    async fn read(&mut self, file: &mut OwnedFd, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
        self.in_time()?;
        let mut bytes = Zeroizing::new(vec![0; limit]);
        let got =
            rustix::io::retry_on_intr(|| rustix::io::read(&*file, bytes.as_mut_slice())).map_err(fault)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    async fn write(&mut self, file: &mut OwnedFd, bytes: &[u8]) -> Result<(), Fault> {
        self.in_time()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let put = rustix::io::retry_on_intr(|| rustix::io::write(&*file, rest)).map_err(fault)?;
            rest = rest.get(put..).unwrap_or_default();
        }
        Ok(())
    }

    async fn fstat(&mut self, file: &mut OwnedFd) -> Result<Attrs, Fault> {
        rustix::fs::fstat(file.as_fd())
            .map(|about| attrs(&about))
            .map_err(fault)
    }

    async fn set_mode(&mut self, file: &mut OwnedFd, mode: u32) -> Result<(), Fault> {
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode)).map_err(fault)
    }

    async fn fsync(&mut self, file: &mut OwnedFd) -> Result<(), Fault> {
        rustix::fs::fsync(file.as_fd()).map_err(fault)
    }

    async fn close(&mut self, file: OwnedFd) -> Result<(), Fault> {
        drop(file);
        self.in_time()
    }

    async fn replace(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        let (_, from) = split(from).map_err(|error| Fault::Failure(error.to_string()))?;
        let (directory, to) = self.beneath(to)?;
        rustix::fs::renameat(directory, from, directory, to).map_err(fault)?;
        // the file is complete and in place; that its name outlives a power cut is the file system's to refuse
        match rustix::fs::fsync(directory) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(fault(errno)),
        }
    }

    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        let (_, from) = split(from).map_err(|error| Fault::Failure(error.to_string()))?;
        let (directory, to) = self.beneath(to)?;
        rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE).map_err(fault)
    }

    async fn remove(&mut self, path: &str) -> Result<(), Fault> {
        let (directory, name) = self.beneath(path)?;
        rustix::fs::unlinkat(directory, name, AtFlags::empty()).map_err(fault)
    }

    async fn list(
        &mut self,
        directory: &str,
        keep: fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<(String, Attrs)>, Fault> {
        self.in_time()?;
        let handle = open(directory, OFlags::DIRECTORY)?;
        let entries = rustix::fs::Dir::read_from(&handle).map_err(fault)?;
        let mut kept = Vec::new();
        for entry in entries.take(limit) {
            let entry = entry.map_err(fault)?;
            let Some(name) = entry.file_name().to_str().ok().filter(|name| keep(name)) else {
                continue;
            };
            if let Ok(about) = rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                kept.push((name.to_owned(), attrs(&about)));
            }
        }
        Ok(kept)
    }

    async fn space(&mut self, path: &str) -> Result<Space, Fault> {
        let handle = open(path, OFlags::DIRECTORY)?;
        let about = rustix::fs::fstatvfs(&handle).map_err(fault)?;
        Ok(Space {
            free_bytes: about.f_bavail.saturating_mul(about.f_frsize),
            free_files: about.f_favail,
            counts_files: about.f_files > 0,
            read_only: about.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }
}

/// Who we are.
fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Opens without following a symbolic link anywhere on the way.
fn open(path: &str, flags: OFlags) -> Result<OwnedFd, Fault> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve) {
            // something was renamed while the kernel looked
            Err(Errno::AGAIN) => {}
            other => return other.map_err(fault),
        }
    }
}

fn attrs(about: &Stat) -> Attrs {
    let kind = match FileType::from_raw_mode(about.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    };
    Attrs {
        kind,
        mode: about.st_mode & 0o7777,
        size: u64::try_from(about.st_size).unwrap_or(0),
        uid: Some(about.st_uid),
        modified: u64::try_from(about.st_mtime).ok(),
    }
}

fn fault(errno: Errno) -> Fault {
    match errno {
        // as sftp-server has it: a file where a directory should be is found out by asking for the directory
        Errno::NOENT | Errno::NOTDIR => Fault::NoSuchFile,
        Errno::ACCESS | Errno::PERM => Fault::PermissionDenied,
        Errno::NOSPC => Fault::NoSpace,
        Errno::DQUOT => Fault::Quota,
        Errno::LOOP => Fault::Failure(
            "a symbolic link lies on the way to it, and none is followed: write the path it leads to".into(),
        ),
        Errno::NOSYS => Fault::Failure("this kernel lacks openat2 (Linux 5.6)".into()),
        other => Fault::Failure(std::io::Error::from(other).to_string()),
    }
}
