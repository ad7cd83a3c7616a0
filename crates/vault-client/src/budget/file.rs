//! The ledger as a small file that all mtk processes of a host share.
//!
//! Text, one fact a line: `mtk vault budget 1`, `blocked UNTIL TIMES`, `cautious ALLOWANCE UNTIL`, and a `STAMP COUNT`
//! for each grain of a window, in milliseconds since the epoch. It is read and written whole, under its own lock.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::ledger::Ledger;
use crate::Server;

const HEAD: &str = "mtk vault budget 1";
/// A ledger has some 2 kB.
const MAX_FILE: u64 = 64 * 1024;

/// Where the ledger of a server lies in a state directory.
pub(crate) fn path(dir: &Path, server: &Server) -> PathBuf {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let host: String = server.host().chars().map(safe).collect();
    dir.join(format!("vault-budget-{host}-{}", server.port()))
}

pub(crate) fn format(ledger: &Ledger) -> String {
    let mut text = format!("{HEAD}\nblocked {} {}\n", ledger.blocked_until, ledger.blocks);
    if let Some((allowance, until)) = ledger.cautious {
        // writing to a String cannot fail
        let _ = writeln!(text, "cautious {allowance} {until}");
    }
    for (stamp, count) in &ledger.stamps {
        let _ = writeln!(text, "{stamp} {count}");
    }
    text
}

/// `None` for what is no ledger; an empty file is a new one.
pub(crate) fn parse(text: &str) -> Option<Ledger> {
    if text.is_empty() {
        return Some(Ledger::default());
    }
    // a file cut off in the middle of a line would say something else
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != HEAD {
        return None;
    }
    let mut ledger = Ledger::default();
    for line in lines {
        let mut words = line.split(' ');
        let (first, second) = (words.next()?, words.next()?);
        match first {
            "blocked" => {
                ledger.blocked_until = second.parse().ok()?;
                ledger.blocks = words.next()?.parse().ok()?;
            }
            "cautious" => ledger.cautious = Some((second.parse().ok()?, words.next()?.parse().ok()?)),
            stamp => {
                let count = ledger.stamps.entry(stamp.parse().ok()?).or_default();
                *count = count.saturating_add(second.parse().ok()?);
            }
        }
        if words.next().is_some() {
            return None;
        }
    }
    Some(ledger)
}

/// A ledger's file, locked until it is dropped.
pub(crate) struct Locked(File);

/// Opens and locks; `None` while another holds it.
pub(crate) fn lock(path: &Path) -> io::Result<Option<Locked>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file: OwnedFd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Locked(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Locked {
    /// What it says; a damaged file says nothing was sent, which at worst costs one block.
    pub(crate) fn read(&mut self) -> io::Result<Ledger> {
        read(&mut self.0)
    }

    pub(crate) fn write(&mut self, ledger: &Ledger) -> io::Result<()> {
        let text = format(ledger);
        self.0.seek(SeekFrom::Start(0))?;
        self.0.write_all(text.as_bytes())?;
        self.0.set_len(text.len() as u64)
    }
}

fn read(file: &mut File) -> io::Result<Ledger> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    match file.take(MAX_FILE).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => text = "damaged".to_owned(),
        Err(error) => return Err(error),
    }
    Ok(parse(&text).unwrap_or_else(|| {
        tracing::warn!("the file with the budget of a Vault server is damaged and is begun anew");
        Ledger::default()
    }))
}

/// What the file says, for showing it: without its lock, so that nobody who may only read waits or makes others wait.
pub(crate) fn peek(path: &Path) -> io::Result<Option<Ledger>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => {
            let mut file = File::from(file);
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
                tracing::debug!("the budget is being written; what is shown may be old by a moment");
            }
            read(&mut file).map(Some)
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger {
            stamps: [(1_790_000_000_000, 7), (1_790_000_003_000, 1)].into(),
            blocked_until: 1_790_000_300_000,
            blocks: 2,
            cautious: Some((171, 1_790_003_900_000)),
        }
    }

    #[test]
    fn there_and_back() {
        for ledger in [ledger(), Ledger::default()] {
            assert_eq!(parse(&format(&ledger)), Some(ledger));
        }
        assert_eq!(parse(""), Some(Ledger::default()));
    }

    #[test]
    fn what_is_no_ledger() {
        let good = format(&ledger());
        for end in 1..good.len() {
            let cut = &good[..end];
            // whole lines are a ledger of less, a cut line is none
            assert_eq!(parse(cut).is_some(), cut.ends_with('\n'), "{cut:?}");
        }
        for bad in [
            "mtk vault budget 2\n",
            "x\n",
            "mtk vault budget 1\n1 2 3\n",
            "mtk vault budget 1\n1 -2\n",
            "mtk vault budget 1\n\n",
            "mtk vault budget 1\nblocked 1\n",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_file_is_locked_private_and_no_link() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let server = "[::1]:8200".parse().unwrap();
        let path = path(dir.path(), &server);
        assert_eq!(path.file_name().unwrap(), "vault-budget-___1_-8200");
        let mut first = lock(&path).unwrap().unwrap();
        assert!(lock(&path).unwrap().is_none());
        assert_eq!(first.read().unwrap(), Ledger::default());
        first.write(&ledger()).unwrap();
        drop(first);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(lock(&path).unwrap().unwrap().read().unwrap(), ledger());
        assert_eq!(peek(&path).unwrap(), Some(ledger()));
        // a shorter one leaves nothing behind
        lock(&path).unwrap().unwrap().write(&Ledger::default()).unwrap();
        assert_eq!(peek(&path).unwrap(), Some(Ledger::default()));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(lock(&path).unwrap().unwrap().read().unwrap(), Ledger::default());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(lock(&link).is_err());
        assert_eq!(peek(&dir.path().join("none")).unwrap(), None);
    }
}
