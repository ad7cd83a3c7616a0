//! The fixed facts of the test site: what the bed makes true and tests rely on.

use std::net::Ipv4Addr;

/// The Kerberos realm.
pub const REALM: &str = "MTK.TEST";
/// The DNS domain, and the domain of users at HTCondor (`<account>@mtk.test`).
pub const DOMAIN: &str = "mtk.test";
/// The host mtk runs on: the bed's own host name, and the last part of robot principals.
pub const HOST: &str = "mtk.mtk.test";
/// Where the OIDC issuer is.
pub const ISSUER_URL: &str = "https://issuer.mtk.test:8443";
/// The client id the vault server has at the issuer.
pub const CLIENT_ID: &str = "htvault";
/// The port of the vault server's administration listener (plain http).
pub const VAULT_ADMIN_PORT: u16 = 8202;

/// A server with a name and an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The short name, which is also the server's name in `testbed logs` and `testbed ctl`.
    pub server: &'static str,
    /// Full host name.
    pub name: &'static str,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its main port.
    pub port: u16,
}

const fn host(server: &'static str, name: &'static str, last: [u8; 2], port: u16) -> Host {
    let [c, d] = last;
    Host {
        server,
        name,
        address: Ipv4Addr::new(127, 0, c, d),
        port,
    }
}

/// The MIT KDC.
pub const KDC: Host = host("kdc", "kdc.mtk.test", [1, 10], 88);
/// The LDAP server that the Kerberos method of the vault server wants.
pub const LDAP: Host = host("ldap", "ldap.mtk.test", [1, 11], 389);
/// The OIDC issuer.
pub const ISSUER: Host = host("issuer", "issuer.mtk.test", [1, 12], 8443);
/// The vault server (OpenBao).
pub const VAULT: Host = host("vault", "vault.mtk.test", [1, 13], 8200);
/// The HTCondor collector.
pub const COLLECTOR: Host = host("condor", "condor.mtk.test", [1, 20], 9618);
/// The access points: a schedd, a credd and a vault credmon each.
pub const ACCESS_POINTS: [Host; 3] = [
    host("ap1", "ap1.mtk.test", [1, 101], 9618),
    host("ap2", "ap2.mtk.test", [1, 102], 9618),
    host("ap3", "ap3.mtk.test", [1, 103], 9618),
];
/// The second pool, of a newer HTCondor: all daemons of an access point, and a collector of their own. Only there when a
/// bed is brought up with it.
pub const SECOND_POOL: Host = host("ap25", "ap25.mtk.test", [1, 125], 9618);
/// The node that takes only gssapi-with-mic.
pub const GSS_NODE: Host = host("gss", "gss.mtk.test", [2, 1], 22);
/// The node that takes only public keys.
pub const KEY_NODE: Host = host("key", "key.mtk.test", [2, 2], 22);
/// The node that takes both, with a low `MaxStartups`.
pub const BOTH_NODE: Host = host("both", "both.mtk.test", [2, 3], 22);
/// All nodes.
pub const NODES: [Host; 3] = [GSS_NODE, KEY_NODE, BOTH_NODE];

/// Every server with an address, in the order they are started.
pub fn hosts() -> impl Iterator<Item = Host> {
    [KDC, LDAP, ISSUER, VAULT, COLLECTOR]
        .into_iter()
        .chain(ACCESS_POINTS)
        .chain(NODES)
}

/// The issuers as the vault server and HTCondor name them; one OIDC provider stands behind all three.
pub const ISSUERS: [&str; 3] = ["dune", "mu2e", "nova"];
/// The roles every issuer has at the vault server.
pub const ROLES: [&str; 3] = ["default", "production", "calibration"];

/// An account on the nodes and at HTCondor, with a robot principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// The account's name.
    pub name: String,
    /// Its number on the nodes.
    pub uid: u32,
}

impl Account {
    /// The robot principal without its realm, which is also the credkey: `<account>/managedtokens/mtk.mtk.test`.
    pub fn credkey(&self) -> String {
        format!("{}/managedtokens/{HOST}", self.name)
    }

    /// The robot principal with its realm.
    pub fn principal(&self) -> String {
        format!("{}@{REALM}", self.credkey())
    }
}

/// A service of the default configuration: an experiment in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The experiment as the configuration names it.
    pub experiment: &'static str,
    /// Its `experimentOverride`, if it has one.
    pub experiment_override: Option<&'static str>,
    /// The role.
    pub role: &'static str,
    /// The account.
    pub account: &'static str,
    /// The account's number on the nodes.
    pub uid: u32,
    /// The service's name at HTCondor.
    pub condor: &'static str,
}

impl Service {
    /// The issuer at the vault server.
    pub fn issuer(&self) -> &'static str {
        self.experiment_override.unwrap_or(self.experiment)
    }

    /// The account of this service.
    pub fn account(&self) -> Account {
        Account {
            name: self.account.to_owned(),
            uid: self.uid,
        }
    }
}

const fn service(
    experiment: &'static str,
    experiment_override: Option<&'static str>,
    role: &'static str,
    account: &'static str,
    uid: u32,
    condor: &'static str,
) -> Service {
    Service {
        experiment,
        experiment_override,
        role,
        account,
        uid,
        condor,
    }
}

/// The services of the default configuration.
///
/// Two experiments are overridden to a third one's name, each with an account of its own: three robots
/// share one service name at HTCondor and must never get each other's tokens.
pub const SERVICES: [Service; 7] = [
    service("dune", None, "production", "dunepro", 50001, "dune_production"),
    service("dune", None, "calibration", "dunepro", 50001, "dune_calibration"),
    service(
        "dune-near",
        Some("dune"),
        "production",
        "nearpro",
        50002,
        "dune_production",
    ),
    service(
        "dune-far",
        Some("dune"),
        "production",
        "farpro",
        50003,
        "dune_production",
    ),
    service("mu2e", None, "production", "mu2epro", 50004, "mu2e_production"),
    service("mu2e", None, "default", "mu2eana", 50005, "mu2e"),
    service("nova", None, "production", "novapro", 50006, "nova_production"),
];

/// The accounts behind [`SERVICES`], each once.
pub fn accounts() -> Vec<Account> {
    let mut accounts: Vec<Account> = SERVICES.iter().map(Service::account).collect();
    accounts.dedup();
    accounts
}

/// How many bulk robots there are.
pub const BULK: u32 = 50;

/// The robots for tests in bulk, `robot01` (51001) to `robot50` (51050), all for dune in the role production.
pub fn bulk() -> Vec<Account> {
    (1..=BULK)
        .map(|n| Account {
            name: format!("robot{n:02}"),
            uid: 51000 + n,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_addresses_and_accounts_are_unique() {
        assert_eq!(
            hosts().map(|h| h.address).collect::<BTreeSet<_>>().len(),
            hosts().count()
        );
        assert!(hosts().all(|h| h.name == format!("{}.{DOMAIN}", h.server)));
        let uids: BTreeSet<u32> = accounts().into_iter().chain(bulk()).map(|a| a.uid).collect();
        assert_eq!(uids.len(), 6 + 50);
    }

    #[test]
    fn the_name_at_condor_is_issuer_and_role() {
        for s in SERVICES {
            let expected = match s.role {
                "default" => s.issuer().to_owned(),
                role => format!("{}_{role}", s.issuer()),
            };
            assert_eq!(s.condor, expected);
            assert!(ISSUERS.contains(&s.issuer()) && ROLES.contains(&s.role));
        }
    }
}
