//! What the command line promises: exit statuses, the lock, both kinds of file.

use std::time::Duration;

use crate::{
    bed::{Frozen, terminate},
    mtk::Operator,
};

#[test]
fn a_second_mtk_says_who_holds_the_lock() {
    let operator = Operator::new();
    let frozen = Frozen::server("kdc");
    let first = operator.start(&["run"]);
    std::thread::sleep(Duration::from_secs(1));
    let second = operator.mtk(&["run"]);
    let pid = first.id().to_string();
    terminate(&first);
    first.wait_with_output().unwrap();
    drop(frozen);
    assert_eq!(second.code, Some(3), "{}", second.stderr);
    assert!(
        second.stderr.contains(&pid),
        "the holder is not named: {}",
        second.stderr
    );
    assert_eq!(
        operator.mtk(&["run"]).code,
        Some(0),
        "the lock outlived its holder"
    );
}

#[test]
fn wrong_usage_and_wrong_configuration_are_two() {
    let operator = Operator::new();
    assert_eq!(operator.mtk(&["frobnicate"]).code, Some(2));
    let gone = Operator::with("experiments: [");
    let said = gone.mtk(&["run"]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("managedTokens.yml"), "{}", said.stderr);
}

/// What `config show` says of each service, by some of its keys.
fn services(config: &std::path::Path, keys: &[&str]) -> Vec<String> {
    let output = std::process::Command::new(crate::mtk::binary())
        .arg("--config")
        .arg(config)
        .args(["config", "show", "--output", "json"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let services = value["services"].as_array().unwrap().iter();
    services
        .map(|service| keys.iter().map(|key| format!("{} ", service[key])).collect())
        .collect()
}

#[test]
fn the_json_form_of_the_configuration_means_the_same() {
    let yaml = Operator::new();
    let text = std::fs::read_to_string(&yaml.config).unwrap();
    let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let json = yaml.path().join("managedTokens.json");
    std::fs::write(&json, value.to_string()).unwrap();
    let keys = ["experiment", "role", "principal", "nodes", "uid"];
    assert_eq!(services(&yaml.config, &keys), services(&json, &keys));
}

#[test]
fn a_misspelt_key_in_a_role_stops_that_service_only() {
    let operator = Operator::changed("account: novapro", "acount: novapro");
    let report = operator.run(&[]);
    assert_eq!(report.ran.code, Some(1));
    for edge in report.edges() {
        // another test may have left a file that all services of an account share
        let expected: &[_] = if edge.experiment == "nova" {
            &["failed"]
        } else {
            &["done", "fresh"]
        };
        assert!(expected.contains(&edge.outcome.as_str()), "{edge:#?}");
    }
    let nova: Vec<_> = report
        .edges()
        .into_iter()
        .filter(|e| e.experiment == "nova")
        .collect();
    assert_eq!(nova.len(), 1);
    let text = nova[0].failure["text"].as_str().unwrap();
    assert!(text.contains("acount") && text.contains("account"), "{text}");
}

#[test]
fn the_configuration_is_judged_shown_and_rewritten() {
    // keytabs, and what the Go service lets pass
    let operator = Operator::new();
    let clean = operator.mtk(&["config", "check"]);
    assert_eq!(clean.code, Some(0), "{}", clean.stdout);
    let gone = Operator::changed(
        "account: novapro",
        "keytabPathOverride: /nowhere/x.keytab\n        account: novapro",
    );
    let said = gone.mtk(&["config", "check", "--output", "json"]);
    assert_eq!(said.code, Some(2), "{}", said.stdout);
    let findings: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let finding = findings
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["severity"] == "error")
        .unwrap();
    assert_eq!(finding["key"], "nova_production");
    assert!(
        finding["line"].as_u64().unwrap() > 1
            && finding["message"].as_str().unwrap().contains("/nowhere/x.keytab")
    );
    assert_eq!(gone.mtk(&["config", "check", "--no-files"]).code, Some(0));

    // one service, with and without the places
    let shown = gone.mtk(&["config", "show", "--service", "nova_production", "--origin"]);
    assert!(shown.stdout.contains("/nowhere/x.keytab"), "{}", shown.stdout);
    assert!(shown.stdout.contains("(override in line "), "{}", shown.stdout);
    assert!(!shown.stdout.contains("dune"), "{}", shown.stdout);
    assert!(!gone.mtk(&["config", "show"]).stdout.contains("override in line"));
    assert_eq!(gone.mtk(&["config", "show", "--service", "nove"]).code, Some(2));

    // rewritten into drop-ins, which are read
    let tidy = operator.path().join("tidy");
    let to = tidy.to_str().unwrap();
    let written = operator.mtk(&["config", "import", "--to", to]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert!(
        tidy.join("conf.d").read_dir().unwrap().count() > 1,
        "{}",
        written.stdout
    );
    let keys = ["principal", "nodes", "keytab"];
    assert_eq!(services(&tidy, &keys), services(&operator.config, &keys));
    let again = operator.mtk(&["config", "import", "--to", to]);
    assert!(
        again.code == Some(2) && again.stderr.contains("already"),
        "{}",
        again.stderr
    );
}
