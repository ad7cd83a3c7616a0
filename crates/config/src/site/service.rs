//! One role of one experiment, resolved, and the files it writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

use credential::{Principal, ServiceName};

use super::{Effective, Ssh};
use crate::{
    CondorAccess, Output,
    template::{Field, Template, Val},
    tree::Position,
};

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
    /// How its robot proves itself to credds.
    pub condor: CondorAccess,
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
    /// What it gives out beside the files of the Go service.
    pub outputs: Vec<Output>,
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
    /// One of [`Service::outputs`], by its place among them.
    Output(u16),
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
        all.retain(|d| self.goes_to(node, d.kind));
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
        // one that cannot be filled in was said to be so when the file was read
        let role_file = self
            .role_file
            .as_ref()
            .and_then(|t| self.role_file_path(t, uid).ok());
        all.extend(role_file.map(|path| Destination {
            path,
            kind: Kind::DefaultRole,
            mode,
        }));
        all.extend(self.outputs_on_nodes(uid));
        all
    }

    pub(crate) fn role_file_path(&self, template: &Template, uid: &str) -> Result<String, String> {
        let text = |text: String| Val::Text(text.into());
        template.render(&|field| match field {
            Field::Account => Val::Text(self.account.as_str().into()),
            Field::DesiredUid => Val::Number(uid.into()),
            Field::Experiment => text(self.id.experiment.to_lowercase()),
            Field::Role => text(self.id.role.to_lowercase()),
            Field::Name => text(self.name.to_string()),
            Field::UserPrincipal => text(self.principal.to_string()),
            Field::KeytabPath => text(self.keytab.to_string_lossy().into_owned()),
            Field::VaultServer => Val::Text(self.vault_server.as_str().into()),
            Field::Nodes => Val::List(self.nodes.clone()),
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
