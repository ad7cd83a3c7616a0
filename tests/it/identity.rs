//! A token reaches only its own account.

use std::collections::BTreeSet;

use testkit::site;

use crate::{
    bed::{bed, top_token},
    mtk::Operator,
};

#[test]
fn fifty_services_at_once_into_one_credd() {
    let config = std::fs::read_to_string(bed().dir.join("bulk.yml")).unwrap();
    let operator = Operator::with(&config);
    let report = operator.report(&["refresh", "--output", "json", "--credd", "ap1.mtk.test"]);
    report.all(&["done", "fresh"]);
    assert_eq!(report.traffic("stores"), u64::from(site::BULK));
    let mut tokens = BTreeSet::new();
    for robot in site::bulk() {
        let (token, url) = top_token("ap1", &robot.name, "dune_production");
        assert!(
            url.contains(&format!("/dune/{}:production", robot.credkey())),
            "{url} is not {}'s",
            robot.name
        );
        assert_eq!(
            bed().alias_of(&token),
            robot.credkey(),
            "{}'s file holds somebody else's token",
            robot.name
        );
        assert!(tokens.insert(token));
    }
}

#[test]
fn a_robot_mapped_to_another_user_stores_nothing() {
    // the pool maps this principal to `other`, the configuration says its account is `mapped`
    let report = Operator::changed(
        "account: mu2epro",
        &format!(
            "userPrincipalOverride: mapped/managedtokens/mtk.mtk.test@{}\n        keytabPathOverride: {}\n        \
             account: mu2epro",
            site::REALM,
            bed().keytab_of("mapped/managedtokens/mtk.mtk.test", "mapped").display()
        ),
    )
    .run(&["--experiment", "mu2e", "--role", "production"]);
    let stores: Vec<_> = report.edges().into_iter().filter(|e| e.kind == "store").collect();
    assert!(!stores.is_empty());
    for store in stores {
        assert_eq!(store.failure["kind"], "wrong-user", "{store:#?}");
        let text = store.failure["text"].as_str().unwrap();
        assert!(text.contains("other") && text.contains("mu2epro"), "{text}");
    }
    assert!(!bed().oauth_file("ap1", "other", "mu2e_production.top").exists());
}
