//! The row of a cluster's third vote: read, and written on condition of all that was read.
//!
//! Each write is one statement that is its own transaction. It names the text that must be there and the server that must answer,
//! and counts only when exactly one row was met: what another one has written meanwhile is never written over, by however many
//! proxies a statement comes and however late. Nothing is locked between statements, and no clock of the server is used.
//!
//! Who answers is told by a number, the history. It is another one after a restart, a failover and a restore, and with MySQL, whose
//! start is known to the second alone, for each connection.

use std::time::Duration;

use engine::StoreError;
use sha2::{Digest, Sha256};

use super::address::{Product, ServerSettings};
use super::fault::explain;
use super::link::{Link, Value};
use super::session::{Access, Reached, reach};

/// The table.
pub const TABLE: &str = "tandem_lease";

const READ_ONLY: &str = "it can only be read: name the primary, beside the others";

/// The row of one cluster, and the connection to the server that has it.
#[derive(Debug)]
pub struct LeaseRow {
    settings: ServerSettings,
    name: String,
    patience: Duration,
    place: String,
    connections: u64,
    open: Option<Open>,
}

/// The row as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRow {
    /// Its text; `None`: there is none.
    pub text: Option<String>,
    /// By whom it was shown.
    pub history: u64,
}

/// A write on condition.
#[derive(Clone, Copy, Debug)]
pub struct RowChange<'a> {
    /// What must be there. `None`: no row.
    pub before: Option<&'a str>,
    /// Who must answer.
    pub history: u64,
    /// What is there then.
    pub after: &'a str,
    /// What it must survive.
    pub durability: Durability,
}

/// What a write must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// All that the server is set up for.
    Durable,
    /// Nothing: the server may answer before it is on its disk, unless replicas of it that may take its place have to have it.
    Renewal,
}

/// What has become of a write that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exactly one row was written.
    Done,
    /// The condition was not met, and nothing was written.
    Lost,
}

#[derive(Debug)]
struct Open {
    link: Link,
    identity: String,
    history: u64,
    /// How PostgreSQL is told that a write must last.
    durable: &'static str,
}

impl LeaseRow {
    /// A row on a server that is not connected to yet. PostgreSQL and MariaDB give a statement up after `patience`. MySQL does
    /// so with one that reads; one that writes gives up after a second of waiting for a lock.
    pub fn new(settings: ServerSettings, name: &str, patience: Duration) -> Self {
        let place = settings.url.to_string();
        Self { settings, name: name.to_owned(), patience, place, connections: 0, open: None }
    }

    /// Which host is spoken to, or was last.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.open.is_some()
    }

    /// Forgets the connection; what was sent by it may still take effect.
    pub fn disconnect(&mut self) {
        self.open = None;
    }

    /// Connects if it must, and shows the row as the primary has it. After an error, or one that did not end in time, the
    /// connection is to be forgotten.
    pub async fn read(&mut self) -> Result<SeenRow, StoreError> {
        let place = self.connect().await?;
        let Some(open) = &mut self.open else { return Err(gone(place)) };
        let product = open.link.product();
        let query = format!(
            "SELECT {}, {}, (SELECT CONCAT('=', {}) FROM {TABLE} WHERE name = ?)",
            identity(product),
            is_read_only(product),
            product.text("state"),
        );
        let rows = open.link.rows(&query, &[Value::Text(&self.name)]).await;
        let rows = rows.map_err(|error| refused(&place, &error))?;
        let Some(row) = rows.first() else { return Err(told(&place, "it answers nothing")) };
        if row.text(1) != "0" {
            return Err(told(&place, READ_ONLY));
        }
        if row.text(0) != open.identity {
            return Err(told(&place, "another server answers than before"));
        }
        // An empty text is a row that somebody has damaged, and none is none.
        Ok(SeenRow { text: row.text(2).strip_prefix('=').map(str::to_owned), history: open.history })
    }

    /// Writes in one statement, on condition. After an error nobody knows whether it has taken effect, or may yet.
    pub async fn write(&mut self, change: RowChange<'_>) -> Result<Outcome, StoreError> {
        let place = self.place.clone();
        let Some(open) = &mut self.open else { return Err(gone(place)) };
        if open.history != change.history {
            return Err(told(&place, "another server answers than before"));
        }
        let product = open.link.product();
        let guard = match product {
            // It is evaluated before the row is written, and lasts until its transaction has ended.
            Product::Postgres => {
                let lasting = match change.durability {
                    Durability::Durable => "?",
                    // A primary that its synchronous replicas do not hear is not to answer: another may be in its place.
                    Durability::Renewal => {
                        "CASE WHEN current_setting('synchronous_standby_names') = '' THEN 'off' ELSE ? END"
                    }
                };
                format!(
                    "{} = ? AND set_config('synchronous_commit', {lasting}, true) <> ''",
                    identity(product)
                )
            }
            Product::MySql => format!("{} = ? AND @@global.read_only + 0 = 0", identity(product)),
        };
        let (statement, mut values) = match change.before {
            Some(before) => (
                format!("UPDATE {TABLE} SET state = ? WHERE name = ? AND state = ? AND {guard}"),
                vec![Value::Text(change.after), Value::Text(&self.name), Value::Text(before)],
            ),
            None => {
                let nowhere = if product == Product::MySql { " FROM DUAL" } else { "" };
                (
                    format!("INSERT INTO {TABLE} (state, name) SELECT ?, ?{nowhere} WHERE {guard}"),
                    vec![Value::Text(change.after), Value::Text(&self.name)],
                )
            }
        };
        values.push(Value::Text(&open.identity));
        if product == Product::Postgres {
            values.push(Value::Text(open.durable));
        }
        match open.link.run(&statement, &values).await {
            Ok(0) => Ok(Outcome::Lost),
            Ok(1) => Ok(Outcome::Done),
            Ok(rows) => Err(told(&place, &format!("{rows} rows of {TABLE} were written in place of one"))),
            Err(sqlx::Error::Database(error)) if change.before.is_none() && error.is_unique_violation() => {
                Ok(Outcome::Lost)
            }
            Err(error) => Err(refused(&place, &error)),
        }
    }

    /// What an operator should know of how the server is set up: rights that are missing, and what it may forget.
    pub async fn remarks(&mut self) -> Result<Vec<String>, StoreError> {
        let place = self.connect().await?;
        let Some(open) = &mut self.open else { return Err(gone(place)) };
        let mut remarks = Vec::new();
        let nowhere = if open.link.product() == Product::MySql { " FROM DUAL" } else { "" };
        // A statement that meets no row is refused as one that meets some.
        for statement in [
            format!("UPDATE {TABLE} SET state = state WHERE 1 = 0"),
            format!("INSERT INTO {TABLE} (name, state) SELECT '', ''{nowhere} WHERE 1 = 0"),
        ] {
            if let Err(error) = open.link.run(&statement, &[]).await {
                remarks.push(refused(&place, &error).reason);
            }
        }
        let settings = match open.link.product() {
            Product::Postgres => POSTGRES_SETTINGS,
            Product::MySql => MYSQL_SETTINGS,
        };
        for (query, remark) in settings {
            let rows = open.link.rows(query, &[]).await.map_err(|error| refused(&place, &error))?;
            if rows.first().is_some_and(|row| row.text(0) == "1") {
                remarks.push((*remark).to_owned());
            }
        }
        Ok(remarks)
    }

    /// Gives where it is connected to.
    async fn connect(&mut self) -> Result<String, StoreError> {
        if self.open.is_some() {
            return Ok(self.place.clone());
        }
        let Reached { mut link, place, access } = reach(&self.settings).await?;
        self.place.clone_from(&place);
        if access == Access::ReadOnly {
            return Err(told(&place, READ_ONLY));
        }
        let refused = |error: &sqlx::Error| refused(&place, error);
        let product = link.product();
        let is_mariadb = product == Product::MySql && {
            let rows = link.rows("SELECT VERSION()", &[]).await.map_err(|error| refused(&error))?;
            rows.first().is_some_and(|row| row.text(0).contains("MariaDB"))
        };
        for statement in limits(product, is_mariadb, self.patience) {
            link.plain(&statement).await.map_err(|error| refused(&error))?;
        }
        let (query, durable) = match product {
            // As another server than this one would carry it out, where it has another name, it would meet no row.
            Product::MySql => ("SELECT @@binlog_format, CAST(@@log_bin + 0 AS CHAR)", "on"),
            Product::Postgres => ("SELECT current_setting('synchronous_commit'), '0'", "on"),
        };
        let rows = link.rows(query, &[]).await.map_err(|error| refused(&error))?;
        let (setting, is_logged) =
            rows.first().map(|row| (row.text(0).to_owned(), row.text(1) == "1")).unwrap_or_default();
        if setting.eq_ignore_ascii_case("STATEMENT") && is_logged {
            let mend = "binlog_format is STATEMENT, by which replicas would not write what the primary does: set it to ROW";
            return Err(told(&place, mend));
        }
        let durable = if setting == "remote_apply" { "remote_apply" } else { durable };
        let query = format!("SELECT {}", identity(product));
        let rows = link.rows(&query, &[]).await.map_err(|error| refused(&error))?;
        let identity = rows.first().map(|row| row.text(0).to_owned()).unwrap_or_default();
        if identity.is_empty() {
            return Err(told(&place, READ_ONLY));
        }
        self.connections += 1;
        let connection = if product == Product::MySql { self.connections } else { 0 };
        let history = history(&identity, connection);
        self.open = Some(Open { link, identity, history, durable });
        Ok(place)
    }
}

/// What tells an operator that something is set so that it may forget, each with a query that says `1` if it is so.
const POSTGRES_SETTINGS: &[(&str, &str)] = &[
    (
        "SELECT CASE current_setting('fsync') WHEN 'off' THEN '1' END",
        "fsync is off: after a crash of its host the server may have forgotten who was granted the service; set fsync = on",
    ),
    (
        "SELECT CASE WHEN current_setting('synchronous_standby_names') = '' AND EXISTS (SELECT 1 FROM pg_stat_replication) \
         THEN '1' END",
        "its replicas are asynchronous: one that takes its place may have forgotten who was granted the service; name them in \
         synchronous_standby_names",
    ),
];
const MYSQL_SETTINGS: &[(&str, &str)] = &[
    (
        "SELECT CASE WHEN @@innodb_flush_log_at_trx_commit <> 1 THEN '1' END",
        "innodb_flush_log_at_trx_commit is not 1: after a crash of its host the server may have forgotten who was granted the \
         service; set it to 1",
    ),
    (
        "SELECT CASE WHEN @@log_bin = 1 AND @@sync_binlog <> 1 THEN '1' END",
        "sync_binlog is not 1: after a crash of its host, server and replicas may not agree on who was granted the service; set \
         it to 1",
    ),
];

/// An expression that tells who answers; empty: a replica. It is the same for as long as one connection is to one server.
fn identity(product: Product) -> &'static str {
    match product {
        // The database, its timeline, which each promotion and restore begins anew, and the start to the microsecond.
        Product::Postgres => {
            "CASE WHEN pg_is_in_recovery() THEN '' ELSE \
             CONCAT_WS('/', (SELECT system_identifier FROM pg_control_system()), \
             substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), extract(epoch FROM pg_postmaster_start_time())) END"
        }
        Product::MySql => "CAST(CONCAT_WS('/', @@hostname, @@port, @@server_id, CONNECTION_ID()) AS CHAR)",
    }
}

/// An expression that is `0` where rows can be written.
fn is_read_only(product: Product) -> &'static str {
    match product {
        Product::Postgres => {
            "CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN '1' ELSE '0' END"
        }
        // As a text MariaDB has it `OFF`.
        Product::MySql => "CASE WHEN @@global.read_only + 0 = 0 THEN '0' ELSE '1' END",
    }
}

/// What a connection is told at its beginning.
fn limits(product: Product, is_mariadb: bool, patience: Duration) -> Vec<String> {
    let patience_ms = patience.as_millis().max(1);
    match product {
        Product::Postgres => vec![
            format!("SET statement_timeout = {patience_ms}"),
            format!("SET lock_timeout = {patience_ms}"),
            format!("SET idle_in_transaction_session_timeout = {patience_ms}"),
            format!("SET tcp_user_timeout = {patience_ms}"),
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        ],
        Product::MySql => {
            // Its shortest wait for a lock is a second, and MySQL has no limit to a write but that. One that comes so late is one
            // that nobody counts.
            let limit = match is_mariadb {
                true => format!("max_statement_time = {}", patience.as_secs_f64()),
                false => format!("max_execution_time = {patience_ms}"),
            };
            vec![format!("SET SESSION autocommit = 1, SESSION innodb_lock_wait_timeout = 1, SESSION {limit}")]
        }
    }
}

fn history(identity: &str, connection: u64) -> u64 {
    let hash = Sha256::new().chain_update(identity).chain_update(connection.to_be_bytes()).finalize();
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn told(place: &str, reason: &str) -> StoreError {
    StoreError { place: place.to_owned(), reason: reason.to_owned() }
}

fn gone(place: String) -> StoreError {
    StoreError { place, reason: "the connection is gone".to_owned() }
}

fn refused(place: &str, error: &sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|told| told.code()).unwrap_or_default();
    let reason = match &*code {
        // Both products have a code of their own for a table that is not there.
        "42P01" | "42S02" => {
            format!("it has no table {TABLE}: run `tandem database init`, or make it as docs/witness.md says")
        }
        _ => explain(error),
    };
    told(place, &reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_another_start_and_another_connection_are_another_history() {
        let all =
            [history("7/00000001/5.25", 0), history("7/00000002/5.25", 0), history("7/00000001/5.25", 1)];

        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2], "{all:?}");
        assert_eq!(all[0], history("7/00000001/5.25", 0));
    }

    #[test]
    fn postgresql_and_mariadb_are_told_to_end_each_statement_in_time_and_mysql_a_read_and_a_wait_for_a_lock()
    {
        let patience = Duration::from_millis(200);

        let of_postgres = limits(Product::Postgres, false, patience);
        for limit in ["SET statement_timeout = 200", "SET lock_timeout = 200"] {
            assert!(of_postgres.iter().any(|it| it == limit), "{of_postgres:?}");
        }
        assert!(limits(Product::MySql, true, patience)[0].ends_with("max_statement_time = 0.2"));
        let of_mysql = limits(Product::MySql, false, patience).concat();
        assert!(
            of_mysql.contains("innodb_lock_wait_timeout = 1,")
                && of_mysql.ends_with("max_execution_time = 200")
        );
    }
}
