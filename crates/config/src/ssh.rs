//! `sshOptions`: options for ssh, of which some mean something here and the others are named.

use std::path::{Path, PathBuf};

use crate::{duration, words};

/// What the options come to; `None` where they say nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SshOptions {
    pub(crate) port: Option<u16>,
    pub(crate) user_known_hosts: Option<Vec<PathBuf>>,
    pub(crate) global_known_hosts: Option<Vec<PathBuf>>,
    pub(crate) identity_files: Vec<PathBuf>,
    pub(crate) connect_timeout: Option<std::time::Duration>,
    /// Complaints: whether grave, and what about.
    pub(crate) complaints: Vec<Complaint>,
}

/// Something in the options that is not as its writer meant it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) grave: bool,
    pub(crate) message: String,
    pub(crate) advice: &'static str,
}

/// Options whose wish is met anyway, or that steer what a single short session has no use for.
const HARMLESS: &[&str] = &[
    "batchmode",
    "compression",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "forwardagent",
    "forwardx11",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "kbdinteractiveauthentication",
    "challengeresponseauthentication",
    "loglevel",
    "numberofpasswordprompts",
    "passwordauthentication",
    "preferredauthentications",
    "pubkeyauthentication",
    "requesttty",
    "serveralivecountmax",
    "serveraliveinterval",
    "tcpkeepalive",
    "identitiesonly",
];

/// Reads a line of ssh options.
pub(crate) fn parse(text: &str, home: Option<&Path>) -> Result<SshOptions, &'static str> {
    let mut out = SshOptions::default();
    let words = words::split(text)?;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let option = match word.strip_prefix("-o") {
            Some("") => words.next().map(String::as_str),
            other => other,
        };
        match option.and_then(|o| {
            o.split_once(['=', ' '])
                .map(|(n, v)| (n.trim(), v.trim().trim_matches('"')))
        }) {
            Some((name, value)) => out.option(name, value, home),
            None => out.complain(
                true,
                format!("{:?} is not of the form -o Name=value", option.unwrap_or(word)),
                "the Go service drops such words silently",
            ),
        }
    }
    Ok(out)
}

impl SshOptions {
    fn complain(&mut self, grave: bool, message: String, advice: &'static str) {
        self.complaints.push(Complaint {
            grave,
            message,
            advice,
        });
    }

    fn option(&mut self, name: &str, value: &str, home: Option<&Path>) {
        let folded = name.to_lowercase();
        match folded.as_str() {
            "port" => match value.parse().ok().filter(|p| *p > 0) {
                Some(port) => self.port = Some(port),
                None => self.complain(true, format!("{value:?} is not a port"), ""),
            },
            "connecttimeout" => match duration::parse(value) {
                Ok(time) if !time.is_zero() => self.connect_timeout = Some(time),
                _ => self.complain(
                    true,
                    format!("ConnectTimeout={value} is not a number of seconds"),
                    "",
                ),
            },
            "userknownhostsfile" => {
                let files = self.files(name, value, home);
                self.user_known_hosts.get_or_insert(files);
            }
            "globalknownhostsfile" => {
                let files = self.files(name, value, home);
                self.global_known_hosts.get_or_insert(files);
            }
            "identityfile" => {
                let files = self.files(name, value, home);
                self.identity_files.extend(files);
            }
            "stricthostkeychecking" => {
                if !["yes", "true", "ask"].contains(&value.to_lowercase().as_str()) {
                    self.complain(
                        true,
                        format!(
                            "StrictHostKeyChecking={value} is not honoured: host keys are checked strictly"
                        ),
                        "put the nodes' host keys into a known_hosts file",
                    );
                }
            }
            _ if HARMLESS.contains(&folded.as_str()) => {
                self.complain(false, format!("{name} has no effect here"), "");
            }
            _ => self.complain(
                true,
                format!("{name} is not supported"),
                "remove it if it is not needed",
            ),
        }
    }

    /// Files as ssh_config writes them: several parted by blanks, `~` and `%d` for home, `none` for none.
    fn files(&mut self, name: &str, value: &str, home: Option<&Path>) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for word in value.split_whitespace() {
            if word == "none" || word == "/dev/null" {
                continue;
            }
            match expand(word, home) {
                Some(path) => files.push(path),
                None => self.complain(
                    true,
                    format!("{name}: {word:?} cannot be resolved here"),
                    "write the whole path",
                ),
            }
        }
        files
    }
}

/// A path with `~`, `~/` and `%d` put in; `None` if the home directory is wanted and unknown, or for other tokens.
pub(crate) fn expand(path: &str, home: Option<&Path>) -> Option<PathBuf> {
    let rest = path.strip_prefix('~').or_else(|| path.strip_prefix("%d"));
    match rest {
        Some("") => home.map(Path::to_owned),
        Some(rest) => Some(home?.join(rest.strip_prefix('/')?)),
        None if path.contains('%') => None,
        None => Some(PathBuf::from(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> SshOptions {
        parse(text, Some(Path::new("/home/mtk"))).unwrap()
    }

    #[test]
    fn what_means_something_is_taken() {
        let o = read(
            "-o Port=2222 -oConnectTimeout=7 -o UserKnownHostsFile='~/.ssh/a /etc/b' -o globalknownhostsfile=none \
             -o IdentityFile=%d/.ssh/key -o 'IdentityFile /k2' -o StrictHostKeyChecking=yes",
        );
        assert_eq!(o.port, Some(2222));
        assert_eq!(o.connect_timeout, Some(std::time::Duration::from_secs(7)));
        assert_eq!(
            o.user_known_hosts,
            Some(vec!["/home/mtk/.ssh/a".into(), "/etc/b".into()])
        );
        assert_eq!(o.global_known_hosts, Some(vec![]));
        assert_eq!(
            o.identity_files,
            [PathBuf::from("/home/mtk/.ssh/key"), "/k2".into()]
        );
        assert_eq!(o.complaints, []);
    }

    #[test]
    fn loose_host_key_checking_is_not_honoured_and_said() {
        for value in ["no", "off", "accept-new", "No"] {
            let o = read(&format!("-o StrictHostKeyChecking={value}"));
            assert!(
                o.complaints[0].grave && o.complaints[0].message.contains("not honoured"),
                "{o:?}"
            );
        }
    }

    #[test]
    fn the_rest_is_named() {
        let o = read(
            "-o ProxyJump=x -p 22 -o BatchMode=yes -o Port=0 -o ConnectTimeout=x -o UserKnownHostsFile=/%h",
        );
        let grave: Vec<bool> = o.complaints.iter().map(|c| c.grave).collect();
        // -p and 22 are two words of the wrong form
        assert_eq!(grave, [true, true, true, false, true, true, true]);
        assert!(parse("-o 'x", None).is_err());
        assert_eq!(parse("-o IdentityFile=~/k", None).unwrap().complaints.len(), 1);
    }
}
