//! Requests that this server sends for itself: they are forwarded like any other, and nobody stands upstream.
//!
//! Such a request is written with a Via that no hop has. It gets a response context, finds its way, fails over and
//! answers challenges like what a phone sends, and that Via goes when it leaves. Its best response does not go
//! upstream but to the machine that wanted it.

use std::sync::Arc;

use clock::Now;
use lease::ActiveLease;
use sip::{Message, SipUri, Status};
use transaction::ServerKey;
use transport::{Flow, ListenerId, RemoteAddr, Source};

use super::Output;
use super::aim::{Aim, Size};
use super::inbound::{Inbound, Sender, Turn};
use super::lead::Plan;
use super::response_context::{Candidate, ResponseContext};
use super::round::Round;
use super::user::TransactionUser;
use crate::Count;
use crate::trunk::{Change, Due, Outcome, RegistrationView, Trunk};

impl TransactionUser {
    /// Keeps those registrations whose Call-ID is ours.
    pub fn assign_registrations(&mut self, is_ours: impl Fn(&[u8]) -> bool) {
        let trunks = &self.settings.trunks;
        self.trunks.registrants.assign(&self.keyring.trunk, trunks, is_ours);
    }

    /// How the registrations stand that this shard keeps.
    pub fn registrations(&self, now: Now) -> Vec<RegistrationView> {
        self.trunks.registrants.views(now.instant)
    }

    /// Takes back the registrations that are not to outlast this server, and makes no others.
    pub fn handle_stop(&mut self, now: Now, _lease: &ActiveLease<'_>, out: &mut Vec<Output>) {
        for due in self.trunks.registrants.handle_stop(now, &self.keyring.trunk) {
            self.originate(now, due, out);
        }
    }

    /// Whether a request of our own is under way.
    pub fn has_own_requests(&self) -> bool {
        self.contexts.values().any(|context| trunk(&context.inbound).is_some())
    }

    /// Sends the REGISTERs that are due.
    pub(super) fn register_due(&mut self, now: Now, out: &mut Vec<Output>) {
        for due in self.trunks.registrants.handle_timeout(now, &self.keyring.trunk) {
            self.originate(now, due, out);
        }
    }

    /// Sends a request of our own.
    fn originate(&mut self, now: Now, due: Due, out: &mut Vec<Output>) {
        let Due { trunk, request: bytes } = due;
        let listener = self.listener_of(&trunk);
        let begun = Message::parse(&bytes).ok().zip(listener).and_then(|(request, listener)| {
            let key = ServerKey::of(&self.keyring.transaction, &request).ok()?;
            let source = self.own_source(listener)?;
            let mut inbound = self.inbound(source, &bytes, &request).ok()?;
            inbound.sender = Some(Sender::Ourselves(Arc::clone(&trunk)));
            let mut aim = Aim::at_uri(inbound.routed.request_uri.clone(), Size::Counts);
            aim.listener = Some(listener);
            aim.account = Some(Arc::clone(&trunk));
            self.has_room_for_context().then_some((key, request, inbound, aim))
        });
        match begun {
            Some((key, request, inbound, aim)) => {
                let turn = Turn { now, key, request: &request, flow: inbound.source.flow };
                self.begin(turn, inbound, Plan::of(vec![Round::at_server(aim)]), out);
            }
            None => self.conclude(now, &trunk, Outcome::Failed(Status::SERVICE_UNAVAILABLE), out),
        }
    }

    /// The best response to a request of our own has come, or none will.
    pub(super) fn conclude_own(
        &mut self,
        now: Now,
        trunk: &Arc<Trunk>,
        context: &mut ResponseContext,
        out: &mut Vec<Output>,
    ) {
        match context.take_best() {
            Some(Candidate::Received(status, bytes)) => match Message::parse(&bytes) {
                Ok(response) => self.conclude(now, trunk, Outcome::Answered(&response), out),
                Err(_) => self.conclude(now, trunk, Outcome::Failed(status), out),
            },
            Some(Candidate::Local(status)) => self.conclude(now, trunk, Outcome::Failed(status), out),
            None => self.conclude(now, trunk, Outcome::Failed(Status::SERVICE_UNAVAILABLE), out),
        }
    }

    fn conclude(&mut self, now: Now, trunk: &Arc<Trunk>, outcome: Outcome<'_, '_>, out: &mut Vec<Output>) {
        let settings = Arc::clone(&self.settings);
        let user = trunk.registration.as_ref().map(|registration| registration.contact_user.as_bytes());
        // A carrier may know us by the address that it saw, and not by the one that we wrote.
        let is_ours = |uri: &SipUri<'_>| uri.user == user;
        let is_accepted = matches!(outcome, Outcome::Answered(response) if response.status().is_some_and(Status::is_success));
        self.counts.add(if is_accepted { Count::CarrierRegistered } else { Count::CarrierNotRegistered });
        let key = self.keyring.trunk;
        let news = match self.trunks.registrants.handle_outcome(now, &key, &trunk.name, outcome, is_ours) {
            // What an account says that is not in force any more is of no interest.
            Some(_) if settings.trunk(&trunk.name) != Some(trunk) => None,
            Some(Change::Registered) => Some(self.trunks.accepted(trunk)),
            Some(Change::Gone) => Some(self.trunks.gone(Arc::clone(&trunk.name))),
            None => None,
        };
        out.extend(news.map(|news| Output::Publish(Arc::new(news))));
    }

    /// The listener that an account wants, else the first: the next hop may need another one.
    fn listener_of(&self, trunk: &Trunk) -> Option<ListenerId> {
        let listeners = &self.settings.listeners;
        let wanted = trunk.registration.as_ref().and_then(|registration| registration.listener);
        match wanted {
            Some((transport, local)) => listeners.find(transport, local),
            None => listeners.iter().next().map(|listener| listener.id),
        }
    }

    pub(super) fn own_source(&self, listener: ListenerId) -> Option<Source> {
        let found = self.settings.listeners.get(listener)?;
        let flow = Flow::Datagram { listener, remote: RemoteAddr(found.local.0) };
        Some(Source { flow, transport: found.transport })
    }
}

/// Whether a request is of our own, in whosever name.
pub(super) fn is_own(inbound: &Inbound) -> bool {
    matches!(inbound.sender, Some(Sender::Ourselves(_) | Sender::ForAnEnd))
}

/// The Via of a request of our own is no hop, and its Contact is the listener's.
pub(super) fn trunk(inbound: &Inbound) -> Option<&Arc<Trunk>> {
    match &inbound.sender {
        Some(Sender::Ourselves(trunk)) => Some(trunk),
        _ => None,
    }
}
