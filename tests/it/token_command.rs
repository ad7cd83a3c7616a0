//! `mtk token` beside the real htgettoken: the same Vault token, the same server, the same files.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use serde_json::Value;
use testkit::site::{SERVICES, Service, VAULT};

use crate::{
    bed::bed,
    mtk::{Operator, Ran, binary, ran},
};

fn nova() -> &'static Service {
    SERVICES.iter().find(|s| s.condor == "nova_production").unwrap()
}

/// A person with the pushed Vault token in a file, and a place for the bearer token.
struct Person {
    operator: Operator,
}

impl Person {
    fn new() -> Self {
        let operator = Operator::new();
        operator
            .run(&["--service", "nova_production"])
            .all(&["done", "fresh"]);
        let pushed = bed().node_path("gss", "/tmp/vt_u50006-nova_production");
        std::fs::copy(pushed, operator.path().join("vt")).unwrap();
        Self { operator }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.operator.path().join(name)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(binary());
        command.args(["token", what, "-a", VAULT.name]);
        command.arg("--vaulttokenfile").arg(self.file("vt"));
        command.arg("-o").arg(self.file("bt"));
        command
    }

    fn get(&self, more: &[&str]) -> Ran {
        let credkey = nova().account().credkey();
        let mut command = self.command("get");
        command
            .args(["-i", "nova", "-r", "production", "--credkey", &credkey])
            .args(more);
        ran(command.output().unwrap(), std::time::Instant::now())
    }

    /// What htgettoken writes with the same Vault token and options.
    fn htgettoken(&self, more: &[&str]) -> (Option<i32>, String) {
        let root = bed().node_root("gss");
        let output = testkit::consumers::htgettoken(&root, nova())
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn bearer(&self) -> String {
        let mode = std::fs::metadata(self.file("bt")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        std::fs::read_to_string(self.file("bt")).unwrap()
    }
}

#[test]
fn failures_are_of_the_same_class_and_leave_the_file() {
    let person = Person::new();
    assert_eq!(person.get(&[]).code, Some(0));
    let before = person.bearer();
    let refused = ["--scopes", "storage.modify:/dune"];
    assert_eq!(
        (person.get(&refused).code, person.htgettoken(&refused).0),
        (Some(1), Some(1))
    );
    let unknown = ["--credkey", "nobody"];
    assert_eq!(
        (person.get(&unknown).code, person.htgettoken(&unknown).0),
        (Some(1), Some(1))
    );
    let usage = ["--no-such-option"];
    assert_eq!(
        (person.get(&usage).code, person.htgettoken(&usage).0),
        (Some(2), Some(2))
    );
    assert_eq!(person.bearer(), before);
}

#[test]
fn options_come_from_the_environment_too_and_those_typed_go_before() {
    let person = Person::new();
    let credkey = nova().account().credkey();
    let mut command = person.command("get");
    command.env(
        "HTGETTOKENOPTS",
        format!("-i nova -r default --credkey={credkey}"),
    );
    let got = ran(
        command
            .args(["-r", "production", "--showbearerurl"])
            .output()
            .unwrap(),
        std::time::Instant::now(),
    );
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    let url = format!(
        "https://{}:8200/v1/secret/oauth/creds/nova/{credkey}:production\n",
        VAULT.name
    );
    assert_eq!(got.stdout, url);
    assert_eq!((Some(0), person.bearer()), person.htgettoken(&[]));
}

#[test]
fn what_a_token_says_is_shown_and_its_signature_is_not() {
    let person = Person::new();
    assert_eq!(person.get(&[]).code, Some(0));
    let token = person.bearer();
    let mut by_file = Command::new(binary());
    by_file.args(["token", "show"]).arg(person.file("bt"));
    let mut by_discovery = Command::new(binary());
    by_discovery.args(["token", "show"]).env("BEARER_TOKEN", &token);
    for mut command in [by_file, by_discovery] {
        let output = command.output().unwrap();
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(Some(shown), testkit::consumers::claims(token.trim()));
        let signature = token.trim().rsplit('.').next().unwrap();
        assert!(!String::from_utf8_lossy(&output.stdout).contains(signature));
    }
    // checked with the issuer's own keys, where somebody asks for that; with one letter of the signature changed it is none
    let verified = |token: &str| {
        let mut command = Command::new(binary());
        command
            .args(["token", "show", "--verify"])
            .env("BEARER_TOKEN", token);
        ran(command.output().unwrap(), std::time::Instant::now())
    };
    let good = verified(&token);
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    assert!(good.stdout.contains("\"sub\""), "{}", good.stdout);
    let mut forged = token.trim().to_owned();
    let at = forged.rfind('.').unwrap() + 1;
    let other = if &forged[at..=at] == "A" { "B" } else { "A" };
    forged.replace_range(at..=at, other);
    let bad = verified(&forged);
    assert_eq!((bad.code, bad.stdout.as_str()), (Some(1), ""), "{}", bad.stderr);
    assert!(bad.stderr.contains("signature"), "{}", bad.stderr);
    // nobody is asked, so nobody's certificate is judged: that is said, and not passed over
    let mut idle = Command::new(binary());
    idle.args(["token", "show", "--cafile", "/nowhere"])
        .env("BEARER_TOKEN", &token);
    let idle = ran(idle.output().unwrap(), std::time::Instant::now());
    assert_eq!(
        (idle.code, idle.stdout.as_str()),
        (Some(2), ""),
        "{}",
        idle.stderr
    );
    assert!(idle.stderr.contains("--verify"), "{}", idle.stderr);
}

#[test]
fn what_is_destroyed_is_dead_at_vault_as_well() {
    let person = Person::new();
    assert_eq!(person.get(&[]).code, Some(0));
    let vault_token = std::fs::read_to_string(person.file("vt")).unwrap();
    for _ in 0..2 {
        let output = person.command("destroy").output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!person.file("vt").exists() && !person.file("bt").exists());
    }
    assert!(!bed().is_alive(vault_token.trim()));
    assert_eq!(person.get(&[]).code, Some(1));
    // what the node has is the same token, dead now
    std::fs::remove_file(bed().node_path("gss", "/tmp/vt_u50006-nova_production")).unwrap();
}

#[test]
fn a_file_that_stays_leaves_no_other() {
    let person = Person::new();
    assert_eq!(person.get(&[]).code, Some(0));
    std::fs::remove_file(person.file("vt")).unwrap();
    std::fs::create_dir(person.file("vt")).unwrap();
    let output = person.command("destroy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!person.file("bt").exists(), "{said}");
    assert!(said.contains("vt cannot be removed"), "{said}");
}
