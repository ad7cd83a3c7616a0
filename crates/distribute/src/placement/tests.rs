use std::{collections::BTreeMap, time::Instant};

use credential::SecretBytes;

use super::*;

const OWN: u32 = 50001;
const PATH: &str = "/tmp/vt_u50001";
const NOW: u64 = 1_800_000_000;

#[derive(Clone, Debug, PartialEq)]
enum Thing {
    File { bytes: Vec<u8>, mode: u32, uid: u32 },
    Directory { sticky: bool },
    Link,
}

/// A small POSIX file system behind SFTP's answers.
#[derive(Default)]
struct Fake {
    things: BTreeMap<String, Thing>,
    /// Bytes left on the file system.
    free: Option<usize>,
    /// The user's quota in bytes: writing beyond it fails, and the file system says nothing.
    quota: Option<usize>,
    read_only: bool,
    umask: u32,
    no_posix_rename: bool,
    no_statvfs: bool,
    no_fsync: bool,
    /// What others do between the rename and the reading back.
    meddler: bool,
    /// The operation at which the session stops answering.
    hangs_at: Option<&'static str>,
    /// How many seconds ago things were last written.
    ages: BTreeMap<String, u64>,
    /// Modes temporary files were born with.
    births: Vec<u32>,
    log: Vec<&'static str>,
}

struct Open {
    path: String,
    at: usize,
}

impl Fake {
    fn new() -> Self {
        let mut fake = Self::default();
        fake.things
            .insert("/tmp".into(), Thing::Directory { sticky: true });
        fake
    }

    fn with(mut self, path: &str, thing: Thing) -> Self {
        self.things.insert(path.into(), thing);
        self
    }

    fn log(&mut self, what: &'static str) -> Result<(), Fault> {
        self.log.push(what);
        if self.hangs_at == Some(what) {
            Err(Fault::Timeout)
        } else {
            Ok(())
        }
    }

    fn attrs(&self, path: &str) -> Result<Attrs, Fault> {
        Ok(match self.things.get(path).ok_or(Fault::NoSuchFile)? {
            Thing::File { bytes, mode, uid } => {
                Attrs::new(Some(0o100_000 | mode), Some(bytes.len() as u64), Some(*uid))
            }
            Thing::Directory { .. } => Attrs::new(Some(0o041_777), Some(0), Some(0)),
            Thing::Link => Attrs::new(Some(0o120_777), Some(9), Some(0)),
        })
    }

    fn failure<T>() -> Result<T, Fault> {
        Err(Fault::Failure("Failure".into()))
    }

    fn temps(&self) -> usize {
        self.things.keys().filter(|path| path.contains(".mtk-")).count()
    }
}

impl Sftp for Fake {
    type Handle = Open;

    fn set_deadline(&mut self, _: Instant) {}

    async fn lstat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.log("lstat")?;
        self.attrs(path)
    }

    async fn stat(&mut self, path: &str) -> Result<Attrs, Fault> {
        self.log("stat")?;
        self.attrs(path)
    }

    async fn open(&mut self, path: &str) -> Result<Open, Fault> {
        self.log("open")?;
        match self.things.get(path) {
            Some(Thing::File { uid, mode, .. }) if *uid != OWN && mode & 0o004 == 0 => {
                Err(Fault::PermissionDenied)
            }
            Some(Thing::File { .. }) => Ok(Open {
                path: path.into(),
                at: 0,
            }),
            Some(_) => Self::failure(),
            None => Err(Fault::NoSuchFile),
        }
    }

    async fn create(&mut self, path: &str, mode: u32) -> Result<Open, Fault> {
        self.log("create")?;
        let (directory, _) = split(path).unwrap();
        match self.things.get(directory) {
            None => return Err(Fault::NoSuchFile),
            Some(Thing::Directory { .. }) if !self.read_only && !self.things.contains_key(path) => {}
            Some(_) => return Self::failure(),
        }
        self.births.push(mode);
        let mode = mode & !self.umask;
        self.things.insert(
            path.into(),
            Thing::File {
                bytes: vec![],
                mode,
                uid: OWN,
            },
        );
        Ok(Open {
            path: path.into(),
            at: 0,
        })
    }

    async fn read(&mut self, file: &mut Open, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
        self.log("read")?;
        let Some(Thing::File { bytes, .. }) = self.things.get(&file.path) else {
            return Self::failure();
        };
        // servers may send less than was asked for
        let end = bytes.len().min(file.at + limit.min(5));
        let part = bytes[file.at..end].to_vec();
        file.at = end;
        Ok(Zeroizing::new(part))
    }

    async fn write(&mut self, file: &mut Open, new: &[u8]) -> Result<(), Fault> {
        self.log("write")?;
        if let Some(free) = &mut self.free {
            if *free < new.len() {
                *free = 0;
                return Self::failure();
            }
            *free -= new.len();
        }
        if self.quota.is_some_and(|quota| quota < new.len()) {
            return Self::failure();
        }
        match self.things.get_mut(&file.path) {
            Some(Thing::File { bytes, .. }) => bytes.extend_from_slice(new),
            _ => return Self::failure(),
        }
        Ok(())
    }

    async fn fstat(&mut self, file: &mut Open) -> Result<Attrs, Fault> {
        self.log("fstat")?;
        self.attrs(&file.path)
    }

    async fn set_mode(&mut self, file: &mut Open, new: u32) -> Result<(), Fault> {
        self.log("set_mode")?;
        if let Some(Thing::File { mode, .. }) = self.things.get_mut(&file.path) {
            *mode = new;
        }
        Ok(())
    }

    async fn fsync(&mut self, _: &mut Open) -> Result<(), Fault> {
        self.log("fsync")?;
        if self.no_fsync {
            Err(Fault::Unsupported)
        } else {
            Ok(())
        }
    }

    async fn close(&mut self, _: Open) -> Result<(), Fault> {
        self.log("close")
    }

    async fn replace(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        self.log("replace")?;
        if self.no_posix_rename {
            return Err(Fault::Unsupported);
        }
        match self.things.get(to) {
            Some(Thing::Directory { .. }) => return Self::failure(),
            Some(Thing::File { uid, .. }) if *uid != OWN => return Err(Fault::PermissionDenied),
            _ => {}
        }
        let mut thing = self.things.remove(from).ok_or(Fault::NoSuchFile)?;
        if self.meddler
            && let Thing::File { bytes, .. } = &mut thing
        {
            *bytes = b"meddled\n".to_vec();
        }
        self.things.insert(to.into(), thing);
        Ok(())
    }

    async fn remove(&mut self, path: &str) -> Result<(), Fault> {
        self.log("remove")?;
        self.things.remove(path).map(drop).ok_or(Fault::NoSuchFile)
    }

    async fn list(
        &mut self,
        directory: &str,
        keep: fn(&str) -> bool,
        limit: usize,
    ) -> Result<Vec<(String, Attrs)>, Fault> {
        self.log("list")?;
        let names: Vec<String> = self.things.keys().cloned().collect();
        let here = names.iter().filter_map(|path| {
            let (parent, name) = path.rsplit_once('/')?;
            (parent == directory && keep(name)).then_some((path, name))
        });
        let with_age = |(path, name): (&String, &str)| {
            let age = self.ages.get(path).copied().unwrap_or(0);
            let attrs = self.attrs(path)?;
            Ok((name.to_owned(), attrs.modified(Some(NOW - age))))
        };
        here.take(limit).map(with_age).collect()
    }

    async fn space(&mut self, _: &str) -> Result<Space, Fault> {
        self.log("space")?;
        if self.no_statvfs {
            return Err(Fault::Unsupported);
        }
        let free_bytes = self.free.unwrap_or(1 << 30) as u64;
        Ok(Space {
            free_bytes,
            free_files: 100,
            counts_files: true,
            read_only: self.read_only,
        })
    }
}

fn file(bytes: &[u8], mode: u32) -> File {
    File {
        path: PATH.into(),
        content: SecretBytes::new(bytes.to_vec()),
        mode,
    }
}

fn old(bytes: &[u8], mode: u32, uid: u32) -> Thing {
    Thing::File {
        bytes: bytes.to_vec(),
        mode,
        uid,
    }
}

async fn place(fake: &mut Fake, file: &File, mode: Mode) -> Result<Landed, FileError> {
    let landed = place_file(fake, file, mode, ".mtk-0").await;
    landed.map_err(|failed| match failed {
        Failed::File(error) => error,
        Failed::Session(fault) => panic!("{fault:?}"),
    })
}

#[tokio::test]
async fn first_written_then_unchanged_then_replaced() {
    let mut fake = Fake::new();
    let landed = place(&mut fake, &file(b"one\n", 0o400), Mode::Write)
        .await
        .unwrap();
    let missing = Some(Difference::Missing);
    assert_eq!(
        landed,
        Landed {
            placed: Placed::Written,
            difference: missing,
            uid: Some(OWN)
        }
    );
    assert_eq!(fake.things[PATH], old(b"one\n", 0o400, OWN));
    assert_eq!(fake.births, [0o400]);

    fake.log.clear();
    let landed = place(&mut fake, &file(b"one\n", 0o400), Mode::Write)
        .await
        .unwrap();
    assert_eq!(
        landed,
        Landed {
            placed: Placed::Unchanged,
            difference: None,
            uid: Some(OWN)
        }
    );
    assert!(
        !fake
            .log
            .iter()
            .any(|what| ["create", "replace", "set_mode", "remove"].contains(what))
    );

    let landed = place(&mut fake, &file(b"two\n", 0o400), Mode::Write)
        .await
        .unwrap();
    assert_eq!(
        (landed.placed, landed.difference),
        (Placed::Written, Some(Difference::Content))
    );
    assert_eq!(fake.things[PATH], old(b"two\n", 0o400, OWN));
    assert_eq!(fake.temps(), 0);
}

#[tokio::test]
async fn verifying_writes_nothing() {
    let cases = [
        (None, Difference::Missing),
        (Some(old(b"other\n", 0o400, OWN)), Difference::Content),
        (Some(old(b"onE\n", 0o400, OWN)), Difference::Content),
        (Some(old(b"one\n", 0o644, OWN)), Difference::Mode),
        (Some(old(b"one\n", 0o400, 7)), Difference::Unreadable),
        (Some(Thing::Link), Difference::NotAFile),
    ];
    for (there, difference) in cases {
        let mut fake = Fake::new();
        if let Some(thing) = there {
            fake = fake.with(PATH, thing);
        }
        let before = fake.things.clone();
        let landed = place(&mut fake, &file(b"one\n", 0o400), Mode::Verify)
            .await
            .unwrap();
        assert_eq!(
            (landed.placed, landed.difference),
            (Placed::WouldWrite, Some(difference))
        );
        assert_eq!(fake.things, before);
    }
}

#[tokio::test]
async fn a_wider_mode_comes_after_birth_and_before_the_rename() {
    let mut fake = Fake::new();
    place(&mut fake, &file(b"one\n", 0o640), Mode::Write)
        .await
        .unwrap();
    assert_eq!(fake.births, [0o400]);
    assert_eq!(fake.things[PATH], old(b"one\n", 0o640, OWN));
}

#[tokio::test]
async fn a_link_is_replaced_and_never_opened() {
    let mut fake = Fake::new().with(PATH, Thing::Link);
    place(&mut fake, &file(b"one\n", 0o400), Mode::Write)
        .await
        .unwrap();
    assert_eq!(fake.things[PATH], old(b"one\n", 0o400, OWN));
    let opened = fake.log.iter().position(|what| *what == "open").unwrap();
    assert!(opened > fake.log.iter().position(|what| *what == "replace").unwrap());
}

/// Runs into a failure and checks that nothing else happened.
async fn refused(mut fake: Fake, new: &File) -> FileError {
    let before = fake.things.clone();
    let error = place(&mut fake, new, Mode::Write).await.unwrap_err();
    assert_eq!(fake.things, before, "after {error}");
    error
}

#[tokio::test]
async fn every_failure_has_its_name_and_leaves_the_old_file() {
    let new = file(b"new token\n", 0o400);
    let there = || Fake::new().with(PATH, old(b"old\n", 0o400, OWN));

    let full = Fake {
        free: Some(3),
        ..there()
    };
    assert!(matches!(
        refused(full, &new).await,
        FileError::DiskFull { free: 0, .. }
    ));
    let quota = Fake {
        quota: Some(3),
        ..there()
    };
    assert!(matches!(
        refused(quota, &new).await,
        FileError::Quota { inferred: true, .. }
    ));
    let mute = Fake {
        free: Some(3),
        no_statvfs: true,
        ..there()
    };
    assert!(matches!(refused(mute, &new).await, FileError::Refused { .. }));
    let read_only = Fake {
        read_only: true,
        ..there()
    };
    assert!(matches!(
        refused(read_only, &new).await,
        FileError::ReadOnly { .. }
    ));
    let plain = Fake {
        no_posix_rename: true,
        ..there()
    };
    assert!(matches!(
        refused(plain, &new).await,
        FileError::RenameUnsupported { .. }
    ));
    let narrow = Fake {
        umask: 0o777,
        ..there()
    };
    assert!(matches!(
        refused(narrow, &new).await,
        FileError::ModeDiffers { got: 0, .. }
    ));

    let directory = Fake::new().with(PATH, Thing::Directory { sticky: false });
    assert!(matches!(
        refused(directory, &new).await,
        FileError::TargetIsDirectory { .. }
    ));
    let foreign = Fake::new().with(PATH, old(b"old\n", 0o444, 7));
    assert!(matches!(
        refused(foreign, &new).await,
        FileError::ForeignFile { owner: 7, .. }
    ));
    let nowhere = File {
        path: "/nowhere/x".into(),
        ..new.clone()
    };
    assert!(matches!(
        refused(there(), &nowhere).await,
        FileError::NoSuchDirectory { .. }
    ));
    let below_a_file = File {
        path: format!("{PATH}/x"),
        ..new.clone()
    };
    assert!(matches!(
        refused(there(), &below_a_file).await,
        FileError::NotADirectory { .. }
    ));
}

#[tokio::test]
async fn a_server_without_fsync_is_served_all_the_same() {
    let mut fake = Fake {
        no_fsync: true,
        ..Fake::new()
    };
    place(&mut fake, &file(b"one\n", 0o400), Mode::Write)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_reads_back_differently_is_said() {
    let mut fake = Fake {
        meddler: true,
        ..Fake::new()
    };
    let error = place(&mut fake, &file(b"one\n", 0o400), Mode::Write)
        .await
        .unwrap_err();
    assert!(matches!(error, FileError::ReadBackDiffers { .. }));
}

#[tokio::test]
async fn a_hanging_server_ends_the_session_with_the_old_file_in_place() {
    for at in [
        "lstat", "open", "read", "create", "write", "fsync", "fstat", "close", "replace",
    ] {
        let mut fake = Fake::new().with(PATH, old(b"one!\n", 0o400, OWN));
        fake.hangs_at = Some(at);
        let failed = place_file(&mut fake, &file(b"two!\n", 0o400), Mode::Write, ".mtk-0")
            .await
            .unwrap_err();
        assert!(
            matches!(failed, Failed::Session(Fault::Timeout)),
            "{at}: {failed:?}"
        );
        assert_eq!(fake.things[PATH], old(b"one!\n", 0o400, OWN), "{at}");
        // nothing more is asked of a session in an unknown state
        assert_eq!(fake.log.last(), Some(&at));
    }
}

#[tokio::test]
async fn destinations_and_sizes_are_checked_before_anything_is_asked() {
    for path in [
        "",
        "x",
        "tmp/x",
        "/",
        "/tmp/",
        "/tmp/..",
        "/tmp/../etc/x",
        "/tmp/a\0b",
        &format!("/{}", "x".repeat(5000)),
    ] {
        let mut fake = Fake::new();
        let bad = File {
            path: path.into(),
            content: SecretBytes::new(vec![1]),
            mode: 0o400,
        };
        let error = place(&mut fake, &bad, Mode::Write).await.unwrap_err();
        assert!(matches!(error, FileError::BadPath { .. }), "{path:?}: {error}");
        assert!(fake.log.is_empty());
    }
    let mut fake = Fake::new();
    let error = place(&mut fake, &file(&vec![0; MAX_FILE + 1], 0o400), Mode::Write)
        .await
        .unwrap_err();
    assert!(matches!(error, FileError::TooLarge { .. }));
}

#[tokio::test]
async fn removing_takes_files_and_links_and_finds_nothing_the_second_time() {
    for thing in [old(b"a token", 0o400, OWN), Thing::Link] {
        let mut fake = Fake::new().with(PATH, thing);
        let gone = place(&mut fake, &file(b"", 0o400), Mode::Remove).await.unwrap();
        assert_eq!(gone.placed, Placed::Removed);
        assert!(!fake.things.contains_key(PATH));
        let again = place(&mut fake, &file(b"", 0o400), Mode::Remove).await.unwrap();
        assert_eq!(
            (again.placed, again.difference),
            (Placed::Unchanged, Some(Difference::Missing))
        );
    }
}

#[tokio::test]
async fn large_files_travel_in_pieces() {
    let mut fake = Fake::new();
    place(&mut fake, &file(&vec![b'x'; 70_000], 0o400), Mode::Write)
        .await
        .unwrap();
    assert_eq!(fake.log.iter().filter(|what| **what == "write").count(), 3);
}

#[test]
fn errors_show_no_content() {
    let shown = format!("{:?}", file(b"hvs.secret", 0o400));
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn what_dead_runs_left_is_swept_and_nothing_else() {
    let temp = |digit: char| format!("/tmp/.mtk-{}", digit.to_string().repeat(32));
    let mut fake = Fake::new()
        .with(
            ".",
            Thing::File {
                bytes: vec![],
                mode: 0o700,
                uid: OWN,
            },
        )
        .with(&temp('a'), old(b"dead", 0o400, OWN))
        .with(&temp('b'), old(b"at work", 0o400, OWN))
        .with(&temp('c'), old(b"somebody else's", 0o400, OWN + 1))
        .with(&temp('d'), Thing::Link)
        .with("/tmp/.mtk-notes", old(b"not of our making", 0o400, OWN))
        .with(PATH, old(b"a token", 0o400, OWN));
    for path in fake.things.keys() {
        fake.ages.insert(path.clone(), 7200);
    }
    fake.ages.insert(temp('b'), 60);
    assert_eq!(sweep(&mut fake, "/tmp", NOW).await, 1);
    assert!(!fake.things.contains_key(&temp('a')));
    assert_eq!(fake.things.len(), 7);
}

#[tokio::test]
async fn sweeping_ends_quietly_where_the_server_says_nothing() {
    for step in ["stat", "list", "remove"] {
        let path = format!("/tmp/.mtk-{}", "a".repeat(32));
        let mut fake = Fake::new()
            .with(
                ".",
                Thing::File {
                    bytes: vec![],
                    mode: 0o700,
                    uid: OWN,
                },
            )
            .with(&path, old(b"dead", 0o400, OWN));
        fake.ages.insert(path, 7200);
        fake.hangs_at = Some(step);
        assert_eq!(sweep(&mut fake, "/tmp", NOW).await, 0);
    }
}
