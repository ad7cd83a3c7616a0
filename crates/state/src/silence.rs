//! What is known to be down: still tried, but nobody's alarm until a time that was said beforehand.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use sqlx::{Sqlite, Transaction, sqlite::SqliteRow};

use crate::{EdgeId, Error, State, write::clean};

/// How long one that is over is still told of.
const TOLD: SignedDuration = SignedDuration::from_hours(365 * 24);

/// What can be silenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceKind {
    /// A node: every file on it.
    Node,
    /// A credd: every credential at it.
    Credd,
    /// A service, `experiment_role` as configured: everything of it.
    Service,
}

impl SilenceKind {
    /// As it is written in the database and shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Credd => "credd",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for SilenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for SilenceKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Node, Self::Credd, Self::Service]
            .into_iter()
            .find(|kind| kind.word() == text)
            .ok_or(())
    }
}

/// Something silenced, by whom and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// What it is.
    pub kind: SilenceKind,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
    /// Who said so.
    pub who: String,
    /// When they did.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
    /// When somebody ended it before that, and who.
    pub ended: Option<(Timestamp, String)>,
}

impl Silence {
    /// Whether it holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.until
    }

    /// Whether it is about this service. One that cannot be set up has a place in the configuration as well.
    #[must_use]
    pub fn covers_service(&self, experiment: &str, role: &str) -> bool {
        let rest = self
            .name
            .strip_prefix(experiment)
            .and_then(|rest| rest.strip_prefix('_'));
        self.kind == SilenceKind::Service && rest == Some(role)
    }

    /// Whether it is about this edge: by its place, or by its service.
    #[must_use]
    pub fn covers(&self, edge: &EdgeId) -> bool {
        match (self.kind, edge) {
            (SilenceKind::Node, EdgeId::Push { node, .. }) => *node == self.name,
            (SilenceKind::Credd, EdgeId::Store { credd, .. }) => *credd == self.name,
            (SilenceKind::Service, edge) => {
                self.covers_service(&edge.service().experiment, &edge.service().role)
            }
            _ => false,
        }
    }
}

/// The silence that makes this edge nobody's alarm at `now`, if there is one: the one that lasts longest.
#[must_use]
pub fn is_silenced<'a>(silences: &'a [Silence], edge: &EdgeId, now: Timestamp) -> Option<&'a Silence> {
    longest(silences, now, |s| s.covers(edge))
}

/// The same for a whole service, by its place in the configuration.
#[must_use]
pub fn is_service_silenced<'a>(
    silences: &'a [Silence],
    experiment: &str,
    role: &str,
    now: Timestamp,
) -> Option<&'a Silence> {
    longest(silences, now, |s| s.covers_service(experiment, role))
}

fn longest(silences: &[Silence], now: Timestamp, covers: impl Fn(&Silence) -> bool) -> Option<&Silence> {
    silences
        .iter()
        .filter(|s| s.holds(now) && covers(s))
        .max_by_key(|s| s.until)
}

impl State {
    /// Remembers a silence, in the place of one that holds for the same thing. Those over for a year are forgotten.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn silence(&self, silence: &Silence) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let over = sqlx::query("DELETE FROM silence WHERE until < ?").bind(
            silence
                .since
                .saturating_sub(TOLD)
                .unwrap_or(Timestamp::MIN)
                .as_microsecond(),
        );
        over.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        let before = sqlx::query(END)
            .bind(silence.since.as_microsecond())
            .bind(clean(&silence.who))
            .bind(silence.kind.word())
            .bind(&silence.name);
        before.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        let query = sqlx::query(
            "INSERT INTO silence (kind, name, why, who, since, until, ended, ended_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        );
        query
            .bind(silence.kind.word())
            .bind(&silence.name)
            .bind(clean(&silence.why))
            .bind(clean(&silence.who))
            .bind(silence.since.as_microsecond())
            .bind(silence.until.as_microsecond())
            .bind(silence.ended.as_ref().map(|(at, _)| at.as_microsecond()))
            .bind(silence.ended.as_ref().map(|(_, who)| clean(who)))
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Ends what silences this thing now; says whether anything did.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn end_silence(
        &self,
        kind: SilenceKind,
        name: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let query = sqlx::query(END)
            .bind(now.as_microsecond())
            .bind(clean(who))
            .bind(kind.word())
            .bind(name);
        let done = query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(done.rows_affected() > 0)
    }

    /// All that are remembered, those over included, in the order in which they were said.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn silences(&self) -> Result<Vec<Silence>, Error> {
        let mut work = self.pool.begin().await.map_err(|e| self.failed(e))?;
        self.silences_in(&mut work).await
    }

    pub(crate) async fn silences_in(
        &self,
        work: &mut Transaction<'static, Sqlite>,
    ) -> Result<Vec<Silence>, Error> {
        if !self.has(work, "silence").await? {
            return Ok(Vec::new());
        }
        let rows = self.rows(work, SILENCES).await?;
        rows.iter().map(|row| self.silence_of(row)).collect()
    }

    fn silence_of(&self, row: &SqliteRow) -> Result<Silence, Error> {
        let kind: String = self.get(row, "kind")?;
        let ended = self.maybe_time(row, "ended")?;
        let ended_by: Option<String> = self.get(row, "ended_by")?;
        Ok(Silence {
            kind: kind
                .parse()
                .map_err(|()| self.unreadable(format!("{kind:?} cannot be silenced")))?,
            name: self.get(row, "name")?,
            why: self.get(row, "why")?,
            who: self.get(row, "who")?,
            since: self.time(row, "since")?,
            until: self.time(row, "until")?,
            ended: ended.map(|at| (at, ended_by.unwrap_or_default())),
        })
    }
}

/// One that ended by itself is left as it is.
const END: &str = "UPDATE silence SET ended = ?1, ended_by = ?2 WHERE kind = ?3 AND name = ?4 AND ended IS NULL AND until > ?1";

const SILENCES: &str = "SELECT kind, name, why, who, since, until, ended, ended_by FROM silence ORDER BY id";
