//! Where its tokens come from and where they are stored: Vault, collectors, credds.

use super::RoleReader;
use crate::{Env, Origin, section, words};

impl RoleReader<'_, '_> {
    pub(super) fn vault_server(&mut self) -> Option<String> {
        if let Some(options) = &self.shared.env.gettoken_opts
            && let Some(server) = words::vault_server(options)
        {
            self.keep("vaultServer", &server, Origin::Environment(Env::GETTOKEN_OPTS));
            return Some(server);
        }
        let Some((server, setting)) = self.text("vaultServer") else {
            // the Go service asks condor_config_val last
            if let Some(said) = &self.shared.env.htcondor.gettoken_opts
                && let Some(server) = words::vault_server(&said.value)
            {
                self.keep("vaultServer", &server, Origin::HtCondor(said.place.clone()));
                return Some(server);
            }
            self.missing(
                "vaultServer",
                "there is no Vault server, in HTCondor's configuration neither",
                "write vaultServer at the top",
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

    pub(super) fn store(&mut self) -> bool {
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

    pub(super) fn collectors(&mut self, needed: bool) -> Vec<String> {
        let mut found = self.words("condorCollectorHost");
        if let (None, Some(said)) = (&found, &self.shared.env.htcondor.collector) {
            let list = said.value.split([',', ' ', '\t', '\n']);
            let list: Vec<String> = list.filter(|host| !host.is_empty()).map(str::to_owned).collect();
            self.keep(
                "condorCollectorHost",
                list.join(","),
                Origin::HtCondor(said.place.clone()),
            );
            found = Some(list);
        }
        if found.is_none() && needed {
            self.missing(
                "condorCollectorHost",
                "there is neither a collector to ask for credds nor a condorCreddHost, and HTCondor's configuration on this host names none",
                "write condorCollectorHost at the top",
            );
        }
        found.unwrap_or_default()
    }

    pub(super) fn constraint(&mut self) -> Option<String> {
        let (text, setting) = self.text("condorScheddConstraint")?;
        self.keep("condorScheddConstraint", &text, setting.origin);
        Some(text)
    }
}
