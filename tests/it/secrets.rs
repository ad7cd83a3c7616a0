//! No secret is shown, whatever is asked of the log; no other program is run.

use std::process::Command;

use crate::{
    bed::{bed, top_token},
    mtk::Operator,
    whole_way::{contains, walk},
};

#[test]
fn nothing_printed_at_trace_level_is_a_secret() {
    let operator = Operator::new();
    let mut printed = Vec::new();
    for args in [
        &["-vvv", "run"][..],
        &["-vvv", "run"],
        &["-vvv", "run", "--output", "json"],
        &["-vvv", "status"],
        &["-vvv", "explain", "dune_production", "--output", "json"],
    ] {
        let output = operator.command(args).env("MTK_LOG", "trace").output().unwrap();
        printed.extend(output.stdout);
        printed.extend(output.stderr);
    }
    // and a run in which things fail
    bed().seal();
    let other = Operator::new();
    let output = other
        .command(&["-vvv", "run"])
        .env("MTK_LOG", "trace")
        .output()
        .unwrap();
    bed().unseal();
    printed.extend(output.stdout);
    printed.extend(output.stderr);
    // what is written down of all that, too
    for log in [&operator, &other].map(|o| o.state().join("audit.log")) {
        printed.extend(std::fs::read(&log).unwrap());
    }
    let text = String::from_utf8_lossy(&printed);
    assert!(
        text.contains("TRACE") || text.contains("DEBUG"),
        "trace level was not heard:\n{text}"
    );

    let mut secrets: Vec<(String, Vec<u8>)> = Vec::new();
    for service in testkit::site::SERVICES {
        for ap in testkit::site::ACCESS_POINTS {
            let (token, _) = top_token(ap.server, service.account, service.condor);
            secrets.push((format!("long token of {}", service.condor), token.into_bytes()));
        }
        let path = bed().node_path("gss", &format!("/tmp/vt_u{}-{}", service.uid, service.condor));
        let token = std::fs::read_to_string(path).unwrap();
        secrets.push((format!("node token of {}", service.condor), token.trim().into()));
        for key in keys_in(&std::fs::read(bed().keytab(service.account)).unwrap()) {
            secrets.push((format!("key of {}", service.account), hex(&key).into_bytes()));
            secrets.push((format!("key of {}", service.account), key));
        }
    }
    for (what, secret) in secrets {
        assert!(secret.len() >= 16, "{what} is too short to search for");
        assert!(!contains(&printed, &secret), "{what} was printed");
    }
    // bearer tokens, tickets and GSS tokens in base64 begin like this
    for sign in ["eyJ", "YII", "X-Vault-Token: s.", "Negotiate Y"] {
        assert!(!text.contains(sign), "something beginning {sign:?} was printed");
    }
}

#[test]
fn mtk_runs_no_other_program() {
    let operator = Operator::new();
    let trace = operator.path().join("strace");
    let output = Command::new("strace")
        .args(["-f", "-e", "trace=execve,execveat", "-o"])
        .arg(&trace)
        .arg(crate::mtk::binary())
        .arg("--config")
        .arg(&operator.config)
        .arg("--state-dir")
        .arg(operator.state())
        .arg("run")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let trace = std::fs::read_to_string(&trace).unwrap();
    let calls: Vec<&str> = trace.lines().filter(|l| l.contains("execve")).collect();
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert!(calls[0].contains("/mtk\""), "{calls:?}");
}

#[test]
fn no_secret_is_in_argv_or_environment_and_no_core_can_be_dumped() {
    let operator = Operator::new();
    let frozen = crate::bed::Frozen::server("kdc");
    let child = operator.start(&["run"]);
    std::thread::sleep(std::time::Duration::from_millis(700));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    crate::bed::terminate(&child);
    child.wait_with_output().unwrap();
    drop(frozen);
    let core = limits
        .lines()
        .find(|l| l.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    for file in walk(operator.path()) {
        assert!(file.exists());
    }
}

/// The keys in an MIT keytab, version 2.
fn keys_in(keytab: &[u8]) -> Vec<Vec<u8>> {
    let number = |at: usize, n: usize| {
        keytab[at..at + n]
            .iter()
            .fold(0usize, |v, b| v << 8 | usize::from(*b))
    };
    let mut keys = Vec::new();
    let mut at = 2;
    while at + 4 <= keytab.len() {
        let size = number(at, 4);
        let start = at + 4;
        at = start + size;
        let mut p = start + 2;
        for _ in 0..number(start, 2) + 1 {
            p += 2 + number(p, 2);
        }
        p += 4 + 4 + 1 + 2;
        let length = number(p, 2);
        keys.push(keytab[p + 2..p + 2 + length].to_vec());
    }
    assert!(!keys.is_empty());
    keys
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
