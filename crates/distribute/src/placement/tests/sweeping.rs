//! What dead runs left.

use super::{fake::NOW, *};

/// A home of our own: whose it is tells the sweep which files are ours.
fn at_home() -> Fake {
    let home = Thing::File {
        bytes: vec![],
        mode: 0o700,
        uid: OWN,
    };
    Fake::new().with(".", home)
}

#[tokio::test]
async fn what_dead_runs_left_is_swept_and_nothing_else() {
    let temp = |digit: char| format!("/tmp/.mtk-{}", digit.to_string().repeat(32));
    let mut fake = at_home()
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
        let mut fake = at_home().with(&path, old(b"dead", 0o400, OWN));
        fake.ages.insert(path, 7200);
        fake.hangs_at = Some(step);
        assert_eq!(sweep(&mut fake, "/tmp", NOW).await, 0);
    }
}
