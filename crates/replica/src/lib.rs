//! Who holds which piece of state: capsules on their way from the active node to the standby.
//!
//! A [`Capsule`] is the copy of one entry of somebody's table: a kind, a key, bytes that only their owner understands, and
//! the time that is left. Nothing here knows what they mean. The [`Sender`] of the active node turns changes into one
//! ordered stream and says when the peer holds them; the [`Receiver`] of the standby hands them to their owners and
//! acknowledges. Neither keeps a copy of any entry: [`Holdings`] are what a node knows of its entries without having them,
//! and they pass from the receiver to the sender when the node becomes active, at no cost for any number of entries.
//!
//! **One way to become equal.** Both ends keep sums over keyed hashes of their entries, in buckets. The sender puts its sums
//! into the stream, the receiver says which differ, tells what it has there, and the sender sends what it lacks, in pieces
//! that it asks the owners for. A standby that is empty, one that was away for a while and one with a single wrong entry differ
//! only in how many buckets differ, so there is no other snapshot. Changes go on in the same stream meanwhile: what a piece
//! brings is the entry as it is when it is sent.
//!
//! **The active never waits and never grows.** What is sent and not acknowledged is bounded by a window. When it is full the
//! standby is stale: nothing more is sent but to find out, once it has caught up, what it lacks.
//!
//! Everything here is a machine without I/O. The outputs of one input are carried out before the next input.
//!
//! Invariant: what was said to be held was applied by the peer, after everything that was sent before it.

mod capsule;
#[cfg(test)]
mod compatibility;
mod counts;
mod digest;
pub mod fault;
mod frame;
mod framing;
mod greeting;
mod holdings;
mod receiver;
mod sender;

pub use capsule::{Capsule, Kind, Name, Place, Ticket};
pub use counts::{ReceiverCounts, SenderCounts};
pub use digest::{BUCKETS, DigestKey};
pub use frame::{CAPSULE_BYTES_MAX, FRAME_BYTES_MAX, Frame};
pub use framing::{Deframer, FramingError};
pub use greeting::{Origin, Refusal, turn_away};
pub use holdings::{Holdings, KINDS_MAX};
pub use lease::Epoch;
pub use receiver::{Apply, ConnectionNumber, Known, Output as ReceiverOutput, Receiver, ReceiverView};
pub use sender::{
    Cause, CloseCause, Fetched, Lag, Output as SenderOutput, Posted, Sender, SenderView, WAIT_MAX, Wanted,
};
