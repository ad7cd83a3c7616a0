//! From the tree to the plan: what the file says for all, then each role.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    AcceptedKey, Broken, Effective, Env, Limits, Origin, Retries, Retry, ServiceId, Site, Ssh, Timeouts,
    Transport, Vault, duration,
    finding::Reporter,
    keys,
    owners::{self, Claimant},
    role::{self, RoleReader, Shared},
    section::{self, Section, Unknown},
    ssh,
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

    pub(crate) fn build(mut self, path: &Path) -> Site {
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
        let limits = self.limits(&mtk);
        let vault = self.vault(&mtk);
        let state_dir = self.path(&mtk, "stateDirectory");
        let db = self.path(&top, "dbLocation").unwrap_or_else(|| DEFAULT_DB.into());
        let disable_notifications = self
            .value(&top, "disableNotifications", section::boolean)
            .unwrap_or_default();
        let mut site = Site {
            path: path.to_owned(),
            services: Vec::new(),
            broken: Vec::new(),
            state_dir,
            db_location: Some(db),
            min_token_lifetime,
            renew_before,
            node_token_lifetime,
            timeouts,
            retries,
            limits,
            vault,
            disable_notifications,
            later: Vec::new(),
            values: Vec::new(),
        };
        let shared = Shared {
            top: &top,
            env: self.env,
            ssh: &ssh,
            known_hosts_given,
            min_token_lifetime,
        };
        self.experiments(&shared, &mut site);
        site.later = self.later;
        site.later.sort_by_key(|k| (k.line, k.column));
        site.values = self.values;
        site
    }

    fn check_environment(&mut self) {
        let nowhere = Position::default();
        if let Some(options) = &self.env.gettoken_opts {
            let server = words::split(options)
                .ok()
                .and_then(|w| words::flag(&w, 'a', "vaultserver"));
            if server.is_none() {
                self.report.warn(
                    nowhere,
                    Env::GETTOKEN_OPTS,
                    "the environment variable names no Vault server with -a",
                    "what the file says is used; the Go service would run no service at all",
                );
            }
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

    fn path(&mut self, section: &Section<'t>, key: &str) -> Option<PathBuf> {
        let text = self.text(section, key)?;
        Some(ssh::expand(&text, self.env.home.as_deref()).unwrap_or_else(|| text.into()))
    }

    fn span(&mut self, section: &Section<'t>, key: &str, default: Duration) -> Duration {
        let read = |v: &Value| match section::span(v)? {
            Duration::ZERO => Err("it must not be zero".to_owned()),
            time => Ok(Shown(time)),
        };
        match self.value(section, key, read) {
            Some(Shown(time)) => time,
            None => {
                self.keep(section.path_of(key), duration::show(default), Origin::Default);
                default
            }
        }
    }

    fn timeouts(&mut self) -> Timeouts {
        let section = self.top.child("timeouts", self.report);
        let default = Timeouts::default();
        let mut one = |key: &str, default| {
            let short = key.trim_end_matches("Timeout");
            // the Go service strips the word, so both forms count
            let key = if section.get(key).is_none() && section.get(short).is_some() {
                short
            } else {
                key
            };
            self.span(&section, key, default)
        };
        let timeouts = Timeouts {
            global: one("globalTimeout", default.global),
            kerberos: one("kerberosTimeout", default.kerberos),
            vault_storer: one("vaultStorerTimeout", default.vault_storer),
            ping: one("pingTimeout", default.ping),
            push: one("pushTimeout", default.push),
        };
        let sum = timeouts.kerberos + timeouts.vault_storer + timeouts.ping + timeouts.push;
        if sum > timeouts.global {
            self.report.note(
                section.at(),
                "timeouts",
                format!(
                    "the steps' timeouts sum up to {}, more than globalTimeout {}",
                    duration::show(sum),
                    duration::show(timeouts.global)
                ),
                "fine here, where steps run side by side; the Go service would not start",
            );
        }
        timeouts
    }

    fn retries(&mut self, timeouts: &Timeouts) -> Retries {
        let section = self.top.child("workerType", self.report);
        Retries {
            kerberos: self.retry(&section, "getKerberosTickets", timeouts.kerberos),
            get_token: self.retry(&section, "getToken", timeouts.vault_storer),
            store: self.retry(&section, "storeAndGetToken", timeouts.vault_storer),
            push: self.retry(&section, "pushTokens", timeouts.push),
        }
    }

    /// The Go service runs without any retry once pauses and timeout do not fit, as they do not in its own sample
    /// file; here the pause gives way.
    fn retry(&mut self, types: &Section<'t>, step: &str, timeout: Duration) -> Retry {
        let section = types.child(step, self.report);
        let retries = self
            .value(&section, "numRetries", section::count)
            .unwrap_or_default();
        let pause = self
            .value(&section, "retrySleep", |v| section::span(v).map(Shown))
            .map_or(Duration::ZERO, |s| s.0);
        let retries = if retries > 100 {
            self.report.warn(
                section.at(),
                &section.path_of("numRetries"),
                "more than 100 tries are not made",
                "",
            );
            100
        } else {
            retries
        };
        if retries == 0 || pause.saturating_mul(retries) < timeout {
            return Retry { retries, pause };
        }
        let shorter = timeout / (retries + 1);
        self.report.warn(
            section.at(),
            &section.path_of("retrySleep"),
            format!(
                "{retries} pauses of {} do not fit into the step's timeout of {}: pauses are shortened to {}",
                duration::show(pause),
                duration::show(timeout),
                duration::show(shorter)
            ),
            "lengthen the timeout or shorten the pause; the Go service runs without any retry then",
        );
        Retry {
            retries,
            pause: shorter,
        }
    }

    fn node_token_lifetime(&mut self, mtk: &Section<'t>, minimum: Duration) -> Duration {
        let limit = Duration::from_secs(credential::NODE_TOKEN_LIMIT.unsigned_abs());
        let node = mtk.child("node", self.report);
        let at = node.get("tokenLifetime").map_or(node.at(), |e| e.node.at);
        let path = "mtk.node.tokenLifetime";
        let mut life = self.span(&node, "tokenLifetime", DAY * 7);
        if life > limit {
            let message = format!(
                "a Vault token in a file may live {} at the most",
                duration::show(limit)
            );
            self.report
                .error(at, path, message, "until this is right 7d holds");
            life = DAY * 7;
        }
        if minimum >= life {
            let message = format!(
                "a token that lives {} would always be below minTokenLifetime {} and renewed by every run",
                duration::show(life),
                duration::show(minimum)
            );
            self.report.error(at, path, message, "lower minTokenLifetime");
        }
        life
    }

    fn limits(&mut self, mtk: &Section<'t>) -> Limits {
        let section = mtk.child("limits", self.report);
        let default = Limits::default();
        let mut one = |key: &str, default: usize| {
            let read = |v: &Value| match section::count(v)? {
                0 => Err("it must not be zero".to_owned()),
                n => Ok(n),
            };
            match self.value(&section, key, read) {
                Some(n) => usize::try_from(n).unwrap_or(usize::MAX).min(10_000),
                None => {
                    self.keep(format!("mtk.limits.{key}"), default.to_string(), Origin::Default);
                    default
                }
            }
        };
        let limits = Limits {
            vault_concurrency: one("vaultConcurrency", default.vault_concurrency),
            credd_concurrency: one("creddConcurrency", default.credd_concurrency),
            node_concurrency: one("nodeConcurrency", default.node_concurrency),
            per_node: one("perNode", default.per_node),
        };
        if limits.per_node >= 10 {
            self.report.warn(
                section.get("perNode").map_or(section.at(), |e| e.node.at),
                "mtk.limits.perNode",
                "sshd begins to drop connections at 10 that are not yet authenticated (MaxStartups 10:30:100)",
                "stay below, unless the nodes allow more",
            );
        }
        limits
    }

    fn vault(&mut self, mtk: &Section<'t>) -> Vault {
        let section = mtk.child("vault", self.report);
        Vault {
            ca_file: self.path(&section, "caFile"),
            ca_dir: self.path(&section, "caDir"),
            alias: self.text(&section, "alias"),
            certificate_name: self.text(&section, "certificateName"),
        }
    }

    fn ssh(&mut self, mtk: &Section<'t>) -> (Ssh, bool) {
        let section = mtk.child("ssh", self.report);
        let home = self.env.home.as_deref();
        let known_hosts = self.paths(&section, "knownHosts");
        let given = known_hosts.is_some();
        let known_hosts = known_hosts.unwrap_or_else(|| {
            let mut all = role::user_known_hosts(home);
            all.extend(role::global_known_hosts());
            existing(all, "/etc/ssh/ssh_known_hosts")
        });
        let identity_files = self
            .paths(&section, "identityFiles")
            .or_else(|| self.paths(&section, "identityFile"))
            .unwrap_or_else(|| default_identities(home));
        let transport = self.transport(&section);
        let ssh = Ssh {
            port: 22,
            known_hosts,
            identity_files,
            connect_timeout: Duration::from_secs(30),
            transport,
        };
        (ssh, given)
    }

    fn transport(&mut self, section: &Section<'t>) -> Transport {
        let Some(entry) = section.get("transport") else {
            return Transport::Auto;
        };
        let path = section.path_of(&entry.key);
        let text = section::text(&entry.node.value).unwrap_or_default();
        match text.as_str() {
            "auto" => return Transport::Auto,
            "libssh2" => return Transport::Libssh2,
            "russh" => return Transport::Russh,
            "openssh" => {
                self.report.error(
                    entry.node.at,
                    &path,
                    "openssh is not available in this version",
                    "auto is used",
                );
            }
            other => {
                let message = format!("{other:?} is none of auto, libssh2, russh");
                self.report.error(entry.node.at, &path, message, "auto is used");
            }
        }
        Transport::Auto
    }

    /// A list of paths. Unlike other lists a text is one path: paths may hold blanks and commas.
    fn paths(&mut self, section: &Section<'t>, key: &str) -> Option<Vec<PathBuf>> {
        let home = self.env.home.clone();
        let read = |v: &Value| -> Result<Paths, String> {
            let texts = match v {
                Value::List(items) => items
                    .iter()
                    .map(|i| section::text(&i.value))
                    .collect::<Result<_, _>>()?,
                other => vec![section::text(other)?],
            };
            let resolve =
                |t: String| ssh::expand(&t, home.as_deref()).ok_or(format!("{t:?} cannot be resolved"));
            Ok(Paths(texts.into_iter().map(resolve).collect::<Result<_, _>>()?))
        };
        self.value(section, key, read).map(|p| p.0)
    }

    fn experiments(&mut self, shared: &Shared<'_, 't>, site: &mut Site) {
        let experiments = self.top.child("experiments", self.report);
        if experiments.entries().is_empty() {
            self.report.warn(
                self.top.at(),
                "experiments",
                "there is no service in this file",
                "",
            );
        }
        let mut claimants = Vec::new();
        let mut seen: BTreeMap<String, ()> = BTreeMap::new();
        for entry in experiments.entries() {
            let twice = seen.insert(entry.key.to_lowercase(), ()).is_some();
            let Some(experiment) = experiments.below(entry, self.report) else {
                continue;
            };
            if twice {
                let message = "the experiment stands in the file twice, in another case";
                self.report.refuse(
                    entry.at,
                    &experiments.path_of(&entry.key),
                    message,
                    "rename one of them",
                );
            }
            experiment.check_keys(keys::EXPERIMENT, Unknown::Refuse, self.report, &mut self.later);
            let name = entry.key.as_str();
            let issuer = self.issuer(&experiment, name);
            let reasons = self.report.take_refusals();
            let roles = experiment.child("roles", self.report);
            if roles.entries().is_empty() {
                self.report.warn(
                    entry.at,
                    &experiment.path_of("roles"),
                    "the experiment has no role",
                    "",
                );
            }
            for (index, entry) in roles.entries().iter().enumerate() {
                let id = ServiceId {
                    experiment: name.to_owned(),
                    role: entry.key.clone(),
                };
                let mut reasons = reasons.clone();
                let twice = roles
                    .entries()
                    .iter()
                    .take(index)
                    .any(|e| e.key.to_lowercase() == entry.key.to_lowercase());
                if twice {
                    let message = "the role stands in the experiment twice, in another case";
                    self.report.refuse(
                        entry.at,
                        &roles.path_of(&entry.key),
                        message,
                        "rename one of them",
                    );
                }
                let Some(section) = roles.below(entry, self.report) else {
                    reasons.push(format!("{}: it is not a map", roles.path_of(&entry.key)));
                    site.broken.push(Broken {
                        id,
                        at: entry.at,
                        reason: reasons.join("; "),
                    });
                    continue;
                };
                let read =
                    RoleReader::new(shared, section, self.report).read(id.clone(), &issuer, &mut self.later);
                reasons.extend(self.report.take_refusals());
                let service = match read.service {
                    Some(service) if reasons.is_empty() => {
                        self.note_case(&service);
                        site.services.push(service);
                        Some(site.services.len() - 1)
                    }
                    _ => {
                        site.broken.push(Broken {
                            id,
                            at: entry.at,
                            reason: reasons.join("; "),
                        });
                        None
                    }
                };
                claimants.push(Claimant {
                    claim: read.claim,
                    service,
                });
            }
        }
        owners::assign(&mut site.services, &claimants, self.report);
    }

    fn issuer(&mut self, experiment: &Section<'t>, key: &str) -> String {
        let Some(entry) = experiment.get("experimentOverride") else {
            return key.to_lowercase();
        };
        let path = experiment.path_of(&entry.key);
        match section::text(&entry.node.value) {
            Ok(text) if text.trim().is_empty() => key.to_lowercase(),
            Ok(text) => text.trim().to_owned(),
            Err(why) => {
                self.report.refuse(entry.node.at, &path, why, "");
                key.to_lowercase()
            }
        }
    }

    fn note_case(&mut self, service: &crate::Service) {
        let written = service.id.to_string();
        if written != written.to_lowercase() {
            self.report.note(
                service.at,
                &written,
                format!("at HTCondor and Vault this is {}", service.name),
                "the Go service reads experiments and roles in lower case, and so does mtk",
            );
        }
    }
}

/// Those that are there; if none is, the one an error should name.
fn existing(all: Vec<PathBuf>, otherwise: &str) -> Vec<PathBuf> {
    let found: Vec<PathBuf> = all.into_iter().filter(|p| p.is_file()).collect();
    if found.is_empty() {
        vec![otherwise.into()]
    } else {
        found
    }
}

fn default_identities(home: Option<&Path>) -> Vec<PathBuf> {
    let names = ["id_ed25519", "id_ecdsa", "id_rsa"];
    let ssh = home.map(|h| h.join(".ssh"));
    ssh.iter()
        .flat_map(|dir| names.iter().map(move |n| dir.join(n)))
        .filter(|p| p.is_file())
        .collect()
}

/// A span shown as the file would have it.
struct Shown(Duration);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&duration::show(self.0))
    }
}

struct Paths(Vec<PathBuf>);

impl std::fmt::Display for Paths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}", path.display())?;
        }
        Ok(())
    }
}
