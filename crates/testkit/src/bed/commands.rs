//! What a bed does when it is told to: the other end of [`super::control`].

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::control::{LONGEST, Reply, Request, short};
use super::layout::Layout;
use super::servers::Servers;
use super::{htvault, issuer, kdc, ldap, nodes, pool, pool_sid, vault};
use crate::site::{ACCESS_POINTS, COLLECTOR, ISSUER, KDC, LDAP, NODES, SECOND_POOL, VAULT};

/// Opens the bed's socket.
pub(super) fn listen(layout: &Layout) -> Result<UnixListener> {
    if layout.control().exists() {
        fs::remove_file(layout.control())?;
    }
    let (_dir, path) = short(&layout.dir)?;
    UnixListener::bind(path).with_context(|| format!("cannot open {}", layout.control().display()))
}

/// Serves commands for ever.
pub(super) fn serve(layout: &Layout, servers: &Servers, listener: &UnixListener) -> Result<ExitCode> {
    loop {
        let (stream, _) = listener.accept().context("the command socket")?;
        let (layout, servers) = (layout.clone(), servers.clone());
        std::thread::spawn(move || {
            // whoever asked and went away gets no answer
            let _gone = answer(&layout, &servers, stream);
        });
    }
}

fn answer(layout: &Layout, servers: &Servers, mut stream: UnixStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?.take(LONGEST)).read_line(&mut line)?;
    let done = serde_json::from_str(&line)
        .context("no command that is known here")
        .and_then(|request| perform(layout, servers, request));
    let reply = match done {
        Ok(value) => Reply::Ok(value),
        Err(error) => Reply::Error(format!("{error:#}")),
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    Ok(stream.write_all(&bytes)?)
}

fn perform(layout: &Layout, servers: &Servers, request: Request) -> Result<Value> {
    let nothing = |()| Value::Null;
    match request {
        Request::Status => Ok(serde_json::to_value(servers.status())?),
        Request::Pid { server } => Ok(json!(servers.pid(&server)?)),
        Request::Start { server } => start(layout, servers, &server).map(nothing),
        Request::Stop { server } => servers.stop(&server).map(nothing),
        Request::Kill { server } => servers.kill(&server).map(nothing),
        Request::Pause { server } => servers.pause(&server).map(nothing),
        Request::Resume { server } => servers.resume(&server).map(nothing),
        Request::Heal => heal(layout, servers).map(nothing),
        Request::Seal => vault::seal(layout).map(nothing),
        Request::Unseal => vault::unseal(layout).map(nothing),
        Request::Onboard {
            issuer,
            role,
            account,
            credkey,
        } => htvault::onboard(layout, &issuer, &role, &account, &credkey).map(nothing),
        Request::Forget {
            issuer,
            role,
            credkey,
        } => htvault::forget(layout, &issuer, &role, &credkey).map(nothing),
        Request::DeviceFlow {
            issuer,
            role,
            account,
            credkey,
        } => htvault::device_flow(&issuer, &role, &account, &credkey).map(Value::String),
        Request::AllowSlashes { issuer, role, allow } => {
            htvault::allow_slashes(layout, &issuer, &role, allow).map(nothing)
        }
        Request::IssuerConfig { switches } => issuer::configure(&switches),
        Request::IssuerStats => issuer::stats(),
        Request::Revoke { account } => issuer::revoke(&account),
        Request::Consent { url, account } => issuer::consent(&url, &account),
        Request::Vault { method, path, body } => vault::call(layout, &method, &path, body.as_ref()),
        Request::SecondPool { root } => pool_sid::start(layout, servers, &root).map(nothing),
        Request::AddPrincipal { principal, keytab } => {
            kdc::add(layout, &[(keytab.clone(), principal)])?;
            Ok(json!(layout.keytab(&keytab)))
        }
    }
}

fn start(layout: &Layout, servers: &Servers, server: &str) -> Result<()> {
    servers.restart(server)?;
    servers.resume(server)?;
    match server {
        name if name == KDC.server => kdc::ready(layout, servers),
        name if name == LDAP.server => ldap::ready(layout, servers),
        name if name == ISSUER.server => issuer::ready(layout, servers),
        name if name == VAULT.server => {
            vault::listening(layout, servers)?;
            vault::unseal(layout)?;
            vault::ready(layout, servers)
        }
        // this one alone: another may be stopped on purpose
        name if NODES.iter().any(|node| node.server == name) => nodes::server_ready(layout, name),
        name if name == COLLECTOR.server || ACCESS_POINTS.iter().any(|ap| ap.server == name) => {
            pool::server_ready(layout, name)
        }
        name if name == SECOND_POOL.server => pool_sid::ready(layout),
        _ => Ok(()),
    }
}

fn heal(layout: &Layout, servers: &Servers) -> Result<()> {
    let failed: Vec<String> = servers
        .status()
        .keys()
        .filter_map(|server| {
            start(layout, servers, server)
                .err()
                .map(|error| format!("{server}: {error:#}"))
        })
        .collect();
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    pool::ready(layout)?;
    nodes::ready(layout)
}
