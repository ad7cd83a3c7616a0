//! One ticket per principal and run, however many edges want it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use config::Service;
use credential::Principal;
use kerberos::{Gss, Keytab, Ticket};
use tokio::sync::OnceCell;

use crate::{
    failure::{Failure, Stage},
    ledger::Ledger,
    report::Shared,
    retry::{Budget, retry},
    stop::Stop,
};

type Slot = Arc<OnceCell<Result<Ticket, Failure>>>;

/// Acquires tickets once and hands them to everybody of the same keytab and principal, and to nobody else.
pub(crate) struct Tickets {
    gss: Gss,
    deadline: Duration,
    budget: Budget,
    stop: Stop,
    ledger: Ledger,
    slots: Mutex<HashMap<(PathBuf, Principal), Slot>>,
}

impl Tickets {
    pub(crate) fn new(gss: Gss, deadline: Duration, budget: Budget, stop: Stop, ledger: Ledger) -> Self {
        Self {
            gss,
            deadline,
            budget,
            stop,
            ledger,
            slots: Mutex::default(),
        }
    }

    /// The service's ticket, or why there is none; the same answer for everybody who asks in this run.
    pub(crate) async fn of(&self, service: &Service) -> Result<Ticket, Failure> {
        self.of_robot(service, &service.keytab, &service.principal).await
    }

    /// The same for another principal that works for the service.
    pub(crate) async fn of_robot(
        &self,
        service: &Service,
        keytab: &Path,
        principal: &Principal,
    ) -> Result<Ticket, Failure> {
        let key = (keytab.to_owned(), principal.clone());
        let slot = self
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key)
            .or_default()
            .clone();
        slot.get_or_init(|| async {
            let began = self.ledger.elapsed();
            let ticket = self.acquire(keytab, principal).await;
            self.ledger.took(Shared::Ticket {
                service: service.id.to_string(),
                seconds: self.ledger.elapsed() - began,
                failed: ticket.is_err(),
            });
            ticket
        })
        .await
        .clone()
    }

    async fn acquire(&self, path: &Path, principal: &Principal) -> Result<Ticket, Failure> {
        let keytab = Keytab::open(path, principal)
            .map_err(|e| Failure::new(Stage::Keytab, path.display().to_string(), &e, false))?;
        let realm = principal.realm();
        retry(self.budget, &self.stop, || async {
            match tokio::time::timeout(self.deadline, self.gss.acquire(&keytab)).await {
                Ok(Ok(ticket)) => Ok(ticket),
                Ok(Err(e)) => Err(Failure::new(
                    Stage::Ticket,
                    format!("KDC of {realm}"),
                    &e,
                    e.retryable(),
                )),
                Err(_) => Err(silent_kdc(realm, self.deadline)),
            }
        })
        .await
    }
}

/// The KDC did not answer in time. Not tried again in this run: the thread is still waiting for it.
pub(crate) fn silent_kdc(realm: &str, deadline: Duration) -> Failure {
    Failure::text(
        Stage::Ticket,
        "kdc-silent",
        format!("KDC of {realm}"),
        format!(
            "no answer within {} s; see that a KDC of {realm} is up and reachable from here, and which ones \
             krb5.conf lists; tried again at the next run",
            deadline.as_secs()
        ),
    )
}
