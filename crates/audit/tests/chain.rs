//! A log that is written by many, killed, rotated, and looked through.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use audit::{Anchor, Log, Verdict, Who, inputs_of, verify};
use credential::act::{self, Act, Verb};
use proptest::prelude::*;

fn log(path: &Path) -> Log {
    let who = Who {
        user: "mtk".into(),
        command: "test".into(),
        ..Who::default()
    };
    Log::new(path.to_owned(), 0o600, &who)
}

fn tell(log: &Log, times: usize) {
    for n in 0..times {
        let what = format!("/tmp/vt_u{n}");
        log.append(&Act::new(Verb::Write, "node").by("dunepro").what(&what));
    }
}

fn verified(path: &Path) -> Verdict {
    let (inputs, head) = inputs_of(path).unwrap();
    verify(inputs, head, &[]).unwrap()
}

/// A log with so many records.
fn written(records: usize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    tell(&log(&path), records);
    (dir, path)
}

#[track_caller]
fn found(path: &Path, text: &str) {
    let verdict = verified(path);
    assert!(
        verdict.findings.iter().any(|f| f.text.contains(text)),
        "no {text:?} in {verdict:#?}"
    );
}

#[test]
fn many_writers_make_one_chain() {
    let (_dir, path) = written(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            // a Log of its own has a descriptor of its own, as another process has
            scope.spawn(|| {
                let log = log(&path);
                tell(&log, 40);
                log.settle().unwrap().unwrap();
            });
        }
    });
    let verdict = verified(&path);
    assert!(verdict.is_whole() && verdict.notes.is_empty(), "{verdict:#?}");
    assert_eq!((verdict.records, verdict.first), (320, Some(1)));
    for file in [path.clone(), path.with_extension("log.head")] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn what_was_changed_taken_out_or_cut_off_is_named() {
    let (_dir, path) = written(9);
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let put = |lines: &[&str]| fs::write(&path, lines.join("\n") + "\n").unwrap();

    let mut changed = lines.clone();
    let other = changed[3].replace("vt_u3", "vt_u7");
    changed[3] = &other;
    put(&changed);
    found(&path, "record 4 was changed");
    assert!(verified(&path).findings[0].place.ends_with("audit.log:4"));

    let mut changed = lines.clone();
    let other = changed[8].replace("vt_u8", "vt_u7");
    changed[8] = &other;
    put(&changed);
    found(&path, "record 9 was changed");

    put(&[&lines[..2], &lines[5..]].concat());
    found(&path, "records 3 to 5 before it are missing");
    put(&lines[..7]);
    found(&path, "records 8 to 9 behind it are missing");
    put(&[&lines[..5], &lines[..5], &lines[5..]].concat());
    found(&path, "stands behind record 5");
    put(&[&lines[..5], &["{}"], &lines[5..]].concat());
    found(&path, "no record");
    fs::write(&path, &good[..good.len() - 20]).unwrap();
    found(&path, "the last line is cut off");
    fs::write(&path, "").unwrap();
    found(&path, "records 1 to 9 behind it are missing");
    fs::write(&path, &good).unwrap();
    assert!(verified(&path).is_whole());
}

#[test]
fn a_cut_log_does_not_look_whole_once_it_is_written_to_again() {
    let (_dir, path) = written(9);
    let good = fs::read_to_string(&path).unwrap();
    let cut: Vec<&str> = good.lines().take(6).collect();
    fs::write(&path, cut.join("\n") + "\n").unwrap();
    tell(&log(&path), 2);
    found(&path, "records 7 to 9 before it are missing");
    // all of it gone
    fs::write(&path, "").unwrap();
    tell(&log(&path), 1);
    let verdict = verified(&path);
    assert_eq!(verdict.first, Some(13), "{verdict:#?}");
}

#[test]
fn an_anchor_proves_what_even_whoever_owns_the_files_cannot_change() {
    let (_dir, path) = written(3);
    let anchor = verified(&path).last.unwrap();
    // all of it written anew
    fs::remove_file(&path).unwrap();
    fs::remove_file(path.with_extension("log.head")).unwrap();
    tell(&log(&path), 5);
    assert!(verified(&path).is_whole());
    let with = |anchor: Anchor| {
        let (inputs, head) = inputs_of(&path).unwrap();
        verify(inputs, head, &[anchor]).unwrap()
    };
    assert!(with(anchor).findings[0].text.contains("record 3 is not the one"));
    assert!(
        with(Anchor { seq: 7, ..anchor }).findings[0]
            .text
            .contains("is not there")
    );
    assert!(with(verified(&path).last.unwrap()).is_whole());
}

#[test]
fn whatever_a_killed_writer_left_is_put_right_by_the_next() {
    let (_dir, path) = written(3);
    let good = fs::read(&path).unwrap();
    let third = good[..good.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    let head = fs::read(path.with_extension("log.head")).unwrap();
    // the note beside it is of the second record, the third was written as far as this
    let (_second, other) = written(2);
    let behind = fs::read(other.with_extension("log.head")).unwrap();
    drop(head);
    for end in third..=good.len() {
        fs::write(&path, &good[..end]).unwrap();
        let at_second = Anchor {
            seq: 2,
            hash: second_of(&good),
        };
        fs::write(
            path.with_extension("log.head"),
            format!("{:>85}\n", at_second.to_string()),
        )
        .unwrap();
        assert_eq!(behind.len(), 86);
        tell(&log(&path), 2);
        let verdict = verified(&path);
        assert!(verdict.is_whole(), "cut at {end}: {verdict:#?}");
        let whole = end >= good.len() - 1;
        let torn = !whole && end > third;
        assert_eq!(
            verdict.notes.len(),
            if torn { 2 } else { 0 },
            "cut at {end}: {verdict:#?}"
        );
        assert_eq!(
            verdict.records,
            4 + u64::from(whole) + u64::from(torn),
            "cut at {end}"
        );
    }
}

fn second_of(log: &[u8]) -> audit::Hash {
    let line = log.split(|b| *b == b'\n').nth(1).unwrap();
    act::digest(line).parse().unwrap()
}

#[test]
fn the_note_beside_the_log_may_be_lost_or_damaged() {
    let (_dir, path) = written(3);
    for text in [
        None,
        Some(&b""[..]),
        Some(&b"7:xyz\n"[..]),
        Some(&[0xff; 300][..]),
    ] {
        match text {
            None => fs::remove_file(path.with_extension("log.head")).unwrap(),
            Some(text) => fs::write(path.with_extension("log.head"), text).unwrap(),
        }
        tell(&log(&path), 1);
        let verdict = verified(&path);
        assert!(verdict.is_whole() && !verdict.notes.is_empty(), "{verdict:#?}");
    }
}

#[test]
fn the_chain_goes_on_across_rotation() {
    let (dir, path) = written(4);
    let log = log(&path);
    // as logrotate does it: moved away, compressed, no new file made
    let gz = dir.path().join("audit.log-20261125.gz");
    let mut zipped =
        flate2::write::GzEncoder::new(fs::File::create(&gz).unwrap(), flate2::Compression::fast());
    zipped.write_all(&fs::read(&path).unwrap()).unwrap();
    zipped.finish().unwrap();
    fs::remove_file(&path).unwrap();
    tell(&log, 3);
    fs::rename(&path, dir.path().join("audit.log.1")).unwrap();
    // moved away and nothing written since
    let between = verified(&path);
    assert!(between.is_whole(), "{between:#?}");
    tell(&log, 2);
    let verdict = verified(&path);
    assert!(verdict.is_whole() && verdict.notes.is_empty(), "{verdict:#?}");
    assert_eq!((verdict.records, verdict.first), (9, Some(1)));
    // the oldest are thrown away after a while
    fs::remove_file(&gz).unwrap();
    let verdict = verified(&path);
    assert!(verdict.is_whole(), "{verdict:#?}");
    assert_eq!((verdict.records, verdict.first), (5, Some(5)));
    // one in the middle is not
    fs::remove_file(dir.path().join("audit.log.1")).unwrap();
    tell(&log, 1);
    assert_eq!(verified(&path).first, Some(8));
}

#[test]
fn nothing_stops_who_cannot_write_and_what_is_missing_is_said() {
    let (dir, path) = written(2);
    // a lock that is never let go
    let held = fs::OpenOptions::new()
        .write(true)
        .open(path.with_extension("log.head"))
        .unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let patient = log(&path);
    let began = std::time::Instant::now();
    tell(&patient, 50);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    let error = patient.settle().unwrap_err();
    assert_eq!(error.acts, 50);
    drop(held);
    // they are kept and written when it is let go
    patient.settle().unwrap().unwrap();
    assert_eq!(verified(&path).records, 52);

    // files that are not ours alone, or none
    for spoil in [
        (|path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap()) as fn(&Path),
        |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/dev/null", path).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ] {
        let (_dir, path) = written(1);
        spoil(&path);
        let log = log(&path);
        tell(&log, 3);
        assert_eq!(log.settle().unwrap_err().acts, 3);
    }
    let nowhere = log(&dir.path().join("none/audit.log"));
    tell(&nowhere, 1);
    let said = nowhere.settle().unwrap_err().to_string();
    assert!(
        said.contains("1 acts") && said.contains("none/audit.log"),
        "{said}"
    );
}

#[test]
fn a_full_disk_leaves_a_line_that_is_put_right() {
    // where lines happen to fill the room to the last byte nothing is torn; then they are some bytes longer
    let filled = ["", "longer"].map(filled);
    let torn = |path: &PathBuf| !fs::read_to_string(path).unwrap().trim_end().ends_with('}');
    let (_dir, path) = filled.into_iter().find(|(_, path)| torn(path)).unwrap();
    tell(&log(&path), 3);
    let verdict = verified(&path);
    assert!(verdict.is_whole(), "{verdict:#?}");
    assert_eq!(
        verdict.notes.len(),
        2,
        "a torn line and the record of it: {verdict:#?}"
    );
}

/// A log that had no room for 20 acts; the first is about `what`.
fn filled(what: &str) -> (tempfile::TempDir, PathBuf) {
    let (dir, path) = written(1);
    // a limit on the file's size is what a full disk is to a writer; SIGXFSZ is ignored so that it is an error
    let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact writes_until_it_cannot --nocapture";
    let done = Command::new("bash")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("AUDIT_TEST_LOG", &path)
        .env("AUDIT_TEST_WHAT", what)
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        said.contains("acts missing"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    (dir, path)
}

/// Does something only for the test above, which runs it in a process of its own.
#[test]
fn writes_until_it_cannot() {
    let Some(path) = std::env::var_os("AUDIT_TEST_LOG") else {
        return;
    };
    let log = log(Path::new(&path));
    let what = std::env::var("AUDIT_TEST_WHAT").unwrap();
    log.append(&Act::new(Verb::Write, "node").what(&what));
    tell(&log, 19);
    println!("{} acts missing", log.settle().unwrap_err().acts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_change_of_any_byte_and_no_cut_stays_unseen(at in 0usize..2200, byte: u8, cut: bool) {
        let (_dir, path) = written(6);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        if cut {
            bytes.truncate(at);
        } else {
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
        }
        fs::write(&path, &bytes).unwrap();
        prop_assert!(!verified(&path).is_whole(), "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, head: Vec<u8>) {
        let (_dir, path) = written(0);
        fs::write(&path, &bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let note = path.with_extension("log.head");
        fs::write(&note, &head).unwrap();
        fs::set_permissions(&note, fs::Permissions::from_mode(0o600)).unwrap();
        verified(&path);
        let log = log(&path);
        tell(&log, 1);
        prop_assert!(log.settle().is_ok());
        verified(&path);
    }
}
