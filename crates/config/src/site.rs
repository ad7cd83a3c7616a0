//! The plan that leaves this crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

use credential::{Principal, ServiceName};

use crate::{
    template::{Field, Template},
    tree::Position,
};

/// Where the state is kept if the file does not say.
pub const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/mtk";

/// The whole site, checked: every service in it can be worked on.
#[derive(Debug, Clone)]
pub struct Site {
    /// The file all this was read from.
    pub path: PathBuf,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
    /// Those that could not be set up, with the reason. They are to be reported, not forgotten.
    pub broken: Vec<Broken>,
    /// Where the state is kept, if the file says so; else [`DEFAULT_STATE_DIRECTORY`].
    pub state_dir: Option<PathBuf>,
    /// The Go service's SQLite file, for the UIDs in it. It need not exist.
    pub db_location: Option<PathBuf>,
    /// A node token is renewed when less than this is left.
    pub min_token_lifetime: Duration,
    /// A credd's token is renewed when less than this is left.
    pub renew_before: Duration,
    /// The life asked for a node token, at most a million seconds.
    pub node_token_lifetime: Duration,
    /// How long a person's consent to a robot lasts at the issuer, if the file says so: no server tells it.
    pub consent_lifetime: Option<Duration>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How often each step is tried again.
    pub retries: Retries,
    /// How much runs at once.
    pub limits: Limits,
    /// How Vault is recognised.
    pub vault: Vault,
    /// Whether nobody is to be notified, where a role says nothing else.
    pub disable_notifications: bool,
    /// What this installation is called in metrics and logs: `production` unless something else is said.
    pub dev_label: String,
    /// Keys accepted whose function comes later, or is not needed here.
    pub later: Vec<AcceptedKey>,
    /// The values in effect for all services, and where each comes from.
    pub values: Vec<Effective>,
}

/// A service by its place in the file: this, not the name at HTCondor, is what tells two services apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    /// The experiment's key, as written.
    pub experiment: String,
    /// The role's key, as written.
    pub role: String,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.experiment, self.role)
    }
}

/// One role of one experiment, everything resolved.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its place in the file.
    pub id: ServiceId,
    /// Where in the file it begins.
    pub at: Position,
    /// Its name at HTCondor and Vault, `experimentOverride` applied, in lower case as the Go service has it.
    pub name: ServiceName,
    /// The UNIX account on the nodes, which is the HTCondor user as well.
    pub account: String,
    /// Who the robot is.
    pub principal: Principal,
    /// The principal without its realm: the user part of the secret's path in Vault.
    pub credkey: String,
    /// The keytab of the principal.
    pub keytab: PathBuf,
    /// The account's UID on the nodes, if the file says it (`desiredUIDOverride`).
    pub uid: Option<u32>,
    /// Vault: `host`, `host:port` or a URL.
    pub vault_server: String,
    /// Collectors, to be asked in this order.
    pub collectors: Vec<String>,
    /// Which schedds count.
    pub schedd_constraint: Option<String>,
    /// The credds to store in; empty: those of the schedds the collector knows.
    pub credds: Vec<String>,
    /// Whether anything is stored in credds at all (`tokenGetterOverride: getToken` says no).
    pub store: bool,
    /// The nodes to push to.
    pub nodes: Vec<String>,
    /// Where the default-role file goes, or `None` if what the file says of it cannot be used.
    pub role_file: Option<Template>,
    /// Mode of the files on the nodes.
    pub file_mode: u32,
    /// Whether this role owns `/tmp/vt_u<uid>` of its account: marked so, or the first of the account in the file.
    pub primary: bool,
    /// Whether the file marks it so (`primary: true`).
    pub marked_primary: bool,
    /// What this service leaves to others, by node.
    pub yields: BTreeMap<String, BTreeSet<Kind>>,
    /// Whether nobody is to be notified about it.
    pub disable_notifications: bool,
    /// A node token is renewed when less than this is left.
    pub min_token_lifetime: Duration,
    /// How its nodes are reached.
    pub ssh: Ssh,
    /// How a node is reached of which the ssh configuration says something of its own; see [`Service::ssh_on`].
    pub ssh_by_node: BTreeMap<String, Ssh>,
    /// What its bearer tokens must carry, as scopes of the WLCG profile (`wlcg.groups:/dune`): what the role asks of
    /// the issuer, or as much of it as matters.
    pub scopes: Vec<String>,
    /// The values in effect, and where each comes from.
    pub values: Vec<Effective>,
}

/// A file on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// Absolute path.
    pub path: String,
    /// What it holds.
    pub kind: Kind,
    /// Its mode.
    pub mode: u32,
}

/// What a file on a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The Vault token where htgettoken looks first: `/tmp/vt_u<uid>`.
    VaultTokenDefault,
    /// The Vault token of this service: `/tmp/vt_u<uid>-<service>`.
    VaultTokenService,
    /// The name of the role jobsub is to take when none is given.
    DefaultRole,
}

/// A UID that cannot be an account's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("uid {uid} of account {account} cannot be used: tokens are not pushed for root or for nobody known")]
pub struct BadUid {
    /// The account.
    pub account: String,
    /// The UID.
    pub uid: u32,
}

impl Service {
    /// How `node` is reached.
    #[must_use]
    pub fn ssh_on(&self, node: &str) -> &Ssh {
        self.ssh_by_node.get(node).unwrap_or(&self.ssh)
    }

    /// Every file this service may write, whoever owns a shared one. See [`Service::destinations_on`].
    ///
    /// # Errors
    /// [`BadUid`] for root and for the UID that means none.
    pub fn destinations(&self, uid: u32) -> Result<Vec<Destination>, BadUid> {
        if uid == 0 || uid == u32::MAX {
            return Err(BadUid {
                account: self.account.clone(),
                uid,
            });
        }
        Ok(self.paths(&uid.to_string()))
    }

    /// The files this service writes on this node: where several services of one account want one file, only its
    /// owner is given it, so that no two write in turn over each other.
    ///
    /// # Errors
    /// As [`Service::destinations`].
    pub fn destinations_on(&self, node: &str, uid: u32) -> Result<Vec<Destination>, BadUid> {
        let mut all = self.destinations(uid)?;
        if let Some(given) = self.yields.get(node) {
            all.retain(|d| !given.contains(&d.kind));
        }
        Ok(all)
    }

    /// What the default-role file holds, byte for byte what the Go service writes.
    #[must_use]
    pub fn role_file_content(&self) -> String {
        format!("{}\n", self.id.role.to_lowercase())
    }

    pub(crate) fn paths(&self, uid: &str) -> Vec<Destination> {
        let mode = self.file_mode;
        let mut all = vec![
            Destination {
                path: format!("/tmp/vt_u{uid}"),
                kind: Kind::VaultTokenDefault,
                mode,
            },
            Destination {
                path: format!("/tmp/vt_u{uid}-{}", self.name),
                kind: Kind::VaultTokenService,
                mode,
            },
        ];
        if let Some(template) = &self.role_file {
            all.push(Destination {
                path: self.role_file_path(template, uid),
                kind: Kind::DefaultRole,
                mode,
            });
        }
        all
    }

    pub(crate) fn role_file_path(&self, template: &Template, uid: &str) -> String {
        let (experiment, role) = (self.id.experiment.to_lowercase(), self.id.role.to_lowercase());
        let (name, principal) = (self.name.to_string(), self.principal.to_string());
        let keytab = self.keytab.to_string_lossy();
        template.render(|field| match field {
            Field::Account => &self.account,
            Field::DesiredUid => uid,
            Field::Experiment => &experiment,
            Field::Role => &role,
            Field::Name => &name,
            Field::UserPrincipal => &principal,
            Field::KeytabPath => &keytab,
            Field::VaultServer => &self.vault_server,
        })
    }
}

/// A service that could not be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its place in the file.
    pub id: ServiceId,
    /// Where in the file it begins.
    pub at: Position,
    /// Every reason, parted by `; `.
    pub reason: String,
}

/// How long each step may take, retries included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole run.
    pub global: Duration,
    /// Getting a ticket.
    pub kerberos: Duration,
    /// Getting a token from Vault and storing it in one credd.
    pub vault_storer: Duration,
    /// Seeing whether a node is there.
    pub ping: Duration,
    /// All files of one service to one node.
    pub push: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            global: s(300),
            kerberos: s(20),
            vault_storer: s(60),
            ping: s(10),
            push: s(30),
        }
    }
}

/// How often a step is tried again, and how long to wait before that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first.
    pub retries: u32,
    /// The pause before each, already short enough for all tries to begin within the step's timeout.
    pub pause: Duration,
}

/// Retries by step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retries {
    /// `workerType.getKerberosTickets`
    pub kerberos: Retry,
    /// `workerType.getToken`
    pub get_token: Retry,
    /// `workerType.storeAndGetToken`
    pub store: Retry,
    /// `workerType.pushTokens`
    pub push: Retry,
}

/// How much runs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way at Vault.
    pub vault_concurrency: usize,
    /// Sessions under way with credds.
    pub credd_concurrency: usize,
    /// Sessions under way with nodes.
    pub node_concurrency: usize,
    /// Sessions under way with one node; sshd begins to drop at ten that are not through authentication.
    pub per_node: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            vault_concurrency: 8,
            credd_concurrency: 16,
            node_concurrency: 32,
            per_node: 4,
        }
    }
}

/// How Vault is recognised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vault {
    /// A file of CA certificates, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A directory of CA certificates, as `/etc/grid-security/certificates`.
    pub ca_dir: Option<PathBuf>,
    /// The name in Vault's Kerberos principal, if it is not the host's.
    pub alias: Option<String>,
    /// The name in Vault's certificate, if it is not the host's.
    pub certificate_name: Option<String>,
    /// What is done with the revocation lists in `ca_dir`.
    pub crl: Crl,
    /// How many requests Vault takes from this host.
    pub quota: VaultQuota,
}

/// What is done with revocation lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Crl {
    /// Nothing, as the programs of the field do.
    #[default]
    Off,
    /// Those that are there count.
    Present,
    /// Every CA must have one that is not outdated.
    Required,
}

impl fmt::Display for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Present => "present",
            Self::Required => "required",
        })
    }
}

/// A Vault server's rate limit for one address, and the part of it mtk may use. The default is what htvault-config's
/// documentation sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaultQuota {
    /// Requests in a window.
    pub requests: u32,
    /// The window.
    pub window: Duration,
    /// For how long an address that asked for more gets nothing.
    pub block: Duration,
    /// Percent of the requests that are mtk's, 1 to 100.
    pub share: u8,
}

impl Default for VaultQuota {
    fn default() -> Self {
        Self {
            requests: 360,
            window: Duration::from_secs(300),
            block: Duration::from_secs(300),
            share: 95,
        }
    }
}

/// How nodes are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// sshd's port.
    pub port: u16,
    /// The account to log in as, if it is not the service's own.
    pub user: Option<String>,
    /// What to connect to, if it is not the node's name.
    pub address: Option<String>,
    /// The name to look host keys up by, if it is not the node's.
    pub host_key_alias: Option<String>,
    /// The name in the node's Kerberos principal, if it is not the node's.
    pub gssapi_server: Option<String>,
    /// Whether Kerberos may be tried.
    pub kerberos: bool,
    /// Whether keys may be tried.
    pub public_keys: bool,
    /// What is done about host keys that no file vouches for.
    pub checking: Checking,
    /// `HostKeyAlgorithms`, as written.
    pub host_key_algorithms: Option<String>,
    /// `KexAlgorithms`, as written.
    pub kex_algorithms: Option<String>,
    /// `Ciphers`, as written.
    pub ciphers: Option<String>,
    /// `MACs`, as written.
    pub macs: Option<String>,
    /// The hosts to go through, the nearest first.
    pub jump: Vec<Jump>,
    /// Where host keys are looked up.
    pub known_hosts: Vec<PathBuf>,
    /// Private keys to try.
    pub identity_files: Vec<PathBuf>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// Which implementation speaks.
    pub transport: Transport,
}

/// What is done about host keys that no file vouches for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checking {
    /// They are refused.
    #[default]
    Strict,
    /// The first one is trusted and recorded, another one refused.
    AcceptNew,
    /// Any is trusted: the site's wish, and its risk.
    Off,
}

/// A host on the way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// Its name.
    pub host: String,
    /// sshd's port.
    pub port: u16,
    /// The account there, if it is not the one on the node.
    pub user: Option<String>,
}

/// Which implementation of SSH speaks to a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// By what the node accepts.
    #[default]
    Auto,
    /// libssh2: public keys.
    Libssh2,
    /// russh: Kerberos.
    Russh,
    /// The system's ssh, run as a process.
    OpenSsh,
}

/// A key that was accepted without doing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedKey {
    /// The key with its path, as written.
    pub key: String,
    /// Its line.
    pub line: u32,
    /// Its column.
    pub column: u32,
    /// Whether a later version will do something with it; if not, what it steers does not exist in mtk.
    pub needed: bool,
}

/// A value in effect, for `mtk config show`. No key that may hold a secret is among these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The key as the file has it.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This place in the file.
    File(Position),
    /// An override of the role, at this place in the file.
    Override(Position),
    /// An environment variable of this name.
    Environment(&'static str),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(at) => write!(f, "line {}", at.line),
            Self::Override(at) => write!(f, "override in line {}", at.line),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}
