//! The ssh configuration people already have, as mtk reads it.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Instant};

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

/// What `transport: auto` would use, and why, node by node.
#[test]
fn a_dry_run_says_how_each_node_would_be_reached() {
    let operator = Operator::new();
    let keys_only = "publickey over libssh2: the node accepts publickey";
    let tickets_only = "gssapi-with-mic over russh: the node accepts gssapi-with-mic";
    let both = "gssapi-with-mic over russh: the node accepts publickey, gssapi-with-mic";
    // with no token yet, and with one that some nodes lack
    for node in ["gss", "key", "both"] {
        bed().clean_node(node);
    }
    for turn in 0..2 {
        let planned = operator.run(&["--dry-run"]);
        planned.all(&["due", "fresh"]);
        let said = &planned.ran.stdout;
        for way in [keys_only, tickets_only, both] {
            assert!(said.contains(way), "{turn}: {way}: {said}");
        }
        if turn == 0 {
            operator.run(&[]).all(&["done", "fresh"]);
            for node in ["gss", "key", "both"] {
                bed().clean_node(node);
            }
        }
    }
}
