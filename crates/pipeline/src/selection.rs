//! Which services, credds and nodes of the site a command is about.

use config::Service;

/// A subset of the site; an empty list means all. A service must match every list that is not empty.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `experiment_role` as written, or the name at HTCondor.
    pub services: Vec<String>,
    /// Experiments as written.
    pub experiments: Vec<String>,
    /// Roles as written.
    pub roles: Vec<String>,
    /// Names of credds.
    pub credds: Vec<String>,
    /// Names of nodes.
    pub nodes: Vec<String>,
}

impl Selection {
    /// Whether the service is meant.
    #[must_use]
    pub fn wants(&self, service: &Service) -> bool {
        self.wants_names(
            &service.id.experiment,
            &service.id.role,
            &[&service.name.to_string()],
        )
    }

    /// The same by names alone, for services that could not be set up.
    #[must_use]
    pub fn wants_names(&self, experiment: &str, role: &str, also_called: &[&str]) -> bool {
        let written = format!("{experiment}_{role}");
        any(&self.experiments, experiment)
            && any(&self.roles, role)
            && (any(&self.services, &written) || also_called.iter().any(|n| any(&self.services, n)))
    }

    /// Whether the credd is meant.
    #[must_use]
    pub fn wants_credd(&self, name: &str) -> bool {
        any(&self.credds, name)
    }

    /// Whether the node is meant.
    #[must_use]
    pub fn wants_node(&self, name: &str) -> bool {
        any(&self.nodes, name)
    }

    /// The names asked for that match no service of the site: a typo must not look like success.
    #[must_use]
    pub fn unmatched<'a>(&'a self, services: &[Service], broken: &[(&str, &str)]) -> Vec<&'a str> {
        let known = |test: &dyn Fn(&str, &str, &str) -> bool| {
            services
                .iter()
                .any(|s| test(&s.id.experiment, &s.id.role, &s.name.to_string()))
                || broken.iter().any(|(e, r)| test(e, r, ""))
        };
        let mut out = Vec::new();
        for name in &self.services {
            if !known(&|e, r, n| *name == format!("{e}_{r}") || name == n) {
                out.push(name.as_str());
            }
        }
        out.extend(
            self.experiments
                .iter()
                .filter(|x| !known(&|e, _, _| e == **x))
                .map(String::as_str),
        );
        out.extend(
            self.roles
                .iter()
                .filter(|x| !known(&|_, r, _| r == **x))
                .map(String::as_str),
        );
        let nodes: Vec<&str> = services
            .iter()
            .flat_map(|s| s.nodes.iter().map(String::as_str))
            .collect();
        out.extend(
            self.nodes
                .iter()
                .filter(|n| !nodes.contains(&n.as_str()) && n.as_str() != config::THIS_HOST)
                .map(String::as_str),
        );
        out
    }
}

/// Why a name does not mean one service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoService {
    /// No service goes by it.
    #[error("there is no service {name}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// It goes by it, but cannot be set up.
    #[error("{name} cannot be set up: {reason}")]
    Broken {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Several share it as their name at HTCondor.
    #[error("{name} is the name at HTCondor of several services: say which of {} is meant", .which.join(", "))]
    Several {
        /// The name.
        name: String,
        /// The services, as configured.
        which: Vec<String>,
    },
}

/// The one service of this name: `experiment_role` as configured, else the name at HTCondor if no two share it.
///
/// # Errors
/// [`NoService`].
pub fn one_service<'a>(site: &'a config::Site, name: &str) -> Result<&'a Service, NoService> {
    let name_owned = || name.to_owned();
    if let Some(service) = site.services.iter().find(|s| s.id.to_string() == name) {
        return Ok(service);
    }
    if let Some(broken) = site.broken.iter().find(|b| b.id.to_string() == name) {
        return Err(NoService::Broken {
            name: name_owned(),
            reason: broken.reason.clone(),
        });
    }
    let named: Vec<&Service> = site
        .services
        .iter()
        .filter(|s| s.name.to_string() == name)
        .collect();
    match named.as_slice() {
        [] => Err(NoService::Unknown { name: name_owned() }),
        [service] => Ok(service),
        several => Err(NoService::Several {
            name: name_owned(),
            which: several.iter().map(|s| s.id.to_string()).collect(),
        }),
    }
}

fn any(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|x| x == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_narrow_one_another() {
        let selection = Selection {
            experiments: vec!["dune".into()],
            roles: vec!["production".into()],
            ..Selection::default()
        };
        assert!(selection.wants_names("dune", "production", &[]));
        assert!(!selection.wants_names("dune", "calibration", &[]));
        assert!(!selection.wants_names("mu2e", "production", &[]));
    }

    #[test]
    fn a_service_goes_by_both_of_its_names() {
        let selection = Selection {
            services: vec!["dune_production".into()],
            ..Selection::default()
        };
        assert!(selection.wants_names("dune", "production", &["dune_production"]));
        assert!(selection.wants_names("dune-near", "production", &["dune_production"]));
        assert!(!selection.wants_names("mu2e", "production", &["mu2e_production"]));
    }
}
