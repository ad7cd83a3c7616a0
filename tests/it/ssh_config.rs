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
    let home = home("");
    run(&operator, home.path()).all(&["done", "fresh"]);
    let record = operator.state().join("known_hosts");
    let text = std::fs::read_to_string(&record).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    let mode = std::fs::metadata(&record).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
