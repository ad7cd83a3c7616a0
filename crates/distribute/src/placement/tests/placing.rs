//! What is written, what is left alone, and in which steps.

use super::*;

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
