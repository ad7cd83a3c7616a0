//! Where a daemon is, and what to call it.

use std::fmt;

use cedar::sinful::{BadAddress, Sinful};

/// A credd's own port where no shared port is used.
const CREDD_PORT: u16 = 9620;

/// A credd: its name, and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CreddAddress {
    pub(crate) name: String,
    pub(crate) machine: Option<String>,
    pub(crate) sinful: Sinful,
}

impl CreddAddress {
    /// A credd at a known place; `machine` is the host its ad names.
    #[must_use]
    pub fn new(name: String, machine: Option<String>, sinful: Sinful) -> Self {
        Self {
            name,
            machine,
            sinful,
        }
    }

    /// A credd given by hand: a sinful string, or `host[:port][?sock=id]` (port 9620 if none is given). A bare host
    /// name usually means the *name* of a credd: then [`locate`](crate::locate) it.
    ///
    /// # Errors
    /// [`BadAddress`].
    pub fn from_entry(text: &str) -> Result<Self, BadAddress> {
        let sinful = Sinful::from_entry(text, CREDD_PORT)?;
        let name = sinful.alias().unwrap_or(sinful.host()).to_owned();
        Ok(Self {
            name,
            machine: None,
            sinful,
        })
    }

    /// What it is called in its ad.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn sinful(&self) -> &Sinful {
        &self.sinful
    }
}

impl fmt::Display for CreddAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credd {} at {}", self.name, self.sinful)
    }
}

/// A daemon to talk to, as the driver needs it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// For messages.
    pub(crate) label: String,
    pub(crate) sinful: Sinful,
    /// Host names its Kerberos principal may be built from, in the order to try them.
    pub(crate) hosts: Vec<String>,
}

impl Peer {
    pub(crate) fn new(label: String, sinful: Sinful, machine: Option<&str>) -> Self {
        let mut hosts: Vec<String> = Vec::new();
        for host in [sinful.alias(), machine, Some(sinful.host())]
            .into_iter()
            .flatten()
        {
            if host.parse::<std::net::IpAddr>().is_err() && !hosts.iter().any(|h| h == host) {
                hosts.push(host.to_owned());
            }
        }
        Self { label, sinful, hosts }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_built_from_the_alias_first() {
        let sinful: Sinful = "<127.0.1.101:9618?alias=ap1.mtk.test&sock=credd>"
            .parse()
            .unwrap();
        let peer = Peer::new("x".into(), sinful, Some("ap1b.mtk.test"));
        assert_eq!(peer.hosts, ["ap1.mtk.test", "ap1b.mtk.test"]);
        let by_hand = CreddAddress::from_entry("ap1.mtk.test:9618?sock=credd").unwrap();
        assert_eq!(by_hand.name(), "ap1.mtk.test");
        assert_eq!(
            Peer::new("x".into(), by_hand.sinful, None).hosts,
            ["ap1.mtk.test"]
        );
    }
}
