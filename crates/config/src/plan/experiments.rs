//! Experiments and their roles, each into a service or into what is wrong with it.

use std::collections::BTreeSet;

use super::Plan;
use crate::{
    Broken, Service, ServiceId, Site, keys,
    owners::{self, Claimant},
    role::{CONDOR_ADVICE, RoleReader, Shared},
    section::{self, Section, Unknown},
};

impl<'t> Plan<'_, 't> {
    pub(super) fn experiments(&mut self, shared: &Shared<'_, 't>, site: &mut Site) {
        let experiments = self.top.child("experiments", self.report);
        if experiments.entries().is_empty() {
            self.report.warn(
                self.top.at(),
                "experiments",
                "there is no service in this file",
                "",
            );
        }
        let mut claimants = Vec::new();
        let mut seen = BTreeSet::new();
        for entry in experiments.entries() {
            let twice = !seen.insert(entry.key.to_lowercase());
            let Some(experiment) = experiments.below(entry, self.report) else {
                continue;
            };
            if twice {
                let message = "the experiment stands in the file twice, in another case";
                self.report.refuse(
                    entry.at,
                    &experiments.path_of(&entry.key),
                    message,
                    "rename one of them",
                );
            }
            experiment.check_keys(keys::EXPERIMENT, Unknown::Refuse, self.report, &mut self.later);
            let name = entry.key.as_str();
            let issuer = self.issuer(&experiment, name);
            let condor = experiment.wanted(
                "condor",
                keys::CONDOR,
                CONDOR_ADVICE,
                self.report,
                &mut self.later,
            );
            if let Some(emails) = self.mail_addresses(&experiment, "emails") {
                site.notifications.stakeholders.insert(name.to_owned(), emails);
            }
            let reasons = self.report.take_refusals();
            let roles = experiment.child("roles", self.report);
            if roles.entries().is_empty() {
                self.report.warn(
                    entry.at,
                    &experiment.path_of("roles"),
                    "the experiment has no role",
                    "",
                );
            }
            let mut seen = BTreeSet::new();
            for entry in roles.entries() {
                let id = ServiceId {
                    experiment: name.to_owned(),
                    role: entry.key.clone(),
                };
                let mut reasons = reasons.clone();
                let twice = !seen.insert(entry.key.to_lowercase());
                if twice {
                    let message = "the role stands in the experiment twice, in another case";
                    self.report.refuse(
                        entry.at,
                        &roles.path_of(&entry.key),
                        message,
                        "rename one of them",
                    );
                }
                let Some(section) = roles.below(entry, self.report) else {
                    reasons.push(format!("{}: it is not a map", roles.path_of(&entry.key)));
                    site.broken.push(Broken {
                        id,
                        at: entry.at,
                        reason: reasons.join("; "),
                    });
                    continue;
                };
                let read = RoleReader::new(shared, section, self.report)
                    .within(&experiment)
                    .read(id.clone(), &issuer, &condor, &mut self.later);
                reasons.extend(self.report.take_refusals());
                let service = match read.service {
                    Some(service) if reasons.is_empty() => {
                        self.note_case(&service);
                        site.services.push(service);
                        Some(site.services.len() - 1)
                    }
                    _ => {
                        site.broken.push(Broken {
                            id,
                            at: entry.at,
                            reason: reasons.join("; "),
                        });
                        None
                    }
                };
                claimants.push(Claimant {
                    claim: read.claim,
                    service,
                });
            }
        }
        owners::assign(&mut site.services, &claimants, self.report);
    }

    pub(super) fn issuer(&mut self, experiment: &Section<'t>, key: &str) -> String {
        let Some(entry) = experiment.get("experimentOverride") else {
            return key.to_lowercase();
        };
        let path = experiment.path_of(&entry.key);
        match section::text(&entry.node.value) {
            Ok(text) if text.trim().is_empty() => key.to_lowercase(),
            Ok(text) => text.trim().to_owned(),
            Err(why) => {
                self.report.refuse(entry.node.at, &path, why, "");
                key.to_lowercase()
            }
        }
    }

    pub(super) fn note_case(&mut self, service: &Service) {
        let written = service.id.to_string();
        if written != written.to_lowercase() {
            self.report.note(
                service.at,
                &written,
                format!("at HTCondor and Vault this is {}", service.name),
                "the Go service reads experiments and roles in lower case, and so does mtk",
            );
        }
    }
}
