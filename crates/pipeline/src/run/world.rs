//! What all edges of a run share: limits, deadlines, clients, the ledger. Nothing that belongs to one principal.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use config::{CondorAccess, Service, Site};
use credd_client::{Credd, CreddAddress};
use credential::Principal;
use jiff::SignedDuration;
use kerberos::Gss;
use state::State;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::{
    CannotRun, Request,
    credds::{Credds, Found},
    login::at_least_a_second,
    nodes,
    tickets::Tickets,
};
use crate::{
    access::{self, Robot},
    failure::{Failure, Stage},
    ledger::Ledger,
    plan::Policy,
    retry::Budget,
    stop::Stop,
    uids::known_uids,
};

/// Threads for GSSAPI, which blocks: enough for the logins of a large site, few enough to be nothing.
const GSS_THREADS: usize = 8;

/// Connections to one credd at a time: it handles them one after another anyway.
const PER_CREDD: usize = 8;

/// What tells robots apart at credds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RobotKey {
    principal: Principal,
    /// Two services may name one principal with keytabs of their own, of which one is stale.
    keytab: PathBuf,
    account: String,
    access: CondorAccess,
}

impl RobotKey {
    fn of(service: &Service) -> Self {
        let (keytab, _) = access::principal(service);
        Self {
            principal: service.principal.clone(),
            keytab: keytab.to_owned(),
            account: service.account.clone(),
            access: service.condor.clone(),
        }
    }
}

type RobotSlot = Arc<OnceCell<Result<Robot, Failure>>>;

pub(crate) struct World {
    pub(crate) request: Request,
    pub(crate) state: State,
    pub(crate) ledger: Ledger,
    pub(crate) stop: Stop,
    /// How often a login and what belongs to it is tried.
    pub(crate) login_budget: Budget,
    /// How often a credd is tried.
    pub(crate) store_budget: Budget,
    /// How often a node is tried.
    pub(crate) push_budget: Budget,
    pub(crate) gss: Gss,
    pub(crate) tickets: Tickets,
    pub(crate) credds: Credds,
    pub(crate) kerberos_deadline: Duration,
    pub(crate) node_token_life: Duration,
    pub(crate) ssh_limits: distribute::Limits,
    pub(crate) gate: distribute::Gate,
    /// What nodes took before this run.
    pub(crate) node_logins: BTreeMap<(String, u16), state::NodeLogin>,
    /// Whether each credd of a service has a login of its own.
    pub(crate) token_per_credd: bool,
    pub(crate) stores: AtomicU64,
    pub(crate) files_written: AtomicU64,
    renew_before: Duration,
    vault: config::Vault,
    vault_concurrency: usize,
    tls: Arc<tls::ClientConfig>,
    vaults: Mutex<HashMap<String, Result<vault_client::Client, Failure>>>,
    clients: Mutex<HashMap<(String, RobotKey), Arc<Credd>>>,
    robots: Mutex<HashMap<RobotKey, RobotSlot>>,
    all_credds: Arc<Semaphore>,
    each_credd: Mutex<HashMap<String, Arc<Semaphore>>>,
    credd_options: credd_client::Options,
    uids: BTreeMap<String, u32>,
}

impl World {
    pub(crate) async fn new(
        site: &Site,
        state: State,
        request: Request,
        ledger: Ledger,
        stop: Stop,
    ) -> Result<Self, CannotRun> {
        let uids = known_uids(site, &state).await;
        let gate = distribute::Gate::new(site.limits.per_node, site.limits.node_concurrency);
        let node_logins = nodes::recall(&state, &gate).await;
        let (retries, timeouts) = (&site.retries, &site.timeouts);
        let kerberos_budget = Budget::configured(retries.kerberos, timeouts.kerberos);
        let gss = Gss::new(GSS_THREADS);
        let kerberos_deadline = at_least_a_second(site.timeouts.kerberos);
        let credd_options = credd_client::Options {
            total: at_least_a_second(timeouts.vault_storer),
            ..Default::default()
        };
        let ssh_limits = distribute::Limits {
            total: at_least_a_second(site.timeouts.push),
            ..Default::default()
        };
        let tickets = Tickets::new(
            gss.clone(),
            kerberos_deadline,
            kerberos_budget,
            stop.clone(),
            ledger.clone(),
        );
        Ok(Self {
            request,
            state,
            ledger,
            login_budget: Budget::configured(retries.get_token, timeouts.vault_storer),
            store_budget: Budget::configured(retries.store, timeouts.vault_storer),
            push_budget: Budget::configured(retries.push, timeouts.push),
            tickets,
            stop,
            gss,
            credds: Credds::new(credd_options.clone()),
            kerberos_deadline,
            node_token_life: site.node_token_lifetime,
            ssh_limits,
            gate,
            node_logins,
            token_per_credd: site.vault.token_per_credd,
            stores: AtomicU64::new(0),
            files_written: AtomicU64::new(0),
            renew_before: site.renew_before,
            vault: site.vault.clone(),
            vault_concurrency: site.limits.vault_concurrency,
            tls: tls::client_config(&trust(&site.vault)).map_err(CannotRun::Trust)?,
            vaults: Mutex::default(),
            clients: Mutex::default(),
            robots: Mutex::default(),
            all_credds: Arc::new(Semaphore::new(site.limits.credd_concurrency)),
            each_credd: Mutex::default(),
            credd_options,
            uids,
        })
    }

    pub(crate) fn policy(&self, service: &Service) -> Policy {
        let signed = |d: Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        Policy {
            renew_before: signed(self.renew_before),
            node_minimum: signed(service.min_token_lifetime),
            token_per_credd: self.token_per_credd,
        }
    }

    /// The client of a Vault server, shared by its services: one connection pool, one limit.
    pub(crate) fn vault(&self, server: &str) -> Result<vault_client::Client, Failure> {
        let mut vaults = self.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        vaults
            .entry(server.to_owned())
            .or_insert_with(|| self.new_vault(server))
            .clone()
    }

    fn new_vault(&self, server: &str) -> Result<vault_client::Client, Failure> {
        let failed =
            |e: &vault_client::Error| Failure::new(Stage::Configuration, server.to_owned(), e, false);
        let parsed: vault_client::Server = server.parse().map_err(|e| failed(&e))?;
        let mut options = vault_client::Options::new(parsed, self.tls.clone());
        options.alias.clone_from(&self.vault.alias);
        options.concurrency = self.vault_concurrency;
        options.quota = quota(&self.vault.quota);
        options.shared_budget = Some(self.state.dir().to_owned());
        vault_client::Client::new(options).map_err(|e| failed(&e))
    }

    /// The longest that a Vault's quota has held everything back in this run.
    pub(crate) fn held_back(&self) -> Duration {
        let vaults = self.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        let held = vaults.values().flatten().map(vault_client::Client::held_back);
        held.max().unwrap_or_default()
    }

    pub(crate) fn vault_requests(&self) -> u64 {
        let vaults = self.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        vaults
            .values()
            .flatten()
            .map(vault_client::Client::requests)
            .sum()
    }

    /// The credds of the service, as far as collectors tell.
    pub(crate) async fn credds_of(&self, service: &Service) -> Result<Vec<Found>, Failure> {
        self.credds.of(service, Box::pin(self.reader(service))).await
    }

    /// How the service's robot asks collectors that want to know who asks.
    pub(crate) async fn reader(&self, service: &Service) -> Result<credd_client::Options, Failure> {
        self.robot(service).await.map(|robot| robot.reads())
    }

    /// The client for one credd as one robot: two services of one robot share its session, two robots never do.
    pub(crate) async fn credd(
        &self,
        address: &CreddAddress,
        service: &Service,
    ) -> Result<Arc<Credd>, Failure> {
        let robot = self.robot(service).await?;
        let key = (address.name().to_owned(), RobotKey::of(service));
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(clients
            .entry(key)
            .or_insert_with(|| Arc::new(robot.at(address.clone())))
            .clone())
    }

    /// What the service's robot has to prove itself with, gathered once a run.
    async fn robot(&self, service: &Service) -> Result<Robot, Failure> {
        let slot = self
            .robots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(RobotKey::of(service))
            .or_default()
            .clone();
        let (keytab, principal) = access::principal(service);
        let gather = || {
            Robot::gather(
                &service.condor,
                &service.account,
                &self.gss,
                self.credd_options.clone(),
                self.tickets.of_robot(service, keytab, principal),
            )
        };
        slot.get_or_init(gather).await.clone()
    }

    /// A place at the credd first, then one in the process, so that a full credd takes no places from others.
    pub(crate) async fn credd_permit(&self, name: &str) -> [Option<OwnedSemaphorePermit>; 2] {
        let own = self
            .each_credd
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(PER_CREDD)))
            .clone();
        // The semaphores are never closed; an error would mean no limit, not no work.
        let own = own.acquire_owned().await.ok();
        let all = self.all_credds.clone().acquire_owned().await.ok();
        [own, all]
    }

    /// What is known of UIDs where the configuration says nothing.
    pub(crate) fn uids(&self) -> &BTreeMap<String, u32> {
        &self.uids
    }

    /// The account's UID on the nodes.
    pub(crate) fn uid(&self, service: &Service) -> Result<u32, Failure> {
        service.uid.or_else(|| self.uids.get(&service.account).copied()).ok_or_else(|| {
            Failure::text(
                Stage::Configuration,
                "uid-unknown",
                service.account.clone(),
                "the UID of this account on the nodes is not known; ask for it with `mtk uids refresh`, or set \
                 desiredUIDOverride in its role or mtk.uids.map",
            )
        })
    }

    /// A state that cannot be written loses nothing but work: the next run asks the peers again.
    pub(crate) fn remember<E: std::error::Error>(&self, written: Result<(), E>) {
        if let Err(error) = written {
            tracing::error!(%error, "what happened could not be written down; the next run will do it again");
        }
    }
}

/// Which certificates Vault may have.
pub(crate) fn trust(vault: &config::Vault) -> tls::Trust {
    tls::Trust {
        system: true,
        ca_file: vault.ca_file.clone(),
        ca_dir: vault.ca_dir.clone(),
        crl: match vault.crl {
            config::Crl::Off => tls::Crl::Off,
            config::Crl::Present => tls::Crl::Present,
            config::Crl::Required => tls::Crl::Required,
        },
        name: vault.certificate_name.clone(),
    }
}

/// The configured quota as the client takes it.
pub(crate) fn quota(quota: &config::VaultQuota) -> vault_client::Quota {
    vault_client::Quota {
        requests: quota.requests,
        window: quota.window,
        block: quota.block,
        share: quota.share,
        ..vault_client::Quota::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robots_with_keytabs_of_their_own_share_no_failure() {
        let text = "vaultServer: vault.test\ncondorCollectorHost: cm.test\n\
                    kerberosPrincipalPattern: '{{.Account}}/robot@TEST'\nexperiments:\n  dune:\n    roles:\n      \
                    production: {account: dunepro, keytabPathOverride: /k/good}\n      \
                    analysis: {account: dunepro, keytabPathOverride: /k/stale}\n      \
                    calibration: {account: dunepro, keytabPathOverride: /k/good}\n";
        let path = std::path::Path::new("managedTokens.yml");
        let site = config::parse(path, text, &config::Env::default()).unwrap().site;
        let key = |role: &str| RobotKey::of(site.services.iter().find(|s| s.id.role == role).unwrap());
        assert_ne!(key("production"), key("analysis"));
        assert_eq!(key("production"), key("calibration"));
    }
}
