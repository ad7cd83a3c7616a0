//! The text files of a bed: names, Kerberos, and the configurations mtk is run with.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use super::layout::Layout;
use crate::site::{self, Account, DOMAIN, KDC, REALM, SERVICES};

/// The hosts file: no DNS answers in a bed, so every name is here, the bed's own host name among them.
pub fn hosts() -> String {
    let mut text = format!("127.0.0.1 localhost\n127.0.0.1 {host} mtk\n", host = site::HOST);
    for host in site::hosts().chain([site::SECOND_POOL]) {
        let _infallible = writeln!(text, "{} {} {}", host.address, host.name, host.server);
    }
    text
}

/// The krb5.conf: one realm, nothing from DNS, TCP only.
pub fn krb5_conf() -> String {
    format!(
        "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
         dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n ticket_lifetime = 10h\n\
         [realms]\n {REALM} = {{\n  kdc = {}:{}\n }}\n\
         [domain_realm]\n .{DOMAIN} = {REALM}\n {DOMAIN} = {REALM}\n",
        KDC.address, KDC.port
    )
}

/// The default `managedTokens.yml`: the services of [`site::SERVICES`], to all three nodes.
pub fn managed_tokens(layout: &Layout) -> String {
    let mut text = head(layout);
    let mut experiment = "";
    for service in SERVICES {
        if service.experiment != experiment {
            experiment = service.experiment;
            text += &experiment_head(experiment, service.experiment_override);
        }
        let nodes = site::NODES.map(|node| node.name).join(", ");
        text += &role(service.role, &service.account(), &nodes);
    }
    text
}

/// `bulk.yml`: one experiment a bulk robot, `bulk01` onwards, all overridden to dune, and no nodes.
pub fn bulk(layout: &Layout) -> String {
    let mut text = head(layout);
    for (n, account) in site::bulk().iter().enumerate() {
        text += &experiment_head(&format!("bulk{:02}", n + 1), Some("dune"));
        text += &role("production", account, "");
    }
    text
}

fn head(layout: &Layout) -> String {
    let dir = layout.dir.display();
    format!(
        "keytabPath: {dir}/keytabs\n\
         kerberosPrincipalPattern: \"{{{{.Account}}}}/managedtokens/{host}@{REALM}\"\n\
         vaultServer: {vault}\n\
         condorCollectorHost: {collector}\n\
         serviceCreddVaultTokenPathRoot: {dir}/state/service-credd-vault-tokens\n\
         dbLocation: {dir}/state/managed-tokens.db\n\
         defaultRoleFileDestinationTemplate: \"/tmp/jobsub_default_role_{{{{.Experiment}}}}_{{{{.DesiredUID}}}}\"\n\
         fileCopierOptions: \"--perms --chmod=u=r,go=\"\n\
         sshOptions: \"-o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=/dev/null -o IdentityFile={identity}\"\n\
         minTokenLifetime: 3d\n\
         disableNotifications: true\n\
         devEnvironmentLabel: test\n\
         experiments:\n",
        host = site::HOST,
        vault = site::VAULT.name,
        collector = site::COLLECTOR.name,
        known_hosts = layout.known_hosts().display(),
        identity = super::nodes::client_key_path(layout).display(),
    )
}

fn experiment_head(name: &str, replaced_by: Option<&str>) -> String {
    let mut text = format!("  {name}:\n    emails: [operators@{DOMAIN}]\n");
    if let Some(other) = replaced_by {
        text += &format!("    experimentOverride: {other}\n");
    }
    text + "    roles:\n"
}

fn role(role: &str, account: &Account, nodes: &str) -> String {
    let Account { name, uid } = account;
    format!(
        "      {role}:\n        account: {name}\n        desiredUIDOverride: {uid}\n        \
         destinationNodes: [{nodes}]\n"
    )
}

/// Writes the files that must be there before any server starts, and the configurations.
///
/// # Errors
/// The file system.
pub fn write(layout: &Layout) -> Result<()> {
    let state = layout.dir.join("state").join("service-credd-vault-tokens");
    fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
    for (path, text) in [
        (layout.hosts(), hosts()),
        (layout.krb5_conf(), krb5_conf()),
        (layout.dir.join("managedTokens.yml"), managed_tokens(layout)),
        (layout.dir.join("bulk.yml"), bulk(layout)),
    ] {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::bed::layout::below;

    fn layout() -> Layout {
        below("/c", "t").unwrap()
    }

    #[test]
    fn every_name_is_in_the_hosts_file() {
        let hosts = hosts();
        assert!(hosts.contains("127.0.0.1 mtk.mtk.test mtk\n"));
        assert!(hosts.contains("127.0.1.13 vault.mtk.test vault\n"));
        assert!(hosts.contains("127.0.2.3 both.mtk.test both\n"));
        assert_eq!(hosts.lines().count(), 3 + site::hosts().count());
    }

    #[test]
    fn kerberos_asks_no_dns() {
        let text = krb5_conf();
        assert!(text.contains(" dns_lookup_kdc = false\n") && text.contains("  kdc = 127.0.1.10:88\n"));
    }

    #[test]
    fn each_experiment_once_and_each_service_with_its_account() {
        let text = managed_tokens(&layout());
        for key in ["dune", "dune-near", "dune-far", "mu2e", "nova"] {
            assert_eq!(text.matches(&format!("\n  {key}:\n")).count(), 1, "{key}");
        }
        assert_eq!(text.matches("account: ").count(), SERVICES.len());
        assert!(text.contains("\"{{.Account}}/managedtokens/mtk.mtk.test@MTK.TEST\""));
        assert!(text.contains("keytabPath: /c/beds/t/keytabs\n"));
        assert!(text.contains("destinationNodes: [gss.mtk.test, key.mtk.test, both.mtk.test]\n"));
    }

    #[test]
    fn the_bulk_robots_push_nowhere() {
        let text = bulk(&layout());
        assert_eq!(text.matches("experimentOverride: dune\n").count(), 50);
        assert_eq!(text.matches("destinationNodes: []\n").count(), 50);
        assert!(text.contains("  bulk50:\n") && text.contains("account: robot50\n"));
    }
}
