//! The wiring of an engine, pure: which layer hands what to which.
//!
//! A [`Shard`] owns all of a call: it takes messages from the transport, keeps their transactions and
//! asks the transaction user. A [`Partition`] owns all of an address of record. They exchange values:
//! a shard emits [`Output::Ask`], and whoever runs both carries the question over and the answer back. One
//! [`Prober`] watches the gateways of all shards.
//! [`shard_of`] and [`partition_of`] say which of several is the right one; both nodes of a pair
//! agree. With a second node, [`copies`] tells it what changes and takes what it tells, and [`Holding`] says which
//! answer waits until that node holds what it stands for. No rule of a protocol stands here.

mod call_capsule;
mod call_holding;
pub mod copies;
mod holding;
mod media_control;
mod peer;
mod place;
mod records;
mod relay;
mod shard;
mod store;
mod traffic;

pub use call_holding::{CallHolding, HeldMessage};
pub use holding::{Holding, Passage};
pub use media::call_figures::{CallFigures, SideSums};
pub use media_control::{MediaCounts, QuestionToken};
pub use peer::{ByRole, Outcome, OwnEntry, Owners, Peer, PeerCounts, PeerView};
pub use place::{owner_of_shard, partition_of, shard_of, shard_of_call, shard_of_owner};
pub use records::{CallMedia, EndedMedia, RecordNews, Records, take_records};
pub use relay::{RelayEvent, RelayOrder, RelayReport, RelaySettings};
pub use routing::AccountPartition as Partition;
pub use routing::account::{Asker, Change, Loaded, Output as PartitionOutput, SlowedName, StoredNonce};
pub use routing::gateway::{Output as ProberOutput, Prober};
pub use routing::{Readiness, Report, SessionName};
pub use shard::{CallBytes, Output, Settled, Shard, ShardCounts, Waits};
pub use store::{
    Comparison, CopyState, Elsewhere, News, Page, Publication, PublicationWork, Published, Store, StoreError,
    StoreState,
};
pub use traffic::Traffic;
