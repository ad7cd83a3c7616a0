//! mtk under the names of the Go service's programs, as cron calls them.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    process::{Command, Output, Stdio},
};

use testkit::{
    bed::ferry::Ferry,
    site::{NODES, SERVICES},
};

use crate::{
    bed::{Ends, bed},
    mtk::Operator,
    uids,
};

/// The links as a package installs them, to the binary under test.
fn called(operator: &Operator, name: &str, args: &[&str]) -> Output {
    command(operator, name, args).output().unwrap()
}

fn command(operator: &Operator, name: &str, args: &[&str]) -> Command {
    let link = operator.path().join(name);
    if !link.exists() {
        let packaged = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../packaging/bin")
            .join(name);
        assert_eq!(std::fs::read_link(packaged).unwrap(), std::path::Path::new("mtk"));
        symlink(crate::mtk::binary(), &link).unwrap();
    }
    let mut command = Command::new(link);
    command
        .args(args)
        .arg("--configfile")
        .arg(&operator.config)
        .env("MTK_STATE_DIR", operator.state());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn token_push_does_what_it_did() {
    let operator = Operator::new();
    let listed = called(&operator, "token-push", &["--list-services"]);
    let listed = text(&listed.stdout);
    let mut names: Vec<&str> = listed.lines().collect();
    let mut expected: Vec<String> = SERVICES
        .iter()
        .map(|s| format!("{}_{}", s.experiment, s.role))
        .collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);

    // in test mode tokens are stored, and no node has them
    let file = |node: &str| bed().node_path(node, "/tmp/vt_u50006-nova_production");
    for node in NODES {
        bed().clean_node(node.server);
    }
    let tested = called(&operator, "token-push", &["-t", "-s", "nova_production"]);
    let said = text(&tested.stdout);
    assert!(
        tested.status.success() && said.contains("stored"),
        "{said}{}",
        text(&tested.stderr)
    );
    assert!(NODES.iter().all(|node| !file(node.server).exists()), "{said}");

    let pushed = called(
        &operator,
        "token-push",
        &[
            "--experiment=nova",
            "--dont-notify",
            "--no-loki",
            "--verbose=false",
            "--admin",
            "a@mtk.test",
        ],
    );
    let said = text(&pushed.stdout);
    assert!(
        pushed.status.success() && said.contains("written"),
        "{said}{}",
        text(&pushed.stderr)
    );
    assert!(NODES.iter().all(|node| file(node.server).exists()), "{said}");
    assert!(
        text(&pushed.stderr).contains("--admin"),
        "{}",
        text(&pushed.stderr)
    );
    assert!(!said.contains("dune"), "{said}");

    let version = called(&operator, "token-push", &["--version"]);
    assert!(version.status.success() && text(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(called(&operator, "token-push", &["-r"]).status.code(), Some(2));
}

#[test]
fn token_push_onboards() {
    let operator = Operator::new();
    let mut command = command(&operator, "token-push", &["-rps", "nova_production"]);
    let mut child = Ends(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let address = line.split_whitespace().find(|word| word.starts_with("https://"));
        address.map(str::to_owned)
    });
    bed().consent(&address.unwrap(), "novapro");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.0.wait().unwrap().code(), Some(0), "{rest:#?}");
    // both credds and nodes have it
    let report = operator.run(&["--service", "nova_production"]);
    report.all(&["fresh"]);
    assert!(rest.iter().any(|line| line.contains("push")), "{rest:#?}");
}

#[test]
fn refresh_uids_from_ferry_does_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let ferry = Ferry::up(bed().layout(), dir.path(), &uids::uids()).unwrap();
    let operator = uids::operator(&uids::by_certificate(&ferry));
    let shown = || operator.mtk(&["uids", "show"]).stdout;
    let tested = called(&operator, "refresh-uids-from-ferry", &["-t", "--dont-notify"]);
    assert!(tested.status.success(), "{}", text(&tested.stderr));
    assert!(text(&tested.stdout).contains("50006"), "{}", text(&tested.stdout));
    assert!(!shown().contains("50006"), "a test is remembered: {}", shown());
    let refreshed = called(&operator, "refresh-uids-from-ferry", &["--authmethod", "tls"]);
    assert!(refreshed.status.success(), "{}", text(&refreshed.stderr));
    assert!(
        text(&refreshed.stderr).contains("--authmethod"),
        "{}",
        text(&refreshed.stderr)
    );
    assert!(shown().contains("50006"), "{}", shown());
}
