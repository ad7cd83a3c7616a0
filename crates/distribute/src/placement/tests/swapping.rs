//! Servers without `posix-rename@openssh.com`.

use super::*;

fn plain(renames_failing: &[usize]) -> Fake {
    Fake {
        no_posix_rename: true,
        renames_failing: renames_failing.to_vec(),
        ..Fake::new()
    }
}

#[tokio::test]
async fn a_new_name_is_given_in_one_step_and_a_file_replaced_in_two() {
    let mut fake = plain(&[]);
    place(&mut fake, &file(b"one\n", 0o400), Mode::Write)
        .await
        .unwrap();
    let steps = |fake: &Fake| -> Vec<&str> {
        let wanted = ["replace", "rename", "remove"];
        fake.log
            .iter()
            .copied()
            .filter(|what| wanted.contains(what))
            .collect()
    };
    assert_eq!(steps(&fake), ["replace", "rename"]);
    fake.log.clear();
    let landed = place(&mut fake, &file(b"two\n", 0o400), Mode::Write)
        .await
        .unwrap();
    assert_eq!(landed.placed, Placed::Written);
    assert_eq!(fake.things[PATH], old(b"two\n", 0o400, OWN));
    assert_eq!(steps(&fake), ["replace", "rename", "rename", "rename", "remove"]);
    assert_eq!(fake.temps(), 0);

    let mut link = plain(&[]).with(PATH, Thing::Link);
    place(&mut link, &file(b"one\n", 0o400), Mode::Write)
        .await
        .unwrap();
    assert_eq!(link.things[PATH], old(b"one\n", 0o400, OWN));
}

#[tokio::test]
async fn what_went_aside_comes_back_where_the_new_file_cannot_take_its_place() {
    for (failing, foreign) in [(&[3][..], false), (&[2][..], false), (&[][..], true)] {
        let owner = if foreign { 7 } else { OWN };
        let mut fake = plain(failing).with(PATH, old(b"old\n", 0o444, owner));
        let before = fake.things.clone();
        let error = place(&mut fake, &file(b"new\n", 0o400), Mode::Write)
            .await
            .unwrap_err();
        let named = match foreign {
            true => matches!(error, FileError::ForeignFile { owner: 7, .. }),
            false => matches!(error, FileError::Refused { doing: "replace", .. }),
        };
        assert!(named, "{failing:?}: {error}");
        assert_eq!(fake.things, before, "{failing:?}");
    }
}

#[tokio::test]
async fn what_does_not_come_back_is_named() {
    let mut fake = plain(&[3, 4]).with(PATH, old(b"old\n", 0o400, OWN));
    let error = place(&mut fake, &file(b"new\n", 0o400), Mode::Write)
        .await
        .unwrap_err();
    let FileError::Displaced { aside, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(fake.things[aside.as_str()], old(b"old\n", 0o400, OWN));
    assert!(!fake.things.contains_key(PATH) && fake.temps() == 1);
    // and the next run puts things right
    fake.renames_failing.clear();
    place(&mut fake, &file(b"new\n", 0o400), Mode::Write)
        .await
        .unwrap();
    assert_eq!(fake.things[PATH], old(b"new\n", 0o400, OWN));
}

#[tokio::test]
async fn a_session_that_ends_between_the_steps_is_over_and_says_where_the_old_file_may_be() {
    // the second rename puts the old file aside, the third puts the new one in place
    for step in [2, 3] {
        let mut fake = plain(&[]).with(PATH, old(b"old\n", 0o400, OWN));
        fake.rename_hanging = Some(step);
        let failed = place_file(&mut fake, &file(b"new\n", 0o400), Mode::Write, ".mtk-0")
            .await
            .unwrap_err();
        let Failed::Both(FileError::Displaced { aside, .. }, Fault::Timeout) = failed else {
            panic!("{step}: {failed:?}");
        };
        let there = if step == 2 { PATH } else { aside.as_str() };
        assert_eq!(fake.things[there], old(b"old\n", 0o400, OWN), "{step}");
        // nothing more is asked of a session in an unknown state
        assert_eq!(fake.log.last(), Some(&"rename"), "{step}");
    }
}
