//! Reading the bindings of others out of `location`, and deciding that the table is Tandem's from then on.

use engine::StoreError;
use lease::Epoch;
use tokio::runtime::Runtime;

use super::decision::{self, Claim};
use super::found::{FoundRow, Home, read};
use super::shape::Shape;
use super::zone;
use crate::server::address::{LocationSettings, ServerSettings};
use crate::server::session::{Access, Session};
use crate::server::tables::Unfit;
use crate::writer::wall_now;

/// A table `location` that is read from its begin to its end. Its calls block.
#[derive(Debug)]
pub struct LocationTable {
    runtime: Runtime,
    session: Session,
    shape: Shape,
    /// What is decided; its sockets are of no account for that.
    claim: Claim,
    behind: i64,
}

impl LocationTable {
    /// Connects, and looks at the table.
    pub fn open(settings: &ServerSettings, location: &LocationSettings) -> Result<Self, StoreError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                StoreError {
                    place: settings.url.to_string(),
                    reason: format!("no runtime for its connection: {error}"),
                }
            })?;
        let session = runtime.block_on(Session::open(settings))?;
        let refused = |reason: String| StoreError { place: session.place.clone(), reason };
        let zone = zone(location).map_err(refused)?;
        let shape = Shape::to_read(&session.tables, &zone).map_err(|unfit| refused(Unfit::text(&unfit)))?;
        let claim = if location.is_shared { Claim::Sockets(Vec::new()) } else { Claim::Whole };
        Ok(Self { runtime, session, shape, claim, behind: -1 })
    }

    /// Which server it is on.
    pub fn place(&self) -> &str {
        &self.session.place
    }

    /// How many rows there are.
    pub fn count(&mut self) -> Result<u64, StoreError> {
        let sql = format!("SELECT {} FROM location", self.session.product().text("COUNT(*)"));
        let rows = self.runtime.block_on(self.session.rows(&sql, &[]))?;
        Ok(rows.first().and_then(|row| row.number(0)).unwrap_or_default())
    }

    /// The next rows; none at the end. Fails at a row whose number is not above those before it.
    pub fn page(&mut self, home: &Home<'_>) -> Result<Vec<FoundRow>, StoreError> {
        let rows = self.runtime.block_on(decision::read_page(&mut self.session, &self.shape, self.behind))?;
        if let Some(last) = rows.last().and_then(|row| row.number(0)) {
            self.behind = last;
        }
        Ok(rows.iter().map(|row| read(&self.shape, home, wall_now(), row)).collect())
    }

    /// Whether it was decided that the table is Tandem's, or of a shared one those rows that are on its sockets.
    pub fn is_decided(&mut self) -> Result<bool, StoreError> {
        self.runtime.block_on(decision::is_decided(&mut self.session, &self.claim))
    }

    /// Decides that the table, or its part of a shared one, is Tandem's from here on: what belongs to no binding is removed.
    pub fn decide(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let session = &mut self.session;
        let refused = |reason: &str| StoreError { place: session.place.clone(), reason: reason.to_owned() };
        if session.access == Access::ReadOnly {
            return Err(refused("it can only be read: name the primary in database.url, beside the others"));
        }
        if !session.tables.has_table("tandem_epoch") {
            return Err(refused("there is no table tandem_epoch: run `tandem database init`"));
        }
        self.runtime.block_on(decision::decide(session, &self.claim, epoch))
    }
}
