//! A transaction as it is carried to another node, which goes on with it: what it keeps, and how much time is left.
//!
//! There is no instant in it, because two hosts have different clocks. Nothing is sent when one is stored or restored.
//!
//! Invariant: a transaction that was stored and restored at one moment does from then on what the original would do.

use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use sip::MethodName;

use crate::Progress;
use crate::timers::Retransmission;

/// A server transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredServer {
    /// The method of its request.
    pub method: MethodName,
    /// Whether its request came by a stream.
    pub reliable: bool,
    /// How long ago its request came.
    pub age: Duration,
    /// How far its request is.
    pub progress: Progress,
    /// How far it is itself.
    pub state: ServerState,
}

/// How far a server transaction is. `left` is the time to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// An INVITE without a final response.
    InviteProceeding {
        /// The last provisional response.
        provisional: Option<Bytes>,
    },
    /// An INVITE whose 300-699 is not acknowledged.
    InviteCompleted {
        /// The response.
        response: Bytes,
        /// When it is sent again.
        repeat: Option<Repeat>,
        /// Timer H.
        left: Duration,
    },
    /// An INVITE that has a 2xx.
    InviteAccepted {
        /// Timer L.
        left: Duration,
    },
    /// An INVITE whose 300-699 is acknowledged.
    InviteConfirmed {
        /// Timer I.
        left: Duration,
    },
    /// Another request, to which nothing was said.
    Trying {
        /// Until nobody waits for an answer any more.
        left: Duration,
    },
    /// Another request that got a 100.
    Proceeding {
        /// The 100.
        provisional: Bytes,
        /// As in `Trying`.
        left: Duration,
    },
    /// Another request that has its final response.
    Completed {
        /// The response.
        response: Bytes,
        /// Timer J.
        left: Duration,
    },
}

/// A client transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredClient {
    /// Whether its request went by a stream.
    pub reliable: bool,
    /// How far it is.
    pub state: ClientState,
}

/// How far a client transaction is. `left` is the time to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// An INVITE without a response.
    InviteCalling {
        /// The INVITE.
        request: Bytes,
        /// When it is sent again.
        repeat: Option<Repeat>,
        /// Timer B.
        left: Duration,
    },
    /// An INVITE with a provisional response.
    InviteProceeding {
        /// The INVITE, of which an ACK may have to be made.
        request: Bytes,
    },
    /// An INVITE with a 300-699.
    InviteCompleted {
        /// The ACK.
        ack: Bytes,
        /// Timer D.
        left: Duration,
    },
    /// An INVITE with a 2xx.
    InviteAccepted {
        /// Timer M.
        left: Duration,
    },
    /// Another request without a response.
    Trying {
        /// The request.
        request: Bytes,
        /// When it is sent again.
        repeat: Option<Repeat>,
        /// Timer F.
        left: Duration,
    },
    /// Another request with a provisional response.
    Proceeding {
        /// The request.
        request: Bytes,
        /// When it is sent again.
        repeat: Option<Repeat>,
        /// Timer F.
        left: Duration,
    },
    /// Another request with its final response.
    Completed {
        /// Timer K.
        left: Duration,
    },
}

/// When a message is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// In so long.
    pub after: Duration,
    /// After how long that was decided: the next time is up to twice as far.
    pub interval: Duration,
}

impl StoredServer {
    /// The same after some time in which nothing happened to it.
    pub fn aged(mut self, by: Duration) -> Self {
        self.age = self.age.saturating_add(by);
        match &mut self.state {
            ServerState::InviteProceeding { .. } => {}
            ServerState::InviteCompleted { repeat, left, .. } => {
                age(left, by);
                age_repeat(repeat, by);
            }
            ServerState::InviteAccepted { left }
            | ServerState::InviteConfirmed { left }
            | ServerState::Trying { left }
            | ServerState::Proceeding { left, .. }
            | ServerState::Completed { left, .. } => age(left, by),
        }
        self
    }
}

impl StoredClient {
    /// As [`StoredServer::aged`].
    pub fn aged(mut self, by: Duration) -> Self {
        match &mut self.state {
            ClientState::InviteProceeding { .. } => {}
            ClientState::InviteCalling { repeat, left, .. }
            | ClientState::Trying { repeat, left, .. }
            | ClientState::Proceeding { repeat, left, .. } => {
                age(left, by);
                age_repeat(repeat, by);
            }
            ClientState::InviteCompleted { left, .. }
            | ClientState::InviteAccepted { left }
            | ClientState::Completed { left } => age(left, by),
        }
        self
    }
}

impl Repeat {
    pub(crate) fn of(now: Instant, timer: Option<Retransmission>) -> Option<Self> {
        timer.map(|timer| Self { after: timer.at.since(now), interval: timer.interval() })
    }

    pub(crate) fn restored(now: Instant, repeat: Option<Self>) -> Option<Retransmission> {
        repeat.map(|Self { after, interval }| Retransmission::restored(now + after, interval))
    }
}

fn age(left: &mut Duration, by: Duration) {
    *left = left.saturating_sub(by);
}

fn age_repeat(repeat: &mut Option<Repeat>, by: Duration) {
    if let Some(repeat) = repeat {
        age(&mut repeat.after, by);
    }
}
