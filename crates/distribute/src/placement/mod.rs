//! How one file is placed: looked at first, written beside, moved over, read back.
//!
//! Whatever fails, a file that was there before is still there as it was: a job on the node never sees half a token,
//! and never none where there was one, but for a moment at servers that cannot replace files ([`swap`]).

mod ops;
mod swap;
mod sweep;
mod why;

pub(crate) use ops::{Attrs, Fault, Kind, Sftp, Space};
pub(crate) use sweep::{clock, directories, sweep, temp_name};
use zeroize::Zeroizing;

use crate::{Difference, File, FileError, Landed, MAX_FILE, Mode, Placed};

/// A token's file is nobody else's to read, from its first moment on.
const BIRTH_MODE: u32 = 0o400;

/// SFTP servers take at least 32 KiB of payload and header in one packet; OpenSSH takes 256 KiB.
const CHUNK: usize = 30_000;

/// Brings one file about. `temp` is the name, without directory, of the file it is written to first.
pub(crate) async fn place_file<S: Sftp>(
    sftp: &mut S,
    file: &File,
    mode: Mode,
    temp: &str,
) -> Result<Landed, Failed> {
    let (directory, _) = split(&file.path)?;
    if mode == Mode::Remove {
        return remove_file(sftp, file).await;
    }
    if file.content.len() > MAX_FILE {
        let path = file.path.clone();
        return Err(FileError::TooLarge {
            path,
            size: file.content.len(),
            limit: MAX_FILE,
        }
        .into());
    }
    let (difference, uid) = match look(sftp, file).await? {
        Found::Same { uid } => {
            return Ok(Landed {
                placed: Placed::Unchanged,
                difference: None,
                uid,
            });
        }
        Found::Different { difference, uid } => (difference, uid),
    };
    if mode == Mode::Verify {
        return Ok(Landed {
            placed: Placed::WouldWrite,
            difference: Some(difference),
            uid,
        });
    }
    let temp = beside(directory, temp);
    let uid = write_beside(sftp, file, directory, &temp).await?;
    put_in_place(sftp, file, directory, &temp, uid).await?;
    read_back(sftp, file).await?;
    Ok(Landed {
        placed: Placed::Written,
        difference: Some(difference),
        uid,
    })
}

/// Gives the new file its name. `own` is the user the server works as.
async fn put_in_place<S: Sftp>(
    sftp: &mut S,
    file: &File,
    directory: &str,
    temp: &str,
    own: Option<u32>,
) -> Result<(), Failed> {
    let fault = match sftp.replace(temp, &file.path).await {
        Ok(()) => return Ok(()),
        Err(Fault::Unsupported) => {
            let aside = beside(directory, &temp_name());
            match swap::in_two_steps(sftp, temp, &file.path, &aside).await {
                Ok(()) => return Ok(()),
                Err(swap::Swap::Refused(fault)) => fault,
                Err(swap::Swap::Displaced(fault)) => {
                    discard(sftp, temp, &fault).await;
                    let path = file.path.clone();
                    let error = FileError::Displaced { path, aside };
                    return Err(match fault.ends_the_session() {
                        true => Failed::Both(error, fault),
                        false => error.into(),
                    });
                }
            }
        }
        Err(fault) => fault,
    };
    discard(sftp, temp, &fault).await;
    Err(why::not_replaced(sftp, file, own, fault).await)
}

/// Removes a file, or whatever stands in its place and is no directory. That there is none is fine.
async fn remove_file<S: Sftp>(sftp: &mut S, file: &File) -> Result<Landed, Failed> {
    let gone = |placed, uid| Landed {
        placed,
        difference: (placed == Placed::Unchanged).then_some(Difference::Missing),
        uid,
    };
    let uid = match sftp.lstat(&file.path).await {
        Ok(there) if there.kind == Kind::Directory => {
            let path = file.path.clone();
            return Err(FileError::TargetIsDirectory { path }.into());
        }
        Ok(there) => there.uid,
        Err(Fault::NoSuchFile) => return Ok(gone(Placed::Unchanged, None)),
        Err(fault) => return Err(why::plain(fault, &file.path, "look at")),
    };
    match sftp.remove(&file.path).await {
        Ok(()) | Err(Fault::NoSuchFile) => {}
        Err(fault) => return Err(why::plain(fault, &file.path, "remove")),
    }
    match sftp.lstat(&file.path).await {
        Err(Fault::NoSuchFile) => Ok(gone(Placed::Removed, uid)),
        Err(fault) => Err(why::plain(fault, &file.path, "look at")),
        Ok(_) => {
            let (path, said) = (file.path.clone(), "it is still there".to_owned());
            let doing = "remove";
            Err(FileError::Refused { path, doing, said }.into())
        }
    }
}

/// A file's error, and whether the session is over with it.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The session goes on.
    File(FileError),
    /// Nothing more can be asked of the server.
    Session(Fault),
    /// The same, and more is to be said of the file than that.
    Both(FileError, Fault),
}

impl From<FileError> for Failed {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

enum Found {
    Same {
        uid: Option<u32>,
    },
    Different {
        difference: Difference,
        uid: Option<u32>,
    },
}

/// What is at the destination now.
async fn look<S: Sftp>(sftp: &mut S, file: &File) -> Result<Found, Failed> {
    let there = match sftp.lstat(&file.path).await {
        Ok(attrs) => attrs,
        Err(Fault::NoSuchFile) => {
            return Ok(Found::Different {
                difference: Difference::Missing,
                uid: None,
            });
        }
        Err(fault) => return Err(why::plain(fault, &file.path, "look at")),
    };
    let uid = there.uid;
    let different = |difference| Ok(Found::Different { difference, uid });
    match there.kind {
        Kind::Directory => {
            return Err(FileError::TargetIsDirectory {
                path: file.path.clone(),
            }
            .into());
        }
        // Not opened: a link leads elsewhere, and opening a pipe would stop the server until somebody writes to it.
        Kind::Other => return different(Difference::NotAFile),
        Kind::File => {}
    }
    if usize::try_from(there.size) != Ok(file.content.len()) {
        return different(Difference::Content);
    }
    if there.mode != file.mode {
        return different(Difference::Mode);
    }
    if sftp.owner().is_some_and(|owner| uid != Some(owner)) {
        return different(Difference::Owner);
    }
    match read_all(sftp, &file.path, file.content.len()).await {
        // The content is read for comparing only; it goes nowhere else.
        Ok(bytes) if bytes.as_slice() == file.content.expose() => Ok(Found::Same { uid }),
        Ok(_) => different(Difference::Content),
        Err(Fault::PermissionDenied) => different(Difference::Unreadable),
        Err(Fault::NoSuchFile) => different(Difference::Missing),
        Err(fault) => Err(why::plain(fault, &file.path, "read")),
    }
}

/// The whole file, as long as it has at most one byte more than `expected`: enough to see that it differs.
async fn read_all<S: Sftp>(sftp: &mut S, path: &str, expected: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut handle = sftp.open(path).await?;
    let mut all = Zeroizing::new(Vec::with_capacity(expected + 1));
    let read = loop {
        let room = expected + 1 - all.len();
        if room == 0 {
            break Ok(());
        }
        match sftp.read(&mut handle, room.min(CHUNK)).await {
            Ok(bytes) if bytes.is_empty() => break Ok(()),
            // A server that sends more than it was asked for must not grow our memory.
            Ok(bytes) if bytes.len() > room => {
                break Err(Fault::Lost("it sent more than was asked for".into()));
            }
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(fault) => break Err(fault),
        }
    };
    match read {
        Ok(()) => sftp.close(handle).await.map(|()| all),
        Err(fault) => {
            if !fault.ends_the_session() {
                let _ = sftp.close(handle).await;
            }
            Err(fault)
        }
    }
}

/// Writes the temporary file, complete and synced; returns its owner.
async fn write_beside<S: Sftp>(
    sftp: &mut S,
    file: &File,
    directory: &str,
    temp: &str,
) -> Result<Option<u32>, Failed> {
    let mut handle = match sftp.create(temp, BIRTH_MODE).await {
        Ok(handle) => handle,
        Err(fault) => return Err(why::not_created(sftp, file, directory, fault).await),
    };
    let filled = fill(sftp, file, &mut handle).await;
    let failed = match filled {
        // A close can be the first to hear of a full disk or quota, over NFS.
        Ok(attrs) => match sftp.close(handle).await {
            Ok(()) => return Ok(attrs.uid),
            Err(fault) => Unfilled::Fault(fault),
        },
        Err(unfilled) => {
            if !unfilled.ends_the_session() {
                let _ = sftp.close(handle).await;
            }
            unfilled
        }
    };
    match failed {
        Unfilled::File(error) => {
            let _ = sftp.remove(temp).await;
            Err(error.into())
        }
        Unfilled::Fault(fault) => {
            // Told apart while the temporary file still takes its room.
            let failed = why::not_written(sftp, file, directory, fault.clone()).await;
            discard(sftp, temp, &fault).await;
            Err(failed)
        }
    }
}

enum Unfilled {
    File(FileError),
    Fault(Fault),
}

impl Unfilled {
    fn ends_the_session(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.ends_the_session())
    }
}

impl From<Fault> for Unfilled {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn fill<S: Sftp>(sftp: &mut S, file: &File, handle: &mut S::Handle) -> Result<Attrs, Unfilled> {
    // The content leaves for its owner's file here, and nowhere else.
    for chunk in file.content.expose().chunks(CHUNK) {
        sftp.write(handle, chunk).await?;
    }
    if file.mode != BIRTH_MODE {
        sftp.set_mode(handle, file.mode).await?;
    }
    match sftp.fsync(handle).await {
        Ok(()) | Err(Fault::Unsupported) => {}
        Err(fault) => return Err(fault.into()),
    }
    let attrs = sftp.fstat(handle).await?;
    if attrs.mode != file.mode {
        let path = file.path.clone();
        return Err(Unfilled::File(FileError::ModeDiffers {
            path,
            wanted: file.mode,
            got: attrs.mode,
        }));
    }
    if usize::try_from(attrs.size) != Ok(file.content.len()) {
        return Err(Fault::Failure(format!("the new file has {} bytes", attrs.size)).into());
    }
    Ok(attrs)
}

async fn read_back<S: Sftp>(sftp: &mut S, file: &File) -> Result<(), Failed> {
    match read_all(sftp, &file.path, file.content.len()).await {
        Ok(bytes) if bytes.as_slice() == file.content.expose() => Ok(()),
        Ok(_) => Err(FileError::ReadBackDiffers {
            path: file.path.clone(),
        }
        .into()),
        // A mode such as 0200 is the caller's wish.
        Err(Fault::PermissionDenied) if file.mode & 0o400 == 0 => Ok(()),
        Err(fault) => Err(why::plain(fault, &file.path, "read back")),
    }
}

/// Removes the temporary file, unless the session is over anyway.
async fn discard<S: Sftp>(sftp: &mut S, temp: &str, after: &Fault) {
    if !after.ends_the_session() && sftp.remove(temp).await.is_err() {
        tracing::warn!(file = temp, "a temporary file could not be removed from the node");
    }
}

/// Where the temporary file of a destination is, if the destination can be one.
pub(crate) fn temp_path(path: &str, temp: &str) -> Option<String> {
    split(path).ok().map(|(directory, _)| beside(directory, temp))
}

fn beside(directory: &str, temp: &str) -> String {
    format!("{}/{temp}", if directory == "/" { "" } else { directory })
}

/// Directory and name of a destination.
pub(crate) fn split(path: &str) -> Result<(&str, &str), FileError> {
    let bad = |why| {
        Err(FileError::BadPath {
            path: path.to_owned(),
            why,
        })
    };
    if path.len() > 4000 {
        return bad("it is longer than 4000 bytes");
    }
    if path.contains('\0') {
        return bad("it holds a zero byte");
    }
    if !path.starts_with('/') {
        return bad("it is not absolute");
    }
    let Some((directory, name)) = path.rsplit_once('/') else {
        return bad("it is not absolute");
    };
    if name.is_empty() || name == "." || name == ".." {
        return bad("it does not end in a file's name");
    }
    if path.split('/').any(|part| part == "..") {
        return bad("it steps back with `..`");
    }
    Ok((if directory.is_empty() { "/" } else { directory }, name))
}

#[cfg(test)]
mod tests;
