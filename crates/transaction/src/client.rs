//! A client transaction of either kind, with where its request goes.

use bytes::Bytes;
use clock::Instant;

use crate::invite_client::InviteClient;
use crate::non_invite_client::NonInviteClient;
use crate::stored::StoredClient;
use crate::timers::Timers;
use crate::transactions::Kind;

#[derive(Debug)]
pub(crate) struct Client<D> {
    pub machine: ClientMachine,
    pub to: D,
}

#[derive(Debug)]
pub(crate) enum ClientMachine {
    Invite(InviteClient),
    NonInvite(NonInviteClient),
}

impl<D> Client<D> {
    /// The transaction of a request that is sent now.
    pub fn new(now: Instant, timers: &Timers, kind: Kind, request: Bytes, to: D, reliable: bool) -> Self {
        let machine = match kind {
            Kind::Invite => ClientMachine::Invite(InviteClient::new(now, timers, request, reliable)),
            Kind::NonInvite => ClientMachine::NonInvite(NonInviteClient::new(now, timers, request, reliable)),
        };
        Self { machine, to }
    }

    /// What another node goes on with; `None` once it has ended.
    pub fn stored(&self, now: Instant) -> Option<StoredClient> {
        let (state, reliable) = match &self.machine {
            ClientMachine::Invite(machine) => (machine.stored(now)?, machine.is_reliable()),
            ClientMachine::NonInvite(machine) => (machine.stored(now)?, machine.is_reliable()),
        };
        Some(StoredClient { reliable, state })
    }

    /// Goes on with what was stored.
    pub fn restored(now: Instant, stored: StoredClient, to: D) -> Self {
        let StoredClient { reliable, state } = stored;
        let machine = match NonInviteClient::restored(now, state.clone(), reliable) {
            Some(machine) => ClientMachine::NonInvite(machine),
            None => ClientMachine::Invite(
                InviteClient::restored(now, state, reliable).expect("each state is of one of the two"),
            ),
        };
        Self { machine, to }
    }
}

impl ClientMachine {
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
