//! Where a Vault is.

use std::{fmt, str::FromStr};

use reqwest::Url;

use crate::Error;

/// The port of htvault-config's TLS listener, and the only one HTCondor's credmon accepts.
const PORT: u16 = 8200;

/// A Vault server: a host and a port, always spoken to over https.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// The host's name or address; IPv6 in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 8200 unless given.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as a resolver wants it: IPv6 without brackets.
    pub(crate) fn lookup(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for Server {
    type Err = Error;

    /// `host`, `host:port` or `https://host[:port]` (vault.md 8.1).
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &'static str| Error::BadServer {
            text: text.to_owned(),
            why,
        };
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest.trim_end_matches('/'),
            Some(_) => return Err(bad("only https is spoken")),
            None => text,
        };
        if rest.contains(['/', '?', '#', '@', '\\']) || rest.trim() != rest {
            return Err(bad(
                "expected a host, a host:port or https://host:port and nothing more",
            ));
        }
        let url =
            Url::parse(&format!("https://{rest}/")).map_err(|_| bad("it is not a host name or address"))?;
        let host = url.host_str().ok_or_else(|| bad("it names no host"))?.to_owned();
        // Url forgets a port that is the scheme's own, but here it was meant
        let written = rest
            .rsplit_once(':')
            .filter(|(_, port)| !port.contains(']'))
            .map(|(_, port)| port);
        let port = match written {
            Some(port) => port
                .parse()
                .ok()
                .filter(|p| *p != 0)
                .ok_or_else(|| bad("the port is not a number"))?,
            None => PORT,
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_may_say() {
        for (text, shown) in [
            ("vault.test", "vault.test:8200"),
            ("Vault.Test:18200", "vault.test:18200"),
            ("https://vault.test", "vault.test:8200"),
            ("https://vault.test:443/", "vault.test:443"),
            ("[::1]", "[::1]:8200"),
            ("[::1]:18200", "[::1]:18200"),
            ("127.0.0.1", "127.0.0.1:8200"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "http://vault.test",
            "https://vault.test/v1",
            "a b",
            "vault.test:",
            "vault.test:x",
            "u@h",
            "v:0",
            "v:65536",
        ] {
            assert!(
                matches!(text.parse::<Server>(), Err(Error::BadServer { .. })),
                "{text}"
            );
        }
    }
}
