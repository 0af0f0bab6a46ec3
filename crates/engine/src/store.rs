//! What an engine needs of a database. The edge calls it; shards and partitions never do.

use routing::StoredBinding;
use routing::account::{Change, Loaded, StoredNonce};
use sip::Aor;

/// A database behind a bounded queue. No call blocks but those that are named so.
pub trait Store: Send + Sync {
    /// Looks up the account of an address of record, or the account that has it as an alias. `reply` is
    /// called once, from any thread, perhaps late; with [`Loaded::Unavailable`] if the queue is full.
    fn load_account(&self, aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>);

    /// Queues a change. Changes of one address of record are written in their order.
    fn save(&self, change: Change);

    /// Queues the nonces that are in use, so that they survive a restart.
    fn save_nonces(&self, nonces: Vec<StoredNonce>);

    /// All bindings that have not ended. Blocks; called once before anything is served.
    fn bindings(&self) -> Result<Vec<StoredBinding>, StoreError>;

    /// All nonces that are still good. Blocks; called once before anything is served.
    fn nonces(&self) -> Result<Vec<StoredNonce>, StoreError>;

    /// Writes everything that is queued. Blocks; called at a clean stop.
    fn flush(&self) -> Result<(), StoreError>;

    /// How the store is.
    fn state(&self) -> StoreState;
}

/// The database can not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// Which file or server.
    pub place: String,
    /// What it said.
    pub reason: String,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for StoreError {}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreState {
    /// What is wrong, if it fails.
    pub failing: Option<StoreError>,
    /// How many changes are not yet written.
    pub owed: usize,
    /// How many changes found no place in the queue and are lost to the database (memory has them).
    pub dropped: u64,
}
