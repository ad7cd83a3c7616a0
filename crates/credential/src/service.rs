//! A service as HTCondor names it: issuer, or issuer and role.

use std::{fmt, str::FromStr};

use crate::Invalid;

/// The name of a credential at a credd: `issuer` or `issuer_role` (vault.md 6.2).
///
/// Two entries of a configuration may share one such name with different accounts, so this is never the key of
/// anything by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    issuer: String,
    role: Option<String>,
}

impl ServiceName {
    /// The issuer: what htvault-config calls it, an experiment in the field.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The role at the issuer; `default` when the name carries none.
    #[must_use]
    pub fn role(&self) -> &str {
        self.role.as_deref().unwrap_or("default")
    }

    /// Builds `experiment_role`; the role called `default` is left out, as jobsub and the storer do.
    ///
    /// # Errors
    /// [`Invalid::Service`] for characters or underscores HTCondor's naming cannot carry.
    pub fn new(issuer: &str, role: &str) -> Result<Self, Invalid> {
        let bad = |why| Invalid::Service {
            text: format!("{issuer}_{role}"),
            why,
        };
        let word = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || "-+=.".contains(c));
        if issuer.is_empty() || role.is_empty() {
            return Err(bad("the experiment or the role is empty"));
        }
        if issuer.len() + role.len() > 200 {
            return Err(bad("it is longer than 200 characters"));
        }
        if issuer.contains('_') || role.contains('_') {
            return Err(bad(
                "HTCondor splits it at the first underscore, so neither part may hold one",
            ));
        }
        if !word(issuer) || !word(role) {
            return Err(bad("a credd allows letters, digits and - + = . only"));
        }
        if issuer.starts_with('.') || issuer.starts_with('-') {
            return Err(bad(
                "it would begin with a dot or a dash, and it becomes a file name",
            ));
        }
        let role = (role != "default").then(|| role.to_owned());
        Ok(Self {
            issuer: issuer.to_owned(),
            role,
        })
    }
}

impl FromStr for ServiceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once('_') {
            Some((issuer, role)) => Self::new(issuer, role),
            None => Self::new(text, "default"),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Some(role) => write!(f, "{}_{role}", self.issuer),
            None => f.write_str(&self.issuer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_role_is_not_written() {
        let s: ServiceName = "dune".parse().unwrap();
        assert_eq!(
            (s.issuer(), s.role(), s.to_string().as_str()),
            ("dune", "default", "dune")
        );
        assert_eq!(ServiceName::new("dune", "default").unwrap(), s);
        assert_eq!(
            "dune_production".parse::<ServiceName>().unwrap().role(),
            "production"
        );
    }

    #[test]
    fn ambiguous_or_unsafe_names_are_refused() {
        for text in [
            "",
            "_",
            "dune_",
            "_x",
            "dune_fermilab_production",
            "a/b",
            "../x",
            "a b",
            "dune_ä",
            ".x",
        ] {
            assert!(text.parse::<ServiceName>().is_err(), "{text:?}");
        }
    }
}
