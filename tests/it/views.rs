//! What operators look at: lists, the matrix, checks, one edge told at length, and what they silence.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::Value;
use testkit::site::SERVICES;

use crate::{
    bed::{Ends, Stopped},
    mtk::{Operator, Ran},
};

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}:\n{}\n{}", ran.stdout, ran.stderr))
}

/// An operator whose services have all they need.
fn healthy() -> Operator {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    operator
}

#[test]
fn every_command_takes_the_same_selection() {
    let operator = Operator::new();
    // before anything is known of credds
    let report = operator.run(&[
        "--account",
        "novapro",
        "--node",
        "gss.mtk.test",
        "--credd",
        "ap1.mtk.test",
    ]);
    report.all(&["done", "fresh"]);
    let places: Vec<(String, String)> = report
        .edges()
        .iter()
        .map(|e| (e.kind.clone(), e.place.clone()))
        .collect();
    assert!(report.edges().iter().all(|e| e.account == "novapro"));
    let only = |kind: &str, place: &str| places.iter().filter(|(k, _)| k == kind).all(|(_, p)| p == place);
    assert!(
        only("store", "ap1.mtk.test") && only("push", "gss.mtk.test"),
        "{places:?}"
    );

    // a typo is an error that names the near miss, and nothing is called done
    for (args, near) in [
        (&["run", "--node", "gsss.mtk.test"] as &[&str], "gss.mtk.test"),
        (&["status", "--account", "novapr"], "novapro"),
        (&["list", "--role", "producton"], "production"),
        (&["uids", "show", "--experiment", "mu3e"], "mu2e"),
        (&["explain", "nova_production", "gsss.mtk.test"], "gss.mtk.test"),
        (&["doctor", "--experiment", "nove"], "nova"),
        (&["push", "--credd", "ap11.mtk.test"], "ap1.mtk.test"),
        (&["run", "--credd", "ap11.mtk.test"], "ap1.mtk.test"),
        (&["revoke", "--credd", "ap11.mtk.test", "--yes"], "ap1.mtk.test"),
        (
            &["doctor", "--account", "novapro", "--credd", "ap11.mtk.test"],
            "ap1.mtk.test",
        ),
        (&["uids", "show", "--credd", "ap11.mtk.test"], "ap1.mtk.test"),
    ] {
        let ran = operator.mtk(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(near), "{args:?}: {}", ran.stderr);
    }
    let none = operator.mtk(&["status", "--experiment", "nova", "--account", "dunepro"]);
    assert_eq!(none.code, Some(2), "{}", none.stdout);

    // one node alone
    let there = |command: &str| {
        let words = [
            "--output",
            "json",
            "--account",
            "novapro",
            "--node",
            "gss.mtk.test",
        ];
        json(&operator.mtk(&[&[command], &words as &[&str]].concat()))
    };
    let seen = there("status");
    let edges = seen["services"][0]["edges"].as_array().unwrap();
    assert!(
        !edges.is_empty() && edges.iter().all(|e| e["place"] == "gss.mtk.test"),
        "{edges:#?}"
    );
    let patient = there("doctor");
    let checks = patient["diagnoses"][0]["checks"].as_array().unwrap();
    let nodes: Vec<&Value> = checks.iter().filter(|c| c["hop"] == "node").collect();
    assert!(
        nodes.len() == 1 && nodes[0]["peer"] == "gss.mtk.test",
        "{checks:#?}"
    );
    assert!(checks.iter().all(|c| c["hop"] != "credd"), "{checks:#?}");

    // several are seen to at once, and told of in the order of the file
    let several = ["nova_production", "mu2e_default", "mu2e_production"];
    let all = operator.mtk(&[&["doctor"][..], &several].concat());
    let first_words = all.stdout.lines().filter_map(|line| line.split(' ').next());
    let named: Vec<&str> = first_words.filter(|word| several.contains(word)).collect();
    assert_eq!(named, several, "{}{}", all.stdout, all.stderr);

    // a stolen node: all that push there, and nobody by accident
    let nobody = operator.mtk(&["revoke", "--yes"]);
    assert_eq!(nobody.code, Some(2), "{}", nobody.stdout);
    let one = operator.mtk(&["config", "show", "--account", "novapro", "--output", "json"]);
    assert_eq!(json(&one)["services"].as_array().unwrap().len(), 1);
}

#[test]
fn lists_matrices_and_checks() {
    let operator = healthy();
    let services = json(&operator.mtk(&["list", "--output", "json"]));
    assert_eq!(services["services"].as_array().unwrap().len(), SERVICES.len());
    let nodes = operator.mtk(&["list", "nodes", "--output", "csv"]).stdout;
    assert!(
        nodes.starts_with("node,services,accounts,silenced_until\n"),
        "{nodes}"
    );
    assert_eq!(nodes.lines().count(), 4, "{nodes}");
    let credds = operator.mtk(&["list", "credds", "--experiment", "mu2e"]).stdout;
    assert_eq!(credds.lines().count(), 3, "{credds}");
    assert!(
        credds.contains("ap2.mtk.test  mu2e_default mu2e_production"),
        "{credds}"
    );

    let seen = operator.mtk(&["status"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stdout);
    let mut lines = seen.stdout.lines().skip(2);
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head[..3], ["ap1", "ap2", "ap3"], "{}", seen.stdout);
    let row = lines.next().unwrap();
    assert!(
        row.matches("27d 23h").count() == 3 && row.matches("6d 23h").count() == 3,
        "{row}"
    );
    assert!(!seen.stdout.contains('\u{1b}'), "colours where no terminal is");
    assert!(
        operator
            .mtk(&["status", "--color", "always"])
            .stdout
            .contains("\u{1b}[")
    );
    let csv = operator.mtk(&["status", "--output", "csv"]).stdout;
    let wanted = json(&operator.mtk(&["status", "--output", "json"]));
    let services = wanted["services"].as_array().unwrap().iter();
    let edges: usize = services.map(|s| s["edges"].as_array().unwrap().len()).sum();
    assert_eq!(csv.lines().count(), edges + 1, "{csv}");

    // as Nagios asks
    let check = |args: &[&str]| {
        let ran = operator.mtk(&[&["status"], args].concat());
        assert_eq!(ran.stdout.lines().count(), 1, "{}\n{}", ran.stdout, ran.stderr);
        (ran.code.unwrap(), ran.stdout)
    };
    let (code, line) = check(&["--fail-below", "3d"]);
    assert!(
        code == 0 && line.starts_with("MTK OK: ") && line.contains(" | first_end="),
        "{line}"
    );
    let (code, line) = check(&["--fail-below", "3d", "--warn-below", "8d"]);
    assert!(code == 1 && line.starts_with("MTK WARNING: "), "{line}");
    let (code, line) = check(&["--fail-below", "8d"]);
    assert!(code == 2 && line.starts_with("MTK CRITICAL: "), "{line}");
    assert_eq!(operator.mtk(&["status", "--fail-below", "soon"]).code, Some(3));
    std::fs::write(operator.state().join("state.db"), "no database at all").unwrap();
    let (code, line) = check(&["--fail-below", "3d"]);
    assert!(code == 3 && line.starts_with("MTK UNKNOWN: "), "{line}");
    std::fs::write(&operator.config, "vaultServer: [\n|").unwrap();
    let (code, line) = check(&["--fail-below", "3d"]);
    assert!(code == 3 && !line.contains('|'), "{line}");
    let broken = Operator::changed("account: novapro", "acount: novapro");
    let ran = broken.mtk(&["status", "--fail-below", "3d", "--experiment", "nova"]);
    assert!(
        ran.code == Some(2) && ran.stdout.contains("nova_production"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_watcher_looks_again_until_stopped() {
    let operator = Operator::new();
    let mut command = operator.command(&[
        "status",
        "--watch",
        "1",
        "--output",
        "json",
        "--experiment",
        "nova",
    ]);
    let mut child = Ends(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["now"].clone();
    assert_ne!(next(), next());
    crate::bed::terminate(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn an_edge_is_explained_and_what_is_silenced_is_nobodys_alarm() {
    let operator = healthy();
    let nova = ["--experiment", "nova"];
    let run = |more: &[&str]| operator.run(&[&nova, more].concat());
    let explained = |words: &[&str]| {
        let ran = operator.mtk(&[&["explain", "--output", "json"], words].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        json(&ran)["edges"].as_array().unwrap().clone()
    };
    let store = ["nova_production", "ap2.mtk.test"];
    let edges = explained(&store);
    assert_eq!(edges.len(), 1, "{edges:#?}");
    assert_eq!(edges[0]["tries"][0]["outcome"], "done");
    assert_eq!(edges[0]["tries"][0]["reason"], "never stored");
    assert_eq!(edges[0]["next"]["due"], false);
    // with the node token, which ends first
    assert_eq!(edges[0]["next"]["reason"], "the service gets a new token");
    let name = edges[0]["edge"].as_str().unwrap().to_owned();
    let by_name = explained(&[&name]);
    assert!(
        by_name.len() == 1 && by_name[0]["edge"] == name.as_str(),
        "{by_name:#?}"
    );
    assert_eq!(explained(&["nova_production", "login"])[0]["kind"], "login");

    // it fails, twice over
    let down = Stopped::credd("ap2");
    assert_eq!(run(&[]).ran.code, Some(1));
    let edge = explained(&store).remove(0);
    assert_eq!(
        (
            edge["consecutive_failures"].as_u64(),
            edge["next"]["due"].as_bool()
        ),
        (Some(1), Some(true))
    );
    let text = operator.mtk(&[&["explain"], &store as &[&str]].concat()).stdout;
    assert!(
        text.contains("FAILED") && text.contains("1 in a row") && text.contains("stored"),
        "{text}"
    );
    assert!(
        operator
            .mtk(&["status", "--experiment", "nova"])
            .stdout
            .contains("!")
    );

    // said to be down
    let typo = operator.mtk(&["silence", "ap22.mtk.test", "--until", "1h", "--why", "x"]);
    assert!(
        typo.code == Some(2) && typo.stderr.contains("ap2.mtk.test"),
        "{}",
        typo.stderr
    );
    let past = operator.mtk(&["silence", "ap2.mtk.test", "--until", "2020-01-01", "--why", "x"]);
    assert_eq!(past.code, Some(2), "{}", past.stderr);
    let said = operator.mtk(&[
        "silence",
        "ap2.mtk.test",
        "--until",
        "1h",
        "--why",
        "new disks",
        "--by",
        "me",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let report = run(&[]);
    assert_eq!(report.ran.code, Some(0), "{}", report.ran.stderr);
    let failed = report.failed();
    assert!(
        !failed.is_empty() && failed.iter().all(|e| e.place == "ap2.mtk.test"),
        "{failed:#?}"
    );
    let edges = explained(&store);
    assert_eq!(
        (
            edges[0]["silenced"]["who"].as_str(),
            edges[0]["consecutive_failures"].as_u64()
        ),
        (Some("me"), Some(2))
    );
    let seen = operator.mtk(&["status", "--experiment", "nova"]).stdout;
    assert!(
        seen.contains("silenced: credd ap2.mtk.test until ") && seen.contains("(27d 23h!)"),
        "{seen}"
    );
    let strict = ["status", "--credd", "ap2.mtk.test", "--fail-below", "30d"];
    let check = operator.mtk(&strict);
    assert!(
        check.code == Some(0) && check.stdout.contains("silenced=7"),
        "{}",
        check.stdout
    );
    let listed = json(&operator.mtk(&["silence", "list", "--output", "json"]));
    assert_eq!(listed["silences"][0]["why"], "new disks");
    drop(down);

    // ended by somebody, and by itself
    assert_eq!(operator.mtk(&["silence", "end", "ap2.mtk.test"]).code, Some(0));
    assert_eq!(operator.mtk(&["silence", "end", "ap2.mtk.test"]).code, Some(2));
    assert_eq!(operator.mtk(&strict).code, Some(2));
    let short = operator.mtk(&["silence", "nova_production", "--until", "2s", "--why", "moment"]);
    assert_eq!(short.code, Some(0), "{}", short.stderr);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(operator.mtk(&["silence", "list"]).stdout.trim(), "");
    let all = json(&operator.mtk(&["silence", "list", "--all", "--output", "json"]));
    let all = all["silences"].as_array().unwrap();
    assert!(
        all.len() == 2 && all.iter().all(|s| s["holds"] == false),
        "{all:#?}"
    );
    run(&[]).all(&["done", "fresh"]);
}
