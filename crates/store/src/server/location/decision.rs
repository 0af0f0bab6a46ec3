//! Which rows of the table are Tandem's to remove, and whether that was decided.
//!
//! What another server has left there is nothing that a comparison may remove: the operator takes it over, or says that it is of
//! no use. Until then nothing is written. That a whole table is Tandem's has a row of its own in `tandem_epoch`: the row of the epoch
//! is there as soon as a shared table was written, which says nothing of the rows of others.
//!
//! Invariant: what is counted before a decision is what is removed after it, because both ask [`Claim::has`].

use engine::StoreError;
use lease::Epoch;
use transport::{LocalAddr, Transport};

use super::shape::Shape;
use crate::server::epoch::{self, Standing, Writer};
use crate::server::link::{Row, Value};
use crate::server::session::Session;

/// Rows of one page.
const PAGE: usize = 500;

/// Which rows Tandem removes if they belong to no binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// All.
    Whole,
    /// Those of phones that registered on these sockets, and those that only Tandem writes.
    Sockets(Vec<(Transport, LocalAddr)>),
}

impl Claim {
    /// Whether a row, as [`Shape::page_query`] gives it, is one of them.
    pub fn has(&self, shape: &Shape, row: &Row) -> bool {
        match self {
            Self::Whole => true,
            Self::Sockets(sockets) => shape.is_of(row, sockets),
        }
    }
}

/// Whether rows of others are Tandem's to remove, as far as they are claimed.
pub async fn is_decided(session: &mut Session, claim: &Claim) -> Result<bool, StoreError> {
    if !session.tables.has_table("tandem_epoch") {
        return Ok(false);
    }
    let sql = match claim {
        Claim::Whole => "SELECT '1' FROM tandem_epoch WHERE writer = 'location-own' AND epoch > 0",
        // In a shared table these are few, and whoever writes there afterwards has no business on these sockets.
        Claim::Sockets(_) => "SELECT '1' FROM tandem_epoch WHERE writer = 'location'",
    };
    Ok(!session.rows(sql, &[]).await?.is_empty())
}

/// Fails while there are rows of others that nobody has decided about.
pub async fn must_be_decided(session: &mut Session, shape: &Shape, claim: &Claim) -> Result<(), StoreError> {
    if is_decided(session, claim).await? {
        return Ok(());
    }
    match rows_of_others(session, shape, claim).await? {
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

/// Writes down that it is decided, in a transaction of its own.
pub async fn decide(session: &mut Session, claim: &Claim, epoch: Epoch) -> Result<(), StoreError> {
    session.begin().await?;
    match epoch::enter(session, Writer::Location, epoch).await? {
        Standing::Ours => {}
        Standing::Overtaken(highest) => return Err(epoch::overtaken(session, highest, epoch)),
    }
    let sql =
        format!("SELECT {} FROM tandem_epoch WHERE writer = 'location-own'", session.product().text("epoch"));
    let before = session.rows(&sql, &[]).await?.first().map(|row| row.text(0) != "0");
    let statement = match (claim, before) {
        (Claim::Whole, None) => Some("INSERT INTO tandem_epoch (writer, epoch) VALUES ('location-own', 1)"),
        (Claim::Whole, Some(false)) => {
            Some("UPDATE tandem_epoch SET epoch = 1 WHERE writer = 'location-own'")
        }
        // From here on others write there too.
        (Claim::Sockets(_), Some(true)) => {
            Some("UPDATE tandem_epoch SET epoch = 0 WHERE writer = 'location-own'")
        }
        _ => None,
    };
    if let Some(statement) = statement {
        session.run(statement, &[]).await?;
    }
    session.commit().await
}

/// How many rows others wrote, of those that are claimed.
pub async fn rows_of_others(session: &mut Session, shape: &Shape, claim: &Claim) -> Result<u64, StoreError> {
    let (mut count, mut behind) = (0, -1);
    loop {
        let page = read_page(session, shape, behind).await?;
        let Some(last) = page.last().and_then(|row| row.number(0)) else { return Ok(count) };
        behind = last;
        // The row's id stands behind the number that pages are read by.
        let is_of_others = |row: &&Row| claim.has(shape, row) && !shape.is_own(row.text(1));
        count += page.iter().filter(is_of_others).count() as u64;
    }
}

/// The rows behind the one with this number; none at the end.
pub async fn read_page(session: &mut Session, shape: &Shape, behind: i64) -> Result<Vec<Row>, StoreError> {
    let page = session.rows(&shape.page_query(PAGE), &[Value::Number(Some(behind))]).await?;
    match page.last() {
        // Else the same page would come again and again.
        Some(last) if last.number::<i64>(0).is_none_or(|last| last <= behind) => Err(StoreError {
            place: session.place.clone(),
            reason: format!(
                "the table location has a row whose {} is `{}`, and it can not be read further than {behind}: give that \
                 row a number below {}, or remove it",
                shape.page_column(),
                last.text(0),
                i64::MAX
            ),
        }),
        _ => Ok(page),
    }
}
