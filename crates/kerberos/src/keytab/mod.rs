//! A keytab, judged on the open file before anything trusts it.

mod error;
mod format;

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use credential::Principal;
use zeroize::Zeroizing;

pub use error::KeytabError;
pub use format::Enctype;

/// A keytab of a robot has a few hundred bytes; a host's with all its services some kilobytes.
const MAX_SIZE: u64 = 1024 * 1024;

/// The open file a [`Keytab`] was judged on. The library reads through it, so it lives as long as a ticket may
/// come back to it.
pub(crate) struct Held(File);

impl Held {
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

/// A keytab that holds a key of its principal and that nobody but its owner can read or write.
#[derive(Clone)]
pub struct Keytab {
    path: PathBuf,
    principal: Principal,
    kvno: u32,
    enctypes: Vec<Enctype>,
    held: Arc<Held>,
}

impl std::fmt::Debug for Keytab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Keytab({}, {}, kvno {})",
            self.path.display(),
            self.principal,
            self.kvno
        )
    }
}

impl Keytab {
    /// Opens and judges `path`: a regular file of at most 1 MiB, owned by us or root, closed to everybody else
    /// (mode 0600 or 0400; group-readable only where the group is one of ours), in MIT's format version 2, with a
    /// key of `principal`. What was judged is what the library will read: the file stays open.
    ///
    /// # Errors
    /// [`KeytabError`], one variant for each way to fail.
    pub fn open(path: &Path, principal: &Principal) -> Result<Self, KeytabError> {
        let file = OpenOptions::new()
            .read(true)
            // a FIFO or a terminal in the keytab's place must neither block us nor become ours
            .custom_flags(
                (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY)
                    .bits()
                    .cast_signed(),
            )
            .open(path)
            .map_err(|source| not_opened(path, source))?;
        let bytes = judge_and_read(&file, path)?;
        let entries = format::parse(&bytes).map_err(|flaw| KeytabError::Format {
            path: path.into(),
            flaw,
        })?;
        let ours = |e: &&format::Entry| e.is(principal);
        let kvno = entries
            .iter()
            .filter(ours)
            .map(|e| e.kvno)
            .max()
            .ok_or_else(|| KeytabError::NoKey {
                path: path.into(),
                principal: principal.clone(),
                holds: format::names(&entries),
            })?;
        let mut enctypes: Vec<_> = entries
            .iter()
            .filter(ours)
            .filter(|e| e.kvno == kvno)
            .map(|e| e.enctype)
            .collect();
        enctypes.dedup();
        Ok(Self {
            path: path.into(),
            principal: principal.clone(),
            kvno,
            enctypes,
            held: Arc::new(Held(file)),
        })
    }

    /// Whose key it is used for.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Where it was found.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest key version of the principal in the file.
    #[must_use]
    pub fn kvno(&self) -> u32 {
        self.kvno
    }

    /// The kinds of key of that version.
    #[must_use]
    pub fn enctypes(&self) -> &[Enctype] {
        &self.enctypes
    }

    pub(crate) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }
}

fn not_opened(path: &Path, source: std::io::Error) -> KeytabError {
    let path = path.to_owned();
    match source.kind() {
        std::io::ErrorKind::NotFound => KeytabError::NotFound { path },
        // a socket, or a device without a driver, cannot even be opened
        _ if fs::metadata(&path).is_ok_and(|m| !m.is_file()) => KeytabError::NotAFile { path },
        _ => {
            let (owner, mode) = fs::metadata(&path).map_or((None, None), |m| {
                (Some((user(m.uid()), group(m.gid()))), Some(m.mode() & 0o7777))
            });
            KeytabError::Unreadable {
                path,
                owner,
                mode,
                we: ourselves(),
                source,
            }
        }
    }
}

fn judge_and_read(file: &File, path: &Path) -> Result<Zeroizing<Vec<u8>>, KeytabError> {
    let io = |source| KeytabError::Io {
        path: path.to_owned(),
        source,
    };
    let meta = file.metadata().map_err(io)?;
    let (uid, gid, mode) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
    let path = path.to_owned();
    if !meta.is_file() {
        return Err(KeytabError::NotAFile { path });
    }
    if uid != rustix::process::geteuid().as_raw() && uid != 0 {
        return Err(KeytabError::Owner {
            path,
            owner: user(uid),
            mode,
            we: ourselves(),
        });
    }
    if mode & 0o037 != 0 {
        return Err(KeytabError::Mode {
            path,
            owner: user(uid),
            group: group(gid),
            mode,
            we: ourselves(),
        });
    }
    if mode & 0o040 != 0 && !in_group(gid) {
        return Err(KeytabError::Group {
            path,
            owner: user(uid),
            group: group(gid),
            mode,
            we: ourselves(),
        });
    }
    if meta.len() > MAX_SIZE {
        return Err(KeytabError::TooLarge {
            path,
            size: meta.len(),
        });
    }
    // all at once, so that no grown buffer leaves keys behind
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_SIZE).unwrap_or(0) + 1));
    file.take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| KeytabError::Io {
            path: path.clone(),
            source,
        })?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(KeytabError::TooLarge {
            path,
            size: bytes.len() as u64,
        });
    }
    Ok(bytes)
}

fn in_group(gid: u32) -> bool {
    rustix::process::getegid().as_raw() == gid
        || rustix::process::getgroups().is_ok_and(|groups| groups.iter().any(|g| g.as_raw() == gid))
}

fn ourselves() -> String {
    user(rustix::process::geteuid().as_raw())
}

fn user(uid: u32) -> String {
    named("/etc/passwd", uid)
}

fn group(gid: u32) -> String {
    named("/etc/group", gid)
}

/// `name (number)` as the local file tells it; the number alone for accounts from a directory service.
fn named(file: &str, id: u32) -> String {
    let mut text = String::new();
    let read = File::open(file).and_then(|f| f.take(MAX_SIZE).read_to_string(&mut text));
    let line = read.ok().and_then(|_| {
        text.lines()
            .find(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(id))
    });
    match line.and_then(|line| line.split(':').next()) {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn robot() -> Principal {
        "dunepro/managedtokens/mtk.test@MTK.TEST".parse().unwrap()
    }

    fn write(dir: &Path, bytes: &[u8], mode: u32) -> PathBuf {
        let path = dir.join("k.keytab");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn good() -> Vec<u8> {
        format::tests::keytab(&[(&robot(), 2, 17), (&robot(), 3, 18), (&robot(), 3, 17)])
    }

    #[test]
    fn the_newest_key_counts() {
        let dir = tempfile::tempdir().unwrap();
        let keytab = Keytab::open(&write(dir.path(), &good(), 0o400), &robot()).unwrap();
        assert_eq!(keytab.kvno(), 3);
        assert_eq!(
            keytab
                .enctypes()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96"]
        );
        assert!(!format!("{keytab:?}").contains("kkkk"));
    }

    #[test]
    fn each_failure_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| Keytab::open(path, &robot()).unwrap_err();
        assert!(matches!(
            open(&dir.path().join("none")),
            KeytabError::NotFound { .. }
        ));
        assert!(matches!(open(dir.path()), KeytabError::NotAFile { .. }));
        let path = write(dir.path(), &good(), 0o604);
        let error = open(&path);
        assert!(matches!(error, KeytabError::Mode { mode: 0o604, .. }), "{error}");
        assert!(
            error.to_string().contains("0604") && error.to_string().contains("chmod"),
            "{error}"
        );
        assert!(matches!(
            open(&write(dir.path(), b"", 0o600)),
            KeytabError::Format { .. }
        ));
        assert!(matches!(
            open(&write(dir.path(), &good()[..40], 0o600)),
            KeytabError::Format { .. }
        ));
        let big = vec![0; 1024 * 1024 + 1];
        assert!(matches!(
            open(&write(dir.path(), &big, 0o600)),
            KeytabError::TooLarge { .. }
        ));
        let other = "novapro/managedtokens/mtk.test@MTK.TEST".parse().unwrap();
        let error = Keytab::open(&write(dir.path(), &good(), 0o600), &other).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("dunepro/managedtokens/mtk.test@MTK.TEST"),
            "{error}"
        );
    }

    #[test]
    fn a_group_of_ours_may_read_and_a_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &good(), 0o640);
        assert!(Keytab::open(&path, &robot()).is_ok());
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(Keytab::open(&link, &robot()).is_ok());
    }

    #[test]
    fn a_fifo_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(
            Keytab::open(&path, &robot()).unwrap_err(),
            KeytabError::NotAFile { .. }
        ));
    }
}
