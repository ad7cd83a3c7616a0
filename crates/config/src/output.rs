//! What a service gives out beside the files of the Go service: bearer tokens, Vault tokens and files made elsewhere,
//! to nodes, to this host, or to a command.

use std::{path::PathBuf, time::Duration};

use crate::{Destination, Kind, Service, template::Template};

/// Where [`crate::Service::yields`] keeps what concerns this host: no node can be called that.
pub const THIS_HOST: &str = "@here";

/// One thing given out under a name of the site's choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name, unique within the service.
    pub name: String,
    /// What is given out.
    pub content: Content,
    /// Where to.
    pub to: To,
    /// It is renewed, or what it comes from has to be, when less than this is left.
    pub minimum: Duration,
}

/// What an output holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The node token, which htgettoken takes.
    VaultToken,
    /// A bearer token of the service.
    Bearer {
        /// What it is to be good for; empty: all the service may.
        scopes: Vec<String>,
        /// Whom it is for; empty: as the issuer has it.
        audiences: Vec<String>,
    },
    /// A file of this host, made by somebody else: an IDTOKEN, an X.509 proxy, anything.
    File {
        /// Where it is.
        source: PathBuf,
    },
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq)]
pub enum To {
    /// A file on nodes, of the account.
    Nodes {
        /// On these.
        nodes: Vec<String>,
        /// Its path.
        path: Template,
        /// Its mode.
        mode: u32,
    },
    /// A file on this host.
    Here {
        /// Its path.
        path: Template,
        /// Its mode.
        mode: u32,
        /// Whose it is to be, if it is not mtk's own user's.
        owner: Option<Owner>,
    },
    /// The standard input of a command, run without a shell.
    Command {
        /// The program by its whole path.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<Template>,
        /// How long it may take.
        deadline: Duration,
    },
}

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// By number.
    Uid(u32),
    /// By name.
    Name(String),
}

impl Service {
    /// Whether a token of Vault is needed here at all: for nodes, or for an output that is made of one.
    #[must_use]
    pub fn wants_node_token(&self) -> bool {
        !self.nodes.is_empty()
            || self
                .outputs
                .iter()
                .any(|output| !matches!(output.content, Content::File { .. }))
    }

    /// Whether anything is given out after the credds: to nodes, or to this host.
    #[must_use]
    pub fn gives_out(&self) -> bool {
        !self.nodes.is_empty() || !self.outputs.is_empty()
    }

    /// The path of an output that is a file.
    #[must_use]
    pub fn output_path(&self, output: &Output, uid: u32) -> Option<String> {
        self.path_of_output(output, &uid.to_string())
    }

    pub(crate) fn path_of_output(&self, output: &Output, uid: &str) -> Option<String> {
        match &output.to {
            To::Nodes { path, .. } | To::Here { path, .. } => self.role_file_path(path, uid).ok(),
            To::Command { .. } => None,
        }
    }

    /// A command's arguments with this service's values put in.
    #[must_use]
    pub fn arguments(&self, arguments: &[Template], uid: u32) -> Vec<String> {
        let uid = uid.to_string();
        arguments
            .iter()
            // what cannot be filled in was refused when the file was read
            .filter_map(|argument| self.role_file_path(argument, &uid).ok())
            .collect()
    }

    /// The output behind a kind of file.
    #[must_use]
    pub fn output(&self, kind: Kind) -> Option<&Output> {
        match kind {
            Kind::Output(index) => self.outputs.get(usize::from(index)),
            _ => None,
        }
    }

    /// Whether the service leaves an output on this host to another one.
    #[must_use]
    pub fn yields_here(&self, index: usize) -> bool {
        let kinds = self.yields.get(THIS_HOST);
        u16::try_from(index).is_ok_and(|i| kinds.is_some_and(|k| k.contains(&Kind::Output(i))))
    }

    /// Its outputs that are files on nodes.
    pub(crate) fn outputs_on_nodes(&self, uid: &str) -> Vec<Destination> {
        let on_nodes = |(index, output): (usize, &Output)| match &output.to {
            To::Nodes { path, mode, .. } => Some(Destination {
                path: self.role_file_path(path, uid).ok()?,
                kind: Kind::Output(u16::try_from(index).ok()?),
                mode: *mode,
            }),
            _ => None,
        };
        self.outputs.iter().enumerate().filter_map(on_nodes).collect()
    }

    /// Its files on this host: which output, and where.
    pub(crate) fn paths_here(&self, uid: &str) -> Vec<(u16, String)> {
        let here = |(index, output): (usize, &Output)| match &output.to {
            To::Here { path, .. } => Some((u16::try_from(index).ok()?, self.role_file_path(path, uid).ok()?)),
            _ => None,
        };
        self.outputs.iter().enumerate().filter_map(here).collect()
    }

    /// Whether a kind of file goes to this node.
    pub(crate) fn goes_to(&self, node: &str, kind: Kind) -> bool {
        match self.output(kind).map(|output| &output.to) {
            Some(To::Nodes { nodes, .. }) => nodes.iter().any(|n| n == node),
            _ => true,
        }
    }

    /// What tells one node from another: two names may lead to the same sshd.
    pub(crate) fn sshd_of(&self, node: &str) -> String {
        let ssh = self.ssh_on(node);
        let address = ssh.address.as_deref().unwrap_or(node);
        format!("{}:{}", address.trim_end_matches('.').to_lowercase(), ssh.port)
    }

    /// The same for a service of which nothing but the node's name is known.
    pub(crate) fn plain_sshd(node: &str) -> String {
        format!("{}:22", node.trim_end_matches('.').to_lowercase())
    }
}
