//! Its outputs: those of the file, of its experiment and its own, the nearer in place of the farther of the same name.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{RoleReader, nodes::is_file_path};
use crate::{
    Content, Origin, Output, Owner, Service, To, duration, keys,
    section::{self, Section, Unknown},
    template::Template,
    tree::{Entry, Position, Value},
};

/// Where WLCG's bearer token discovery looks when nothing else is said.
const BEARER_PATH: &str = "/tmp/bt_u{{.DesiredUID}}";
/// What a bearer token must still be good for: a run an hour, and some to spare.
const BEARER_MINIMUM: Duration = Duration::from_secs(4800);
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// As many as anybody could mean; each costs requests at every run.
const MAX_OUTPUTS: usize = 64;
const ADVICE: &str =
    "write names and below each what it holds and where it goes, as docs/configuration.md says";

impl<'t> RoleReader<'_, 't> {
    /// Reads them all; what cannot be one stops the service.
    pub(super) fn outputs(&mut self, nodes: &[String], mode: u32) -> Vec<Output> {
        let mtk = self.shared.top.child("mtk", self.report);
        let nearer = self.experiment.clone().into_iter().chain([self.role.clone()]);
        let mut all = vec![mtk.child("outputs", self.report)];
        all.extend(nearer.map(|from| from.map_wanted("outputs", ADVICE, self.report)));
        let mut named: BTreeMap<String, (Section<'t>, &'t Entry)> = BTreeMap::new();
        for outputs in all {
            for entry in outputs.entries() {
                if entry.node.value == Value::Null {
                    // taken back for this experiment or role
                    named.remove(&entry.key);
                } else {
                    named.insert(entry.key.clone(), (outputs.clone(), entry));
                }
            }
        }
        if named.len() > MAX_OUTPUTS {
            let message = format!(
                "{} outputs are more than the {MAX_OUTPUTS} a service may have",
                named.len()
            );
            self.missing("outputs", &message, "");
            return Vec::new();
        }
        let mut all = Vec::new();
        for (name, (outputs, entry)) in named {
            let section = match outputs.map(entry) {
                Ok(section) => section,
                Err(why) => {
                    self.report
                        .refuse(entry.node.at, &outputs.path_of(&name), why, ADVICE);
                    continue;
                }
            };
            let mut unused = Vec::new();
            section.check_keys(keys::OUTPUT, Unknown::Refuse, self.report, &mut unused);
            let mut reader = Reader { section, role: self };
            if let Some(output) = reader.output(&name, nodes, mode) {
                let origin = Origin::File(entry.node.at);
                self.keep(&format!("outputs.{name}"), shown(&output), origin);
                all.push(output);
            }
        }
        all
    }

    /// Paths are judged once everything that may be part of them is known.
    pub(super) fn check_outputs(&mut self, service: &Service) {
        for output in &service.outputs {
            let (what, templates) = match &output.to {
                To::Nodes { path, .. } | To::Here { path, .. } => ("path", std::slice::from_ref(path)),
                To::Command { arguments, .. } => ("command", arguments.as_slice()),
            };
            for template in templates {
                let message = match service.role_file_path(template, "1") {
                    Ok(path) if what == "path" && !is_file_path(&path) => {
                        format!("{path:?} is not an absolute path of a file")
                    }
                    Ok(_) => continue,
                    Err(why) => why,
                };
                let key = self.role.path_of(&format!("outputs.{}.{what}", output.name));
                self.report.refuse(self.role.at(), &key, message, "");
            }
        }
    }
}

/// One output in hand.
struct Reader<'r, 'a, 't> {
    section: Section<'t>,
    role: &'r mut RoleReader<'a, 't>,
}

impl Reader<'_, '_, '_> {
    fn output(&mut self, name: &str, nodes: &[String], mode: u32) -> Option<Output> {
        let content = self.content()?;
        let to = self.to(&content, nodes, mode)?;
        let fallback = match content {
            Content::Bearer { .. } => BEARER_MINIMUM,
            _ => self.role.shared.min_token_lifetime,
        };
        let minimum = self.value("minimumLifetime", section::span).unwrap_or(fallback);
        Some(Output {
            name: name.to_owned(),
            content,
            to,
            minimum,
        })
    }

    fn content(&mut self) -> Option<Content> {
        let word = self.value("content", section::text).unwrap_or_default();
        let content = match word.as_str() {
            "vaultToken" => Content::VaultToken,
            "bearer" => Content::Bearer {
                scopes: self.words("scopes"),
                audiences: self.words("audiences"),
            },
            "file" => {
                let source = self.value("source", section::text).unwrap_or_default();
                if !is_file_path(&source) {
                    return self.refuse(
                        "source",
                        format!("{source:?} is not an absolute path of a file"),
                        "",
                    );
                }
                Content::File {
                    source: PathBuf::from(source),
                }
            }
            other => {
                let message = format!("{other:?} is none of vaultToken, bearer, file");
                return self.refuse("content", message, "say what this output is to hold");
            }
        };
        for (key, fits) in [
            ("source", matches!(content, Content::File { .. })),
            ("scopes", matches!(content, Content::Bearer { .. })),
            ("audiences", matches!(content, Content::Bearer { .. })),
        ] {
            self.only(key, fits, &format!("it means nothing for content: {word}"))?;
        }
        Some(content)
    }

    fn to(&mut self, content: &Content, nodes: &[String], mode: u32) -> Option<To> {
        let word = self.value("to", section::text).unwrap_or_else(|| "nodes".into());
        let (node, here, command) = (word == "nodes", word == "here", word == "command");
        for (key, fits) in [
            ("nodes", node),
            ("owner", here),
            ("command", command),
            ("deadline", command),
            ("path", !command),
            ("mode", !command),
        ] {
            self.only(key, fits, &format!("it means nothing for to: {word}"))?;
        }
        match word.as_str() {
            "nodes" => {
                let chosen = self.words("nodes");
                if let Some(stranger) = chosen.iter().find(|n| !nodes.contains(n)) {
                    let message = format!("{stranger} is not among the destinationNodes of this role");
                    return self.refuse("nodes", message, "name it there as well");
                }
                let nodes = if chosen.is_empty() { nodes.to_vec() } else { chosen };
                if nodes.is_empty() {
                    return self.refuse(
                        "to",
                        "this role has no destinationNodes",
                        "name some, or say to: here",
                    );
                }
                let default = matches!(content, Content::Bearer { .. }).then_some(BEARER_PATH);
                Some(To::Nodes {
                    nodes,
                    path: self.path(default)?,
                    mode: self.mode(mode)?,
                })
            }
            "here" => Some(To::Here {
                path: self.path(None)?,
                mode: self.mode(mode)?,
                owner: self.owner()?,
            }),
            "command" => self.command(),
            other => self.refuse("to", format!("{other:?} is none of nodes, here, command"), ""),
        }
    }

    fn path(&mut self, default: Option<&str>) -> Option<Template> {
        let Some(text) = self.value("path", section::text).or(default.map(str::to_owned)) else {
            return self.refuse("path", "it has to be said where this output goes", "write path");
        };
        match Template::parse(&text) {
            Ok(template) => Some(template),
            Err(why) => self.refuse("path", why, ""),
        }
    }

    fn mode(&mut self, default: u32) -> Option<u32> {
        let Some(text) = self.value("mode", section::text) else {
            return Some(default);
        };
        match u32::from_str_radix(&text, 8) {
            // 0440 and 0640 are for a group whose members are all meant
            Ok(mode) if mode & 0o400 != 0 && mode & !0o640 == 0 => Some(mode),
            _ => {
                let advice =
                    "0400, 0600, 0440 or 0640, in quotes: YAML takes 0400 without for the number 400 or 256";
                self.refuse("mode", format!("{text:?} is no mode for a secret"), advice)
            }
        }
    }

    /// Outer `None`: what is written cannot be one.
    #[expect(clippy::option_option, reason = "an owner may be left out, and may be wrong")]
    fn owner(&mut self) -> Option<Option<Owner>> {
        let Some(text) = self.value("owner", section::text) else {
            return Some(None);
        };
        if let Ok(uid) = text.parse::<u32>() {
            return if uid == u32::MAX {
                self.refuse("owner", format!("{text} is nobody's UID"), "")
            } else {
                Some(Some(Owner::Uid(uid)))
            };
        }
        if text.is_empty() || text.len() > 64 || text.chars().any(|c| c.is_whitespace() || c == ':') {
            return self.refuse("owner", format!("{text:?} is no user"), "");
        }
        Some(Some(Owner::Name(text)))
    }

    fn command(&mut self) -> Option<To> {
        let words = match self.section.get("command").map(|entry| &entry.node.value) {
            Some(Value::List(items)) => items.iter().map(|item| section::text(&item.value)).collect(),
            Some(_) => {
                Err("a list is wanted: the program and its arguments, which no shell reads".to_owned())
            }
            None => Err("it has to be said which command takes this output".to_owned()),
        };
        let words: Vec<String> = match words {
            Ok(words) => words,
            Err(why) => return self.refuse("command", why, "write command: [/path/of/program, argument]"),
        };
        let Some((program, arguments)) = words.split_first().filter(|(program, _)| is_file_path(program))
        else {
            return self.refuse("command", "its first word is not the whole path of a program", "");
        };
        let mut parsed = Vec::new();
        for argument in arguments {
            match Template::parse(argument) {
                Ok(template) => parsed.push(template),
                Err(why) => return self.refuse("command", why, ""),
            }
        }
        let deadline = self.value("deadline", section::span).unwrap_or(COMMAND_DEADLINE);
        Some(To::Command {
            program: PathBuf::from(program),
            arguments: parsed,
            deadline,
        })
    }

    fn words(&mut self, key: &str) -> Vec<String> {
        let words = self.value(key, section::list).unwrap_or_default();
        words
            .into_iter()
            .map(|(word, _)| word)
            .filter(|w| !w.is_empty())
            .collect()
    }

    /// A value; one that cannot be read stops the service, and reads as none.
    fn value<T>(&mut self, key: &str, convert: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        let entry = self.section.get(key)?;
        match convert(&entry.node.value) {
            Ok(value) => Some(value),
            Err(why) => self.refuse(key, why, ""),
        }
    }

    /// Refuses a key that is written where it steers nothing.
    fn only(&mut self, key: &str, fits: bool, why: &str) -> Option<()> {
        if fits || self.section.get(key).is_none() {
            return Some(());
        }
        self.refuse(key, why, "remove it")
    }

    fn refuse<T>(&mut self, key: &str, why: impl Into<String>, advice: &str) -> Option<T> {
        let (at, path) = match self.section.get(key) {
            Some(entry) => (entry.node.at, self.section.path_of(&entry.key)),
            None => (self.here(), self.section.path_of(key)),
        };
        self.role.report.refuse(at, &path, why, advice);
        None
    }

    fn here(&self) -> Position {
        self.section.at()
    }
}

fn shown(output: &Output) -> String {
    let content = match &output.content {
        Content::VaultToken => "Vault token".to_owned(),
        Content::Bearer { scopes, audiences } => {
            format!(
                "bearer token scopes={} audiences={}",
                scopes.join(" "),
                audiences.join(" ")
            )
        }
        Content::File { source } => format!("file {}", source.display()),
    };
    let to = match &output.to {
        To::Nodes { nodes, mode, .. } => format!("to {} nodes, mode {mode:04o}", nodes.len()),
        To::Here { mode, .. } => format!("to this host, mode {mode:04o}"),
        To::Command {
            program, deadline, ..
        } => {
            format!(
                "to the command {} within {}",
                program.display(),
                duration::show(*deadline)
            )
        }
    };
    format!(
        "{content} {to}, minimumLifetime {}",
        duration::show(output.minimum)
    )
}
