//! `mtk state`, the lock between two runs, a damaged state, and the Go service's database, with the real binary.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    bed::{Frozen, bed},
    mtk::Operator,
    waiting::wait_until,
};

/// By Python's own SQLite, which is none of ours.
fn sqlite(db: &std::path::Path, sql: &str) -> String {
    let program = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n\
                   print(c.execute(sys.argv[2]).fetchone()[0]) if sys.argv[2].count(';') == 0 else c.executescript(sys.argv[2])";
    let mut python = Command::new("python3");
    let output = python.args(["-c", program]).arg(db).arg(sql).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn two_at_once_and_the_second_says_who_or_waits() {
    let operator = Operator::new();
    let frozen = Frozen::server("kdc");
    let first = operator.start(&["run", "--output", "json"]);
    let pid = first.id().to_string();
    let held = format!("process {pid}");
    wait_until(
        || operator.mtk(&["state", "show"]).stdout.contains(&held),
        || "the first run takes no lock".to_owned(),
    );
    let second = operator.mtk(&["run", "--service", "mu2e_production"]);
    assert_eq!(second.code, Some(3), "{}", second.stderr);
    let said = &second.stderr;
    assert!(
        said.contains(&format!("process {pid}")) && said.contains("since 20"),
        "{said}"
    );
    let shown = operator.mtk(&["state", "show"]);
    assert!(
        shown.stdout.contains(&format!("process {pid}")),
        "{}",
        shown.stdout
    );

    let impatient = operator.mtk(&["run", "--wait", "1s"]);
    assert_eq!(impatient.code, Some(3), "{}", impatient.stderr);
    assert!(impatient.took >= Duration::from_secs(1));
    let mut patient = operator.start(&["run", "--output", "json", "--wait"]);
    let mut said = String::new();
    let mut stderr = BufReader::new(patient.stderr.take().unwrap());
    while !said.contains("waiting") {
        assert_ne!(
            stderr.read_line(&mut said).unwrap(),
            0,
            "it does not wait: {said}"
        );
    }
    drop(frozen);
    crate::bed::terminate(&first);
    first.wait_with_output().unwrap();
    let patient = patient.wait_with_output().unwrap();
    assert_eq!(patient.status.code(), Some(0), "{said}");
    assert!(
        operator
            .mtk(&["state", "show"])
            .stdout
            .contains("lock        free")
    );
}

#[test]
fn a_damaged_state_is_set_aside_and_everything_comes_back() {
    let operator = Operator::new();
    operator.run(&[]).all(&["done", "fresh"]);
    let database = operator.state().join("state.db");
    let whole = fs::read(&database).unwrap();
    for damaged in [whole[..whole.len() / 2].to_vec(), b"garbage".repeat(500)] {
        fs::write(&database, damaged).unwrap();
        drop(fs::remove_file(operator.state().join("state.db-wal")));
        let recovered = operator.run(&[]);
        recovered.all(&["done", "fresh"]);
        assert!(
            recovered.ran.stderr.contains("set aside as"),
            "{}",
            recovered.ran.stderr
        );
        operator.run(&[]).all(&["fresh"]);
    }
    let shown: Value =
        serde_json::from_str(&operator.mtk(&["state", "show", "--output", "json"]).stdout).unwrap();
    assert_eq!(shown["integrity"], "ok");
    assert_eq!(shown["set_aside"].as_array().unwrap().len(), 2);
}

/// Somebody who holds the lock of a state directory and does nothing else.
fn holder(operator: &Operator) -> std::fs::File {
    let file = fs::File::options()
        .write(true)
        .open(operator.state().join("lock"))
        .unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

#[test]
fn nobody_repairs_a_state_that_another_has_in_hand() {
    const SERVICE: &str = "nova_production";
    let operator = Operator::new();
    operator.run(&["--service", SERVICE]).all(&["done", "fresh"]);
    let held = holder(&operator);
    // what is sound is read beside whoever is at work
    let planned = operator.run(&["--service", SERVICE, "--dry-run", "--no-verify"]);
    planned.all(&["trusted"]);
    let seen = operator.mtk(&["doctor", SERVICE]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let waited = operator.mtk(&["onboard", SERVICE, "--json", "--wait", "1"]);
    assert_eq!(
        (waited.code, waited.stdout.as_str()),
        (Some(3), ""),
        "{}",
        waited.stderr
    );

    let database = operator.state().join("state.db");
    let damaged = b"garbage".repeat(500);
    fs::write(&database, &damaged).unwrap();
    drop(fs::remove_file(operator.state().join("state.db-wal")));
    for args in [
        ["run", "--dry-run"].as_slice(),
        &["doctor", SERVICE],
        &["revoke", SERVICE, "--yes"],
    ] {
        let refused = operator.mtk(args);
        assert_eq!(refused.code, Some(2), "{args:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("nothing was repaired"),
            "{}",
            refused.stderr
        );
        assert_eq!(fs::read(&database).unwrap(), damaged, "{args:?}");
    }
    drop(held);
    let repaired = operator.run(&["--service", SERVICE, "--dry-run", "--no-verify"]);
    assert!(
        repaired.ran.stderr.contains("set aside as"),
        "{}",
        repaired.ran.stderr
    );
}

#[test]
fn a_state_moves_to_another_host() {
    let (here, there) = (Operator::new(), Operator::new());
    assert_eq!(here.mtk(&["state", "export"]).code, Some(2), "there is none");
    here.run(&[]).all(&["done", "fresh"]);
    let exported = here.mtk(&["state", "export"]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    let (long, _) = crate::bed::top_token("ap1", "dunepro", "dune_production");
    let short = fs::read_to_string(bed().node_path("key", "/tmp/vt_u50001-dune_production")).unwrap();
    assert!(!exported.stdout.contains(&long) && !exported.stdout.contains(short.trim()));
    let file = there.path().join("state.json");
    fs::write(&file, &exported.stdout).unwrap();
    let file = file.to_str().unwrap();
    let taken = there.mtk(&["state", "import", file]);
    assert_eq!(taken.code, Some(0), "{}", taken.stderr);
    assert_eq!(there.mtk(&["state", "export"]).stdout, exported.stdout);
    // but for the budget at Vault, which is this host's own
    let status = |operator: &Operator| {
        let text = operator.mtk(&["status", "--output", "json"]).stdout;
        let status: Value = serde_json::from_str(&text).unwrap();
        let edges = |s: &Value| s["edges"].as_array().unwrap().len();
        status["services"]
            .as_array()
            .unwrap()
            .iter()
            .map(edges)
            .collect::<Vec<_>>()
    };
    assert_eq!(status(&there), status(&here));
    let again = there.mtk(&["state", "import", file]);
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("--replace"), "{}", again.stderr);
    assert_eq!(there.mtk(&["state", "import", "--replace", file]).code, Some(0));
    fs::write(file, &exported.stdout[..exported.stdout.len() / 2]).unwrap();
    assert_eq!(there.mtk(&["state", "import", "--replace", file]).code, Some(2));
    assert_eq!(there.mtk(&["state", "export"]).stdout, exported.stdout);
    // the tokens did not move: made anew, once
    let report = there.run(&[]);
    report.all(&["done", "fresh"]);
    assert_eq!(report.ran.code, Some(0));
}

#[test]
fn what_the_go_service_remembers_is_taken_over_and_its_file_left_alone() {
    let operator = Operator::new();
    let db = operator.path().join("uid.db");
    sqlite(
        &db,
        "PRAGMA application_id = 1571300691; PRAGMA user_version = 1;
         CREATE TABLE uids (username STRING NOT NULL PRIMARY KEY, uid INTEGER NOT NULL UNIQUE);
         CREATE TABLE services (id INTEGER NOT NULL PRIMARY KEY, name STRING NOT NULL UNIQUE);
         CREATE TABLE nodes (id INTEGER NOT NULL PRIMARY KEY, name STRING NOT NULL UNIQUE);
         CREATE TABLE setup_errors (service_id INTEGER NOT NULL UNIQUE, count INTEGER,
             FOREIGN KEY (service_id) REFERENCES services (id));
         CREATE TABLE push_errors (service_id INTEGER NOT NULL, node_id INTEGER NOT NULL, count INTEGER,
             FOREIGN KEY (service_id) REFERENCES services (id), FOREIGN KEY (node_id) REFERENCES nodes (id),
             UNIQUE (service_id, node_id));
         INSERT INTO uids VALUES ('mu2epro', 50004), ('novapro', 50006);
         INSERT INTO services (name) VALUES ('mu2e_production'), ('nova_production'), ('minos_production');
         INSERT INTO nodes (name) VALUES ('key.mtk.test'), ('gone.mtk.test');
         INSERT INTO setup_errors VALUES (2, 5), (3, 1), (1, 0);
         INSERT INTO push_errors VALUES (1, 1, 2), (1, 2, 9);",
    );
    let before = (
        fs::read(&db).unwrap(),
        fs::metadata(&db).unwrap().modified().unwrap(),
    );
    let taken = operator.mtk(&["state", "import", "--go", db.to_str().unwrap()]);
    assert_eq!(taken.code, Some(0), "{}", taken.stderr);
    assert!(taken.stderr.contains("minos_production"), "{}", taken.stderr);
    let exported: Value = serde_json::from_str(&operator.mtk(&["state", "export"]).stdout).unwrap();
    let counts: Vec<(String, i64)> = exported["tables"]["edge"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (
                e["id"].as_str().unwrap().to_owned(),
                e["consecutive_failures"].as_i64().unwrap(),
            )
        })
        .collect();
    let of = |start: &str| {
        counts
            .iter()
            .filter(|(id, _)| id.starts_with(start))
            .map(|(_, n)| *n)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("login/nova/production/"), [5]);
    assert_eq!(of("push/mu2e/production/"), [2, 2, 2], "{counts:?}");
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert_eq!(exported["tables"]["uid"].as_array().unwrap().len(), 2);
    let repeated = operator.mtk(&["state", "import", "--go", db.to_str().unwrap()]);
    assert!(repeated.stdout.contains(" 0 counts"), "{}", repeated.stdout);
    assert_eq!(
        before,
        (
            fs::read(&db).unwrap(),
            fs::metadata(&db).unwrap().modified().unwrap()
        )
    );
    assert_eq!(sqlite(&db, "PRAGMA integrity_check").trim(), "ok");
    operator.run(&[]).all(&["done", "fresh"]);
}
