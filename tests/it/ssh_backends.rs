//! One suite for every way into a node: each transport with each login it has, against real sshd.
//!
//! The table in docs/ssh.md is the list of ways below; a test compares them.

use std::{
    collections::BTreeMap,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use distribute::{
    Difference, Error, FileError, Gate, Identity, Login, Method, Mode, Node, Placed, Transport, Verdict,
};
use testkit::{bed::nodes, site};

use crate::bed::bed;
use crate::sshd::{
    ACCOUNT, Folder, Running, Sshd, UID, file, inside, node, place, place_through, placed, tmp, wait_for,
};
use crate::waiting::block;

/// A transport with a login it has, and the row and column of the table in docs/ssh.md.
struct Way {
    transport: Transport,
    login: &'static str,
    make: fn(&Kit) -> Login,
}

const WAYS: [Way; 12] = [
    way(Transport::Libssh2, "public key", |kit| Login::PublicKey {
        key: kit.key("ed25519"),
    }),
    way(Transport::Libssh2, "public key", |kit| {
        libssh2(kit, Identity::Key(kit.key("ecdsa")))
    }),
    way(Transport::Libssh2, "public key", |kit| {
        libssh2(kit, Identity::Key(kit.key("rsa")))
    }),
    way(Transport::Libssh2, "certificate", |kit| {
        libssh2(kit, kit.certified())
    }),
    way(Transport::Libssh2, "agent", |kit| libssh2(kit, kit.agent())),
    way(Transport::Russh, "public key", |kit| {
        russh(kit, Identity::Key(kit.key("ed25519")))
    }),
    way(Transport::Russh, "public key", |kit| {
        russh(kit, Identity::Key(kit.key("rsa")))
    }),
    way(Transport::Russh, "certificate", |kit| russh(kit, kit.certified())),
    way(Transport::Russh, "agent", |kit| russh(kit, kit.agent())),
    way(Transport::OpenSsh, "public key", |kit| {
        openssh(kit, Identity::Key(kit.key("ed25519")))
    }),
    way(Transport::OpenSsh, "certificate", |kit| {
        openssh(kit, kit.certified())
    }),
    way(Transport::OpenSsh, "agent", |kit| openssh(kit, kit.agent())),
];

const fn way(transport: Transport, login: &'static str, make: fn(&Kit) -> Login) -> Way {
    Way {
        transport,
        login,
        make,
    }
}

fn libssh2(_: &Kit, identity: Identity) -> Login {
    Login::Libssh2 {
        identities: vec![identity],
    }
}

fn russh(_: &Kit, identity: Identity) -> Login {
    Login::Russh {
        identities: vec![identity],
    }
}

fn openssh(kit: &Kit, identity: Identity) -> Login {
    Login::OpenSsh {
        program: kit.program.clone(),
        identities: vec![identity],
    }
}

/// An sshd that takes three kinds of key and certificates of one authority, and an agent with a key it takes.
pub struct Kit {
    pub folder: Folder,
    sshd: Sshd,
    program: PathBuf,
    known_hosts: PathBuf,
    _agent: Running,
}

impl Kit {
    fn new() -> Self {
        Self::with("")
    }

    /// With these lines in the sshd's configuration.
    pub fn with(lines: &str) -> Self {
        let folder = Folder::new("backends");
        let mut authorized = String::new();
        for kind in ["ed25519", "ecdsa", "rsa"] {
            folder.key(kind, kind);
            authorized += &(folder.read(&format!("{kind}.pub")) + "\n");
        }
        folder.key("agents", "ed25519");
        authorized += &(folder.read("agents.pub") + "\n");
        folder.write("authorized", &authorized);
        folder.key("ca", "ed25519");
        folder.key("certified", "ed25519");
        folder.certify("ca", "certified", ACCOUNT, &["-V", "+1h"]);
        folder.key("stranger", "ed25519");
        let sshd = Sshd::start(
            &folder,
            1,
            &format!("TrustedUserCAKeys {}\n{lines}", folder.join("ca.pub").display()),
        );
        let known_hosts = sshd.known_hosts(&folder);
        let socket = folder.join("agent");
        let agent = Running::start(inside("ssh-agent").args(["-D", "-a"]).arg(&socket));
        wait_for(&socket);
        // the first one is refused: the second must be tried
        for key in ["stranger", "agents"] {
            let mut add = inside("ssh-add");
            add.args(["-q".as_ref(), folder.join(key).as_os_str()])
                .env("SSH_AUTH_SOCK", &socket);
            assert!(add.status().unwrap().success());
        }
        let program = folder.write(
            "ssh.sh",
            &format!(
                "#!/bin/sh\nexec chroot {} ssh \"$@\"\n",
                crate::sshd::root().display()
            ),
        );
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            folder,
            sshd,
            program,
            known_hosts,
            _agent: agent,
        }
    }

    fn key(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn certified(&self) -> Identity {
        Identity::Certificate {
            key: self.key("certified"),
            certificate: self.key("certified-cert.pub"),
        }
    }

    fn agent(&self) -> Identity {
        Identity::Agent {
            socket: self.key("agent"),
        }
    }

    fn node(&self, login: Login) -> Node {
        node(&self.sshd.host, &self.known_hosts, login)
    }

    /// The node over each transport.
    pub fn every_transport(&self) -> [Node; 3] {
        let key = || Identity::Key(self.key("ed25519"));
        [libssh2(self, key()), russh(self, key()), openssh(self, key())].map(|login| self.node(login))
    }
}

/// Everything that must hold over every transport with every login. `tmp` is the node's, from outside.
fn suite(what: &str, node: &Node, tmp: &Path, transport: Transport, method: Method) {
    let clean = |name: &str| {
        let path = tmp.join(name);
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
    };
    let names = ["suite-a", "suite-b", "suite-link", "suite-dir", "suite-victim"];
    names.iter().for_each(|name| clean(name));
    let dead = tmp.join(format!(".mtk-{}", "ab".repeat(16)));
    let young = tmp.join(format!(".mtk-{}", "cd".repeat(16)));
    let foreign = tmp.join(format!(".mtk-{}", "ef".repeat(16)));
    for (path, uid, age) in [(&dead, UID, 7200), (&young, UID, 60), (&foreign, UID + 1, 7200)] {
        std::fs::write(path, "left behind").unwrap();
        std::os::unix::fs::chown(path, Some(uid), None).unwrap();
        let then = SystemTime::now() - Duration::from_secs(age);
        std::fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(then)
            .unwrap();
    }

    // looking only
    let wanted = [file("suite-a", "one\n"), file("suite-b", &"x".repeat(100_000))];
    let report = place(node, &wanted, Mode::Verify).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(placed(&report), [Some(Placed::WouldWrite); 2], "{what}");
    assert!(
        !tmp.join("suite-a").exists() && dead.exists(),
        "{what}: looking changed something"
    );
    assert_eq!((report.transport, report.method), (transport, method), "{what}");
    assert!(
        report.server.starts_with("SSH-2.0-OpenSSH"),
        "{what}: {}",
        report.server
    );

    // written, with mode and owner; what a dead run left is gone
    let report = place(node, &wanted, Mode::Write).unwrap();
    assert_eq!(
        placed(&report),
        [Some(Placed::Written); 2],
        "{what}: {:?}",
        report.files
    );
    let meta = std::fs::metadata(tmp.join("suite-a")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o400, UID), "{what}");
    assert_eq!(
        std::fs::read(tmp.join("suite-b")).unwrap(),
        "x".repeat(100_000).as_bytes()
    );
    assert!(
        !dead.exists() && young.exists() && foreign.exists(),
        "{what}: sweeping"
    );

    // unchanged is left alone; another content and another mode are put right
    let report = place(node, &wanted, Mode::Write).unwrap();
    assert_eq!(placed(&report), [Some(Placed::Unchanged); 2], "{what}");
    assert_eq!(
        std::fs::metadata(tmp.join("suite-a")).unwrap().ino(),
        meta.ino(),
        "{what}"
    );
    std::fs::set_permissions(tmp.join("suite-b"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = place(node, &[file("suite-a", "two\n"), wanted[1].clone()], Mode::Write).unwrap();
    let why: Vec<_> = report
        .files
        .iter()
        .map(|f| f.as_ref().unwrap().difference)
        .collect();
    assert_eq!(why, [Some(Difference::Content), Some(Difference::Mode)], "{what}");
    assert_eq!(std::fs::read(tmp.join("suite-a")).unwrap(), b"two\n");

    // a link is replaced, not followed; a directory stays; no directory is said; the others are placed
    std::fs::write(tmp.join("suite-victim"), "precious").unwrap();
    symlink("suite-victim", tmp.join("suite-link")).unwrap();
    std::os::unix::fs::lchown(tmp.join("suite-link"), Some(UID), None).unwrap();
    std::fs::create_dir(tmp.join("suite-dir")).unwrap();
    let mixed = [
        file("suite-link", "linked\n"),
        file("suite-dir", "x"),
        file("no-such-directory/x", "x"),
        file("suite-a", "three\n"),
    ];
    let report = place(node, &mixed, Mode::Write).unwrap();
    assert_eq!(
        placed(&report),
        [Some(Placed::Written), None, None, Some(Placed::Written)],
        "{what}: {:?}",
        report.files
    );
    assert!(
        matches!(report.files[1], Err(FileError::TargetIsDirectory { .. })),
        "{what}"
    );
    assert!(
        matches!(report.files[2], Err(FileError::NoSuchDirectory { .. })),
        "{what}"
    );
    assert!(!tmp.join("suite-link").is_symlink());
    assert_eq!(std::fs::read(tmp.join("suite-victim")).unwrap(), b"precious");

    // nothing of ours is left over
    std::fs::remove_file(&young).unwrap();
    std::fs::remove_file(&foreign).unwrap();
    let left = std::fs::read_dir(tmp)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".mtk-"))
        .count();
    assert_eq!(left, 0, "{what}: temporary files are left");
    names.iter().for_each(|name| clean(name));
}

/// A host key that nobody wrote down, and one that is another: no session, whatever the login.
fn distrust(what: &str, node: &Node, folder: &Folder) {
    let empty = folder.write("empty_known_hosts", "");
    let unknown = Node {
        known_hosts: vec![empty],
        ..node.clone()
    };
    match place(&unknown, &[], Mode::Verify) {
        Err(Error::HostKey { verdict, .. }) if matches!(*verdict, Verdict::Unknown { .. }) => {}
        other => panic!("{what}: {other:?}"),
    }
    let line = format!("{} {}\n", node.host, folder.read("stranger.pub"));
    let changed = Node {
        known_hosts: vec![folder.write("changed_known_hosts", &line)],
        ..node.clone()
    };
    match place(&changed, &[], Mode::Verify) {
        Err(Error::HostKey { verdict, .. })
            if matches!(*verdict, Verdict::Changed { .. } | Verdict::Refused { .. }) => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn every_transport_with_every_login_it_has() {
    let kit = Kit::new();
    for way in &WAYS {
        let what = format!("{} with {}", way.transport, way.login);
        let node = kit.node((way.make)(&kit));
        suite(&what, &node, &tmp(), way.transport, Method::PublicKey);
        distrust(&what, &node, &kit.folder);
    }
}

fn ticket() -> (kerberos::Ticket, kerberos::Gss) {
    let principal = format!("{ACCOUNT}/managedtokens/{}@{}", site::HOST, site::REALM);
    let keytab =
        kerberos::Keytab::open(&bed().layout().keytab(ACCOUNT), &principal.parse().unwrap()).unwrap();
    let gss = kerberos::Gss::new(2);
    let ticket = block(gss.acquire(&keytab)).unwrap();
    (ticket, gss)
}

#[test]
fn kerberos_over_russh() {
    let (ticket, gss) = ticket();
    for host in [site::GSS_NODE, site::BOTH_NODE] {
        let login = Login::Gssapi {
            ticket: ticket.clone(),
            gss: gss.clone(),
        };
        let node = node(host.name, &bed().layout().known_hosts(), login);
        let tmp = nodes::tmp_of(bed().layout(), host.server);
        suite("russh with GSSAPI", &node, &tmp, Transport::Russh, Method::Gssapi);
    }
}

#[test]
fn what_nobody_let_in_is_refused_by_every_transport() {
    let kit = Kit::new();
    let stranger = || Identity::Key(kit.key("stranger"));
    let logins = [
        libssh2(&kit, stranger()),
        russh(&kit, stranger()),
        openssh(&kit, stranger()),
    ];
    for login in logins {
        let node = kit.node(login);
        match place(&node, &[], Mode::Verify) {
            Err(Error::AuthRefused { accepted, .. }) => {
                assert_eq!(accepted, ["publickey"], "{:?}", node.login)
            }
            other => panic!("{:?}: {other:?}", node.login),
        }
    }
}

/// One service has keys there, and another at the same node has only its ticket.
#[test]
fn what_a_node_took_with_keys_is_nothing_to_a_login_without() {
    let kit = Kit::new();
    let gate = Gate::default();
    gate.recall(&kit.sshd.host, 22, Method::PublicKey);
    let login = Login::Auto {
        kerberos: Some(ticket()),
        keys: Vec::new(),
    };
    match place_through(&gate, &kit.node(login), &[], Mode::Verify) {
        Err(Error::AuthRefused {
            accepted, offered, ..
        }) => {
            assert_eq!(
                (accepted, offered),
                (vec!["publickey".to_owned()], vec![Method::Gssapi])
            )
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_beside_its_key_is_used_without_being_asked_for() {
    let kit = Kit::new();
    // the bare key is let in nowhere
    for login in [
        Login::PublicKey {
            key: kit.key("certified"),
        },
        Login::Auto {
            kerberos: None,
            keys: vec![kit.key("certified")],
        },
        russh(&kit, Identity::Key(kit.key("certified"))),
    ] {
        place(&kit.node(login), &[], Mode::Verify).unwrap();
    }
    // and what cannot be used is said before the node is asked
    kit.folder.key("late", "ed25519");
    kit.folder.certify("ca", "late", ACCOUNT, &["-V", "-2h:-1h"]);
    let late = Identity::Certificate {
        key: kit.key("late"),
        certificate: kit.key("late-cert.pub"),
    };
    let error = place(&kit.node(russh(&kit, late)), &[], Mode::Verify).unwrap_err();
    assert!(error.to_string().contains("ended"), "{error}");
}

#[test]
fn an_agent_and_a_certificate_named_in_the_options_come_before_the_keys() {
    let kit = Kit::new();
    std::fs::rename(kit.key("certified-cert.pub"), kit.key("elsewhere.pub")).unwrap();
    let elsewhere = Identity::Certificate {
        key: kit.key("certified"),
        certificate: kit.key("elsewhere.pub"),
    };
    for identity in [kit.agent(), elsewhere] {
        // the login's own key is let in nowhere
        for login in [
            Login::Auto {
                kerberos: None,
                keys: Vec::new(),
            },
            Login::PublicKey {
                key: kit.key("stranger"),
            },
            russh(&kit, Identity::Key(kit.key("stranger"))),
            openssh(&kit, Identity::Key(kit.key("stranger"))),
        ] {
            let mut node = kit.node(login);
            node.options.identities = vec![identity.clone()];
            place(&node, &[], Mode::Verify).unwrap_or_else(|e| panic!("{identity:?} {:?}: {e}", node.login));
        }
    }
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    let kit = Kit::new();
    let gone = || Identity::Agent {
        socket: kit.key("no-agent"),
    };
    for login in [libssh2(&kit, gone()), russh(&kit, gone())] {
        let error = place(&kit.node(login), &[], Mode::Verify).unwrap_err();
        assert!(matches!(error, Error::Agent { .. }), "{error}");
    }
}

#[test]
fn the_table_in_the_documentation_is_this_list() {
    let mut table: BTreeMap<&str, [bool; 3]> = BTreeMap::new();
    let column = |transport| match transport {
        Transport::Libssh2 => 0,
        Transport::Russh => 1,
        _ => 2,
    };
    for way in &WAYS {
        table.entry(way.login).or_default()[column(way.transport)] = true;
    }
    table.entry("Kerberos (`gssapi-with-mic`)").or_default()[column(Transport::Russh)] = true;
    let documentation =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ssh.md")).unwrap();
    for (login, has) in table {
        let words = has.map(|yes| if yes { "yes" } else { "no" });
        let row = format!("| {login} | {} | {} |", words[0], words[1]);
        let found = documentation.lines().find(|line| line.starts_with(&row));
        let row_end = found
            .unwrap_or_else(|| panic!("docs/ssh.md has no row {row:?}"))
            .split('|')
            .nth(4);
        assert_eq!(row_end.unwrap().trim().starts_with("yes"), has[2], "{login}");
    }
}
