//! The last tries of an edge, so that somebody can be told afterwards how it came to this.

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction, sqlite::SqliteRow};

use crate::{EdgeId, Error, Fared, State, write::clean};

/// Rows kept of one edge. A row is one try, or many that ended alike: an edge that is well has a handful in a year.
const KEPT: i64 = 20;

/// How one try ended, or several that ended alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How.
    pub fared: Fared,
    /// When the first of them ended.
    pub since: Timestamp,
    /// When the last of them ended.
    pub at: Timestamp,
    /// How many there were.
    pub times: u32,
}

impl State {
    /// The last tries of an edge, the latest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn attempts(&self, edge: &EdgeId) -> Result<Vec<Attempt>, Error> {
        let mut work = self.pool.begin().await.map_err(|e| self.failed(e))?;
        if !self.has(&mut work, "attempt").await? {
            return Ok(Vec::new());
        }
        let query = sqlx::query(
            "SELECT outcome, since, at, times, reason, stage, kind, text FROM attempt WHERE edge = ? ORDER BY id DESC",
        );
        let rows = query.bind(edge.to_string()).fetch_all(&mut *work).await;
        let rows = rows.map_err(|e| self.failed(e))?;
        rows.iter().map(|row| self.attempt(row)).collect()
    }

    pub(crate) fn attempt(&self, row: &SqliteRow) -> Result<Attempt, Error> {
        let outcome: String = self.get(row, "outcome")?;
        let text = |column| {
            self.get::<Option<String>>(row, column)
                .map(Option::unwrap_or_default)
        };
        let fared = match outcome.as_str() {
            "done" => Fared::Done {
                reason: self.get(row, "reason")?,
            },
            "fresh" => Fared::Fresh,
            "failed" => Fared::Failed(crate::Fault {
                stage: text("stage")?,
                kind: text("kind")?,
                text: text("text")?,
                next_try: None,
            }),
            _ => return Err(self.unreadable(format!("no try ends as {outcome:?}"))),
        };
        let times: i64 = self.get(row, "times")?;
        Ok(Attempt {
            fared,
            since: self.time(row, "since")?,
            at: self.time(row, "at")?,
            times: u32::try_from(times).unwrap_or(u32::MAX),
        })
    }

    pub(crate) async fn add_attempt(
        &self,
        work: &mut Transaction<'static, Sqlite>,
        edge: &str,
        at: Timestamp,
        fared: &Fared,
    ) -> Result<(), Error> {
        let at = at.as_microsecond();
        let (outcome, reason, fault) = match fared {
            Fared::Done { reason } => ("done", reason.as_deref().map(clean), None),
            Fared::Fresh => ("fresh", None, None),
            Fared::Failed(fault) => ("failed", None, Some(fault)),
        };
        let (stage, kind, text) = match fault {
            Some(f) => (Some(clean(&f.stage)), Some(clean(&f.kind)), Some(clean(&f.text))),
            None => (None, None, None),
        };
        // what was made anew is each time an event of its own
        if outcome != "done" {
            let again = sqlx::query(AGAIN).bind(at).bind(edge).bind(outcome);
            let again = again.bind(&stage).bind(&kind).bind(&text);
            let done = again.execute(&mut **work).await.map_err(|e| self.failed(e))?;
            if done.rows_affected() > 0 {
                return Ok(());
            }
        }
        let first = sqlx::query(FIRST).bind(edge).bind(outcome).bind(at).bind(reason);
        let first = first.bind(stage).bind(kind).bind(text);
        first.execute(&mut **work).await.map_err(|e| self.failed(e))?;
        let old = sqlx::query(OLD).bind(edge).bind(KEPT);
        old.execute(&mut **work).await.map_err(|e| self.failed(e))?;
        Ok(())
    }
}

pub(crate) const ATTEMPTS: &str = "SELECT outcome, since, at, times, reason, stage, kind, text FROM attempt";

const AGAIN: &str = "UPDATE attempt SET at = ?1, times = min(times + 1, 4294967295)
    WHERE id = (SELECT max(id) FROM attempt WHERE edge = ?2)
        AND outcome = ?3 AND stage IS ?4 AND kind IS ?5 AND text IS ?6";

const FIRST: &str = "INSERT INTO attempt (edge, outcome, since, at, times, reason, stage, kind, text)
    VALUES (?1, ?2, ?3, ?3, 1, ?4, ?5, ?6, ?7)";

const OLD: &str = "DELETE FROM attempt WHERE edge = ?1
    AND id <= (SELECT id FROM attempt WHERE edge = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
