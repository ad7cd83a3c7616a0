//! The doctor: a healthy service is all good, and each fault is found at its own hop with its own remedy.

use serde_json::{Value, json};
use testkit::site::REALM;

use crate::{
    bed::{Stopped, bed},
    mtk::Operator,
    onboarding,
};

const SERVICE: &str = "nova_production";

struct Diagnosis {
    code: Option<i32>,
    checks: Vec<Value>,
}

fn doctor(operator: &Operator, service: &str) -> Diagnosis {
    let ran = operator.mtk(&["doctor", service, "--output", "json"]);
    let json: Value = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|e| panic!("no diagnosis ({e}):\n{}\n{}", ran.stdout, ran.stderr));
    Diagnosis {
        code: ran.code,
        checks: json["checks"].as_array().unwrap().clone(),
    }
}

impl Diagnosis {
    /// Exactly these hops are not good, and the first of them has a remedy with these words.
    #[track_caller]
    fn only(&self, hops: &[(&str, &str)], words: &str) {
        let bad: Vec<&Value> = self.checks.iter().filter(|c| c["health"] != "good").collect();
        let found: Vec<(&str, &str)> = bad
            .iter()
            .map(|c| (c["hop"].as_str().unwrap(), c["health"].as_str().unwrap()))
            .collect();
        assert_eq!(found, hops, "{bad:#?}");
        let remedy = bad[0]["remedy"]
            .as_str()
            .unwrap_or_else(|| panic!("no remedy: {bad:#?}"));
        assert!(remedy.contains(words), "{remedy}");
        let failed = hops.iter().any(|(_, health)| *health == "failed");
        assert_eq!(self.code, Some(i32::from(failed)));
        for check in bad.iter().filter(|c| c["health"] != "skipped") {
            assert!(check["remedy"].is_string(), "{check:#?}");
        }
    }
}

/// An operator whose service has all it needs.
fn healthy() -> Operator {
    let operator = Operator::new();
    operator.run(&["--service", SERVICE]).all(&["done", "fresh"]);
    operator
}

/// The bed's configuration with more said about nova's role, and everything brought there by it.
fn with(lines: &str) -> Operator {
    Operator::changed(
        "        account: novapro\n",
        &format!("        account: novapro\n{lines}"),
    )
}

#[test]
fn a_healthy_service_is_good_at_every_hop() {
    let diagnosis = doctor(&healthy(), SERVICE);
    let bad: Vec<_> = diagnosis
        .checks
        .iter()
        .filter(|c| c["health"] != "good")
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(diagnosis.code, Some(0));
    let count = |hop: &str| diagnosis.checks.iter().filter(|c| c["hop"] == hop).count();
    let hops = [
        "keytab",
        "ticket",
        "vault",
        "login",
        "bearer",
        "claims",
        "collector",
    ];
    assert!(hops.iter().all(|hop| count(hop) == 1), "{:#?}", diagnosis.checks);
    assert_eq!((count("credd"), count("node"), count("file")), (3, 3, 9));
    let text = healthy().mtk(&["doctor", SERVICE]).stdout;
    assert!(text.contains("22 good, 0 warnings, 0 failed"), "{text}");
}

#[test]
fn a_robot_without_a_key() {
    let diagnosis = doctor(&with("        keytabPathOverride: /nowhere/x.keytab\n"), SERVICE);
    let first = &diagnosis.checks[0];
    assert_eq!(
        (&first["hop"], &first["health"]),
        (&"keytab".into(), &"failed".into())
    );
    assert!(
        first["remedy"].as_str().unwrap().contains("/nowhere/x.keytab"),
        "{first}"
    );
    let skipped = |hop: &str| {
        let mut of_hop = diagnosis.checks.iter().filter(|c| c["hop"] == hop);
        of_hop.all(|c| c["health"] == "skipped")
    };
    assert!(
        ["ticket", "login", "bearer", "credd"].into_iter().all(skipped),
        "{:#?}",
        diagnosis.checks
    );

    // who needs no ticket at credds fails there for a reason of its own
    let other = with(
        "        keytabPathOverride: /nowhere/x.keytab\n        \
         condor: {methods: [SSL], certificate: /nowhere/x.crt, key: /nowhere/x.key}\n",
    );
    let credds = doctor(&other, SERVICE).checks;
    let credds: Vec<&Value> = credds.iter().filter(|c| c["hop"] == "credd").collect();
    assert!(!credds.is_empty());
    for credd in credds {
        assert_eq!(credd["health"], "failed", "{credd}");
        assert!(credd.to_string().contains("/nowhere/x."), "{credd}");
    }

    let name = "behind/managedtokens/mtk.mtk.test";
    let stale = bed().principal_with_stale_keytab(name);
    let operator = with(&format!(
        "        keytabPathOverride: {}\n        userPrincipalOverride: {name}@{REALM}\n",
        stale.display()
    ));
    let diagnosis = doctor(&operator, SERVICE);
    let ticket = diagnosis.checks.iter().find(|c| c["hop"] == "ticket").unwrap();
    assert_eq!(ticket["health"], "failed", "{ticket}");
    assert!(
        ticket["remedy"].as_str().unwrap().contains("newer key"),
        "{ticket}"
    );
}

#[test]
fn a_vault_that_is_sealed_or_not_believed() {
    let operator = healthy();
    bed().seal();
    let diagnosis = doctor(&operator, SERVICE);
    bed().unseal();
    diagnosis.only(
        &[("vault", "failed"), ("login", "skipped"), ("bearer", "skipped")],
        "unseal",
    );

    let text = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    let operator = Operator::with(&format!(
        "mtk: {{vault: {{certificateName: other.mtk.test}}}}\n{text}"
    ));
    let diagnosis = doctor(&operator, SERVICE);
    let vault = diagnosis.checks.iter().find(|c| c["hop"] == "vault").unwrap();
    assert!(
        vault["remedy"].as_str().unwrap().contains("certificateName"),
        "{vault}"
    );
}

#[test]
fn nobody_agreed_or_the_policy_takes_no_slash() {
    let operator = healthy();
    {
        let _gone = bed().take_secret("nova", "novapro", "production");
        doctor(&operator, SERVICE).only(&[("bearer", "failed")], "mtk onboard nova_production");
    }
    let _strict = bed().without_slashes("nova", "production");
    doctor(&operator, SERVICE).only(&[("bearer", "failed")], "allow_slashes_in_identity_templates");
}

#[test]
fn a_role_that_vault_does_not_know() {
    let operator = Operator::changed("      calibration:\n", "      nosuch:\n");
    let diagnosis = doctor(&operator, "dune_nosuch");
    let login = diagnosis.checks.iter().find(|c| c["hop"] == "login").unwrap();
    assert!(
        login["remedy"].as_str().unwrap().contains("kerberos-dune_nosuch"),
        "{login}"
    );
}

#[test]
fn a_ticket_for_another_server_and_one_that_nobody_can_look_up() {
    let text = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    let operator = Operator::with(&format!("mtk: {{vault: {{alias: gss.mtk.test}}}}\n{text}"));
    let diagnosis = doctor(&operator, SERVICE);
    let login = diagnosis.checks.iter().find(|c| c["hop"] == "login").unwrap();
    assert_eq!(login["health"], "failed", "{login}");
    assert!(
        login["remedy"].as_str().unwrap().contains("mtk.vault.alias"),
        "{login}"
    );
    let operator = healthy();
    let down = Stopped::server("ldap");
    let diagnosis = doctor(&operator, SERVICE);
    drop(down);
    diagnosis.only(&[("login", "failed"), ("bearer", "skipped")], "LDAP server");
}

#[test]
fn a_credkey_that_is_not_what_vault_calls_the_robot() {
    let plain = bed().keytab_of("plainrobot", "plain");
    let operator = with(&format!(
        "        keytabPathOverride: {}\n        userPrincipalOverride: plainrobot@{REALM}\n",
        plain.display()
    ));
    let _others = bed().with_policy_of_others("nova", "production");
    let diagnosis = doctor(&operator, SERVICE);
    let bearer = diagnosis.checks.iter().find(|c| c["hop"] == "bearer").unwrap();
    assert!(
        bearer["remedy"].as_str().unwrap().contains("credkey plainrobot"),
        "{bearer}"
    );
}

#[test]
fn a_consent_that_ends_or_carries_less_or_was_withdrawn() {
    let text = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    let operator = Operator::with(&format!("mtk: {{consentLifetime: 3d}}\n{text}"));
    let again = bed().onboarded_again("nova", "novapro", "production");
    let (done, ran) = onboarding::onboard(&operator, SERVICE, "novapro");
    assert_eq!(ran.code, Some(0), "{done}");
    operator.run(&["--service", SERVICE]).all(&["done", "fresh"]);
    let ends = ("consent", "warning");
    let diagnosis = doctor(&operator, SERVICE);
    diagnosis.only(&[ends], "mtk onboard nova_production");
    let found = diagnosis.checks.iter().find(|c| c["hop"] == "consent").unwrap()["found"].to_string();
    assert!(found.contains("novapro agreed on"), "{found}");

    // the groups are still there, and what else the robot had when somebody agreed is not
    let groups = "wlcg wlcg.groups:/nova wlcg.groups:/nova/production compute.read";
    bed().onboard_with("nova", "production", "novapro", groups);
    let diagnosis = doctor(&operator, SERVICE);
    diagnosis.only(&[("claims", "warning"), ends], "who took that away from novapro");
    assert!(
        diagnosis.checks.iter().any(|c| c["found"]
            .as_str()
            .unwrap()
            .contains("no longer carries storage.read:/nova")),
        "{:#?}",
        diagnosis.checks
    );

    // withdrawn at the issuer, which shows when the access token there is at its end
    {
        let _short = bed().issuer_with("access_ttl", json!(30));
        bed().onboard_with("nova", "production", "novapro", groups);
    }
    bed().revoke_at_issuer("novapro");
    let diagnosis = doctor(&operator, SERVICE);
    diagnosis.only(&[("bearer", "failed"), ends], "mtk onboard nova_production");
    drop(again);
}

#[test]
fn a_capability_that_is_not_there() {
    let operator = with("        scopes: ['storage.modify:/nova']\n");
    operator.run(&["--service", SERVICE]).all(&["done", "fresh"]);
    doctor(&operator, SERVICE).only(&[("claims", "warning")], "capability");
}

#[test]
fn a_credd_that_lost_its_credential_or_is_down() {
    let operator = healthy();
    std::fs::remove_file(bed().oauth_file("ap2", "novapro", "nova_production.top")).unwrap();
    doctor(&operator, SERVICE).only(&[("credd", "warning")], "mtk refresh --service nova_production");
    operator.run(&["--service", SERVICE]).all(&["done", "fresh"]);

    let down = Stopped::credd("ap3");
    let diagnosis = doctor(&operator, SERVICE);
    drop(down);
    let credds: Vec<_> = diagnosis.checks.iter().filter(|c| c["hop"] == "credd").collect();
    let failed: Vec<_> = credds.iter().filter(|c| c["health"] == "failed").collect();
    assert_eq!((credds.len(), failed.len()), (3, 1), "{credds:#?}");
    assert_eq!(failed[0]["peer"], "ap3.mtk.test");
}

#[test]
fn a_node_that_cleans_tmp_or_knows_us_no_longer() {
    let operator = healthy();
    std::fs::remove_file(bed().node_path("gss", "/tmp/vt_u50006-nova_production")).unwrap();
    doctor(&operator, SERVICE).only(&[("file", "warning")], "cleans");
    operator.run(&["--service", SERVICE]).all(&["done", "fresh"]);
    {
        let _unknown = bed().without_k5login("gss", "novapro");
        doctor(&operator, SERVICE).only(&[("node", "failed")], ".k5login");
    }
    {
        let _locked = [bed().locked("gss", "novapro"), bed().locked("key", "novapro")];
        let locked = doctor(&operator, SERVICE);
        locked.only(
            &[("node", "failed"), ("node", "failed")],
            "have novapro unlocked on the node",
        );
        // whoever comes with a key is told nothing by sshd: the sentence names what it may be
        let by_key = locked
            .checks
            .iter()
            .find(|c| c["peer"] == "key.mtk.test")
            .unwrap();
        assert!(
            by_key["remedy"].as_str().unwrap().contains("is not locked"),
            "{by_key}"
        );
    }
    let known = bed().dir.join("ssh/known_hosts").display().to_string();
    let stranger = Operator::changed(
        &format!("UserKnownHostsFile={known}"),
        "UserKnownHostsFile=/dev/null",
    );
    let diagnosis = doctor(&stranger, SERVICE);
    let nodes: Vec<_> = diagnosis.checks.iter().filter(|c| c["hop"] == "node").collect();
    assert!(
        nodes
            .iter()
            .all(|c| c["remedy"].as_str().unwrap().contains("fingerprint")),
        "{nodes:#?}"
    );
}
