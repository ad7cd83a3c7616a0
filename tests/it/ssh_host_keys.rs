//! Host keys as sites have them: certificates of an authority, revoked keys, and trust on first use where a site says so.

use std::path::{Path, PathBuf};

use distribute::{Algorithms, Error, Jump, Mode, Node, Options, Report, Trust, Verdict};

use crate::sshd::{Folder, Sshd, both, node, place};

struct Kit {
    folder: Folder,
    sshd: Sshd,
}

impl Kit {
    /// An sshd whose host key `host` of this kind has a certificate for `names`.
    fn certified(kind: &str, names: &str, more: &[&str]) -> Self {
        let folder = Folder::new("hostkeys");
        folder.key("user", "ed25519");
        folder.write("authorized", &folder.read("user.pub"));
        folder.key("ca", "ed25519");
        folder.key("other", "ed25519");
        folder.key("host", kind);
        let mut flags = vec!["-h"];
        flags.extend(more);
        let certificate = folder.certify("ca", "host", names, &flags);
        let sshd = Sshd::start(&folder, 2, &format!("HostCertificate {}", certificate.display()));
        Self { folder, sshd }
    }

    fn lines(&self, lines: &[(&str, &str)]) -> PathBuf {
        let text: String = lines
            .iter()
            .map(|(hosts, key)| format!("{hosts} {}\n", self.folder.read(&format!("{key}.pub"))))
            .collect();
        self.folder.write("known_hosts", &text)
    }

    /// Over both transports, which must come to the same.
    fn try_both(&self, known_hosts: &Path, options: &Options) -> Vec<Result<Report, Error>> {
        both(self.folder.join("user"))
            .into_iter()
            .map(|login| {
                let node = Node {
                    options: options.clone(),
                    ..node(&self.sshd.host, known_hosts, login)
                };
                place(&node, &[], Mode::Verify)
            })
            .collect()
    }

    fn trusted(&self, lines: &[(&str, &str)], expected: fn(&Verdict) -> bool) {
        for report in self.try_both(&self.lines(lines), &Options::default()) {
            let report = report.unwrap();
            let verdict = report.host_key.unwrap();
            assert!(
                expected(&verdict),
                "{lines:?} over {}: {verdict:?}",
                report.transport
            );
        }
    }

    fn refused(&self, lines: &[(&str, &str)], expected: fn(&Verdict) -> bool) {
        for report in self.try_both(&self.lines(lines), &Options::default()) {
            match report {
                Err(Error::HostKey { verdict, .. }) if expected(&verdict) => {}
                other => panic!("{lines:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_certificate_of_an_authority_named_for_the_host() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let kit = Kit::certified(kind, "127.0.3.2,other.test", &["-V", "+1h"]);
        kit.trusted(&[("@cert-authority 127.0.3.*", "ca")], |v| {
            matches!(v, Verdict::Certified { .. })
        });
        // an authority for other hosts, or another authority, says nothing; the bare key still may
        kit.refused(&[("@cert-authority *.test", "ca")], |v| {
            matches!(v, Verdict::Unknown { .. })
        });
        kit.refused(&[("@cert-authority *", "other")], |v| {
            matches!(
                v,
                Verdict::Unknown {
                    authority: Some(_),
                    ..
                }
            )
        });
        kit.trusted(&[("@cert-authority *", "other"), ("127.0.3.2", "host")], |v| {
            matches!(v, Verdict::Known { .. })
        });
        // revoked: the authority, or the key in the certificate
        kit.refused(&[("@cert-authority *", "ca"), ("@revoked *", "ca")], |v| {
            matches!(v, Verdict::Revoked { .. })
        });
        kit.refused(&[("@cert-authority *", "ca"), ("@revoked *", "host")], |v| {
            matches!(v, Verdict::Revoked { .. })
        });
    }
}

#[test]
fn a_certificate_for_another_host_or_another_time() {
    let bad: fn(&Verdict) -> bool = |v| {
        matches!(
            v,
            Verdict::BadCertificate {
                authority: Some(_),
                ..
            }
        )
    };
    let elsewhere = Kit::certified("ed25519", "other.test", &["-V", "+1h"]);
    elsewhere.refused(&[("@cert-authority *", "ca")], bad);
    drop(elsewhere);
    let late = Kit::certified("ed25519", "127.0.3.2", &["-V", "-2h:-1h"]);
    late.refused(&[("@cert-authority *", "ca")], bad);
}

#[test]
fn trust_on_first_use_only_where_the_site_says_so() {
    let kit = Kit::certified("ed25519", "127.0.3.2", &["-V", "+1h"]);
    let record = kit.folder.join("recorded");
    let empty = kit.lines(&[]);
    let with = |trust: Trust| Options {
        trust,
        ..Options::default()
    };
    let accept_new = with(Trust::FirstUse {
        record: record.clone(),
    });
    let verdicts = |known_hosts: &Path, options: &Options| -> Vec<Verdict> {
        let reports = kit.try_both(known_hosts, options);
        reports
            .into_iter()
            .map(|r| r.unwrap().host_key.unwrap())
            .collect()
    };
    // the first session writes down what the second finds
    let first = verdicts(&empty, &accept_new);
    assert!(matches!(first[0], Verdict::FirstUse { .. }), "{first:?}");
    assert!(matches!(first[1], Verdict::Known { .. }), "{first:?}");
    assert_eq!(kit.folder.read("recorded").lines().count(), 1);
    // another key than the known one is refused, unless the site has turned the check off
    let changed = kit.lines(&[("127.0.3.2", "other")]);
    std::fs::remove_file(&record).unwrap();
    for report in kit.try_both(&changed, &accept_new) {
        assert!(matches!(report, Err(Error::HostKey { .. })), "{report:?}");
    }
    assert!(!record.exists());
    for verdict in verdicts(&changed, &with(Trust::Any { record })) {
        assert!(matches!(verdict, Verdict::Disregarded { .. }), "{verdict:?}");
    }
}

#[test]
fn a_sites_algorithms_are_the_ones_used() {
    let kit = Kit::certified("ed25519", "127.0.3.2", &["-V", "+1h"]);
    let known = kit.lines(&[("127.0.3.2", "host")]);
    let kex = |list: &str| Options {
        algorithms: Algorithms {
            kex: Some(list.to_owned()),
            ciphers: Some("aes256-ctr".to_owned()),
            macs: Some("hmac-sha2-512".to_owned()),
            ..Algorithms::default()
        },
        ..Options::default()
    };
    for report in kit.try_both(&known, &kex("ecdh-sha2-nistp256")) {
        report.unwrap();
    }
    // sshd has no such exchange any more, and neither library knows the other
    for list in ["diffie-hellman-group1-sha1", "unheard-of"] {
        for report in kit.try_both(&known, &kex(list)) {
            assert!(
                matches!(report, Err(Error::Negotiation { .. })),
                "{list}: {report:?}"
            );
        }
    }
}

#[test]
fn through_other_hosts_natively() {
    let kit = Kit::certified("ed25519", "127.0.3.2", &["-V", "+1h"]);
    let (first, second) = (Sshd::start(&kit.folder, 3, ""), Sshd::start(&kit.folder, 4, ""));
    let known = kit.lines(&[("127.0.3.*", "host")]);
    let jump = |host: &str| Jump {
        host: host.to_owned(),
        port: 22,
        user: None,
    };
    let over = |jump: Vec<Jump>| Options {
        jump,
        ..Options::default()
    };
    for report in kit.try_both(&known, &over(vec![jump(&first.host), jump(&second.host)])) {
        report.unwrap();
    }
    for log in ["log.3", "log.4"] {
        let log = kit.folder.read(log);
        assert_eq!(log.matches("Accepted publickey").count(), 2, "{log}");
    }
    // a host on the way is judged like any other
    let only_the_node = kit.lines(&[("127.0.3.2", "host")]);
    for report in kit.try_both(&only_the_node, &over(vec![jump(&first.host)])) {
        match report {
            Err(Error::HostKey { node, .. }) => assert_eq!(node, first.host),
            other => panic!("{other:?}"),
        }
    }
    // and one from which it does not go on is told from a node that is down
    let known = kit.lines(&[("127.0.3.*", "host")]);
    for report in kit.try_both(&known, &over(vec![jump(&first.host), jump("127.0.3.99")])) {
        assert!(matches!(report, Err(Error::Unreachable { .. })), "{report:?}");
    }
}
