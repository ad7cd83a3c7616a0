//! Where its files go and how they get there: nodes, paths, modes, SSH.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::RoleReader;
use crate::{
    Checking, Origin, Service, Severity, Ssh,
    copier::{self, DEFAULT_MODE},
    duration, section,
    ssh::{self, Complaint, ConfigFiles, SshOptions, Target},
    template::Template,
    tree::Position,
};

const DEFAULT_ROLE_FILE: &str = "/tmp/default_role_{{.Experiment}}_{{.DesiredUID}}";

impl<'t> RoleReader<'_, 't> {
    pub(super) fn nodes(&mut self) -> Vec<String> {
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

    pub(super) fn role_file(&mut self) -> Option<Template> {
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
    pub(super) fn check_role_file(&mut self, service: &mut Service) {
        let Some(template) = &service.role_file else {
            return;
        };
        let why = match service.role_file_path(template, "1") {
            Ok(path) if is_file_path(&path) => return,
            Ok(path) => format!("{path:?} is not an absolute path of a file"),
            Err(why) => why,
        };
        let (at, key) = match self.setting("defaultRoleFileDestinationTemplate") {
            Some(s) => (s.entry.node.at, s.path),
            None => (self.role.at(), self.role.path_of("")),
        };
        let advice = "until this is right no default-role file is pushed";
        self.report.error(at, &key, why, advice);
        service.role_file = None;
    }

    pub(super) fn file_mode(&mut self, account: &str, uid: Option<u32>) -> u32 {
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
        if let Some((user, group)) = &copier.owner {
            // whoever logs in owns what it writes; only root could give it away
            let own = user.is_empty() || user == account || uid.is_some_and(|uid| *user == uid.to_string());
            if !own || !group.is_empty() {
                let message = format!(
                    "the files belong to {account} and its group: another owner ({user}:{group}) is not supported"
                );
                self.report.error(
                    at,
                    &setting.path,
                    message,
                    "leave --chown out, or name the account alone",
                );
            }
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

    /// How nodes are reached: all of them, and those of which the ssh configuration says something of its own.
    pub(super) fn ssh(&mut self, nodes: &[String], account: &str) -> (Ssh, BTreeMap<String, Ssh>) {
        let (mut options, mut origin, mut at, mut path) = (
            SshOptions::default(),
            Origin::Default,
            self.role.at(),
            String::new(),
        );
        if let Some((text, setting)) = self.text("sshOptions") {
            (at, path) = (setting.entry.node.at, setting.path.clone());
            match ssh::parse(&text) {
                Ok(read) => options = read,
                Err(why) => {
                    let message = format!("these options cannot be split: {why}");
                    self.report.refuse(at, &path, message, "");
                }
            }
            origin = setting.origin.clone();
            self.keep("sshOptions", text, setting.origin);
        }
        let home = self.shared.env.home.as_deref();
        let only;
        let none = ConfigFiles::default();
        let files = match options.config_file.as_deref() {
            None => &self.shared.ssh_files,
            Some(none_word) if none_word.eq_ignore_ascii_case("none") => &none,
            Some(file) => {
                only = ConfigFiles::only(&ssh::expand(file, home).unwrap_or_else(|| file.into()), home);
                &only
            }
        };
        let target = |host| Target {
            host,
            user: account,
            home,
        };
        let mut complaints: Vec<Complaint> = Vec::new();
        let mut settle = |mut options: SshOptions, target: Target<'_>| {
            let ssh = self.shared.reach(&mut options, target);
            for complaint in options.complaints {
                if !complaints.contains(&complaint) {
                    complaints.push(complaint);
                }
            }
            ssh
        };
        let all = settle(options.clone(), target(""));
        let (mut by_node, mut from_files) = (BTreeMap::new(), BTreeSet::new());
        for node in nodes {
            let own = &options;
            let mut options = own.clone();
            files.apply(&mut options, target(node));
            if options != *own {
                from_files.insert(node.clone());
            }
            let ssh = settle(options, target(node));
            if ssh != all {
                by_node.insert(node.clone(), ssh);
            }
        }
        for complaint in complaints {
            let severity = if complaint.grave {
                Severity::Warning
            } else {
                Severity::Note
            };
            let Complaint { message, advice, .. } = complaint;
            let Some(place) = complaint.place else {
                self.report.say(severity, at, &path, message, advice);
                continue;
            };
            let prefix = format!("{}:{}: ", place.file.display(), place.line);
            let message = message.strip_prefix(&prefix).unwrap_or(&message);
            self.report
                .elsewhere(severity, place.file, place.line, message, advice);
        }
        self.keep("ssh", shown(&all), origin.clone());
        for (node, ssh) in &by_node {
            let origin = if from_files.contains(node) {
                Origin::Ssh
            } else {
                origin.clone()
            };
            self.keep(&format!("ssh on {node}"), shown(ssh), origin);
        }
        (all, by_node)
    }

    pub(super) fn marked(&mut self) -> bool {
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

fn shown(ssh: &Ssh) -> String {
    let list = |paths: &[PathBuf]| {
        let all: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        all.join(",")
    };
    let mut text = format!(
        "port={} connectTimeout={} knownHosts={} identityFiles={}",
        ssh.port,
        duration::show(ssh.connect_timeout),
        list(&ssh.known_hosts),
        list(&ssh.identity_files),
    );
    let jump: Vec<String> = ssh
        .jump
        .iter()
        .map(|jump| format!("{}:{}", jump.host, jump.port))
        .collect();
    let jump = (!jump.is_empty()).then(|| jump.join(","));
    let checking = match ssh.checking {
        Checking::Strict => None,
        Checking::AcceptNew => Some("accept-new".to_owned()),
        Checking::Off => Some("no".to_owned()),
    };
    for (name, value) in [
        ("user", &ssh.user),
        ("address", &ssh.address),
        ("hostKeyAlias", &ssh.host_key_alias),
        ("strictHostKeyChecking", &checking),
        ("proxyJump", &jump),
    ] {
        if let Some(value) = value {
            text += &format!(" {name}={value}");
        }
    }
    text
}

fn is_host(text: &str) -> bool {
    text.len() <= 253
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b))
}

pub(super) fn is_file_path(text: &str) -> bool {
    text.len() <= 1024
        && text.starts_with('/')
        && !text.ends_with('/')
        && !text.chars().any(char::is_control)
        && text
            .split('/')
            .skip(1)
            .all(|part| !part.is_empty() && part != "." && part != "..")
}
