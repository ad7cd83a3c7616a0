//! Who the robot is: account, name, principal, keytab, UID.

use std::path::{Path, PathBuf};

use credential::{Principal, ServiceName};

use super::{RoleReader, Setting};
use crate::{
    Origin, ServiceId, section, ssh,
    template::{Field, Template, Val},
};

const DEFAULT_KEYTABS: &str = "/opt/managed-tokens/keytabs";

impl RoleReader<'_, '_> {
    pub(super) fn account(&mut self) -> Option<String> {
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

    pub(super) fn name(&mut self, id: &ServiceId, issuer: &str) -> Option<ServiceName> {
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

    /// What the role's bearer tokens must carry: as written, else the groups of experiment and role, which is what
    /// the Go service looks for.
    pub(super) fn scopes(&mut self, name: &ServiceName) -> Vec<String> {
        let issuer = name.issuer();
        let mut groups = vec![format!("wlcg.groups:/{issuer}")];
        if name.role() != "default" {
            groups.push(format!("wlcg.groups:/{issuer}/{}", name.role()));
        }
        let Some(entry) = self.role.get("scopes") else {
            self.keep("scopes", groups.join(" "), Origin::Default);
            return groups;
        };
        let path = self.role.path_of(&entry.key);
        match section::list(&entry.node.value) {
            Ok(list) => {
                let scopes: Vec<String> = list.into_iter().map(|(scope, _)| scope).collect();
                self.keep("scopes", scopes.join(" "), Origin::File(entry.node.at));
                scopes
            }
            Err(why) => {
                self.report.refuse(entry.node.at, &path, why, "");
                groups
            }
        }
    }

    pub(super) fn principal(&mut self, account: &str, id: &ServiceId) -> Option<Principal> {
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

    pub(super) fn fill(&self, pattern: &str, account: &str, id: &ServiceId) -> Result<String, String> {
        let template = Template::parse(pattern)?;
        for field in [
            Field::DesiredUid,
            Field::Name,
            Field::UserPrincipal,
            Field::KeytabPath,
            Field::VaultServer,
            Field::Nodes,
        ] {
            if template.names(field) {
                return Err("a principal may be made of .Account, .Experiment and .Role only".into());
            }
        }
        let (experiment, role) = (id.experiment.to_lowercase(), id.role.to_lowercase());
        template.render(&|field| {
            Val::Text(match field {
                Field::Experiment => experiment.as_str().into(),
                Field::Role => role.as_str().into(),
                _ => account.into(),
            })
        })
    }

    pub(super) fn keytab(&mut self, account: &str) -> PathBuf {
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

    pub(super) fn uid(&mut self, account: &str) -> Option<u32> {
        // unlike the other overrides this one has nothing of the Go service's at the top of the file to override
        let Some(entry) = self.role.get("desiredUIDOverride") else {
            return self.shared.uids.get(account).copied();
        };
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
}

fn is_account(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}
