//! Which UID an account has on the nodes: who is asked, in which order, and what is done about answers that changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use config::{Ferry, FerryLogin, Service, Site, UidSource};
use ferry_client::{Client, HostCertificate, Login};
use jiff::Timestamp;
use serde::Serialize;
use state::{KnownUid, Learnt, State};

use crate::{
    bystander::{bystander, cannot},
    failure::{Failure, Stage},
    robot::Robot,
    run::World,
    selection::Selection,
    stop::Stop,
};

/// NSS may ask servers of its own.
const NSS_PATIENCE: Duration = Duration::from_secs(10);
/// Questions under way at FERRY.
const AT_ONCE: usize = 4;

/// What asking came to for one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum UidOutcome {
    /// It was not known before.
    New,
    /// The same as before.
    Same,
    /// Another than the one in use, which stays in use.
    Drift {
        /// The one in use.
        known: u32,
    },
    /// Nobody knows it.
    Unknown,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UidAnswer {
    /// The account.
    pub account: String,
    /// What was answered, if anybody did.
    pub uid: Option<u32>,
    /// Who answered.
    pub source: Option<&'static str>,
    /// What that comes to.
    #[serde(flatten)]
    pub outcome: UidOutcome,
    /// Who failed to answer, and how.
    pub failures: Vec<Failure>,
}

impl UidAnswer {
    /// Whether nothing about it needs a person.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.outcome, UidOutcome::New | UidOutcome::Same) && self.failures.is_empty()
    }
}

/// Asks for the UIDs of the selected services' accounts, each source in its order until one answers, and remembers the
/// answers unless it is a `dry_run`. An answer that differs from what is known is an alarm and changes nothing.
///
/// # Errors
/// A [`Failure`] if nobody can be asked or nothing remembered.
pub async fn refresh_uids(
    site: &Site,
    state: &State,
    selection: &Selection,
    dry_run: bool,
    stop: Stop,
) -> Result<Vec<UidAnswer>, Failure> {
    let accounts = accounts(site, selection);
    let go = go_uids(site).await;
    let ferry = match (&site.ferry, site.uid_order.contains(&UidSource::Ferry)) {
        (Some(ferry), true) => Some(client(site, ferry, state, &stop).await),
        _ => None,
    };
    let slots = tokio::sync::Semaphore::new(AT_ONCE);
    let asked = accounts.iter().map(|(account, fixed)| {
        let (ferry, go, slots) = (&ferry, &go, &slots);
        async move {
            let _slot = slots.acquire().await;
            let mut failures = Vec::new();
            for source in &site.uid_order {
                let answer = match (source, ferry) {
                    (UidSource::Ferry, Some(ferry)) => ask_ferry(ferry, account, site).await,
                    (UidSource::Ferry, None) => Ok(None),
                    (UidSource::Go, _) => Ok(go.get(account).copied()),
                    (UidSource::Nss, _) => nss(account).await,
                };
                match answer {
                    Ok(Some(uid)) => return (account, *fixed, Some((uid, *source)), failures),
                    Ok(None) => {}
                    Err(failure) => failures.push(failure),
                }
            }
            (account, *fixed, None, failures)
        }
    });
    let mut answers = Vec::new();
    for (account, fixed, found, failures) in futures_util::future::join_all(asked).await {
        let outcome = match (found, fixed) {
            (None, _) => UidOutcome::Unknown,
            // the file has the last word; that others say otherwise should be heard
            (Some((uid, _)), Some(fixed)) if uid != fixed => UidOutcome::Drift { known: fixed },
            (Some(_), Some(_)) => UidOutcome::Same,
            (Some((uid, source)), None) => {
                let failed = |e| Failure::new(Stage::State, "the state directory", &e, false);
                let learnt = if dry_run {
                    let known = state.uids().await.map_err(failed)?;
                    match known.get(account).map(|known| known.uid) {
                        None => Learnt::New,
                        Some(known) if known == uid => Learnt::Same,
                        Some(known) => Learnt::Drift { known },
                    }
                } else {
                    let learnt = state.learn_uid(account, uid, source.word(), Timestamp::now());
                    learnt.await.map_err(failed)?
                };
                match learnt {
                    Learnt::New => UidOutcome::New,
                    Learnt::Same => UidOutcome::Same,
                    Learnt::Drift { known } => UidOutcome::Drift { known },
                }
            }
        };
        if let (UidOutcome::Drift { known }, Some((uid, source))) = (&outcome, found) {
            tracing::warn!(account, known, uid, %source, "the UID of an account is said to be another");
        }
        answers.push(UidAnswer {
            account: account.clone(),
            uid: found.map(|(uid, _)| uid),
            source: found.map(|(_, source)| source.word()),
            outcome,
            failures,
        });
    }
    Ok(answers)
}

/// The accounts of the selected services, with what the file says of them.
fn accounts(site: &Site, selection: &Selection) -> BTreeMap<String, Option<u32>> {
    let mut all: BTreeMap<String, Option<u32>> = BTreeMap::new();
    for service in site.services.iter().filter(|s| selection.wants(s)) {
        let fixed = all.entry(service.account.clone()).or_default();
        *fixed = fixed.or(service.uid);
    }
    all
}

/// The UIDs a run uses where the file says nothing: nobody but this host is asked.
pub(crate) async fn known_uids(site: &Site, state: &State) -> BTreeMap<String, u32> {
    let unsaid: BTreeSet<&str> = site
        .services
        .iter()
        .filter(|s| s.uid.is_none())
        .map(|s| s.account.as_str())
        .collect();
    if unsaid.is_empty() {
        return BTreeMap::new();
    }
    let remembered: BTreeMap<String, KnownUid> = state.uids().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the UIDs that are remembered cannot be read");
        BTreeMap::new()
    });
    let mut uids = BTreeMap::new();
    for known in remembered
        .values()
        .filter(|k| unsaid.contains(k.account.as_str()))
    {
        // what is remembered stays what it is, whoever would say otherwise today and whoever said it
        uids.insert(known.account.clone(), known.uid);
        if let Some(drift) = &known.drift {
            tracing::warn!(
                account = known.account,
                uid = known.uid,
                other = drift.uid,
                source = drift.source,
                "the UID of an account is said to be another; the known one stays in use until mtk uids accept"
            );
        }
    }
    for source in &site.uid_order {
        let found = match source {
            UidSource::Ferry => BTreeMap::new(),
            UidSource::Go => go_uids(site).await,
            UidSource::Nss => nss_uids(unsaid.iter().copied().filter(|a| !uids.contains_key(*a))).await,
        };
        for (account, uid) in found {
            uids.entry(account).or_insert(uid);
        }
    }
    uids
}

async fn go_uids(site: &Site) -> BTreeMap<String, u32> {
    let Some(db) = site.db_location.as_deref().filter(|db| db.exists()) else {
        return BTreeMap::new();
    };
    if !site.uid_order.contains(&UidSource::Go) {
        return BTreeMap::new();
    }
    state::go_uids(db).await.unwrap_or_else(|error| {
        tracing::warn!(db = %db.display(), %error, "no UIDs were read from the Go service's database");
        BTreeMap::new()
    })
}

/// What this host's NSS says of them. All are asked at once: a server that is silent costs its patience once.
async fn nss_uids<'a>(accounts: impl Iterator<Item = &'a str>) -> BTreeMap<String, u32> {
    let asked = accounts.map(async |account| match nss(account).await {
        Ok(uid) => uid.map(|uid| (account.to_owned(), uid)),
        Err(failure) => {
            tracing::warn!(
                account,
                error = failure.text,
                "the UID of an account could not be asked for"
            );
            None
        }
    });
    let answers = futures_util::future::join_all(asked).await;
    answers.into_iter().flatten().collect()
}

/// What this host's NSS says. It blocks, and may wait for servers.
async fn nss(account: &str) -> Result<Option<u32>, Failure> {
    let name = account.to_owned();
    let asked = tokio::task::spawn_blocking(move || nix::unistd::User::from_name(&name));
    let failed = |text: String| Failure::text(Stage::Configuration, "nss", "this host's NSS", text);
    match tokio::time::timeout(NSS_PATIENCE, asked).await {
        Ok(Ok(Ok(user))) => Ok(user
            .map(|u| u.uid.as_raw())
            .filter(|uid| *uid != 0 && *uid != u32::MAX)),
        Ok(Ok(Err(errno))) => Err(failed(format!("{account} cannot be looked up: {errno}"))),
        Ok(Err(_)) => Err(failed(format!("{account} cannot be looked up"))),
        Err(_) => Err(failed(format!(
            "{account}: no answer within {} s",
            NSS_PATIENCE.as_secs()
        ))),
    }
}

async fn client(site: &Site, ferry: &Ferry, state: &State, stop: &Stop) -> Result<Client, Failure> {
    let peer = format!("FERRY at {}", ferry.host);
    let config = |text: &str| Failure::text(Stage::Configuration, "ferry", peer.clone(), text);
    let login = match &ferry.login {
        None => {
            return Err(config(
                "who asks is not said: ferry.hostCert and hostKey, or ferry.serviceExperiment, \
                 serviceKerberosPrincipal and serviceKeytabPath",
            ));
        }
        Some(FerryLogin::Certificate { certificate, key }) => {
            let host = HostCertificate::read(certificate, key)
                .map_err(|e| Failure::new(Stage::Configuration, peer.clone(), &e, false))?;
            Login::Certificate(host)
        }
        Some(robot) => Login::Bearer(bearer(site, robot, state, stop).await?),
    };
    let trust = tls::Trust {
        ca_dir: ferry.ca_path.clone(),
        ..tls::Trust::default()
    };
    let tls = tls::client_config(&trust)
        .map_err(|e| Failure::new(Stage::Configuration, peer.clone(), &e, false))?;
    Client::new(&ferry.host, ferry.port, &tls, login)
        .map_err(|e| Failure::new(Stage::Configuration, peer, &e, false))
}

/// A bearer token of the robot that may ask FERRY. Its login is given back at once.
async fn bearer(
    site: &Site,
    login: &FerryLogin,
    state: &State,
    stop: &Stop,
) -> Result<credential::BearerToken, Failure> {
    let (
        Some(pattern),
        FerryLogin::Robot {
            name,
            principal,
            keytab,
            vault_server,
        },
    ) = (site.services.first(), login)
    else {
        return Err(Failure::text(
            Stage::Configuration,
            "ferry",
            "FERRY",
            "there is no service",
        ));
    };
    let service = Service {
        name: name.clone(),
        credkey: principal.credkey().to_owned(),
        principal: principal.clone(),
        keytab: keytab.clone(),
        vault_server: vault_server.clone(),
        ..pattern.clone()
    };
    let world: World = bystander(site, state.clone(), stop.clone())
        .await
        .map_err(|e| cannot(&e))?;
    let ticket = world.tickets.of(&service).await?;
    let vault = world.vault(&service.vault_server)?;
    let bearer = Robot::new(&world, &service, vault).prove(&ticket).await?;
    Ok(bearer.token)
}

async fn ask_ferry(
    ferry: &Result<Client, Failure>,
    account: &str,
    site: &Site,
) -> Result<Option<u32>, Failure> {
    let ferry = ferry.as_ref().map_err(Clone::clone)?;
    let patience = site.ferry.as_ref().map_or(ferry_client::PATIENCE, |f| f.timeout);
    match ferry.user_info_within(account, patience).await {
        Ok(answer) => {
            if !answer.active {
                tracing::warn!(account, "FERRY says that this account is not active");
            }
            Ok(Some(answer.uid))
        }
        Err(error) => {
            let retryable = error.retryable();
            Err(Failure::new(
                Stage::Configuration,
                format!("{account} at {}", ferry.peer()),
                &error,
                retryable,
            ))
        }
    }
}

/// The name of a user of this host.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One service whose account every host has, with UID 1.
    fn site(order: &str) -> Site {
        let text = format!(
            "vaultServer: vault.test\ncondorCollectorHost: cm.test\nmtk: {{uids: {{order: [{order}]}}}}\n\
             kerberosPrincipalPattern: '{{{{.Account}}}}/robot@TEST'\nexperiments:\n  dune:\n    roles:\n      \
             production:\n        account: daemon\n        destinationNodes: [node.test]\n"
        );
        let path = std::path::Path::new("managedTokens.yml");
        let loaded = config::parse(path, &text, &config::Env::default()).unwrap();
        assert!(loaded.site.broken.is_empty(), "{:#?}", loaded.site.broken);
        loaded.site
    }

    #[tokio::test]
    async fn what_is_remembered_outlasts_sources_that_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(&dir.path().join("mtk")).await.unwrap();
        let now = Timestamp::now();
        let uid = async |order: &str| known_uids(&site(order), &state).await.get("daemon").copied();
        assert_eq!(uid("nss, ferry").await, Some(1));
        assert_eq!(uid("ferry").await, None);
        state.learn_uid("daemon", 50001, "ferry", now).await.unwrap();
        for order in ["ferry, nss", "nss, ferry", "nss", "go"] {
            assert_eq!(uid(order).await, Some(50001), "{order}");
        }
        // an alarm is an alarm
        state.learn_uid("daemon", 1, "nss", now).await.unwrap();
        assert_eq!(uid("nss").await, Some(50001));
    }
}
