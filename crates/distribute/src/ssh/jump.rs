//! The way to a node through other hosts: a session to each, and in it a connection to the next (RFC 4254, section 7.2).

use std::{net, os::fd::OwnedFd, os::unix::net::UnixStream as Pair, time::Duration};

use tokio::{io::copy_bidirectional, net::UnixStream};

use super::{Credential, Job, known_hosts, load, russh};
use crate::{
    Error, Identity, Jump, Login, Method, Node, Options, Stage,
    dial::{Deadline, Link, dial, meet},
};

/// More than anybody has in a row; a list that leads round in circles ends here.
const MAX_JUMPS: usize = 8;

/// How long a connection through a host may last altogether: longer than any session of ours.
const LONGEST: Duration = Duration::from_secs(600);

/// Opens the connection to the node through all of its jumps.
///
/// The hosts on the way have no gate: no places, no breaker, and what they may count against us is not counted along.
/// Errors name them, so that the node is not blamed for theirs.
pub(super) async fn through(job: &Job, deadline: Deadline) -> Result<Link, Error> {
    let jumps = &job.node.options.jump;
    if jumps.len() > MAX_JUMPS {
        return Err(job.protocol(
            Stage::Connect,
            format!("the way there leads over {} hosts", jumps.len()),
        ));
    }
    let mut reached: Option<russh::Session> = None;
    for jump in jumps {
        let here = on_the_way(job, jump);
        let link = match reached.take() {
            None => {
                let (host, port) = (here.host(), here.node.port);
                dial(host, here.node.address(), port, deadline).await?
            }
            Some(session) => open(session, &here, here.host(), deadline).await?,
        };
        let hosts = deadline
            .bound(here.host(), Stage::Connect, known_hosts(&here))
            .await??;
        let mut session = russh::Session::start(&here, link, hosts, deadline).await?;
        log_in(&here, &mut session, deadline).await?;
        reached = Some(session);
    }
    job.entry.knocked();
    match reached {
        Some(session) => open(session, job, job.node.address(), deadline).await,
        None => dial(job.host(), job.node.address(), job.node.port, deadline).await,
    }
}

/// The same job at the jump host.
fn on_the_way(job: &Job, jump: &Jump) -> Job {
    Job {
        node: Node {
            host: jump.host.clone(),
            port: jump.port,
            user: jump.user.as_ref().unwrap_or(&job.node.user).clone(),
            options: Options {
                trust: job.node.options.trust.clone(),
                algorithms: job.node.options.algorithms.clone(),
                identities: job.node.options.identities.clone(),
                ..Options::default()
            },
            ..job.node.clone()
        },
        ..job.clone()
    }
}

async fn log_in(job: &Job, session: &mut russh::Session, deadline: Deadline) -> Result<(), Error> {
    let (kerberos, identities) = match &job.node.login {
        Login::Gssapi { ticket, gss } => (Some((ticket, gss)), Vec::new()),
        Login::PublicKey { key } => (None, vec![Identity::Key(key.clone())]),
        Login::Libssh2 { identities } | Login::Russh { identities } | Login::OpenSsh { identities, .. } => {
            (None, identities.clone())
        }
        Login::Auto { kerberos, keys } => (
            kerberos.as_ref().map(|(ticket, gss)| (ticket, gss)),
            keys.iter().cloned().map(Identity::Key).collect(),
        ),
    };
    let none = identities.is_empty() && job.node.options.identities.is_empty();
    let accepted = session.accepted(job, deadline).await?;
    let takes = |method: Method| accepted.iter().any(|name| name == method.as_str());
    let mut tried = Vec::new();
    if let Some((ticket, gss)) = kerberos.filter(|_| takes(Method::Gssapi)) {
        match session.gssapi(job, ticket, gss, deadline).await {
            Err(Error::AuthRefused { .. } | Error::GssFailed { .. }) if !none => {
                tried.push(Method::Gssapi);
            }
            done => return done,
        }
    }
    if none || !takes(Method::PublicKey) {
        return Err(job.refused(tried, accepted));
    }
    let credentials: Vec<Credential> = load(job, &identities).await?;
    session.publickey(job, &credentials, deadline).await
}

/// A connection from the host of `session` to where `job` goes. One end of a socket pair stands for it here, so that
/// both transports take it for a connection of their own; when that end closes, the session ends.
async fn open(session: russh::Session, job: &Job, address: &str, deadline: Deadline) -> Result<Link, Error> {
    let port = job.node.port;
    let failed = |error: std::io::Error| job.protocol(Stage::Connect, error.to_string());
    let opening = session.direct(job, address, port);
    let mut far = deadline.bound(job.host(), Stage::Connect, opening).await??;
    let (ours, theirs) = Pair::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    theirs.set_nonblocking(true).map_err(failed)?;
    let mut theirs = UnixStream::from_std(theirs).map_err(failed)?;
    tokio::spawn(async move {
        let _ = tokio::time::timeout(LONGEST, copy_bidirectional(&mut far, &mut theirs)).await;
        session.end().await;
    });
    meet(
        job.host(),
        port,
        net::TcpStream::from(OwnedFd::from(ours)),
        deadline,
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gate, Limits, Mode};

    #[tokio::test]
    async fn what_a_host_on_the_way_does_is_not_held_against_the_node() {
        // nothing listens on either
        let node = |jump| Node {
            host: "127.0.0.2".into(),
            port: 1,
            user: "a".into(),
            known_hosts: vec![],
            login: Login::Russh { identities: vec![] },
            options: Options {
                jump,
                ..Options::default()
            },
        };
        let gate = Gate::default();
        let go = async |node| {
            let done = crate::ssh::run(&gate, &node, &[], Mode::Verify, &Limits::default()).await;
            match done {
                Err(Error::Refused { node, .. }) => node,
                other => panic!("{other:?}"),
            }
        };
        let jump = Jump {
            host: "127.0.0.3".into(),
            port: 1,
            user: None,
        };
        assert_eq!(go(node(vec![jump])).await, "127.0.0.3");
        // so the node itself is still tried
        assert_eq!(go(node(vec![])).await, "127.0.0.2");
    }
}
