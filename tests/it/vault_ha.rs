//! A cluster of Vault nodes whose leader dies at the worst moment.

use std::time::{Duration, Instant};

use testkit::{
    bed::vault_cluster,
    site::{self, ACCESS_POINTS},
};

use crate::{
    bed::bed,
    mtk::{Operator, Report, ran},
};

/// Takes from the credds what points at a cluster that is no more.
struct Forget;

impl Drop for Forget {
    fn drop(&mut self) {
        for place in ACCESS_POINTS {
            for robot in site::bulk() {
                for kind in ["top", "use"] {
                    let file = format!("dune_production.{kind}");
                    let _absent = std::fs::remove_file(bed().oauth_file(place.server, &robot.name, &file));
                }
            }
        }
    }
}

#[test]
fn a_leader_that_dies_in_the_middle_of_a_refresh() {
    let mut cluster = bed().vault_cluster();
    let _forget = Forget;
    for robot in site::bulk() {
        cluster.onboard(&robot.name, &robot.credkey()).unwrap();
    }
    let text = std::fs::read_to_string(bed().dir.join("bulk.yml")).unwrap();
    let config = text.replace(
        &format!("vaultServer: {}", site::VAULT.name),
        &format!(
            "mtk: {{limits: {{vaultConcurrency: 2}}}}\nvaultServer: {}",
            vault_cluster::NAME
        ),
    );
    assert_ne!(config, text);
    let operator = Operator::with(&config);
    let leader = cluster.leader().unwrap();
    let before = cluster.tokens(leader).unwrap().len();

    let began = Instant::now();
    let child = operator.start(&["refresh", "--output", "json"]);
    while cluster.tokens(leader).unwrap().len() < before + 10 {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody logs in");
        std::thread::sleep(Duration::from_millis(3));
    }
    cluster.kill(leader).unwrap();
    let report = Report::of(ran(child.wait_with_output().unwrap(), began));

    report.all(&["done"]);
    assert_eq!(report.ran.code, Some(0), "{}", report.ran.stderr);
    assert!(report.ran.took < Duration::from_secs(60), "{:?}", report.ran.took);
    // one whose answer was lost logs in once more, and nobody more often
    let logins = cluster.logins().unwrap();
    assert_eq!(logins.len(), site::bulk().len());
    assert!(logins.values().all(|n| *n <= 2), "{logins:?}");
    let again: usize = logins.values().filter(|n| **n == 2).count();
    assert!(again <= 2, "two requests were under way, {again} were made again");

    // with one address dead for good, everything goes on
    let other = Operator::with(&config).report(&["refresh", "--output", "json"]);
    other.all(&["done"]);
    assert!(other.ran.took < Duration::from_secs(30), "{:?}", other.ran.took);
}
