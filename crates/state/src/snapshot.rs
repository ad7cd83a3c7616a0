//! Reading everything at one moment.

use jiff::Timestamp;
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::{EdgeId, EdgeState, Error, Login, NodeTokenRecord, Push, ServiceKey, Snapshot, State, Store};

impl State {
    /// Everything known, as plain data, all of one moment.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`] for a value mtk did not write.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut work = self.pool.begin().await.map_err(|e| self.failed(e))?;
        let mut all = Snapshot::default();
        for row in self.rows(&mut work, LOGINS).await? {
            let login = self.login(&row)?;
            all.logins.entry(login.service.clone()).or_default().push(login);
        }
        for row in self.rows(&mut work, NODE_TOKENS).await? {
            let token = self.node_token_record(&row)?;
            all.node_tokens.insert(token.service.clone(), token);
        }
        for row in self.rows(&mut work, STORES).await? {
            let store = self.store(&row)?;
            let (service, credd, name) = (
                store.service.clone(),
                store.credd.clone(),
                store.credential_name.clone(),
            );
            all.stores.insert(EdgeId::Store { service, credd, name }, store);
        }
        for row in self.rows(&mut work, PUSHES).await? {
            let push = self.push(&row)?;
            let (service, node, path) = (push.service.clone(), push.node.clone(), push.path.clone());
            all.pushes.insert(EdgeId::Push { service, node, path }, push);
        }
        for row in self.rows(&mut work, EDGES).await? {
            let edge = self.edge(&row)?;
            all.edges.insert(edge.edge.clone(), edge);
        }
        all.silences = self.silences_in(&mut work).await?;
        Ok(all)
    }

    /// Whether the schema has this table: one that is only read may be that of an earlier mtk.
    pub(crate) async fn has(
        &self,
        work: &mut Transaction<'static, Sqlite>,
        table: &str,
    ) -> Result<bool, Error> {
        let query = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?");
        let row = query.bind(table).fetch_optional(&mut **work).await;
        Ok(row.map_err(|e| self.failed(e))?.is_some())
    }

    /// Reads all tries there were, which is more than opening a state should cost.
    pub(crate) async fn read_history(&self, work: &mut Transaction<'static, Sqlite>) -> Result<(), Error> {
        for row in self.rows(work, crate::attempt::ATTEMPTS).await? {
            self.attempt(&row)?;
        }
        Ok(())
    }

    /// Reads everything there is, to see that it can be read.
    pub(crate) async fn read_all(&self, work: &mut Transaction<'static, Sqlite>) -> Result<(), Error> {
        for row in self.rows(work, LOGINS).await? {
            self.login(&row)?;
        }
        for row in self.rows(work, NODE_TOKENS).await? {
            self.node_token_record(&row)?;
        }
        for row in self.rows(work, STORES).await? {
            self.store(&row)?;
        }
        for row in self.rows(work, PUSHES).await? {
            self.push(&row)?;
        }
        for row in self.rows(work, EDGES).await? {
            self.edge(&row)?;
        }
        self.silences_in(work).await?;
        for row in self.rows(work, crate::uid::UIDS).await? {
            self.uid(&row)?;
        }
        for row in self.rows(work, crate::consent::CONSENTS).await? {
            self.consent(&row)?;
        }
        for row in self.rows(work, crate::node_login::NODES).await? {
            self.node_login(&row)?;
        }
        Ok(())
    }

    pub(crate) async fn rows(
        &self,
        work: &mut Transaction<'static, Sqlite>,
        query: &'static str,
    ) -> Result<Vec<SqliteRow>, Error> {
        sqlx::query(query)
            .fetch_all(&mut **work)
            .await
            .map_err(|e| self.failed(e))
    }

    fn login(&self, row: &SqliteRow) -> Result<Login, Error> {
        Ok(Login {
            service: self.service(row)?,
            accessor: self.get(row, "accessor")?,
            issued: self.time(row, "issued")?,
            expires: self.time(row, "expires")?,
        })
    }

    fn node_token_record(&self, row: &SqliteRow) -> Result<NodeTokenRecord, Error> {
        Ok(NodeTokenRecord {
            service: self.service(row)?,
            accessor: self.get(row, "accessor")?,
            parent_accessor: self.get(row, "parent_accessor")?,
            issued: self.time(row, "issued")?,
            expires: self.time(row, "expires")?,
        })
    }

    fn store(&self, row: &SqliteRow) -> Result<Store, Error> {
        Ok(Store {
            service: self.service(row)?,
            credd: self.get(row, "credd")?,
            credential_name: self.get(row, "credential_name")?,
            accessor: self.get(row, "accessor")?,
            stored_at: self.time(row, "stored_at")?,
            expires: self.time(row, "expires")?,
            top_time: self.maybe_time(row, "top_time")?,
            user: self.get(row, "htcondor_user")?,
        })
    }

    fn push(&self, row: &SqliteRow) -> Result<Push, Error> {
        Ok(Push {
            service: self.service(row)?,
            node: self.get(row, "node")?,
            path: self.get(row, "path")?,
            kind: self.get(row, "kind")?,
            accessor: self.get(row, "accessor")?,
            digest: self.get(row, "digest")?,
            pushed_at: self.time(row, "pushed_at")?,
            expires: self.maybe_time(row, "expires")?,
        })
    }

    fn edge(&self, row: &SqliteRow) -> Result<EdgeState, Error> {
        let id: String = self.get(row, "id")?;
        let failures: i64 = self.get(row, "consecutive_failures")?;
        Ok(EdgeState {
            edge: id
                .parse()
                .map_err(|e: crate::NotAnEdge| self.unreadable(e.to_string()))?,
            last_attempt: self.time(row, "last_attempt")?,
            last_success: self.maybe_time(row, "last_success")?,
            consecutive_failures: u32::try_from(failures).unwrap_or(u32::MAX),
            last_error_kind: self.get(row, "last_error_kind")?,
            last_error_text: self.get(row, "last_error_text")?,
            next_try: self.maybe_time(row, "next_try")?,
        })
    }

    pub(crate) fn service(&self, row: &SqliteRow) -> Result<ServiceKey, Error> {
        Ok(ServiceKey {
            experiment: self.get(row, "experiment")?,
            role: self.get(row, "role")?,
            account: self.get(row, "account")?,
            principal: self.get(row, "principal")?,
        })
    }

    pub(crate) fn get<'r, T>(&self, row: &'r SqliteRow, column: &str) -> Result<T, Error>
    where
        T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        row.try_get(column).map_err(|e| self.failed(e))
    }

    pub(crate) fn time(&self, row: &SqliteRow, column: &str) -> Result<Timestamp, Error> {
        let micros: i64 = self.get(row, column)?;
        Timestamp::from_microsecond(micros)
            .map_err(|_| self.unreadable(format!("{column} {micros} is not a time")))
    }

    pub(crate) fn maybe_time(&self, row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, Error> {
        let micros: Option<i64> = self.get(row, column)?;
        micros.is_some().then(|| self.time(row, column)).transpose()
    }

    pub(crate) fn unreadable(&self, what: String) -> Error {
        Error::Unreadable {
            path: self.path.clone(),
            what,
        }
    }
}

const LOGINS: &str = "SELECT s.experiment, s.role, s.account, s.principal, l.accessor, l.issued, l.expires
    FROM login l JOIN service s ON s.id = l.service_id ORDER BY l.issued, l.rowid";

const NODE_TOKENS: &str =
    "SELECT s.experiment, s.role, s.account, s.principal, t.accessor, t.parent_accessor,
    t.issued, t.expires FROM node_token t JOIN service s ON s.id = t.service_id";

const STORES: &str =
    "SELECT s.experiment, s.role, s.account, s.principal, t.credd, t.credential_name, t.accessor,
    t.stored_at, t.expires, t.top_time, t.htcondor_user FROM store t JOIN service s ON s.id = t.service_id";

const PUSHES: &str =
    "SELECT s.experiment, s.role, s.account, s.principal, p.node, p.path, p.kind, p.accessor,
    p.digest, p.pushed_at, p.expires FROM push p JOIN service s ON s.id = p.service_id";

const EDGES: &str =
    "SELECT id, last_attempt, last_success, consecutive_failures, last_error_kind, last_error_text,
    next_try FROM edge";
