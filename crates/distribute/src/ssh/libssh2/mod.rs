//! SSH by libssh2: the way for public keys.
//!
//! libssh2's calls block, so a session lives on a thread of tokio's blocking pool, at most as many as the gate lets
//! in. Each call ends by its deadline (`libssh2_session_set_timeout`); should one not, the socket is shut down under it.

mod budget;
mod login;
mod raw;
mod sftp;

use std::{
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use ssh2::{ErrorCode, MethodType};

use super::{Job, algorithms, work};
use crate::{
    Chosen, Error, FileError, Landed, Method, Report, Stage, Transport, Verdict,
    dial::{Deadline, Link, clip},
    identity::Credential,
    known_hosts::KnownHosts,
};

/// How much longer than every deadline of its own a session may take before its socket is shut down.
const GRACE: Duration = Duration::from_secs(2);

/// How long, in milliseconds, a session may take to say goodbye.
const PARTING: u32 = 500;

/// The whole session after the banner. `deadline` is for the key exchange.
pub(super) async fn run(
    job: Job,
    link: Link,
    hosts: KnownHosts,
    credentials: Vec<Credential>,
    deadline: Deadline,
) -> Result<Report, Error> {
    let Link { stream, cut, server } = link;
    let lost = |error: &dyn std::fmt::Display| job.protocol(Stage::KeyExchange, error.to_string());
    let socket = stream.into_std().map_err(|error| lost(&error))?;
    socket.set_nonblocking(false).map_err(|error| lost(&error))?;
    let span = tracing::Span::current();
    let theirs = job.clone();
    let session = tokio::task::spawn_blocking(move || {
        let _entered = span.enter();
        session(&theirs, socket, &hosts, &credentials, deadline, server)
    });
    let patience = Deadline {
        at: job.ends + GRACE,
        span: job.limits.total,
    };
    let report = patience.bound(job.host(), Stage::Files, session).await;
    // Also where this future is dropped early: the thread does not outlive its socket by long.
    drop(cut);
    report?.map_err(|error| job.protocol(Stage::Files, format!("a thread of mtk ended early: {error}")))?
}

fn session(
    job: &Job,
    socket: TcpStream,
    hosts: &KnownHosts,
    credentials: &[Credential],
    deadline: Deadline,
    server: String,
) -> Result<Report, Error> {
    let mut session =
        ssh2::Session::new().map_err(|error| broken(job, Stage::KeyExchange, deadline, &error))?;
    let line = socket
        .try_clone()
        .map_err(|error| job.protocol(Stage::KeyExchange, error.to_string()))?;
    session.set_tcp_stream(socket);
    budget::begin(job.files.iter().map(|file| file.content.len()).sum());
    raw::bound(&session);
    let files = trust(job, &mut session, hosts, deadline).and_then(|host_key| {
        job.at_node.breaker.answered();
        let deadline = Deadline::new(job.limits.auth, job.ends);
        login::log_in(job, &session, credentials, deadline)?;
        job.entry.welcomed();
        let files = place_files(job, &session, &line, deadline)?;
        Ok((files, host_key))
    });
    if files.is_ok() {
        session.set_timeout(PARTING);
        budget::until(Instant::now() + Duration::from_millis(PARTING.into()));
        let _ = session.disconnect(None, "", None);
    }
    // What is dropped now would say goodbye again and wait for an answer.
    let _ = line.shutdown(Shutdown::Both);
    let (files, host_key) = files?;
    Ok(Report {
        files,
        host_key: Some(host_key),
        method: Method::PublicKey,
        transport: Transport::Libssh2,
        chosen: Chosen::AsTold,
        server,
    })
}

/// Key exchange and host key.
fn trust(
    job: &Job,
    session: &mut ssh2::Session,
    hosts: &KnownHosts,
    deadline: Deadline,
) -> Result<Verdict, Error> {
    let failed = |error: ssh2::Error| broken(job, Stage::KeyExchange, deadline, &error);
    prefer(job, session, hosts, deadline)?;
    session.set_timeout(millis(deadline).ok_or_else(|| deadline.passed(job.host(), Stage::KeyExchange))?);
    session.handshake().map_err(failed)?;
    match session.host_key() {
        Some((key, _)) => job.trust(hosts.decide(key)),
        None => Err(job.protocol(Stage::KeyExchange, "it showed no host key")),
    }
}

fn place_files(
    job: &Job,
    session: &ssh2::Session,
    line: &TcpStream,
    deadline: Deadline,
) -> Result<Vec<Result<Landed, FileError>>, Error> {
    session.set_timeout(millis(deadline).ok_or_else(|| deadline.passed(job.host(), Stage::Sftp))?);
    let sftp = session
        .sftp()
        .map_err(|error| no_sftp(job, line, deadline, &error))?;
    let mut sftp = sftp::Session::new(session.clone(), sftp, line);
    let results = work(&mut sftp, job).now_or_never();
    results.ok_or_else(|| job.protocol(Stage::Files, "a blocking call did not block"))
}

/// Known host keys first, and nothing that rests on SHA-1 or CBC, which libssh2 would still take, unless the site says so.
fn prefer(job: &Job, session: &ssh2::Session, hosts: &KnownHosts, deadline: Deadline) -> Result<(), Error> {
    let failed = |error: ssh2::Error| broken(job, Stage::KeyExchange, deadline, &error);
    let site = &job.node.options.algorithms;
    let lists = [
        (MethodType::HostKey, &site.host_keys),
        (MethodType::Kex, &site.kex),
        (MethodType::CryptCs, &site.ciphers),
        (MethodType::CryptSc, &site.ciphers),
        (MethodType::MacCs, &site.macs),
        (MethodType::MacSc, &site.macs),
    ];
    for (kind, list) in lists {
        let host_keys = matches!(kind, MethodType::HostKey);
        let known: Vec<String> = session
            .supported_algs(kind)
            .map_err(failed)?
            .into_iter()
            .map(str::to_owned)
            .collect();
        let usual = if host_keys {
            algorithms::host_keys(&hosts.kinds(), hosts.has_authority())
        } else {
            known
                .iter()
                .filter(|name| !algorithms::is_weak(name))
                .cloned()
                .collect()
        };
        let mut chosen =
            algorithms::select(list.as_deref(), &usual, &known).map_err(|list| job.none_known(&list))?;
        if matches!(kind, MethodType::Kex) && list.is_some() {
            // No algorithms but extensions of the protocol: a site's list does not mean them.
            let extensions = known
                .iter()
                .filter(|name| name.starts_with("kex-strict-") || name.starts_with("ext-info-"));
            chosen.extend(
                extensions
                    .filter(|name| !chosen.contains(name))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        session.method_pref(kind, &chosen.join(",")).map_err(failed)?;
    }
    Ok(())
}

/// libssh2 says "disconnected" for a channel that was closed, too: whether the line still stands tells them apart.
fn no_sftp(job: &Job, line: &TcpStream, deadline: Deadline, error: &ssh2::Error) -> Error {
    let missing = |detail: &str| {
        let (node, account) = (job.node.host.clone(), job.node.user.clone());
        Error::SftpMissing {
            node,
            account,
            detail: detail.to_owned(),
        }
    };
    match broken(job, Stage::Sftp, deadline, error) {
        Error::Protocol { detail, .. } | Error::Negotiation { detail, .. } => missing(&detail),
        Error::Disconnected { .. } if stands(line) => missing("what runs as SFTP server ended"),
        other => other,
    }
}

/// libssh2 leaves the socket non-blocking, so this does not wait.
fn stands(line: &TcpStream) -> bool {
    match line.peek(&mut [0]) {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// By whose fault, as far as libssh2 says.
fn broken(job: &Job, stage: Stage, deadline: Deadline, error: &ssh2::Error) -> Error {
    let node = job.node.host.clone();
    if let Some(complaint) = budget::complaint() {
        return job.protocol(stage, complaint);
    }
    if budget::is_late() {
        return deadline.passed(&node, stage);
    }
    let detail = clip(error.message());
    match error.code() {
        ErrorCode::Session(libssh2_sys::LIBSSH2_ERROR_TIMEOUT) => deadline.passed(&node, stage),
        ErrorCode::Session(code) if sftp::CONNECTION_GONE.contains(&code) => Error::Disconnected {
            node,
            stage,
            said: String::new(),
        },
        ErrorCode::Session(
            libssh2_sys::LIBSSH2_ERROR_KEX_FAILURE
            | libssh2_sys::LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE
            | libssh2_sys::LIBSSH2_ERROR_HOSTKEY_INIT
            | libssh2_sys::LIBSSH2_ERROR_HOSTKEY_SIGN,
        ) => Error::Negotiation { node, detail },
        _ => Error::Protocol { node, stage, detail },
    }
}

/// What is left, for libssh2: it takes 0 for "wait for ever".
fn millis(deadline: Deadline) -> Option<u32> {
    budget::until(deadline.at);
    let left = u32::try_from(deadline.left().as_millis()).unwrap_or(u32::MAX);
    (left > 0).then_some(left)
}
