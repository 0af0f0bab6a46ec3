//! Reading the bindings of others out of `location`, and deciding that the table is Tandem's from then on.
//!
//! What was in the table before Tandem wrote it for the first time are bindings of another server. They are nothing that
//! a comparison may remove: the operator takes them over, or says that they are of no use. Until then nothing is written.
//! The row of `tandem_epoch` is what tells that it was decided.

use engine::StoreError;
use lease::Epoch;
use tokio::runtime::Runtime;
use transport::{LocalAddr, Transport};

use super::found::{FoundRow, Home, read};
use super::shape::Shape;
use super::{rows_of_others, zone};
use crate::server::address::{LocationSettings, ServerSettings};
use crate::server::epoch::{self, Standing, Writer};
use crate::server::link::Value;
use crate::server::session::{Access, Session};
use crate::server::tables::Unfit;
use crate::writer::wall_now;

/// Rows of one page.
const PAGE: usize = 500;

/// A table `location` that is read from its begin to its end. Its calls block.
#[derive(Debug)]
pub struct LocationTable {
    runtime: Runtime,
    session: Session,
    shape: Shape,
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
        Ok(Self { runtime, session, shape, behind: -1 })
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

    /// The next rows; none at the end.
    pub fn page(&mut self, home: &Home<'_>) -> Result<Vec<FoundRow>, StoreError> {
        let sql = self.shape.page_query(PAGE);
        let rows = self.runtime.block_on(self.session.rows(&sql, &[Value::Number(Some(self.behind))]))?;
        if let Some(last) = rows.last().and_then(|row| row.number(0)) {
            self.behind = last;
        }
        Ok(rows.iter().map(|row| read(&self.shape, home, wall_now(), row)).collect())
    }

    /// Whether Tandem has written the table, or it was decided that it may.
    pub fn is_decided(&mut self) -> Result<bool, StoreError> {
        self.runtime.block_on(is_decided(&mut self.session))
    }

    /// Decides that the table is Tandem's from here on: what belongs to no binding is removed.
    pub fn decide(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let session = &mut self.session;
        let refused = |reason: &str| StoreError { place: session.place.clone(), reason: reason.to_owned() };
        if session.access == Access::ReadOnly {
            return Err(refused("it can only be read: name the primary in database.url, beside the others"));
        }
        if !session.tables.has_table("tandem_epoch") {
            return Err(refused("there is no table tandem_epoch: run `tandem database init`"));
        }
        self.runtime.block_on(async {
            session.begin().await?;
            match epoch::enter(session, Writer::Location, epoch).await? {
                Standing::Ours => session.commit().await,
                Standing::Overtaken(highest) => Err(epoch::overtaken(session, highest, epoch)),
            }
        })
    }
}

/// Fails while there are rows of others in a table that Tandem has never written; where it is shared, rows on these sockets, which
/// are this server's.
pub async fn must_be_decided(
    session: &mut Session,
    shape: &Shape,
    sockets: &[(Transport, LocalAddr)],
) -> Result<(), StoreError> {
    if is_decided(session).await? {
        return Ok(());
    }
    match rows_of_others(session, shape, sockets).await? {
        0 => Ok(()),
        rows => Err(StoreError {
            place: session.place.clone(),
            reason: format!(
                "the table location has {rows} rows that another server wrote, and nothing is written there before you \
                 have decided: `tandem import` takes them over, `tandem import --nothing` lets them be removed"
            ),
        }),
    }
}

pub(super) async fn is_decided(session: &mut Session) -> Result<bool, StoreError> {
    if !session.tables.has_table("tandem_epoch") {
        return Ok(false);
    }
    let written = session.rows("SELECT '1' FROM tandem_epoch WHERE writer = 'location'", &[]).await?;
    Ok(!written.is_empty())
}
