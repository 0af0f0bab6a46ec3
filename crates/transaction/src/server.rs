//! A server transaction of either kind, with where its responses go.

use clock::Instant;
use sip::{Method, MethodName};

use crate::invite_server::InviteServer;
use crate::non_invite_server::NonInviteServer;
use crate::stored::StoredServer;
use crate::timers::Timers;
use crate::transactions::Kind;

#[derive(Debug)]
pub(crate) struct Server<D> {
    pub machine: ServerMachine,
    pub to: D,
    pub arrival: Arrival,
    pub progress: Progress,
}

#[derive(Debug)]
pub(crate) enum ServerMachine {
    Invite(InviteServer),
    NonInvite(NonInviteServer),
}

/// When a request came, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When its transaction began.
    pub at: Instant,
    /// Its method.
    pub method: MethodName,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// It has come.
    Arrived,
    /// It was sent on.
    Forwarded,
    /// It has its final response.
    Answered,
}

impl<D> Server<D> {
    /// The transaction of a request that has just come.
    pub fn new(now: Instant, timers: &Timers, method: Method<'_>, to: D, reliable: bool) -> Self {
        let machine = match Kind::of(method) {
            Kind::Invite => ServerMachine::Invite(InviteServer::new(reliable)),
            Kind::NonInvite => ServerMachine::NonInvite(NonInviteServer::new(now, timers, reliable)),
        };
        let arrival = Arrival { at: now, method: MethodName::from(method) };
        Self { machine, to, arrival, progress: Progress::Arrived }
    }

    /// What another node goes on with; `None` once it has ended.
    pub fn stored(&self, now: Instant) -> Option<StoredServer> {
        let (state, reliable) = match &self.machine {
            ServerMachine::Invite(machine) => (machine.stored(now)?, machine.is_reliable()),
            ServerMachine::NonInvite(machine) => (machine.stored(now)?, machine.is_reliable()),
        };
        let Arrival { at, method } = self.arrival;
        Some(StoredServer { method, reliable, age: now.since(at), progress: self.progress, state })
    }

    /// Goes on with what was stored.
    pub fn restored(now: Instant, stored: StoredServer, to: D) -> Self {
        let StoredServer { method, reliable, age, progress, state } = stored;
        // A host that runs for less time than the request is old has no instant for when it came.
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let at = Instant::from_nanos(now.as_nanos().saturating_sub(age));
        let machine = match NonInviteServer::restored(now, at, state.clone(), reliable) {
            Some(machine) => ServerMachine::NonInvite(machine),
            None => ServerMachine::Invite(
                InviteServer::restored(now, state, reliable).expect("each state is of one of the two"),
            ),
        };
        Self { machine, to, arrival: Arrival { at, method }, progress }
    }
}

impl ServerMachine {
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.deadline(),
            Self::NonInvite(machine) => machine.deadline(),
        }
    }

    pub fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::NonInvite(machine) => machine.is_terminated(),
        }
    }
}
