//! The edge that runs an engine: sockets, threads, clocks, and the way between the machines.
//!
//! One event loop per core takes datagrams in batches from a socket of its own on each UDP listener; TCP and
//! the resolver run on tokio. Both hand messages to the shard of their Call-ID, carry questions from
//! shards to partitions and answers back in the same batch, and send what comes out. Locks exist
//! here alone, one for each shard and partition and one for the bans, and no thread holds two of them. Whom a message
//! comes from is judged by the bans before a shard is locked.
//!
//! What may be done at all a [`Lease`] says: each step of a machine takes its proof, and each send from a virtual address
//! looks at it once more. A standby is silent there, and says on the node's own addresses that it is one.
//!
//! With a peer, whoever lets a partition act has the changes told to the other node under the same lock, and lets answers
//! wait for it; a standby's partitions take what the active node tells (`copies`).
//!
//! [`Server`] is all that the program sees. It restores what the store has before it serves, takes a reload
//! without touching listeners that stay, and writes all down when it stops.

mod alarm;
mod bans;
mod carrier;
mod clocks;
mod copies;
#[cfg(test)]
#[allow(unsafe_code)]
#[path = "../../sip/tests/support/counting_allocator.rs"]
mod counting_allocator;
mod early;
mod edge;
mod import;
mod latency;
mod machines;
mod mandate;
mod numbering;
mod option;
mod overload;
mod owners;
mod published;
mod relay;
mod resolver;
mod rtpengine;
mod seat;
mod server;
mod socket;
mod status;
mod stream;
mod tally;
#[cfg(test)]
mod test_settings;
mod udp;
mod upkeep;

pub use engine::{ByRole, PeerView, Readiness, RelaySettings, Traffic};
pub use import::{HeldBy, StandsBy};
pub use latency::Latency;
pub use mandate::{Lease, Permanent};
pub use media::stream::{SideFigures, StreamFigures};
pub use relay::{KernelPath, KernelWay, PacketEnds, RelayPath, RelayRules};
pub use routing::account::{BindingView, Imported, SlowedName};
pub use routing::bans::{Ban, Cause, Measure, NeverBanned, SourceNetwork};
pub use routing::{CallState, CallView};
pub use server::{
    DRAIN_TIME_MAX, DRAIN_TURNS_MAX, OpenPeer, PeerError, ReloadError, Server, Start, StartError,
};
pub use socket::BindError;
pub use status::{CallStatus, Held, ListenerStatus, OverloadStatus, Status};
pub use stream::Tickler;
pub use tally::DEGRADED;
pub use transport::{ConnectionLimits, Ends, Handshake, LocalAddr, RemoteAddr, Tickle};
