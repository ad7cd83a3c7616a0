//! Downloads and built parts, kept between runs.
//!
//! An entry is made in a folder beside its place and renamed when it is whole, under a lock: an entry that
//! exists is complete, one that was interrupted is thrown away by the next run, and two runs at once make it once.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder that holds everything the test bed keeps: built parts and the beds themselves.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `$XDG_CACHE_HOME/mtk/testbed` or `~/.cache/mtk/testbed`.
    pub dir: PathBuf,
}

impl Cache {
    /// The cache of the user who runs this.
    ///
    /// # Errors
    /// Neither `XDG_CACHE_HOME` nor `HOME` names an absolute folder, or it cannot be made.
    pub fn user() -> Result<Self> {
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME names an absolute folder")?;
        let dir = base.join("mtk").join("testbed");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The folder of the part `name` as it is for `key`, built by `build` if it is not there yet.
    ///
    /// `key` tells one content from another: a version, or a hash of the sources ([`super::hash`]).
    /// `build` gets an empty folder to fill; when it fails, nothing stays.
    ///
    /// # Errors
    /// What `build` says, or the file system.
    pub fn entry(&self, name: &str, key: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        for word in [name, key] {
            let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if word.is_empty() || !word.chars().all(fine) {
                bail!("{word:?} cannot name a part of the cache");
            }
        }
        let parts = self.dir.join("parts");
        let entry = parts.join(format!("{name}-{key}"));
        if entry.is_dir() {
            return Ok(entry);
        }
        fs::create_dir_all(&parts).with_context(|| format!("cannot make {}", parts.display()))?;
        let _lock = lock(&parts.join(format!(".{name}.lock")))?;
        if entry.is_dir() {
            return Ok(entry);
        }
        let half = parts.join(format!(".{name}-{key}.half"));
        remove_tree(&half)?;
        fs::create_dir(&half).with_context(|| format!("cannot make {}", half.display()))?;
        let made = build(&half).with_context(|| format!("cannot make the part {name} of the test bed"));
        if let Err(error) = made {
            remove_tree(&half)?;
            return Err(error);
        }
        fs::rename(&half, &entry).with_context(|| format!("cannot rename {} into place", half.display()))?;
        Ok(entry)
    }
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// Takes an exclusive lock on `path` (made if need be) and holds it until the value is dropped or the process dies.
///
/// # Errors
/// The file cannot be opened or locked.
pub fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Removes a tree, but never reaches through a mount that an interrupted build left in it.
///
/// # Errors
/// Something is mounted below it, or the file system refuses.
pub fn remove_tree(tree: &Path) -> Result<()> {
    if !tree.exists() {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the list of mounts")?;
    if let Some(mount) = mounts_below(&mounts, tree).into_iter().next() {
        bail!("{} is still mounted: unmount it, then try again", mount.display());
    }
    fs::remove_dir_all(tree).with_context(|| format!("cannot remove {}", tree.display()))
}

fn mounts_below(mountinfo: &str, tree: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(OsString::from(point.replace("\\040", " "))))
        .filter(|point| point.starts_with(tree))
        .collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn cache(dir: &tempfile::TempDir) -> Cache {
        Cache {
            dir: dir.path().to_owned(),
        }
    }

    #[test]
    fn an_entry_is_built_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = cache(&dir)
            .entry("thing", "1", |tmp| Ok(fs::write(tmp.join("a"), "a")?))
            .unwrap();
        let second = cache(&dir).entry("thing", "1", |_| bail!("built twice")).unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::read_to_string(first.join("a")).unwrap(), "a");
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_the_next_one_heals() {
        let dir = tempfile::tempdir().unwrap();
        let failed = cache(&dir).entry("thing", "1", |tmp| {
            fs::write(tmp.join("half"), "")?;
            bail!("the network went away")
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("the network went away"));
        let made = cache(&dir)
            .entry("thing", "1", |tmp| Ok(fs::write(tmp.join("whole"), "")?))
            .unwrap();
        assert!(made.join("whole").exists() && !made.join("half").exists());
    }

    #[test]
    fn what_a_killed_run_left_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let half = dir.path().join("parts/.thing-1.half");
        fs::create_dir_all(half.join("deep")).unwrap();
        fs::write(half.join("deep/rubbish"), "").unwrap();
        let made = cache(&dir)
            .entry("thing", "1", |tmp| Ok(fs::write(tmp.join("whole"), "")?))
            .unwrap();
        assert!(!made.join("deep").exists() && !half.exists());
    }

    #[test]
    fn two_at_once_build_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let (built, start) = (AtomicUsize::new(0), Barrier::new(2));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    let build = |_: &Path| {
                        built.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        Ok(())
                    };
                    cache(&dir).entry("thing", "1", build).unwrap();
                });
            }
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_name_cannot_leave_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        assert!(cache(&dir).entry("../thing", "1", |_| Ok(())).is_err());
        assert!(cache(&dir).entry("thing", "", |_| Ok(())).is_err());
    }

    #[test]
    fn mounts_are_seen_deepest_last_mounted_first() {
        let info = "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /c/.x.half/proc rw - proc proc rw\n\
                    3 1 0:3 / /c/.x.half/a\\040b rw - tmpfs t rw\n4 1 0:3 / /c/.x.halfway rw - tmpfs t rw\n";
        let seen = mounts_below(info, Path::new("/c/.x.half"));
        assert_eq!(seen, [Path::new("/c/.x.half/a b"), Path::new("/c/.x.half/proc")]);
    }
}
