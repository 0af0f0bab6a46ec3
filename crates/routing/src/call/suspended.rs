//! The one way to wait: a request is put aside with its stage, and an answer takes it up again.
//!
//! Each wait has a token that is never used twice. An answer that nobody waits for (the request was
//! cancelled, the deadline has passed) finds nothing and is counted by the caller.

use std::time::Duration;

use ahash::RandomState;
use bytes::Bytes;
use clock::Instant;
use hashbrown::HashMap;
use sip::Aor;
use transaction::ServerKey;

use super::aim::{Absent, Aim};
use super::inbound::Inbound;
use crate::Token;

/// Requests that wait in one shard. When the database hangs, 1,000 requests in each second fill it in
/// the time of [`WAIT_MAX`]; with 2 KB each that is 40 MB.
pub(super) const SUSPENDED_MAX: usize = 20_000;

/// How long a request waits. A client gives up after 32 seconds, and should hear of the trouble before.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// A request that waits.
#[derive(Debug)]
pub(super) struct Suspended {
    /// What it waits for.
    pub(super) stage: Stage,
    /// When it has waited long enough.
    pub(super) deadline: Instant,
}

/// What a request waits for, and what it was.
#[derive(Debug)]
pub(super) enum Stage {
    /// The verdict of this account over its credentials.
    Authenticate(ServerKey, Box<Inbound>, Aor),
    /// The partition's answer to a REGISTER.
    Register(ServerKey, Box<Inbound>),
    /// Where its target is.
    Locate(ServerKey, Box<Inbound>, Sought),
    /// At which servers beside this one its target is; and what the location knows, should it be at none.
    Elsewhere(ServerKey, Box<Inbound>, Sought, Box<crate::Located>),
    /// Where the other side of its dialog is now.
    Side(ServerKey, Box<Inbound>),
    /// The same for an ACK, which has no transaction.
    AckSide(Box<Inbound>),
    /// Where the target of an ACK is.
    AckLocate(Box<Inbound>, Located),
    /// What the DNS says of the name that an ACK goes to.
    AckResolve(Box<Inbound>, Box<Aim>),
    /// What the DNS says of the name that a branch goes to.
    Branch(ServerKey, usize),
    /// The phone that a branch goes to, which has lost its connection, until this time.
    Return(ServerKey, usize, Box<Absent>, Instant),
    /// Whether the gateway that a branch goes to has room for the call.
    Gateway(ServerKey, usize),
    /// That a partition has noted what the registrar behind this edge accepted. No request waits for that.
    Noted,
    /// Where the user is that a call is forwarded to, which its phones did not take.
    Diversion(ServerKey, Sought),
}

/// Whom the location was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sought {
    /// The address of record.
    pub(super) aor: Aor,
    /// By what name.
    pub(super) look: Located,
}

/// How often an address of record was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// By the name in the Request-URI.
    ByName,
    /// By the name that it is an alias of.
    ByAlias,
    /// By the name that a route led to.
    Routed,
}

impl Stage {
    /// The request that waits; a branch waits on behalf of one that has begun.
    pub(super) fn into_inbound(self) -> Option<Inbound> {
        match self {
            Self::Authenticate(_, inbound, _)
            | Self::Register(_, inbound)
            | Self::Locate(_, inbound, _)
            | Self::Elsewhere(_, inbound, ..)
            | Self::Side(_, inbound)
            | Self::AckSide(inbound)
            | Self::AckLocate(inbound, _)
            | Self::AckResolve(inbound, ..) => Some(*inbound),
            Self::Branch(..) | Self::Return(..) | Self::Gateway(..) | Self::Diversion(..) | Self::Noted => {
                None
            }
        }
    }

    /// The bytes of the request that waits.
    pub(super) fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Authenticate(_, inbound, _)
            | Self::Register(_, inbound)
            | Self::Locate(_, inbound, _)
            | Self::Elsewhere(_, inbound, ..)
            | Self::Side(_, inbound)
            | Self::AckSide(inbound)
            | Self::AckLocate(inbound, _)
            | Self::AckResolve(inbound, ..) => Some(inbound.bytes.clone()),
            Self::Branch(..) | Self::Return(..) | Self::Gateway(..) | Self::Diversion(..) | Self::Noted => {
                None
            }
        }
    }

    /// The server transaction that ends the wait when it is cancelled.
    pub(super) fn server(&self) -> Option<ServerKey> {
        match self {
            Self::Authenticate(key, ..)
            | Self::Register(key, _)
            | Self::Locate(key, ..)
            | Self::Elsewhere(key, ..)
            | Self::Side(key, _) => Some(*key),
            Self::AckSide(_)
            | Self::AckLocate(..)
            | Self::AckResolve(..)
            | Self::Branch(..)
            | Self::Return(..)
            | Self::Gateway(..)
            | Self::Diversion(..)
            | Self::Noted => None,
        }
    }
}

/// All requests of one shard that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    next: u64,
    by_token: HashMap<Token, Suspended, RandomState>,
    by_server: HashMap<ServerKey, Token, RandomState>,
}

impl Waiting {
    /// Nobody waits. `shard` and `boot` keep the tokens apart from those of others and of earlier starts.
    pub(super) fn new(shard: u16, boot: u32) -> Self {
        // 16 bits of the shard, 48 bits that count up from a place of this start.
        let next = u64::from(shard) << 48 | u64::from(boot & 0xffff) << 32;
        Self {
            next,
            by_token: HashMap::with_hasher(fixed_hasher()),
            by_server: HashMap::with_hasher(fixed_hasher()),
        }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.by_token.len() < SUSPENDED_MAX
    }

    /// Puts a request aside until this deadline. The caller has asked for room.
    pub(super) fn suspend(&mut self, deadline: Instant, stage: Stage) -> Token {
        let token = Token(self.next);
        self.next += 1;
        if let Some(server) = stage.server() {
            self.by_server.insert(server, token);
        }
        self.by_token.insert(token, Suspended { stage, deadline });
        token
    }

    /// Takes up again what waits for this answer.
    pub(super) fn resume(&mut self, token: Token) -> Option<Stage> {
        let suspended = self.by_token.remove(&token)?;
        if let Some(server) = suspended.stage.server() {
            self.by_server.remove(&server);
        }
        Some(suspended.stage)
    }

    /// Takes up what has waited too long, if it has.
    pub(super) fn expire(&mut self, token: Token, now: Instant) -> Option<Stage> {
        (self.by_token.get(&token)?.deadline <= now).then(|| self.resume(token))?
    }

    /// Takes out the request of a server transaction.
    pub(super) fn cancel(&mut self, server: ServerKey) -> Option<Stage> {
        let token = self.by_server.get(&server).copied()?;
        self.resume(token)
    }

    /// Nobody waits any more. The answers that still come find nothing: no token is given twice.
    pub(super) fn forget_all(&mut self) {
        self.by_token = HashMap::with_hasher(fixed_hasher());
        self.by_server = HashMap::with_hasher(fixed_hasher());
    }

    /// What the request of a server transaction waits for.
    pub(super) fn of_server(&self, server: ServerKey) -> Option<&Stage> {
        self.of_token(*self.by_server.get(&server)?)
    }

    /// What waits for this answer.
    pub(super) fn of_token(&self, token: Token) -> Option<&Stage> {
        self.by_token.get(&token).map(|suspended| &suspended.stage)
    }

    /// When each wait is over.
    #[cfg(test)]
    pub(super) fn deadlines(&self) -> Vec<(Instant, Token)> {
        self.by_token.iter().map(|(token, suspended)| (suspended.deadline, *token)).collect()
    }

    /// The answer that the request of a server transaction waits for.
    #[cfg(test)]
    pub(super) fn token_of(&self, server: ServerKey) -> Option<Token> {
        self.by_server.get(&server).copied()
    }

    /// The server transactions whose requests wait, in no order.
    pub(super) fn servers(&self) -> impl Iterator<Item = ServerKey> {
        self.by_server.keys().copied()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.by_token.len()
    }
}

/// The keys of these tables are hashes that a stranger can not foresee, or numbers of this shard's own, so the seeds
/// need not be secret; equal runs give equal results.
pub(super) fn fixed_hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}
