//! Who owns the entries: what a peer asks of them and tells them.

use replica::{Apply, Cause, Epoch, Fetched, Kind, Place, Ticket, Wanted};

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer holds it.
    Held,
    /// It may not, and the service goes on.
    Degraded(Cause),
}

/// The owners of all entries. No call may block for longer than a short lock, and none is made while the peer's own lock is
/// held, so that an owner may call [`crate::Peer`] while it holds its lock; but not change the peer's role, which waits for
/// owners that are at work.
pub trait Owners: Send + Sync + 'static {
    /// On the standby: takes an entry; `None` if there is no room for it, and then the earlier version stays.
    fn apply(&self, apply: Apply) -> Option<Place>;

    /// On the standby: ends an entry.
    fn remove(&self, kind: Kind, place: Place);

    /// On the active node: the entries as they are, each one that is asked for.
    fn fetch(&self, wanted: Vec<Wanted>) -> Vec<Fetched>;

    /// On the active node: these waits have ended.
    fn settled(&self, settled: &[(Ticket, Outcome)]);

    /// The peer knows of a higher epoch: this node is not the active one any more.
    fn superseded(&self, epoch: Epoch);
}
