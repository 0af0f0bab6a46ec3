//! One batch of records as one transaction.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use engine::StoreError;

use super::shape::{CallTables, Insert, OWN};
use super::writer::CallDatabase;
use crate::records::Line;
use crate::server::fault::{Blame, blame, explain};
use crate::server::link::{Link, Row, Value};
use crate::server::session::{Access, Reached, reach};

/// A connection that records are written by.
#[derive(Debug)]
pub struct CallSession {
    link: Link,
    /// Which host.
    pub place: String,
    /// What was found there.
    pub tables: CallTables,
    deadline: Duration,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Calls that were not there.
    pub new: u64,
    /// Calls that somebody had written before.
    pub known: u64,
    /// Calls of which something did not fit into its column.
    pub cut: u64,
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub blame: Blame,
    /// What the server said, with the mend.
    pub reason: String,
}

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Tandem's own table and those of others.
    All,
    /// Tandem's own.
    Own,
}

/// How a transaction ends that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What was done stays.
    Keep,
    /// It was a trial.
    Undo,
}

impl CallSession {
    /// Connects, and recognises the tables.
    pub async fn open(settings: &CallDatabase) -> Result<Self, StoreError> {
        let deadline = settings.server.deadline;
        let Reached { mut link, place, access } = reach(&settings.server).await?;
        let refused = |reason: String| StoreError { place: place.clone(), reason };
        if access == Access::ReadOnly {
            return Err(refused(
                "it can only be read: name the primary in database.url, beside the others".to_owned(),
            ));
        }
        let looked = CallTables::recognise(&mut link, settings.others, &settings.extra);
        match within(deadline, looked).await {
            Ok(Ok(tables)) => Ok(Self { link, place, tables, deadline }),
            Ok(Err(problems)) => Err(refused(problems.join("; "))),
            Err(failure) => Err(refused(failure.reason)),
        }
    }

    /// Writes records, all or none. After an error of which the database is not to blame the session can be used on.
    pub async fn write(&mut self, lines: &[&Line], into: Into, end: End) -> Result<Written, Failure> {
        let written = self.try_to_write(lines, into, end).await;
        if let Err(failure) = &written
            && failure.blame != Blame::Server
        {
            self.plain("ROLLBACK").await?;
        }
        written
    }

    async fn try_to_write(&mut self, lines: &[&Line], into: Into, end: End) -> Result<Written, Failure> {
        self.plain("BEGIN").await?;
        let there = self.there(lines).await?;
        let mut ids = BTreeSet::new();
        let new: Vec<&Line> =
            lines.iter().copied().filter(|line| !there.contains(&line.id) && ids.insert(&line.id)).collect();
        let known = lines.len() - new.len();
        let mut written = Written { new: new.len() as u64, known: known as u64, cut: 0 };
        if !new.is_empty() {
            let own = self.tables.own.clone();
            written.cut = self.insert(&own, &new).await?;
            let others = if into == Into::All { self.tables.others.clone() } else { Vec::new() };
            for insert in others {
                let rows: Vec<&Line> =
                    new.iter().copied().filter(|line| CallTables::takes(&insert, line)).collect();
                if !rows.is_empty() {
                    written.cut = written.cut.max(self.insert(&insert, &rows).await?);
                }
            }
        }
        self.plain(if end == End::Keep { "COMMIT" } else { "ROLLBACK" }).await?;
        Ok(written)
    }

    /// Which of the calls are in Tandem's own table.
    async fn there(&mut self, lines: &[&Line]) -> Result<BTreeSet<String>, Failure> {
        let places = vec!["?"; lines.len()].join(", ");
        let id = self.link.product().text("id");
        let sql = format!("SELECT {id} FROM {OWN} WHERE id IN ({places})");
        let values: Vec<Value<'_>> = lines.iter().map(|line| Value::Text(&line.id)).collect();
        let rows: Vec<Row> = within(self.deadline, self.link.rows(&sql, &values)).await?;
        Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
    }

    async fn insert(&mut self, insert: &Insert, lines: &[&Line]) -> Result<u64, Failure> {
        let (sql, bound, cut) = insert.statement(lines);
        let values: Vec<Value<'_>> = bound.iter().map(super::shape::Bound::value).collect();
        within(self.deadline, self.link.run(&sql, &values)).await?;
        Ok(cut)
    }

    async fn plain(&mut self, sql: &str) -> Result<(), Failure> {
        within(self.deadline, self.link.plain(sql)).await
    }
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(deadline, work).await {
        Ok(result) => result.map_err(|error| Failure { blame: blame(&error), reason: explain(&error) }),
        Err(_) => Err(Failure {
            blame: Blame::Server,
            reason: format!(
                "no answer within {} ms: see whether the server and the way to it are well",
                deadline.as_millis()
            ),
        }),
    }
}
