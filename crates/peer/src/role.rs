//! The machine that the node's role wants, behind the lock, with what it wants sent.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use engine::Outcome;
use replica::{ConnectionNumber, Holdings, Receiver, Sender, SenderOutput, Wanted};

/// Bytes that one write takes: what is small goes together, what is large does not wait for all of it.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Connections that are still to be closed: more than can be open.
const CLOSING_MAX: usize = 64;

/// What stands behind the lock.
#[derive(Debug)]
pub(crate) enum Role {
    Active(Box<Active>),
    Standby(Box<Standby>),
    /// Between two roles.
    Changing,
}

#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) sender: Sender,
    pub(crate) outbox: Outbox,
    /// What owners are to be asked.
    pub(crate) wanted: Vec<Wanted>,
}

#[derive(Debug)]
pub(crate) struct Standby {
    pub(crate) receiver: Receiver,
    /// Connections that are to be closed by those who serve them.
    pub(crate) closing: BTreeSet<ConnectionNumber>,
}

/// What waits to be written to one connection. The sender's window bounds it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// The connection; what comes for another is dropped.
    pub(crate) connection: Option<u64>,
}

/// What the sender wants of others than the connection.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    pub(crate) settled: Vec<(replica::Ticket, Outcome)>,
    pub(crate) superseded: Option<replica::Epoch>,
}

impl Role {
    /// What the node holds, whatever its role was.
    pub(crate) fn into_holdings(self) -> Holdings {
        match self {
            Self::Active(active) => active.sender.into_holdings(),
            Self::Standby(standby) => standby.receiver.into_holdings(),
            Self::Changing => Holdings::new(),
        }
    }
}

impl Active {
    /// Sorts what the sender wants.
    pub(crate) fn sort(&mut self, outputs: &mut Vec<SenderOutput>, aside: &mut Aside) {
        for output in outputs.drain(..) {
            match output {
                SenderOutput::Send(bytes) => self.outbox.push(bytes),
                SenderOutput::Held(ticket) => aside.settled.push((ticket, Outcome::Held)),
                SenderOutput::Degraded(ticket, cause) => {
                    aside.settled.push((ticket, Outcome::Degraded(cause)));
                }
                SenderOutput::Fetch(wanted) => self.wanted.extend(wanted),
                SenderOutput::Close(cause) => {
                    tracing::info!(?cause, "the connection to the standby is closed");
                    self.outbox.close();
                }
                SenderOutput::Superseded(epoch) => aside.superseded = Some(epoch),
            }
        }
    }
}

impl Standby {
    pub(crate) fn new(receiver: Receiver) -> Self {
        Self { receiver, closing: BTreeSet::new() }
    }

    /// Has a connection closed by who serves it, at its next frame.
    pub(crate) fn close(&mut self, connection: ConnectionNumber) {
        self.closing.insert(connection);
        // Numbers of connections that are gone are never asked for again.
        while self.closing.len() > CLOSING_MAX {
            self.closing.pop_first();
        }
    }
}

impl Outbox {
    /// Begins a connection.
    pub(crate) fn open(&mut self, connection: u64) {
        self.pieces.clear();
        self.connection = Some(connection);
    }

    /// Nothing more is written.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
    }

    /// The next bytes to be written; `None`: the connection is to end.
    pub(crate) fn take(&mut self, connection: u64) -> Option<BytesMut> {
        if self.connection != Some(connection) {
            return None;
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.pieces.front() {
            if !bytes.is_empty() && bytes.len() + piece.len() > WRITE_BYTES_MAX {
                break;
            }
            bytes.extend_from_slice(piece);
            self.pieces.pop_front();
        }
        Some(bytes)
    }

    fn push(&mut self, bytes: Bytes) {
        if self.connection.is_some() {
            self.pieces.push_back(bytes);
        }
    }
}
