//! The database as one JSON document, and back.
//!
//! Every table of the schema is in it, so nothing has to be named here when one is added. No token can be: none is in
//! the database.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Column, Row, Sqlite, Transaction, TypeInfo, ValueRef, sqlite::SqliteRow};

use crate::{Error, State};

/// What the document says it is.
pub const FORMAT: &str = "mtk state";
/// Of the document, not of the schema.
pub const VERSION: u64 = 1;

/// Columns that hold a time. In the document they are texts people can read.
const TIMES: [&str; 15] = [
    "issued",
    "expires",
    "stored_at",
    "top_time",
    "pushed_at",
    "at",
    "last_attempt",
    "last_success",
    "next_try",
    "since",
    "confirmed",
    "other_at",
    "until",
    "ended",
    "told_at",
];

/// Why a document was not taken in. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It is not a state of mtk's.
    #[error("this is not an export of mtk's state: {0}")]
    NotOurs(String),
    /// It was written by a later mtk.
    #[error("this export is of version {found}; this mtk reads version {VERSION}")]
    Later {
        /// Its version.
        found: u64,
    },
    /// Something in it does not fit the schema.
    #[error("{place} does not fit: {why}")]
    Unfit {
        /// The table, the row and perhaps the column.
        place: String,
        /// Why.
        why: String,
    },
    /// There is something already.
    #[error("the state is not empty: it has {rows} rows")]
    NotEmpty {
        /// How many, in all tables.
        rows: i64,
    },
    /// The state could not be written.
    #[error("the state could not be written")]
    State(#[from] Error),
}

impl State {
    /// Everything in the database, of one moment.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn export(&self) -> Result<Value, Error> {
        let mut work = self.pool.begin().await.map_err(|e| self.failed(e))?;
        let mut tables = Map::new();
        for table in self.tables(&mut work).await? {
            let query = sqlx::query(AssertSqlSafe(format!("SELECT * FROM \"{table}\"")));
            let rows = query.fetch_all(&mut *work).await.map_err(|e| self.failed(e))?;
            let rows = rows.iter().map(|row| self.object(row));
            tables.insert(table, rows.collect::<Result<Vec<_>, _>>()?.into());
        }
        Ok(json!({"format": FORMAT, "version": VERSION, "tables": tables}))
    }

    /// Takes in what [`State::export`] gave, all or nothing. `replace` drops what there is; without it the state must be
    /// empty.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn import(&self, document: &Value, replace: bool) -> Result<u64, ImportError> {
        let given = tables_of(document)?;
        let mut work = self.begin().await?;
        let tables = self.tables(&mut work).await?;
        if let Some(other) = given.keys().find(|t| !tables.contains(t)) {
            let why = "this mtk's schema has no such table".to_owned();
            return Err(unfit(other, why));
        }
        // UIDs and edges are remembered without a service, and are lost as well
        let rows: i64 = self.counts(&mut work).await?.iter().map(|(_, count)| count).sum();
        if rows > 0 && !replace {
            return Err(ImportError::NotEmpty { rows });
        }
        sqlx::query("PRAGMA defer_foreign_keys = ON")
            .execute(&mut *work)
            .await
            .map_err(|e| self.failed(e))?;
        let mut count = 0;
        for table in &tables {
            let query = sqlx::query(AssertSqlSafe(format!("DELETE FROM \"{table}\"")));
            query.execute(&mut *work).await.map_err(|e| self.failed(e))?;
        }
        for (table, rows) in given {
            let rows = rows
                .as_array()
                .ok_or_else(|| unfit(table, "it is no list of rows".into()))?;
            for (n, row) in rows.iter().enumerate() {
                insert(&mut work, table, row)
                    .await
                    .map_err(|why| unfit(&format!("{table}[{n}]"), why))?;
                count += 1;
            }
        }
        // what the next run could not read must not get in
        let readable = async {
            self.read_all(&mut work).await?;
            self.read_history(&mut work).await
        };
        readable
            .await
            .map_err(|e| unfit("what it says", credential::chain(&e)))?;
        work.commit()
            .await
            .map_err(|e| unfit("what it says", e.to_string()))?;
        Ok(count)
    }

    pub(crate) async fn tables(&self, work: &mut Transaction<'static, Sqlite>) -> Result<Vec<String>, Error> {
        let query = sqlx::query(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             AND name NOT LIKE '\\_sqlx\\_%' ESCAPE '\\' ORDER BY rowid",
        );
        let rows = query.fetch_all(&mut **work).await.map_err(|e| self.failed(e))?;
        rows.iter()
            .map(|row| row.try_get(0).map_err(|e| self.failed(e)))
            .collect()
    }

    /// How many rows each table has, in the order of the schema.
    pub(crate) async fn counts(
        &self,
        work: &mut Transaction<'static, Sqlite>,
    ) -> Result<Vec<(String, i64)>, Error> {
        let mut rows = Vec::new();
        for table in self.tables(work).await? {
            let query = sqlx::query(AssertSqlSafe(format!("SELECT count(*) FROM \"{table}\"")));
            let count = query
                .fetch_one(&mut **work)
                .await
                .and_then(|row| row.try_get(0))
                .map_err(|e| self.failed(e))?;
            rows.push((table, count));
        }
        Ok(rows)
    }

    fn object(&self, row: &SqliteRow) -> Result<Value, Error> {
        let mut object = Map::new();
        for (n, column) in row.columns().iter().enumerate() {
            let raw = row.try_get_raw(n).map_err(|e| self.failed(e))?;
            let value = if raw.is_null() {
                Value::Null
            } else if raw.type_info().name() == "INTEGER" {
                let number: i64 = row.try_get(n).map_err(|e| self.failed(e))?;
                match Timestamp::from_microsecond(number) {
                    Ok(time) if TIMES.contains(&column.name()) => time.to_string().into(),
                    _ => number.into(),
                }
            } else {
                row.try_get::<String, _>(n).map_err(|e| self.failed(e))?.into()
            };
            object.insert(column.name().to_owned(), value);
        }
        Ok(object.into())
    }
}

fn unfit(place: &str, why: String) -> ImportError {
    ImportError::Unfit {
        place: place.to_owned(),
        why,
    }
}

fn tables_of(document: &Value) -> Result<&Map<String, Value>, ImportError> {
    if document.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err(ImportError::NotOurs(format!("its format is not {FORMAT:?}")));
    }
    match document.get("version").and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(found) => return Err(ImportError::Later { found }),
        None => return Err(ImportError::NotOurs("it has no version".into())),
    }
    document
        .get("tables")
        .and_then(Value::as_object)
        .ok_or_else(|| ImportError::NotOurs("it has no tables".into()))
}

async fn insert(work: &mut Transaction<'static, Sqlite>, table: &str, row: &Value) -> Result<(), String> {
    let row = row.as_object().ok_or("it is no row")?;
    // names go into the statement: nothing but names
    let plain = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if let Some(odd) = row.keys().find(|name| !plain(name)) {
        return Err(format!("{odd:?} is no column"));
    }
    let columns: Vec<&str> = row.keys().map(String::as_str).collect();
    let places = vec!["?"; columns.len()].join(", ");
    let sql = format!(
        "INSERT INTO \"{table}\" ({}) VALUES ({places})",
        columns.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (column, value) in row {
        query = match value {
            Value::Null => query.bind(None::<i64>),
            Value::Number(n) => query.bind(
                n.as_i64()
                    .ok_or_else(|| format!("{column}: {n} is no whole number"))?,
            ),
            Value::String(text) if TIMES.contains(&column.as_str()) => {
                let time: Timestamp = text
                    .parse()
                    .map_err(|_| format!("{column}: {text:?} is no time"))?;
                query.bind(time.as_microsecond())
            }
            Value::String(text) => query.bind(text.clone()),
            _ => return Err(format!("{column} is neither text nor number")),
        };
    }
    query
        .execute(&mut **work)
        .await
        .map(drop)
        .map_err(|e| e.to_string())
}
