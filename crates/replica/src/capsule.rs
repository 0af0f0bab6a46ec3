//! What is copied, and what both ends call it.

use std::time::Duration;

use bytes::Bytes;

/// What an entry is: a binding, a transaction. The numbers are the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

/// The copy of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capsule {
    /// What it is.
    pub kind: Kind,
    /// The version of its encoding.
    pub format: u32,
    /// What tells it from others of its kind.
    pub key: Bytes,
    /// What its owner makes of it.
    pub bytes: Bytes,
    /// How long it still lasts; never an instant, because no two clocks agree.
    pub left: Duration,
}

/// An entry, as both ends can name it without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What it is.
    pub kind: Kind,
    /// The keyed hash of its key.
    pub hash: u64,
}

/// Where an owner keeps an entry. It means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which of the owners.
    pub owner: u16,
    /// The entry's number with its owner.
    pub number: u64,
}

/// Names somebody who waits until the peer holds something. The caller's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Capsule {
    /// Bytes that count for the window.
    pub(crate) fn len(&self) -> usize {
        self.key.len() + self.bytes.len()
    }
}
