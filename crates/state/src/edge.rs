//! What can succeed or fail alone, and its name in the database.

use std::{fmt, str::FromStr};

use crate::ServiceKey;

/// An edge: the unit that is planned, tried, recorded and shown.
///
/// Its text form is stable: the kind, then the parts, joined by `/`, with `/` and `%` inside a part written `%2F`
/// and `%25`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeId {
    /// Logging in to Vault.
    Login {
        /// Whose login.
        service: ServiceKey,
    },
    /// Storing in one credd.
    Store {
        /// Whose token.
        service: ServiceKey,
        /// The credd's name.
        credd: String,
        /// The credential's name there, handle included.
        name: String,
    },
    /// Placing one file on one node.
    Push {
        /// Whose file.
        service: ServiceKey,
        /// The node.
        node: String,
        /// The file's path there.
        path: String,
    },
    /// Writing a bearer token somewhere.
    Bearer {
        /// Whose token.
        service: ServiceKey,
        /// Which output.
        output: String,
    },
}

/// A text that is no edge's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the name of an edge")]
pub struct NotAnEdge {
    /// What was given.
    pub text: String,
}

impl EdgeId {
    /// The service it belongs to.
    #[must_use]
    pub fn service(&self) -> &ServiceKey {
        match self {
            Self::Login { service }
            | Self::Store { service, .. }
            | Self::Push { service, .. }
            | Self::Bearer { service, .. } => service,
        }
    }

    /// What kind of edge it is: `login`, `store`, `push`, `bearer`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Login { .. } => "login",
            Self::Store { .. } => "store",
            Self::Push { .. } => "push",
            Self::Bearer { .. } => "bearer",
        }
    }

    /// The credd, node or output; empty for a login, which is at the service's own Vault.
    #[must_use]
    pub fn place(&self) -> &str {
        match self {
            Self::Login { .. } => "",
            Self::Store { credd, .. } => credd,
            Self::Push { node, .. } => node,
            Self::Bearer { output, .. } => output,
        }
    }

    /// The credential's name or the file's path at the place.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Login { .. } | Self::Bearer { .. } => "",
            Self::Store { name, .. } => name,
            Self::Push { path, .. } => path,
        }
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, parts): (_, [&str; 2]) = match self {
            Self::Login { .. } => ("login", ["", ""]),
            Self::Store { credd, name, .. } => ("store", [credd, name]),
            Self::Push { node, path, .. } => ("push", [node, path]),
            Self::Bearer { output, .. } => ("bearer", [output, ""]),
        };
        let count = match self {
            Self::Login { .. } => 0,
            Self::Bearer { .. } => 1,
            Self::Store { .. } | Self::Push { .. } => 2,
        };
        let s = self.service();
        f.write_str(kind)?;
        for part in [&s.experiment, &s.role, &s.account, &s.principal] {
            write!(f, "/{}", escape(part))?;
        }
        for part in parts.iter().take(count) {
            write!(f, "/{}", escape(part))?;
        }
        Ok(())
    }
}

impl FromStr for EdgeId {
    type Err = NotAnEdge;

    fn from_str(text: &str) -> Result<Self, NotAnEdge> {
        let bad = || NotAnEdge {
            text: text.to_owned(),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let [kind, experiment, role, account, principal, rest @ ..] = parts.as_slice() else {
            return Err(bad());
        };
        let read = |part: &str| unescape(part).ok_or_else(bad);
        let service = ServiceKey {
            experiment: read(experiment)?,
            role: read(role)?,
            account: read(account)?,
            principal: read(principal)?,
        };
        match (*kind, rest) {
            ("login", []) => Ok(Self::Login { service }),
            ("store", [credd, name]) => Ok(Self::Store {
                service,
                credd: read(credd)?,
                name: read(name)?,
            }),
            ("push", [node, path]) => Ok(Self::Push {
                service,
                node: read(node)?,
                path: read(path)?,
            }),
            ("bearer", [output]) => Ok(Self::Bearer {
                service,
                output: read(output)?,
            }),
            _ => Err(bad()),
        }
    }
}

fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn unescape(part: &str) -> Option<String> {
    let mut pieces = part.split('%');
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2F"), piece.strip_prefix("25")) {
            (Some(rest), _) => ('/', rest),
            (_, Some(rest)) => ('%', rest),
            _ => return None,
        };
        out.push(sign);
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> ServiceKey {
        crate::records::of_account("dunepro")
    }

    #[test]
    fn the_text_form_is_stable() {
        let edge = EdgeId::Push {
            service: service(),
            node: "n1".into(),
            path: "/tmp/vt_u1".into(),
        };
        assert_eq!(
            edge.to_string(),
            "push/dune/production/dunepro/dunepro%2Fmanagedtokens%2Fmtk.test@MTK.TEST/n1/%2Ftmp%2Fvt_u1"
        );
    }

    #[test]
    fn every_edge_is_read_back() {
        let mut odd = service();
        odd.role = "%2F/%".into();
        odd.account = String::new();
        for service in [service(), odd] {
            for edge in [
                EdgeId::Login {
                    service: service.clone(),
                },
                EdgeId::Store {
                    service: service.clone(),
                    credd: "ap1".into(),
                    name: "dune_production".into(),
                },
                EdgeId::Push {
                    service: service.clone(),
                    node: "n".into(),
                    path: "/tmp/a%b".into(),
                },
                EdgeId::Bearer {
                    service: service.clone(),
                    output: String::new(),
                },
            ] {
                assert_eq!(edge.to_string().parse(), Ok(edge));
            }
        }
    }

    #[test]
    fn what_is_no_edge_is_refused() {
        for text in [
            "",
            "login",
            "login/a/b/c",
            "login/a/b/c/d/e",
            "store/a/b/c/d/e",
            "fly/a/b/c/d",
            "login/a/b/c/%2",
        ] {
            assert!(text.parse::<EdgeId>().is_err(), "{text}");
        }
    }
}
