use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use super::*;

/// What is wrong with a file of this content and mode, in mtk's words for programs.
fn wrong_with(content: &[u8], mode: u32) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made-elsewhere");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    let failure = file(&path, Duration::from_secs(60)).err()?;
    assert!(failure.text.contains(path.to_str().unwrap()), "{failure:?}");
    Some(failure.kind)
}

#[test]
fn a_source_is_a_plain_file_of_some_size_that_only_its_owner_writes() {
    assert_eq!(wrong_with(&vec![b'x'; distribute::MAX_FILE], 0o640), None);
    for (content, mode, kind) in [
        (vec![], 0o600, "size"),
        (vec![b'x'; distribute::MAX_FILE + 1], 0o600, "size"),
        (vec![b'x'], 0o620, "open-to-others"),
        (vec![b'x'], 0o602, "open-to-others"),
    ] {
        assert_eq!(wrong_with(&content, mode).as_deref(), Some(kind), "{mode:o}");
    }
    let folder = tempfile::tempdir().unwrap();
    for (path, kind) in [
        (folder.path().to_owned(), "not-a-file"),
        (folder.path().join("none"), "unreadable"),
    ] {
        assert_eq!(file(&path, Duration::ZERO).unwrap_err().kind, kind);
    }
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(
        file(&pipe, Duration::ZERO).unwrap_err().kind,
        "not-a-file",
        "nobody writes to it"
    );
}
