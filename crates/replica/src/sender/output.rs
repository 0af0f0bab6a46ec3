//! What a sender wants done, and what is said to it and of it.

use std::time::Duration;

use bytes::Bytes;
use lease::Epoch;

use crate::capsule::{Capsule, Kind, Name, Place, Ticket};
use crate::counts::SenderCounts;
use crate::greeting::{Origin, Refusal};

/// What a sender wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this over the connection.
    Send(Bytes),
    /// The peer holds it.
    Held(Ticket),
    /// The service goes on although the peer may not hold it.
    Degraded(Ticket, Cause),
    /// Ask the owners for these entries as they are; [`crate::Sender::fetched`] takes the answer, for some or for all.
    Fetch(Vec<Wanted>),
    /// Close the connection; it is forgotten already.
    Close(CloseCause),
    /// The peer has seen a higher epoch: this node is not the active one any more.
    Superseded(Epoch),
}

/// Why the peer may not hold something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// There is no peer.
    NoPeer,
    /// It is too slow: it is sent nothing until it has caught up.
    Stale,
    /// It has not said so in time.
    Late,
    /// The connection was lost.
    Lost,
    /// It could not take it.
    Refused,
    /// It is being made equal, and may lack something that was there before.
    NotEqual,
    /// It does not know this kind.
    UnknownKind,
    /// It is longer than a frame may be.
    TooLong,
    /// Too many wait.
    TooMany,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseCause {
    /// The other side does not answer.
    Silent,
    /// It says what makes no sense.
    Malformed,
    /// It counts wrongly.
    WrongSequence,
    /// It does not let this node in.
    Refused(Refusal),
}

/// An entry that is to be fetched from its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is called.
    pub name: Name,
    /// Where it is.
    pub place: Place,
    pub(super) stamp: u64,
    pub(super) round: u64,
}

/// What an owner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What it was asked.
    pub wanted: Wanted,
    /// The entry as it is; `None`: it is gone.
    pub capsule: Option<Capsule>,
}

/// What became of a change: to be given to [`crate::Sender::wait`] by who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Posted(pub(super) Post);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Post {
    /// The frames from the one to the other.
    At(u64, u64),
    Unsent(Cause),
}

/// How far the peer is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Frames on their way.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// How long the oldest one has been on its way.
    pub age: Duration,
}

/// The peer, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderView {
    /// Who it is, if it is there.
    pub peer: Option<Origin>,
    /// How much of everything it has: 0 to 100, and 100 only if all of it.
    pub ready: u8,
    /// How far it is behind.
    pub lag: Lag,
    /// For each kind how many entries are here, and how many were there at the last comparison.
    pub kinds: Vec<(Kind, u64, u64)>,
    /// What happened.
    pub counts: SenderCounts,
}

impl Posted {
    /// A change on a node that has no sender.
    pub fn nowhere() -> Self {
        Self(Post::Unsent(Cause::NoPeer))
    }

    /// Both changes.
    pub fn and(self, later: Self) -> Self {
        match (self.0, later.0) {
            (Post::At(first, last), Post::At(other_first, other_last)) => {
                Self(Post::At(first.min(other_first), last.max(other_last)))
            }
            (Post::Unsent(cause), _) | (_, Post::Unsent(cause)) => Self(Post::Unsent(cause)),
        }
    }
}
