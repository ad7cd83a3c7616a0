//! Log files that others may rotate.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing_subscriber::fmt::MakeWriter;

/// A file that is appended to; none until one is named.
///
/// Before each line it is seen whether the file is still the one at its path, and if not the path is opened again: who
/// rotates logs need not tell us.
#[derive(Debug)]
pub(super) struct LogFile {
    named: AtomicBool,
    open: Mutex<Option<(PathBuf, File)>>,
}

impl LogFile {
    pub(super) const fn new() -> Self {
        Self {
            named: AtomicBool::new(false),
            open: Mutex::new(None),
        }
    }

    pub(super) fn is_named(&self) -> bool {
        self.named.load(Ordering::Relaxed)
    }

    /// From now on lines go to this file.
    pub(super) fn name(&self, path: &Path) -> io::Result<()> {
        let file = open(path)?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.to_owned(), file));
        self.named.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// For the owner and his group: a log names services and hosts, and no secret.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// Whether the file is still what the path leads to.
fn is_there(file: &File, path: &Path) -> bool {
    let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let (ours, theirs) = (file.metadata().map(id), path.metadata().map(id));
    matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
}

/// One line on its way.
#[derive(Debug)]
pub(super) struct Writer(&'static LogFile);

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open_file = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, file)) = open_file.as_mut() {
            if !is_there(file, path)
                && let Ok(new) = open(path)
            {
                *file = new;
            }
            file.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for &'static LogFile {
    type Writer = Writer;

    fn make_writer(&self) -> Writer {
        Writer(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_rotated_away_is_opened_again() {
        static LOG: LogFile = LogFile::new();
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("mtk.log"), dir.path().join("mtk.log.1"));
        LOG.name(&path).unwrap();
        let mut writer = (&LOG).make_writer();
        writer.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        writer.write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }
}
