//! One thing broken at a time: its own error on its own edge, and every other edge fresh.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use testkit::site;

use crate::{
    bed::{Frozen, Stopped, bed},
    mtk::{Operator, Report, ran},
};

fn keytab(name: &str) -> String {
    bed().keytab(name).display().to_string()
}

/// The bed's configuration with another keytab and perhaps another principal for mu2e/production.
fn with_mu2e(keytab: &str, principal: Option<&str>) -> Operator {
    let mut extra = format!("keytabPathOverride: {keytab}\n        account: mu2epro");
    if let Some(principal) = principal {
        extra = format!("userPrincipalOverride: {principal}\n        {extra}");
    }
    Operator::changed("account: mu2epro", &extra)
}

fn is_mu2epro(edge: &crate::mtk::Edge) -> bool {
    edge.account == "mu2epro"
}

#[test]
fn a_keytab_of_somebody_else() {
    let report = with_mu2e(&keytab("novapro"), None).run(&[]);
    report.only_failed(is_mu2epro, &["no-key"]);
}

#[test]
fn a_missing_keytab() {
    let report = with_mu2e("/nonexistent/mu2epro.keytab", None).run(&[]);
    report.only_failed(is_mu2epro, &["not-found"]);
}

#[test]
fn a_keytab_open_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("open.keytab");
    std::fs::copy(keytab("mu2epro"), &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = with_mu2e(&path.display().to_string(), None).run(&[]);
    report.only_failed(is_mu2epro, &["mode"]);
}

#[test]
fn a_keytab_whose_key_was_changed_at_the_kdc() {
    let stale = bed().principal_with_stale_keytab("stale/managedtokens/mtk.mtk.test");
    let principal = format!("stale/managedtokens/mtk.mtk.test@{}", site::REALM);
    let report = with_mu2e(&stale.display().to_string(), Some(&principal)).run(&[]);
    report.only_failed(is_mu2epro, &["key-mismatch"]);
}

#[test]
fn a_principal_unknown_to_the_kdc() {
    let gone = bed().keytab_of_deleted_principal("gone/managedtokens/mtk.mtk.test");
    let principal = format!("gone/managedtokens/mtk.mtk.test@{}", site::REALM);
    let report = with_mu2e(&gone.display().to_string(), Some(&principal)).run(&[]);
    report.only_failed(is_mu2epro, &["principal-unknown"]);
}

#[test]
fn a_clock_far_off() {
    // MIT's library corrects its own clock by the KDC's unless told not to; a site that does gets the error.
    let operator = Operator::new();
    let krb5 = operator.path().join("krb5.conf");
    let conf = std::fs::read_to_string("/etc/krb5.conf").unwrap();
    std::fs::write(
        &krb5,
        conf.replace("[libdefaults]", "[libdefaults]\n kdc_timesync = 0"),
    )
    .unwrap();
    let began = Instant::now();
    let output = Command::new("faketime")
        .args(["-f", "-3h"])
        .arg(crate::mtk::binary())
        .args(["--config"])
        .arg(&operator.config)
        .arg("--state-dir")
        .arg(operator.state())
        .args(["refresh", "--output", "json"])
        .env("KRB5_CONFIG", &krb5)
        .output()
        .unwrap();
    let report = Report::of(ran(output, began));
    report.only_failed(|_| true, &["clock-skew"]);
}

#[test]
fn a_sealed_vault() {
    let operator = Operator::new();
    bed().seal();
    let sealed = operator.run(&[]);
    bed().unseal();
    sealed.only_failed(|_| true, &["sealed"]);
    assert!(sealed.edges().iter().all(|e| e.failure["stage"] == "login"));
    operator.run(&[]).all(&["done", "fresh"]);
}

#[test]
fn a_sealed_vault_leaves_what_is_there() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    bed().seal();
    let quiet = operator.run(&[]);
    bed().unseal();
    quiet.all(&["fresh"]);
}

#[test]
fn a_credkey_that_was_never_onboarded() {
    let operator = Operator::new();
    let secret = bed().take_secret("nova", "novapro", "production");
    let report = operator.run(&[]);
    drop(secret);
    report.only_failed(|e| e.account == "novapro", &["not-onboarded"]);
    assert!(
        report.failed().iter().all(|e| e.failure["stage"] == "proof"),
        "{:#?}",
        report.failed()
    );
    assert!(!bed().oauth_file("ap1", "novapro", "never.top").exists());
}

#[test]
fn nothing_is_due_and_no_kdc_hears_of_it() {
    let operator = Operator::changed(
        "        account: novapro\n",
        "        account: novapro\n        tokenGetterOverride: getToken\n",
    );
    let refresh = || operator.report(&["refresh", "--service", "nova_production", "--output", "json"]);
    refresh().all(&["done"]);
    let down = Stopped::server("kdc");
    let quiet = refresh();
    drop(down);
    assert_eq!(quiet.ran.code, Some(0), "{}", quiet.ran.stderr);
    assert!(quiet.failed().is_empty() && quiet.traffic("vault_requests") == 0);
    assert!(
        !quiet.json["shared"].to_string().contains("ticket"),
        "{}",
        quiet.json["shared"]
    );
}

#[test]
fn a_silent_kdc_and_a_person_who_will_not_wait() {
    let operator = Operator::new();
    let frozen = Frozen::server("kdc");
    let child = operator.start(&["run", "--output", "json"]);
    std::thread::sleep(Duration::from_secs(2));
    let told = Instant::now();
    crate::bed::terminate(&child);
    let output = child.wait_with_output().unwrap();
    let took = told.elapsed();
    drop(frozen);
    assert!(took < Duration::from_secs(5), "it took {took:?} to end");
    let report = Report::of(ran(output, told));
    assert_eq!(report.ran.code, Some(1));
    assert_eq!(report.json["interrupted"], true);
    operator.run(&[]).all(&["done", "fresh"]);
}

#[test]
fn a_silent_kdc_is_named() {
    let operator = Operator::changed("vaultServer:", "timeouts:\n  kerberosTimeout: 2s\nvaultServer:");
    let frozen = Frozen::server("kdc");
    let report = operator.run(&[]);
    drop(frozen);
    report.only_failed(|_| true, &["kdc-silent", "kdc-unreachable"]);
    assert!(report.ran.took < Duration::from_secs(15), "{:?}", report.ran.took);
}

#[test]
fn a_credd_that_is_down() {
    let operator = Operator::new();
    let stopped = Stopped::credd("ap2");
    let report = operator.run(&[]);
    drop(stopped);
    report.only_failed(
        |e| e.kind == "store" && e.place.starts_with("ap2"),
        &["unknown-shared-port", "unreachable", "closed"],
    );
    operator.run(&[]).all(&["done", "fresh"]);
}

#[test]
fn a_credd_that_hangs_after_accept_keeps_nobody_waiting() {
    let operator = Operator::new();
    let frozen = Frozen::credd("ap3");
    let report = operator.run(&[]);
    drop(frozen);
    report.only_failed(|e| e.kind == "store" && e.place.starts_with("ap3"), &["timeout"]);
    for edge in report.edges().iter().filter(|e| e.outcome == "done") {
        assert!(
            edge.ended < 5.0,
            "an edge waited for the hanging credd: {edge:#?}"
        );
    }
    assert!(report.ran.took < Duration::from_secs(60), "{:?}", report.ran.took);
    operator.run(&[]).all(&["done", "fresh"]);
}

#[test]
fn a_host_key_that_changed() {
    let operator = Operator::new();
    let forged = operator.path().join("known_hosts");
    let known = std::fs::read_to_string(bed().dir.join("ssh/known_hosts")).unwrap();
    // the key of another node under this node's name
    let other = known.lines().find(|l| l.starts_with("gss.mtk.test")).unwrap();
    let lines: Vec<String> = known
        .lines()
        .filter(|l| !l.starts_with("key.mtk.test"))
        .map(str::to_owned)
        .chain([other.replacen("gss.mtk.test", "key.mtk.test", 1)])
        .collect();
    std::fs::write(&forged, lines.join("\n") + "\n").unwrap();
    let real = bed().dir.join("ssh/known_hosts").display().to_string();
    let text = std::fs::read_to_string(&operator.config).unwrap();
    assert!(text.contains(&real));
    std::fs::write(
        &operator.config,
        text.replace(&real, &forged.display().to_string()),
    )
    .unwrap();
    let report = operator.run(&[]);
    report.only_failed(|e| e.kind == "push" && e.place == "key.mtk.test", &["host-key"]);
}

#[test]
fn a_node_that_is_down() {
    let operator = Operator::new();
    let stopped = Stopped::server("both");
    let report = operator.run(&[]);
    drop(stopped);
    report.only_failed(|e| e.kind == "push" && e.place == "both.mtk.test", &["refused"]);
    operator.run(&[]).all(&["done", "fresh"]);
}

#[test]
fn a_full_disk_on_a_node() {
    let operator = Operator::new();
    bed().clean_node("key");
    let full = bed().fill_node("key");
    let report = operator.run(&[]);
    drop(full);
    report.only_failed(|e| e.kind == "push" && e.place == "key.mtk.test", &["disk-full"]);
    let left: Vec<_> = crate::whole_way::walk(&bed().node_path("key", "/tmp"))
        .into_iter()
        .filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(".mtk"))
        .collect();
    assert!(left.is_empty(), "temporary files were left: {left:?}");
    operator.run(&[]).all(&["done", "fresh"]);
}

#[test]
fn everything_down_is_reported_edge_by_edge() {
    let operator = Operator::new();
    let stopped = Stopped::server("vault");
    let report = operator.run(&[]);
    drop(stopped);
    report.only_failed(|_| true, &["unreachable"]);
    bed().unseal();
    operator.run(&[]).all(&["done", "fresh"]);
}
