//! The lease: who is active for a service, agreed on by voters, with clocks that are never compared.
//!
//! Each [`Voter`] grants the lease of a service to one holder at a time, for a duration that the holder asks for, and
//! keeps on disk what it must not forget. A [`Contender`] asks all voters and is active while a majority of their
//! votes counts; it counts each vote from the moment when it *sent* the question, and for less than the voter grants,
//! so that it stops before any voter may grant to another, whatever is slow, lost, doubled, paused or drifts.
//!
//! Everything here is a machine without I/O. Disk, datagrams and the gate are outputs; the edge does them in order and
//! says when they are done.
//!
//! Invariant: at no moment are two contenders active for one service.

pub mod announce;
#[cfg(feature = "test-model")]
pub mod canonical;
pub mod fault;
pub mod guardian;
pub mod health;
pub mod heartbeat;
pub mod link;
pub mod peer;
pub mod row;
pub mod standstill;
pub mod wire;

mod contender;
mod identity;
mod list;
mod message;
mod plan;
mod record;
mod tally;
mod voter;
mod witness;

pub use contender::{Cause, Contender, Output as ContenderOutput, Role};
pub use guardian::Guardian;
pub use identity::{
    HardwareAddress, Holder, Incarnation, ListVersion, MemberId, NodeId, RequestNumber, ServiceId, VoterId,
};
pub use lease::Epoch;
pub use list::{SEATS_MAX, Seat, VoterList};
pub use message::{
    Answer, Ask, HandoverAnswer, HandoverAsk, Here, Message, Refusal, RefusalCause, Release, Verdict,
};
pub use plan::{LEASE_MAX, LeasePlan};
pub use record::{Record, RecordError};
pub use voter::{Alarm as VoterAlarm, Output as VoterOutput, Voter, WriteNumber};
pub use witness::{Output as WitnessOutput, Witness};
