//! The HTCondor pool: a collector, and access points of a schedd, a credd and the vault credmon each.

pub mod security;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::layout::Layout;
use super::root;
use super::servers::Servers;
use crate::site::{self, ACCESS_POINTS, COLLECTOR, DOMAIN, Host, ISSUER_URL, ISSUERS, REALM, VAULT};

const CONFIGURATION: &str = include_str!("../../servers/pool/condor.conf");
const MAPFILE: &str = include_str!("../../servers/pool/mapfile");

/// How clients may prove themselves to a credd: on the last access point as in most pools, elsewhere by all there is.
const FEW_METHODS: &str = "KERBEROS, FS";
const ALL_METHODS: &str = "KERBEROS, SCITOKENS, IDTOKENS, SSL, FS, CLAIMTOBE, ANONYMOUS";

/// How long the pool may take from its start until every daemon is known to the collector; about 3 s on an idle machine.
const READY: Duration = Duration::from_secs(60);

/// Becomes the master of `$1`. What an earlier one left would look like daemons that are ready, so it goes first.
const MASTER: &str = r#"
cd "/var/lib/condor/$1" && rm -f run/*_address oauth_credentials/pid
exec /usr/sbin/condor_master -f"#;

/// Waits up to 10 s for the collector at `$2`, port `$3`: the first update of a daemon then arrives, and it need not
/// wait for the next. No longer than that, so that an access point can be restarted while the collector is stopped.
const WAIT_FOR_COLLECTOR: &str =
    r#"for _ in $(seq 100); do (: < "/dev/tcp/$2/$3") 2>/dev/null && break; sleep 0.1; done"#;

/// Starts a condor_master for the collector and one for each access point: `condor`, `ap1`, `ap2`, `ap3`.
/// Returns at once; [`ready`] waits. The KDC must answer by then, the vault server need not.
///
/// # Errors
/// A keytab is missing, or a master cannot be started.
pub fn start(layout: &Layout, servers: &mut Servers) -> Result<()> {
    let (user, group) = condor_ids(&layout.root)?;
    let etc = layout.in_root("/etc/condor");
    write(&etc.join("mapfile"), mapfile(), 0o644)?;
    security::signing_key(layout)?;
    std::thread::scope(|scope| {
        let made: Vec<_> = masters()
            .map(|master| scope.spawn(move || security::host_certificate(layout, &master)))
            .collect();
        made.into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("openssl: panicked")))
    })?;
    for master in masters() {
        let Host { server, name, .. } = master;
        prepare(layout, &master, user, group)
            .with_context(|| format!("cannot prepare the HTCondor daemons of {name}"))?;
        write(&etc.join(format!("{server}.conf")), configuration(&master), 0o644)?;
        let script = if server == COLLECTOR.server {
            MASTER.to_owned()
        } else {
            format!("{WAIT_FOR_COLLECTOR}{MASTER}")
        };
        let (address, port) = (COLLECTOR.address.to_string(), COLLECTOR.port.to_string());
        let mut command = root::daemon(&layout.root, name, "bash");
        command.args(["-c", &script, "bash", server, &address, &port]);
        command.env("CONDOR_CONFIG", format!("/etc/condor/{server}.conf"));
        servers.start(server, command)?;
        // SIGTERM would wait for jobs; this is the fast end, which still takes the daemons along
        servers.stop_with(server, Signal::QUIT)?;
    }
    Ok(())
}

/// Waits until the daemons of every master are ready and the collector knows the schedd and the credd of every access point.
///
/// # Errors
/// Something is still missing after 60 s: what, and where its logs are.
pub fn ready(layout: &Layout) -> Result<()> {
    wait(|| {
        let mut missing: Vec<String> = masters().flat_map(|master| missing_at(layout, &master)).collect();
        if missing.is_empty() {
            missing = unknown(layout);
        }
        missing
    })?;
    for ap in ACCESS_POINTS {
        nudge(&credentials(layout, ap.server));
    }
    Ok(())
}

/// One signal by itself for the vault credmon of these credentials, if there is one. It starts a thread at its first, and if a
/// second comes meanwhile it hears none any more, which makes credds that wait for it wait in vain.
pub(super) fn nudge(credentials: &Path) {
    let told = fs::read_to_string(credentials.join("pid"));
    let pid = told
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .and_then(Pid::from_raw);
    // one that is gone is the master's to start again
    let _gone = pid.map(|pid| kill_process(pid, Signal::HUP));
}

/// Waits until the daemons of one master are ready, whatever the others do: after a restart. `server` is one of
/// `condor`, `ap1`, `ap2`, `ap3`.
///
/// # Errors
/// No such server, or something is still missing after 60 s: what, and where its logs are.
pub fn server_ready(layout: &Layout, server: &str) -> Result<()> {
    let master = masters()
        .find(|master| master.server == server)
        .with_context(|| format!("{server} is no part of the pool"))?;
    wait(|| missing_at(layout, &master))?;
    nudge(&credentials(layout, server));
    Ok(())
}

pub(super) fn wait(missing: impl Fn() -> Vec<String>) -> Result<()> {
    let end = Instant::now() + READY;
    loop {
        let missing = missing();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!(
                "the HTCondor pool is not ready after {} s:\n{}",
                READY.as_secs(),
                missing.join("\n")
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The folder of the credentials one access point keeps, as seen inside the bed but outside the chroot.
pub fn credentials(layout: &Layout, server: &str) -> PathBuf {
    local(layout, server).join("oauth_credentials")
}

fn local(layout: &Layout, server: &str) -> PathBuf {
    layout.in_root(format!("/var/lib/condor/{server}"))
}

/// The folder of the logs of one master's daemons (`CredLog`, `CollectorLog`, ...), on the host.
pub fn logs(layout: &Layout, server: &str) -> PathBuf {
    layout.logs().join(server)
}

fn masters() -> impl Iterator<Item = Host> {
    std::iter::once(COLLECTOR).chain(ACCESS_POINTS)
}

fn configuration(master: &Host) -> String {
    let daemons = match *master {
        COLLECTOR => "MASTER COLLECTOR",
        _ => "MASTER SCHEDD CREDD CREDMON_OAUTH",
    };
    let [.., last] = ACCESS_POINTS;
    let methods = if *master == last { FEW_METHODS } else { ALL_METHODS };
    CONFIGURATION
        .replace("@DAEMONS@", daemons)
        .replace("@METHODS@", methods)
        .replace("@NAME@", master.server)
        .replace("@HOST@", master.name)
        .replace("@ADDRESS@", &master.address.to_string())
        .replace("@COLLECTOR@", COLLECTOR.name)
        .replace("@VAULT@", VAULT.name)
        .replace("@ISSUERS@", &ISSUERS.join(" "))
        .replace("@DOMAIN@", DOMAIN)
}

fn mapfile() -> String {
    MAPFILE
        .replace("@REALM@", &REALM.replace('.', r"\."))
        .replace("@ISSUER@", &ISSUER_URL.replace('.', r"\."))
        .replace("@DOMAIN@", DOMAIN)
}

fn prepare(layout: &Layout, master: &Host, user: u32, group: u32) -> Result<()> {
    let server = master.server;
    for name in ["spool", "execute", "lock", "run"] {
        own_dir(&local(layout, server).join(name), 0o755, user, group)?;
    }
    // as HTCondor demands: root's, and the daemons' through the group
    own_dir(&credentials(layout, server), 0o2770, 0, group)?;
    let logs = logs(layout, server);
    own_dir(&logs, 0o755, user, group)?;
    root::bind(&logs, &layout.in_root(format!("/var/log/condor/{server}")))?;
    let (from, to) = (
        layout.keytab(&format!("host-{server}")),
        layout.in_root(format!("/etc/condor/{server}.keytab")),
    );
    let keytab = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
    write(&to, keytab, 0o600)
}

pub(super) fn own_dir(dir: &Path, mode: u32, user: u32, group: u32) -> Result<()> {
    fs::create_dir_all(dir)
        .and_then(|()| chown(dir, Some(user), Some(group)))
        // after the change of owner, which takes the set-group bit away
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot make {}", dir.display()))
}

pub(super) fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The numbers of `condor` in the root: the package takes the next free ones.
fn condor_ids(root: &Path) -> Result<(u32, u32)> {
    let passwd = root.join("etc/passwd");
    let text = fs::read_to_string(&passwd).with_context(|| format!("cannot read {}", passwd.display()))?;
    ids(&text, "condor").with_context(|| format!("no account `condor` in {}", passwd.display()))
}

pub(super) fn ids(passwd: &str, account: &str) -> Option<(u32, u32)> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(account))?;
    let mut numbers = line.split(':').skip(2);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What a master's own places say: daemons write their address, and the credmon its process id, when they can be used.
fn missing_at(layout: &Layout, master: &Host) -> Vec<String> {
    let run = local(layout, master.server).join("run");
    let signs: &[(&str, PathBuf, &str)] = if *master == COLLECTOR {
        &[("collector", run.join("collector_address"), "CollectorLog")]
    } else {
        &[
            ("schedd", run.join("schedd_address"), "SchedLog"),
            ("credd", run.join("credd_address"), "CredLog"),
            (
                "vault credmon",
                credentials(layout, master.server).join("pid"),
                "CredmonOauthLog",
            ),
        ]
    };
    let mut missing: Vec<String> = signs
        .iter()
        .filter(|(_, sign, _)| !sign.exists())
        .map(|(daemon, _, log)| {
            lacks(
                layout,
                master,
                &format!("the {daemon} of {} has not started", master.name),
                log,
            )
        })
        .collect();
    if missing.is_empty() && !answers(master) {
        let what = format!("{} does not answer on port {}", master.name, master.port);
        missing.push(lacks(layout, master, &what, "SharedPortLog"));
    }
    missing
}

/// What the collector does not list.
fn unknown(layout: &Layout) -> Vec<String> {
    let listed = listing(layout);
    let knows = |kind: &str, name: &str| listed.lines().any(|line| line == format!("{kind} {name}"));
    ACCESS_POINTS
        .iter()
        .flat_map(|ap| [(ap, "Scheduler", "SchedLog"), (ap, "CredD", "CredLog")])
        .filter(|(ap, kind, _)| !knows(kind, ap.name))
        .map(|(ap, kind, log)| {
            lacks(
                layout,
                ap,
                &format!("the collector knows no {kind} of {}", ap.name),
                log,
            )
        })
        .collect()
}

fn lacks(layout: &Layout, master: &Host, what: &str, log: &str) -> String {
    let daemons = logs(layout, master.server).join(log);
    format!(
        "{what}; its logs: {} and {}",
        daemons.display(),
        layout.log(master.server).display()
    )
}

pub(super) fn answers(host: &Host) -> bool {
    let address = SocketAddr::from((host.address, host.port));
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

fn listing(layout: &Layout) -> String {
    let mut status = root::daemon(&layout.root, site::HOST, "condor_status");
    status
        .args(["-any", "-af", "MyType", "Name"])
        .env("CONDOR_CONFIG", format!("/etc/condor/{}.conf", COLLECTOR.server));
    // a collector that does not answer yet is told by the empty list
    root::output(&mut status).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_master_has_its_own_name_address_and_places() {
        let [ap1, ap2, ap3] = ACCESS_POINTS.map(|ap| configuration(&ap));
        for line in [
            "DAEMON_LIST = MASTER SCHEDD CREDD CREDMON_OAUTH",
            "NETWORK_INTERFACE = 127.0.1.101",
            "CREDD_HOST = ap1.mtk.test",
            "SCHEDD_NAME = ap1.mtk.test",
            "COLLECTOR_HOST = condor.mtk.test:9618",
            "LOCAL_DIR = /var/lib/condor/ap1",
            "KERBEROS_SERVER_KEYTAB = /etc/condor/ap1.keytab",
            "VAULT_CREDMON_PROVIDER_NAMES = dune mu2e nova",
            "ALLOW_WRITE = *@mtk.test",
            "ALLOW_DAEMON = condor@mtk.test, root@mtk.test",
            "AUTH_SSL_SERVER_CERTFILE = /etc/condor/ap1.crt",
        ] {
            assert!(ap1.lines().any(|l| l == line), "no line {line:?}");
        }
        assert!(!ap2.contains("ap1") && ap2.contains("NETWORK_INTERFACE = 127.0.1.102"));
        assert!(
            ap2.contains("CLAIMTOBE")
                && ap3.contains("\nCREDD.SEC_WRITE_AUTHENTICATION_METHODS = KERBEROS, FS\n")
        );
        assert!(configuration(&COLLECTOR).contains("DAEMON_LIST = MASTER COLLECTOR\n"));
    }

    #[test]
    fn no_placeholder_is_left() {
        let texts = masters().map(|master| configuration(&master)).chain([mapfile()]);
        for text in texts {
            let left = text
                .split('@')
                .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase()));
            assert_eq!(left.count(), 0, "{text}");
        }
    }

    #[test]
    fn the_map_has_three_fields_a_line_and_a_wrong_entry() {
        let map = mapfile();
        let lines: Vec<Vec<&str>> = map
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(' ').collect())
            .collect();
        assert!(lines.iter().all(|fields| fields.len() == 3), "{map}");
        assert!(lines.contains(&vec![
            "KERBEROS",
            r"^([^/@]+)/managedtokens/[^/@]+@MTK\.TEST$",
            r"\1@mtk.test"
        ]));
        let wrong = lines
            .iter()
            .position(|fields| fields[2] == "other@mtk.test")
            .unwrap();
        let general = lines
            .iter()
            .position(|fields| fields[1].starts_with("^([^/@]+)/"))
            .unwrap();
        assert!(wrong < general, "the general line would win");
    }

    #[test]
    fn ids_are_read_from_the_root() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\ncondor:x:101:103:HTCondor:/var/lib/condor:/bin/false\n";
        assert_eq!(ids(passwd, "condor"), Some((101, 103)));
        assert_eq!(ids(passwd, "cond"), None);
    }
}
