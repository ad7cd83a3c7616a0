//! What a service gives out beside the files of the Go service: bearer tokens, a file made elsewhere, the Vault token; to
//! nodes, to this host, to a command. Each output fails alone, and a run with nothing due asks Vault for nothing.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use testkit::site::{NODES, SERVICES};

use crate::{
    bed::bed,
    mtk::{Edge, Operator, Report},
};

const SERVICE: [&str; 2] = ["--service", "nova_production"];
const UID: u32 = 50006;

/// The bed's configuration with outputs of the one service.
fn with(outputs: &str) -> Operator {
    let text = fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    let account = "        account: novapro\n";
    let indented: String = outputs.lines().map(|line| format!("      {line}\n")).collect();
    assert_eq!(text.matches(account).count(), 1, "{text}");
    Operator::with(&text.replace(account, &format!("{account}        outputs:\n{indented}")))
}

/// A directory of this host whose path has no link in it, gone with its guard.
fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn idtoken(path: &str, exp: i64) {
    let payload = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"condor@pool","exp":{exp}}}"#));
    let _ = fs::remove_file(path);
    fs::write(path, format!("e30.{payload}.sig\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn about(path: &Path) -> (u32, u32) {
    let about = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(about.is_file());
    (about.uid(), about.mode() & 0o7777)
}

fn claims(path: &Path) -> Value {
    let token = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    testkit::consumers::claims(token.trim()).unwrap()
}

fn status(operator: &Operator) -> Vec<Value> {
    let args = ["status", "--output", "json"].iter().chain(&SERVICE).copied();
    let ran = operator.mtk(&args.collect::<Vec<_>>());
    let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
    json["services"][0]["edges"].as_array().unwrap().clone()
}

fn remove_from_nodes(name: &str) {
    for node in NODES {
        let _ = fs::remove_file(bed().node_path(node.server, &format!("/tmp/{name}")));
    }
}

#[test]
fn every_output_goes_its_way_and_then_nothing_is_due() {
    let (_folder, dir) = folder();
    idtoken(&format!("{dir}/pool"), now() + 86_400);
    let told = format!("{dir}/told");
    let operator = with(&format!(
        "    bearer: {{content: bearer, minimumLifetime: 10m}}
    less: {{content: bearer, minimumLifetime: 10m, scopes: ['storage.read:/nova'], to: here, \
     path: '{dir}/{{{{.Name}}}}.token', mode: '0640', owner: 12345}}
    idtoken: {{content: file, source: {dir}/pool, nodes: [gss.mtk.test], path: '/tmp/idtoken_{{{{.DesiredUID}}}}'}}
    store: {{content: vaultToken, to: command, command: [/bin/sh, -c, 'cat >>{told}', sh, '{{{{.Account}}}}']}}
"
    ));
    let planned = operator.run(&[&SERVICE[..], &["--dry-run"]].concat());
    let due = planned.edges();
    for kind in ["bearer", "here", "command"] {
        assert!(
            due.iter().any(|e| e.kind == kind && e.outcome == "due"),
            "{kind}: {due:#?}"
        );
    }
    assert!(!Path::new(&told).exists(), "a plan ran a command");

    let first = operator.run(&SERVICE);
    // the role file may be there from before
    first.all(&["done", "fresh"]);
    assert_eq!(first.traffic("vault_requests"), 3 + 2, "{:#?}", first.edges());
    for node in NODES {
        let path = bed().node_path(node.server, &format!("/tmp/bt_u{UID}"));
        assert_eq!(about(&path), (UID, 0o400), "{}", node.name);
        assert_eq!(claims(&path)["sub"], "novapro");
    }
    let less = format!("{dir}/nova_production.token");
    assert_eq!(about(Path::new(&less)), (12_345, 0o640));
    assert_eq!(claims(Path::new(&less))["scope"], "storage.read:/nova");
    let idtoken_there = bed().node_path("gss", &format!("/tmp/idtoken_{UID}"));
    assert_eq!(about(&idtoken_there), (UID, 0o400));
    assert_eq!(
        fs::read(&idtoken_there).unwrap(),
        fs::read(format!("{dir}/pool")).unwrap()
    );
    assert!(!bed().node_path("key", &format!("/tmp/idtoken_{UID}")).exists());
    let vault_token = fs::read_to_string(bed().node_path("gss", &format!("/tmp/vt_u{UID}"))).unwrap();
    assert_eq!(
        fs::read_to_string(&told).unwrap(),
        vault_token,
        "on its standard input, once"
    );

    let second = operator.run(&SERVICE);
    second.all(&["fresh", "trusted"]);
    assert_eq!(
        (second.traffic("vault_requests"), second.traffic("files_written")),
        (0, 0)
    );
    assert_eq!(
        fs::read_to_string(&told).unwrap(),
        vault_token,
        "it was told already"
    );

    let before = fs::read(bed().node_path("key", &format!("/tmp/bt_u{UID}"))).unwrap();
    fs::remove_file(bed().node_path("key", &format!("/tmp/bt_u{UID}"))).unwrap();
    fs::remove_file(&less).unwrap();
    let third = operator.run(&SERVICE);
    third.all(&["fresh", "trusted", "done"]);
    assert_eq!(
        (third.traffic("vault_requests"), third.traffic("files_written")),
        (0, 2)
    );
    assert_eq!(
        fs::read(bed().node_path("key", &format!("/tmp/bt_u{UID}"))).unwrap(),
        before
    );

    let edges = status(&operator);
    for (kind, name) in [
        ("bearer", "bearer"),
        ("bearer", "less"),
        ("here", less.as_str()),
        ("command", "store"),
        ("node", "/tmp/bt_u50006"),
    ] {
        let edge = edges.iter().find(|e| e["kind"] == kind && e["name"] == name);
        let edge = edge.unwrap_or_else(|| panic!("no {kind} {name}: {edges:#?}"));
        assert_eq!(edge["life"]["state"], "until", "{edge}");
    }
    // its source ends within the three days of minTokenLifetime
    let watched = edges.iter().find(|e| e["name"] == "/tmp/idtoken_50006").unwrap();
    assert!(
        watched["warning"].as_str().unwrap().contains("has to be renewed"),
        "{watched}"
    );

    let away = ["revoke", "nova_production", "--everywhere", "--yes"];
    let _again = bed().onboarded_again("nova", "novapro", "production");
    operator.mtk(&away);
    assert!(!Path::new(&less).exists() && !idtoken_there.exists());
    assert!(!bed().node_path("gss", &format!("/tmp/bt_u{UID}")).exists());
    let kept = fs::read_dir(operator.state().join("bearer-tokens"))
        .unwrap()
        .count();
    assert_eq!(kept, 0, "a bearer token was kept");
}

#[test]
fn each_output_fails_alone_and_leaves_what_was_there() {
    let (_folder, dir) = folder();
    idtoken(&format!("{dir}/pool"), now() + 86_400);
    let operator = with(&format!(
        "    idtoken: {{content: file, source: {dir}/pool, path: '/tmp/idtoken_{{{{.DesiredUID}}}}'}}
    good: {{content: bearer, minimumLifetime: 10m, to: here, path: '{dir}/good'}}
    gone: {{content: bearer, minimumLifetime: 10m, to: here, path: '{dir}/none/gone'}}
    fails: {{content: vaultToken, to: command, command: [/bin/sh, -c, 'cat >&2; exit 7']}}
    hangs: {{content: vaultToken, to: command, command: [/bin/sleep, '600'], deadline: 1s}}
    denied: {{content: bearer, scopes: ['storage.modify:/dune'], to: here, path: '{dir}/denied'}}
"
    ));
    let is_bad = |e: &Edge| match e.kind.as_str() {
        "command" => true,
        "here" => e.path.ends_with("gone") || e.path.ends_with("denied"),
        "bearer" => e.failure.is_object(),
        _ => false,
    };
    let first = operator.run(&SERVICE);
    let text = first.ran.stdout.clone();
    let bearers: Vec<Edge> = first
        .edges()
        .into_iter()
        .filter(|e| e.kind == "bearer" && is_bad(e))
        .collect();
    assert_eq!(bearers.len(), 1, "{bearers:#?}");
    let kinds = ["command-failed", "timed-out", "no-such-directory"];
    for edge in first.edges() {
        let kind = edge.failure["kind"].as_str().unwrap_or("fresh").to_owned();
        let good = if is_bad(&edge) {
            kind != "fresh"
        } else {
            kind == "fresh"
        };
        assert!(good, "{edge:#?}");
        if edge.kind == "command" {
            assert!(kinds.contains(&kind.as_str()), "{edge:#?}");
        }
    }
    assert!(Path::new(&format!("{dir}/good")).exists() && !Path::new(&format!("{dir}/denied")).exists());
    let token = fs::read_to_string(bed().node_path("gss", &format!("/tmp/vt_u{UID}"))).unwrap();
    assert!(
        !text.contains(token.trim()),
        "a command's words gave the token away"
    );
    assert!(text.contains("some of the secret is among them"), "{text}");

    // an end that has come: what lies there stays, and who has to act is named
    let there = bed().node_path("key", &format!("/tmp/idtoken_{UID}"));
    let before = fs::read(&there).unwrap();
    idtoken(&format!("{dir}/pool"), now() - 5);
    let report = operator.run(&SERVICE);
    let ended: Vec<Edge> = report
        .edges()
        .into_iter()
        .filter(|e| e.path.contains("idtoken"))
        .collect();
    assert_eq!(ended.len(), NODES.len());
    for edge in ended {
        assert_eq!(edge.failure["kind"], "ended", "{edge:#?}");
    }
    assert_eq!(fs::read(&there).unwrap(), before);
    remove_from_nodes(&format!("idtoken_{UID}"));
}

#[test]
fn an_issuer_whose_tokens_are_shorter_than_wanted_does_what_it_can() {
    let (_folder, dir) = folder();
    let operator = with(&format!(
        "    long: {{content: bearer, minimumLifetime: 6d, to: here, path: '{dir}/long'}}\n"
    ));
    operator.run(&SERVICE).all(&["done", "fresh"]);
    let first = fs::read(format!("{dir}/long")).unwrap();
    let second = operator.run(&SERVICE);
    second.all(&["fresh"]);
    assert_eq!(
        second.traffic("vault_requests"),
        0,
        "renewed before half of its life is over"
    );
    assert_eq!(fs::read(format!("{dir}/long")).unwrap(), first);
}

#[test]
fn files_made_elsewhere_need_neither_vault_nor_a_token() {
    let (_folder, dir) = folder();
    idtoken(&format!("{dir}/pool"), now() + 30 * 86_400);
    let operator = with(&format!(
        "    idtoken: {{content: file, source: {dir}/pool, to: here, path: '{dir}/copy'}}\n"
    ));
    bed().seal();
    let report = operator.run(&SERVICE);
    bed().unseal();
    let copy: Vec<Edge> = report.edges().into_iter().filter(|e| e.kind == "here").collect();
    assert_eq!(copy[0].outcome, "done", "{copy:#?}");
    assert_eq!(
        fs::read(format!("{dir}/copy")).unwrap(),
        fs::read(format!("{dir}/pool")).unwrap()
    );
    let only_here = operator.run(&[&SERVICE[..], &["--node", "@here", "--no-verify"]].concat());
    assert!(
        only_here
            .edges()
            .iter()
            .any(|e| e.kind == "here" && e.outcome == "trusted")
    );
    assert!(SERVICES.iter().any(|s| s.uid == UID));
}

/// The targets of a service that ended in one of these ways.
fn ended(report: &Report, outcomes: &[&str]) -> BTreeSet<String> {
    let edges = report.json["services"][0]["edges"].as_array().unwrap().iter();
    edges
        .filter(|edge| outcomes.contains(&edge["outcome"].as_str().unwrap()))
        .map(|edge| edge["target"].to_string())
        .collect()
}

#[test]
fn a_plan_from_memory_says_of_outputs_what_a_push_does() {
    let (_folder, dir) = folder();
    idtoken(&format!("{dir}/pool"), now() + 30 * 86_400);
    let operator = with(&format!(
        "    bearer: {{content: bearer, minimumLifetime: 10m, path: '/tmp/planned_{{{{.DesiredUID}}}}'}}
    here: {{content: bearer, minimumLifetime: 10m, to: here, path: '{dir}/here'}}
    idtoken: {{content: file, source: {dir}/pool, to: here, path: '{dir}/copy'}}
    gone: {{content: file, source: {dir}/none, to: here, path: '{dir}/gone'}}
    store: {{content: vaultToken, to: command, command: [/bin/sh, -c, 'cat >/dev/null']}}
"
    ));
    let push = |more: &[&str]| {
        let args = ["push", "--output", "json"].iter().chain(&SERVICE).chain(more);
        operator.report(&args.copied().collect::<Vec<_>>())
    };
    let from_memory = ["--dry-run", "--no-verify"];
    // without a token: what needs none is planned and done, all else fails in the plan as in the push
    let (planned, pushed) = (push(&from_memory), push(&[]));
    assert_eq!(ended(&planned, &["failed"]), ended(&pushed, &["failed"]));
    assert_eq!(ended(&planned, &["due"]), ended(&pushed, &["done"]));
    assert_eq!(ended(&planned, &["due"]).len(), 1, "{:#?}", planned.json);
    // with one
    let first = operator.run(&SERVICE);
    assert_eq!(first.failed().len(), 1, "{:#?}", first.failed());
    let (planned, pushed) = (push(&from_memory), push(&[]));
    assert_eq!(ended(&planned, &["failed"]), ended(&pushed, &["failed"]));
    assert_eq!(
        ended(&planned, &["trusted"]),
        ended(&pushed, &["fresh", "trusted"])
    );
    // and where a token that was read lies already, it is brought without another
    std::fs::remove_dir_all(operator.state().join("node-tokens")).unwrap();
    std::fs::remove_file(format!("{dir}/here")).unwrap();
    let (planned, pushed) = (push(&from_memory), push(&[]));
    assert_eq!(ended(&planned, &["failed"]), ended(&pushed, &["failed"]));
    assert!(claims(Path::new(&format!("{dir}/here")))["sub"] == "novapro");
    remove_from_nodes(&format!("planned_{UID}"));
}
