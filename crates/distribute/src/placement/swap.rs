//! Replacing a file at a server without `posix-rename@openssh.com`: SFTP's own rename (version 3) refuses to replace.

use super::{Fault, Kind, Sftp};

/// What did not work, and what came of the file that was there.
pub(super) enum Swap {
    /// It is as it was.
    Refused(Fault),
    /// It lies aside and would not come back, or that is not known: there may be none at its place.
    Displaced(Fault),
}

/// What is in the way goes aside, the new file takes its place, and what lies aside is removed. Between the first two
/// there is no file: the time of one request and its answer. A new name has no such moment.
pub(super) async fn in_two_steps<S: Sftp>(
    sftp: &mut S,
    temp: &str,
    path: &str,
    aside: &str,
) -> Result<(), Swap> {
    let refused = match sftp.rename(temp, path).await {
        Ok(()) => return Ok(()),
        Err(fault) if fault.ends_the_session() || fault == Fault::Unsupported => {
            return Err(Swap::Refused(fault));
        }
        Err(fault) => fault,
    };
    // a directory is nothing to be moved, nor is there anything to be done about a name that is free
    match sftp.lstat(path).await {
        Ok(there) if there.kind != Kind::Directory => {}
        Err(fault) if fault.ends_the_session() => return Err(Swap::Refused(fault)),
        _ => return Err(Swap::Refused(refused)),
    }
    match sftp.rename(path, aside).await {
        Ok(()) => {}
        // it was asked for, and may have been done
        Err(fault) if fault.ends_the_session() => return Err(Swap::Displaced(fault)),
        Err(fault) => return Err(Swap::Refused(fault)),
    }
    let Err(fault) = sftp.rename(temp, path).await else {
        if sftp.remove(aside).await.is_err() {
            tracing::warn!(
                file = aside,
                "what a file held before could not be removed from the node"
            );
        }
        tracing::warn!(
            file = path,
            "the server lacks posix-rename@openssh.com: there was no file for a moment while it was replaced"
        );
        return Ok(());
    };
    if fault.ends_the_session() || sftp.rename(aside, path).await.is_err() {
        return Err(Swap::Displaced(fault));
    }
    Err(Swap::Refused(fault))
}
