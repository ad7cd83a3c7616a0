use super::*;

fn quota(requests: u32, window: u64) -> Quota {
    Quota {
        requests,
        share: 100,
        window: Duration::from_millis(window),
        block: Duration::from_millis(window),
        patience: Duration::from_secs(5),
    }
}

fn budget(quota: Quota, dir: Option<&Path>) -> Budget {
    Budget::new(&"vault.test".parse().unwrap(), quota, dir, 8)
}

fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp::from_second(second).unwrap())
}

async fn send(budget: &Budget, urgency: Urgency) {
    let (mut leave, _slot) = budget.turn(urgency).await.unwrap();
    leave.sent();
}

#[tokio::test]
async fn what_ends_first_goes_first_with_all_its_requests() {
    let budget = budget(quota(1, 60), None);
    let begun = Instant::now();
    send(&budget, budget.urgency(None)).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for (name, ends) in [
        ("late", at(900)),
        ("soon", at(10)),
        ("missing", None),
        ("soon too", at(10)),
    ] {
        let (budget, order) = (budget.clone(), Arc::clone(&order));
        let urgency = budget.urgency(ends);
        tasks.spawn(async move {
            for _ in 0..2 {
                send(&budget, urgency).await;
                guard(&order).push(name);
            }
        });
        tokio::task::yield_now().await;
    }
    while tasks.join_next().await.is_some() {}
    let order = guard(&order).clone();
    assert_eq!(
        order,
        [
            "missing", "missing", "soon", "soon", "soon too", "soon too", "late", "late"
        ]
    );
    assert!(begun.elapsed() >= Duration::from_millis(8 * 60));
}

#[tokio::test]
async fn what_was_waited_for_is_on_the_account_of_who_waited() {
    let budget = budget(quota(1, 300), None);
    let queuer = |ends| Queuer::new(budget.urgency(ends));
    let (first, second) = (queuer(None), queuer(at(10)));
    budget.turn_of(&first).await.unwrap().0.sent();
    assert!(budget.held_back().is_zero() && first.waited() < Duration::from_millis(100));
    budget.turn_of(&second.clone()).await.unwrap().0.sent();
    assert!(
        second.waited() >= Duration::from_millis(250),
        "{:?}",
        second.waited()
    );
    assert!(
        first.waited() < Duration::from_millis(100),
        "{:?}",
        first.waited()
    );
    // one who gives up was held back no longer than it waited
    let before = budget.held_back();
    let given_up = tokio::time::timeout(Duration::from_millis(20), budget.turn_of(&second)).await;
    assert!(given_up.is_err());
    assert!(budget.held_back() < before + Duration::from_millis(250));
}

#[tokio::test]
async fn processes_count_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (
        budget(quota(4, 400), Some(dir.path())),
        budget(quota(4, 400), Some(dir.path())),
    );
    let begun = Instant::now();
    for _ in 0..2 {
        send(&one, one.urgency(None)).await;
        send(&other, other.urgency(None)).await;
    }
    assert!(begun.elapsed() < Duration::from_millis(300));
    send(&other, other.urgency(None)).await;
    assert!(begun.elapsed() >= Duration::from_millis(400));
    one.refused(Some(Duration::from_secs(9)));
    let late = other.turn(other.urgency(None)).await.err().unwrap();
    assert!(late.after > Duration::from_secs(8));
    let server = "vault.test".parse().unwrap();
    let shown = standing(dir.path(), &server, &quota(4, 400), Timestamp::now())
        .unwrap()
        .unwrap();
    assert_eq!((shown.blocks, shown.blocked_until.is_some()), (1, true));
}

#[tokio::test]
async fn a_turn_not_used_is_somebody_elses() {
    let long = Quota {
        patience: Duration::from_secs(120),
        ..quota(1, 60_000)
    };
    let budget = budget(long, None);
    let (leave, slot) = budget.turn(budget.urgency(None)).await.unwrap();
    let waiting = {
        let budget = budget.clone();
        tokio::spawn(async move { budget.turn(budget.urgency(None)).await.is_ok() })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop((leave, slot));
    let left = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert!(left.unwrap().unwrap());
    assert_eq!(guard(&budget.0.waiting).len(), 0);
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_no_reason_to_stop() {
    let budget = budget(quota(2, 1000), Some(Path::new("/nonexistent")));
    send(&budget, budget.urgency(None)).await;
    assert_eq!(budget.standing(Timestamp::now()).used, 1);
}
