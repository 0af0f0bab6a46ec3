//! What an engine needs of a database. The edge calls it; shards and partitions never do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lease::Epoch;
use replica::Place;
use routing::account::{BindingKey, Change, Loaded, StoredNonce};
use routing::{PublishedBinding, StoredBinding};
use sip::Aor;
use transport::{LocalAddr, Transport};

/// Who is told what became of an account under one of its names.
pub type News = Arc<dyn Fn(Aor, Loaded) + Send + Sync>;

/// The sockets of servers beside this one.
pub type Elsewhere = Vec<(Transport, SocketAddr)>;

/// A database behind a bounded queue. No call blocks but those that are named so.
pub trait Store: Send + Sync {
    /// Looks up the account of an address of record, or the account that has it as an alias. `reply` is
    /// called once, from any thread, perhaps late; with [`Loaded::Unavailable`] if the queue is full.
    fn load_account(&self, aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>);

    /// Tells `news` from here on what others have changed in the accounts that were looked up. Called once, before
    /// anything is served; a database that nobody else changes tells nothing.
    fn watch(&self, _news: News) {}

    /// Looks up at which servers beside this one an address of record is registered, in the table that they share. As
    /// [`Store::load_account`], but what can not be known is nothing.
    fn find_elsewhere(&self, _aor: Aor, reply: Box<dyn FnOnce(Elsewhere) + Send>) {
        reply(Vec::new());
    }

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

    /// Tells the store where it can look at the bindings that it is to publish; called once, before anything is served.
    fn attach(&self, _published: Arc<dyn Published>) {}

    /// How the table stands that servers beside this one read; `None`: bindings are not published.
    fn publication(&self) -> Option<Publication> {
        None
    }
}

/// The bindings of a server, as a store publishes them for the servers beside it.
pub trait Published: Send + Sync {
    /// Under which epoch this node acts; `None`: it stands by, and publishes nothing.
    fn epoch(&self) -> Option<Epoch>;

    /// The bindings with these keys as they are by now, each `None` if it has ended.
    fn with_keys(&self, keys: &[BindingKey]) -> Vec<Option<(Place, PublishedBinding)>>;

    /// Where this server listens: rows with such a socket are its own.
    fn listeners(&self) -> Vec<(Transport, LocalAddr)>;

    /// The bindings in these places as they are by now.
    fn at(&self, places: &[Place]) -> Vec<Option<PublishedBinding>>;

    /// A page of all bindings: those behind `behind`, which an earlier page has given; and what the next page is behind, if
    /// there is one. What changes meanwhile is told by [`Store::save`].
    fn page(&self, behind: Option<Page>) -> (Vec<(Place, PublishedBinding)>, Option<Page>);
}

/// How far pages have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The partition that is read.
    pub partition: u16,
    /// The first of its rows that was not.
    pub row: u32,
}

/// How the table stands that servers beside this one read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// What this node does with it.
    pub work: PublicationWork,
    /// What is wrong, if the table can not be written; and for how long by now.
    pub failing: Option<(StoreError, Duration)>,
    /// How many bindings have changed and are not written.
    pub owed: usize,
    /// Rows that were written since the start, the same ones counted again.
    pub written: u64,
    /// Rows that were removed.
    pub removed: u64,
    /// How often the table could not take a binding.
    pub refused: u64,
    /// How often the table was compared with the bindings.
    pub comparisons: u64,
    /// The last comparison.
    pub last: Option<Comparison>,
}

/// What a node does with the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublicationWork {
    /// It stands by.
    #[default]
    None,
    /// It compares the table with the bindings, and writes what differs and what changes.
    Comparing,
    /// It writes what changes.
    Writing,
}

/// How a table was found when it was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// How long ago that ended.
    pub ago: Duration,
    /// How long it took.
    pub took: Duration,
    /// Rows that were there.
    pub rows: u64,
    /// Bindings whose row was missing or differed.
    pub differing: u64,
    /// Rows that belonged to no binding.
    pub strange: u64,
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
    /// The copy of accounts that are on a server; `None`: they are in the file itself.
    pub copy: Option<CopyState>,
}

/// How the copy is that a node has of the accounts of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyState {
    /// Accounts in it.
    pub accounts: usize,
    /// How long ago all of it was the same as on the server; `None`: it never was.
    pub age: Option<Duration>,
    /// Whether accounts are read from it, because the server can not be asked.
    pub is_serving: bool,
}
