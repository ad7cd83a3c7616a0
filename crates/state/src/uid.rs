//! Which UID an account has on the nodes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::{Error, State};

/// What is known of an account's UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUid {
    /// The account.
    pub account: String,
    /// Its UID on the nodes.
    pub uid: u32,
    /// Who said so: `ferry`, `go`, `nss`.
    pub source: String,
    /// Since when it is this one.
    pub since: Timestamp,
    /// When somebody last said the same.
    pub confirmed: Timestamp,
    /// Somebody says otherwise: an alarm until a person has decided.
    pub drift: Option<Drift>,
}

/// Another answer for a UID that was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The other UID.
    pub uid: u32,
    /// Who says so.
    pub source: String,
    /// When it was last said.
    pub at: Timestamp,
}

/// What an answer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learnt {
    /// The account was not known.
    New,
    /// The same as was known.
    Same,
    /// Another than was known, which stays in use.
    Drift {
        /// The UID in use.
        known: u32,
    },
}

impl State {
    /// Takes an answer in. One that differs from what is known is remembered beside it and changes nothing: a UID that
    /// changes under an account is a mistake more often than not, and with it a token would go to somebody else's file.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`] for a value mtk did not write.
    pub async fn learn_uid(
        &self,
        account: &str,
        uid: u32,
        source: &str,
        at: Timestamp,
    ) -> Result<Learnt, Error> {
        let mut work = self.begin().await?;
        let known = self.known_uid(&mut work, account).await?;
        let (learnt, query) = match known {
            None => {
                let query = sqlx::query(
                    "INSERT INTO uid (account, uid, source, since, confirmed) VALUES (?4, ?1, ?2, ?3, ?3)",
                );
                (Learnt::New, query)
            }
            Some(known) if known.uid == uid => {
                // that somebody else says otherwise is still so
                let query = sqlx::query(
                    "UPDATE uid SET confirmed = ?3,
                         other_uid = CASE WHEN other_source = ?2 THEN NULL ELSE other_uid END,
                         other_at = CASE WHEN other_source = ?2 THEN NULL ELSE other_at END,
                         other_source = CASE WHEN other_source = ?2 THEN NULL ELSE other_source END
                     WHERE account = ?4 AND uid = ?1",
                );
                (Learnt::Same, query)
            }
            Some(known) => {
                let query = sqlx::query(
                    "UPDATE uid SET other_uid = ?1, other_source = ?2, other_at = ?3 WHERE account = ?4",
                );
                (Learnt::Drift { known: known.uid }, query)
            }
        };
        let query = query
            .bind(i64::from(uid))
            .bind(source)
            .bind(at.as_microsecond())
            .bind(account);
        query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        self.commit(work).await?;
        Ok(learnt)
    }

    /// Makes the other answer the one in use; says whether there was one.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn accept_uid(&self, account: &str) -> Result<bool, Error> {
        let query = sqlx::query(
            "UPDATE uid SET uid = other_uid, source = other_source, since = other_at, confirmed = other_at,
                 other_uid = NULL, other_source = NULL, other_at = NULL
             WHERE account = ? AND other_uid IS NOT NULL",
        );
        let done = query.bind(account).execute(&self.pool).await;
        Ok(done.map_err(|e| self.failed(e))?.rows_affected() > 0)
    }

    /// Everything known of UIDs, by account.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`] for a value mtk did not write.
    pub async fn uids(&self) -> Result<BTreeMap<String, KnownUid>, Error> {
        let rows = sqlx::query(UIDS).fetch_all(&self.pool).await;
        let rows = rows.map_err(|e| self.failed(e))?;
        rows.iter()
            .map(|row| self.uid(row).map(|uid| (uid.account.clone(), uid)))
            .collect()
    }

    async fn known_uid(
        &self,
        work: &mut Transaction<'static, Sqlite>,
        account: &str,
    ) -> Result<Option<KnownUid>, Error> {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{UIDS} WHERE account = ?")));
        let row = query.bind(account).fetch_optional(&mut **work).await;
        row.map_err(|e| self.failed(e))?
            .map(|row| self.uid(&row))
            .transpose()
    }

    pub(crate) fn uid(&self, row: &SqliteRow) -> Result<KnownUid, Error> {
        let number = |column: &str| -> Result<Option<u32>, Error> {
            let number: Option<i64> = row.try_get(column).map_err(|e| self.failed(e))?;
            let fits =
                |n: i64| u32::try_from(n).map_err(|_| self.unreadable(format!("{column} {n} is not a UID")));
            number.map(fits).transpose()
        };
        let uid = number("uid")?.ok_or_else(|| self.unreadable("an account has no UID".into()))?;
        let source: Option<String> = self.get(row, "other_source")?;
        let drift = match (number("other_uid")?, source, self.maybe_time(row, "other_at")?) {
            (Some(uid), Some(source), Some(at)) => Some(Drift { uid, source, at }),
            _ => None,
        };
        Ok(KnownUid {
            account: self.get(row, "account")?,
            uid,
            source: self.get(row, "source")?,
            since: self.time(row, "since")?,
            confirmed: self.time(row, "confirmed")?,
            drift,
        })
    }
}

pub(crate) const UIDS: &str =
    "SELECT account, uid, source, since, confirmed, other_uid, other_source, other_at FROM uid";
