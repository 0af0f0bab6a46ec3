//! One connection, of either product, with one way to ask it.
//!
//! Statements are written with `?` for their values, and select texts: [`Product::text`] makes one of any column. What
//! a column's type is called, and how its bytes are laid out, differs between products and between the tables that
//! operators have, and a text is what all of them can give.

use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Database, Decode, Encode, Type};

use super::address::{HostPlace, Product, ServerSettings, Tls};

/// A connection. To drop it closes its socket and waits for nothing.
#[derive(Debug)]
pub enum Link {
    /// To PostgreSQL.
    Postgres(Box<PgConnection>),
    /// To MySQL or MariaDB.
    MySql(Box<MySqlConnection>),
}

/// What stands for a `?`.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A number, or nothing where one could be.
    Number(Option<i64>),
    /// Nothing where a text could be.
    Nothing,
}

/// The columns of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Option<String>>);

impl Row {
    /// One that no server has sent.
    #[cfg(test)]
    pub fn of(columns: Vec<Option<String>>) -> Self {
        Self(columns)
    }

    /// The text of a column; empty where there is none.
    pub fn text(&self, column: usize) -> &str {
        self.0.get(column).and_then(Option::as_deref).unwrap_or_default()
    }

    /// The number in a column.
    pub fn number<T: std::str::FromStr>(&self, column: usize) -> Option<T> {
        self.0.get(column)?.as_deref()?.trim().parse().ok()
    }
}

impl Product {
    /// An expression that is the text of a column.
    pub fn text(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("{column}::text"),
            Self::MySql => format!("CAST({column} AS CHAR)"),
        }
    }

    /// A statement with this product's signs for values.
    fn statement(self, sql: &str) -> String {
        match self {
            Self::MySql => sql.to_owned(),
            Self::Postgres => {
                let mut numbered = String::with_capacity(sql.len() + 16);
                for (part, number) in sql.split('?').zip(0..) {
                    if number > 0 {
                        numbered.push_str(&format!("${number}"));
                    }
                    numbered.push_str(part);
                }
                numbered
            }
        }
    }
}

impl Link {
    /// Connects to one host.
    pub async fn open(settings: &ServerSettings, host: &HostPlace) -> Result<Self, sqlx::Error> {
        match settings.url.product {
            Product::Postgres => {
                Ok(Self::Postgres(Box::new(postgres_options(settings, host).connect().await?)))
            }
            Product::MySql => Ok(Self::MySql(Box::new(mysql_options(settings, host).connect().await?))),
        }
    }

    /// Has the server undo a transaction in which it has heard nothing for so long. What a host has locked that lost its power
    /// would else be locked until the server misses it, which takes hours. MySQL, unlike MariaDB, has no such limit.
    pub async fn limit_transactions(&mut self, silence: Duration) -> Result<(), sqlx::Error> {
        let sql = match self {
            Self::Postgres(_) => format!("SET idle_in_transaction_session_timeout = {}", silence.as_millis()),
            // Only MariaDB reads what is in such a comment.
            Self::MySql(_) => format!(
                "SET SESSION autocommit = 1 /*M!100300 , SESSION idle_transaction_timeout = {} */",
                silence.as_secs().max(1)
            ),
        };
        self.plain(&sql).await
    }

    /// Which product it is.
    pub fn product(&self) -> Product {
        match self {
            Self::Postgres(_) => Product::Postgres,
            Self::MySql(_) => Product::MySql,
        }
    }

    /// The rows of a query.
    pub async fn rows(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        let statement = AssertSqlSafe(self.product().statement(sql));
        match self {
            Self::Postgres(connection) => {
                let rows = bound(statement, values).fetch_all(&mut **connection).await?;
                rows.iter().map(texts).collect()
            }
            Self::MySql(connection) => {
                let rows = bound(statement, values).fetch_all(&mut **connection).await?;
                rows.iter().map(texts).collect()
            }
        }
    }

    /// Does what a statement says; returns how many rows it met.
    pub async fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, sqlx::Error> {
        let statement = AssertSqlSafe(self.product().statement(sql));
        match self {
            Self::Postgres(connection) => {
                Ok(bound(statement, values).execute(&mut **connection).await?.rows_affected())
            }
            Self::MySql(connection) => {
                Ok(bound(statement, values).execute(&mut **connection).await?.rows_affected())
            }
        }
    }

    /// Does what a statement without values says; those that begin and end transactions can not be prepared.
    pub async fn plain(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Self::Postgres(connection) => statement.execute(&mut **connection).await.map(|_| ()),
            Self::MySql(connection) => statement.execute(&mut **connection).await.map(|_| ()),
        }
    }

    /// Whether nothing can be written here: a replica, or a server that was set so.
    pub async fn is_read_only(&mut self) -> Result<bool, sqlx::Error> {
        let query = match self {
            Self::Postgres(_) => {
                "SELECT CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' \
                 THEN '1' ELSE '0' END"
            }
            // As a text MariaDB has it `OFF`.
            Self::MySql(_) => "SELECT CASE WHEN @@global.read_only + 0 = 0 THEN '0' ELSE '1' END",
        };
        let rows = self.rows(query, &[]).await?;
        Ok(rows.first().is_some_and(|row| row.text(0) == "1"))
    }
}

fn bound<'q, D: Database>(
    statement: AssertSqlSafe<String>,
    values: &[Value<'q>],
) -> Query<'q, D, D::Arguments>
where
    &'q str: Encode<'q, D> + Type<D>,
    Option<&'q str>: Encode<'q, D> + Type<D>,
    Option<i64>: Encode<'q, D> + Type<D>,
{
    let mut query = sqlx::query(statement);
    for value in values {
        query = match value {
            Value::Text(text) => query.bind(*text),
            Value::Number(number) => query.bind(*number),
            Value::Nothing => query.bind(None::<&str>),
        };
    }
    query
}

fn texts<'r, R: sqlx::Row>(row: &'r R) -> Result<Row, sqlx::Error>
where
    usize: sqlx::ColumnIndex<R>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    (0..row.len()).map(|column| row.try_get(column)).collect::<Result<_, _>>().map(Row)
}

fn postgres_options(settings: &ServerSettings, host: &HostPlace) -> PgConnectOptions {
    let url = &settings.url;
    // The environment of the server's process is not where its operator looks for the database's address.
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&url.user)
        .database(&url.database)
        .application_name("tandem")
        .ssl_mode(match mode(settings.tls, host) {
            Tls::Off => PgSslMode::Disable,
            Tls::Encrypt => PgSslMode::Require,
            Tls::Auto | Tls::Verify => PgSslMode::VerifyFull,
        });
    options = match host {
        HostPlace::Network(name, port) => options.host(name).port(*port),
        HostPlace::Socket(directory) => options.socket(directory).port(5432),
    };
    if let Some(password) = settings.password.as_ref().or(url.password.as_ref()) {
        options = options.password(password);
    }
    if let Some(file) = &settings.authorities {
        options = options.ssl_root_cert(file);
    }
    options
}

fn mysql_options(settings: &ServerSettings, host: &HostPlace) -> MySqlConnectOptions {
    let url = &settings.url;
    let mut options =
        MySqlConnectOptions::new().username(&url.user).database(&url.database).charset("utf8mb4").ssl_mode(
            match mode(settings.tls, host) {
                Tls::Off => MySqlSslMode::Disabled,
                Tls::Encrypt => MySqlSslMode::Required,
                Tls::Auto | Tls::Verify => MySqlSslMode::VerifyIdentity,
            },
        );
    options = match host {
        HostPlace::Network(name, port) => options.host(name).port(*port),
        HostPlace::Socket(file) => options.socket(file),
    };
    if let Some(password) = settings.password.as_ref().or(url.password.as_ref()) {
        options = options.password(password);
    }
    if let Some(file) = &settings.authorities {
        options = options.ssl_ca(file);
    }
    options
}

fn mode(tls: Tls, host: &HostPlace) -> Tls {
    match tls {
        Tls::Auto if host.is_this_host() => Tls::Off,
        Tls::Auto => Tls::Verify,
        told => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_where_the_product_wants_it() {
        let sql = "SELECT 1 WHERE a = ? AND b = ?";

        assert_eq!(Product::Postgres.statement(sql), "SELECT 1 WHERE a = $1 AND b = $2");
        assert_eq!(Product::MySql.statement(sql), sql);
    }

    #[test]
    fn only_the_way_within_this_host_needs_no_certificate() {
        let at = |name: &str| HostPlace::Network(name.to_owned(), 1);

        assert_eq!(mode(Tls::Auto, &at("127.0.0.1")), Tls::Off);
        assert_eq!(mode(Tls::Auto, &at("db.example.org")), Tls::Verify);
        assert_eq!(mode(Tls::Encrypt, &at("127.0.0.1")), Tls::Encrypt);
    }
}
