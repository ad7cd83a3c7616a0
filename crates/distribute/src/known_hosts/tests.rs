use std::os::unix::fs::PermissionsExt;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::*;

/// A key in wire encoding that nobody has.
fn key(kind: &str, fill: u8) -> Vec<u8> {
    let mut key = u32::try_from(kind.len()).unwrap().to_be_bytes().to_vec();
    key.extend_from_slice(kind.as_bytes());
    key.extend_from_slice(&[0, 0, 0, 4, fill, fill, fill, fill]);
    key
}

fn line(hosts: &str, key: &[u8]) -> String {
    let kind = entry::kind_of(key).unwrap();
    format!("{hosts} {kind} {} a comment\n", BASE64_STANDARD.encode(key))
}

fn known(text: &str, host: &str, port: u16) -> KnownHosts {
    let mut known = KnownHosts {
        looked_at: vec!["kh".into()],
        entries: vec![],
        malformed: vec![],
    };
    known.take_lines(Path::new("kh"), text, &pattern::lookup_name(host, port));
    known
}

#[test]
fn the_key_on_the_line_and_no_other_is_known() {
    let (ours, other) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
    let hosts = known(
        &format!("# comment\n\n{}", line("a.test,b.test", &ours)),
        "B.test",
        22,
    );
    assert!(matches!(hosts.judge(&ours), Verdict::Known { at } if at.line == 3));
    assert!(matches!(hosts.judge(&other), Verdict::Changed { at, .. } if at.line == 3));
    assert!(matches!(
        known("", "a.test", 22).judge(&ours),
        Verdict::Unknown { .. }
    ));
}

#[test]
fn known_by_another_kind_of_key_only_is_changed_not_unknown() {
    let hosts = known(&line("a.test", &key("ssh-rsa", 1)), "a.test", 22);
    assert!(matches!(
        hosts.judge(&key("ssh-ed25519", 1)),
        Verdict::Changed { .. }
    ));
    assert_eq!(hosts.kinds(), ["ssh-rsa"]);
}

#[test]
fn one_of_several_lines_is_enough() {
    let (a, b) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
    let hosts = known(&(line("a.test", &a) + &line("a.test", &b)), "a.test", 22);
    assert!(matches!(hosts.judge(&b), Verdict::Known { at } if at.line == 2));
}

#[test]
fn a_revoked_key_is_revoked_wherever_else_it_stands() {
    let bad = key("ssh-ed25519", 1);
    let text = line("a.test", &bad) + "@revoked " + &line("*", &bad);
    assert!(matches!(known(&text, "a.test", 22).judge(&bad), Verdict::Revoked { at, .. } if at.line == 2));
    // revoking a key says nothing about others
    let text = "@revoked ".to_owned() + &line("*", &bad);
    assert!(matches!(
        known(&text, "a.test", 22).judge(&key("ssh-ed25519", 2)),
        Verdict::Unknown { .. }
    ));
}

#[test]
fn an_authority_vouches_for_nothing_yet_and_is_named() {
    let authority = key("ssh-ed25519", 1);
    let hosts = known(
        &("@cert-authority ".to_owned() + &line("*.test", &authority)),
        "a.test",
        22,
    );
    let verdict = hosts.judge(&authority);
    assert!(matches!(&verdict, Verdict::Unknown { authority: Some(at), .. } if at.line == 1));
    assert!(verdict.to_string().contains("certificate authority"), "{verdict}");
}

#[test]
fn ports_are_part_of_the_name() {
    let ours = key("ssh-ed25519", 1);
    let plain = line("a.test", &ours);
    assert!(matches!(
        known(&plain, "a.test", 2222).judge(&ours),
        Verdict::Unknown { .. }
    ));
    let with_port = line("[a.test]:2222", &ours);
    assert!(matches!(
        known(&with_port, "a.test", 2222).judge(&ours),
        Verdict::Known { .. }
    ));
    assert!(matches!(
        known(&with_port, "a.test", 22).judge(&ours),
        Verdict::Unknown { .. }
    ));
}

#[test]
fn patterns_and_their_negation() {
    let ours = key("ssh-ed25519", 1);
    let is_known = |hosts: &str, name: &str| {
        matches!(
            known(&line(hosts, &ours), name, 22).judge(&ours),
            Verdict::Known { .. }
        )
    };
    assert!(is_known("*.test", "a.test"));
    assert!(is_known("gpvm??.test", "gpvm01.test"));
    assert!(is_known("*", "anything"));
    assert!(is_known("A.TEST", "a.test"));
    assert!(!is_known("*.test", "a.test.evil"));
    assert!(!is_known("gpvm?.test", "gpvm01.test"));
    assert!(!is_known("*.test,!bad.test", "bad.test"));
    assert!(!is_known("!bad.test,*.test", "bad.test"));
    assert!(is_known("!bad.test,*.test", "good.test"));
    assert!(!is_known("!bad.test", "good.test"));
    // would take for ever if stars were tried recursively
    assert!(!is_known(&"*a".repeat(40), &"a".repeat(500).replace("aa", "ab")));
}

#[test]
fn hashed_names_as_ssh_keygen_writes_them() {
    // made by `ssh-keygen -H` (OpenSSH 9.2) of two lines for one key: `gss.mtk.test` and `[gss.mtk.test]:2222`
    let text = "\
|1|CFH9XPlLGhilo7dYEQKiyuRE/cE=|Zc7rQF5266iq5t4MzdwTtIcNEZw= ssh-ed25519 \
AAAAC3NzaC1lZDI1NTE5AAAAIN3b65iEF1tclQH7hOSrGxsYtWdJlgJuHxiB+pcTP183
|1|bmVKepxP+19eU8UMILjJ6ZC/8yE=|88sTGVi7te05+LHk7nNwVwpPvI8= ssh-ed25519 \
AAAAC3NzaC1lZDI1NTE5AAAAIN3b65iEF1tclQH7hOSrGxsYtWdJlgJuHxiB+pcTP183
";
    let ours = BASE64_STANDARD
        .decode("AAAAC3NzaC1lZDI1NTE5AAAAIN3b65iEF1tclQH7hOSrGxsYtWdJlgJuHxiB+pcTP183")
        .unwrap();
    assert!(matches!(known(text, "gss.mtk.test", 22).judge(&ours), Verdict::Known { at } if at.line == 1));
    assert!(matches!(known(text, "gss.mtk.test", 2222).judge(&ours), Verdict::Known { at } if at.line == 2));
    assert!(matches!(
        known(text, "other.test", 22).judge(&ours),
        Verdict::Unknown { .. }
    ));
    for broken in ["|1|", "|1|x", "|1|eA==|", "|1||", "|2|eA==|eA=="] {
        assert!(matches!(
            known(&line(broken, &ours), "a.test", 22).judge(&ours),
            Verdict::Unknown { .. }
        ));
    }
}

#[test]
fn lines_not_understood_vouch_for_nobody_and_are_named() {
    let ours = key("ssh-ed25519", 1);
    let base64 = BASE64_STANDARD.encode(&ours);
    let text = format!(
        "a.test\na.test ssh-ed25519\na.test ssh-ed25519 ###\na.test ssh-rsa {base64}\n@new a.test ssh-ed25519 {base64}\n\
         a.test ssh-ed25519 AAAA\na.test 1024 35 1234567\n\u{0}\u{1}\n"
    );
    let verdict = known(&text, "a.test", 22).judge(&ours);
    assert!(
        matches!(&verdict, Verdict::Unknown { malformed, .. } if malformed.len() == 5),
        "{verdict}"
    );
    assert!(verdict.to_string().contains("kh:1"), "{verdict}");
}

#[test]
fn a_file_that_cannot_be_read_is_no_empty_file() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    fs::write(&good, line("a.test", &key("ssh-ed25519", 1))).unwrap();
    fs::set_permissions(&good, fs::Permissions::from_mode(0o644)).unwrap();
    let absent = directory.path().join("absent");
    let both = KnownHosts::read(&[good.clone(), absent.clone()], "a.test", 22);
    assert!(matches!(both, Err(Verdict::Unreadable { file, .. }) if file == absent));
    assert!(KnownHosts::read(&[directory.path().to_owned()], "a.test", 22).is_err());
    assert!(KnownHosts::read(std::slice::from_ref(&good), "a.test", 22).is_ok());
    fs::set_permissions(&good, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(KnownHosts::read(&[good], "a.test", 22).is_err());
    assert!(KnownHosts::read(&["/dev/null".into()], "a.test", 22).is_ok());
}

#[test]
fn no_file_at_all_trusts_nobody() {
    let none = KnownHosts::read(&[], "a.test", 22).unwrap();
    let verdict = none.judge(&key("ssh-ed25519", 1));
    assert!(verdict.to_string().contains("none is configured"), "{verdict}");
}

#[test]
fn any_bytes_are_judged_without_panic() {
    for bytes in [&b""[..], &[0, 0, 0], &[255; 8], &[0, 0, 0, 9, b'x']] {
        assert!(!matches!(
            known("a.test", "a.test", 22).judge(bytes),
            Verdict::Known { .. }
        ));
    }
}
