//! Who was told of what fails.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;

use crate::{Error, State};

/// What is remembered of telling somebody that something fails. Gone once they were told that it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// When it was first seen to fail.
    pub since: Timestamp,
    /// When they were last told; `None` for what is only counted.
    pub told_at: Option<Timestamp>,
    /// How bad it was then: more is worse.
    pub severity: u8,
    /// How often it had failed in a row.
    pub failures: u32,
}

/// Notices by what they are about and who was told.
pub type Notices = BTreeMap<(String, String), Notice>;

impl State {
    /// Everything that somebody was told and that is not over.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`] for a value mtk did not write.
    pub async fn notices(&self) -> Result<Notices, Error> {
        let rows = sqlx::query("SELECT subject, outlet, since, told_at, severity, failures FROM notice")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.failed(e))?;
        let mut all = Notices::new();
        for row in &rows {
            let number = |name: &str| -> Result<i64, Error> { row.try_get(name).map_err(|e| self.failed(e)) };
            let notice = Notice {
                since: self.time(row, "since")?,
                told_at: self.maybe_time(row, "told_at")?,
                severity: u8::try_from(number("severity")?).unwrap_or(u8::MAX),
                failures: u32::try_from(number("failures")?).unwrap_or(u32::MAX),
            };
            all.insert((self.get(row, "subject")?, self.get(row, "outlet")?), notice);
        }
        Ok(all)
    }

    /// Remembers notices, and forgets those without one: all or none.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_notices(&self, changes: &[((String, String), Option<Notice>)]) -> Result<(), Error> {
        let mut work = self.begin().await?;
        for ((subject, outlet), notice) in changes {
            let query = match notice {
                None => sqlx::query("DELETE FROM notice WHERE subject = ? AND outlet = ?")
                    .bind(subject)
                    .bind(outlet),
                Some(notice) => sqlx::query(
                    "INSERT INTO notice (subject, outlet, since, told_at, severity, failures) VALUES (?, ?, ?, ?, ?, ?)
                     ON CONFLICT (subject, outlet) DO UPDATE SET since = excluded.since, told_at = excluded.told_at,
                         severity = excluded.severity, failures = excluded.failures",
                )
                .bind(subject)
                .bind(outlet)
                .bind(notice.since.as_microsecond())
                .bind(notice.told_at.map(Timestamp::as_microsecond))
                .bind(i64::from(notice.severity))
                .bind(i64::from(notice.failures)),
            };
            query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        }
        self.commit(work).await
    }
}
