//! What single options mean here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::Complaint;
use crate::{Checking, duration};

/// What the options come to; `None` where they say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SshOptions {
    pub(crate) port: Option<u16>,
    pub(crate) user: Option<String>,
    pub(crate) host_name: Option<String>,
    pub(crate) host_key_alias: Option<String>,
    pub(crate) gssapi_server: Option<String>,
    pub(crate) gssapi: Option<bool>,
    pub(crate) pubkey: Option<bool>,
    pub(crate) checking: Option<Checking>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) proxy_jump: Option<String>,
    pub(crate) host_key_algorithms: Option<String>,
    pub(crate) kex: Option<String>,
    pub(crate) ciphers: Option<String>,
    pub(crate) macs: Option<String>,
    /// As written, with `~` and tokens; see [`SshOptions::paths`].
    pub(crate) user_known_hosts: Option<Vec<String>>,
    pub(crate) global_known_hosts: Option<Vec<String>>,
    pub(crate) identity_files: Vec<String>,
    pub(crate) certificate_files: Vec<String>,
    /// The socket as written; `none` for no agent.
    pub(crate) identity_agent: Option<String>,
    /// Whether only what files name is tried.
    pub(crate) identities_only: Option<bool>,
    /// `-F`: the only configuration file to read, or `none`.
    pub(crate) config_file: Option<String>,
    ignore_unknown: Vec<String>,
    pub(crate) complaints: Vec<Complaint>,
}

/// The node the options are for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) host: &'a str,
    pub(crate) user: &'a str,
    pub(crate) home: Option<&'a Path>,
}

/// Options whose wish is met anyway, or that steer what a single short SFTP session has no use for.
const HARMLESS: &[&str] = &[
    "addkeystoagent",
    "batchmode",
    "challengeresponseauthentication",
    "channeltimeout",
    "checkhostip",
    "clearallforwardings",
    "compression",
    "compressionlevel",
    "connectionattempts",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "escapechar",
    "exitonforwardfailure",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardagent",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "hashknownhosts",
    "ipqos",
    "kbdinteractiveauthentication",
    "kbdinteractivedevices",
    "localcommand",
    "localforward",
    "loglevel",
    "logverbose",
    "numberofpasswordprompts",
    "obscurekeystroketiming",
    "passwordauthentication",
    "permitlocalcommand",
    "permitremoteopen",
    "preferredauthentications",
    "proxyusefdpass",
    "rekeylimit",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "sessiontype",
    "setenv",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "tag",
    "tcpkeepalive",
    "tunnel",
    "tunneldevice",
    "updatehostkeys",
    "visualhostkey",
    "warnweakcrypto",
    "xauthlocation",
];

/// Options that are not supported, and the value with which they ask for nothing.
const OFF: &[(&str, &str)] = &[
    ("addressfamily", "any"),
    ("canonicalizehostname", "no"),
    ("gssapidelegatecredentials", "no"),
    ("gssapikeyexchange", "no"),
    ("gssapirenewalforcesrekey", "no"),
    ("gssapitrustdns", "no"),
    ("hostbasedauthentication", "no"),
    ("knownhostscommand", "none"),
    ("nohostauthenticationforlocalhost", "no"),
    ("proxycommand", "none"),
    ("verifyhostkeydns", "no"),
];

impl SshOptions {
    pub(crate) fn complain(&mut self, grave: bool, message: String, advice: &'static str) {
        let complaint = Complaint {
            grave,
            message,
            advice,
            place: None,
        };
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    /// Takes one option; `place` says where it stands, and is empty for `sshOptions`.
    pub(super) fn option(&mut self, name: &str, values: &[String], place: &str) {
        let folded = name.to_lowercase();
        let Some(value) = values.first().map(String::as_str) else {
            return self.complain(true, format!("{place}{name} has no value"), "");
        };
        let text = || Some(value.to_owned());
        match folded.as_str() {
            "port" => match value.parse().ok().filter(|p| *p > 0) {
                Some(port) => first(&mut self.port, port),
                None => self.complain(true, format!("{place}{value:?} is not a port"), ""),
            },
            "connecttimeout" => match duration::parse(value) {
                Ok(time) if !time.is_zero() => first(&mut self.connect_timeout, time),
                _ => {
                    let message = format!("{place}ConnectTimeout={value} is not a number of seconds");
                    self.complain(true, message, "");
                }
            },
            // The account is mtk's to say, as it is rsync's and ssh's: a file never changes it.
            "user" if place.is_empty() => self.user = self.user.take().or_else(text),
            "user" => {}
            "hostname" => self.host_name = self.host_name.take().or_else(text),
            "hostkeyalias" => self.host_key_alias = self.host_key_alias.take().or_else(text),
            "gssapiserveridentity" => self.gssapi_server = self.gssapi_server.take().or_else(text),
            "proxyjump" => self.proxy_jump = self.proxy_jump.take().or_else(text),
            "gssapiauthentication" => self.truth(name, value, place, |o| &mut o.gssapi),
            "pubkeyauthentication" if value.eq_ignore_ascii_case("host-bound") => {
                first(&mut self.pubkey, true)
            }
            "pubkeyauthentication" => self.truth(name, value, place, |o| &mut o.pubkey),
            "hostkeyalgorithms" => self.algorithms(name, value, place, |o| &mut o.host_key_algorithms),
            "kexalgorithms" => self.algorithms(name, value, place, |o| &mut o.kex),
            "ciphers" => self.algorithms(name, value, place, |o| &mut o.ciphers),
            "macs" => self.algorithms(name, value, place, |o| &mut o.macs),
            "userknownhostsfile" => first(&mut self.user_known_hosts, values.to_vec()),
            "globalknownhostsfile" => first(&mut self.global_known_hosts, values.to_vec()),
            "identityfile" => self.identity_files.push(value.to_owned()),
            "certificatefile" => self.certificate_files.push(value.to_owned()),
            "identityagent" => self.identity_agent = self.identity_agent.take().or_else(text),
            "identitiesonly" => self.truth(name, value, place, |o| &mut o.identities_only),
            "stricthostkeychecking" => self.checking(value, place),
            "ignoreunknown" => self
                .ignore_unknown
                .extend(value.split(',').map(|pattern| pattern.trim().to_lowercase())),
            _ if HARMLESS.contains(&folded.as_str()) => {
                // Files are full of these; in a site's own options they deserve a word.
                if place.is_empty() {
                    self.complain(false, format!("{name} has no effect here"), "");
                }
            }
            _ if OFF.contains(&(folded.as_str(), value.to_lowercase().as_str())) => {}
            _ if self.ignore_unknown.iter().any(|p| super::file::glob(p, &folded)) => {}
            _ => self.complain(
                true,
                format!("{place}{name} is not supported"),
                "remove it if it is not needed",
            ),
        }
    }

    fn truth(&mut self, name: &str, value: &str, place: &str, field: fn(&mut Self) -> &mut Option<bool>) {
        match value.to_lowercase().as_str() {
            "yes" | "true" => first(field(self), true),
            "no" | "false" => first(field(self), false),
            _ => self.complain(true, format!("{place}{name} is neither yes nor no"), ""),
        }
    }

    fn algorithms(
        &mut self,
        name: &str,
        value: &str,
        place: &str,
        field: fn(&mut Self) -> &mut Option<String>,
    ) {
        let adds = !value.starts_with('-');
        let weak = value
            .split(',')
            .map(|name| name.trim_start_matches(['+', '^']))
            .find(|name| adds && is_weak(name));
        if let Some(weak) = weak {
            let message = format!("{place}{name} lets in {weak}, which is broken; it is honoured");
            self.complain(true, message, "renew the nodes that need it");
        }
        first(field(self), value.to_owned());
    }

    fn checking(&mut self, value: &str, place: &str) {
        let checking = match value.to_lowercase().as_str() {
            "yes" | "true" | "ask" => Checking::Strict,
            "accept-new" => Checking::AcceptNew,
            "no" | "false" | "off" => Checking::Off,
            _ => {
                let message = format!("{place}StrictHostKeyChecking={value} is none of yes, accept-new, no");
                return self.complain(true, message, "host keys are checked strictly");
            }
        };
        if self.checking.is_none() && checking != Checking::Strict {
            let what = match checking {
                Checking::Off => "whoever stands in between gets the tokens",
                _ => "whoever stands in between at first contact gets the tokens",
            };
            let message =
                format!("{place}StrictHostKeyChecking={value} weakens trust and is honoured: {what}");
            self.complain(true, message, "put the nodes' host keys into a known_hosts file");
        }
        first(&mut self.checking, checking);
    }

    /// What is no list that grows.
    #[cfg(feature = "oracles")]
    pub(crate) fn single_values(&self) -> Self {
        Self {
            identity_files: Vec::new(),
            ignore_unknown: Vec::new(),
            complaints: Vec::new(),
            ..self.clone()
        }
    }

    /// Paths with `~` and tokens put in. `none` and `/dev/null` are no files.
    pub(crate) fn paths(&mut self, name: &str, written: &[String], target: Target<'_>) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for text in written {
            if text.eq_ignore_ascii_case("none") || text == "/dev/null" {
                continue;
            }
            match self.resolve(text, target) {
                Some(path) => paths.push(path),
                None => self.complain(
                    true,
                    format!("{name}: {text:?} cannot be resolved here"),
                    "write the whole path",
                ),
            }
        }
        paths
    }

    fn resolve(&self, text: &str, target: Target<'_>) -> Option<PathBuf> {
        if text.contains("${") {
            return None;
        }
        let text = match text.strip_prefix('~') {
            Some(rest) => format!("%d{rest}"),
            None => text.to_owned(),
        };
        let home = target.home.map(|home| home.display().to_string());
        let port = self.port.unwrap_or(22).to_string();
        let address = self.address(target.host);
        let text = tokens(&text, |token| {
            Some(match token {
                'd' => home.as_deref()?,
                'h' => &address,
                'n' => target.host,
                'p' => &port,
                'r' => self.user.as_deref().unwrap_or(target.user),
                _ => return None,
            })
        })?;
        let path = PathBuf::from(text);
        path.is_absolute().then_some(path)
    }

    /// What to connect to: `HostName` with its tokens.
    pub(crate) fn address(&self, host: &str) -> String {
        let written = self.host_name.as_deref().unwrap_or(host);
        tokens(written, |token| (token == 'h').then_some(host)).unwrap_or_else(|| host.to_owned())
    }
}

fn first<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

/// Puts tokens in; `None` for one that has no value here.
fn tokens<'a>(text: &str, value: impl Fn(char) -> Option<&'a str>) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next()? {
            '%' => out.push('%'),
            token => out.push_str(value(token)?),
        }
    }
    Some(out)
}

fn is_weak(name: &str) -> bool {
    let broken = ["sha1", "md5", "cbc", "arcfour", "3des", "ripemd", "none", "dss"];
    name == "ssh-rsa" || broken.iter().any(|weak| name.contains(weak))
}
