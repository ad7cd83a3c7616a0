//! The ssh configuration people already have, as mtk reads it.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Instant};

use serde_json::Value;

use crate::{
    bed::bed,
    mtk::{Operator, Report, ran},
};

const NODES: &str = "[gss.mtk.test, key.mtk.test, both.mtk.test]";

fn run(operator: &Operator, home: &Path) -> Report {
    let began = Instant::now();
    let output = operator
        .command(&["run", "--output", "json"])
        .env("HOME", home)
        .output()
        .unwrap();
    Report::of(ran(output, began))
}

fn home(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    std::fs::write(home.path().join(".ssh/config"), config).unwrap();
    home
}

#[test]
fn a_node_by_another_name_and_through_another() {
    // Without ssh's configuration there is no such node, and no Kerberos principal of its name.
    let operator = Operator::changed(NODES, "[data.example.test]");
    let home = home(
        "Host *.example.test\n  HostName gss.mtk.test\n  HostKeyAlias gss.mtk.test\n  ProxyJump both.mtk.test\n\
         \x20 GSSAPIServerIdentity gss.mtk.test\nHost *\n  SendEnv LANG\n",
    );
    bed().clean_node("gss");
    run(&operator, home.path()).all(&["done", "fresh"]);
    assert!(bed().node_path("gss", "/tmp/vt_u50001").exists());
    bed().clean_node("gss");
}

#[test]
fn first_use_is_recorded_where_the_site_allows_it_and_config_check_says_so() {
    let options = "sshOptions: \"-o UserKnownHostsFile=";
    let operator = Operator::changed(
        options,
        "sshOptions: \"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null -o IgnoreUnknown=Was -o Was=",
    );
    let checked = operator.mtk(&["config", "check"]);
    let said = checked.stdout + &checked.stderr;
    assert!(said.contains("weakens trust and is honoured"), "{said}");
    let status = operator.mtk(&["status"]);
    assert!(
        status
            .stdout
            .contains("is not verified (StrictHostKeyChecking=accept-new)"),
        "{}",
        status.stdout
    );
    let home = home("");
    run(&operator, home.path()).all(&["done", "fresh"]);
    let record = operator.state().join("known_hosts");
    let text = std::fs::read_to_string(&record).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    let mode = std::fs::metadata(&record).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// What `transport: auto` would use, and why, node by node: asked at first, and remembered from then on.
#[test]
fn a_dry_run_says_how_each_node_would_be_reached() {
    let operator = Operator::new();
    let clean = || {
        ["gss", "key", "both"]
            .iter()
            .for_each(|node| bed().clean_node(node))
    };
    let said = |args: &[&str], ways: &[&str], not: &str| {
        let planned = operator.run(&[&["--dry-run"], args].concat());
        let said = planned.ran.stdout;
        for way in ways {
            assert!(said.contains(way), "{args:?}: {way}: {said}");
        }
        assert!(!said.contains(not), "{args:?}: {said}");
    };
    let asked = [
        "publickey over libssh2: the node accepts publickey",
        "gssapi-with-mic over russh: the node accepts gssapi-with-mic",
        "gssapi-with-mic over russh: the node accepts publickey, gssapi-with-mic",
    ];
    let remembered = [
        "publickey over libssh2: that is what the node accepted before",
        "gssapi-with-mic over russh: that is what the node accepted before",
    ];
    clean();
    // there is no token yet, and planning leaves nothing behind
    said(&[], &asked, "no such words");
    said(&[], &asked, "no such words");
    operator.run(&[]).all(&["done", "fresh"]);
    clean();
    said(&[], &remembered, "the node accepts");
    let known = logins(&operator);
    assert_eq!(
        known,
        [
            ("both.mtk.test", "gssapi-with-mic"),
            ("gss.mtk.test", "gssapi-with-mic"),
            ("key.mtk.test", "publickey")
        ]
        .map(|(node, method)| (node.to_owned(), method.to_owned()))
    );

    // a node that has changed its mind meanwhile is asked again, and the answer remembered
    let exported = operator.mtk(&["state", "export"]).stdout;
    let mut document: Value = serde_json::from_str(&exported).unwrap();
    for row in document["tables"]["node"].as_array_mut().unwrap() {
        let other = match row["method"].as_str().unwrap() {
            "publickey" => "gssapi-with-mic",
            _ => "publickey",
        };
        row["method"] = other.into();
    }
    // nothing was ever pushed, as far as is remembered
    document["tables"]["push"] = Value::Array(Vec::new());
    let file = operator.path().join("changed.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let ran = operator.mtk(&["state", "import", "--replace", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let swapped = [
        "never pushed; publickey over libssh2: that is what the node accepted before",
        "never pushed; gssapi-with-mic over russh: that is what the node accepted before",
    ];
    said(&["--no-verify"], &swapped, "the node accepts");
    operator.run(&[]).all(&["done", "fresh"]);
    let again = logins(&operator);
    assert_eq!((&again[1], &again[2]), (&known[1], &known[2]));
    clean();
}

/// What is remembered of each node.
fn logins(operator: &Operator) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&operator.mtk(&["state", "export"]).stdout).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = document["tables"]["node"].as_array().unwrap().iter();
    let mut all: Vec<_> = rows.map(|row| (text(row, "host"), text(row, "method"))).collect();
    all.sort();
    all
}
