//! How the role's robot proves itself to credds: its own `condor`, then the experiment's, then `mtk.condor`, then HTCondor's
//! configuration on this host.

use std::path::PathBuf;

use credential::Principal;

use super::RoleReader;
use crate::{
    AcceptedKey, CondorAccess, Method, Origin, Said, SuperUser, keys,
    section::{self, Section},
    ssh,
    tree::{Position, Value},
};

/// Where HTCondor keeps tokens of the host, which root alone can read.
const TOKENS: &str = "/etc/condor/tokens.d";

/// What to do about a section that is none.
pub(crate) const CONDOR_ADVICE: &str = "write condor: {methods: [...]}";

impl<'t> RoleReader<'_, 't> {
    pub(super) fn condor(&mut self, experiment: &Section<'t>, later: &mut Vec<AcceptedKey>) -> CondorAccess {
        let own = self
            .role
            .wanted("condor", keys::CONDOR, CONDOR_ADVICE, self.report, later);
        let sections = [own, experiment.clone(), self.shared.condor.clone()];
        let htcondor = &self.shared.env.htcondor;
        let methods = self.methods(&sections);
        let chosen = methods.is_some();
        let methods = methods.unwrap_or_else(|| Method::DEFAULT.to_vec());
        let ca_file = self.condor_path(&sections, "caFile", htcondor.ca_file.as_ref());
        let ca_dir = self.condor_path(&sections, "caDir", htcondor.ca_dir.as_ref());
        let (certificate, key) = self.certificate(&sections);
        let token_directory =
            self.condor_path(&sections, "tokenDirectory", htcondor.token_directory.as_ref());
        let token_directories = match token_directory {
            Some(directory) => vec![directory],
            None => {
                let own = self
                    .shared
                    .env
                    .home
                    .as_deref()
                    .map(|home| home.join(".condor/tokens.d"));
                own.into_iter().chain([TOKENS.into()]).collect()
            }
        };
        let bearer_files = match self.condor_path(&sections, "bearerTokenFile", None) {
            Some(file) => vec![file],
            // whosever token lies in the usual place is offered only where somebody thought of it
            None if chosen && methods.contains(&Method::SciTokens) => self.shared.env.bearer_files.clone(),
            None => Vec::new(),
        };
        CondorAccess {
            methods,
            ca_file,
            ca_dir,
            certificate,
            key,
            token_directories,
            bearer_files,
            super_user: self.super_user(&sections),
        }
    }

    /// A certificate and its key belong together: both are from the first place that names either.
    fn certificate(&mut self, sections: &[Section<'t>]) -> (Option<PathBuf>, Option<PathBuf>) {
        let names = |section: &&Section<'t>| {
            ["certificate", "key"]
                .iter()
                .any(|key| section.get(key).is_some())
        };
        let Some(section) = sections.iter().find(names) else {
            let htcondor = &self.shared.env.htcondor;
            return (
                self.condor_path(&[], "certificate", htcondor.certificate.as_ref()),
                self.condor_path(&[], "key", htcondor.key.as_ref()),
            );
        };
        let alone = std::slice::from_ref(section);
        let certificate = self.condor_path(alone, "certificate", None);
        let key = self.condor_path(alone, "key", None);
        let empty = |value: &Value| section::text(value).is_ok_and(|text| text.trim().is_empty());
        let unnamed = section
            .get("certificate")
            .is_none_or(|entry| empty(&entry.node.value));
        if key.is_some() && unnamed {
            self.report.refuse(
                section.at(),
                &section.path_of("key"),
                "there is a key without its certificate",
                "name the certificate beside it",
            );
        }
        (certificate, key)
    }

    /// A credd by the rules of this host's own HTCondor would refuse what names another Vault server.
    pub(super) fn check_trusted(&mut self, server: &str) {
        let htcondor = &self.shared.env.htcondor;
        if htcondor.trusts_vault(server) {
            return;
        }
        let place = htcondor
            .trusted_vault_hosts
            .as_ref()
            .map(|said| said.place.as_str());
        let message = format!(
            "TRUSTED_VAULT_HOSTS ({}) does not list {server}, port included: credds that go by it refuse its tokens",
            place.unwrap_or_default()
        );
        let at = self
            .setting("vaultServer")
            .map_or(self.role.at(), |setting| setting.entry.node.at);
        self.report
            .warn(at, "vaultServer", message, "have it listed there as host:port");
    }

    /// The first section that has the key, and what it says there.
    fn condor_value<T>(
        &mut self,
        sections: &[Section<'t>],
        key: &str,
        convert: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<(T, Origin)> {
        let (section, entry) = sections.iter().find_map(|s| Some((s, s.get(key)?)))?;
        match convert(&entry.node.value) {
            Ok(value) => Some((value, Origin::File(entry.node.at))),
            Err(why) => {
                self.report
                    .refuse(entry.node.at, &section.path_of(&entry.key), why, "");
                None
            }
        }
    }

    fn condor_text(&mut self, sections: &[Section<'t>], key: &str) -> Option<String> {
        let word = |value: &Value| {
            let text = section::text(value)?.trim().to_owned();
            if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err("one word is wanted here".to_owned());
            }
            Ok(text)
        };
        let (text, origin) = self.condor_value(sections, key, word)?;
        self.keep(&format!("condor.{key}"), &text, origin);
        Some(text)
    }

    fn condor_path(&mut self, sections: &[Section<'t>], key: &str, said: Option<&Said>) -> Option<PathBuf> {
        let text = |value: &Value| Ok(section::text(value)?.trim().to_owned());
        let found = self
            .condor_value(sections, key, text)
            .filter(|(text, _)| !text.is_empty());
        let (text, origin) = match (found, said) {
            (Some(found), _) => found,
            (None, Some(said)) => (said.value.clone(), Origin::HtCondor(said.place.clone())),
            (None, None) => return None,
        };
        self.keep(&format!("condor.{key}"), &text, origin);
        Some(ssh::expand(&text, self.shared.env.home.as_deref()).unwrap_or_else(|| text.into()))
    }

    /// As somebody chose them; `None` if nobody did.
    fn methods(&mut self, sections: &[Section<'t>]) -> Option<Vec<Method>> {
        let read = |value: &Value| {
            let mut methods = Vec::new();
            for (name, _) in section::list(value)? {
                match Method::from_name(&name) {
                    Some(method) if methods.contains(&method) => {}
                    Some(method) => methods.push(method),
                    None => {
                        let known: Vec<String> = Method::DEFAULT.iter().map(ToString::to_string).collect();
                        return Err(format!(
                            "{name:?} is no authentication method that is known here: {}, FS, CLAIMTOBE, ANONYMOUS",
                            known.join(", ")
                        ));
                    }
                }
            }
            if methods.is_empty() {
                return Err("it names no method".to_owned());
            }
            Ok(methods)
        };
        if sections.iter().any(|section| section.get("methods").is_some()) {
            let (methods, origin) = self.condor_value(sections, "methods", read)?;
            self.keep("condor.methods", names(&methods), origin);
            return Some(methods);
        }
        let Some(said) = &self.shared.env.htcondor.methods else {
            self.keep("condor.methods", names(&Method::DEFAULT), Origin::Default);
            return None;
        };
        // what proves nothing about the daemon is for those who name it to mtk
        let (mut methods, mut dropped) = (Vec::new(), Vec::new());
        for word in said
            .value
            .split([',', ' ', '\t', '\n'])
            .filter(|word| !word.is_empty())
        {
            match Method::from_name(word) {
                Some(method) if methods.contains(&method) => {}
                Some(method) if Method::DEFAULT.contains(&method) => methods.push(method),
                _ => dropped.push(word),
            }
        }
        if !dropped.is_empty() {
            let message = format!(
                "SEC_CLIENT_AUTHENTICATION_METHODS ({}) names {}, which mtk does not take from there",
                said.place,
                dropped.join(", ")
            );
            let advice = "write mtk.condor.methods to offer them";
            self.report
                .note(Position::default(), "mtk.condor.methods", message, advice);
        }
        if methods.is_empty() {
            self.keep("condor.methods", names(&Method::DEFAULT), Origin::Default);
            return None;
        }
        self.keep(
            "condor.methods",
            names(&methods),
            Origin::HtCondor(said.place.clone()),
        );
        Some(methods)
    }

    fn super_user(&mut self, sections: &[Section<'t>]) -> Option<SuperUser> {
        let name = self.condor_text(sections, "superUser");
        let principal = self.condor_text(sections, "superUserPrincipal");
        let keytab = self.condor_path(sections, "superUserKeytab", None);
        let Some(name) = name else {
            if principal.is_some() || keytab.is_some() {
                let message =
                    "there is a super user's principal or keytab, and nothing says which HTCondor user it is";
                self.missing(
                    "condor.superUser",
                    message,
                    "name the user that the credds list in CRED_SUPER_USERS",
                );
            }
            return None;
        };
        if name.contains('@') {
            let message = format!("{name:?} has a domain: the user alone is wanted");
            self.missing("condor.superUser", &message, "");
        }
        if principal.is_some() != keytab.is_some() {
            let message = "superUserPrincipal and superUserKeytab go together";
            self.missing(
                "condor.superUserPrincipal",
                message,
                "write both, or neither for the service's own",
            );
        }
        let principal = principal.and_then(|text| match text.parse::<Principal>() {
            Ok(principal) => Some(principal),
            Err(error) => {
                self.missing("condor.superUserPrincipal", &error.to_string(), "");
                None
            }
        });
        Some(SuperUser {
            name,
            principal,
            keytab,
        })
    }
}

fn names(methods: &[Method]) -> String {
    methods
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
