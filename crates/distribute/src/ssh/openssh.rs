//! SSH by the system's own `ssh`, run as a process: only where a site says so.
//!
//! SFTP goes over the process's standard input and output. Host keys are checked strictly against the node's
//! `known_hosts`, nothing is forwarded, and nobody is asked for anything. What else ssh reads in its own
//! configuration is its user's business.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::join,
    process::{Child, Command},
};

use super::{Job, sftp, work};
use crate::{
    Chosen, Error, Identity, Method, Report, Stage, Transport, Trust, Verdict,
    dial::{Deadline, clip},
    said::said,
};

/// All that is kept of what ssh says about itself.
const MAX_SAID: u64 = 256 * 1024;

/// How long ssh may take to end.
const PARTING: Duration = Duration::from_millis(500);

pub(super) async fn run(job: &Job, program: &Path, identities: &[Identity]) -> Result<Report, Error> {
    if !job.node.options.jump.is_empty() {
        // ssh runs another ssh for each host on the way, which is told nothing of how we trust
        return Err(Error::JumpByProgram {
            node: job.node.host.clone(),
        });
    }
    let deadline = Deadline::new(job.limits.connect + job.limits.auth, job.ends);
    // ssh takes a file it cannot read for an empty one; here as everywhere that ends the session.
    super::known_hosts(job).await?;
    let failed = |said: String| Error::Program {
        node: job.node.host.clone(),
        program: program.display().to_string(),
        said,
    };
    let mut child = Command::new(program)
        .args(arguments(job, identities))
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    job.entry.knocked();
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(failed("it has no standard streams".to_owned()));
    };
    let saying = tokio::spawn(async move {
        let said = said(stderr, MAX_SAID).await;
        String::from_utf8_lossy(&said).into_owned()
    });
    let starting = sftp::Session::start(join(stdout, stdin), job.limits.total);
    let started = deadline
        .bound(job.host(), Stage::Authentication, starting)
        .await?;
    let Ok(mut sftp) = started else {
        let _ = tokio::time::timeout(PARTING, child.wait()).await;
        let _ = child.start_kill();
        let said = saying.await.unwrap_or_default();
        return Err(judge(job, &said).unwrap_or_else(|| failed(clip(last_words(&said)))));
    };
    job.at_node.breaker.answered();
    job.entry.welcomed();
    let files = work(&mut sftp, job).await;
    drop(sftp);
    end(&mut child).await;
    let said = saying.await.unwrap_or_default();
    Ok(Report {
        files,
        method: method(&said),
        transport: Transport::OpenSsh,
        chosen: Chosen::AsTold,
        host_key: None,
        server: server(&said),
    })
}

async fn end(child: &mut Child) {
    if tokio::time::timeout(PARTING, child.wait()).await.is_err() {
        let _ = child.start_kill();
    }
}

fn arguments(job: &Job, identities: &[Identity]) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| {
        let mut text = OsString::from(format!("{name}="));
        text.push(value);
        all.push("-o".into());
        all.push(text);
    };
    let connect = job.limits.connect.as_secs().max(1);
    for (name, value) in [
        ("BatchMode", "yes"),
        ("UpdateHostKeys", "no"),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("VerifyHostKeyDNS", "no"),
        ("PreferredAuthentications", "gssapi-with-mic,hostbased,publickey"),
        ("ForwardAgent", "no"),
        ("ForwardX11", "no"),
        ("ClearAllForwardings", "yes"),
        ("PermitLocalCommand", "no"),
        ("ControlPath", "none"),
        ("RequestTTY", "no"),
        ("RemoteCommand", "none"),
        // Names the server and the method that let us in.
        ("LogLevel", "DEBUG1"),
    ] {
        option(name, value.into());
    }
    option("ConnectTimeout", connect.to_string().into());
    let options = &job.node.options;
    let (checking, record) = match &options.trust {
        Trust::Strict => ("yes", None),
        Trust::FirstUse { record } => ("accept-new", Some(record)),
        Trust::Any { record } => ("no", Some(record)),
    };
    option("StrictHostKeyChecking", checking.into());
    // ssh writes new keys to the first of them.
    let files: Vec<PathBuf> = record.into_iter().chain(&job.node.known_hosts).cloned().collect();
    option("UserKnownHostsFile", quoted_list(&files));
    for (name, value) in [
        ("HostName", options.address.clone()),
        ("HostKeyAlias", options.host_key_alias.clone()),
        ("HostKeyAlgorithms", options.algorithms.host_keys.clone()),
        ("KexAlgorithms", options.algorithms.kex.clone()),
        ("Ciphers", options.algorithms.ciphers.clone()),
        ("MACs", options.algorithms.macs.clone()),
    ] {
        if let Some(value) = value {
            option(name, value.into());
        }
    }
    option("Port", job.node.port.to_string().into());
    option("User", job.node.user.clone().into());
    // Of each option ssh takes the first it meets.
    let agent = identities
        .iter()
        .any(|identity| matches!(identity, Identity::Agent { .. }));
    if !identities.is_empty() {
        option("IdentitiesOnly", if agent { "no" } else { "yes" }.into());
    }
    for identity in identities {
        match identity {
            Identity::Key(key) => option("IdentityFile", quoted(key)),
            Identity::Certificate { key, certificate } => {
                option("IdentityFile", quoted(key));
                option("CertificateFile", quoted(certificate));
            }
            Identity::Agent { socket } => option("IdentityAgent", quoted(socket)),
        }
    }
    all.push("-s".into());
    all.push("--".into());
    all.push(job.node.host.clone().into());
    all.push("sftp".into());
    all
}

/// ssh splits options at blanks, outside quotes, and expands `%`.
fn quoted(path: &Path) -> OsString {
    format!("\"{}\"", path.display().to_string().replace('%', "%%")).into()
}

fn quoted_list(paths: &[PathBuf]) -> OsString {
    if paths.is_empty() {
        return "/dev/null".into();
    }
    let quoted: Vec<OsString> = paths.iter().map(|path| quoted(path)).collect();
    quoted.join(&OsString::from(" "))
}

/// What ssh said that is not about itself.
fn last_words(said: &str) -> &str {
    said.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("debug1:") && !line.starts_with("Transferred"))
        .unwrap_or("it ended without a word")
}

fn method(said: &str) -> Method {
    let used = said
        .lines()
        .find_map(|line| line.strip_prefix("Authenticated to ")?.split("using \"").nth(1));
    match used.and_then(|rest| rest.split('"').next()) {
        Some("gssapi-with-mic") => Method::Gssapi,
        Some("hostbased") => Method::HostBased,
        _ => Method::PublicKey,
    }
}

fn server(said: &str) -> String {
    said.lines()
        .find_map(|line| line.split("remote software version ").nth(1))
        .map(|name| format!("SSH-2.0-{}", clip(name)))
        .unwrap_or_default()
}

/// The errors the other transports have names for, by ssh's words (OpenSSH has kept them for decades).
fn judge(job: &Job, said: &str) -> Option<Error> {
    let node = job.node.host.clone();
    let port = job.node.port;
    let last = last_words(said);
    let has = |text: &str| said.contains(text);
    if has("Host key verification failed") {
        let looked_at = job.node.known_hosts.clone();
        let shown = said
            .lines()
            .find_map(|line| line.split("Server host key: ").nth(1))
            .map(clip)
            .unwrap_or_default();
        return Some(
            job.not_trusted(if has("HAS CHANGED") || has("is revoked") || has("REVOKED") {
                Verdict::Refused {
                    said: clip(last_change(said)),
                    shown,
                }
            } else {
                Verdict::Unknown {
                    looked_at,
                    shown,
                    authority: None,
                    malformed: Vec::new(),
                }
            }),
        );
    }
    if let Some(accepted) = last.split("Permission denied (").nth(1) {
        let accepted = accepted
            .trim_end_matches([')', '.'])
            .split(',')
            .map(str::to_owned);
        return Some(job.refused(
            vec![Method::Gssapi, Method::HostBased, Method::PublicKey],
            accepted.collect(),
        ));
    }
    if has("Connection refused") {
        return Some(Error::Refused { node, port });
    }
    if has("Could not resolve hostname") {
        let source = std::sync::Arc::new(std::io::Error::new(std::io::ErrorKind::NotFound, clip(last)));
        return Some(Error::Resolve { node, source });
    }
    if has("Not allowed at this time") {
        let said = clip(last);
        return Some(Error::KeptOut { node, said });
    }
    if has("kex_exchange_identification") {
        return Some(Error::TooManyConnections {
            node,
            said: clip(last),
        });
    }
    if has("subsystem request failed") || has("Authenticated to ") {
        let account = job.node.user.clone();
        return Some(Error::SftpMissing {
            node,
            account,
            detail: clip(last),
        });
    }
    None
}

fn last_change(said: &str) -> &str {
    said.lines()
        .map(str::trim)
        .find(|line| line.starts_with("Offending") || line.contains("revoked"))
        .unwrap_or("the host key has changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_read() {
        let said = "debug1: Remote protocol version 2.0, remote software version OpenSSH_10.0p2 Debian-7\n\
                    Authenticated to both.mtk.test ([127.0.2.3]:22) using \"publickey\".\ndebug1: x\n\n";
        assert_eq!(method(said), Method::PublicKey);
        assert_eq!(method(&said.replace("publickey", "hostbased")), Method::HostBased);
        assert_eq!(server(said), "SSH-2.0-OpenSSH_10.0p2 Debian-7");
        assert_eq!(
            last_words("Permission denied (publickey).\ndebug1: x\n"),
            "Permission denied (publickey)."
        );
        assert_eq!(last_words("debug1: x"), "it ended without a word");
    }

    #[tokio::test]
    async fn hosts_on_the_way_are_refused_before_ssh_is_run() {
        let node = |jump| crate::Node {
            host: "node.test".into(),
            port: 22,
            user: "a".into(),
            known_hosts: vec![],
            login: crate::Login::OpenSsh {
                program: "/nonexistent/ssh".into(),
                identities: vec![],
            },
            options: crate::Options {
                jump,
                ..crate::Options::default()
            },
        };
        let go = async |jump| {
            let limits = crate::Limits::default();
            crate::ssh::run(
                &crate::Gate::default(),
                &node(jump),
                &[],
                crate::Mode::Verify,
                &limits,
            )
            .await
        };
        let gate = crate::Jump {
            host: "gate.test".into(),
            port: 22,
            user: None,
        };
        match go(vec![gate]).await.map(drop) {
            Err(error @ Error::JumpByProgram { .. }) => {
                assert!(!error.retryable());
                assert!(error.to_string().contains("russh, libssh2 or auto"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(go(vec![]).await.map(drop), Err(Error::Program { .. })));
    }

    #[test]
    fn paths_are_one_word_to_ssh() {
        assert_eq!(quoted(Path::new("/a b/%h")), "\"/a b/%%h\"");
        assert_eq!(quoted_list(&[]), "/dev/null");
        assert_eq!(quoted_list(&["/a".into(), "/b c".into()]), "\"/a\" \"/b c\"");
    }
}
