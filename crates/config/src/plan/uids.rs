//! Where UIDs come from, and who asks FERRY.

use std::{collections::BTreeMap, time::Duration};

use credential::{Principal, ServiceName};

use super::Plan;
use crate::{
    Ferry, FerryLogin, Origin, UidSource,
    section::{self, Section},
    tree::Value,
    words,
};

/// The Go service's own default.
const TIMEOUT: Duration = Duration::from_secs(30);
const FERRY_PORT: u32 = 8445;

impl<'t> Plan<'_, 't> {
    /// The sources in the order in which they are asked.
    pub(super) fn uid_order(&mut self, mtk: &Section<'t>) -> Vec<UidSource> {
        let default = vec![UidSource::Ferry, UidSource::Go, UidSource::Nss];
        let section = mtk.child("uids", self.report);
        let Some(entry) = section.get("order") else {
            self.keep(section.path_of("order"), "ferry go nss", Origin::Default);
            return default;
        };
        let path = section.path_of(&entry.key);
        let words = section::list(&entry.node.value).and_then(|words| {
            let source = |word: &str| match word {
                "ferry" => Ok(UidSource::Ferry),
                "go" => Ok(UidSource::Go),
                "nss" => Ok(UidSource::Nss),
                other => Err(format!("{other:?} is none of ferry, go and nss")),
            };
            words
                .iter()
                .map(|(word, _)| source(word))
                .collect::<Result<Vec<_>, _>>()
        });
        match words {
            Ok(order) => {
                let text: Vec<&str> = order.iter().map(|s| s.word()).collect();
                self.keep(path, text.join(" "), Origin::File(entry.node.at));
                order
            }
            Err(why) => {
                self.report
                    .error(entry.node.at, &path, why, "until this is right the default holds");
                default
            }
        }
    }

    /// UIDs by account, as the file says them.
    pub(super) fn uid_map(&mut self, mtk: &Section<'t>) -> BTreeMap<String, u32> {
        let map = mtk.child("uids", self.report).child("map", self.report);
        let mut uids = BTreeMap::new();
        for entry in map.entries() {
            let path = map.path_of(&entry.key);
            match section::count(&entry.node.value) {
                Ok(uid) if uid != 0 && uid != u32::MAX => {
                    self.keep(path, uid.to_string(), Origin::File(entry.node.at));
                    uids.insert(entry.key.clone(), uid);
                }
                Ok(uid) => {
                    let why = format!("uid {uid} is not an account's");
                    self.report.error(entry.node.at, &path, why, "");
                }
                Err(why) => self.report.error(entry.node.at, &path, why, ""),
            }
        }
        uids
    }

    /// FERRY, if the file names one.
    pub(super) fn ferry(&mut self) -> Option<Ferry> {
        let top = self.top.clone();
        let section = top.child("ferry", self.report);
        let timeouts = top.child("timeouts", self.report);
        let timeout = ["ferryRequestTimeout", "ferryRequest"]
            .into_iter()
            .find(|key| timeouts.get(key).is_some());
        let timeout = timeout.map_or(TIMEOUT, |key| self.span(&timeouts, key, TIMEOUT));
        let host = self.text(&section, "host")?;
        let read = |v: &Value| match u16::try_from(section::count(v)?) {
            Ok(port) if port > 0 => Ok(u32::from(port)),
            _ => Err("that is no port".to_owned()),
        };
        let port = self.value(&section, "port", read).unwrap_or(FERRY_PORT);
        let ca_path = self.path(&section, "caPath");
        let login = self.ferry_login(&section);
        Some(Ferry {
            host,
            port: u16::try_from(port).unwrap_or(8445),
            ca_path,
            timeout,
            login,
        })
    }

    fn ferry_login(&mut self, section: &Section<'t>) -> Option<FerryLogin> {
        let certificate = self.path(section, "hostCert");
        let key = self.path(section, "hostKey");
        let robot = self.ferry_robot(section);
        let half = certificate.is_some() != key.is_some();
        if let (Some(certificate), Some(key)) = (certificate, key) {
            return Some(FerryLogin::Certificate { certificate, key });
        }
        if half {
            let why = "hostCert and hostKey go together: neither is used";
            self.report
                .warn(section.at(), "ferry", why, "name both, or neither");
        }
        match robot {
            Ok(Some(robot)) => return Some(robot),
            Ok(None) if !half => {
                let why = "FERRY is named, but not who asks it";
                let advice = "give hostCert and hostKey, or serviceExperiment, serviceKerberosPrincipal and serviceKeytabPath";
                self.report.warn(section.at(), "ferry", why, advice);
            }
            // said already
            Ok(None) | Err(Said) => {}
        }
        None
    }

    fn ferry_robot(&mut self, section: &Section<'t>) -> Result<Option<FerryLogin>, Said> {
        let experiment = self.text(section, "serviceExperiment");
        let role = self.text(section, "serviceRole");
        let principal = self.text(section, "serviceKerberosPrincipal");
        let keytab = self.path(section, "serviceKeytabPath");
        let vault_server = self.ferry_vault(section);
        let principal = match principal.map(|text| text.parse::<Principal>()).transpose() {
            Ok(principal) => principal,
            Err(error) => {
                let key = "serviceKerberosPrincipal";
                return Err(self.ferry_wrong(section, key, error.to_string(), "write name/part@REALM"));
            }
        };
        let role = role.unwrap_or_else(|| "default".into()).to_lowercase();
        let name = match experiment.map(|name| ServiceName::new(&name, &role)).transpose() {
            Ok(name) => name,
            Err(error) => {
                let advice = "look at serviceRole, too";
                return Err(self.ferry_wrong(section, "serviceExperiment", error.to_string(), advice));
            }
        };
        let (Some(name), Some(principal), Some(keytab)) = (name, principal, keytab) else {
            return Ok(None);
        };
        let Some(vault_server) = vault_server else {
            let why = "there is no Vault server for FERRY's robot".to_owned();
            return Err(self.ferry_wrong(section, "vaultServer", why, "write vaultServer at the top"));
        };
        Ok(Some(FerryLogin::Robot {
            name,
            principal,
            keytab,
            vault_server,
        }))
    }

    /// In the order in which a role finds its own.
    fn ferry_vault(&mut self, section: &Section<'t>) -> Option<String> {
        let top = self.top.clone();
        let env = self.env;
        let own = self.text(section, "vaultServer");
        env.gettoken_opts
            .as_deref()
            .and_then(words::vault_server)
            .or(own)
            .or_else(|| section::text(&top.get("vaultServer")?.node.value).ok())
            .map(|server| server.trim().to_owned())
            .filter(|server| !server.is_empty())
            .or_else(|| words::vault_server(&env.htcondor.gettoken_opts.as_ref()?.value))
    }

    fn ferry_wrong(&mut self, section: &Section<'t>, key: &str, why: String, advice: &str) -> Said {
        let (at, path) = match section.get(key) {
            Some(entry) => (entry.node.at, section.path_of(&entry.key)),
            None => (section.at(), section.path_of(key)),
        };
        self.report.error(at, &path, why, advice);
        Said
    }
}

/// What is wrong has been reported.
struct Said;
