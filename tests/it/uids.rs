//! `mtk uids`: FERRY asked by certificate and by bearer token, answers remembered, drift an alarm.

use serde_json::{Value, json};
use testkit::{bed::ferry::Ferry, site::SERVICES};

use crate::{bed::bed, mtk::Operator};

pub fn uids() -> Value {
    SERVICES
        .iter()
        .map(|s| (s.account.to_owned(), json!(s.uid)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The bed's configuration without UIDs, and FERRY in it.
pub fn operator(ferry: &str) -> Operator {
    let text = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    assert!(text.contains("desiredUIDOverride"), "{text}");
    let without: Vec<&str> = text
        .lines()
        .filter(|l| !l.contains("desiredUIDOverride"))
        .collect();
    Operator::with(&format!("{}\n{ferry}\n", without.join("\n")))
}

pub fn by_certificate(ferry: &Ferry) -> String {
    let (cert, key) = &ferry.host_certificate;
    format!(
        "ferry:\n  host: https://127.0.0.1\n  port: {}\n  hostCert: {}\n  hostKey: {}\n\
         timeouts:\n  ferryRequestTimeout: 3s",
        ferry.port,
        cert.display(),
        key.display()
    )
}

fn accounts(operator: &Operator, what: &str) -> (Option<i32>, Vec<Value>, String) {
    let ran = operator.mtk(&["uids", what, "--output", "json"]);
    let json: Value =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", ran.stdout, ran.stderr));
    (ran.code, json["accounts"].as_array().unwrap().clone(), ran.stderr)
}

fn of<'a>(accounts: &'a [Value], account: &str) -> &'a Value {
    accounts.iter().find(|a| a["account"] == account).unwrap()
}

#[test]
fn ferry_by_certificate_and_a_uid_that_drifts() {
    let dir = tempfile::tempdir().unwrap();
    let ferry = Ferry::up(bed().layout(), dir.path(), &uids()).unwrap();
    let operator = operator(&by_certificate(&ferry));
    let unknown = operator.run(&["--experiment", "mu2e", "--role", "production"]);
    unknown.only_failed(|e| e.kind == "push", &["uid-unknown"]);

    let (code, answers, said) = accounts(&operator, "refresh");
    assert_eq!(code, Some(0), "{answers:#?}\n{said}");
    for service in SERVICES {
        let answer = of(&answers, service.account);
        assert_eq!(answer["uid"], service.uid);
        assert_eq!(
            (answer["outcome"].as_str(), answer["source"].as_str()),
            (Some("new"), Some("ferry"))
        );
    }
    let asked = ferry.asked();
    assert!(
        asked
            .iter()
            .all(|line| line.starts_with("mtk.mtk.test /getUserInfo ")),
        "{asked:?}"
    );
    assert_eq!(asked.len(), testkit::site::accounts().len());
    operator.run(&[]).all(&["done", "fresh"]);

    // another UID: said, not used, until a person accepts it
    let mut changed = uids();
    changed["mu2epro"] = json!(60004);
    ferry.set(&changed).unwrap();
    let (code, answers, said) = accounts(&operator, "refresh");
    assert_eq!(code, Some(1));
    assert_eq!(of(&answers, "mu2epro")["outcome"], "drift");
    assert_eq!(of(&answers, "mu2epro")["known"], 50004);
    assert!(said.contains("mu2epro"), "{said}");
    let (code, shown, _) = accounts(&operator, "show");
    assert_eq!(code, Some(1));
    assert_eq!(
        (
            &of(&shown, "mu2epro")["uid"],
            &of(&shown, "mu2epro")["drift"]["uid"]
        ),
        (&json!(50004), &json!(60004))
    );
    let still = operator.run(&["--experiment", "mu2e", "--role", "production"]);
    assert!(
        still.edges().iter().any(|e| e.path == "/tmp/vt_u50004"),
        "{:#?}",
        still.edges()
    );

    // the registry is put right, and the alarm is over
    ferry.set(&uids()).unwrap();
    let (code, ..) = accounts(&operator, "refresh");
    assert_eq!((code, accounts(&operator, "show").0), (Some(0), Some(0)));
    ferry.set(&changed).unwrap();
    accounts(&operator, "refresh");
    assert_eq!(operator.mtk(&["uids", "accept", "mu2epro"]).code, Some(0));
    assert_eq!(of(&accounts(&operator, "show").1, "mu2epro")["uid"], 60004);
    assert_eq!(operator.mtk(&["uids", "accept", "mu2epro"]).code, Some(2));
}

#[test]
fn ferry_by_bearer_token_of_a_robot() {
    let dir = tempfile::tempdir().unwrap();
    let ferry = Ferry::up(bed().layout(), dir.path(), &uids()).unwrap();
    let robot = &SERVICES[0];
    let operator = operator(&format!(
        "ferry:\n  host: 127.0.0.1\n  port: {}\n  serviceExperiment: {}\n  serviceRole: {}\n  \
         serviceKerberosPrincipal: {}\n  serviceKeytabPath: {}",
        ferry.port,
        robot.experiment,
        robot.role,
        robot.account().principal(),
        bed().keytab(robot.account).display()
    ));
    let (code, answers, said) = accounts(&operator, "refresh");
    assert_eq!(code, Some(0), "{answers:#?}\n{said}");
    let asked = ferry.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|line| line.starts_with("bearer ")),
        "{asked:?}"
    );
}

#[test]
fn a_ferry_that_fails_is_named_and_the_next_source_asked() {
    let dir = tempfile::tempdir().unwrap();
    let bad = json!({
        "dunepro": "error", "nearpro": "html", "farpro": "endless", "mu2epro": "silent",
        "mu2eana": 0, "novapro": "elsewhere",
    });
    let ferry = Ferry::up(bed().layout(), dir.path(), &bad).unwrap();
    let good = by_certificate(&ferry);
    let operator = operator(&format!(
        "{good}\nmtk: {{uids: {{order: [ferry], map: {{novapro: 50006}}}}}}"
    ));
    let (code, answers, said) = accounts(&operator, "refresh");
    assert_eq!(code, Some(1), "{said}");
    for (account, kind) in [
        ("dunepro", "status"),
        ("nearpro", "malformed"),
        ("farpro", "malformed"),
        ("mu2epro", "unreachable"),
        ("mu2eana", "malformed"),
        ("novapro", "status"),
    ] {
        let answer = of(&answers, account);
        assert_eq!(answer["failures"][0]["kind"], kind, "{answer:#}");
        assert_eq!(answer["outcome"], "unknown", "{answer:#}");
    }
    // what the file says needs no FERRY
    let shown = accounts(&operator, "show").1;
    assert_eq!(
        (&of(&shown, "novapro")["uid"], &of(&shown, "novapro")["source"]),
        (&json!(50006), &json!("configuration"))
    );

    // without a certificate, and with the next source behind it: the system's own accounts
    let anonymous = good.replace("hostCert", "hostCart");
    let config = std::fs::read_to_string(&operator.config)
        .unwrap()
        .replace(&good, &anonymous);
    let checked = Operator::with(&config).mtk(&["config", "check"]);
    assert!(
        checked.stdout.contains("is hostCert meant?"),
        "{}",
        checked.stdout
    );
    let nss = Operator::with(
        &config
            .replace("order: [ferry]", "order: [nss]")
            .replace("account: mu2eana", "account: daemon"),
    );
    let (code, answers, _) = accounts(&nss, "refresh");
    assert_eq!(
        (
            of(&answers, "daemon")["uid"].as_u64(),
            of(&answers, "daemon")["source"].as_str()
        ),
        (Some(1), Some("nss"))
    );
    assert_eq!(code, Some(1), "nobody knows the others");
}

#[test]
fn a_name_that_nothing_goes_by_is_no_success() {
    let operator = Operator::new();
    for command in [["uids", "show"], ["uids", "refresh"], ["config", "show"]] {
        let ran = operator.mtk(&[command[0], command[1], "--service", "nosuch"]);
        assert_eq!(ran.code, Some(2), "{command:?}: {}", ran.stdout);
        assert!(
            ran.stderr.contains("managedTokens.yml has nothing called nosuch"),
            "{command:?}: {}",
            ran.stderr
        );
    }
}
