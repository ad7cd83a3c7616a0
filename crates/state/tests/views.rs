//! What is remembered for people alone: the last tries of an edge, and what they silenced.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::at;
use state::{
    EdgeId, Fared, Fault, ServiceKey, Silence, SilenceKind, State, is_service_silenced, is_silenced,
};

fn service() -> ServiceKey {
    common::service("dunepro")
}

fn push(node: &str) -> EdgeId {
    EdgeId::Push {
        service: service(),
        node: node.into(),
        path: "/tmp/vt_u50001".into(),
    }
}

fn failed(text: &str) -> Fared {
    Fared::Failed(Fault {
        stage: "push".into(),
        kind: "timed-out".into(),
        text: text.into(),
        next_try: None,
    })
}

async fn open() -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(&dir.path().join("mtk")).await.unwrap();
    (dir, state)
}

#[tokio::test]
async fn tries_that_end_alike_are_one_row_and_the_latest_are_kept() {
    let (_dir, state) = open().await;
    let (edge, other) = (push("n1"), push("n2"));
    let done = |reason: &str| Fared::Done {
        reason: Some(reason.into()),
    };
    let story = [
        done("never pushed"),
        Fared::Fresh,
        Fared::Fresh,
        failed("no answer"),
        failed("no answer"),
        failed("refused"),
        done("something else was pushed last"),
        done("something else was pushed last"),
    ];
    for (n, fared) in (1..).zip(story) {
        let all = [(edge.clone(), fared), (other.clone(), Fared::Fresh)];
        state.record_outcomes(at(n), &all).await.unwrap();
    }
    let told: Vec<_> = state.attempts(&edge).await.unwrap();
    let short: Vec<(i64, i64, u32)> = told
        .iter()
        .map(|a| (a.since.as_second(), a.at.as_second(), a.times))
        .collect();
    assert_eq!(
        short,
        [(8, 8, 1), (7, 7, 1), (6, 6, 1), (4, 5, 2), (2, 3, 2), (1, 1, 1)]
    );
    assert_eq!(told[3].fared, failed("no answer"));
    assert_eq!(told[5].fared, done("never pushed"));
    let one = state.attempts(&other).await.unwrap();
    assert_eq!((one.len(), one[0].times), (1, 8));
    for n in 10..100 {
        let fared = failed(&n.to_string());
        state
            .record_outcomes(at(n), &[(edge.clone(), fared)])
            .await
            .unwrap();
    }
    let told = state.attempts(&edge).await.unwrap();
    assert_eq!((told.len(), told[0].at, told[19].at), (20, at(99), at(80)));
    assert_eq!(state.attempts(&other).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_silence_is_about_its_place_and_ends_by_itself() {
    let (_dir, state) = open().await;
    let silence = |kind, name: &str, until| Silence {
        kind,
        name: name.into(),
        why: "moved\nto another rack".into(),
        who: "operator".into(),
        since: at(10),
        until: at(until),
        ended: None,
    };
    state
        .silence(&silence(SilenceKind::Node, "n1", 100))
        .await
        .unwrap();
    state
        .silence(&silence(SilenceKind::Credd, "n2", 100))
        .await
        .unwrap();
    let all = state.snapshot().await.unwrap().silences;
    assert_eq!(all[0].why, "moved to another rack");
    assert!(is_silenced(&all, &push("n1"), at(99)).is_some());
    assert!(is_silenced(&all, &push("n1"), at(100)).is_none());
    assert!(
        is_silenced(&all, &push("n2"), at(99)).is_none(),
        "a credd of that name is no node"
    );
    let login = EdgeId::Login { service: service() };
    assert!(is_silenced(&all, &login, at(50)).is_none());

    state
        .silence(&silence(SilenceKind::Service, "dune_production", 60))
        .await
        .unwrap();
    let all = state.silences().await.unwrap();
    assert!(is_silenced(&all, &login, at(50)).is_some());
    assert!(is_service_silenced(&all, "dune", "production", at(50)).is_some());
    assert!(is_service_silenced(&all, "dune", "production2", at(50)).is_none());
    assert!(is_service_silenced(&all, "dun", "e_production", at(50)).is_none());
    assert_eq!(is_silenced(&all, &push("n1"), at(50)).unwrap().until, at(100));

    // said again, it takes the place of the first; ended, it is told of still
    let mut again = silence(SilenceKind::Node, "n1", 200);
    again.since = at(20);
    state.silence(&again).await.unwrap();
    assert!(
        state
            .end_silence(SilenceKind::Node, "n1", "other", at(30))
            .await
            .unwrap()
    );
    assert!(
        !state
            .end_silence(SilenceKind::Node, "n1", "other", at(30))
            .await
            .unwrap()
    );
    let all = state.silences().await.unwrap();
    assert!(is_silenced(&all, &push("n1"), at(61)).is_none());
    let ends: Vec<_> = all
        .iter()
        .filter(|s| s.kind == SilenceKind::Node)
        .map(|s| s.ended.clone())
        .collect();
    let by = |seconds, who: &str| Some((at(seconds), who.to_owned()));
    assert_eq!(ends, [by(20, "operator"), by(30, "other")]);

    // it travels, and what is long over is forgotten
    let document = state.export().await.unwrap();
    let (_other_dir, other) = open().await;
    other.import(&document, false).await.unwrap();
    assert_eq!(other.silences().await.unwrap(), all);
    let mut late = silence(SilenceKind::Node, "n3", 500 * 86_400);
    late.since = at(400 * 86_400);
    state.silence(&late).await.unwrap();
    assert_eq!(state.silences().await.unwrap().len(), 1);
}
