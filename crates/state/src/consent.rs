//! Who agreed to a robot, when, and for how long.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::{Error, ServiceKey, State};

/// A person's consent to a robot, given in a browser. The refresh token that came of it lies in Vault alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Whose robot.
    pub service: ServiceKey,
    /// Who agreed, in Vault's words.
    pub person: String,
    /// When.
    pub at: Timestamp,
    /// Until when it lasts, if the configuration says how long consents do.
    pub expires: Option<Timestamp>,
    /// What the bearer token read afterwards carried: its scopes.
    pub granted: Vec<String>,
    /// What it should have carried and did not.
    pub missing: Vec<String>,
}

impl State {
    /// Remembers a consent, in place of the one before.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_consent(&self, consent: &Consent) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, &consent.service).await?;
        let query = sqlx::query(
            "INSERT INTO consent (service_id, person, at, expires, granted, missing) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (service_id) DO UPDATE SET person = excluded.person, at = excluded.at,
                 expires = excluded.expires, granted = excluded.granted, missing = excluded.missing",
        );
        query
            .bind(service)
            .bind(&consent.person)
            .bind(consent.at.as_microsecond())
            .bind(consent.expires.map(Timestamp::as_microsecond))
            .bind(consent.granted.join(" "))
            .bind(consent.missing.join(" "))
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Forgets a consent, after what came of it was deleted.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget_consent(&self, service: &ServiceKey) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, service).await?;
        let query = sqlx::query("DELETE FROM consent WHERE service_id = ?").bind(service);
        query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// The latest consent of every service that has one.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`] for a value mtk did not write.
    pub async fn consents(&self) -> Result<BTreeMap<ServiceKey, Consent>, Error> {
        let rows = sqlx::query(CONSENTS)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.failed(e))?;
        let mut all = BTreeMap::new();
        for row in &rows {
            let consent = self.consent(row)?;
            all.insert(consent.service.clone(), consent);
        }
        Ok(all)
    }

    pub(crate) fn consent(&self, row: &SqliteRow) -> Result<Consent, Error> {
        let words = |text: String| {
            text.split(' ')
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Ok(Consent {
            service: self.service(row)?,
            person: self.get(row, "person")?,
            at: self.time(row, "at")?,
            expires: self.maybe_time(row, "expires")?,
            granted: words(self.get(row, "granted")?),
            missing: words(self.get(row, "missing")?),
        })
    }
}

pub(crate) const CONSENTS: &str =
    "SELECT s.experiment, s.role, s.account, s.principal, c.person, c.at, c.expires, c.granted, c.missing
    FROM consent c JOIN service s ON s.id = c.service_id";
