//! One role of one experiment, resolved into a service or into the reasons why it cannot be one.

mod condor;
mod identity;
mod nodes;
mod outputs;
mod peers;
mod reach;

use std::{collections::BTreeMap, time::Duration};

pub(crate) use condor::CONDOR_ADVICE;
pub(crate) use reach::{global_known_hosts, user_known_hosts};

use crate::{
    AcceptedKey, Effective, Env, Origin, Service, ServiceId, Ssh,
    finding::Reporter,
    keys,
    section::{self, Section, Unknown},
    ssh::ConfigFiles,
    tree::{Entry, Value},
};

/// What every role is read with.
pub(crate) struct Shared<'a, 't> {
    pub(crate) top: &'a Section<'t>,
    pub(crate) env: &'a Env,
    pub(crate) ssh: &'a Ssh,
    /// What `~/.ssh/config` and the system's say.
    pub(crate) ssh_files: ConfigFiles,
    /// Whether `mtk.ssh.knownHosts` was given: then `sshOptions` have no say in it.
    pub(crate) known_hosts_given: bool,
    pub(crate) min_token_lifetime: Duration,
    /// `mtk.condor`
    pub(crate) condor: Section<'t>,
    /// `mtk.uids.map`
    pub(crate) uids: &'a BTreeMap<String, u32>,
}

/// What is known of a role even if it cannot run: enough to keep its place among those that share a file.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) account: String,
    pub(crate) uid: Option<u32>,
    pub(crate) nodes: Vec<String>,
    pub(crate) marked: bool,
}

/// A role, read.
pub(crate) struct Read {
    pub(crate) claim: Claim,
    pub(crate) service: Option<Service>,
}

/// A value in effect for a role: its own override, or what the file says for all.
struct Setting<'t> {
    entry: &'t Entry,
    path: String,
    origin: Origin,
}

pub(crate) struct RoleReader<'a, 't> {
    shared: &'a Shared<'a, 't>,
    role: Section<'t>,
    experiment: Option<Section<'t>>,
    report: &'a mut Reporter,
    values: Vec<Effective>,
}

impl<'a, 't> RoleReader<'a, 't> {
    pub(crate) fn new(shared: &'a Shared<'a, 't>, role: Section<'t>, report: &'a mut Reporter) -> Self {
        Self {
            shared,
            role,
            experiment: None,
            report,
            values: Vec::new(),
        }
    }

    /// As part of an experiment that may say something for all its roles.
    pub(crate) fn within(mut self, experiment: &Section<'t>) -> Self {
        self.experiment = Some(experiment.clone());
        self
    }

    /// Reads the role. `issuer` is the experiment's name at HTCondor, its override applied.
    /// `experiment` is its section `condor`.
    pub(crate) fn read(
        mut self,
        id: ServiceId,
        issuer: &str,
        experiment: &Section<'t>,
        later: &mut Vec<AcceptedKey>,
    ) -> Read {
        self.role
            .check_keys(keys::ROLE, Unknown::Refuse, self.report, later);
        let at = self.role.at();
        let account = self.account();
        let name = self.name(&id, issuer);
        let principal = account.as_ref().and_then(|a| self.principal(a, &id));
        let keytab = self.keytab(account.as_deref().unwrap_or_default());
        let uid = self.uid(account.as_deref().unwrap_or_default());
        let vault_server = self.vault_server();
        let store = self.store();
        let condor = self.condor(experiment, later);
        if store && let Some(server) = &vault_server {
            self.check_trusted(server);
        }
        let credds = self.words("condorCreddHost").unwrap_or_default();
        let collectors = self.collectors(store && credds.is_empty());
        let schedd_constraint = self.constraint();
        let nodes = self.nodes();
        let role_file = self.role_file();
        let file_mode = self.file_mode(account.as_deref().unwrap_or_default(), uid);
        let (ssh, ssh_by_node) = self.ssh(&nodes, account.as_deref().unwrap_or_default());
        let disable_notifications = self.truth("disableNotifications").unwrap_or_default();
        let marked = self.marked();
        let scopes = name.as_ref().map(|name| self.scopes(name)).unwrap_or_default();
        let outputs = self.outputs(&nodes, file_mode);
        let claim = Claim {
            account: account.clone().unwrap_or_default(),
            uid,
            nodes: nodes.clone(),
            marked,
        };
        let service = match (account, name, principal, vault_server) {
            (Some(account), Some(name), Some(principal), Some(vault_server)) => Some(Service {
                id,
                at,
                name,
                account,
                credkey: principal.credkey().to_owned(),
                principal,
                keytab,
                uid,
                vault_server,
                collectors,
                schedd_constraint,
                condor,
                credds,
                store,
                nodes,
                role_file,
                file_mode,
                primary: false,
                marked_primary: marked,
                yields: BTreeMap::new(),
                disable_notifications,
                min_token_lifetime: self.shared.min_token_lifetime,
                ssh,
                ssh_by_node,
                scopes,
                outputs,
                values: Vec::new(),
            }),
            _ => None,
        };
        let service = service.map(|mut service| {
            self.check_role_file(&mut service);
            self.check_outputs(&service);
            service.values = self.values;
            service
        });
        Read { claim, service }
    }

    /// The value of a key for this role: the override if there is one, else what stands at the top.
    fn setting(&self, key: &str) -> Option<Setting<'t>> {
        let overridden = format!("{key}Override");
        if let Some(entry) = self.role.get(&overridden) {
            let origin = Origin::Override(entry.node.at);
            return Some(Setting {
                entry,
                path: self.role.path_of(&entry.key),
                origin,
            });
        }
        let entry = self.shared.top.get(key)?;
        Some(Setting {
            entry,
            path: entry.key.clone(),
            origin: Origin::File(entry.node.at),
        })
    }

    fn keep(&mut self, key: &str, value: impl Into<String>, origin: Origin) {
        self.values.push(Effective {
            key: key.to_owned(),
            value: value.into(),
            origin,
        });
    }

    fn missing(&mut self, key: &str, message: &str, advice: &str) {
        let (at, path) = (self.role.at(), self.role.path_of(key));
        self.report.refuse(at, &path, message, advice);
    }

    /// A setting made into `T`; one that cannot be stops the service.
    fn convert<T>(
        &mut self,
        key: &str,
        convert: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<(T, Setting<'t>)> {
        let setting = self.setting(key)?;
        match convert(&setting.entry.node.value) {
            Ok(value) => Some((value, setting)),
            Err(why) => {
                self.report.refuse(setting.entry.node.at, &setting.path, why, "");
                None
            }
        }
    }

    /// Text that is not empty.
    fn text(&mut self, key: &str) -> Option<(String, Setting<'t>)> {
        let (text, setting) = self.convert(key, section::text)?;
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some((text, setting))
    }

    fn words(&mut self, key: &str) -> Option<Vec<String>> {
        let (list, setting) = self.convert(key, section::list)?;
        let list: Vec<String> = list
            .into_iter()
            .map(|(w, _)| w)
            .filter(|w| !w.is_empty())
            .collect();
        if list.is_empty() {
            return None;
        }
        self.keep(key, list.join(","), setting.origin);
        Some(list)
    }

    fn truth(&mut self, key: &str) -> Option<bool> {
        let (value, setting) = self.convert(key, section::boolean)?;
        self.keep(key, value.to_string(), setting.origin);
        Some(value)
    }
}
