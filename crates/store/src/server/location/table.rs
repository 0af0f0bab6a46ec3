//! What the writer asks of the table: a few things, each of them done whole or not at all.

use std::sync::Arc;

use engine::StoreError;
use lease::Epoch;

use super::decision::{self, Claim, must_be_decided, read_page};
use super::row::OwnRow;
use super::shape::{RowId, Shape};
use super::{no_index, zone};
use crate::server::address::{LocationSettings, ServerSettings};
use crate::server::epoch::{self, Standing};
use crate::server::link::{Row, Value};
use crate::server::session::{Access, Fault, Session};
use crate::server::tables::Unfit;

/// Rows of one statement, so that a server has few to prepare.
const ROWS: [usize; 4] = [128, 32, 8, 1];

/// A connection by which the table is written. One that has failed is not used again.
pub trait Table: Sized {
    /// Where the table is.
    type Server;

    /// What it is called.
    fn name(server: &Self::Server) -> String;

    /// Connects, and looks whether the table can and may be written.
    async fn open(server: &Self::Server, claim: &Claim, epoch: Epoch) -> Result<Self, StoreError>;

    /// Which host it is.
    fn place(&self) -> &str;

    /// What the table looks like.
    fn shape(&self) -> Arc<Shape>;

    /// Whose fault the last error was.
    fn fault(&self) -> Fault;

    /// Waits until nobody writes under another epoch, and lets nobody write under a lower one.
    async fn enter(&mut self, epoch: Epoch) -> Result<(), StoreError>;

    /// Removes rows and writes others, each in the place of the one with its id.
    async fn change(&mut self, epoch: Epoch, gone: &[RowId], rows: &[&OwnRow]) -> Result<(), StoreError>;

    /// The rows behind the one with this number; none at the end.
    async fn page(&mut self, behind: i64) -> Result<Vec<Row>, StoreError>;

    /// Removes rows by the numbers of [`Table::page`].
    async fn remove(&mut self, epoch: Epoch, numbers: &[i64]) -> Result<(), StoreError>;
}

/// On a server.
#[derive(Debug)]
pub struct SqlTable {
    session: Session,
    shape: Arc<Shape>,
}

impl Table for SqlTable {
    type Server = ServerSettings;

    fn name(server: &ServerSettings) -> String {
        server.url.to_string()
    }

    async fn open(server: &ServerSettings, claim: &Claim, epoch: Epoch) -> Result<Self, StoreError> {
        let mut session = Session::open(server).await?;
        let refused = |reason: String| StoreError { place: session.place.clone(), reason };
        if session.access == Access::ReadOnly {
            return Err(refused(
                "it can only be read: name the primary in database.url, beside the others".to_owned(),
            ));
        }
        let without = LocationSettings { time_zone: None, is_shared: false };
        let settings = server.location.as_ref().unwrap_or(&without);
        let zone = zone(settings).map_err(refused)?;
        let shape = Shape::of(&session.tables, &zone).map_err(|unfit| refused(Unfit::text(&unfit)))?;
        if session.rows(&shape.unique_query(), &[]).await?.is_empty() {
            return Err(StoreError { place: session.place.clone(), reason: no_index(&shape) });
        }
        must_be_decided(&mut session, &shape, claim).await?;
        // Before anything is written: by its rows alone nobody can tell that a table is not another server's.
        decision::decide(&mut session, claim, epoch).await?;
        Ok(Self { session, shape: Arc::new(shape) })
    }

    fn place(&self) -> &str {
        &self.session.place
    }

    fn shape(&self) -> Arc<Shape> {
        Arc::clone(&self.shape)
    }

    fn fault(&self) -> Fault {
        self.session.fault
    }

    async fn enter(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        self.begin(epoch).await?;
        self.session.commit().await
    }

    async fn change(&mut self, epoch: Epoch, gone: &[RowId], rows: &[&OwnRow]) -> Result<(), StoreError> {
        self.begin(epoch).await?;
        let Self { session, shape } = self;
        let ids: Vec<_> = gone.iter().map(|id| id.text()).collect();
        for part in parts(&ids) {
            let values: Vec<Value<'_>> = part.iter().map(|text| text.value()).collect();
            session.run(&shape.removal(shape.id_column(), part.len()), &values).await?;
        }
        for part in parts(rows) {
            let values: Vec<Value<'_>> =
                part.iter().flat_map(|row| row.values.iter().map(|text| text.value())).collect();
            session.run(&shape.writing(part.len()), &values).await?;
        }
        session.commit().await
    }

    async fn page(&mut self, behind: i64) -> Result<Vec<Row>, StoreError> {
        read_page(&mut self.session, &self.shape, behind).await
    }

    async fn remove(&mut self, epoch: Epoch, numbers: &[i64]) -> Result<(), StoreError> {
        self.begin(epoch).await?;
        let Self { session, shape } = self;
        for part in parts(numbers) {
            let values: Vec<Value<'_>> = part.iter().map(|number| Value::Number(Some(*number))).collect();
            session.run(&shape.removal(shape.page_column(), part.len()), &values).await?;
        }
        session.commit().await
    }
}

impl SqlTable {
    /// Begins a transaction, with the row of the epoch locked.
    async fn begin(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let session = &mut self.session;
        session.begin().await?;
        let standing = epoch::enter(session, epoch::Writer::Location, epoch).await.inspect_err(|_| {
            // No binding is to blame for this row.
            if session.fault == Fault::Row {
                session.fault = Fault::Other;
            }
        });
        match standing? {
            Standing::Ours => Ok(()),
            Standing::Overtaken(highest) => Err(epoch::overtaken(session, highest, epoch)),
        }
    }
}

/// In parts of few lengths.
fn parts<T>(mut all: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = ROWS.into_iter().find(|length| *length <= all.len())?;
        let (part, rest) = all.split_at(length);
        all = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_written_in_parts_of_few_lengths() {
        for count in [0, 1, 7, 8, 200, 513] {
            let all: Vec<usize> = (0..count).collect();

            assert_eq!(parts(&all).flatten().copied().collect::<Vec<_>>(), all);
            assert!(parts(&all).all(|part| ROWS.contains(&part.len())));
        }
    }
}
