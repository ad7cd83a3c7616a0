//! Which login each node takes, from one run to the next.

use std::collections::BTreeMap;

use config::{Service, Transport};
use distribute::{Chosen, Gate, Method};
use jiff::Timestamp;
use state::{NodeLogin, State};

use super::World;

/// Tells the gate what nodes took before. Nothing is lost without it but a question to each node.
pub(super) async fn recall(state: &State, gate: &Gate) -> BTreeMap<(String, u16), NodeLogin> {
    let known = state.node_logins().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "which logins the nodes take cannot be read: they are asked again");
        BTreeMap::new()
    });
    for ((host, port), login) in &known {
        // one that a later mtk knows is asked for again
        if let Some(method) = Method::named(&login.method) {
            gate.recall(host, *port, method);
        }
    }
    known
}

/// Writes down what is known by now and was not before.
pub(super) async fn remember(world: &World) {
    let now = Timestamp::now();
    for (host, port, method) in world.gate.known() {
        let before = world.node_logins.get(&(host.clone(), port));
        let method = method.map(|method| method.as_str().to_owned());
        if before.map(|login| &login.method) == method.as_ref() {
            continue;
        }
        let login = method.map(|method| NodeLogin { method, since: now });
        let written = world.state.record_node_login(&host, port, login.as_ref());
        world.remember(written.await);
    }
}

/// Which way a file would go to a node by what is remembered of it, without asking; `None` if nothing is, or if that is
/// not what decides.
pub(super) fn way_before(world: &World, service: &Service, node: &str) -> Option<String> {
    let ssh = service.ssh_on(node);
    let login = world.node_logins.get(&(node.to_ascii_lowercase(), ssh.port))?;
    let has_keys = ssh.public_keys && !(ssh.identity_files.is_empty() && ssh.agent.is_none());
    let transport = match Method::named(&login.method)? {
        Method::Gssapi if ssh.kerberos => distribute::Transport::Russh,
        Method::PublicKey if has_keys => distribute::Transport::Libssh2,
        _ => return None,
    };
    let chosen = Chosen::Remembered;
    (ssh.transport == Transport::Auto && ssh.kerberos)
        .then(|| format!("{} over {transport}: {chosen}", login.method))
}
