//! What stands behind a refusal. SFTP version 3 has one code, FAILURE, for a full disk, a quota, a read-only file
//! system and much else, so the server is asked a few more questions.

use super::{Failed, Fault, Kind, Sftp};
use crate::{File, FileError};

/// A refusal that says all there is to know.
pub(super) fn plain(fault: Fault, path: &str, doing: &'static str) -> Failed {
    let path = path.to_owned();
    Failed::File(match fault {
        Fault::Timeout | Fault::Lost(_) => return Failed::Session(fault),
        Fault::PermissionDenied => FileError::PermissionDenied { path, doing },
        Fault::Quota => FileError::Quota {
            path,
            inferred: false,
        },
        Fault::NoSuchFile => FileError::Refused {
            path,
            doing,
            said: "no such file".into(),
        },
        Fault::NoSpace => FileError::Refused {
            path,
            doing,
            said: "no space is left".into(),
        },
        Fault::Unsupported => FileError::Refused {
            path,
            doing,
            said: "the server cannot do that".into(),
        },
        Fault::Failure(said) => FileError::Refused { path, doing, said },
    })
}

/// Why the temporary file could not be created.
pub(super) async fn not_created<S: Sftp>(sftp: &mut S, file: &File, directory: &str, fault: Fault) -> Failed {
    let path = file.path.clone();
    let directory_name = directory.to_owned();
    match fault {
        // OpenSSH says "no such file" for a file in the directory's place, too.
        Fault::NoSuchFile => match sftp.stat(directory).await {
            Ok(attrs) if attrs.kind == Kind::Directory => plain(fault, directory, "create a file in"),
            Ok(_) => FileError::NotADirectory {
                path,
                directory: directory_name,
            }
            .into(),
            Err(fault) if fault.ends_the_session() => Failed::Session(fault),
            Err(_) => FileError::NoSuchDirectory {
                path,
                directory: directory_name,
            }
            .into(),
        },
        Fault::PermissionDenied => FileError::PermissionDenied {
            path: directory_name,
            doing: "create files in",
        }
        .into(),
        Fault::Failure(_) | Fault::NoSpace => match sftp.stat(directory).await {
            Ok(attrs) if attrs.kind != Kind::Directory => FileError::NotADirectory {
                path,
                directory: directory_name,
            }
            .into(),
            Err(fault) if fault.ends_the_session() => Failed::Session(fault),
            _ => match room(sftp, file, directory, &fault).await {
                Some(failed) => failed,
                None => plain(fault, directory, "create a file in"),
            },
        },
        other => plain(other, directory, "create a file in"),
    }
}

/// Why the temporary file could not be filled.
pub(super) async fn not_written<S: Sftp>(sftp: &mut S, file: &File, directory: &str, fault: Fault) -> Failed {
    match fault {
        Fault::Failure(_) | Fault::NoSpace => match room(sftp, file, directory, &fault).await {
            Some(failed) => failed,
            None => FileError::Quota {
                path: file.path.clone(),
                inferred: true,
            }
            .into(),
        },
        other => plain(other, &file.path, "write the new"),
    }
}

/// Why the temporary file could not take the destination's place. `own` is the user the server works as.
pub(super) async fn not_replaced<S: Sftp>(
    sftp: &mut S,
    file: &File,
    own: Option<u32>,
    fault: Fault,
) -> Failed {
    let path = file.path.clone();
    match &fault {
        Fault::Unsupported => return FileError::RenameUnsupported { path }.into(),
        fault if fault.ends_the_session() => return Failed::Session(fault.clone()),
        _ => {}
    }
    match sftp.lstat(&file.path).await {
        Ok(there) if there.kind == Kind::Directory => FileError::TargetIsDirectory { path }.into(),
        Ok(there) if fault == Fault::PermissionDenied && there.uid != own => match there.uid {
            Some(owner) => FileError::ForeignFile { path, owner }.into(),
            None => plain(fault, &file.path, "replace"),
        },
        _ => plain(fault, &file.path, "replace"),
    }
}

/// Whether the file system's room explains a refusal.
async fn room<S: Sftp>(sftp: &mut S, file: &File, directory: &str, fault: &Fault) -> Option<Failed> {
    let (path, directory_name) = (file.path.clone(), directory.to_owned());
    match sftp.space(directory).await {
        Ok(space) if space.read_only => Some(
            FileError::ReadOnly {
                directory: directory_name,
            }
            .into(),
        ),
        Ok(space)
            if *fault == Fault::NoSpace
                || space.free_bytes < file.content.len() as u64
                || (space.counts_files && space.free_files == 0) =>
        {
            let (free, files) = (space.free_bytes, space.free_files);
            Some(
                FileError::DiskFull {
                    path,
                    directory: directory_name,
                    free,
                    files,
                }
                .into(),
            )
        }
        Ok(_) => None,
        Err(fault) if fault.ends_the_session() => Some(Failed::Session(fault)),
        // Without the extension nothing more can be known: the server's own words are the best there is.
        Err(_) => Some(plain(fault.clone(), &file.path, "write")),
    }
}
