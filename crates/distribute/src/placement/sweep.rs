//! Temporary files that a run left behind when it died, also one of another process.

use std::{collections::BTreeSet, time::SystemTime};

use super::{Attrs, Kind, Sftp, beside, split};
use crate::File;

/// Temporary files begin like this, and go on with 128 random bits in hexadecimal digits: in a directory everybody may
/// write to nobody can stand in their way.
const TEMP_PREFIX: &str = ".mtk-";

/// How old, in seconds, a file of that name must be: no session of anybody's mtk lasts a tenth as long.
const DEAD_AFTER: u64 = 3600;

/// How many names of a directory are looked at: a crowded /tmp is swept as far as that.
const MAX_NAMES: usize = 10_000;

/// A new name for a temporary file.
pub(crate) fn temp_name() -> String {
    format!("{TEMP_PREFIX}{:032x}", rand::random::<u128>())
}

/// Whether a name is one [`temp_name`] makes.
fn is_temp_name(name: &str) -> bool {
    name.strip_prefix(TEMP_PREFIX).is_some_and(|rest| {
        rest.len() == 32
            && rest
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// The directories of these files, each once.
pub(crate) fn directories(files: &[File]) -> BTreeSet<&str> {
    let each = files.iter().filter_map(|file| split(&file.path).ok());
    each.map(|(directory, _)| directory).collect()
}

/// The time by our clock, in seconds since 1970.
pub(crate) fn clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Removes from `directory` what dead runs of this account left there, be it of the owner files are given to; `now` is the time by our clock. Returns how many.
///
/// It is housekeeping: what does not work is left for the next time.
pub(crate) async fn sweep<S: Sftp>(sftp: &mut S, directory: &str, now: u64) -> usize {
    // The server works in the account's home directory, whose owner is the account.
    let Ok(Attrs { uid: Some(own), .. }) = sftp.stat(".").await else {
        return 0;
    };
    let Ok(names) = sftp.list(directory, is_temp_name, MAX_NAMES).await else {
        return 0;
    };
    let mut removed = 0;
    for (name, attrs) in names {
        let old = attrs
            .modified
            .is_some_and(|then| then.saturating_add(DEAD_AFTER) < now);
        let ours = attrs.uid == Some(own) || (attrs.uid.is_some() && attrs.uid == sftp.owner());
        if old && attrs.kind == Kind::File && ours {
            let path = beside(directory, &name);
            match sftp.remove(&path).await {
                Ok(()) => {
                    tracing::info!(file = path, "removed the temporary file of a dead run");
                    removed += 1;
                }
                Err(fault) if fault.ends_the_session() => break,
                Err(fault) => tracing::debug!(file = path, ?fault, "a dead run's file stays"),
            }
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_making_are_ours() {
        assert!(is_temp_name(&temp_name()));
        for other in [
            ".mtk-",
            ".mtk-0",
            "mtk-00000000000000000000000000000000",
            ".mtk-0000000000000000000000000000000G",
            ".mtk-0000000000000000000000000000000A",
            ".mtk-000000000000000000000000000000000",
            ".mtk-../../../../../../../etc/passwd0",
        ] {
            assert!(!is_temp_name(other), "{other}");
        }
    }
}
