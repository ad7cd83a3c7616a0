//! What ssh options come to, over the site's own settings.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::Shared;
use crate::{
    Jump, Ssh,
    ssh::{SshOptions, Target},
};

impl Shared<'_, '_> {
    /// How `target` is reached; what cannot be is complained of in `options`.
    pub(super) fn reach(&self, options: &mut SshOptions, target: Target<'_>) -> Ssh {
        let mut ssh = self.ssh.clone();
        ssh.port = options.port.unwrap_or(ssh.port);
        ssh.connect_timeout = options.connect_timeout.unwrap_or(ssh.connect_timeout);
        ssh.user = options.user.take();
        ssh.address = options.host_name.is_some().then(|| options.address(target.host));
        ssh.host_key_alias = options.host_key_alias.take();
        ssh.gssapi_server = options.gssapi_server.take();
        ssh.kerberos = options.gssapi.unwrap_or(true);
        ssh.public_keys = options.pubkey.unwrap_or(true);
        ssh.checking = options.checking.unwrap_or_default();
        ssh.host_key_algorithms = options.host_key_algorithms.take();
        ssh.kex_algorithms = options.kex.take();
        ssh.ciphers = options.ciphers.take();
        ssh.macs = options.macs.take();
        if let Some(text) = options.proxy_jump.take() {
            match jumps(&text) {
                Ok(jump) => ssh.jump = jump,
                Err(why) => {
                    let message = format!("ProxyJump={text}: {why}");
                    options.complain(true, message, "write [user@]host[:port], parted by commas");
                }
            }
        }
        let identities = std::mem::take(&mut options.identity_files);
        let identities = options.paths("IdentityFile", &identities, target);
        if !identities.is_empty() {
            ssh.identity_files = identities;
        }
        let certificates = std::mem::take(&mut options.certificate_files);
        ssh.certificate_files = options.paths("CertificateFile", &certificates, target);
        ssh.agent = agent(options, target);
        let user = options.user_known_hosts.take();
        let global = options.global_known_hosts.take();
        if (user.is_some() || global.is_some()) && !self.known_hosts_given {
            ssh.known_hosts = match user {
                Some(files) => options.paths("UserKnownHostsFile", &files, target),
                None => user_known_hosts(self.env.home.as_deref()),
            };
            ssh.known_hosts.extend(match global {
                Some(files) => options.paths("GlobalKnownHostsFile", &files, target),
                None => global_known_hosts(),
            });
        }
        ssh
    }
}

/// The agent a site names. There is none by default: a service has nobody who fills one.
fn agent(options: &mut SshOptions, target: Target<'_>) -> Option<PathBuf> {
    let written = options.identity_agent.take()?;
    if written == "SSH_AUTH_SOCK" || written.starts_with('$') {
        let message =
            format!("IdentityAgent={written} is not supported: the environment is not asked for an agent");
        options.complain(true, message, "write the path of the agent's socket");
        return None;
    }
    let socket = options
        .paths("IdentityAgent", &[written], target)
        .into_iter()
        .next()?;
    if options.identities_only == Some(true) {
        let message = "with IdentitiesOnly=yes the agent of IdentityAgent is not asked".to_owned();
        options.complain(true, message, "name its keys' files, or leave IdentitiesOnly out");
        return None;
    }
    Some(socket)
}

/// `[user@]host[:port]`, parted by commas.
fn jumps(text: &str) -> Result<Vec<Jump>, &'static str> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    text.split(',').map(|one| jump(one.trim())).collect()
}

fn jump(text: &str) -> Result<Jump, &'static str> {
    let text = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()).filter(|user| !user.is_empty()), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (rest, None),
        },
    };
    let port = match port {
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or("its port is none")?,
        None => 22,
    };
    if host.is_empty() || host.contains('%') {
        return Err("it names no host");
    }
    Ok(Jump {
        host: host.to_owned(),
        port,
        user,
    })
}

/// Where OpenSSH looks for the user's known hosts; those that are there.
pub(crate) fn user_known_hosts(home: Option<&Path>) -> Vec<PathBuf> {
    let all = home.map(|h| [h.join(".ssh/known_hosts"), h.join(".ssh/known_hosts2")]);
    all.into_iter().flatten().filter(|file| is_there(file)).collect()
}

/// Where OpenSSH looks for the machine's known hosts; those that are there.
pub(crate) fn global_known_hosts() -> Vec<PathBuf> {
    ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]
        .into_iter()
        .map(PathBuf::from)
        .filter(|file| is_there(file))
        .collect()
}

/// One that exists and cannot be read is left in, to fail where it is used.
fn is_there(file: &Path) -> bool {
    !matches!(std::fs::metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_read() {
        let read = jumps("gate.test, me@inner.test:2222,[::1]:23").unwrap();
        let seen: Vec<_> = read
            .iter()
            .map(|j| (j.user.as_deref(), j.host.as_str(), j.port))
            .collect();
        assert_eq!(
            seen,
            [
                (None, "gate.test", 22),
                (Some("me"), "inner.test", 2222),
                (None, "::1", 23)
            ]
        );
        assert!(jumps("none").unwrap().is_empty());
        for bad in ["", "a,,b", "host:0", "host:x", "user@", "%h"] {
            assert!(jumps(bad).is_err(), "{bad}");
        }
    }
}
