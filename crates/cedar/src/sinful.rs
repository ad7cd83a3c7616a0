//! Addresses of daemons (cedar.md 3.1).

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// A text that is no sinful string, or one that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAddress {
    /// Not of the form `<host:port?parameters>`.
    #[error("{text:?} is not a daemon's address: {why}")]
    Syntax {
        /// What was given, cut to a readable length.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The daemon can only be reached through a broker.
    #[error(
        "the daemon at {text:?} is reachable through a connection broker (CCB) only, which is not supported"
    )]
    Broker {
        /// The address.
        text: String,
    },
}

/// The longest address taken: real ones have some hundred bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// `<host:port?key=value&...>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sinful {
    host: String,
    port: u16,
    parameters: Vec<(String, Option<String>)>,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A name to be resolved.
    Name(String, u16),
}

impl Sinful {
    /// For a host given by hand; the name is kept as the alias, as HTCondor does for `COLLECTOR_HOST`.
    #[must_use]
    pub fn from_host(host: &str, port: u16) -> Self {
        let parameters = match host.parse::<IpAddr>() {
            Ok(_) => Vec::new(),
            Err(_) => vec![("alias".to_owned(), Some(host.to_owned()))],
        };
        Self {
            host: host.to_owned(),
            port,
            parameters,
        }
    }

    /// A daemon given by hand: a sinful string, or `host[:port][?sock=id]`, IPv6 addresses in brackets.
    ///
    /// # Errors
    /// [`BadAddress::Syntax`].
    pub fn from_entry(text: &str, default_port: u16) -> Result<Self, BadAddress> {
        let text = text.trim();
        if text.starts_with('<') {
            return text.parse();
        }
        let (place, parameters) = text.split_once('?').unwrap_or((text, ""));
        let (host, port) = split_port(place).ok_or_else(|| syntax(text, "its port is no number"))?;
        check_host(text, host)?;
        let mut sinful = Self::from_host(host, port.unwrap_or(default_port));
        sinful.parameters.extend(parse_parameters(text, parameters)?);
        Ok(sinful)
    }

    /// The host name to check certificates against and to build the Kerberos principal from.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.parameter("alias")
    }

    /// The shared-port id, if the daemon sits behind a shared port.
    #[must_use]
    pub fn sock(&self) -> Option<&str> {
        self.parameter("sock")
    }

    /// The host as written first.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    fn parameter(&self, key: &str) -> Option<&str> {
        let (_, value) = self.parameters.iter().rev().find(|(k, _)| k == key)?;
        value.as_deref().filter(|v| !v.is_empty())
    }

    /// Where to connect to, the best first: public before private before link-local before loopback, ties in the
    /// order of the list.
    ///
    /// # Errors
    /// [`BadAddress::Broker`] for a daemon behind CCB; [`BadAddress::Syntax`] for an unreadable list.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, BadAddress> {
        if self.parameters.iter().any(|(key, _)| key == "CCBID") {
            return Err(BadAddress::Broker {
                text: self.to_string(),
            });
        }
        let Some(list) = self.parameter("addrs") else {
            return Ok(vec![match self.host.parse() {
                Ok(ip) => Endpoint::Address(SocketAddr::new(ip, self.port)),
                Err(_) => Endpoint::Name(self.host.clone(), self.port),
            }]);
        };
        let mut addresses = list
            .split('+')
            .map(|text| address(text).ok_or_else(|| syntax(list, "its addrs are unreadable")))
            .collect::<Result<Vec<_>, _>>()?;
        addresses.sort_by_key(|a| std::cmp::Reverse(rank(a.ip())));
        Ok(addresses.into_iter().map(Endpoint::Address).collect())
    }
}

/// `ip-port`, where an IPv6 address stands in brackets and has `-` for `:`.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once('-')?;
    let ip = match ip.strip_prefix('[') {
        Some(v6) => IpAddr::V6(v6.strip_suffix(']')?.replace('-', ":").parse::<Ipv6Addr>().ok()?),
        None => IpAddr::V4(ip.parse().ok()?),
    };
    Some(SocketAddr::new(ip, port.parse().ok().filter(|p| *p != 0)?))
}

/// HTCondor's order of desirability.
fn rank(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(v4) if v4.is_loopback() => 2,
        IpAddr::V4(v4) if v4.is_link_local() => 3,
        IpAddr::V4(v4) if v4.is_private() => 4,
        IpAddr::V4(_) => 5,
        IpAddr::V6(v6) if v6.is_loopback() => 2,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => 1,
        IpAddr::V6(v6) if v6.is_unique_local() => 4,
        IpAddr::V6(_) => 5,
    }
}

fn syntax(text: &str, why: &'static str) -> BadAddress {
    BadAddress::Syntax {
        text: text.chars().take(200).collect(),
        why,
    }
}

/// Host without brackets, and the port if one is written.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, behind) = match place.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None => match place.split_once(':') {
            Some((host, port)) => return Some((host, Some(port.parse().ok()?))),
            None => (place, ""),
        },
    };
    match behind.strip_prefix(':') {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => behind.is_empty().then_some((host, None)),
    }
}

fn check_host(text: &str, host: &str) -> Result<(), BadAddress> {
    let good = !host.is_empty()
        && host.len() <= 255
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:%".contains(&b));
    good.then_some(())
        .ok_or_else(|| syntax(text, "its host is not a name or an address"))
}

fn parse_parameters(text: &str, list: &str) -> Result<Vec<(String, Option<String>)>, BadAddress> {
    list.split(['&', ';'])
        .filter(|part| !part.is_empty())
        .map(|part| {
            let decoded =
                |s: &str| decode(s).ok_or_else(|| syntax(text, "a parameter is wrongly percent-encoded"));
            match part.split_once('=') {
                Some((key, value)) => Ok((decoded(key)?, Some(decoded(value)?))),
                None => Ok((decoded(part)?, None)),
            }
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b == b'%' {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            bytes.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?);
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).ok()
}

impl FromStr for Sinful {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if text.len() > MAX_LENGTH {
            return Err(syntax(text, "it is too long"));
        }
        let inner = text
            .strip_prefix('<')
            .and_then(|t| t.strip_suffix('>'))
            .ok_or_else(|| syntax(text, "it is not enclosed in < and >"))?;
        let (place, parameters) = inner.split_once('?').unwrap_or((inner, ""));
        let (host, port) = split_port(place).ok_or_else(|| syntax(text, "its port is no number"))?;
        let port = port
            .filter(|p| *p != 0)
            .ok_or_else(|| syntax(text, "it has no port"))?;
        check_host(text, host)?;
        Ok(Self {
            host: host.to_owned(),
            port,
            parameters: parse_parameters(text, parameters)?,
        })
    }
}

impl fmt::Display for Sinful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(f, "<{open}{}{close}:{}", self.host, self.port)?;
        for (n, (key, value)) in self.parameters.iter().enumerate() {
            f.write_str(if n == 0 { "?" } else { "&" })?;
            encode(f, key)?;
            if let Some(value) = value {
                f.write_str("=")?;
                encode(f, value)?;
            }
        }
        f.write_str(">")
    }
}

/// Leaves plain what HTCondor leaves plain: `src/condor_utils/condor_sinful.cpp`, `urlEncode`.
fn encode(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"#+-.:[]_".contains(&b) {
            write!(f, "{}", char::from(b))?;
        } else {
            write!(f, "%{b:02x}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "sinful_tests.rs"]
mod tests;
