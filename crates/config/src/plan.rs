//! From the tree to the plan: what the file says for all, then each role.

mod experiments;
mod metrics;
mod notify;
mod observers;
mod reach;
mod steps;
mod uids;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    AcceptedKey, Effective, Env, Origin, Site, address, duration,
    finding::Reporter,
    keys,
    role::Shared,
    section::{self, Section, Unknown},
    ssh::{self, ConfigFiles},
    tree::{Position, Value},
    words,
};

const DAY: Duration = Duration::from_secs(86_400);
/// The Go service's own default.
const DEFAULT_DB: &str = "/var/lib/managed-tokens/uid.db";

/// What is read of the whole file before its roles.
pub(crate) struct Plan<'a, 't> {
    top: Section<'t>,
    env: &'a Env,
    report: &'a mut Reporter,
    values: Vec<Effective>,
    later: Vec<AcceptedKey>,
}

impl<'a, 't> Plan<'a, 't> {
    pub(crate) fn new(top: Section<'t>, env: &'a Env, report: &'a mut Reporter) -> Self {
        Self {
            top,
            env,
            report,
            values: Vec::new(),
            later: Vec::new(),
        }
    }

    pub(crate) fn build(mut self, path: &Path, files: &[PathBuf]) -> Site {
        let top = self.top.clone();
        top.check_keys(keys::TOP, Unknown::Error, self.report, &mut self.later);
        self.check_environment();
        let timeouts = self.timeouts();
        let retries = self.retries(&timeouts);
        let mtk = top.child("mtk", self.report);
        let (ssh, known_hosts_given) = self.ssh(&mtk);
        let min_token_lifetime = self.span(&top, "minTokenLifetime", DAY * 3);
        let credd = mtk.child("credd", self.report);
        let renew_before = self.span(&credd, "renewBefore", DAY * 14);
        let node_token_lifetime = self.node_token_lifetime(&mtk, min_token_lifetime);
        let consent_lifetime = self.consent_lifetime(&mtk);
        let limits = self.limits(&mtk);
        let vault = self.vault(&mtk);
        let state_dir = self.path(&mtk, "stateDirectory");
        let db = self.path(&top, "dbLocation").unwrap_or_else(|| DEFAULT_DB.into());
        let disable_notifications = self
            .value(&top, "disableNotifications", section::boolean)
            .unwrap_or_default();
        let dev_label = self.dev_label();
        let metrics = self.metrics(&mtk, &dev_label);
        let (loki, traces, log_files) = (self.loki(), self.traces(), self.log_files());
        let audit = self.audit(&mtk);
        let notifications = self.notifications(&mtk);
        let uid_order = self.uid_order(&mtk);
        let uids = self.uid_map(&mtk);
        let ferry = self.ferry();
        let mut site = Site {
            path: path.to_owned(),
            files: files.to_vec(),
            services: Vec::new(),
            broken: Vec::new(),
            state_dir,
            db_location: Some(db),
            min_token_lifetime,
            renew_before,
            node_token_lifetime,
            consent_lifetime,
            timeouts,
            retries,
            limits,
            vault,
            disable_notifications,
            dev_label,
            metrics,
            loki,
            traces,
            log_files,
            audit,
            notifications,
            uid_order,
            ferry,
            later: Vec::new(),
            values: Vec::new(),
        };
        let shared = Shared {
            top: &top,
            env: self.env,
            ssh: &ssh,
            ssh_files: ConfigFiles::read(self.env.home.as_deref(), self.env.ssh_config.as_deref()),
            known_hosts_given,
            min_token_lifetime,
            condor: mtk.child("condor", self.report),
            uids: &uids,
        };
        self.experiments(&shared, &mut site);
        site.later = self.later;
        site.later.sort_by_key(|k| k.at);
        site.values = self.values;
        site
    }

    fn check_environment(&mut self) {
        let nowhere = Position::default();
        if let Some(options) = &self.env.gettoken_opts
            && words::vault_server(options).is_none()
        {
            self.report.warn(
                nowhere,
                Env::GETTOKEN_OPTS,
                "the environment variable names no Vault server with -a",
                "what the file says is used; the Go service would run no service at all",
            );
        }
        if self.env.htgettoken_opts.is_some() {
            self.report.note(
                nowhere,
                Env::HTGETTOKENOPTS,
                "the environment variable is not used",
                "",
            );
        }
    }

    fn dev_label(&mut self) -> String {
        if let Some(label) = &self.env.dev_label {
            self.keep(
                "devEnvironmentLabel".into(),
                label,
                Origin::Environment(Env::DEV_LABEL),
            );
            return label.clone();
        }
        let top = self.top.clone();
        self.text(&top, "devEnvironmentLabel")
            .unwrap_or_else(|| "production".into())
    }

    fn keep(&mut self, path: String, value: impl Into<String>, origin: Origin) {
        self.values.push(Effective {
            key: path,
            value: value.into(),
            origin,
        });
    }

    /// A value that cannot be read is an error, and then the default holds.
    fn value<T: ToString>(
        &mut self,
        section: &Section<'t>,
        key: &str,
        convert: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let entry = section.get(key)?;
        let path = section.path_of(&entry.key);
        match convert(&entry.node.value) {
            Ok(value) => {
                self.keep(path, value.to_string(), Origin::File(entry.node.at));
                Some(value)
            }
            Err(why) => {
                self.report
                    .error(entry.node.at, &path, why, "until this is right the default holds");
                None
            }
        }
    }

    fn text(&mut self, section: &Section<'t>, key: &str) -> Option<String> {
        self.value(section, key, |v| Ok(section::text(v)?.trim().to_owned()))
            .filter(|t| !t.is_empty())
    }

    /// An address, which gets a scheme if it has none. Passwords in it are not among the values shown.
    fn address(&mut self, section: &Section<'t>, key: &str, scheme: &str) -> Option<String> {
        let read = |v: &Value| Ok(Address(section::text(v)?.trim().to_owned()));
        self.value(section, key, read)
            .filter(|address| !address.0.is_empty())
            .map(|address| address::with_scheme(address.0, scheme))
    }

    fn path(&mut self, section: &Section<'t>, key: &str) -> Option<PathBuf> {
        let text = self.text(section, key)?;
        Some(ssh::expand(&text, self.env.home.as_deref()).unwrap_or_else(|| text.into()))
    }

    fn span(&mut self, section: &Section<'t>, key: &str, default: Duration) -> Duration {
        match self.value(section, key, some_time) {
            Some(Shown(time)) => time,
            None => {
                self.keep(section.path_of(key), duration::show(default), Origin::Default);
                default
            }
        }
    }
}

/// A span that is not nothing.
fn some_time(value: &Value) -> Result<Shown, String> {
    match section::span(value)? {
        Duration::ZERO => Err("it must not be zero".to_owned()),
        time => Ok(Shown(time)),
    }
}

/// An address while it is read.
struct Address(String);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        address::Shown(&self.0).fmt(f)
    }
}

/// A span shown as the file would have it.
struct Shown(Duration);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&duration::show(self.0))
    }
}
