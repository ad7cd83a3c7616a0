//! What a robot was given is taken back, and what is gone stays gone.

use serde_json::Value;

use crate::{
    bed::{Frozen, bed, top_token},
    mtk::Operator,
};

const SERVICE: &str = "nova_production";

fn revoke(operator: &Operator, more: &[&str]) -> (Value, Option<i32>) {
    let args: Vec<&str> = ["revoke", SERVICE, "--yes", "--output", "json"]
        .iter()
        .chain(more)
        .copied()
        .collect();
    let ran = operator.mtk(&args);
    let json =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}:\n{}\n{}", ran.stdout, ran.stderr));
    (json, ran.code)
}

/// How the steps of a kind ended.
fn ended(revocation: &Value, what: &str) -> Vec<String> {
    let steps = revocation["steps"].as_array().unwrap();
    let of_kind = steps.iter().filter(|s| s["what"] == what);
    of_kind.map(|s| s["ended"].as_str().unwrap().to_owned()).collect()
}

/// An operator whose service has been brought everywhere anew, and a guard that onboards it again.
fn brought() -> (Operator, impl Drop) {
    let mend = bed().take_secret("nova", "novapro", "production");
    drop(mend);
    let operator = Operator::new();
    let report = operator.run(&["--service", SERVICE]);
    report.all(&["done", "fresh"]);
    (operator, bed().onboarded_again("nova", "novapro", "production"))
}

fn operator_token(operator: &Operator, mode: u32) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = operator.path().join("operator");
    std::fs::write(&path, bed().root_token()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn everything_is_taken_back_everywhere_and_again_finds_nothing() {
    let (operator, _again) = brought();
    let (long, _) = top_token("ap1", "novapro", "nova_production");
    let (_, url) = top_token("ap1", "novapro", "nova_production");
    let token = operator_token(&operator, 0o600);
    // a handle, as a job with scopes of its own leaves it
    let handle = bed().oauth_file("ap2", "novapro", "nova_production_read.top");
    std::fs::write(&handle, format!("{{\"vault_url\": \"{url}\"}}")).unwrap();
    let (done, code) = revoke(&operator, &["--everywhere", "--operator-token-file", &token]);
    assert_eq!(code, Some(0), "{done:#}");
    assert_eq!(ended(&done, "refresh-token"), ["done"]);
    assert_eq!(ended(&done, "credential"), ["done"; 4]);
    assert!(!handle.exists());
    assert_eq!(ended(&done, "node-token"), ["done"]);
    assert_eq!(ended(&done, "file"), ["done"; 9]);
    assert_eq!(ended(&done, "long-token"), ["done"]);

    for access_point in ["ap1", "ap2", "ap3"] {
        assert!(
            !bed()
                .oauth_file(access_point, "novapro", "nova_production.top")
                .exists()
        );
    }
    for path in [
        "/tmp/vt_u50006",
        "/tmp/vt_u50006-nova_production",
        "/tmp/jobsub_default_role_nova_50006",
    ] {
        assert!(!bed().node_path("gss", path).exists(), "{path}");
    }
    assert!(!bed().is_alive(&long), "the long token outlived its revocation");
    assert!(url.contains("/creds/nova/novapro/"));

    let (again, code) = revoke(&operator, &["--everywhere", "--operator-token-file", &token]);
    assert_eq!(code, Some(0), "{again:#}");
    let other: Vec<&Value> = again["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["ended"] != "nothing")
        .collect();
    assert!(other.is_empty(), "{other:#?}");
    operator
        .run(&["--service", SERVICE])
        .only_failed(|e| e.kind != "discover", &["not-onboarded"]);
}

#[test]
fn without_an_operators_token_the_command_is_printed() {
    let (operator, _again) = brought();
    let (long, _) = top_token("ap1", "novapro", "nova_production");
    let (done, code) = revoke(&operator, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(ended(&done, "refresh-token"), ["done"]);
    assert_eq!(ended(&done, "node-token"), ["done"]);
    assert_eq!(ended(&done, "long-token"), ["for-operators"]);
    assert!(ended(&done, "file").is_empty() && ended(&done, "credential").is_empty());
    let last = done["steps"].as_array().unwrap().last().unwrap()["text"]
        .as_str()
        .unwrap();
    assert!(last.contains("bao token revoke -accessor "), "{last}");
    // what a stolen long token can still do: live, and read nothing
    assert!(bed().is_alive(&long));
    assert!(
        bed()
            .bearer_of(&long, "nova/novapro/managedtokens/mtk.mtk.test:production")
            .is_err()
    );
    let (token, bad) = (operator_token(&operator, 0o600), operator_token(&operator, 0o644));
    let refused = operator.mtk(&["revoke", SERVICE, "--yes", "--operator-token-file", &bad]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    operator_token(&operator, 0o600);
    let (_, code) = revoke(&operator, &["--operator-token-file", &token]);
    assert_eq!(code, Some(0));
    assert!(!bed().is_alive(&long));
}

#[test]
fn one_credd_that_hangs_delays_nothing_else_and_nobody_is_asked_without_a_terminal() {
    let (operator, _again) = brought();
    let asked = operator.mtk(&["revoke", SERVICE]);
    assert_eq!(asked.code, Some(2));
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    top_token("ap1", "novapro", "nova_production");

    let frozen = Frozen::credd("ap2");
    let (done, code) = revoke(&operator, &["--everywhere"]);
    drop(frozen);
    assert_eq!(code, Some(1));
    let mut credentials = ended(&done, "credential");
    credentials.sort();
    assert_eq!(credentials, ["done", "done", "failed"], "{done:#}");
    assert_eq!(ended(&done, "file"), ["done"; 9]);
    let (again, _) = revoke(&operator, &["--everywhere"]);
    let mut credentials = ended(&again, "credential");
    credentials.sort();
    assert_eq!(credentials, ["done", "nothing", "nothing"], "{again:#}");
    assert_eq!(ended(&again, "file"), ["nothing"; 9]);
}

/// All at once, and told of as if one after the other.
#[test]
fn several_services_are_told_of_in_their_order() {
    let operator = Operator::new();
    let _again = [
        bed().onboarded_again("nova", "novapro", "production"),
        bed().onboarded_again("mu2e", "mu2epro", "production"),
    ];
    let ran = operator.mtk(&["revoke", "nova_production", "mu2e_production", "--yes"]);
    // of an operator who has brought nothing, nothing but the refresh tokens is there
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let words: Vec<&str> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().take(2).last().unwrap_or_default())
        .collect();
    let each = ["refresh-token", "node-token"];
    assert_eq!(
        words,
        [&["nova_production:"][..], &each, &["mu2e_production:"], &each].concat(),
        "{}",
        ran.stdout
    );
}
