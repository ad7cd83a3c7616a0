//! Why a keytab is not used.

use std::{io, path::PathBuf};

use credential::Principal;

use super::format::Flaw;

/// Why a keytab was refused. Modes are octal permission bits; `we` is the user this process runs as.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeytabError {
    /// There is no such file.
    #[error("there is no keytab {}", path.display())]
    NotFound {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file cannot be opened by us.
    #[error(
        "the keytab {} cannot be read{} and we run as {we}: give it to that user", path.display(), facts(owner.as_ref(), *mode)
    )]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Its user and group, if they can be known.
        owner: Option<(String, String)>,
        /// Its permission bits, if they can be known.
        mode: Option<u32>,
        /// Whom we run as.
        we: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A directory, a FIFO, a device.
    #[error("the keytab {} is not a regular file", path.display())]
    NotAFile {
        /// Which one.
        path: PathBuf,
    },
    /// It belongs to somebody who is neither us nor root.
    #[error("the keytab {} belongs to {owner} (mode {mode:04o}), but we run as {we}: chown it", path.display())]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        owner: String,
        /// Its permission bits.
        mode: u32,
        /// Whom we run as.
        we: String,
    },
    /// Others may read it, or its group may write it.
    #[error(
        "the keytab {} of {owner}, group {group}, has mode {mode:04o}: it is open to others than {we}; \
         chmod 0600 it, and renew the key if others may have read it", path.display()
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        owner: String,
        /// Its group.
        group: String,
        /// Its permission bits.
        mode: u32,
        /// Whom we run as.
        we: String,
    },
    /// A group that is not ours may read it.
    #[error(
        "the keytab {} of {owner} (mode {mode:04o}) can be read by the group {group}, which {we} is not in; \
         chmod 0600 it, or chgrp it to a group of that user", path.display()
    )]
    Group {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        owner: String,
        /// Its group.
        group: String,
        /// Its permission bits.
        mode: u32,
        /// Whom we run as.
        we: String,
    },
    /// No keytab is that large.
    #[error("the keytab {} has {size} bytes: no keytab is that large", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How many bytes.
        size: u64,
    },
    /// It is not a keytab, or a damaged one.
    #[error("{} is not a usable keytab: extract it again", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong inside.
        #[source]
        flaw: Flaw,
    },
    /// It holds no key of the principal.
    #[error("the keytab {} holds no key of {principal}, but of: {}", path.display(), list(holds))]
    NoKey {
        /// Which file.
        path: PathBuf,
        /// Whose key was wanted.
        principal: Principal,
        /// Whose keys there are, the first few.
        holds: Vec<String>,
    },
    /// Reading failed.
    #[error("reading the keytab {} failed", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn facts(owner: Option<&(String, String)>, mode: Option<u32>) -> String {
    match (owner, mode) {
        (Some((user, group)), Some(mode)) => {
            format!(": it belongs to {user}, group {group}, mode {mode:04o},")
        }
        _ => ": a directory on its path is closed to us,".to_owned(),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}
