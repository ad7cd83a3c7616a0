//! How an account is reached on a node, from what the configuration says of it.

use config::Service;
use distribute::Node;

use super::World;

/// How the account is reached on the node. Without a ticket a key may still do.
pub(crate) async fn address(world: &World, node: &str, service: &Service) -> Node {
    let ssh = service.ssh_on(node);
    let over = |transport| ssh.transport == transport;
    let kerberos = if ssh.kerberos && !over(config::Transport::Libssh2) && !over(config::Transport::OpenSsh) {
        let ticket = world.tickets.of(service).await.ok();
        ticket.map(|ticket| (ticket, world.gss.clone()))
    } else {
        None
    };
    let keys = if ssh.public_keys {
        ssh.identity_files.clone()
    } else {
        Vec::new()
    };
    let login = match ssh.transport {
        config::Transport::Auto | config::Transport::Libssh2 => distribute::Login::Auto { kerberos, keys },
        config::Transport::Russh => match kerberos {
            Some((ticket, gss)) => distribute::Login::Gssapi { ticket, gss },
            None => distribute::Login::Russh {
                identities: keys.into_iter().map(distribute::Identity::Key).collect(),
            },
        },
        config::Transport::OpenSsh => distribute::Login::OpenSsh {
            program: "ssh".into(),
            identities: keys.into_iter().map(distribute::Identity::Key).collect(),
        },
    };
    Node {
        host: node.to_owned(),
        port: ssh.port,
        user: ssh.user.as_ref().unwrap_or(&service.account).clone(),
        known_hosts: ssh.known_hosts.clone(),
        login,
        options: options(world, ssh),
    }
}

fn options(world: &World, ssh: &config::Ssh) -> distribute::Options {
    let record = world.state.dir().join("known_hosts");
    let jump = ssh.jump.iter().map(|jump| distribute::Jump {
        host: jump.host.clone(),
        port: jump.port,
        user: jump.user.clone(),
    });
    distribute::Options {
        trust: match ssh.checking {
            config::Checking::Strict => distribute::Trust::Strict,
            config::Checking::AcceptNew => distribute::Trust::FirstUse { record },
            config::Checking::Off => distribute::Trust::Any { record },
        },
        address: ssh.address.clone(),
        host_key_alias: ssh.host_key_alias.clone(),
        gssapi_server: ssh.gssapi_server.clone(),
        algorithms: distribute::Algorithms {
            host_keys: ssh.host_key_algorithms.clone(),
            kex: ssh.kex_algorithms.clone(),
            ciphers: ssh.ciphers.clone(),
            macs: ssh.macs.clone(),
        },
        jump: jump.collect(),
        identities: if ssh.public_keys {
            identities(ssh)
        } else {
            Vec::new()
        },
    }
}

/// An agent, and certificates with their keys: by the name they would have beside one, else the first key.
fn identities(ssh: &config::Ssh) -> Vec<distribute::Identity> {
    let agent = ssh.agent.iter().map(|socket| distribute::Identity::Agent {
        socket: socket.clone(),
    });
    let certified = ssh.certificate_files.iter().filter_map(|certificate| {
        let name = certificate.file_name()?.to_str()?;
        let beside = name.strip_suffix("-cert.pub");
        let of = |key: &&std::path::PathBuf| key.file_name().and_then(|k| k.to_str()) == beside;
        let key = ssh
            .identity_files
            .iter()
            .find(of)
            .or(ssh.identity_files.first())?;
        Some(distribute::Identity::Certificate {
            key: key.clone(),
            certificate: certificate.clone(),
        })
    });
    agent.chain(certified).collect()
}
