//! The credd, and who we are to it: by HTCondor's own configuration.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, anyhow, bail, ensure};
use condor_config::Config;
use config::{CondorAccess, Method, SuperUser};
use credd_client::{Credd, Keep, Options, Pool, Restriction, handle_credential, vault_credential};
use credential::LongToken;
use kerberos::Gss;
use pipeline::{CondorRobot, Failure, Stage};

use super::{request::Request, variable};
use crate::{commands::token::obtain::Ask, env};

/// HTCondor's own order of what a client offers.
const METHODS: [Method; 5] = [
    Method::Fs,
    Method::Token,
    Method::Kerberos,
    Method::SciTokens,
    Method::Ssl,
];

/// A ccache on a dead file system is not waited for longer.
const KERBEROS: Duration = Duration::from_secs(20);

/// Where credentials go, and for whom.
pub(super) struct Store {
    credd: Credd,
    user: String,
}

pub(super) fn setting(condor: &Config, name: &str) -> anyhow::Result<Option<String>> {
    Ok(condor.get(name)?.map(|setting| setting.value))
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty())
}

/// Whether a service belongs to another credmon than Vault's: then condor_submit does without us.
pub(super) fn is_anothers(condor: &Config, request: &Request) -> anyhow::Result<bool> {
    let names = |setting_name: &str, name: &str| -> anyhow::Result<bool> {
        let configured = setting(condor, setting_name)?.unwrap_or_default();
        Ok(list(&configured).any(|known| known == name))
    };
    let (service, issuer) = (&request.service, &request.issuer);
    for kind in ["LOCAL_CREDMON_PROVIDER_NAMES", "LOCAL_CREDMON_PROVIDER_NAME"] {
        if names(kind, service)? || names(kind, issuer)? {
            return Ok(true);
        }
    }
    if names("PELICAN_CREDMON_PROVIDER_NAMES", service)? || names("PELICAN_CREDMON_PROVIDER_NAMES", issuer)? {
        bail!(
            "{service} is of Pelican: credentials of Vault are stored here; condor_credential_storer does that"
        );
    }
    Ok(names("OAUTH2_CREDMON_PROVIDER_NAMES", service)? || names("CLIENT_CREDMON_PROVIDER_NAMES", service)?)
}

/// The credd that the options for condor_store_cred name. Its others are about what we decide ourselves.
fn named_credd() -> anyhow::Result<Option<String>> {
    let options = variable(env::STORECRED_OPTS).unwrap_or_default();
    let mut words = options.split_whitespace();
    let mut name = None;
    while let Some(word) = words.next() {
        match word {
            "-n" => name = Some(words.next().context("-n names no credd")?.to_owned()),
            "-d" | "-debug" => {}
            other => bail!("{}: {other} is not known here; -n NAME is", env::STORECRED_OPTS),
        }
    }
    Ok(name)
}

impl Store {
    /// `bearer` is the file of one more thing to prove ourselves with. Nothing is stored yet.
    pub(super) async fn open(
        condor: &Config,
        login: Option<&str>,
        ask: &Ask,
        bearer: PathBuf,
    ) -> anyhow::Result<Self> {
        let gss = Gss::new(1);
        let held = gss.held(ask.ccache.as_deref(), ask.principal.as_ref());
        let ticket = tokio::time::timeout(KERBEROS, held)
            .await
            .context("the Kerberos library does not come back")?;
        let user = match (&ticket, login) {
            (Ok(ticket), _) => ticket.principal().user().to_owned(),
            (Err(_), Some(login)) => login.to_owned(),
            (Err(error), None) => {
                bail!("this account has no name in /etc/passwd, and there is no ticket: {error}")
            }
        };
        let path =
            |name: &str| -> anyhow::Result<Option<PathBuf>> { Ok(setting(condor, name)?.map(Into::into)) };
        let wanted = match setting(condor, "SEC_CLIENT_AUTHENTICATION_METHODS")? {
            Some(list) => Some(list),
            None => setting(condor, "SEC_DEFAULT_AUTHENTICATION_METHODS")?,
        };
        let mut methods: Vec<Method> = match &wanted {
            Some(wanted) => list(wanted).filter_map(Method::from_name).collect(),
            None => METHODS.to_vec(),
        };
        // FS proves the account: as somebody else we go by the ticket alone
        methods.retain(|method| *method != Method::Fs || login == Some(user.as_str()));
        // no ticket is worth a word only if nothing else is left
        methods.retain(|method| *method != Method::Kerberos || ticket.is_ok());
        ensure!(
            !methods.is_empty(),
            "HTCondor's configuration has no authentication method with which we could be {user} at its credd{}",
            ticket
                .as_ref()
                .err()
                .map(|error| format!(" ({error})"))
                .unwrap_or_default()
        );
        // a service that has tokens of its users, and is one of the credd's CRED_SUPER_USERS
        let other = variable(env::STORER_USER)
            .map(|other| other.split('@').next().unwrap_or_default().to_owned())
            .filter(|other| *other != user);
        let account = other.clone().unwrap_or_else(|| user.clone());
        let home = variable(env::HOME).map(|home| PathBuf::from(home).join(".condor/tokens.d"));
        let access = CondorAccess {
            methods,
            ca_file: path("AUTH_SSL_CLIENT_CAFILE")?,
            ca_dir: path("AUTH_SSL_CLIENT_CADIR")?,
            certificate: path("AUTH_SSL_CLIENT_CERTFILE")?.filter(|file| file.exists()),
            key: path("AUTH_SSL_CLIENT_KEYFILE")?,
            token_directories: path("SEC_TOKEN_DIRECTORY")?.or(home).into_iter().collect(),
            bearer_files: vec![bearer],
            super_user: other.map(|_| SuperUser {
                name: user.clone(),
                principal: None,
                keytab: None,
            }),
        };
        let no_ticket = |error: kerberos::Error| Failure::new(Stage::Ticket, user.clone(), &error, false);
        let ticket = async { ticket.map_err(no_ticket) };
        let robot = CondorRobot::gather(&access, &account, &gss, Options::default(), ticket)
            .await
            .map_err(|failure| anyhow!("{}: {}", failure.peer, failure.text))?;
        let name = match named_credd()? {
            Some(name) => name,
            None => match setting(condor, "CREDD_HOST")? {
                Some(name) => name,
                None => setting(condor, "FULL_HOSTNAME")?
                    .context("HTCondor's configuration names no CREDD_HOST")?,
            },
        };
        let collectors = setting(condor, "COLLECTOR_HOST")?.unwrap_or_default();
        let collectors: Vec<String> = list(&collectors).map(str::to_owned).collect();
        let pool = Pool::new(&collectors, Keep::default(), robot.reads());
        Ok(Self {
            credd: robot.at(pool.locate(&name).await.map_err(advised)?),
            user: account,
        })
    }

    /// Whether it is there; another restriction than this one is an error.
    pub(super) async fn has(
        &self,
        service: &str,
        handle: Option<&str>,
        restriction: &Restriction,
    ) -> anyhow::Result<bool> {
        let held = self
            .credd
            .query_restricted(&self.user, service, handle, restriction)
            .await
            .map_err(advised)?;
        ensure!(
            !held.other_restriction,
            "Credentials exist that do not match the request: {service}{}{} of {} at the {}. They can be removed by\n  \
             condor_store_cred delete-oauth -s {service}{}{}\nbut make sure no other job is using them.",
            if handle.is_some() { "_" } else { "" },
            handle.unwrap_or_default(),
            self.user,
            self.credd.address(),
            if handle.is_some() { "_" } else { "" },
            handle.unwrap_or_default(),
        );
        Ok(held.top.is_some() && !held.damaged)
    }

    pub(super) async fn put(&self, service: &str, token: &LongToken, url: &str) -> anyhow::Result<()> {
        let json = vault_credential(token, url);
        let stored = self.credd.store(&self.user, service, None, &json).await;
        stored.map(drop).map_err(advised)
    }

    /// The restriction is in the JSON: credds of some versions spoil it when they write it there themselves.
    pub(super) async fn put_handle(
        &self,
        service: &str,
        handle: &str,
        token: Option<&LongToken>,
        url: &str,
        restriction: &Restriction,
    ) -> anyhow::Result<()> {
        let json = handle_credential(token, url, restriction);
        let stored = self.credd.store(&self.user, service, Some(handle), &json).await;
        stored.map(drop).map_err(advised)
    }
}

/// With what can be done about it, where that is known.
fn advised(error: credd_client::Error) -> anyhow::Error {
    let advice = error.advice();
    let error = anyhow::Error::new(error);
    match advice {
        Some(advice) => anyhow!("{error:#}; {advice}"),
        None => error,
    }
}
