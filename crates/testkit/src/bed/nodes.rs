//! The interactive nodes: an sshd each, in a root of its own, with its own /tmp and home directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::layout::Layout;
use super::root::{self, GROUP, Tmpfs};
use super::servers::Servers;
use crate::site::{BOTH_NODE, GSS_NODE, Host, KEY_NODE, NODES};

const CONFIGURATION: &str = include_str!("../../servers/nodes/sshd_config");

/// Room in a node's /tmp, in KiB: all accounts' files fit, and a test can fill the rest in no time.
pub const TMP_KIBIBYTES: u32 = 16 * 1024;

/// The types of host key a node has, as Debian makes them.
const HOST_KEYS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

const READY: Duration = Duration::from_secs(20);

/// How a node differs from its sisters.
struct Kind {
    host: Host,
    gssapi: bool,
    pubkey: bool,
    limits: &'static str,
}

/// Every test comes from one address. A test that is refused on purpose would shut out those after it.
const NO_PENALTIES: &str =
    "# one address stands for many clients here\nPerSourcePenalties no\nMaxStartups 100";

/// As a stern node: few sessions may be unauthenticated at once, and OpenSSH's own penalties for failed logins stay.
const STERN: &str = "MaxStartups 4:50:8";

const KINDS: [Kind; 3] = [
    Kind {
        host: GSS_NODE,
        gssapi: true,
        pubkey: false,
        limits: NO_PENALTIES,
    },
    Kind {
        host: KEY_NODE,
        gssapi: false,
        pubkey: true,
        limits: NO_PENALTIES,
    },
    Kind {
        host: BOTH_NODE,
        gssapi: true,
        pubkey: true,
        limits: STERN,
    },
];

/// Makes the nodes' roots, keys and homes, writes `known_hosts` and starts an sshd for each: `gss`, `key`, `both`.
///
/// # Errors
/// A mount, a key or a keytab that cannot be had; an sshd that cannot be started.
pub fn start(layout: &Layout, servers: &mut Servers) -> Result<()> {
    let client = client_key(layout)?;
    let mut known = String::new();
    for kind in &KINDS {
        let host = &kind.host;
        known += &prepare(layout, kind, &client)
            .with_context(|| format!("cannot prepare the node {}", host.name))?;
        let mut sshd = root::daemon(&root_of(layout, host.server), host.name, "/usr/sbin/sshd");
        sshd.args(["-D", "-e"]);
        servers.start(host.server, sshd)?;
    }
    write(&layout.known_hosts(), known, 0o644)
}

/// Waits until every sshd listens.
///
/// # Errors
/// One does not within 20 s: which, and where its log is.
pub fn ready(layout: &Layout) -> Result<()> {
    NODES
        .iter()
        .try_for_each(|host| server_ready(layout, host.server))
}

/// Waits until one sshd listens: after a restart. `server` is one of `gss`, `key`, `both`.
///
/// # Errors
/// No such server, or it does not listen within 20 s: where its log is.
pub fn server_ready(layout: &Layout, server: &str) -> Result<()> {
    let host = NODES
        .iter()
        .find(|host| host.server == server)
        .with_context(|| format!("{server} is no node"))?;
    let end = Instant::now() + READY;
    while !listens(&sockets()?, host) {
        if Instant::now() > end {
            let log = layout.log(server);
            bail!(
                "the sshd of {} does not listen; its log: {}",
                host.name,
                log.display()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A node's root, as seen inside the bed.
pub fn root_of(layout: &Layout, server: &str) -> PathBuf {
    layout.run.join("nodes").join(server).join("root")
}

/// A node's /tmp, as seen inside the bed.
pub fn tmp_of(layout: &Layout, server: &str) -> PathBuf {
    layout.run.join("nodes").join(server).join("tmp")
}

/// The private key that the nodes `key` and `both` accept for every account.
pub fn client_key_path(layout: &Layout) -> PathBuf {
    layout.dir.join("ssh").join("robot_ed25519")
}

/// Prepares one node and returns its lines of `known_hosts`.
fn prepare(layout: &Layout, kind: &Kind, client: &str) -> Result<String> {
    let host = &kind.host;
    let here = layout.run.join("nodes").join(host.server);
    let root = root_of(layout, host.server);
    root::furnish(layout, &root, &here.join("layer"))?;
    let tmp = tmp_of(layout, host.server);
    root::tmpfs(
        &tmp,
        &Tmpfs {
            mode: 0o1777,
            kibibytes: TMP_KIBIBYTES,
        },
    )?;
    root::bind(&tmp, &root.join("tmp"))?;
    let run = root.join("run/sshd");
    fs::create_dir_all(&run).with_context(|| format!("cannot make {}", run.display()))?;
    write(&root.join("etc/ssh/sshd_config"), configuration(kind), 0o644)?;
    let public = host_keys(layout, host, &root)?;
    if kind.gssapi {
        let from = layout.keytab(&format!("host-{}", host.server));
        let keytab = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        write(&root.join("etc/krb5.keytab"), keytab, 0o600)?;
    }
    for account in root::accounts() {
        let home = root.join("home").join(&account.name);
        let own = |path: &Path| {
            chown(path, Some(account.uid), Some(GROUP))
                .with_context(|| format!("cannot give {} away", path.display()))
        };
        let k5login = home.join(".k5login");
        write(&k5login, format!("{}\n", account.principal()), 0o600)?;
        own(&k5login)?;
        let ssh = home.join(".ssh");
        fs::create_dir_all(&ssh)
            .and_then(|()| fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot make {}", ssh.display()))?;
        own(&ssh)?;
        let keys = ssh.join("authorized_keys");
        write(&keys, client, 0o600)?;
        own(&keys)?;
    }
    Ok(known_hosts(host, &public))
}

fn configuration(kind: &Kind) -> String {
    let word = |yes| if yes { "yes" } else { "no" };
    let methods = match (kind.gssapi, kind.pubkey) {
        (true, true) => "gssapi-with-mic and publickey",
        (true, false) => "only gssapi-with-mic",
        _ => "only publickey",
    };
    CONFIGURATION
        .replace("@HOST@", kind.host.name)
        .replace("@ADDRESS@", &kind.host.address.to_string())
        .replace("@METHODS@", methods)
        .replace("@GSSAPI@", word(kind.gssapi))
        .replace("@PUBKEY@", word(kind.pubkey))
        .replace("@LIMITS@", kind.limits)
}

/// One line a key, under the name and the address.
fn known_hosts(host: &Host, public: &[String]) -> String {
    public
        .iter()
        .filter_map(|key| {
            // the third field is a comment
            let mut fields = key.split_whitespace();
            Some(format!(
                "{},{} {} {}\n",
                host.name,
                host.address,
                fields.next()?,
                fields.next()?
            ))
        })
        .collect()
}

/// Puts the node's host keys into its root and returns their public halves. They are made once a bed, and stay with its
/// folder: clients of an earlier bed of that name keep knowing it.
fn host_keys(layout: &Layout, host: &Host, root: &Path) -> Result<Vec<String>> {
    let kept = layout.dir.join("ssh").join("host-keys").join(host.server);
    fs::create_dir_all(&kept)
        .and_then(|()| fs::set_permissions(&kept, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make {}", kept.display()))?;
    let mut public = Vec::new();
    for kind in HOST_KEYS {
        let name = format!("ssh_host_{kind}_key");
        let (private_key, public_key) = generate(layout, &kept.join(&name), kind, host.name)?;
        let place = root.join("etc/ssh").join(&name);
        write(&place, private_key, 0o600)?;
        write(&place.with_extension("pub"), &public_key, 0o644)?;
        public.push(public_key);
    }
    Ok(public)
}

fn client_key(layout: &Layout) -> Result<String> {
    Ok(generate(
        layout,
        &client_key_path(layout),
        "ed25519",
        "robots of the test bed",
    )?
    .1)
}

/// The key pair at `place`, made if it is not there: (private, public).
fn generate(layout: &Layout, place: &Path, kind: &str, comment: &str) -> Result<(Vec<u8>, String)> {
    let public_place = place.with_extension("pub");
    if !public_place.exists() {
        // by the root's ssh-keygen, so that the host need not have one
        let made = "/run/mtk-new-key";
        for path in [layout.in_root(made), layout.in_root(format!("{made}.pub"))] {
            if path.exists() {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        root::output(
            layout
                .chroot("ssh-keygen")
                .args(["-q", "-t", kind, "-N", "", "-C", comment, "-f", made]),
        )
        .context("cannot make a key pair")?;
        for (suffix, to, mode) in [("", place, 0o600), (".pub", public_place.as_path(), 0o644)] {
            let from = layout.in_root(format!("{made}{suffix}"));
            let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            write(to, bytes, mode)?;
        }
    }
    let read = || -> std::io::Result<_> { Ok((fs::read(place)?, fs::read_to_string(&public_place)?)) };
    read().with_context(|| format!("cannot read the key pair {}", place.display()))
}

fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    // a file that was there keeps its mode while it is written: take it away first
    if path.exists() {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn sockets() -> Result<String> {
    fs::read_to_string("/proc/self/net/tcp").context("cannot read the list of sockets")
}

/// Whether `host` listens, told by the kernel: a connection without a login would count against us at the stern node.
fn listens(sockets: &str, host: &Host) -> bool {
    // the kernel prints the address as it lies in memory
    let address = u32::from_ne_bytes(host.address.octets());
    let local = format!("{address:08X}:{:04X}", host.port);
    sockets.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        // 0A: LISTEN
        fields.next() == Some(&local) && fields.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(kind: &Kind) -> Vec<String> {
        configuration(kind).lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_node_takes_its_own_methods() {
        let [gss, key, both] = &KINDS;
        let has = |kind, line: &str| lines(kind).contains(&line.to_owned());
        assert!(has(gss, "GSSAPIAuthentication yes") && has(gss, "PubkeyAuthentication no"));
        assert!(has(key, "GSSAPIAuthentication no") && has(key, "PubkeyAuthentication yes"));
        assert!(has(both, "GSSAPIAuthentication yes") && has(both, "PubkeyAuthentication yes"));
        assert!(has(gss, "ListenAddress 127.0.2.1:22") && has(both, "ListenAddress 127.0.2.3:22"));
        assert!(
            KINDS
                .iter()
                .all(|kind| has(kind, "PasswordAuthentication no") && has(kind, "UsePAM no"))
        );
    }

    #[test]
    fn only_the_stern_node_keeps_penalties_and_few_startups() {
        let [gss, key, both] = KINDS.map(|kind| configuration(&kind));
        assert!(gss.contains("\nPerSourcePenalties no\n") && key.contains("\nPerSourcePenalties no\n"));
        assert!(!both.contains("PerSourcePenalties") && both.contains("\nMaxStartups 4:50:8\n"));
    }

    #[test]
    fn no_placeholder_is_left() {
        assert!(KINDS.iter().all(|kind| !configuration(kind).contains('@')));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_listener_is_told_from_a_connection() {
        let sockets = "  sl  local_address rem_address   st tx_queue\n   \
            0: 0102007F:0016 00000000:0000 0A 00000000:00000000\n   \
            1: 0302007F:0016 0100007F:D2F0 01 00000000:00000000\n";
        assert!(listens(sockets, &GSS_NODE));
        assert!(!listens(sockets, &BOTH_NODE) && !listens(sockets, &KEY_NODE));
    }

    #[test]
    fn known_hosts_names_the_address_too_and_drops_the_comment() {
        let public = [
            "ssh-ed25519 AAAA gss.mtk.test\n".to_owned(),
            "ssh-rsa BBBB x y\n".to_owned(),
        ];
        assert_eq!(
            known_hosts(&GSS_NODE, &public),
            "gss.mtk.test,127.0.2.1 ssh-ed25519 AAAA\ngss.mtk.test,127.0.2.1 ssh-rsa BBBB\n"
        );
    }
}
