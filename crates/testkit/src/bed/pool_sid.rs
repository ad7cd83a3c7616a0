//! A second pool, of HTCondor 25 from Debian sid: one master with a collector, a schedd, a credd and the vault credmon.
//!
//! A bed has it only when it is asked for ([`super::Bed::add_second_pool`]), so that nothing else waits for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::cache::Cache;
use super::layout::Layout;
use super::pool::{answers, ids, nudge, own_dir, wait, write};
use super::root::{self, Suite};
use super::servers::Servers;
use super::{hash, kdc};
use crate::site::{DOMAIN, ISSUERS, REALM, SECOND_POOL, VAULT};

/// The version this pool was written for. Sid moves on: another version is an error, to be read about and then named here.
pub const VERSION: &str = "25.14.1";

const SUITE: Suite = Suite {
    name: "sid",
    has_updates: false,
};

const PACKAGES: &[&str] = &[
    "ca-certificates",
    "condor",
    "openssl",
    "python3",
    "python3-requests-oauthlib",
    "python3-six",
    "python3-urllib3",
];

/// Counts changes of this file that change the root without changing a list above.
const RECIPE: &str = "1";

const CONFIGURATION: &str = include_str!("../../servers/pool/condor.conf");
const SECOND: &str = include_str!("../../servers/pool/second.conf");
const MAPFILE: &str = include_str!("../../servers/pool/mapfile");

/// Becomes the master. What an earlier one left would look like daemons that are ready, so it goes first.
const MASTER: &str = r#"
cd "/var/lib/condor/$1" && rm -f run/*_address oauth_credentials/pid
exec /usr/sbin/condor_master -f"#;

/// The cached root, made if it is not there yet: 35 s, and some 350 MB.
///
/// # Errors
/// Not root, a package that cannot be had, or another HTCondor in sid than [`VERSION`].
pub fn prepare(cache: &Cache) -> Result<PathBuf> {
    let accounts = root::passwd(&root::accounts());
    let packages = PACKAGES.join(",");
    let key = hash::key([
        ("recipe", RECIPE.as_bytes()),
        ("version", VERSION.as_bytes()),
        ("packages", packages.as_bytes()),
        ("accounts", accounts.as_bytes()),
    ]);
    let entry = cache.entry("debian-sid", &key, |dir| {
        if !rustix::process::geteuid().is_root() {
            bail!("making the Debian root of the second pool takes root: owners and modes in it must be the real ones");
        }
        let root = dir.join("root");
        root::debootstrap(dir, &root, &SUITE, &packages)?;
        let mut query = Command::new("chroot");
        query
            .arg(&root)
            .args(["dpkg-query", "-W", "-f", "${Version}", "condor"]);
        same_version(&root::output(&mut query)?)?;
        root::add_accounts(&root, &accounts)
    })?;
    Ok(entry.join("root"))
}

fn same_version(found: &str) -> Result<()> {
    let same = found
        .strip_prefix(VERSION)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'));
    if !same {
        bail!(
            "Debian sid has condor {found} now, and the second pool is written for {VERSION}: read what changed, \
             then name the new version in crates/testkit/src/bed/pool_sid.rs"
        );
    }
    Ok(())
}

/// Starts the pool, if it was not started before, and waits until it can be used.
///
/// # Errors
/// A mount, a keytab, or a daemon that is not ready after 60 s.
pub fn start(layout: &Layout, servers: &Servers, base: &Path) -> Result<()> {
    let server = SECOND_POOL.server;
    if servers.status().contains_key(server) {
        servers.restart(server)?;
        servers.resume(server)?;
        return ready(layout);
    }
    let root = root::mount_another(layout, base, "root-sid")?;
    let keytab = format!("host-{server}");
    kdc::add(layout, &[(keytab.clone(), format!("host/{}", SECOND_POOL.name))])?;
    let passwd = fs::read_to_string(root.join("etc/passwd")).context("the second pool has no /etc/passwd")?;
    let (user, group) = ids(&passwd, "condor").context("the second pool has no account `condor`")?;
    let local = local(layout);
    for name in ["spool", "execute", "lock", "run"] {
        own_dir(&local.join(name), 0o755, user, group)?;
    }
    own_dir(&credentials(layout), 0o2770, 0, group)?;
    let logs = layout.logs().join(server);
    own_dir(&logs, 0o755, user, group)?;
    root::bind(&logs, &root.join("var/log/condor").join(server))?;
    let etc = root.join("etc/condor");
    let key = fs::read(layout.keytab(&keytab)).context("no keytab for the second pool")?;
    write(&etc.join(format!("{server}.keytab")), key, 0o600)?;
    write(&etc.join("mapfile"), mapfile(), 0o644)?;
    write(&etc.join(format!("{server}.conf")), configuration(), 0o644)?;
    let mut command = root::daemon(&root, SECOND_POOL.name, "bash");
    command.args(["-c", MASTER, "bash", server]);
    command.env("CONDOR_CONFIG", format!("/etc/condor/{server}.conf"));
    let mut servers = servers.clone();
    servers.start(server, command)?;
    // SIGTERM would wait for jobs; this is the fast end, which still takes the daemons along
    servers.stop_with(server, Signal::QUIT)?;
    ready(layout)
}

/// Waits until every daemon of the pool can be used.
///
/// # Errors
/// Something is still missing after 60 s: what, and where its logs are.
pub fn ready(layout: &Layout) -> Result<()> {
    let run = local(layout).join("run");
    let signs = [
        ("collector", run.join("collector_address")),
        ("schedd", run.join("schedd_address")),
        ("credd", run.join("credd_address")),
        ("vault credmon", credentials(layout).join("pid")),
    ];
    wait(|| {
        let logs = layout.logs().join(SECOND_POOL.server);
        let mut missing: Vec<String> = signs
            .iter()
            .filter(|(_, sign)| !sign.exists())
            .map(|(daemon, _)| {
                format!(
                    "the {daemon} of the second pool has not started; its logs: {}",
                    logs.display()
                )
            })
            .collect();
        if missing.is_empty() && !(answers(&SECOND_POOL) && listed(layout)) {
            missing.push(format!(
                "the collector of the second pool knows no credd; its logs: {}",
                logs.display()
            ));
        }
        missing
    })?;
    nudge(&credentials(layout));
    Ok(())
}

fn listed(layout: &Layout) -> bool {
    let mut status = root::daemon(&root_of(layout), SECOND_POOL.name, "condor_status");
    status.args(["-any", "-af", "MyType"]).env(
        "CONDOR_CONFIG",
        format!("/etc/condor/{}.conf", SECOND_POOL.server),
    );
    // a collector that does not answer yet is told by the empty list
    let types = root::output(&mut status).unwrap_or_default();
    ["Scheduler", "CredD"]
        .iter()
        .all(|kind| types.lines().any(|line| line == *kind))
}

/// The folder of the credentials of its credd, inside the bed.
pub fn credentials(layout: &Layout) -> PathBuf {
    local(layout).join("oauth_credentials")
}

/// A command in the root of its daemons, whose own tools are of the same version.
#[must_use]
pub fn chroot(layout: &Layout, program: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root_of(layout)).arg(program);
    command
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env_remove("KRB5_CONFIG")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// A path in that root, as seen inside the bed.
#[must_use]
pub fn in_root(layout: &Layout, path: &str) -> PathBuf {
    root_of(layout).join(path.trim_start_matches('/'))
}

/// That root, as seen inside the bed.
#[must_use]
pub fn root_of(layout: &Layout) -> PathBuf {
    layout.run.join("root-sid")
}

fn local(layout: &Layout) -> PathBuf {
    root_of(layout).join("var/lib/condor").join(SECOND_POOL.server)
}

/// The first pool's configuration, and behind it what is different here: the last word counts.
fn configuration() -> String {
    format!("{CONFIGURATION}\n{SECOND}")
        .replace("@DAEMONS@", "MASTER COLLECTOR SCHEDD CREDD CREDMON_OAUTH")
        .replace("@METHODS@", "KERBEROS, FS")
        .replace("@NAME@", SECOND_POOL.server)
        .replace("@HOST@", SECOND_POOL.name)
        .replace("@ADDRESS@", &SECOND_POOL.address.to_string())
        .replace("@COLLECTOR@", SECOND_POOL.name)
        .replace("@VAULT@", VAULT.name)
        .replace("@ISSUERS@", &ISSUERS.join(" "))
        .replace("@DOMAIN@", DOMAIN)
}

/// Kerberos and FS alone.
fn mapfile() -> String {
    MAPFILE
        .lines()
        .filter(|line| line.starts_with("KERBEROS ") || line.starts_with("FS "))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .replace("@REALM@", &REALM.replace('.', r"\."))
        .replace("@DOMAIN@", DOMAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_named_and_not_worked_around() {
        assert!(same_version("25.14.1+dfsg-1").is_ok() && same_version("25.14.1").is_ok());
        for found in ["25.14.10+dfsg-1", "25.15.0+dfsg-1", "", "25.14.1.1"] {
            let error = same_version(found).unwrap_err().to_string();
            assert!(error.contains(VERSION) && error.contains(found), "{error}");
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        for text in [configuration(), mapfile()] {
            let left = text
                .split('@')
                .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase()));
            assert_eq!(left.count(), 0, "{text}");
        }
        assert!(mapfile().lines().count() >= 4);
        let last = configuration();
        let last = last
            .lines()
            .rfind(|line| line.starts_with("CREDD.SEC_WRITE_AUTHENTICATION_METHODS"));
        assert_eq!(
            last,
            Some("CREDD.SEC_WRITE_AUTHENTICATION_METHODS = KERBEROS, FS")
        );
    }
}
