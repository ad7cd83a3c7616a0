//! What is to be placed where, and what came of it.

use std::{fmt, path::PathBuf, time::Duration};

use credential::SecretBytes;

use crate::{FileError, Options, Verdict};

/// One account on one node: what one SSH session is for.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's name, as in `known_hosts` and in its Kerberos principal `host/<name>`.
    pub host: String,
    /// sshd's port, usually 22.
    pub port: u16,
    /// The account to log in as, which becomes the owner of the files.
    pub user: String,
    /// The files that say which host keys are trusted. Each must be readable; see [`crate::default_files`].
    pub known_hosts: Vec<PathBuf>,
    /// How to log in.
    pub login: Login,
    /// What else there is to say about the way there.
    pub options: Options,
}

impl Node {
    /// What to connect to.
    pub(crate) fn address(&self) -> &str {
        self.options.address.as_deref().unwrap_or(&self.host)
    }
}

/// How to log in. Passwords and keyboard-interactive are never offered.
#[derive(Clone)]
#[non_exhaustive]
pub enum Login {
    /// `gssapi-with-mic` (RFC 4462), over russh.
    Gssapi {
        /// Whose ticket.
        ticket: kerberos::Ticket,
        /// The threads GSSAPI runs on.
        gss: kerberos::Gss,
    },
    /// `publickey` (RFC 4252), over libssh2.
    PublicKey {
        /// The private key's file, without passphrase, ours alone to read.
        key: PathBuf,
    },
    /// `publickey` with keys, certificates or an agent, over libssh2.
    Libssh2 {
        /// What to log in with, tried in order.
        identities: Vec<Identity>,
    },
    /// `publickey` with keys, certificates or an agent, over russh.
    Russh {
        /// What to log in with, tried in order.
        identities: Vec<Identity>,
    },
    /// Whatever the system's `ssh` does, which is run as a process of its own: for logins neither library has. It reads
    /// its own configuration; host keys are still checked strictly against [`Node::known_hosts`].
    OpenSsh {
        /// The program: `ssh` to find it in `PATH`.
        program: PathBuf,
        /// What to log in with; empty leaves it to ssh.
        identities: Vec<Identity>,
    },
    /// Whichever of the first two the node accepts, GSSAPI first.
    Auto {
        /// The ticket, if there is one, and the threads GSSAPI runs on.
        kerberos: Option<(kerberos::Ticket, kerberos::Gss)>,
        /// Private keys, tried in order.
        keys: Vec<PathBuf>,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gssapi { ticket, .. } => write!(f, "Gssapi({})", ticket.principal()),
            Self::PublicKey { key } => write!(f, "PublicKey({})", key.display()),
            Self::Libssh2 { identities } => write!(f, "Libssh2({identities:?})"),
            Self::Russh { identities } => write!(f, "Russh({identities:?})"),
            Self::OpenSsh { program, identities } => {
                write!(f, "OpenSsh({}, {identities:?})", program.display())
            }
            Self::Auto { kerberos, keys } => {
                let principal = kerberos.as_ref().map(|(ticket, _)| ticket.principal());
                write!(f, "Auto({principal:?}, {keys:?})")
            }
        }
    }
}

/// What proves who we are in `publickey`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// A private key's file without passphrase, ours alone to read. Where `<key>-cert.pub` lies beside it, that
    /// certificate is tried before the bare key, as ssh does.
    Key(PathBuf),
    /// A certificate (OpenSSH's PROTOCOL.certkeys) and the private key it was made for. Only the certificate is tried.
    Certificate {
        /// The private key's file.
        key: PathBuf,
        /// The certificate's file, as `ssh-keygen -s` writes it.
        certificate: PathBuf,
    },
    /// An ssh-agent: its first few keys and certificates. The keys never come to us.
    Agent {
        /// Its socket, as in `SSH_AUTH_SOCK`.
        socket: PathBuf,
    },
}

/// A file to be on the node.
#[derive(Debug, Clone)]
pub struct File {
    /// Absolute path on the node.
    pub path: String,
    /// What is to be in it; at most [`MAX_FILE`] bytes.
    pub content: SecretBytes,
    /// Permission bits, for instance `0o400`.
    pub mode: u32,
}

/// The largest file that is placed, in bytes. A token has some hundreds.
pub const MAX_FILE: usize = 128 * 1024;

/// Whether anything may be changed on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only look whether each file is there with the same bytes and mode.
    Verify,
    /// Put right what is not.
    Write,
    /// Remove each file, whatever is in it; [`File::content`] is not looked at.
    Remove,
}

/// What was done about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was there with the same bytes and mode; nothing was touched.
    Unchanged,
    /// It was written, moved into place and read back.
    Written,
    /// [`Mode::Verify`] found that it would have to be written.
    WouldWrite,
    /// [`Mode::Remove`] removed it, and saw it gone.
    Removed,
}

/// Why a file was, or would be, written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// There was no such file.
    Missing,
    /// It had other bytes.
    Content,
    /// It had another mode.
    Mode,
    /// A symbolic link or another thing that is not a file stood there; it is replaced, never followed.
    NotAFile,
    /// The account may not read what is there.
    Unreadable,
    /// It belonged to another user than it is to.
    Owner,
    /// There is no looking at it: a command was not told this yet.
    NotTold,
}

/// What came of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Landed {
    /// What was done.
    pub placed: Placed,
    /// Why it was, or would be, written; `None` for [`Placed::Unchanged`].
    pub difference: Option<Difference>,
    /// The numeric user that owns the file on the node, as far as it is there and the server says so: the account's
    /// UID when mtk wrote it.
    pub uid: Option<u32>,
}

/// How a session was logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// `gssapi-with-mic`.
    Gssapi,
    /// `publickey`.
    PublicKey,
    /// `hostbased`: only ssh itself does it.
    HostBased,
}

impl Method {
    /// The name SSH has for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gssapi => "gssapi-with-mic",
            Self::PublicKey => "publickey",
            Self::HostBased => "hostbased",
        }
    }

    /// By the name SSH has for it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Gssapi, Self::PublicKey, Self::HostBased];
        all.into_iter().find(|method| method.as_str() == name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which implementation of SSH carried a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// russh.
    Russh,
    /// libssh2.
    Libssh2,
    /// The system's ssh.
    OpenSsh,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Russh => "russh",
            Self::Libssh2 => "libssh2",
            Self::OpenSsh => "openssh",
        })
    }
}

/// Why a session went the way it did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chosen {
    /// The caller said so.
    AsTold,
    /// [`Login::Auto`] had keys only, so there was nothing to ask.
    OnlyKeys,
    /// [`Login::Auto`] asked, and this is what the node accepts, in its words.
    Accepts(Vec<String>),
    /// [`Login::Auto`] found out earlier, in another session.
    Remembered,
    /// [`Login::Auto`] tried Kerberos first, which did not do.
    KerberosFailed,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsTold => f.write_str("the site says so"),
            Self::OnlyKeys => f.write_str("there are only keys to log in with"),
            Self::Accepts(methods) => write!(f, "the node accepts {}", methods.join(", ")),
            Self::Remembered => f.write_str("that is what the node accepted before"),
            Self::KerberosFailed => f.write_str("the node does not take the ticket"),
        }
    }
}

/// What one session came to.
#[derive(Debug)]
pub struct Report {
    /// One result per file, in the order they were given.
    pub files: Vec<Result<Landed, FileError>>,
    /// How it was logged in.
    pub method: Method,
    /// What carried it.
    pub transport: Transport,
    /// Why it was these two.
    pub chosen: Chosen,
    /// Why its host key was trusted; `None` where the system's ssh judged it.
    pub host_key: Option<Verdict>,
    /// The server's own name for itself, such as `SSH-2.0-OpenSSH_9.6`.
    pub server: String,
}

/// Deadlines of one session. Waiting at the [`crate::Gate`] does not count.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Name, TCP connection, banner, key exchange and host key, all together.
    pub connect: Duration,
    /// Login and the start of SFTP.
    pub auth: Duration,
    /// Everything done about one file.
    pub per_file: Duration,
    /// The whole session.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        // sshd may spend ten seconds or more on reverse lookups and on mounting a home directory
        Self {
            connect: seconds(10),
            auth: seconds(20),
            per_file: seconds(15),
            total: seconds(60),
        }
    }
}
