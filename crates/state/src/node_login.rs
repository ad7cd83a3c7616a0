//! Which login each node takes, as far as it was asked.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use crate::{Error, State};

/// The login a node took when it was asked what it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLogin {
    /// SSH's name for it, such as `publickey`.
    pub method: String,
    /// Since when.
    pub since: Timestamp,
}

impl State {
    /// Remembers what a node takes; `None` forgets it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn record_node_login(
        &self,
        host: &str,
        port: u16,
        login: Option<&NodeLogin>,
    ) -> Result<(), Error> {
        let query = match login {
            Some(login) => sqlx::query(
                "INSERT INTO node (host, port, method, since) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (host, port) DO UPDATE SET method = excluded.method, since = excluded.since",
            )
            .bind(host)
            .bind(i64::from(port))
            .bind(&login.method)
            .bind(login.since.as_microsecond()),
            None => sqlx::query("DELETE FROM node WHERE host = ?1 AND port = ?2")
                .bind(host)
                .bind(i64::from(port)),
        };
        let done = query.execute(&self.pool).await;
        done.map(drop).map_err(|e| self.failed(e))
    }

    /// What is known of every node, by host and port.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`] for a value mtk did not write.
    pub async fn node_logins(&self) -> Result<BTreeMap<(String, u16), NodeLogin>, Error> {
        let rows = sqlx::query(NODES).fetch_all(&self.pool).await;
        let rows = rows.map_err(|e| self.failed(e))?;
        rows.iter().map(|row| self.node_login(row)).collect()
    }

    pub(crate) fn node_login(&self, row: &SqliteRow) -> Result<((String, u16), NodeLogin), Error> {
        let port: i64 = self.get(row, "port")?;
        let port = u16::try_from(port).map_err(|_| self.unreadable(format!("{port} is no port")))?;
        let login = NodeLogin {
            method: self.get(row, "method")?,
            since: self.time(row, "since")?,
        };
        Ok(((self.get(row, "host")?, port), login))
    }
}

pub(crate) const NODES: &str = "SELECT host, port, method, since FROM node";
