//! Where its files go and how they get there: nodes, paths, modes, SSH.

use std::path::{Path, PathBuf};

use super::{RoleReader, Setting};
use crate::{
    Origin, Service, Ssh,
    copier::{self, DEFAULT_MODE},
    duration, section, ssh,
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

    pub(super) fn file_mode(&mut self) -> u32 {
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

    pub(super) fn ssh(&mut self) -> Ssh {
        let mut ssh = self.shared.ssh.clone();
        let mut origin = Origin::Default;
        if let Some((text, setting)) = self.text("sshOptions") {
            self.apply_ssh_options(&text, &setting, &mut ssh);
            origin = setting.origin.clone();
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
        self.keep("ssh", shown, origin);
        ssh
    }

    pub(super) fn apply_ssh_options(&mut self, text: &str, setting: &Setting<'t>, ssh: &mut Ssh) {
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

/// Where OpenSSH looks for the user's known hosts; those that are there.
pub(crate) fn user_known_hosts(home: Option<&Path>) -> Vec<PathBuf> {
    home.map(|h| vec![h.join(".ssh/known_hosts"), h.join(".ssh/known_hosts2")])
        .unwrap_or_default()
}

/// Where OpenSSH looks for the machine's known hosts; those that are there.
pub(crate) fn global_known_hosts() -> Vec<PathBuf> {
    vec![
        "/etc/ssh/ssh_known_hosts".into(),
        "/etc/ssh/ssh_known_hosts2".into(),
    ]
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
