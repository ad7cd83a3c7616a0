//! Files of this host, opened in a way that nothing lying in their place keeps us waiting or fills the memory.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is not a file")]
    NotAFile,
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
}

/// The bytes of a file, of which there may be `limit`, and what the file is.
pub(crate) fn read(path: &Path, limit: u64) -> Result<(Vec<u8>, Metadata), Failed> {
    // opening a pipe waits for its writer, and a terminal could become ours
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(Failed::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Failed::TooLong(limit));
    }
    Ok((bytes, about))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_pipe_is_not_waited_for_and_length_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(matches!(read(&pipe, 9), Err(Failed::NotAFile)));
        assert!(matches!(read(dir.path(), 9), Err(Failed::NotAFile)));
        let file = dir.path().join("file");
        std::fs::write(&file, "0123456789").unwrap();
        assert_eq!(read(&file, 10).unwrap().0, b"0123456789");
        assert!(matches!(read(&file, 9), Err(Failed::TooLong(9))));
    }
}
