//! The embedded database: SQLite on threads of its own.
//!
//! Memory is the truth, and the file follows it. [`SqliteStore`] has two threads with a connection
//! each: one reads accounts for those who wait for them, the other writes bindings and nonces behind.
//! What is to be written stands in a bounded queue where a later change of a binding takes the place
//! of an earlier one; every few milliseconds the queue becomes one transaction. A process that is
//! killed loses what is younger than that, at most 100 ms of changes; a clean stop loses nothing. A
//! refresh that changes only a binding's end is appended to a log instead of written to its row.
//!
//! A file that can not be written (read-only, full, damaged) stops nobody: the state says what is
//! wrong, the queue keeps what it has place for, and writing is tried again until it succeeds.
//!
//! Accounts are kept as hashes of every digest algorithm and never as passwords. [`Subscribers`]
//! adds, changes and removes them, beside a running server or without one.

mod bindings;
mod copies;
mod credentials;
mod database;
mod forwards;
mod lookups;
mod names;
mod nonces;
mod queue;
mod records;
mod refreshes;
mod relay_rule;
mod row;
mod schema;
mod server;
mod sqlite_store;
mod subscribers;
mod writer;

pub use credentials::Credentials;
pub use records::{Line, RecordFiles, RecordSettings, RecordState, Sync};
pub use server::address::{BadUrl, HostPlace, LocationSettings, Product, ServerSettings, ServerUrl, Tls};
pub use server::destinations::{Destination, Probes};
pub use server::inspect::{Inspection, inspect};
pub use server::lease_row::{Durability, LeaseRow, Outcome, RowChange, SeenRow};
pub use server::lists::{ListedPeer, Lists, WantedLists, read_lists};
pub use server::location::found::{FoundRow, Home, LeftOut};
pub use server::location::import::LocationTable;
pub use server::records::field::Field as RecordField;
pub use server::records::inspect::{CallInspection, Trial, inspect_calls};
pub use server::records::shape::Others as OtherCallTables;
pub use server::records::writer::{CallDatabase, CallDatabaseState, WrittenFiles};
pub use server::schema::{init as init_server, init_lease};
pub use server::store::ServerStore;
pub use sqlite_store::SqliteStore;
pub use subscribers::{NewSubscriber, Subscriber, SubscriberError, Subscribers, relay_rules};

#[cfg(test)]
mod tests;
