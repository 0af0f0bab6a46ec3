//! A user whose phones are registered at a server beside this one, which writes the same table `location`.
//!
//! Such a phone is never sent to directly: its NAT lets in nobody but the server that it registered at. The request goes to that
//! server with the address of record as Request-URI. Invariant: it goes to no server that the operator has not named,
//! and never to a second one by this means, so that servers which look for a phone at each other do not go round.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sip::Message;
use transport::{RemoteAddr, Transport};

use super::aim::{Aim, Hop, Size};
use super::inbound::{Inbound, Turn};
use super::lead::Plan;
use super::round::Round;
use super::suspended::{Sought, Stage};
use super::user::TransactionUser;
use super::{Output, branch};
use crate::{Located, Settings};

/// Servers that one request goes to: a user has phones at one of them, or is on the move between two.
const SERVERS_MAX: usize = 4;

/// How long the store is waited for. A phone that is looked for in vain may be forwarded, and its caller hears nothing until
/// then; whoever is at no such server waits as long.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Whether the servers beside this one are to be asked for a user of whom the location knows this.
pub(super) fn is_sought(
    user: &TransactionUser,
    inbound: &Inbound,
    request: &Message<'_>,
    found: &Located,
) -> bool {
    let peers = &inbound.settings.location_peers;
    let is_nowhere = match found {
        Located::Targets(targets) => targets.is_empty(),
        Located::Ruled(targets, account) => targets.is_empty() && account.calls.forwards.always.is_none(),
        Located::Alias(_) | Located::UnknownAor | Located::Unavailable => false,
    };
    is_nowhere
        && !peers.is_empty()
        // A GRUU is of a phone that has registered here.
        && inbound.routed.gruu.is_none()
        && !peers.contains(&inbound.source.flow.remote().0.ip().to_canonical())
        && !branch::has_been_here(&user.keyring.branch, request)
}

/// Those of the servers that the table names which the operator has named too.
fn named(settings: &Settings, servers: Vec<(Transport, SocketAddr)>) -> Vec<(Transport, SocketAddr)> {
    let is_own = |server: &(Transport, SocketAddr)| {
        settings.listeners.iter().any(|listener| (listener.transport, listener.local.0) == *server)
    };
    let mut named: Vec<_> = servers
        .into_iter()
        .filter(|server| settings.location_peers.contains(&server.1.ip().to_canonical()) && !is_own(server))
        .collect();
    named.sort_unstable();
    named.dedup();
    named.truncate(SERVERS_MAX);
    named
}

impl TransactionUser {
    /// Asks the store where a user is registered who is not here.
    pub(super) fn ask_elsewhere(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: Inbound,
        sought: Sought,
        otherwise: Located,
        out: &mut Vec<Output>,
    ) {
        if !self.waiting.has_room() {
            return self.too_many(turn, &inbound, out);
        }
        let aor = sought.aor.clone();
        let stage = Stage::Elsewhere(turn.key, Box::new(inbound), sought, Box::new(otherwise));
        let token = self.suspend_for(turn.now, stage, WAIT_MAX);
        out.push(Output::FindElsewhere { token, aor });
    }

    /// The store has answered, or has not in time, and knows nobody; `otherwise` is what the location knows.
    pub(super) fn found_elsewhere(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: Inbound,
        sought: Sought,
        servers: Vec<(Transport, SocketAddr)>,
        otherwise: Located,
        out: &mut Vec<Output>,
    ) {
        let servers = named(&inbound.settings, servers);
        if servers.is_empty() {
            return self.located(turn, inbound, sought.look, otherwise, out);
        }
        let aim = |(transport, address)| {
            let mut aim = Aim::at_uri(Bytes::from(format!("sip:{}", sought.aor)), Size::Ignored);
            aim.hops = [Hop::Address(RemoteAddr(address), transport, Size::Ignored)].into();
            aim
        };
        let rounds = vec![Round::new(servers.into_iter().map(aim).collect())];
        let plan = match otherwise {
            Located::Ruled(_, account) => Plan::of_account(rounds, account),
            _ => Plan::of(rounds),
        };
        self.begin(turn, inbound, plan, out);
    }
}
