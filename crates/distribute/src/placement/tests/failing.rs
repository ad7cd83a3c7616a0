//! Every failure by its name, with the old file in place.

use super::*;

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
    let no_names = Fake {
        no_posix_rename: true,
        renames_failing: vec![0],
        ..there()
    };
    assert!(matches!(
        refused(no_names, &new).await,
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
