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
    let mut known = KnownHosts::nothing(host, port, &Trust::Strict);
    known.looked_at.push("kh".into());
    known.take_lines(Path::new("kh"), text);
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
    assert!(matches!(hosts.decide(&ours), Verdict::Known { at } if at.line == 3));
    assert!(matches!(hosts.decide(&other), Verdict::Changed { at, .. } if at.line == 3));
    assert!(matches!(
        known("", "a.test", 22).decide(&ours),
        Verdict::Unknown { .. }
    ));
}

#[test]
fn known_by_another_kind_of_key_only_is_changed_not_unknown() {
    let hosts = known(&line("a.test", &key("ssh-rsa", 1)), "a.test", 22);
    assert!(matches!(
        hosts.decide(&key("ssh-ed25519", 1)),
        Verdict::Changed { .. }
    ));
    assert_eq!(hosts.kinds(), ["ssh-rsa"]);
}

#[test]
fn one_of_several_lines_is_enough() {
    let (a, b) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
    let hosts = known(&(line("a.test", &a) + &line("a.test", &b)), "a.test", 22);
    assert!(matches!(hosts.decide(&b), Verdict::Known { at } if at.line == 2));
}

#[test]
fn a_revoked_key_is_revoked_wherever_else_it_stands() {
    let bad = key("ssh-ed25519", 1);
    let text = line("a.test", &bad) + "@revoked " + &line("*", &bad);
    assert!(matches!(known(&text, "a.test", 22).decide(&bad), Verdict::Revoked { at, .. } if at.line == 2));
    // revoking a key says nothing about others
    let text = "@revoked ".to_owned() + &line("*", &bad);
    assert!(matches!(
        known(&text, "a.test", 22).decide(&key("ssh-ed25519", 2)),
        Verdict::Unknown { .. }
    ));
}

#[test]
fn an_authority_vouches_for_no_bare_key_and_is_named() {
    let authority = key("ssh-ed25519", 1);
    let hosts = known(
        &("@cert-authority ".to_owned() + &line("*.test", &authority)),
        "a.test",
        22,
    );
    let verdict = hosts.decide(&authority);
    assert!(matches!(&verdict, Verdict::Unknown { authority: Some(at), .. } if at.line == 1));
    assert!(verdict.to_string().contains("certificate authority"), "{verdict}");
}

#[test]
fn ports_are_part_of_the_name() {
    let ours = key("ssh-ed25519", 1);
    let plain = line("a.test", &ours);
    assert!(matches!(
        known(&plain, "a.test", 2222).decide(&ours),
        Verdict::Unknown { .. }
    ));
    let with_port = line("[a.test]:2222", &ours);
    assert!(matches!(
        known(&with_port, "a.test", 2222).decide(&ours),
        Verdict::Known { .. }
    ));
    assert!(matches!(
        known(&with_port, "a.test", 22).decide(&ours),
        Verdict::Unknown { .. }
    ));
}

#[test]
fn patterns_and_their_negation() {
    let ours = key("ssh-ed25519", 1);
    let is_known = |hosts: &str, name: &str| {
        matches!(
            known(&line(hosts, &ours), name, 22).decide(&ours),
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
    assert!(matches!(known(text, "gss.mtk.test", 22).decide(&ours), Verdict::Known { at } if at.line == 1));
    assert!(matches!(known(text, "gss.mtk.test", 2222).decide(&ours), Verdict::Known { at } if at.line == 2));
    assert!(matches!(
        known(text, "other.test", 22).decide(&ours),
        Verdict::Unknown { .. }
    ));
    for broken in ["|1|", "|1|x", "|1|eA==|", "|1||", "|2|eA==|eA=="] {
        assert!(matches!(
            known(&line(broken, &ours), "a.test", 22).decide(&ours),
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
    let verdict = known(&text, "a.test", 22).decide(&ours);
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
    let both = KnownHosts::read(&[good.clone(), absent.clone()], "a.test", 22, &Trust::Strict);
    assert!(matches!(both, Err(Verdict::Unreadable { file, .. }) if file == absent));
    assert!(KnownHosts::read(&[directory.path().to_owned()], "a.test", 22, &Trust::Strict).is_err());
    assert!(KnownHosts::read(std::slice::from_ref(&good), "a.test", 22, &Trust::Strict).is_ok());
    fs::set_permissions(&good, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(KnownHosts::read(&[good], "a.test", 22, &Trust::Strict).is_err());
    assert!(KnownHosts::read(&["/dev/null".into()], "a.test", 22, &Trust::Strict).is_ok());
}

#[test]
fn no_file_at_all_trusts_nobody() {
    let none = KnownHosts::read(&[], "a.test", 22, &Trust::Strict).unwrap();
    let verdict = none.decide(&key("ssh-ed25519", 1));
    assert!(verdict.to_string().contains("none is configured"), "{verdict}");
}

#[test]
fn any_bytes_are_judged_without_panic() {
    for bytes in [&b""[..], &[0, 0, 0], &[255; 8], &[0, 0, 0, 9, b'x']] {
        assert!(!matches!(
            known("a.test", "a.test", 22).decide(bytes),
            Verdict::Known { .. }
        ));
    }
}

fn strict(trust: Trust) -> KnownHosts {
    let none: [PathBuf; 0] = [];
    KnownHosts::read(&none, "a.test", 22, &trust).unwrap()
}

#[test]
fn first_use_is_recorded_and_another_key_is_refused_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("known_hosts");
    let trust = Trust::FirstUse {
        record: record.clone(),
    };
    let (ours, other) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
    let first = strict(trust.clone());
    let verdict = first.decide(&ours);
    assert!(
        matches!(&verdict, Verdict::FirstUse { recorded, .. } if recorded.line == 1),
        "{verdict}"
    );
    assert!(verdict.is_trusted() && verdict.is_weak());
    assert_eq!(fs::metadata(&record).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_to_string(&record).unwrap(),
        line("a.test", &ours).replace(" a comment", "")
    );
    // one that read the files before the first was written down
    assert!(matches!(first.decide(&other), Verdict::Changed { .. }));
    assert!(matches!(
        strict(trust.clone()).decide(&ours),
        Verdict::Known { .. }
    ));
    assert!(matches!(strict(trust).decide(&other), Verdict::Changed { .. }));
    // and only where the site has turned the check off does a session go on
    let any = strict(Trust::Any { record });
    assert!(matches!(any.decide(&other), Verdict::Disregarded { .. }));
    assert!(matches!(any.decide(&ours), Verdict::Known { .. }));
}

#[test]
fn a_record_others_may_write_is_no_record() {
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("known_hosts");
    let trust = Trust::FirstUse {
        record: record.clone(),
    };
    fs::write(&record, "").unwrap();
    fs::set_permissions(&record, fs::Permissions::from_mode(0o644)).unwrap();
    let none: [PathBuf; 0] = [];
    assert!(matches!(
        KnownHosts::read(&none, "a.test", 22, &trust),
        Err(Verdict::Unreadable { .. })
    ));
    fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &record).unwrap();
    assert!(matches!(
        KnownHosts::read(&none, "a.test", 22, &trust),
        Err(Verdict::Unreadable { .. })
    ));
}

#[test]
fn revoked_is_refused_even_where_any_key_will_do() {
    let bad = key("ssh-ed25519", 1);
    let mut hosts = known(&("@revoked ".to_owned() + &line("*", &bad)), "a.test", 22);
    let directory = tempfile::tempdir().unwrap();
    hosts.trust = Trust::Any {
        record: directory.path().join("known_hosts"),
    };
    assert!(matches!(hosts.decide(&bad), Verdict::Revoked { .. }));
}

#[test]
fn what_only_looks_like_a_certificate_vouches_for_nobody() {
    let bad = key("ssh-ed25519-cert-v01@openssh.com", 1);
    let text = "@cert-authority ".to_owned() + &line("*", &key("ssh-ed25519", 1));
    assert!(matches!(
        known(&text, "a.test", 22).decide(&bad),
        Verdict::BadCertificate { .. }
    ));
}
