//! What may be wrong about one file on a node, over each transport and real sshd: each by its own name, what was there before
//! is there still, and the other files of the session are placed.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use distribute::{File, FileError, Mode, Placed};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::{
    ssh_backends::Kit,
    sshd::{UID, file, place, placed, root, tmp},
};

/// A directory of the node's /tmp, gone with its guard.
struct Trouble(PathBuf);

impl Trouble {
    fn new() -> Self {
        let path = root().join("tmp/trouble");
        let _ = fs::remove_dir_all(&path);
        let trouble = Self(path);
        trouble.directory("", 0o1777);
        trouble
    }

    fn at(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.0.clone()
        } else {
            self.0.join(name)
        }
    }

    fn directory(&self, name: &str, mode: u32) {
        fs::create_dir(self.at(name)).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What was there before, of this owner.
    fn old(&self, name: &str, uid: u32) {
        fs::write(self.at(name), "old\n").unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o400)).unwrap();
        chown(self.at(name), Some(uid), None).unwrap();
    }

    fn mounted(&self, name: &str, options: &str) -> Mounted {
        self.directory(name, 0o755);
        let (path, options) = (
            self.at(name),
            CString::new(format!("mode=1777,{options}")).unwrap(),
        );
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), options.as_c_str()).unwrap();
        Mounted(path)
    }

    /// Temporary files that somebody left anywhere below.
    fn left_over(&self) -> Vec<PathBuf> {
        fn look(at: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(at).unwrap().flatten() {
                let path = entry.path();
                if entry.file_name().to_string_lossy().starts_with(".mtk-") {
                    found.push(path);
                } else if entry.file_type().unwrap().is_dir() {
                    look(&path, found);
                }
            }
        }
        let mut found = Vec::new();
        look(&self.0, &mut found);
        found
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn new(name: &str) -> File {
    file(&format!("trouble/{name}"), "new\n")
}

#[test]
fn each_thing_that_can_be_wrong_with_a_file_has_its_name_and_the_old_one_stays() {
    let kit = Kit::with("");
    let trouble = Trouble::new();
    let full = trouble.mounted("full", "size=64k");
    trouble.old("full/x", UID);
    let filler = fs::write(full.0.join("filler"), vec![0; 1 << 20]);
    assert!(filler.is_err(), "64 KiB took a MiB");
    // the root of the file system is a file as well
    let _few = trouble.mounted("few", "size=64k,nr_inodes=2");
    trouble.old("few/x", UID);
    let read_only = trouble.mounted("read-only", "size=64k");
    trouble.old("read-only/x", UID);
    mount_remount(&read_only.0, MountFlags::RDONLY, "").unwrap();
    trouble.directory("closed", 0o755);
    trouble.old("closed/x", UID);
    trouble.old("foreign", 0);
    trouble.directory("directory", 0o755);
    trouble.old("plain", UID);

    type Name = fn(&FileError) -> bool;
    let wrong: [(&str, Name); 10] = [
        ("full/x", |e| matches!(e, FileError::DiskFull { free: 0, .. })),
        ("few/x", |e| matches!(e, FileError::DiskFull { files: 0, .. })),
        ("read-only/x", |e| matches!(e, FileError::ReadOnly { .. })),
        ("closed/x", |e| {
            matches!(
                e,
                FileError::PermissionDenied {
                    doing: "create files in",
                    ..
                }
            )
        }),
        ("closed/none", |e| {
            matches!(
                e,
                FileError::PermissionDenied {
                    doing: "create files in",
                    ..
                }
            )
        }),
        ("none/x", |e| matches!(e, FileError::NoSuchDirectory { .. })),
        ("plain/x", |e| matches!(e, FileError::NotADirectory { .. })),
        ("directory", |e| matches!(e, FileError::TargetIsDirectory { .. })),
        ("foreign", |e| {
            matches!(e, FileError::ForeignFile { owner: 0, .. })
        }),
        // longer than a name may be
        (LONG, |e| matches!(e, FileError::Refused { .. })),
    ];
    for node in kit.every_transport() {
        let _ = fs::remove_file(trouble.at("good"));
        let mut files: Vec<File> = wrong.iter().map(|(name, _)| new(name)).collect();
        files.push(new("good"));
        let report = place(&node, &files, Mode::Write).unwrap();
        for ((name, named), came) in wrong.iter().zip(&report.files) {
            let error = came.as_ref().expect_err(name);
            assert!(named(error), "{name}, {:?}: {error:?}", node.login);
            // whose turn it is, and where
            assert!(error.to_string().contains("/tmp/trouble"), "{error}");
        }
        let last = placed(&report).pop().unwrap();
        assert_eq!(
            last,
            Some(Placed::Written),
            "{:?}: {:?}",
            node.login,
            report.files
        );
        for old in ["full/x", "few/x", "read-only/x", "closed/x", "foreign", "plain"] {
            assert_eq!(
                fs::read(trouble.at(old)).unwrap(),
                b"old\n",
                "{old}, {:?}",
                node.login
            );
        }
        assert!(trouble.at("directory").is_dir());
        assert_eq!(trouble.left_over(), [] as [PathBuf; 0], "{:?}", node.login);
    }
}

const LONG: &str = {
    const BYTES: [u8; 300] = [b'l'; 300];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// SFTP has no word for a quota: all that is heard is that writing fails, and there is room. A limit on the size of files of
/// the process says the same to it.
#[test]
fn writing_that_fails_with_room_left_is_taken_for_a_quota() {
    let kit = Kit::with("Subsystem sftp /run/mtk-test-backends/limited.sh");
    let script = "#!/bin/sh\ntrap '' XFSZ\nulimit -f 16\nexec /usr/lib/openssh/sftp-server\n";
    let script = kit.folder.write("limited.sh", script);
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    let trouble = Trouble::new();
    trouble.old("x", UID);
    let large = file("trouble/x", &"x".repeat(50_000));
    for node in kit.every_transport() {
        let _ = fs::remove_file(trouble.at("good"));
        let report = place(&node, &[large.clone(), new("good")], Mode::Write).unwrap();
        let error = report.files[0].as_ref().unwrap_err();
        let named = matches!(error, FileError::Quota { inferred: true, .. });
        assert!(named, "{:?}: {error:?}", node.login);
        assert_eq!(placed(&report)[1], Some(Placed::Written), "{:?}", node.login);
        assert_eq!(fs::read(trouble.at("x")).unwrap(), b"old\n");
        assert_eq!(trouble.left_over(), [] as [PathBuf; 0], "{:?}", node.login);
    }
}

/// OpenSSH's server with the extension forbidden offers it no longer, as other servers never did.
#[test]
fn a_server_that_cannot_replace_files_gets_them_in_two_steps() {
    let kit = Kit::with("Subsystem sftp /usr/lib/openssh/sftp-server -P posix-rename");
    for node in kit.every_transport() {
        let what = format!("{:?}", node.login);
        let trouble = Trouble::new();
        trouble.old("foreign", 0);
        trouble.directory("directory", 0o755);
        fs::write(tmp().join("suite-victim"), "precious").unwrap();
        symlink("../suite-victim", trouble.at("link")).unwrap();
        std::os::unix::fs::lchown(trouble.at("link"), Some(UID), None).unwrap();
        for content in ["one\n", "two\n"] {
            let files = [file("trouble/x", content), file("trouble/link", content)];
            let report = place(&node, &files, Mode::Write).unwrap();
            assert_eq!(
                placed(&report),
                [Some(Placed::Written); 2],
                "{what}: {:?}",
                report.files
            );
            for name in ["x", "link"] {
                let about = fs::symlink_metadata(trouble.at(name)).unwrap();
                assert!(about.is_file(), "{what}");
                assert_eq!((about.mode() & 0o7777, about.uid()), (0o400, UID), "{what}");
                assert_eq!(fs::read(trouble.at(name)).unwrap(), content.as_bytes(), "{what}");
            }
        }
        assert_eq!(fs::read(tmp().join("suite-victim")).unwrap(), b"precious");
        let report = place(&node, &[new("foreign"), new("directory"), new("x")], Mode::Write).unwrap();
        let foreign = report.files[0].as_ref().unwrap_err();
        assert!(
            matches!(foreign, FileError::ForeignFile { owner: 0, .. }),
            "{what}: {foreign:?}"
        );
        let directory = report.files[1].as_ref().unwrap_err();
        assert!(
            matches!(directory, FileError::TargetIsDirectory { .. }),
            "{what}: {directory:?}"
        );
        assert_eq!(placed(&report)[2], Some(Placed::Written), "{what}");
        assert_eq!(fs::read(trouble.at("foreign")).unwrap(), b"old\n", "{what}");
        assert_eq!(trouble.left_over(), [] as [PathBuf; 0], "{what}");
    }
    fs::remove_file(tmp().join("suite-victim")).unwrap();
}

/// A node on which no file can be given another name: nothing is put in place, and that is said.
#[test]
fn a_server_that_renames_nothing_is_named() {
    let kit = Kit::with("Subsystem sftp /usr/lib/openssh/sftp-server -P posix-rename,rename");
    let trouble = Trouble::new();
    trouble.old("x", UID);
    for node in kit.every_transport() {
        let report = place(&node, &[new("x")], Mode::Write).unwrap();
        let error = report.files[0].as_ref().unwrap_err();
        let named = matches!(error, FileError::PermissionDenied { doing: "replace", .. });
        assert!(named, "{:?}: {error:?}", node.login);
        assert_eq!(fs::read(trouble.at("x")).unwrap(), b"old\n");
        assert_eq!(trouble.left_over(), [] as [PathBuf; 0], "{:?}", node.login);
    }
}
