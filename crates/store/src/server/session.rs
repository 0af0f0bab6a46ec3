//! A link with what is known of the database, and a limit to the time of every statement.
//!
//! A session of which a statement failed is dropped: nobody knows what state its link is in.

use std::future::Future;
use std::time::Duration;

use engine::StoreError;

use super::address::{HostPlace, Product, ServerSettings};
use super::fault::{explain, fault_of};
use super::link::{Link, Row, Value};
use super::tables::{Tables, Unfit};

/// How long nothing may be said in a transaction, if a statement may not take longer than that anyway.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// A connection to the database, where its tables were recognised.
#[derive(Debug)]
pub struct Session {
    link: Link,
    /// Which server it is.
    pub place: String,
    /// What was found.
    pub tables: Tables,
    /// Whether it can be written.
    pub access: Access,
    /// Whose fault the last error was.
    pub fault: Fault,
    deadline: Duration,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// The server's, or of the way to it: it may help to connect again later.
    #[default]
    Server,
    /// Another transaction was in the way: it helps to try again.
    Other,
    /// A value can not be stored: trying again helps nothing.
    Row,
}

/// What a host lets be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is the primary.
    Write,
    /// It is a replica.
    ReadOnly,
}

/// A link to one of the hosts.
#[derive(Debug)]
pub struct Reached {
    /// The link.
    pub link: Link,
    /// Which host.
    pub place: String,
    /// What it lets be done.
    pub access: Access,
}

impl Session {
    /// Connects to the first host that can be written, else to the first that can be read, and recognises the tables.
    pub async fn open(settings: &ServerSettings) -> Result<Self, StoreError> {
        let Reached { mut link, place, access } = reach(settings).await?;
        let found = within(settings.deadline, Tables::recognise(&mut link)).await;
        match found {
            Ok(Ok(tables)) => {
                let (fault, deadline) = (Fault::default(), settings.deadline);
                Ok(Self { link, place, tables, access, fault, deadline })
            }
            Ok(Err(unfit)) => Err(StoreError { place, reason: Unfit::text(&unfit) }),
            Err(Failure { reason, .. }) => Err(StoreError { place, reason }),
        }
    }

    /// Which product is at the other end.
    pub fn product(&self) -> Product {
        self.link.product()
    }

    /// The rows of a query.
    pub async fn rows(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let result = within(self.deadline, self.link.rows(sql, values)).await;
        self.noted(result)
    }

    /// Does what a statement says; returns how many rows it met.
    pub async fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let result = within(self.deadline, self.link.run(sql, values)).await;
        self.noted(result)
    }

    /// Which of these rights this user has not on a table.
    pub async fn missing_rights(
        &mut self,
        table: &str,
        rights: &[&'static str],
    ) -> Result<Vec<&'static str>, StoreError> {
        let mut missing = Vec::new();
        match self.product() {
            Product::Postgres => {
                for right in rights {
                    let sql = "SELECT CASE WHEN has_table_privilege(?, ?) THEN '1' ELSE '0' END";
                    let rows = self.rows(sql, &[Value::Text(table), Value::Text(right)]).await?;
                    if rows.first().is_none_or(|row| row.text(0) != "1") {
                        missing.push(*right);
                    }
                }
            }
            // Its tables of rights do not tell of roles. A statement that meets no row is refused as one that meets some.
            Product::MySql => {
                for right in rights {
                    let sql = match *right {
                        "SELECT" => format!("SELECT '1' FROM {table} WHERE 1 = 0"),
                        "DELETE" => format!("DELETE FROM {table} WHERE 1 = 0"),
                        "UPDATE" => match table {
                            "location" => "UPDATE location SET callid = callid WHERE 1 = 0".to_owned(),
                            table => format!("UPDATE {table} SET epoch = epoch WHERE 1 = 0"),
                        },
                        _ => continue,
                    };
                    if let Err(error) = self.run(&sql, &[]).await {
                        if !error.reason.contains("denied") {
                            return Err(error);
                        }
                        missing.push(*right);
                    }
                }
            }
        }
        Ok(missing)
    }

    /// Begins a transaction; what is not committed when the session is dropped did not happen.
    pub async fn begin(&mut self) -> Result<(), StoreError> {
        let result = within(self.deadline, self.link.plain("BEGIN")).await;
        self.noted(result)
    }

    /// Ends it and keeps what was done.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        let result = within(self.deadline, self.link.plain("COMMIT")).await;
        self.noted(result)
    }

    fn noted<T>(&mut self, result: Result<T, Failure>) -> Result<T, StoreError> {
        result.map_err(|Failure { reason, fault }| {
            self.fault = fault;
            StoreError { place: self.place.clone(), reason }
        })
    }
}

/// A link to the first host that can be written, else to the first that answers.
pub async fn reach(settings: &ServerSettings) -> Result<Reached, StoreError> {
    let (mut replica, mut errors) = (None, Vec::new());
    for host in &settings.url.hosts {
        match try_host(settings, host).await {
            Ok(reached @ Reached { access: Access::Write, .. }) => return Ok(reached),
            Ok(reached) => replica = replica.or(Some(reached)),
            Err(reason) => errors.push((host, reason)),
        }
    }
    replica.ok_or_else(|| match errors.as_slice() {
        [(host, reason)] => StoreError { place: host.to_string(), reason: reason.clone() },
        errors => StoreError {
            place: settings.url.to_string(),
            reason: errors
                .iter()
                .map(|(host, reason)| format!("{host}: {reason}"))
                .collect::<Vec<_>>()
                .join("; "),
        },
    })
}

async fn try_host(settings: &ServerSettings, host: &HostPlace) -> Result<Reached, String> {
    let told = |failure: Failure| failure.reason;
    let mut link = within(settings.deadline, Link::open(settings, host)).await.map_err(told)?;
    within(settings.deadline, link.limit_transactions(SILENCE_MAX.max(settings.deadline)))
        .await
        .map_err(told)?;
    let is_read_only = within(settings.deadline, link.is_read_only()).await.map_err(told)?;
    let access = if is_read_only { Access::ReadOnly } else { Access::Write };
    Ok(Reached { link, place: host.to_string(), access })
}

/// What failed, and whose fault it is.
struct Failure {
    reason: String,
    fault: Fault,
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(deadline, work).await {
        Ok(result) => result.map_err(|error| Failure { reason: explain(&error), fault: fault_of(&error) }),
        Err(_) => Err(Failure {
            reason: format!(
                "no answer within {} ms: see whether the server and the way to it are well (database.timeout)",
                deadline.as_millis()
            ),
            fault: Fault::Server,
        }),
    }
}
