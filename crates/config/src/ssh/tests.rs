use std::time::Duration;

use super::*;
use crate::Checking;

const TARGET: Target<'_> = Target {
    host: "gpvm01.test",
    user: "dunepro",
    home: None,
};

fn read(text: &str) -> SshOptions {
    parse(text).unwrap()
}

fn graves(options: &SshOptions) -> Vec<&str> {
    let grave = options.complaints.iter().filter(|c| c.grave);
    grave.map(|c| c.message.as_str()).collect()
}

/// What a configuration says of a node, after `-o` options.
fn with_file(text: &str, options: &str, target: Target<'_>) -> SshOptions {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    std::fs::write(home.path().join(".ssh/config"), text).unwrap();
    std::fs::write(home.path().join(".ssh/10-port.conf"), "Port 2210\n").unwrap();
    std::fs::write(
        home.path().join(".ssh/20-port.conf"),
        "Port 2220\nCiphers aes256-ctr\n",
    )
    .unwrap();
    let mut out = read(options);
    ConfigFiles::read(Some(home.path()), None).apply(&mut out, target);
    out
}

#[test]
fn what_means_something_is_taken() {
    let mut o = read(
        "-o Port=2222 -oConnectTimeout=7 -o UserKnownHostsFile='~/.ssh/a /etc/%h' -o globalknownhostsfile=none \
         -o IdentityFile=%d/.ssh/%r -o 'IdentityFile /k2' -o StrictHostKeyChecking=yes -o Port=1 -o User=other \
         -o KexAlgorithms=curve25519-sha256 -o MACs=-hmac-sha1 -o GSSAPIAuthentication=no -o ProxyJump=gate.test",
    );
    let target = Target {
        home: Some(Path::new("/home/mtk")),
        ..TARGET
    };
    assert_eq!(
        (o.port, o.connect_timeout),
        (Some(2222), Some(Duration::from_secs(7)))
    );
    let written = o.user_known_hosts.clone().unwrap();
    assert_eq!(
        o.paths("UserKnownHostsFile", &written, target),
        [PathBuf::from("/home/mtk/.ssh/a"), "/etc/gpvm01.test".into()]
    );
    assert_eq!(
        o.paths("x", &o.global_known_hosts.clone().unwrap(), target),
        Vec::<PathBuf>::new()
    );
    let written = o.identity_files.clone();
    assert_eq!(
        o.paths("IdentityFile", &written, target),
        [PathBuf::from("/home/mtk/.ssh/other"), "/k2".into()]
    );
    assert_eq!((o.user.as_deref(), o.gssapi), (Some("other"), Some(false)));
    assert_eq!(o.checking, Some(Checking::Strict));
    assert_eq!(o.proxy_jump.as_deref(), Some("gate.test"));
    assert_eq!(o.complaints, []);
}

#[test]
fn what_weakens_trust_is_honoured_and_said() {
    for (value, checking) in [
        ("no", Checking::Off),
        ("OFF", Checking::Off),
        ("accept-new", Checking::AcceptNew),
    ] {
        let o = read(&format!("-o StrictHostKeyChecking={value}"));
        assert_eq!(o.checking, Some(checking));
        assert!(graves(&o)[0].contains("weakens trust and is honoured"), "{o:?}");
    }
    let o = read("-o HostKeyAlgorithms=+ssh-rsa -o KexAlgorithms=-diffie-hellman-group14-sha1");
    assert_eq!(graves(&o).len(), 1);
    assert!(graves(&o)[0].contains("ssh-rsa"));
}

#[test]
fn the_rest_is_named() {
    let o = read(
        "-o ProxyCommand='nc %h %p' -p 22 -o BatchMode=yes -o Port=0 -o ConnectTimeout=x -o Unheard=1 \
         -o HostbasedAuthentication=yes -o HostbasedAuthentication=no -o StrictHostKeyChecking=perhaps",
    );
    let grave: Vec<bool> = o.complaints.iter().map(|c| c.grave).collect();
    // -p and 22 are two words of the wrong form
    assert_eq!(grave, [true, true, true, false, true, true, true, true, true]);
    assert!(parse("-o 'x").is_err());
    let mut o = read("-o IdentityFile=~/k");
    let written = o.identity_files.clone();
    assert!(o.paths("IdentityFile", &written, TARGET).is_empty());
    assert_eq!(graves(&o).len(), 1);
    let o = read("-o IgnoreUnknown=Un* -o Unheard=1");
    assert_eq!(o.complaints, []);
}

#[test]
fn agents_and_certificates_are_read() {
    let o = with_file(
        "Host *\n IdentityAgent /run/other\n CertificateFile /c2\n IdentitiesOnly no\n",
        "-o IdentityAgent=/run/agent -o CertificateFile=/c1",
        TARGET,
    );
    assert_eq!(o.identity_agent.as_deref(), Some("/run/agent"));
    assert_eq!(o.certificate_files, ["/c1", "/c2"]);
    assert_eq!((o.identities_only, o.complaints), (Some(false), vec![]));
}

#[test]
fn of_each_option_the_first_met_counts() {
    let o = with_file(
        "# comment\nHost other\n  Port 1\nHost gpvm* !gpvm02*\n  Port 2201\n  MACs=hmac-sha2-512\nHost *\n  Port 2202\n  IdentityFile /a\n",
        "-o MACs=hmac-sha2-256 -o IdentityFile=/b",
        TARGET,
    );
    assert_eq!(o.port, Some(2201));
    assert_eq!(o.macs.as_deref(), Some("hmac-sha2-256"));
    assert_eq!(o.identity_files, ["/b", "/a"]);
    assert_eq!(o.complaints, []);
}

#[test]
fn blocks_are_for_those_they_match() {
    let text = "Host gpvm01.test\n HostName gpvm01-data.test\nMatch host *-data.test user dune*\n Port 2301\n\
                Match originalhost *-data.test\n Ciphers aes128-ctr\nMatch !user dunepro\n Port 1\nMatch all\n KexAlgorithms x\n\
                Match exec \"true\"\n Port 2\n";
    let o = with_file(text, "", TARGET);
    assert_eq!(o.port, Some(2301));
    assert_eq!((o.ciphers.as_deref(), o.kex.as_deref()), (None, Some("x")));
    assert_eq!(o.address("gpvm01.test"), "gpvm01-data.test");
    assert!(graves(&o)[0].contains("config:11: Match exec"), "{o:?}");
    let other = Target {
        user: "mu2epro",
        ..TARGET
    };
    assert_eq!(with_file(text, "", other).port, Some(1));
}

#[test]
fn files_are_included_where_the_line_stands() {
    let o = with_file("Include *-port.conf absent.conf\nHost *\n Port 1\n", "", TARGET);
    assert_eq!((o.port, o.ciphers.as_deref()), (Some(2210), Some("aes256-ctr")));
    let o = with_file("Host other\n Include *-port.conf\nHost *\n Port 1\n", "", TARGET);
    assert_eq!(o.port, Some(1));
    // a file that includes itself comes to an end
    let o = with_file("Include config\nPort 5\n", "", TARGET);
    assert_eq!(o.port, Some(5));
    assert_eq!(graves(&o).len(), 1);
}

#[test]
fn unknown_options_of_a_file_are_named_with_their_place() {
    let o = with_file(
        "SendEnv LANG LC_*\nHashKnownHosts yes\nForwardX11 no\nProxyCommand none\nPKCS11Provider x\nPort \"22\nPort\n",
        "",
        TARGET,
    );
    let said = graves(&o);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].contains("config:5: PKCS11Provider is not supported"),
        "{said:?}"
    );
    assert!(said[1].contains("config:6: a quote"), "{said:?}");
}

#[test]
fn hostname_may_have_the_name_in_it() {
    let o = with_file("Host gpvm*\nHostName %h.data\nUser nobody\n", "", TARGET);
    assert_eq!(o.address("gpvm01"), "gpvm01.data");
    assert_eq!(o.user, None);
}

#[test]
fn any_text_is_read_without_panic() {
    for text in [
        "\0",
        "=",
        "= =",
        "\"",
        "Host",
        "Match",
        "Match host",
        "Include",
        "a\"b\"c",
        "Port=\u{fffd}",
        "% %",
        "HostName %",
    ] {
        let _ = with_file(text, "", TARGET).address("x");
    }
}

/// Each of these is said rather than waited for or cut.
#[test]
fn what_is_no_file_or_too_long_is_said() {
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join(".ssh");
    std::fs::create_dir(&ssh).unwrap();
    let (pipe, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, ssh.join("pipe"), pipe, mode, 0).unwrap();
    std::fs::write(ssh.join("long"), "# a comment\n".repeat(100_000)).unwrap();
    std::fs::write(ssh.join("config"), "Include pipe long /dev/null\nPort 2200\n").unwrap();
    let mut out = read("");
    ConfigFiles::read(Some(home.path()), None).apply(&mut out, TARGET);
    let graves = graves(&out);
    assert_eq!(graves.len(), 2, "{graves:?}");
    assert!(graves[0].contains("not a file"), "{graves:?}");
    assert!(graves[1].contains("longer than 1048576"), "{graves:?}");
    assert_eq!(out.port, Some(2200));
}
