//! Recording what happened.

use credential::printable;
use jiff::Timestamp;
use sqlx::{Row, Sqlite, Transaction};

use crate::{EdgeId, Error, Login, NodeTokenRecord, Push, ServiceKey, State, Store};

/// Longest error text kept; peers are not trusted to be brief.
const MAX_TEXT: usize = 2000;

impl State {
    /// Remembers a login by its accessor, so that its whole tree can be revoked later.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_login(&self, login: &Login) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, &login.service).await?;
        let query = sqlx::query(
            "INSERT INTO login (service_id, accessor, issued, expires) VALUES (?, ?, ?, ?)
             ON CONFLICT (service_id, accessor) DO UPDATE SET issued = excluded.issued, expires = excluded.expires",
        );
        let query = query.bind(service).bind(&login.accessor);
        query
            .bind(login.issued.as_microsecond())
            .bind(login.expires.as_microsecond())
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Remembers the node token of a service, in place of the one before. Save the token itself first.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_node_token(&self, token: &NodeTokenRecord) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, &token.service).await?;
        let query = sqlx::query(
            "INSERT INTO node_token (service_id, accessor, parent_accessor, issued, expires) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (service_id) DO UPDATE SET accessor = excluded.accessor,
                 parent_accessor = excluded.parent_accessor, issued = excluded.issued, expires = excluded.expires",
        );
        query
            .bind(service)
            .bind(&token.accessor)
            .bind(&token.parent_accessor)
            .bind(token.issued.as_microsecond())
            .bind(token.expires.as_microsecond())
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Forgets the node token of a service; [`State::remove_node_token`] removes the token itself.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget_node_token(&self, service: &ServiceKey) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, service).await?;
        let query = sqlx::query("DELETE FROM node_token WHERE service_id = ?").bind(service);
        query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Remembers what a credd holds, once it was verified.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_store(&self, store: &Store) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, &store.service).await?;
        let query = sqlx::query(
            "INSERT INTO store (service_id, credd, credential_name, accessor, stored_at, expires, top_time,
                 htcondor_user)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (service_id, credd, credential_name) DO UPDATE SET accessor = excluded.accessor,
                 stored_at = excluded.stored_at, expires = excluded.expires, top_time = excluded.top_time,
                 htcondor_user = excluded.htcondor_user",
        );
        query
            .bind(service)
            .bind(&store.credd)
            .bind(&store.credential_name)
            .bind(&store.accessor)
            .bind(store.stored_at.as_microsecond())
            .bind(store.expires.as_microsecond())
            .bind(store.top_time.map(Timestamp::as_microsecond))
            .bind(&store.user)
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Forgets what a credd held, after it was deleted there.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget_store(&self, service: &ServiceKey, credd: &str, name: &str) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, service).await?;
        let query =
            sqlx::query("DELETE FROM store WHERE service_id = ? AND credd = ? AND credential_name = ?");
        let query = query.bind(service).bind(credd).bind(name);
        query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Forgets what a node held, after it was removed there.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget_push(&self, service: &ServiceKey, node: &str, path: &str) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, service).await?;
        let query = sqlx::query("DELETE FROM push WHERE service_id = ? AND node = ? AND path = ?");
        let query = query.bind(service).bind(node).bind(path);
        query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Forgets a login whose token was revoked.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget_login(&self, service: &ServiceKey, accessor: &str) -> Result<(), Error> {
        let mut work = self.begin().await?;
        let service = self.service_id(&mut work, service).await?;
        let query = sqlx::query("DELETE FROM login WHERE service_id = ? AND accessor = ?");
        let query = query.bind(service).bind(accessor);
        query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        self.commit(work).await
    }

    /// Remembers what a node holds, once it was read back.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_push(&self, push: &Push) -> Result<(), Error> {
        self.record_pushes(std::slice::from_ref(push)).await
    }

    /// The same for many at once, all or none.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_pushes(&self, pushes: &[Push]) -> Result<(), Error> {
        let mut work = self.begin().await?;
        for push in pushes {
            let service = self.service_id(&mut work, &push.service).await?;
            let query = sqlx::query(
                "INSERT INTO push (service_id, node, path, kind, accessor, digest, pushed_at, expires)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (service_id, node, path) DO UPDATE SET kind = excluded.kind,
                     accessor = excluded.accessor, digest = excluded.digest, pushed_at = excluded.pushed_at,
                     expires = excluded.expires",
            );
            query
                .bind(service)
                .bind(&push.node)
                .bind(&push.path)
                .bind(&push.kind)
                .bind(&push.accessor)
                .bind(&push.digest)
                .bind(push.pushed_at.as_microsecond())
                .bind(push.expires.map(Timestamp::as_microsecond))
                .execute(&mut *work)
                .await
                .map_err(|e| self.failed(e))?;
        }
        self.commit(work).await
    }

    /// An edge succeeded: its failures are forgotten.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_success(&self, edge: &EdgeId, at: Timestamp) -> Result<(), Error> {
        self.record_outcomes(at, &[(edge.clone(), Fared::Fresh)]).await
    }

    /// An edge failed. The text is cut and cleaned of control characters; that no secret is in it is the caller's
    /// concern.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_failure(
        &self,
        edge: &EdgeId,
        at: Timestamp,
        kind: &str,
        text: &str,
        next_try: Option<Timestamp>,
    ) -> Result<(), Error> {
        let (stage, kind, text) = (String::new(), kind.to_owned(), text.to_owned());
        let fault = Fault {
            stage,
            kind,
            text,
            next_try,
        };
        self.record_outcomes(at, &[(edge.clone(), Fared::Failed(fault))])
            .await
    }

    /// How many edges fared at once, all or none: a run that is told to stop has little time for it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_outcomes(&self, at: Timestamp, edges: &[(EdgeId, Fared)]) -> Result<(), Error> {
        let mut work = self.begin().await?;
        for (edge, fared) in edges {
            let edge = edge.to_string();
            self.add_attempt(&mut work, &edge, at, fared).await?;
            let query = match fared {
                Fared::Done { .. } | Fared::Fresh => {
                    sqlx::query(SUCCESS).bind(edge).bind(at.as_microsecond())
                }
                Fared::Failed(fault) => sqlx::query(FAILURE)
                    .bind(edge)
                    .bind(at.as_microsecond())
                    .bind(clean(&fault.kind))
                    .bind(clean(&fault.text))
                    .bind(fault.next_try.map(Timestamp::as_microsecond)),
            };
            query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        }
        self.commit(work).await
    }

    /// Takes over failures that somebody else counted, unless the edge has a past of its own here; says whether it did.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn take_over_failures(
        &self,
        edge: &EdgeId,
        at: Timestamp,
        count: u32,
        text: &str,
    ) -> Result<bool, Error> {
        let query = sqlx::query(
            "INSERT INTO edge (id, last_attempt, consecutive_failures, last_error_kind, last_error_text)
             VALUES (?, ?, ?, 'taken-over', ?) ON CONFLICT (id) DO NOTHING",
        );
        let query = query
            .bind(edge.to_string())
            .bind(at.as_microsecond())
            .bind(i64::from(count))
            .bind(clean(text));
        let done = query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets logins whose tokens ended before this, and so cannot be revoked any more. Returns how many.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn prune_logins(&self, before: Timestamp) -> Result<u64, Error> {
        let query = sqlx::query("DELETE FROM login WHERE expires < ?").bind(before.as_microsecond());
        Ok(query
            .execute(&self.pool)
            .await
            .map_err(|e| self.failed(e))?
            .rows_affected())
    }

    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Error> {
        // a transaction that begins by reading could not wait for another writer
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|e| self.failed(e))
    }

    pub(crate) async fn commit(&self, work: Transaction<'static, Sqlite>) -> Result<(), Error> {
        work.commit().await.map_err(|e| self.failed(e))
    }

    pub(crate) async fn service_id(
        &self,
        work: &mut Transaction<'static, Sqlite>,
        key: &ServiceKey,
    ) -> Result<i64, Error> {
        let query = sqlx::query(
            "INSERT INTO service (experiment, role, account, principal) VALUES (?, ?, ?, ?)
             ON CONFLICT (experiment, role, account, principal) DO UPDATE SET role = excluded.role
             RETURNING id",
        );
        let query = query
            .bind(&key.experiment)
            .bind(&key.role)
            .bind(&key.account)
            .bind(&key.principal);
        let row = query.fetch_one(&mut **work).await.map_err(|e| self.failed(e))?;
        row.try_get(0).map_err(|e| self.failed(e))
    }
}

/// How an edge fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fared {
    /// Something was made, stored or written.
    Done {
        /// Why it was due.
        reason: Option<String>,
    },
    /// It was as it should be.
    Fresh,
    /// It failed.
    Failed(Fault),
}

/// How an edge failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where on the way, a word for programs; empty if that is not known.
    pub stage: String,
    /// A word for programs.
    pub kind: String,
    /// What it said; no secret is in it.
    pub text: String,
    /// Not before this is it to be tried again.
    pub next_try: Option<Timestamp>,
}

const SUCCESS: &str =
    "INSERT INTO edge (id, last_attempt, last_success, consecutive_failures) VALUES (?1, ?2, ?2, 0)
    ON CONFLICT (id) DO UPDATE SET last_attempt = excluded.last_attempt, last_success = excluded.last_success,
        consecutive_failures = 0, last_error_kind = NULL, last_error_text = NULL, next_try = NULL";

const FAILURE: &str =
    "INSERT INTO edge (id, last_attempt, consecutive_failures, last_error_kind, last_error_text, next_try)
    VALUES (?, ?, 1, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET last_attempt = excluded.last_attempt,
        consecutive_failures = min(edge.consecutive_failures + 1, 4294967295),
        last_error_kind = excluded.last_error_kind, last_error_text = excluded.last_error_text,
        next_try = excluded.next_try";

/// What a terminal may show, in at most [`MAX_TEXT`] bytes.
pub(crate) fn clean(text: &str) -> String {
    printable(text, MAX_TEXT)
}
