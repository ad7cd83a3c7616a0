//! Who agreed to a robot, as it is remembered.

use state::State;

#[tokio::test]
async fn a_consent_is_kept_until_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mtk");
    let (state, _) = State::open(&dir).await.unwrap();
    let service = state::ServiceKey {
        experiment: "dune".into(),
        role: "production".into(),
        account: "dunepro".into(),
        principal: "dunepro/m/h@R".into(),
    };
    let consent = |person: &str| state::Consent {
        service: service.clone(),
        person: person.into(),
        at: jiff::Timestamp::UNIX_EPOCH,
        expires: None,
        granted: vec!["wlcg.groups:/dune".into(), "compute.read".into()],
        missing: vec![],
    };
    assert!(state.consents().await.unwrap().is_empty());
    for person in ["alice", "bob"] {
        state.record_consent(&consent(person)).await.unwrap();
        let all = state.consents().await.unwrap();
        assert_eq!(all[&service], consent(person));
    }
    state.forget_consent(&service).await.unwrap();
    assert!(state.consents().await.unwrap().is_empty());
}
