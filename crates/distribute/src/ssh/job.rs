//! What one session is given, and how its errors name it.

use std::{sync::Arc, time::Instant};

use crate::{Error, File, Limits, Method, Mode, Node, Stage, Verdict, gate::AtNode, penalties::Entry};

/// What a session is to do, and until when.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) node: Node,
    pub(crate) files: Arc<[File]>,
    pub(crate) mode: Mode,
    pub(crate) limits: Limits,
    /// The end of it all.
    pub(crate) ends: Instant,
    pub(crate) at_node: Arc<AtNode>,
    /// What the node may count against us.
    pub(crate) entry: Arc<Entry>,
}

impl Job {
    pub(super) fn host(&self) -> &str {
        &self.node.host
    }

    pub(super) fn refused(&self, offered: Vec<Method>, accepted: Vec<String>) -> Error {
        let (node, account) = (self.node.host.clone(), self.node.user.clone());
        Error::AuthRefused {
            node,
            account,
            offered,
            accepted,
            unheard: false,
        }
    }

    /// Kerberos was refused, and nobody had asked for a token.
    pub(super) fn unheard(&self, accepted: Vec<String>) -> Error {
        let (node, account) = (self.node.host.clone(), self.node.user.clone());
        Error::AuthRefused {
            node,
            account,
            offered: vec![Method::Gssapi],
            accepted,
            unheard: true,
        }
    }

    /// Lets a trusted key pass, and says so where only the site's leave makes it one.
    pub(super) fn trust(&self, verdict: Verdict) -> Result<Verdict, Error> {
        if !verdict.is_trusted() {
            return Err(self.not_trusted(verdict));
        }
        if verdict.is_weak() {
            tracing::warn!(%verdict, "a host key was not verified");
        }
        Ok(verdict)
    }

    pub(super) fn not_trusted(&self, verdict: Verdict) -> Error {
        let (node, verdict) = (self.node.host.clone(), Box::new(verdict));
        Error::HostKey { node, verdict }
    }

    /// Of a site's list of algorithms a library knows none.
    pub(super) fn none_known(&self, list: &str) -> Error {
        Error::Negotiation {
            node: self.node.host.clone(),
            detail: format!("mtk knows nothing of the algorithms the site asks for ({list})"),
        }
    }

    /// Whether it is not the doing of a host on the way.
    pub(super) fn is_of_the_node(&self, error: &Error) -> bool {
        error.host().is_none_or(|host| host == self.node.host)
    }

    pub(super) fn tell_apart(&self, error: Error, began: Instant) -> Error {
        if self.is_of_the_node(&error) {
            self.at_node.tell_apart(error, began)
        } else {
            error
        }
    }

    /// A connection came to that; the session tries another.
    pub(super) fn goes_on_after(&self, error: &Error) {
        if self.is_of_the_node(error) {
            self.entry.goes_on_after(error);
        }
    }

    pub(super) fn protocol(&self, stage: Stage, detail: impl Into<String>) -> Error {
        Error::Protocol {
            node: self.node.host.clone(),
            stage,
            detail: detail.into(),
        }
    }
}
