//! The KDC (MIT, from the bed's Debian root) and its principals.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use super::layout::Layout;
use super::servers::Servers;
use super::{run, until};
use crate::site::{self, KDC, REALM};

/// Where keytabs are written inside the Debian root before they are copied out.
const KEYTABS: &str = "/var/lib/krb5kdc/keytabs";

/// Makes the realm with all principals and keytabs, and starts the KDC.
///
/// Every keytab is written before the server is started: when this returns, the pool and the nodes can be started.
///
/// # Errors
/// A tool of the KDC refuses.
pub fn start(layout: &Layout, servers: &mut Servers) -> Result<()> {
    let conf = format!(
        "[kdcdefaults]\n kdc_listen = {address}:{port}\n kdc_tcp_listen = {address}:{port}\n \
         # of many robots that come at once, more than the default of 5 would wait a second for their next try\n \
         kdc_tcp_listen_backlog = 128\n\
         [realms]\n {REALM} = {{\n  database_name = /var/lib/krb5kdc/principal\n  \
         key_stash_file = /etc/krb5kdc/stash\n  max_life = 10h 0m 0s\n  max_renewable_life = 7d\n  \
         # the Kerberos method of the vault server refuses every ticket with a PAC it cannot verify\n  \
         disable_pac = true\n }}\n[logging]\n kdc = STDERR\n",
        address = KDC.address,
        port = KDC.port
    );
    for dir in ["/etc/krb5kdc", "/var/lib/krb5kdc", KEYTABS] {
        fs::create_dir_all(layout.in_root(dir))?;
    }
    fs::write(layout.in_root("/etc/krb5kdc/kdc.conf"), conf).context("cannot write kdc.conf")?;
    run(layout
        .chroot("/usr/sbin/kdb5_util")
        .args(["create", "-s", "-P", "of no use outside", "-r", REALM]))
    .context("cannot make the Kerberos database")?;
    let mut principals = vec![("alice".to_owned(), "alice".to_owned())];
    // `other` is no host of the bed: a ticket for it is one the vault server must refuse
    principals.push(("host-other".to_owned(), format!("host/other.{}", site::DOMAIN)));
    for host in [site::VAULT, site::COLLECTOR]
        .into_iter()
        .chain(site::ACCESS_POINTS)
        .chain(site::NODES)
    {
        principals.push((format!("host-{}", host.server), format!("host/{}", host.name)));
    }
    for account in site::accounts().into_iter().chain(site::bulk()) {
        principals.push((account.name.clone(), account.credkey()));
    }
    add(layout, &principals)?;
    let mut command = layout.chroot("/usr/sbin/krb5kdc");
    command.arg("-n");
    servers.start(KDC.server, command)
}

/// Adds principals with random keys and writes `<bed>/keytabs/<name>.keytab` (0600) for each (name, principal).
///
/// # Errors
/// A name that is none, or kadmin refuses.
pub fn add(layout: &Layout, principals: &[(String, String)]) -> Result<()> {
    let mut script = String::new();
    for (name, principal) in principals {
        ensure!(
            plain(name) && !name.contains('/'),
            "{name:?} cannot name a keytab"
        );
        ensure!(
            plain(principal),
            "{principal:?} is no principal that can be added"
        );
        script += &format!(
            "addprinc -randkey {principal}\nktadd -norandkey -k {KEYTABS}/{name}.keytab {principal}\n"
        );
    }
    let mut kadmin = layout
        .chroot("/usr/sbin/kadmin.local")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start kadmin.local")?;
    let mut input = kadmin.stdin.take().context("kadmin.local has no input")?;
    // its answers are short, but a full pipe on both sides would stand still for ever
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = kadmin.wait_with_output().context("kadmin.local")?;
    let sent = writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer to kadmin.local panicked"))?;
    sent.context("kadmin.local did not read its input")?;
    for (name, principal) in principals {
        let inside = layout.in_root(format!("{KEYTABS}/{name}.keytab"));
        let Ok(bytes) = fs::read(&inside) else {
            bail!(
                "kadmin.local made no key for {principal}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        };
        let path = layout.keytab(name);
        let half = path.with_extension("half");
        fs::write(&half, bytes)?;
        fs::set_permissions(&half, fs::Permissions::from_mode(0o600))?;
        fs::rename(&half, &path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn plain(word: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-/@".contains(c);
    !word.is_empty() && !word.starts_with('-') && !word.contains("..") && word.chars().all(fine)
}

/// Waits until the KDC gives a ticket.
///
/// # Errors
/// It has ended, or gives none within 20 s.
pub fn ready(layout: &Layout, servers: &Servers) -> Result<()> {
    until(layout, servers, KDC.server, 20, || {
        run(layout
            .chroot("kinit")
            .args(["-c", "MEMORY:ready", "-k", "-t"])
            .args([format!("{KEYTABS}/alice.keytab"), "alice".to_owned()]))
        .map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_principal_reaches_kadmin() {
        assert!(plain("dunepro/managedtokens/mtk.mtk.test@MTK.TEST"));
        for bad in ["", "-x", "a b", "a\nquit", "../../etc/x", "a;b"] {
            assert!(!plain(bad), "{bad:?}");
        }
    }
}
