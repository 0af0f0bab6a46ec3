//! The row that keeps a node which is active no longer from writing.
//!
//! The tables that others made have no place for an epoch. So each of Tandem's writers has a row in `tandem_epoch`, and
//! every transaction begins by locking and reading it. A node that became active raises it before its first write. A
//! node that wakes up after others were active finds a higher number and writes nothing; and one whose transaction was under way
//! holds the row, so that the other waits for its end and looks at the table after it.

use engine::StoreError;
use lease::Epoch;

use super::link::Value;
use super::session::Session;

/// Who writes, which is the name of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Bindings.
    Location,
}

impl Writer {
    fn name(self) -> &'static str {
        match self {
            Self::Location => "location",
        }
    }
}

/// What the row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has this epoch, and nobody else writes until the transaction ends.
    Ours,
    /// Somebody has written under a higher one.
    Overtaken(Epoch),
}

/// Locks the row and raises it to `epoch`. To be called first in each transaction, which is not to be committed if others
/// have overtaken. A node without a cluster has the epoch 0, which is compared with nothing.
pub async fn enter(session: &mut Session, writer: Writer, epoch: Epoch) -> Result<Standing, StoreError> {
    let name = Value::Text(writer.name());
    let number = Value::Number(Some(i64::try_from(epoch.0).unwrap_or(i64::MAX)));
    let query =
        format!("SELECT {} FROM tandem_epoch WHERE writer = ? FOR UPDATE", session.product().text("epoch"));
    let found = session.rows(&query, &[name]).await?;
    match found.first().map(|row| row.number::<u64>(0).unwrap_or_default()) {
        // Two that insert at once: the second one's transaction fails, and is tried again.
        None => {
            session.run("INSERT INTO tandem_epoch (writer, epoch) VALUES (?, ?)", &[name, number]).await?;
        }
        Some(_) if epoch == Epoch(0) => {}
        Some(highest) if highest > epoch.0 => return Ok(Standing::Overtaken(Epoch(highest))),
        Some(highest) if highest < epoch.0 => {
            session.run("UPDATE tandem_epoch SET epoch = ? WHERE writer = ?", &[number, name]).await?;
        }
        Some(_) => {}
    }
    Ok(Standing::Ours)
}

/// What is wrong, with the mend.
pub fn overtaken(session: &Session, highest: Epoch, own: Epoch) -> StoreError {
    StoreError {
        place: session.place.clone(),
        reason: format!(
            "it was written under epoch {} and this node acts under {}: another node of the cluster is active; if there \
             is none because the cluster was made anew, UPDATE tandem_epoch SET epoch = 0 WHERE writer = 'location'",
            highest.0, own.0
        ),
    }
}
