//! One argument of condor_vault_storer: `service[&handle=H][&scopes=S][&audience=A][&options=O]`.

use anyhow::{bail, ensure};
use credd_client::Restriction;

use crate::commands::token::obtain::Ask;

/// What a job wants of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) service: String,
    pub(super) issuer: String,
    pub(super) role: Option<String>,
    pub(super) handle: Option<String>,
    /// Compared by credds as text: order and spelling are the job's.
    pub(super) restriction: Restriction,
    pub(super) options: Vec<String>,
}

impl Request {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split('&');
        let service = parts.next().unwrap_or_default().to_owned();
        let (issuer, role) = match service.split_once('_') {
            Some((issuer, role)) => (issuer.to_owned(), Some(role.to_owned())),
            None => (service.clone(), None),
        };
        ensure!(!issuer.is_empty(), "{text:?} names no service");
        // it becomes part of files' names; credds take no others either
        let good = |c: char| c.is_ascii_alphanumeric() || "-+=_.".contains(c);
        ensure!(service.chars().all(good), "{service:?} is no service's name");
        if role.as_deref().is_some_and(|role| role.contains('_')) {
            bail!("Only one underscore allowed in use_oauth_services name");
        }
        let mut request = Self {
            service,
            issuer,
            role,
            handle: None,
            restriction: Restriction::default(),
            options: Vec::new(),
        };
        for part in parts {
            // as there: what is not known is left out
            let Some((name, value)) = part.split_once('=') else {
                continue;
            };
            let value = value.to_owned();
            match name {
                "handle" => {
                    ensure!(value.chars().all(good), "{value:?} is no handle's name");
                    request.handle = Some(value).filter(|handle| !handle.is_empty());
                }
                "scopes" => request.restriction.scopes = Some(value),
                "audience" => request.restriction.audience = Some(value),
                "options" => request
                    .options
                    .extend(value.split_whitespace().map(str::to_owned)),
                _ => {}
            }
        }
        if request.handle.is_none() && request.restriction != Restriction::default() {
            bail!("reduced scopes or audience require a handle");
        }
        Ok(request)
    }

    /// Credmons take a handle's Vault token from the credential whose name ends before the last underscore: that of a
    /// handle with one would be another's.
    pub(super) fn needs_its_own(handle: &str) -> bool {
        handle.contains('_')
    }

    /// What is asked of Vault for the handle.
    pub(super) fn less(&self, ask: &Ask) -> Ask {
        let list = |text: &String| text.split(',').map(str::to_owned).collect();
        let mut less = ask.clone();
        if let Some(scopes) = &self.restriction.scopes {
            less.scopes = list(scopes);
        }
        if let Some(audience) = &self.restriction.audience {
            less.audience = list(audience);
        }
        less
    }

    /// Of the full credential's options.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = vec!["-i".to_owned(), self.issuer.clone()];
        if let Some(role) = &self.role {
            words.extend(["-r".to_owned(), role.clone()]);
        }
        words.extend(self.options.iter().cloned());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_condor_submit_writes_them() {
        let request =
            Request::parse("dune_production&handle=h&scopes=a,b&audience=x&options=--minsecs 30").unwrap();
        assert_eq!(
            (request.issuer.as_str(), request.role.as_deref()),
            ("dune", Some("production"))
        );
        assert_eq!(request.handle.as_deref(), Some("h"));
        assert_eq!(request.restriction.scopes.as_deref(), Some("a,b"));
        assert_eq!(
            request.words(),
            ["-i", "dune", "-r", "production", "--minsecs", "30"]
        );
        assert_eq!(Request::parse("dune").unwrap().words(), ["-i", "dune"]);
        for bad in [
            "",
            "dune_a_b",
            "dune&scopes=a",
            "dune&audience=a",
            "_x",
            "../x",
            "dune&handle=a/b",
        ] {
            assert!(Request::parse(bad).is_err(), "{bad}");
        }
        // the usage text of old says scope=, which nothing reads
        assert!(Request::parse("dune&scope=a").is_ok());
    }
}
