//! One session: dial, trust, log in, work on the files.
//!
//! Each transport is a file below that makes a [`crate::placement::Sftp`]; everything before (dialling, host keys) and
//! after (placement) is shared.

mod algorithms;
mod gssapi;
mod job;
mod jump;
mod libssh2;
mod openssh;
mod russh;
pub(crate) mod sftp;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Chosen, Error, File, FileError, Gate, Identity, Landed, Limits, Login, Method, Mode, Node, Report, Stage,
    dial::{Deadline, Link},
    identity::{self, Credential},
    known_hosts::KnownHosts,
    placement::{Failed, Fault, Sftp, clock, directories, place_file, sweep, temp_name, temp_path},
    told,
};

pub(crate) use job::Job;

/// Waits for its place and runs the session.
pub(crate) async fn run(
    gate: &Gate,
    node: &Node,
    files: &[File],
    mode: Mode,
    limits: &Limits,
) -> Result<Report, Error> {
    let pass = gate
        .enter(&node.host, node.port, &node.user, limits.total)
        .await?;
    let began = Instant::now();
    let ends = began + limits.total;
    let job = Job {
        node: node.clone(),
        files: files.into(),
        mode,
        limits: *limits,
        ends,
        at_node: Arc::clone(&pass.node),
        entry: Arc::clone(&pass.entry),
    };
    let report = match &node.login {
        Login::Gssapi { ticket, gss } => with_ticket(&job, ticket, gss).await,
        Login::PublicKey { key } => with_keys(&job, std::slice::from_ref(key)).await,
        Login::Libssh2 { identities } => over_libssh2(&job, identities).await,
        Login::Russh { identities } => over_russh(&job, identities).await,
        Login::OpenSsh { program, identities } => {
            openssh::run(&job, program, &with_options(&job, identities)).await
        }
        Login::Auto { kerberos, keys } => auto(&job, kerberos.as_ref(), keys).await,
    };
    let report = report.map_err(|error| job.tell_apart(error, began));
    match &report {
        Ok(_) => {
            pass.node.greeted();
            pass.entry.welcomed();
        }
        Err(error) if job.is_of_the_node(error) => {
            pass.node.failed(error);
            pass.entry.failed(error);
        }
        Err(_) => pass.entry.forgone(),
    }
    report
}

async fn with_ticket(job: &Job, ticket: &kerberos::Ticket, gss: &kerberos::Gss) -> Result<Report, Error> {
    let mut session = start_russh(job).await?;
    let deadline = Deadline::new(job.limits.auth, job.ends);
    session.gssapi(job, ticket, gss, deadline).await?;
    job.entry.welcomed();
    session.work(job, Method::Gssapi, deadline).await
}

async fn with_keys(job: &Job, paths: &[PathBuf]) -> Result<Report, Error> {
    let identities: Vec<Identity> = paths.iter().cloned().map(Identity::Key).collect();
    over_libssh2(job, &identities).await
}

async fn over_libssh2(job: &Job, identities: &[Identity]) -> Result<Report, Error> {
    let credentials = load(job, identities).await?;
    let (link, hosts, deadline) = reach(job).await?;
    libssh2::run(job.clone(), link, hosts, credentials, deadline).await
}

async fn over_russh(job: &Job, identities: &[Identity]) -> Result<Report, Error> {
    let credentials = load(job, identities).await?;
    let mut session = start_russh(job).await?;
    let deadline = Deadline::new(job.limits.auth, job.ends);
    session.publickey(job, &credentials, deadline).await?;
    job.entry.welcomed();
    session.work(job, Method::PublicKey, deadline).await
}

/// A login's own identities after those the options of the node name.
fn with_options(job: &Job, identities: &[Identity]) -> Vec<Identity> {
    let options = &job.node.options.identities;
    options.iter().chain(identities).cloned().collect()
}

/// Whether there is anything to try by `publickey`.
fn has_keys(job: &Job, keys: &[PathBuf]) -> bool {
    !(keys.is_empty() && job.node.options.identities.is_empty())
}

async fn load(job: &Job, identities: &[Identity]) -> Result<Vec<Credential>, Error> {
    let identities = with_options(job, identities);
    blocking(job, move || identity::load(&identities)).await?
}

/// Finds out what the node accepts, once for all sessions to it, and goes that way.
async fn auto(
    job: &Job,
    kerberos: Option<&(kerberos::Ticket, kerberos::Gss)>,
    keys: &[PathBuf],
) -> Result<Report, Error> {
    let has_keys = has_keys(job, keys);
    let only = match (kerberos, has_keys) {
        (None, true) => Some(Method::PublicKey),
        (None, false) => return Err(job.refused(Vec::new(), Vec::new())),
        (Some(_), _) => way_known(job, has_keys),
    };
    match (only, kerberos) {
        (Some(Method::PublicKey), _) => match with_keys(job, keys).await {
            // The node may have changed its mind, or accept different things of different accounts: ask.
            Err(error @ Error::AuthRefused { .. }) if kerberos.is_some() => {
                job.goes_on_after(&error);
                job.at_node.remember(None);
            }
            done if kerberos.is_none() => return because(done, Chosen::OnlyKeys),
            done => return because(done, Chosen::Remembered),
        },
        (Some(Method::Gssapi), Some((ticket, gss))) => match with_ticket(job, ticket, gss).await {
            Err(error) if has_keys && keys_may_do(&error) => {
                job.goes_on_after(&error);
                if let Error::AuthRefused { accepted, .. } = &error
                    && !names(accepted, Method::Gssapi)
                {
                    // nobody's ticket is of use here any more
                    job.at_node.remember(Some(Method::PublicKey));
                }
                return both_tried(&error, with_keys(job, keys).await);
            }
            done => return because(done, Chosen::Remembered),
        },
        _ => {}
    }
    let Some((ticket, gss)) = kerberos else {
        return because(with_keys(job, keys).await, Chosen::OnlyKeys);
    };
    ask(job, ticket, gss, keys).await
}

/// What the node took before, if a session with a ticket can go that way: what was remembered of one with keys says
/// nothing to one that has none.
fn way_known(job: &Job, has_keys: bool) -> Option<Method> {
    job.at_node.accepts().filter(|method| match method {
        Method::Gssapi => true,
        Method::PublicKey => has_keys,
        Method::HostBased => false,
    })
}

async fn ask(
    job: &Job,
    ticket: &kerberos::Ticket,
    gss: &kerberos::Gss,
    keys: &[PathBuf],
) -> Result<Report, Error> {
    let has_keys = has_keys(job, keys);
    let asking = job.at_node.asking.lock().await;
    if way_known(job, has_keys).is_some() {
        // Another session found out while this one waited.
        drop(asking);
        return Box::pin(auto(job, Some(&(ticket.clone(), gss.clone())), keys)).await;
    }
    let mut session = start_russh(job).await?;
    let deadline = Deadline::new(job.limits.auth, job.ends);
    let accepted = session.accepted(job, deadline).await?;
    let by_key = names(&accepted, Method::PublicKey) && has_keys;
    if names(&accepted, Method::Gssapi) {
        match session.gssapi(job, ticket, gss, deadline).await {
            Ok(()) => {
                job.at_node.remember(Some(Method::Gssapi));
                job.entry.welcomed();
                drop(asking);
                let done = session.work(job, Method::Gssapi, deadline).await;
                return because(done, Chosen::Accepts(accepted));
            }
            Err(error) if by_key && keys_may_do(&error) => {
                session.end().await;
                job.goes_on_after(&error);
                drop(asking);
                return both_tried(&error, with_keys(job, keys).await);
            }
            Err(error) => return Err(error),
        }
    }
    session.end().await;
    if !by_key {
        let mut offered = vec![Method::Gssapi];
        if has_keys {
            offered.push(Method::PublicKey);
        }
        return Err(job.refused(offered, accepted));
    }
    job.at_node.remember(Some(Method::PublicKey));
    job.entry.left();
    drop(asking);
    because(with_keys(job, keys).await, Chosen::Accepts(accepted))
}

fn because(report: Result<Report, Error>, chosen: Chosen) -> Result<Report, Error> {
    report.map(|report| Report { chosen, ..report })
}

fn names(accepted: &[String], method: Method) -> bool {
    accepted.iter().any(|name| name == method.as_str())
}

/// Whether a Kerberos login failed in a way that leaves keys worth trying.
fn keys_may_do(error: &Error) -> bool {
    match error {
        Error::AuthRefused { accepted, .. } => names(accepted, Method::PublicKey),
        Error::GssFailed { .. } => true,
        _ => false,
    }
}

/// A refusal of the keys names the ticket too, where that was tried before.
fn both_tried(before: &Error, report: Result<Report, Error>) -> Result<Report, Error> {
    let reason = std::error::Error::source(before).map(ToString::to_string);
    tracing::warn!(error = %before, reason, "Kerberos did not do; keys were tried");
    because(report, Chosen::KerberosFailed).map_err(|error| match error {
        Error::AuthRefused {
            node,
            account,
            accepted,
            ..
        } => {
            let offered = vec![Method::Gssapi, Method::PublicKey];
            let unheard = matches!(before, Error::AuthRefused { unheard: true, .. });
            Error::AuthRefused {
                node,
                account,
                offered,
                accepted,
                unheard,
            }
        }
        other => other,
    })
}

async fn start_russh(job: &Job) -> Result<russh::Session, Error> {
    let (link, hosts, deadline) = reach(job).await?;
    let session = russh::Session::start(job, link, hosts, deadline).await?;
    job.at_node.breaker.answered();
    Ok(session)
}

/// The connection, and what is known about the host key to come.
async fn reach(job: &Job) -> Result<(Link, KnownHosts, Deadline), Error> {
    let deadline = Deadline::new(job.limits.connect, job.ends);
    let hosts = deadline
        .bound(job.host(), Stage::Connect, known_hosts(job))
        .await??;
    let link = knock(job, deadline).await?;
    job.at_node.penalties.meet(&link.server);
    Ok((link, hosts, deadline))
}

async fn known_hosts(job: &Job) -> Result<KnownHosts, Error> {
    let node = &job.node;
    let name = node.options.host_key_alias.as_ref().unwrap_or(&node.host).clone();
    let (files, port, trust) = (node.known_hosts.clone(), node.port, node.options.trust.clone());
    // On a thread of its own: home directories may lie on a file server.
    blocking(job, move || KnownHosts::read(&files, &name, port, &trust))
        .await?
        .map_err(|verdict| job.not_trusted(verdict))
}

/// Dials, again a few times where sshd turns us away at the door: `MaxStartups` does so by lot, and since 9.8 OpenSSH
/// says the same words to those it keeps out.
async fn knock(job: &Job, deadline: Deadline) -> Result<Link, Error> {
    let began = Instant::now();
    let mut turned_away = false;
    for pause in KNOCKS {
        let error = match jump::through(job, deadline).await {
            Err(error @ (Error::TooManyConnections { .. } | Error::KeptOut { .. })) => {
                job.tell_apart(error, began)
            }
            done => return greeted(job, done, turned_away),
        };
        let ours = job.is_of_the_node(&error);
        if ours && matches!(error, Error::TooManyConnections { .. }) {
            job.at_node.give_way();
        }
        turned_away |= ours;
        // Drawn, so that those turned away together do not come back together.
        let pause = pause.mul_f64(rand::random_range(0.5..1.5));
        if deadline.left() <= pause {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "turned away, trying again");
        tokio::time::sleep(pause).await;
    }
    let done = jump::through(job, deadline).await;
    greeted(job, done, turned_away).map_err(|error| job.tell_apart(error, began))
}

fn greeted(job: &Job, done: Result<Link, Error>, turned_away: bool) -> Result<Link, Error> {
    if done.is_ok() {
        job.at_node.greeted();
        if turned_away {
            // so it was by lot
            job.at_node.give_way();
        }
    }
    done
}

async fn blocking<T: Send + 'static>(
    job: &Job,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| job.protocol(Stage::Connect, format!("a thread of mtk ended early: {error}")))
}

/// Pauses between attempts to be let in. Longer ones are for whoever decides about whole sessions.
const KNOCKS: [Duration; 3] = [
    Duration::from_millis(150),
    Duration::from_millis(400),
    Duration::from_millis(1000),
];

/// How long looking for what dead runs left may keep a session.
const SWEEPING: Duration = Duration::from_secs(3);

/// Removes what dead runs of this account left in the directories of this session: at the end, so that no token waits.
async fn sweep_up<S: Sftp>(sftp: &mut S, job: &Job) {
    if job.mode != Mode::Write {
        return;
    }
    let now = clock();
    for directory in directories(&job.files) {
        if job.at_node.sweep_is_due(&job.node.user, directory) {
            sftp.set_deadline(Deadline::new(SWEEPING, job.ends).at);
            sweep(sftp, directory, now).await;
        }
    }
}

/// Removes what a broken session of this account may have left here.
async fn clear_litter<S: Sftp>(sftp: &mut S, job: &Job) {
    if job.mode != Mode::Write {
        return;
    }
    for path in job.at_node.take_litter(&job.node.user) {
        sftp.set_deadline(Deadline::new(job.limits.per_file, job.ends).at);
        if sftp.remove(&path).await.is_ok() {
            tracing::info!(file = path, "removed the temporary file of a broken session");
        }
    }
}

/// Works on the files, one after another, over an SFTP session of either transport.
pub(crate) async fn work<S: Sftp>(sftp: &mut S, job: &Job) -> Vec<Result<Landed, FileError>> {
    let mut lost: Option<String> = None;
    clear_litter(sftp, job).await;
    let mut results = Vec::with_capacity(job.files.len());
    for file in job.files.iter() {
        let path = file.path.clone();
        if let Some(why) = &lost {
            results.push(Err(FileError::SessionLost {
                path,
                why: why.clone(),
            }));
            continue;
        }
        let deadline = Deadline::new(job.limits.per_file, job.ends);
        sftp.set_deadline(deadline.at);
        let temp = temp_name();
        let result = place_file(sftp, file, job.mode, &temp).await.map_err(|failed| {
            let (more, fault) = match failed {
                Failed::File(error) => return error,
                Failed::Session(fault) => (None, fault),
                Failed::Both(error, fault) => (Some(error), fault),
            };
            let after = deadline.span;
            let (why, error) = match fault {
                Fault::Timeout => {
                    let why = format!("{} took too long", file.path);
                    (why, FileError::TimedOut { path, after })
                }
                Fault::Lost(why) => (why.clone(), FileError::SessionLost { path, why }),
                other => {
                    let why = format!("{other:?}");
                    (why.clone(), FileError::SessionLost { path, why })
                }
            };
            lost = Some(why);
            more.unwrap_or(error)
        });
        if lost.is_some() && job.mode == Mode::Write {
            // It may be there or not; whoever comes next looks.
            if let Some(path) = temp_path(&file.path, &temp) {
                job.at_node.litter(&job.node.user, path);
            }
        }
        told::of_file(&job.node.host, &job.node.user, file, &result, job.mode);
        match &result {
            Ok(landed) => tracing::debug!(file = file.path, placed = ?landed.placed, "file looked after"),
            Err(error) => tracing::debug!(file = file.path, %error, "file not placed"),
        }
        results.push(result);
    }
    // what went aside is as old as it was, and may be all there is of a file until it is placed again
    let displaced = |result: &Result<Landed, FileError>| matches!(result, Err(FileError::Displaced { .. }));
    if lost.is_none() && !results.iter().any(displaced) {
        sweep_up(sftp, job).await;
    }
    results
}
