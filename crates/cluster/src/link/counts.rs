//! What came and why it was discarded.

use super::Received;

/// Why a datagram was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// It is no datagram of a cluster.
    Garbage,
    /// A member of another version.
    Version(u8),
    /// It is from or for a member that is not in the configuration.
    NotForUs,
    /// It was sealed with another key, or changed on its way.
    WrongKey,
    /// It came before, long ago.
    Replayed,
    /// It belongs to a session of before a start.
    UnknownSession,
    /// Too many handshakes.
    TooMany,
}

impl Discard {
    /// How an operator is told of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Garbage => "no datagram of a cluster",
            Self::Version(_) => "another version",
            Self::NotForUs => "not for this node",
            Self::WrongKey => "wrong key",
            Self::Replayed => "replayed",
            Self::UnknownSession => "of a session before a start",
            Self::TooMany => "too many handshakes",
        }
    }
}

/// How often each happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Messages that were given on.
    pub messages: u64,
    /// Copies of them by other paths.
    pub copies: u64,
    /// Parts of handshakes.
    pub handshakes: u64,
    /// See [`Discard::Garbage`].
    pub garbage: u64,
    /// See [`Discard::Version`].
    pub versions: u64,
    /// The version of the last such datagram.
    pub last_version: u8,
    /// See [`Discard::NotForUs`].
    pub not_for_us: u64,
    /// See [`Discard::WrongKey`].
    pub wrong_keys: u64,
    /// See [`Discard::Replayed`].
    pub replayed: u64,
    /// See [`Discard::UnknownSession`].
    pub unknown_sessions: u64,
    /// See [`Discard::TooMany`].
    pub too_many: u64,
}

impl LinkCounts {
    pub(super) fn count(&mut self, received: &Received) {
        let counter = match received {
            Received::Message(..) => &mut self.messages,
            Received::Copy(_) => &mut self.copies,
            Received::Handshake(_) => &mut self.handshakes,
            Received::Discarded(discard) => match discard {
                Discard::Garbage => &mut self.garbage,
                Discard::Version(version) => {
                    self.last_version = *version;
                    &mut self.versions
                }
                Discard::NotForUs => &mut self.not_for_us,
                Discard::WrongKey => &mut self.wrong_keys,
                Discard::Replayed => &mut self.replayed,
                Discard::UnknownSession => &mut self.unknown_sessions,
                Discard::TooMany => &mut self.too_many,
            },
        };
        *counter += 1;
    }
}
