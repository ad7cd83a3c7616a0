//! One role of one experiment, resolved into a service or into the reasons why it cannot be one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use credential::{Principal, ServiceName};

use crate::{
    AcceptedKey, Effective, Env, Origin, Service, ServiceId, Ssh,
    copier::{self, DEFAULT_MODE},
    duration,
    finding::Reporter,
    keys,
    section::{self, Section, Unknown},
    ssh,
    template::{Field, Template},
    tree::{Entry, Position, Value},
    words,
};

const DEFAULT_KEYTABS: &str = "/opt/managed-tokens/keytabs";
const DEFAULT_ROLE_FILE: &str = "/tmp/default_role_{{.Experiment}}_{{.DesiredUID}}";

/// What every role is read with.
pub(crate) struct Shared<'a, 't> {
    pub(crate) top: &'a Section<'t>,
    pub(crate) env: &'a Env,
    pub(crate) ssh: &'a Ssh,
    /// Whether `mtk.ssh.knownHosts` was given: then `sshOptions` have no say in it.
    pub(crate) known_hosts_given: bool,
    pub(crate) min_token_lifetime: Duration,
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
    report: &'a mut Reporter,
    values: Vec<Effective>,
}

impl<'a, 't> RoleReader<'a, 't> {
    pub(crate) fn new(shared: &'a Shared<'a, 't>, role: Section<'t>, report: &'a mut Reporter) -> Self {
        Self {
            shared,
            role,
            report,
            values: Vec::new(),
        }
    }

    /// Reads the role. `issuer` is the experiment's name at HTCondor, its override applied.
    pub(crate) fn read(mut self, id: ServiceId, issuer: &str, later: &mut Vec<AcceptedKey>) -> Read {
        self.role
            .check_keys(keys::ROLE, Unknown::Refuse, self.report, later);
        let at = self.role.at();
        let account = self.account();
        let name = self.name(&id, issuer);
        let principal = account.as_ref().and_then(|a| self.principal(a, &id));
        let keytab = self.keytab(account.as_deref().unwrap_or_default());
        let uid = self.uid();
        let vault_server = self.vault_server();
        let store = self.store();
        let credds = self.words("condorCreddHost").unwrap_or_default();
        let collectors = self.collectors(store && credds.is_empty());
        let schedd_constraint = self.constraint();
        let nodes = self.nodes();
        let role_file = self.role_file();
        let file_mode = self.file_mode();
        let ssh = self.ssh();
        let disable_notifications = self.truth("disableNotifications").unwrap_or_default();
        let marked = self.marked();
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
                values: Vec::new(),
            }),
            _ => None,
        };
        let service = service.map(|mut service| {
            self.check_role_file(&mut service);
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

    fn account(&mut self) -> Option<String> {
        let Some(entry) = self.role.get("account") else {
            self.missing(
                "account",
                "there is no account",
                "name the UNIX account the robot serves",
            );
            return None;
        };
        let path = self.role.path_of(&entry.key);
        let checked = section::text(&entry.node.value).and_then(|a| {
            if is_account(&a) {
                Ok(a)
            } else {
                Err(format!("{a:?} is not the name of an account"))
            }
        });
        match checked {
            Ok(account) => {
                self.keep("account", &account, Origin::File(entry.node.at));
                Some(account)
            }
            Err(why) => {
                self.report.refuse(entry.node.at, &path, why, "");
                None
            }
        }
    }

    fn name(&mut self, id: &ServiceId, issuer: &str) -> Option<ServiceName> {
        let role = id.role.to_lowercase();
        match ServiceName::new(issuer, &role) {
            Ok(name) => Some(name),
            Err(error) => {
                let (at, path) = (self.role.at(), self.role.path_of(""));
                let advice = "rename it, or give the experiment an experimentOverride";
                self.report
                    .refuse(at, path.trim_end_matches('.'), error.to_string(), advice);
                None
            }
        }
    }

    fn principal(&mut self, account: &str, id: &ServiceId) -> Option<Principal> {
        let (text, setting) = match self.role.get("userPrincipalOverride") {
            Some(_) => self.text("userPrincipal")?,
            None => {
                let Some((pattern, setting)) = self.text("kerberosPrincipalPattern") else {
                    self.missing(
                        "userPrincipalOverride",
                        "there is no principal: the file has no kerberosPrincipalPattern either",
                        "write kerberosPrincipalPattern: \"{{.Account}}/managedtokens/<host>@<REALM>\" at the top",
                    );
                    return None;
                };
                match self.fill(&pattern, account, id) {
                    Ok(text) => (text, setting),
                    Err(why) => {
                        self.report.refuse(setting.entry.node.at, &setting.path, why, "");
                        return None;
                    }
                }
            }
        };
        match text.parse::<Principal>() {
            Ok(principal) => {
                self.keep("principal", principal.to_string(), setting.origin);
                Some(principal)
            }
            Err(error) => {
                let advice = "the realm has to be written: name/part@REALM";
                self.report
                    .refuse(setting.entry.node.at, &setting.path, error.to_string(), advice);
                None
            }
        }
    }

    fn fill(&self, pattern: &str, account: &str, id: &ServiceId) -> Result<String, String> {
        let template = Template::parse(pattern)?;
        for field in [
            Field::DesiredUid,
            Field::Name,
            Field::UserPrincipal,
            Field::KeytabPath,
            Field::VaultServer,
        ] {
            if template.names(field) {
                return Err("a principal may be made of .Account, .Experiment and .Role only".into());
            }
        }
        let (experiment, role) = (id.experiment.to_lowercase(), id.role.to_lowercase());
        Ok(template.render(|field| match field {
            Field::Experiment => &experiment,
            Field::Role => &role,
            _ => account,
        }))
    }

    fn keytab(&mut self, account: &str) -> PathBuf {
        let home = self.shared.env.home.as_deref();
        let (path, origin) = match self.text("keytabPath") {
            // an override is the file itself, the key at the top the directory it lies in
            Some((
                file,
                Setting {
                    origin: origin @ Origin::Override(_),
                    ..
                },
            )) => (PathBuf::from(file), origin),
            Some((dir, setting)) => (Path::new(&dir).join(format!("{account}.keytab")), setting.origin),
            None => (
                Path::new(DEFAULT_KEYTABS).join(format!("{account}.keytab")),
                Origin::Default,
            ),
        };
        let path = ssh::expand(&path.to_string_lossy(), home).unwrap_or(path);
        self.keep("keytab", path.to_string_lossy(), origin);
        path
    }

    fn uid(&mut self) -> Option<u32> {
        // unlike the other overrides this one has nothing at the top of the file to override
        let entry = self.role.get("desiredUIDOverride")?;
        let path = self.role.path_of(&entry.key);
        match section::count(&entry.node.value) {
            Ok(uid) if uid != 0 && uid != u32::MAX => {
                self.keep("uid", uid.to_string(), Origin::Override(entry.node.at));
                Some(uid)
            }
            Ok(uid) => {
                self.report
                    .refuse(entry.node.at, &path, format!("uid {uid} is not an account's"), "");
                None
            }
            Err(why) => {
                self.report.refuse(entry.node.at, &path, why, "");
                None
            }
        }
    }

    fn vault_server(&mut self) -> Option<String> {
        if let Some(options) = &self.shared.env.gettoken_opts {
            let server = words::split(options)
                .ok()
                .and_then(|w| words::flag(&w, 'a', "vaultserver"));
            if let Some(server) = server {
                self.keep("vaultServer", &server, Origin::Environment(Env::GETTOKEN_OPTS));
                return Some(server);
            }
        }
        let Some((server, setting)) = self.text("vaultServer") else {
            self.missing(
                "vaultServer",
                "there is no Vault server",
                "write vaultServer at the top; HTCondor's own configuration is not asked for it",
            );
            return None;
        };
        if server.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.report.refuse(
                setting.entry.node.at,
                &setting.path,
                "a host name holds no blanks",
                "",
            );
            return None;
        }
        self.keep("vaultServer", &server, setting.origin);
        Some(server)
    }

    fn store(&mut self) -> bool {
        let Some(entry) = self.role.get("tokenGetterOverride") else {
            return true;
        };
        let path = self.role.path_of(&entry.key);
        let store = match section::text(&entry.node.value).as_deref() {
            Ok("getToken") => false,
            Ok("storeAndGetToken") => true,
            Ok(other) => {
                let why = format!("{other:?} is neither storeAndGetToken nor getToken");
                self.report.refuse(entry.node.at, &path, why, "");
                true
            }
            Err(why) => {
                self.report.refuse(entry.node.at, &path, why.clone(), "");
                true
            }
        };
        self.keep(
            "tokenGetter",
            if store { "storeAndGetToken" } else { "getToken" },
            Origin::Override(entry.node.at),
        );
        store
    }

    fn collectors(&mut self, needed: bool) -> Vec<String> {
        let found = self.words("condorCollectorHost");
        if found.is_none() && needed {
            self.missing(
                "condorCollectorHost",
                "there is neither a collector to ask for credds nor a condorCreddHost",
                "write condorCollectorHost at the top",
            );
        }
        found.unwrap_or_default()
    }

    fn constraint(&mut self) -> Option<String> {
        let (text, setting) = self.text("condorScheddConstraint")?;
        self.keep("condorScheddConstraint", &text, setting.origin);
        Some(text)
    }

    fn nodes(&mut self) -> Vec<String> {
        let Some(entry) = self.role.get("destinationNodes") else {
            return Vec::new();
        };
        let path = self.role.path_of(&entry.key);
        let list = match section::list(&entry.node.value) {
            Ok(list) => list,
            Err(why) => {
                self.report.refuse(entry.node.at, &path, why, "");
                return Vec::new();
            }
        };
        let mut nodes: Vec<String> = Vec::new();
        for (node, at) in list {
            let at = at.unwrap_or(entry.node.at);
            if !is_host(&node) {
                self.report
                    .refuse(at, &path, format!("{node:?} is not the name of a host"), "");
            } else if nodes.contains(&node) {
                self.report.warn(at, &path, format!("{node} is named twice"), "");
            } else {
                nodes.push(node);
            }
        }
        self.keep("destinationNodes", nodes.join(","), Origin::File(entry.node.at));
        nodes
    }

    fn role_file(&mut self) -> Option<Template> {
        let (text, at, path, origin) = match self.text("defaultRoleFileDestinationTemplate") {
            Some((text, s)) => (text, s.entry.node.at, s.path, s.origin),
            None => (
                DEFAULT_ROLE_FILE.into(),
                Position::default(),
                String::new(),
                Origin::Default,
            ),
        };
        match Template::parse(&text) {
            Ok(template) => {
                self.keep("defaultRoleFileDestinationTemplate", text, origin);
                Some(template)
            }
            Err(why) => {
                // as with the Go service: without it the tokens still go out
                self.report.error(
                    at,
                    &path,
                    why,
                    "until this is right no default-role file is pushed",
                );
                None
            }
        }
    }

    /// A path is judged once everything that may be part of it is known.
    fn check_role_file(&mut self, service: &mut Service) {
        let Some(template) = &service.role_file else {
            return;
        };
        let path = service.role_file_path(template, "1");
        if is_file_path(&path) {
            return;
        }
        let (at, key) = match self.setting("defaultRoleFileDestinationTemplate") {
            Some(s) => (s.entry.node.at, s.path),
            None => (self.role.at(), self.role.path_of("")),
        };
        let advice = "until this is right no default-role file is pushed";
        self.report.error(
            at,
            &key,
            format!("{path:?} is not an absolute path of a file"),
            advice,
        );
        service.role_file = None;
    }

    fn file_mode(&mut self) -> u32 {
        let Some((text, setting)) = self.text("fileCopierOptions") else {
            self.keep("fileMode", format!("{DEFAULT_MODE:04o}"), Origin::Default);
            return DEFAULT_MODE;
        };
        let at = setting.entry.node.at;
        let copier = match copier::parse(&text) {
            Ok(copier) => copier,
            Err(why) => {
                self.report.error(
                    at,
                    &setting.path,
                    format!("these options cannot be split: {why}"),
                    "",
                );
                return DEFAULT_MODE;
            }
        };
        for word in &copier.unsupported {
            self.report.warn(
                at,
                &setting.path,
                format!("{word} means nothing here: files go by SFTP, not rsync"),
                "",
            );
        }
        if let Some(why) = copier.bad {
            let advice = format!("files are written with mode {DEFAULT_MODE:04o}");
            self.report.error(at, &setting.path, why, advice);
        }
        let (mode, origin) = match copier.mode {
            Some(mode) => (mode, setting.origin),
            None => (DEFAULT_MODE, Origin::Default),
        };
        self.keep("fileMode", format!("{mode:04o}"), origin);
        mode
    }

    fn ssh(&mut self) -> Ssh {
        let mut ssh = self.shared.ssh.clone();
        if let Some((text, setting)) = self.text("sshOptions") {
            self.apply_ssh_options(&text, &setting, &mut ssh);
            self.keep("sshOptions", text, setting.origin);
        }
        let show = |paths: &[PathBuf]| {
            paths
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(",")
        };
        let shown = format!(
            "port={} connectTimeout={} knownHosts={} identityFiles={}",
            ssh.port,
            duration::show(ssh.connect_timeout),
            show(&ssh.known_hosts),
            show(&ssh.identity_files),
        );
        self.keep("ssh", shown, Origin::Default);
        ssh
    }

    fn apply_ssh_options(&mut self, text: &str, setting: &Setting<'t>, ssh: &mut Ssh) {
        let at = setting.entry.node.at;
        let options = match ssh::parse(text, self.shared.env.home.as_deref()) {
            Ok(options) => options,
            Err(why) => {
                self.report.refuse(
                    at,
                    &setting.path,
                    format!("these options cannot be split: {why}"),
                    "",
                );
                return;
            }
        };
        for complaint in options.complaints {
            if complaint.grave {
                self.report
                    .warn(at, &setting.path, complaint.message, complaint.advice);
            } else {
                self.report
                    .note(at, &setting.path, complaint.message, complaint.advice);
            }
        }
        ssh.port = options.port.unwrap_or(ssh.port);
        ssh.connect_timeout = options.connect_timeout.unwrap_or(ssh.connect_timeout);
        if !options.identity_files.is_empty() {
            ssh.identity_files = options.identity_files;
        }
        let asked = options.user_known_hosts.is_some() || options.global_known_hosts.is_some();
        if asked && !self.shared.known_hosts_given {
            let home = self.shared.env.home.as_deref();
            let mut files = options.user_known_hosts.unwrap_or_else(|| user_known_hosts(home));
            files.extend(options.global_known_hosts.unwrap_or_else(global_known_hosts));
            ssh.known_hosts = files;
        }
    }

    fn marked(&mut self) -> bool {
        let Some(entry) = self.role.get("primary") else {
            return false;
        };
        let path = self.role.path_of(&entry.key);
        match section::boolean(&entry.node.value) {
            Ok(marked) => {
                self.keep("primary", marked.to_string(), Origin::File(entry.node.at));
                marked
            }
            Err(why) => {
                self.report.refuse(entry.node.at, &path, why, "");
                false
            }
        }
    }
}

/// Where OpenSSH looks for the user's known hosts.
pub(crate) fn user_known_hosts(home: Option<&Path>) -> Vec<PathBuf> {
    home.map(|h| vec![h.join(".ssh/known_hosts"), h.join(".ssh/known_hosts2")])
        .unwrap_or_default()
}

/// Where OpenSSH looks for the machine's known hosts.
pub(crate) fn global_known_hosts() -> Vec<PathBuf> {
    vec![
        "/etc/ssh/ssh_known_hosts".into(),
        "/etc/ssh/ssh_known_hosts2".into(),
    ]
}

fn is_account(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_host(text: &str) -> bool {
    text.len() <= 253
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b))
}

fn is_file_path(text: &str) -> bool {
    text.len() <= 1024
        && text.starts_with('/')
        && !text.ends_with('/')
        && !text.chars().any(char::is_control)
        && text
            .split('/')
            .skip(1)
            .all(|part| !part.is_empty() && part != "." && part != "..")
}
