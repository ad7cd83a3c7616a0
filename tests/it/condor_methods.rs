//! mtk at credds by other means than a ticket of the account's own: tokens of the pool, a client certificate, a robot that
//! stores for several accounts.

use std::{os::unix::fs::PermissionsExt, path::Path};

use testkit::{
    bed::pool::security,
    site::{COLLECTOR, REALM},
};

use crate::{
    bed::bed,
    insisting::Insisting,
    mtk::{Operator, Report},
};

const CREDD: &str = "ap1.mtk.test";

/// The bed's configuration with this below `mtk.condor`; `{}` in it is the operator's directory.
fn with(condor: &str) -> Operator {
    let text = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    let operator = Operator::with(&text);
    let condor = condor.replace("{}", operator.path().to_str().unwrap());
    let changed = format!("{text}\nmtk: {{condor: {{{condor}}}}}\n");
    std::fs::write(&operator.config, changed).unwrap();
    operator
}

fn secret(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn refresh(operator: &Operator, services: &[&str]) -> Report {
    let mut args = vec![
        "run",
        "--output",
        "json",
        "--credd",
        CREDD,
        "--node",
        "gss.mtk.test",
    ];
    for service in services {
        args.extend(["--service", service]);
    }
    operator.report(&args)
}

/// The file's time, whole.
fn stored(account: &str, file: &str) -> Option<std::time::SystemTime> {
    let path = bed().oauth_file("ap1", account, file);
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

#[test]
fn a_run_by_a_token_of_the_pool() {
    let operator = with("methods: [TOKEN], tokenDirectory: '{}/tokens.d'");
    let directory = operator.path().join("tokens.d");
    // nothing there: said before anybody is asked
    let report = refresh(&operator, &["nova_production"]);
    report.only_failed(|edge| edge.kind == "store", &["nothing-to-prove-it"]);
    assert!(
        !report.ran.stderr.contains("cannot be read"),
        "{}",
        report.ran.stderr
    );
    std::fs::write(&directory, "").unwrap();
    let report = refresh(&operator, &["nova_production"]);
    assert!(
        report.ran.stderr.contains("the tokens of a pool cannot be read"),
        "{}",
        report.ran.stderr
    );
    std::fs::remove_file(&directory).unwrap();
    // somebody else's comes first, and is not taken for ours
    for (file, account) in [("10-other", "dunepro"), ("20-own", "novapro")] {
        let token = security::id_token(bed().layout(), &format!("{account}@mtk.test"), &[]).unwrap();
        secret(&directory.join(file), format!("# of the pool\n{token}\n"));
    }
    let before = stored("novapro", "nova_production.top");
    refresh(&operator, &["nova_production"]).all(&["done", "fresh"]);
    assert!(stored("novapro", "nova_production.top") > before);
    let listed = operator.mtk(&["credd", "list", "--service", "nova_production", "--credd", CREDD]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("nova_production"), "{}", listed.stdout);
    // one that others can read is none
    let own = directory.join("20-own");
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = refresh(&operator, &["nova_production"]);
    report.only_failed(|edge| edge.kind == "store", &["nothing-to-prove-it"]);
    assert!(
        report.ran.stderr.contains("others may read"),
        "{}",
        report.ran.stderr
    );
}

#[test]
fn a_run_by_a_client_certificate() {
    let ca = bed().layout().ca();
    let operator = with(&format!(
        "methods: SSL, caFile: {}, certificate: '{{}}/client.crt', key: '{{}}/client.key'",
        ca.display()
    ));
    security::client_certificate(bed().layout(), operator.path(), "novapro").unwrap();
    let before = stored("novapro", "nova_production.top");
    refresh(&operator, &["nova_production"]).all(&["done", "fresh"]);
    assert!(stored("novapro", "nova_production.top") > before);
    let shown = operator.mtk(&["config", "show", "--origin", "--service", "nova_production"]);
    let said = shown
        .stdout
        .lines()
        .any(|line| line.contains("condor.methods") && line.contains("SSL"));
    assert!(said, "{}", shown.stdout);
    // the certificate of somebody else is somebody else's
    security::client_certificate(bed().layout(), operator.path(), "farpro").unwrap();
    let report = refresh(&operator, &["nova_production"]);
    report.only_failed(|edge| edge.kind == "store", &["wrong-user"]);
}

#[test]
fn a_run_by_a_bearer_token() {
    let ca = bed().layout().ca();
    let operator = with(&format!(
        "methods: SCITOKENS, caFile: {}, bearerTokenFile: '{{}}/bearer'",
        ca.display()
    ));
    let file = operator.path().join("bearer");
    // nothing to prove it with, said before anybody is asked
    let report = refresh(&operator, &["nova_production"]);
    report.only_failed(|edge| edge.kind == "store", &["nothing-to-prove-it"]);
    let all = "compute.create compute.modify compute.cancel";
    let bearer = |account| security::bearer(bed().layout(), account, all).unwrap();
    secret(&file, format!("{}\n", bearer("novapro")));
    let before = stored("novapro", "nova_production.top");
    refresh(&operator, &["nova_production"]).all(&["done", "fresh"]);
    assert!(stored("novapro", "nova_production.top") > before);
    // that of somebody else makes us somebody else
    secret(&file, bearer("dunepro"));
    let report = refresh(&operator, &["nova_production"]);
    report.only_failed(|edge| edge.kind == "store", &["wrong-user"]);
    secret(&file, "no token\n");
    let report = refresh(&operator, &["nova_production"]);
    report.only_failed(|edge| edge.kind == "store", &["bearer-token"]);
}

/// Most collectors answer anybody. For one that does not a robot says who it is, and only then.
#[test]
fn a_collector_that_wants_to_know_who_asks() {
    let insisting = Insisting::on("KERBEROS");
    insisting.is_told_of(CREDD);
    let operator = Operator::changed(COLLECTOR.name, &insisting.address());
    let services = ["--service", "nova_production"];
    let before = stored("novapro", "nova_production.top");
    let report = operator.report(&[&["refresh", "--output", "json"], &services[..]].concat());
    report.all(&["done", "fresh"]);
    let stores: Vec<_> = report
        .edges()
        .into_iter()
        .filter(|edge| edge.kind == "store")
        .collect();
    assert_eq!((stores.len(), stores[0].place.as_str()), (1, CREDD), "{stores:?}");
    assert!(stored("novapro", "nova_production.top") > before);
    assert!(
        insisting.log().contains("novapro@mtk.test"),
        "{}",
        insisting.log()
    );

    let listed = operator.mtk(&[&["credd", "list"], &services[..]].concat());
    assert_eq!(listed.code, Some(0), "{}{}", listed.stdout, listed.stderr);
    assert!(listed.stdout.contains(CREDD), "{}", listed.stdout);
    let doctor = operator.mtk(&["doctor", "nova_production"]);
    let about = doctor
        .stdout
        .lines()
        .find(|line| line.contains(&insisting.address()));
    assert!(
        about.is_some_and(|line| line.contains("answers")),
        "{}{}",
        doctor.stdout,
        doctor.stderr
    );
    // a robot that has no ticket to say it with
    let text = std::fs::read_to_string(&operator.config).unwrap();
    let other = Operator::with(&text.replacen("keytabPath: ", "keytabPath: /nowhere", 1));
    let report = other.report(&[&["refresh", "--output", "json"], &services[..]].concat());
    let failed = report.failed();
    let discover = failed.iter().find(|edge| edge.kind == "discover");
    assert_eq!(
        discover.map(|edge| &edge.failure["stage"]),
        Some(&"keytab".into()),
        "{failed:#?}"
    );
}

#[test]
fn a_super_user_stores_for_two_accounts_and_nobody_else_does() {
    let principal = format!("super/managedtokens/mtk.mtk.test@{REALM}");
    let keytab = bed().keytab_of("super/managedtokens/mtk.mtk.test", "super");
    let condor = |user: &str, principal: &str, keytab: &Path| {
        let keytab = keytab.display();
        with(&format!(
            "superUser: {user}, superUserPrincipal: {principal}, superUserKeytab: {keytab}"
        ))
    };
    let services = ["nova_production", "mu2e_default"];
    let files = [("novapro", "nova_production.top"), ("mu2eana", "mu2e.top")];
    let before = files.map(|(account, file)| stored(account, file));
    let operator = condor("super", &principal, &keytab);
    refresh(&operator, &services).all(&["done", "fresh"]);
    for ((account, file), before) in files.into_iter().zip(before) {
        assert!(stored(account, file) > before, "{account}");
        assert_eq!(stored("super", file), None);
    }
    // each its own account's token
    let own = |account, service| crate::bed::top_token("ap1", account, service).1;
    assert!(own("novapro", "nova_production").contains("/novapro/"));
    assert!(own("mu2eana", "mu2e").contains("/mu2eana/"));

    let farpro = format!("farpro/managedtokens/mtk.mtk.test@{REALM}");
    // it says whom it takes it for, before anything is sent
    let operator = condor("super", &farpro, &bed().keytab("farpro"));
    let report = refresh(&operator, &["nova_production"]);
    report.only_failed(|edge| edge.kind == "store", &["wrong-user"]);
    let operator = condor("farpro", &farpro, &bed().keytab("farpro"));
    let report = refresh(&operator, &["nova_production"]);
    report.only_failed(|edge| edge.kind == "store", &["refused"]);
    let text = report.failed()[0].failure["text"].to_string();
    assert!(text.contains("CRED_SUPER_USERS"), "{text}");
}
