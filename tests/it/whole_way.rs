//! A keytab goes in, and every token lies in its own robot's place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use testkit::site::{self, SERVICES};

use crate::{
    bed::{bed, top_token},
    mtk::{Operator, Report},
};

/// Node tokens as they lie on a node: by service key, (uid, content).
fn node_file(node: &str, path: &str) -> (u32, u32, String) {
    use std::os::unix::fs::MetadataExt;
    let path = bed().node_path(node, path);
    let meta = std::fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (
        meta.uid(),
        meta.mode() & 0o7777,
        std::fs::read_to_string(&path).unwrap(),
    )
}

#[test]
fn every_service_gets_its_own_token_everywhere() {
    site::NODES.iter().for_each(|node| bed().clean_node(node.server));
    let operator = Operator::new();
    let report = operator.run(&[]);
    report.all(&["done"]);
    assert_eq!(report.ran.code, Some(0), "{}", report.ran.stderr);

    // three requests a service, however many credds and nodes it has
    assert_eq!(report.traffic("vault_requests"), 3 * SERVICES.len() as u64);
    assert_eq!(
        report.traffic("stores"),
        (SERVICES.len() * site::ACCESS_POINTS.len()) as u64
    );

    for access_point in site::ACCESS_POINTS {
        let mut tokens = BTreeSet::new();
        for service in SERVICES {
            let (token, url) = top_token(access_point.server, service.account, service.condor);
            assert!(
                url.contains(&format!("/creds/{}/{}/", service.issuer(), service.account)),
                "{url} is not {}'s",
                service.account
            );
            assert!(
                tokens.insert(token),
                "two services share a token at {}",
                access_point.name
            );
        }
    }
    let mut by_service: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for node in site::NODES {
        for service in SERVICES {
            let path = format!("/tmp/vt_u{}-{}", service.uid, service.condor);
            let (uid, mode, token) = node_file(node.server, &path);
            assert_eq!((uid, mode), (service.uid, 0o400), "{path} on {}", node.name);
            let known = by_service
                .entry((service.account, service.condor))
                .or_insert_with(|| token.clone());
            assert_eq!(*known, token, "nodes hold different tokens of one service");
        }
        // two roles on one account: the default file is the first one's
        let (_, _, default) = node_file(node.server, "/tmp/vt_u50001");
        assert_eq!(default, by_service[&("dunepro", "dune_production")]);
    }
    let distinct: BTreeSet<&String> = by_service.values().collect();
    assert_eq!(distinct.len(), SERVICES.len(), "two services share a node token");
}

#[test]
fn a_second_run_finds_nothing_due_and_asks_vault_nothing() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    let again = operator.run(&[]);
    again.all(&["fresh"]);
    assert_eq!(again.ran.code, Some(0));
    assert_eq!(
        (
            again.traffic("vault_requests"),
            again.traffic("stores"),
            again.traffic("files_written")
        ),
        (0, 0, 0)
    );
    let said = operator.mtk(&["run"]);
    assert!(said.stdout.contains("nothing was due"), "{}", said.stdout);
    let trusting = operator.run(&["--no-verify"]);
    trusting.all(&["trusted"]);
    assert_eq!(trusting.traffic("vault_requests"), 0);
}

#[test]
fn what_was_lost_is_put_back() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    std::fs::remove_file(bed().node_path("key", "/tmp/vt_u50004-mu2e_production")).unwrap();
    let put_back = operator.run(&[]);
    assert_eq!(put_back.traffic("files_written"), 1);
    assert_eq!(
        put_back.traffic("vault_requests"),
        0,
        "the same token goes back to the node"
    );
    node_file("key", "/tmp/vt_u50004-mu2e_production");

    std::fs::remove_file(bed().oauth_file("ap2", "novapro", "nova_production.top")).unwrap();
    let stored_again = operator.run(&[]);
    assert_eq!(stored_again.ran.code, Some(0));
    top_token("ap2", "novapro", "nova_production");
    let done: BTreeSet<String> = stored_again
        .edges()
        .into_iter()
        .filter(|e| e.outcome == "done")
        .map(|e| e.account)
        .collect();
    assert_eq!(
        done,
        BTreeSet::from(["novapro".to_owned()]),
        "only the service that lost something was worked on"
    );
}

#[test]
fn a_dry_run_touches_nothing() {
    let operator = Operator::new();
    let planned = operator.run(&["--dry-run"]);
    assert_eq!(planned.ran.code, Some(0));
    assert_eq!(
        planned.traffic("vault_requests") + planned.traffic("stores") + planned.traffic("files_written"),
        0
    );
    for edge in planned.edges() {
        // what holds no token may lie on the node from before, and is then as it should be
        let role_file = edge.kind == "push" && !edge.path.contains("/vt_u");
        let fresh = role_file && edge.outcome == "fresh";
        assert!(edge.outcome == "due" || fresh, "{edge:#?}");
    }
    for kind in ["login", "store", "push"] {
        assert!(
            planned.edges().iter().any(|e| e.kind == kind),
            "the plan has no {kind}"
        );
    }
    // by what is remembered alone: nothing is known of credds before the first run, and of files there is
    let by_memory = operator.run(&["--dry-run", "--no-verify"]);
    by_memory.all(&["due"]);
    let pushes = |report: &Report| report.edges().iter().filter(|e| e.kind == "push").count();
    assert_eq!(pushes(&by_memory), pushes(&planned));
    operator.run(&[]).all(&["done", "fresh"]);
    let nothing = operator.run(&["--dry-run", "--no-verify"]);
    nothing.all(&["trusted"]);
    assert_eq!(pushes(&nothing), pushes(&planned));
}

#[test]
fn a_dry_run_without_node_tokens_says_what_a_run_would_do() {
    const SERVICE: &str = "nova_production";
    let operator = Operator::new();
    operator.run(&["--service", SERVICE]).all(&["done", "fresh"]);
    fs::remove_dir_all(operator.state().join("node-tokens")).unwrap();
    let planned = operator.run(&["--service", SERVICE, "--dry-run"]);
    let pushes: Vec<_> = planned.edges().into_iter().filter(|e| e.kind == "push").collect();
    assert_eq!(pushes.len(), 9, "{pushes:#?}");
    for push in pushes {
        // what holds no token lies there as it should
        let due = push.path.contains("/vt_u");
        assert_eq!(push.outcome, if due { "due" } else { "fresh" }, "{}", push.path);
    }
    let args = ["push", "--service", SERVICE, "--output", "json"];
    let real = operator.report(&args);
    real.only_failed(|e| e.kind == "push", &["no-node-token"]);
    let by_memory = operator.report(&[&args[..], &["--dry-run", "--no-verify"]].concat());
    by_memory.only_failed(|e| e.kind == "push", &["no-node-token"]);
    assert_eq!(by_memory.edges().len(), real.edges().len());
}

#[test]
fn credds_no_longer_configured_are_not_trusted() {
    const SERVICE: &str = "nova_production";
    let operator = Operator::new();
    operator.run(&["--service", SERVICE]).all(&["done", "fresh"]);
    let config = operator.path().join("managedTokens.yml");
    let text = fs::read_to_string(&config).unwrap();
    let account = "        account: novapro\n";
    let without = format!("{account}        tokenGetterOverride: getToken\n");
    fs::write(&config, text.replace(account, &without)).unwrap();
    let trusted = operator.run(&["--service", SERVICE, "--no-verify"]);
    trusted.all(&["trusted"]);
    assert!(
        trusted.edges().iter().all(|e| e.kind == "push"),
        "{:#?}",
        trusted.edges()
    );
}

#[test]
fn the_two_halves_make_the_whole() {
    let operator = Operator::new();
    let early = operator.report(&["push", "--output", "json"]);
    early.only_failed(|_| true, &["no-node-token"]);

    let refreshed = operator.report(&["refresh", "--output", "json"]);
    refreshed.all(&["done"]);
    assert!(refreshed.edges().iter().all(|e| e.kind != "push"));

    let pushed = operator.report(&["push", "--output", "json"]);
    pushed.all(&["done", "fresh"]);
    assert!(pushed.edges().iter().all(|e| e.kind == "push"));
    assert_eq!(
        (pushed.traffic("vault_requests"), pushed.traffic("stores")),
        (0, 0)
    );
    operator.run(&[]).all(&["fresh"]);
}

#[test]
fn a_selection_is_kept_to() {
    let operator = Operator::new();
    let report = operator.run(&["--experiment", "mu2e", "--role", "production"]);
    report.all(&["done", "fresh"]);
    assert!(report.edges().iter().all(|e| e.account == "mu2epro"));
    let typo = operator.mtk(&["run", "--experiment", "mu3e"]);
    assert_eq!(typo.code, Some(2));
    assert!(typo.stderr.contains("mu3e"), "{}", typo.stderr);
}

#[test]
fn status_knows_from_memory_alone() {
    let operator = Operator::new();
    assert_eq!(operator.mtk(&["status"]).code, Some(1), "nothing was ever stored");
    operator.run(&[]).all(&["done", "fresh"]);
    let status = operator.mtk(&["status", "--output", "json"]);
    assert_eq!(status.code, Some(0), "{}\n{}", status.stdout, status.stderr);
    let json: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let services = json["services"].as_array().unwrap();
    assert_eq!(services.len(), SERVICES.len());
    let days = |edge: &serde_json::Value| edge["life"]["seconds_left"].as_i64().unwrap() as f64 / 86_400.0;
    for service in services {
        let edges = service["edges"].as_array().unwrap();
        let credds: Vec<_> = edges.iter().filter(|e| e["kind"] == "credd").collect();
        assert_eq!(credds.len(), site::ACCESS_POINTS.len());
        assert!(
            credds.iter().all(|e| days(e) > 27.9 && days(e) <= 28.0),
            "{edges:#?}"
        );
        let tokens = edges
            .iter()
            .filter(|e| e["name"].as_str().unwrap().starts_with("/tmp/vt_u"));
        assert!(
            tokens.into_iter().all(|e| days(e) > 6.9 && days(e) <= 7.0),
            "{edges:#?}"
        );
    }
}

#[test]
fn the_state_holds_no_token_but_the_node_token_in_0600_files() {
    use std::os::unix::fs::MetadataExt;
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    let (long, _) = top_token("ap1", "dunepro", "dune_production");
    let mut files = 0;
    for entry in walk(&operator.state()) {
        files += 1;
        let bytes = std::fs::read(&entry).unwrap();
        assert!(
            !contains(&bytes, long.as_bytes()),
            "a long token lies in {}",
            entry.display()
        );
        let mode = std::fs::metadata(&entry).unwrap().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.display());
    }
    assert!(files > 0);
}

pub fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    assert!(!needle.is_empty());
    haystack.windows(needle.len()).any(|w| w == needle)
}
