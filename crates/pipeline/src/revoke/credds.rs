//! What lies in credds: the service's own credential, and those of its handles.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{Case, Ended, Step, Taken};
use crate::failure::{Failure, Stage};

/// What of an account's credentials at a credd are handles of the service `name`, and which of them may as well be a
/// role's. What belongs to another service that we know of is neither.
fn handles<'n>(
    name: &str,
    others: &[String],
    held: impl IntoIterator<Item = &'n str>,
) -> Vec<(&'n str, bool)> {
    let below = |whole: &str, part: &str| {
        whole
            .strip_prefix(part)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    let theirs = |held: &str| {
        let longer = others.iter().filter(|other| other.len() > name.len());
        longer.into_iter().any(|other| below(held, other))
    };
    held.into_iter()
        .filter(|held| *held != name && below(held, name) && !theirs(held))
        // dune_x is the handle x of dune, or its role x; dune_production_x is a handle
        .map(|held| (held, !name.contains('_')))
        .collect()
}

impl Case<'_> {
    pub(super) async fn credds(&self, mut known: BTreeSet<String>) -> Vec<Step> {
        let found = match self.world.credds_of(self.service).await {
            Ok(found) => found,
            Err(failure) => return vec![Step::failed(Taken::Credential, "all credds", &failure)],
        };
        let mut steps = Vec::new();
        let mut addresses = Vec::new();
        for credd in found {
            match credd {
                Ok(address) => {
                    known.remove(address.name());
                    addresses.push(address);
                }
                Err((name, failure)) => {
                    known.remove(&name);
                    steps.push(Step::failed(Taken::Credential, name, &failure));
                }
            }
        }
        let each = join_all(addresses.iter().map(|address| self.credd(address))).await;
        steps.extend(each.into_iter().flatten());
        steps.extend(known.into_iter().map(|name| {
            let text = "no collector knows this credd any more; what was stored there stays until it ends";
            Step::new(Taken::Credential, name, Ended::Failed, text)
        }));
        steps
    }

    /// Handles first: their credentials are read with the token of the service's own.
    async fn credd(&self, address: &credd_client::CreddAddress) -> Vec<Step> {
        let (account, name) = (&self.service.account, self.service.name.to_string());
        let credd = match self.world.credd(address, self.service).await {
            Ok(credd) => credd,
            Err(failure) => {
                let place = format!("{} {name}", address.name());
                return vec![Step::failed(Taken::Credential, place, &failure)];
            }
        };
        let listed = credd.list(account).await;
        let held: Vec<&str> = listed.iter().flatten().map(|entry| entry.name.as_str()).collect();
        let mut steps = Vec::new();
        for (handle, unclear) in handles(&name, &self.others, held) {
            if unclear {
                let text = format!(
                    "left alone, for it may be the role of another service; if it is a handle of this one: \
                     mtk credd delete {handle}"
                );
                let place = format!("{} {handle}", address.name());
                steps.push(Step::new(Taken::Credential, place, Ended::Failed, text));
            } else {
                steps.push(self.credential(&credd, address, handle).await);
            }
        }
        steps.push(self.credential(&credd, address, &name).await);
        if let Err(e) = &listed {
            // the service's own is tried whatever the credd says of a listing, and says the same if it is down
            let failure = Failure::at_credd(Stage::Revoke, address.name(), e);
            if steps.iter().all(|step| step.ended != Ended::Failed) {
                let place = format!("{} {name}, handles", address.name());
                steps.push(Step::failed(Taken::Credential, place, &failure));
            }
        }
        steps
    }

    /// One credential at one credd, by its whole name there.
    async fn credential(
        &self,
        credd: &credd_client::Credd,
        address: &credd_client::CreddAddress,
        name: &str,
    ) -> Step {
        let account = &self.service.account;
        let place = format!("{} {name}", address.name());
        let done = async {
            let before = credd.query(account, name, None).await?;
            credd.delete(account, name, None).await?;
            let after = credd.query(account, name, None).await?;
            Ok::<_, credd_client::Error>((before.top.is_some(), after.top.is_some()))
        };
        let (was_there, is_there) = match done.await {
            Ok(seen) => seen,
            Err(e) => {
                let failure = Failure::at_credd(Stage::Revoke, address.name(), &e);
                return Step::failed(Taken::Credential, place, &failure);
            }
        };
        if is_there {
            return Step::new(
                Taken::Credential,
                place,
                Ended::Failed,
                "deleted, and it is there again",
            );
        }
        let forgotten = self
            .world
            .state
            .forget_store(&self.key, address.name(), name)
            .await;
        self.world.remember(forgotten);
        match was_there {
            true => Step::new(Taken::Credential, place, Ended::Done, "deleted"),
            false => Step::new(Taken::Credential, place, Ended::Nothing, "there was none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_told_from_other_services() {
        let held = [
            "dune",
            "dune_production",
            "dune_production_read",
            "dune_production_a_b",
            "dune_productions",
            "dune_calibration",
            "dune_calibration_read",
            "nova_production_read",
        ];
        let others = ["dune_calibration".to_owned(), "dune".to_owned()];
        assert_eq!(
            handles("dune_production", &others, held),
            [("dune_production_read", false), ("dune_production_a_b", false)]
        );
        let others = ["dune_calibration".to_owned(), "dune_production".to_owned()];
        assert_eq!(handles("dune", &others, held), [("dune_productions", true)]);
        assert!(handles("mu2e", &[], held).is_empty());
        let others = ["dune_production_read".to_owned()];
        assert_eq!(
            handles("dune_production", &others, held),
            [("dune_production_a_b", false)]
        );
    }
}
