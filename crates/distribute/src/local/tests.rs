use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use super::*;
use crate::{Difference, Placed};

/// A directory whose path has no link in it.
fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn file(path: &str, content: &str) -> File {
    File {
        path: path.to_owned(),
        content: content.to_owned().into(),
        mode: 0o400,
    }
}

async fn place(path: &str, content: &str, mode: Mode) -> Result<Landed, FileError> {
    let results = Here::default()
        .place(&[file(path, content)], mode)
        .await
        .unwrap()
        .files;
    results.into_iter().next().unwrap()
}

fn left_beside(path: &str) -> Vec<String> {
    let names = fs::read_dir(Path::new(path).parent().unwrap()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".mtk-")).collect()
}

#[tokio::test]
async fn a_file_is_written_once_and_then_left_alone() {
    let (_folder, dir) = folder();
    let path = format!("{dir}/bt");
    let looked = place(&path, "one", Mode::Verify).await.unwrap();
    assert_eq!(
        (looked.placed, looked.difference),
        (Placed::WouldWrite, Some(Difference::Missing))
    );
    assert!(!Path::new(&path).exists());
    let first = place(&path, "one", Mode::Write).await.unwrap();
    assert_eq!(first.placed, Placed::Written);
    let about = fs::metadata(&path).unwrap();
    assert_eq!((about.mode() & 0o7777, about.len()), (0o400, 3));
    assert_eq!(first.uid, Some(about.uid()));
    assert_eq!(
        place(&path, "one", Mode::Write).await.unwrap().placed,
        Placed::Unchanged
    );
    assert_eq!(fs::metadata(&path).unwrap().ino(), about.ino());
    let second = place(&path, "two", Mode::Write).await.unwrap();
    assert_eq!(second.difference, Some(Difference::Content));
    assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        place(&path, "two", Mode::Write).await.unwrap().difference,
        Some(Difference::Mode)
    );
    assert_eq!(
        place(&path, "two", Mode::Remove).await.unwrap().placed,
        Placed::Removed
    );
    assert!(!Path::new(&path).exists() && left_beside(&path).is_empty());
}

#[tokio::test]
async fn no_link_is_followed_anywhere() {
    let (_folder, dir) = folder();
    fs::create_dir(format!("{dir}/real")).unwrap();
    symlink(format!("{dir}/real"), format!("{dir}/alias")).unwrap();
    let error = place(&format!("{dir}/alias/bt"), "x", Mode::Write)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert_eq!(fs::read_dir(format!("{dir}/real")).unwrap().count(), 0);

    fs::write(format!("{dir}/precious"), "precious").unwrap();
    symlink(format!("{dir}/precious"), format!("{dir}/bt")).unwrap();
    let landed = place(&format!("{dir}/bt"), "x", Mode::Write).await.unwrap();
    assert_eq!(landed.difference, Some(Difference::NotAFile));
    assert_eq!(fs::read_to_string(format!("{dir}/precious")).unwrap(), "precious");
    assert!(fs::symlink_metadata(format!("{dir}/bt")).unwrap().is_file());
}

#[tokio::test]
async fn what_cannot_be_is_an_error_of_that_file_alone() {
    let (_folder, dir) = folder();
    fs::create_dir(format!("{dir}/taken")).unwrap();
    fs::write(format!("{dir}/plain"), "").unwrap();
    let files = [
        file(&format!("{dir}/none/bt"), "x"),
        file(&format!("{dir}/taken"), "x"),
        file(&format!("{dir}/plain/bt"), "x"),
        file("relative", "x"),
        file(&format!("{dir}/good"), "x"),
    ];
    let results = Here::default().place(&files, Mode::Write).await.unwrap().files;
    assert!(
        matches!(results[0], Err(FileError::NoSuchDirectory { .. })),
        "{:?}",
        results[0]
    );
    assert!(
        matches!(results[1], Err(FileError::TargetIsDirectory { .. })),
        "{:?}",
        results[1]
    );
    assert!(
        matches!(results[2], Err(FileError::NotADirectory { .. })),
        "{:?}",
        results[2]
    );
    assert!(
        matches!(results[3], Err(FileError::BadPath { .. })),
        "{:?}",
        results[3]
    );
    assert_eq!(results[4].as_ref().unwrap().placed, Placed::Written);
}

/// What a run left that died two hours ago.
fn old_temp(dir: &str) -> String {
    let name = format!("{dir}/{}", temp_name());
    fs::write(&name, "half").unwrap();
    let old = SystemTime::now() - Duration::from_secs(7200);
    let file = fs::File::options().write(true).open(&name).unwrap();
    file.set_modified(old).unwrap();
    name
}

#[tokio::test]
async fn what_a_dead_run_left_is_swept() {
    let (_folder, dir) = folder();
    let names = [old_temp(&dir), format!("{dir}/{}", temp_name())];
    fs::write(&names[1], "half").unwrap();
    place(&format!("{dir}/bt"), "x", Mode::Write).await.unwrap();
    assert!(!Path::new(&names[0]).exists());
    assert!(
        Path::new(&names[1]).exists(),
        "that one may be of a run that lives"
    );
}

#[tokio::test]
async fn a_file_goes_to_its_owner_or_nowhere() {
    let (_folder, dir) = folder();
    let path = format!("{dir}/bt");
    let here = Here {
        owner: Some(54_321),
        ..Here::default()
    };
    let files = [file(&path, "x")];
    let left = [54_321, 54_322].map(|owner| (owner, old_temp(&dir)));
    if rustix::process::geteuid().is_root() {
        for (owner, name) in &left {
            rustix::fs::chown(name, Some(rustix::fs::Uid::from_raw(*owner)), None).unwrap();
        }
    }
    let landed = here.place(&files, Mode::Write).await.unwrap().files.remove(0);
    if rustix::process::geteuid().is_root() {
        assert_eq!(landed.unwrap().uid, Some(54_321));
        assert_eq!(fs::metadata(&path).unwrap().uid(), 54_321);
        let stay = left.map(|(_, name)| Path::new(&name).exists());
        assert_eq!(stay, [false, true], "only the owner's and ours are swept");
        rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(0)), None).unwrap();
        let again = here
            .place(&files, Mode::Write)
            .await
            .unwrap()
            .files
            .remove(0)
            .unwrap();
        assert_eq!(again.difference, Some(Difference::Owner));
    } else {
        assert!(landed.unwrap_err().to_string().contains("only root"));
        assert!(!Path::new(&path).exists() && left_beside(&path).is_empty());
    }
}

fn command(script: &str) -> Command {
    Command {
        name: "store".into(),
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        deadline: Duration::from_secs(20),
    }
}

async fn feed(command: &Command) -> Result<Landed, FileError> {
    let content = [file("", "hvs.a-secret-of-some-length\n")];
    command
        .place(&content, Mode::Write)
        .await
        .unwrap()
        .files
        .remove(0)
}

#[tokio::test]
async fn a_command_reads_the_secret_and_its_status_counts() {
    let (_folder, dir) = folder();
    let landed = feed(&command(&format!("cat >{dir}/got; env >{dir}/env")))
        .await
        .unwrap();
    assert_eq!(landed.placed, Placed::Written);
    assert_eq!(
        fs::read_to_string(format!("{dir}/got")).unwrap(),
        "hvs.a-secret-of-some-length\n"
    );
    let seen = fs::read_to_string(format!("{dir}/env")).unwrap();
    assert!(!seen.contains("CARGO"), "{seen}");
    // one that does not read at all
    feed(&command("exit 0")).await.unwrap();
    let error = feed(&command("echo no room >&2; exit 3"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("exit status: 3") && error.contains("no room"),
        "{error}"
    );
    let missing = Command {
        program: "/nonexistent".into(),
        ..command("")
    };
    assert!(matches!(feed(&missing).await, Err(FileError::NotRun { .. })));
}

#[tokio::test]
async fn a_command_that_repeats_the_secret_is_not_quoted() {
    let error = feed(&command("cat >&2; exit 1")).await.unwrap_err().to_string();
    assert!(
        !error.contains("secret-of") && error.contains("not shown"),
        "{error}"
    );
}

#[tokio::test]
async fn a_command_that_hangs_ends_with_all_it_started() {
    let (_folder, dir) = folder();
    let script = format!("sleep 300 & echo $! >{dir}/pid; wait");
    let slow = Command {
        deadline: Duration::from_millis(800),
        ..command(&script)
    };
    assert!(matches!(feed(&slow).await, Err(FileError::TimedOut { .. })));
    let pid = fs::read_to_string(format!("{dir}/pid")).unwrap();
    let gone = || match fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    for _ in 0..200 {
        if gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{pid} still runs");
}

#[tokio::test]
async fn only_looking_runs_nothing() {
    let (_folder, dir) = folder();
    let spy = command(&format!("touch {dir}/ran"));
    let results = spy.place(&[file("", "x")], Mode::Verify).await.unwrap().files;
    assert_eq!(results[0].as_ref().unwrap().placed, Placed::WouldWrite);
    assert!(!Path::new(&format!("{dir}/ran")).exists() && !spy.can_look());
}
