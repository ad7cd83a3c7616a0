//! The audit log: a record of every act on a credential, in a chain that shows what was changed.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Instant};

use serde_json::Value;
use testkit::site::{ACCESS_POINTS, NODES, SERVICES, VAULT};

use crate::{
    bed::{bed, top_token},
    mtk::{Operator, binary, ran},
    whole_way::contains,
};

fn records(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn acts<'a>(records: &'a [Value], act: &str) -> Vec<&'a Value> {
    records.iter().filter(|r| r["act"] == act).collect()
}

#[track_caller]
fn verified(operator: &Operator, code: i32) -> Value {
    let said = operator.mtk(&["audit", "verify", "--output", "json"]);
    assert_eq!(said.code, Some(code), "{}{}", said.stdout, said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn every_act_of_a_run_has_its_record_and_no_token_is_in_it() {
    let operator = Operator::new();
    let report = operator.run(&[]);
    // what holds no token may lie there from before
    report.all(&["done", "fresh"]);
    let log = operator.state().join("audit.log");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o7777, 0o600);
    let all = records(&log);
    for record in &all {
        assert_eq!(record["outcome"], "done", "{record}");
        assert_eq!(record["trace_id"], report.json["trace_id"], "{record}");
        assert_eq!(
            (&record["command"], &record["user"]),
            (&"run".into(), &"root".into()),
            "{record}"
        );
        assert!(record["place"].is_string() && record["host"].is_string() && record["pid"].is_u64());
    }
    // what the state remembers of Vault and what Vault itself says are the same tokens
    let (logins, children) = (acts(&all, "login"), acts(&all, "child"));
    assert_eq!((logins.len(), children.len()), (SERVICES.len(), SERVICES.len()));
    for service in SERVICES {
        let principal = service.account().principal();
        let of = |list: &[&Value]| -> Vec<String> {
            let mine = list.iter().filter(|r| r["by"] == principal.as_str());
            mine.map(|r| r["accessor"].as_str().unwrap().to_owned()).collect()
        };
        let accessors = bed().accessors();
        for accessor in of(&logins).iter().chain(&of(&children)) {
            assert!(accessors.contains(accessor), "{accessor} is no token's");
        }
        assert!(
            !of(&logins).is_empty() && !of(&children).is_empty(),
            "{principal}"
        );
    }
    assert!(acts(&all, "bearer").len() >= SERVICES.len());
    let stores = acts(&all, "store");
    assert_eq!(stores.len(), SERVICES.len() * ACCESS_POINTS.len());
    for service in SERVICES {
        let of = |r: &&&Value| r["what"] == service.condor && r["by"] == service.account;
        assert_eq!(
            stores.iter().filter(of).count(),
            ACCESS_POINTS.len(),
            "{}",
            service.condor
        );
    }
    // the digest is that of the file: an operator finds who wrote it
    let writes = acts(&all, "write");
    for node in NODES {
        let service = &SERVICES[0];
        let path = format!("/tmp/vt_u{}-{}", service.uid, service.condor);
        let sum = Command::new("sha256sum")
            .arg(bed().node_path(node.server, &path))
            .output()
            .unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let written = writes
            .iter()
            .find(|r| r["what"] == path.as_str() && r["place"] == node.name);
        assert_eq!(written.unwrap()["sha256"], sum[..64], "{}", node.name);
    }
    let bytes = fs::read(&log).unwrap();
    for service in SERVICES {
        for ap in ACCESS_POINTS {
            let (token, _) = top_token(ap.server, service.account, service.condor);
            assert!(!contains(&bytes, token.as_bytes()), "a long token is in the log");
        }
        let path = bed().node_path("gss", &format!("/tmp/vt_u{}-{}", service.uid, service.condor));
        let token = fs::read_to_string(path).unwrap();
        assert!(
            !contains(&bytes, token.trim().as_bytes()),
            "a node token is in the log"
        );
    }
    assert!(!contains(&bytes, b"eyJ"), "a bearer token is in the log");

    // nothing done, nothing written
    operator.run(&[]).all(&["fresh"]);
    let verdict = verified(&operator, 0);
    assert_eq!(verdict["records"], all.len());
    let anchor = verdict["anchor"].as_str().unwrap();
    assert_eq!(
        operator.mtk(&["audit", "verify", "--anchor", anchor]).code,
        Some(0)
    );

    let text = fs::read_to_string(&log).unwrap();
    let changed = text.replacen(
        &format!("\"what\":\"{}\"", SERVICES[0].condor),
        "\"what\":\"other\"",
        1,
    );
    assert_ne!(text, changed);
    fs::write(&log, &changed).unwrap();
    let verdict = verified(&operator, 1);
    assert!(
        verdict["findings"][0]["text"]
            .as_str()
            .unwrap()
            .contains("was changed"),
        "{verdict}"
    );
    let without: Vec<&str> = text
        .lines()
        .enumerate()
        .filter(|(n, _)| *n != 4)
        .map(|(_, l)| l)
        .collect();
    fs::write(&log, without.join("\n") + "\n").unwrap();
    let said = operator.mtk(&["audit", "verify"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout.contains("audit.log:5: record 5 before it is missing"),
        "{}",
        said.stdout
    );

    // a log that cannot be written stops nothing, and is not overheard
    let directory = operator.path().join("not-a-file");
    fs::create_dir(&directory).unwrap();
    let config = fs::read_to_string(&operator.config).unwrap();
    fs::write(
        &operator.config,
        format!("{config}\nmtk:\n  audit: {{file: {}}}\n", directory.display()),
    )
    .unwrap_or_else(|e| panic!("{e}"));
    bed().clean_node("gss");
    let report = operator.run(&[]);
    report.all(&["done", "fresh"]);
    assert_eq!(report.ran.code, Some(1), "{}", report.ran.stderr);
    assert!(
        report.ran.stderr.contains("are not in the audit log"),
        "{}",
        report.ran.stderr
    );
}

#[test]
fn what_is_taken_back_and_what_people_get_is_recorded() {
    let operator = Operator::new();
    let only = ["--service", "nova_production"];
    operator.run(&only).all(&["done", "fresh"]);
    let log = operator.state().join("audit.log");
    let token = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("token").args(args).args(["-a", VAULT.name]);
        command.arg("--vaulttokenfile").arg(operator.path().join("vt"));
        command.arg("-o").arg(operator.path().join("bt"));
        let done = ran(
            command.env("MTK_AUDIT_LOG", &log).output().unwrap(),
            Instant::now(),
        );
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    };
    // what a person has is a node token of a robot's, which the end of this destroys
    fs::copy(
        bed().node_path("gss", "/tmp/vt_u50006-nova_production"),
        operator.path().join("vt"),
    )
    .unwrap();
    let credkey = SERVICES
        .iter()
        .find(|s| s.condor == "nova_production")
        .unwrap()
        .account()
        .credkey();
    token(&["get", "-i", "nova", "-r", "production", "--credkey", &credkey]);
    let bearer = fs::read(operator.path().join("bt")).unwrap();
    let before = records(&log).len();
    token(&["destroy"]);
    let all = records(&log);
    let got: Vec<&Value> = all.iter().filter(|r| r["command"] == "token").collect();
    let words: Vec<&str> = got.iter().map(|r| r["act"].as_str().unwrap()).collect();
    assert_eq!(
        words,
        ["bearer", "write", "revoke", "remove", "remove"],
        "{got:#?}"
    );
    assert_eq!(all.len(), before + 3);
    let text = String::from_utf8(fs::read(&log).unwrap()).unwrap();
    assert!(!contains(text.as_bytes(), bearer.trim_ascii()));

    let again = bed().onboarded_again("nova", "novapro", "production");
    let revoked = operator.mtk(&["revoke", "nova_production", "--yes", "--everywhere"]);
    drop(again);
    // long tokens are left to Vault's operators
    assert_eq!(revoked.code, Some(1), "{}", revoked.stderr);
    let all = records(&log);
    let taken: Vec<&Value> = all.iter().filter(|r| r["command"] == "revoke").collect();
    for (act, at_least) in [
        ("login", 1),
        ("forget", 1),
        ("delete", ACCESS_POINTS.len()),
        ("remove", NODES.len()),
        ("revoke", 1),
    ] {
        let found = taken.iter().filter(|r| r["act"] == act).count();
        assert!(found >= at_least, "{act}: {found} of {at_least} in {taken:#?}");
    }
    verified(&operator, 0);

    // logrotate: the file goes, the chain goes on
    fs::rename(&log, operator.state().join("audit.log.1")).unwrap();
    operator.run(&only).all(&["done", "fresh"]);
    let verdict = verified(&operator, 0);
    assert_eq!(
        (&verdict["first"], &verdict["notes"]),
        (&1.into(), &Value::Array(Vec::new()))
    );
    assert!(verdict["records"].as_u64().unwrap() > all.len() as u64);
}
