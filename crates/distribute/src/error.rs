//! Why a session came to nothing. What failed about a single file is [`crate::FileError`].

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use crate::{Method, Verdict};

/// How far a session had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// Looking up the node's name.
    Resolve,
    /// Opening the TCP connection.
    Connect,
    /// Waiting for the server's first line.
    Banner,
    /// Key exchange and host key.
    KeyExchange,
    /// Logging in.
    Authentication,
    /// Starting the SFTP subsystem.
    Sftp,
    /// Working on the files.
    Files,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up its name",
            Self::Connect => "connecting",
            Self::Banner => "waiting for its SSH banner",
            Self::KeyExchange => "exchanging keys",
            Self::Authentication => "logging in",
            Self::Sftp => "starting SFTP",
            Self::Files => "placing files",
        })
    }
}

/// Why no file of a session could be looked at. Each names the node and says who can put it right.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The node's name has no address.
    #[error("{node} has no address: check its name in the configuration, or DNS")]
    Resolve {
        /// The node.
        node: String,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// No address of the node could be reached.
    #[error(
        "{node} cannot be reached on port {port}: it is down, or a network or firewall stands in between"
    )]
    Unreachable {
        /// The node.
        node: String,
        /// The port.
        port: u16,
        /// The last address's error.
        source: Arc<io::Error>,
    },
    /// The node is there and nothing listens on the port.
    #[error("{node} refuses connections on port {port}: its sshd is not running, or listens elsewhere")]
    Refused {
        /// The node.
        node: String,
        /// The port.
        port: u16,
    },
    /// A deadline passed.
    #[error("{node} did not answer within {:.1} s while {stage}", after.as_secs_f64())]
    TimedOut {
        /// The node.
        node: String,
        /// At which stage.
        stage: Stage,
        /// The deadline that passed.
        after: Duration,
    },
    /// The server closed the connection before its banner.
    #[error(
        "{node} closed the connection before it said anything about SSH ({said:?}): too many connections at once \
         (MaxStartups), or this host is being kept out for failed logins (PerSourcePenalties)"
    )]
    TooManyConnections {
        /// The node.
        node: String,
        /// What it said instead of a banner; often nothing.
        said: String,
    },
    /// The server keeps this host out for a while, whoever comes from it.
    #[error(
        "{node} keeps this host out for now, saying {said:?}: too many logins from here were refused or given up \
         (PerSourcePenalties); its sshd's log names them, and it passes by itself"
    )]
    KeptOut {
        /// The node.
        node: String,
        /// What it said.
        said: String,
    },
    /// mtk keeps an account away from a node that would keep this whole host out.
    #[error(
        "{account} was not tried at {node}: with one more refused login its sshd would keep this host out with all \
         accounts (PerSourcePenalties), and that will not pass for {} s yet; put right the accounts it refuses",
        wait.as_secs().max(1)
    )]
    HeldBack {
        /// The node.
        node: String,
        /// The account.
        account: String,
        /// How long it will be at least.
        wait: Duration,
    },
    /// Whatever listens there does not speak SSH.
    #[error("port {port} of {node} does not speak SSH: it said {said:?}")]
    NotSsh {
        /// The node.
        node: String,
        /// The port.
        port: u16,
        /// The beginning of what it said.
        said: String,
    },
    /// Client and server share no algorithm, or the server broke the key exchange.
    #[error("{node} and mtk could not agree on keys and ciphers: {detail}")]
    Negotiation {
        /// The node.
        node: String,
        /// What the library says.
        detail: String,
    },
    /// The node's host key is not trusted. Nothing was sent.
    #[error("{node} is not trusted: {verdict}")]
    HostKey {
        /// The node.
        node: String,
        /// The case.
        verdict: Box<Verdict>,
    },
    /// The private key cannot be used. Found before the node is asked.
    #[error("the private key {} cannot be used: {why}", path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: KeyFault,
    },
    /// The ssh-agent cannot be used.
    #[error("the ssh-agent at {} cannot be used for {node}: {detail}", socket.display())]
    Agent {
        /// The node.
        node: String,
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        detail: String,
    },
    /// The system's ssh could not be run, or ended with words of its own.
    #[error("{program} could not bring us to {node}: {said}")]
    Program {
        /// The node.
        node: String,
        /// Which program.
        program: String,
        /// Its last words.
        said: String,
    },
    /// The way to the node leads through other hosts, where the system's ssh would go by its own configuration alone.
    #[error(
        "{node} is reached through other hosts (ProxyJump), whose host keys the transport openssh does not check as \
         mtk does: use the transport russh, libssh2 or auto"
    )]
    JumpByProgram {
        /// The node.
        node: String,
    },
    /// The node does not let the account in.
    #[error(
        "{node} does not let {account} in: tried {}, it accepts {}{}",
        words(offered),
        words(accepted),
        hint(account, offered, accepted, *unheard)
    )]
    AuthRefused {
        /// The node.
        node: String,
        /// The account.
        account: String,
        /// What was tried.
        offered: Vec<Method>,
        /// What the server accepts, in its words; empty if it did not say.
        accepted: Vec<String>,
        /// Kerberos was refused before the node asked for a token: whatever the ticket is, that account does not get in,
        /// or the node cannot judge tickets.
        unheard: bool,
    },
    /// Our side of the Kerberos login failed before the node could judge it.
    #[error("{principal} could not log in to {node} with Kerberos")]
    GssFailed {
        /// The node.
        node: String,
        /// Who.
        principal: String,
        /// What Kerberos said.
        source: Box<kerberos::Error>,
    },
    /// The connection ended in the middle.
    #[error("{node} closed the connection while {stage}{}", quoted(said))]
    Disconnected {
        /// The node.
        node: String,
        /// At which stage.
        stage: Stage,
        /// What it said, if anything.
        said: String,
    },
    /// The login worked and there is no SFTP behind it.
    #[error(
        "{node} offers {account} no usable SFTP ({detail}): sshd_config needs `Subsystem sftp`, the account a \
         login shell, and its shell's start-up files must print nothing"
    )]
    SftpMissing {
        /// The node.
        node: String,
        /// The account.
        account: String,
        /// What happened instead.
        detail: String,
    },
    /// The node broke the protocol, or a library gave up.
    #[error("{node} broke the protocol while {stage}: {detail}")]
    Protocol {
        /// The node.
        node: String,
        /// At which stage.
        stage: Stage,
        /// What happened.
        detail: String,
    },
}

/// What is wrong with a private key's file.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// It cannot be read.
    #[error("it cannot be read ({0})")]
    Unreadable(#[source] Arc<io::Error>),
    /// Others may read or change it.
    #[error("its mode is {mode:04o} and must be closed to group and others (chmod 0600)")]
    Mode {
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("it belongs to user {owner}, not to us or root")]
    Owner {
        /// The numeric owner.
        owner: u32,
    },
    /// It wants a passphrase.
    #[error("it is protected by a passphrase, which a service cannot type")]
    Encrypted,
    /// The certificate that belongs to it cannot be used.
    #[error("its certificate {} cannot be used ({detail})", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// It is no private key, or of a kind libssh2 does not know.
    #[error("it is not a private key this library understands ({detail})")]
    NotAKey {
        /// What the library says.
        detail: String,
    },
}

impl Error {
    /// Whether the same may succeed later without anybody changing a configuration, an account or a key.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::TooManyConnections { .. }
            | Self::KeptOut { .. }
            | Self::HeldBack { .. }
            | Self::Agent { .. }
            | Self::Program { .. }
            | Self::Disconnected { .. } => true,
            Self::GssFailed { source, .. } => source.retryable(),
            Self::NotSsh { .. }
            | Self::Negotiation { .. }
            | Self::HostKey { .. }
            | Self::KeyFile { .. }
            | Self::JumpByProgram { .. }
            | Self::AuthRefused { .. }
            | Self::SftpMissing { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// How far the session had come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Resolve { .. } => Stage::Resolve,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::HeldBack { .. }
            | Self::JumpByProgram { .. } => Stage::Connect,
            Self::TooManyConnections { .. } | Self::KeptOut { .. } | Self::NotSsh { .. } => Stage::Banner,
            Self::Negotiation { .. } | Self::HostKey { .. } => Stage::KeyExchange,
            Self::KeyFile { .. }
            | Self::Agent { .. }
            | Self::Program { .. }
            | Self::AuthRefused { .. }
            | Self::GssFailed { .. } => Stage::Authentication,
            Self::SftpMissing { .. } => Stage::Sftp,
            Self::TimedOut { stage, .. }
            | Self::Disconnected { stage, .. }
            | Self::Protocol { stage, .. } => *stage,
        }
    }

    /// The host it is about, which may be one on the way; a key's file is of none.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::KeyFile { .. } => None,
            Self::Resolve { node, .. }
            | Self::Unreachable { node, .. }
            | Self::Refused { node, .. }
            | Self::TimedOut { node, .. }
            | Self::TooManyConnections { node, .. }
            | Self::KeptOut { node, .. }
            | Self::HeldBack { node, .. }
            | Self::NotSsh { node, .. }
            | Self::Negotiation { node, .. }
            | Self::HostKey { node, .. }
            | Self::Agent { node, .. }
            | Self::Program { node, .. }
            | Self::JumpByProgram { node }
            | Self::AuthRefused { node, .. }
            | Self::GssFailed { node, .. }
            | Self::Disconnected { node, .. }
            | Self::SftpMissing { node, .. }
            | Self::Protocol { node, .. } => Some(node),
        }
    }

    /// Whether every other account would fail at this node in the same way just now.
    pub(crate) fn concerns_the_whole_node(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::NotSsh { .. }
            | Self::KeptOut { .. } => true,
            Self::TimedOut { stage, .. } => {
                matches!(
                    stage,
                    Stage::Resolve | Stage::Connect | Stage::Banner | Stage::KeyExchange
                )
            }
            // `TooManyConnections` does not: sshd drops one at random and takes the next.
            _ => false,
        }
    }
}

fn words<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "nothing it names".to_owned();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn hint(account: &str, offered: &[Method], accepted: &[String], unheard: bool) -> String {
    let mut hint = String::new();
    // Where the server does not take the method at all, the account's files are not to blame.
    let judged = |method: Method| {
        offered.contains(&method)
            && (accepted.is_empty() || accepted.iter().any(|name| name == method.as_str()))
    };
    if judged(Method::Gssapi) && unheard {
        hint.push_str(&format!(
            "; it refused before it looked at the ticket, as sshd does where {account} is unknown, locked or not allowed to \
             log in, or where it has no key of its own host principal"
        ));
    } else if judged(Method::Gssapi) {
        hint.push_str(&format!(
            "; for Kerberos ~{account}/.k5login there must name the principal"
        ));
    }
    if judged(Method::PublicKey) {
        hint.push_str(&format!(
            "; for a key ~{account}/.ssh/authorized_keys there must hold its public half"
        ));
    }
    hint
}

fn quoted(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(", saying {said:?}")
    }
}
