//! Requests within a dialog, and the ACK to a 2xx: relayed by the token that this server sealed.

use bytes::Bytes;
use clock::Now;
use sip::{Aor, Message, Method, Status};
use transport::Source;

use super::admission;
use super::aim::{Aim, Outlook, Size, Step};
use super::dialog_token::{DialogToken, Direction, Side, Way};
use super::forward::{self, Attempt};
use super::inbound::{Inbound, Sender, Turn};
use super::lead::Plan;
use super::proxy::{Resource, resource};
use super::reply::Reply;
use super::round::Round;
use super::suspended::{Located as Look, Stage};
use super::user::TransactionUser;
use super::{Output, edge, media, tag, target, validation};
use crate::bans::Deed;
use crate::{Count, Located, Question, Report, Target};

impl TransactionUser {
    /// A request with a To tag.
    pub(super) fn receive_in_dialog(
        &mut self,
        turn: Turn<'_, '_>,
        mut inbound: Inbound,
        out: &mut Vec<Output>,
    ) {
        // RFC 3261 §10.2: a registration is no part of a dialog.
        let is_registration = turn.request.method() == Some(Method::Register);
        let Some(side) = self.next_side(&inbound, turn.request).filter(|_| !is_registration) else {
            if admission::without_digest(&inbound.settings, &inbound.source) == Some(Sender::Trusted) {
                return self.admitted(turn, inbound, Sender::Trusted, None, out);
            }
            self.counts.add(Count::NoToken);
            return self.refuse_stateless(turn, &Reply::new(Status::CALL_DOES_NOT_EXIST), out);
        };
        // Who moved in mid-call proves who it is, as at the start: the one who was called abroad can not.
        if !self.is_confirmed(&inbound, turn.request) {
            return self.authenticate(turn, inbound, out);
        }
        out.push(Output::Report(Report::shown(inbound.source.flow, Deed::InCall)));
        inbound.sender = Some(Sender::Dialog);
        self.trying(turn, &inbound, out);
        self.seek_side(turn, inbound, &side, out);
    }

    /// Finds out where a side is at present.
    pub(super) fn seek_side(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: Inbound,
        side: &Side,
        out: &mut Vec<Output>,
    ) {
        match &side.binding {
            Some(binding) if self.waiting.has_room() => {
                let aor = binding.aor.clone();
                let token = self.suspend(turn.now, Stage::Side(turn.key, Box::new(inbound)));
                out.push(Output::Ask { partition_of: aor.clone(), token, question: Question::Locate(aor) });
            }
            _ => self.side_found(turn, inbound, &[], out),
        }
    }

    /// The same for a request whose side another node was looking for.
    pub(super) fn seek_side_again(&mut self, turn: Turn<'_, '_>, inbound: Inbound, out: &mut Vec<Output>) {
        match self.next_side(&inbound, turn.request) {
            Some(side) => self.seek_side(turn, inbound, &side, out),
            None => self.respond(turn, &inbound, &Reply::new(Status::CALL_DOES_NOT_EXIST), out),
        }
    }

    /// The present bindings of the side that a request goes to.
    pub(super) fn side_found(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: Inbound,
        targets: &[Target],
        out: &mut Vec<Output>,
    ) {
        let Some(side) = self.next_side(&inbound, turn.request) else { return };
        // A side that is a user of ours and no flow: its Request-URI is looked up like any other.
        let resource = resource(&inbound);
        if is_ours(&resource) && !has_flow(&side) {
            return self.aim(turn, inbound, out);
        }
        let aim = target::side_aim(&self.keyring, &inbound, &side, targets);
        self.begin(turn, inbound, Plan::of(vec![Round::at_server(aim)]), out);
    }

    /// An ACK that no transaction wanted.
    pub(super) fn receive_ack(
        &mut self,
        now: Now,
        source: Source,
        bytes: &Bytes,
        ack: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        if tag::is_derived(&self.keyring.tag, ack) {
            self.counts.add(Count::AckAbsorbed);
            return;
        }
        // RFC 3261 §16.3: an ACK that fails a check is dropped, there is no response to it.
        let mut inbound = match self.inbound(source, bytes, ack) {
            Ok(inbound) if validation::check_forwarding(ack, &inbound.checked).is_ok() => inbound,
            Ok(_) => return,
            Err(refused) => {
                if let Some(count) = refused.count {
                    self.counts.add(count);
                }
                return;
            }
        };
        let Some(side) = self.next_side(&inbound, ack).filter(|_| ack.to_tag().is_some()) else {
            if admission::without_digest(&inbound.settings, &source) == Some(Sender::Trusted) {
                inbound.sender = Some(Sender::Trusted);
                return self.aim_ack(now, ack, inbound, Look::ByName, out);
            }
            self.counts.add(Count::NoToken);
            out.push(Output::Report(Report::of(source.flow, Deed::Unproven)));
            return;
        };
        inbound.sender = Some(Sender::Dialog);
        match &side.binding {
            Some(binding) if self.waiting.has_room() => {
                let aor = binding.aor.clone();
                let token = self.suspend(now, Stage::AckSide(Box::new(inbound)));
                out.push(Output::Ask { partition_of: aor.clone(), token, question: Question::Locate(aor) });
            }
            _ => self.ack_side_found(now, ack, inbound, &[], out),
        }
    }

    /// The present bindings of the side that an ACK goes to.
    pub(super) fn ack_side_found(
        &mut self,
        now: Now,
        ack: &Message<'_>,
        inbound: Inbound,
        targets: &[Target],
        out: &mut Vec<Output>,
    ) {
        let Some(side) = self.next_side(&inbound, ack) else { return };
        if is_ours(&resource(&inbound)) && !has_flow(&side) {
            return self.aim_ack(now, ack, inbound, Look::ByName, out);
        }
        let aim = target::side_aim(&self.keyring, &inbound, &side, targets);
        self.send_ack(now, ack, inbound, aim, out);
    }

    /// Sends an ACK, or waits for the addresses of the name that it goes to.
    pub(super) fn send_ack(
        &mut self,
        now: Now,
        ack: &Message<'_>,
        inbound: Inbound,
        mut aim: Aim,
        out: &mut Vec<Output>,
    ) {
        let outlook =
            Outlook { keyring: &self.keyring, inbound: &inbound, avoided: &self.avoided, now: now.instant };
        match aim.step(outlook) {
            Step::Send(to, transport, _) => {
                let attempt = Attempt {
                    inbound: &inbound,
                    aim: &aim,
                    to,
                    transport,
                    round: 0,
                    number: 0,
                    breadth: 1,
                    credentials: &[],
                    anchor: None,
                };
                if let Some(forwarded) = forward::request(&self.keyring, ack, &attempt) {
                    let ask = self.ask_in_dialog(&inbound, ack);
                    out.push(media::passing(ask, Output::SendStateless { to, message: forwarded.bytes }));
                }
            }
            Step::Lookup(query, time) => {
                if self.waiting.has_room() {
                    let stage = Stage::AckResolve(Box::new(inbound), Box::new(aim));
                    let token = self.suspend_for(now, stage, time);
                    out.push(Output::Resolve { token, query });
                } else {
                    self.counts.add(Count::Full);
                }
            }
            // Whoever has sent the 2xx repeats it, and then the ACK comes again.
            Step::Await(_) | Step::Exhausted(_) => {}
        }
    }

    /// The location has answered for an ACK.
    pub(super) fn ack_located(
        &mut self,
        now: Now,
        ack: &Message<'_>,
        inbound: Inbound,
        look: Look,
        found: Located,
        out: &mut Vec<Output>,
    ) {
        match (found, look) {
            // One ACK goes one way; more targets than one means that it names no phone.
            // The flows of the one phone that a GRUU means come newest first.
            (Located::Targets(mut targets), _) if targets.len() == 1 || inbound.routed.gruu.is_some() => {
                targets.truncate(1);
                if let Some(target) = targets.pop() {
                    let aim = target::aim(&self.keyring, target);
                    self.send_ack(now, ack, inbound, aim, out);
                }
            }
            (Located::Alias(aor), Look::ByName | Look::Routed) => {
                self.locate_ack(now, inbound, aor, Look::ByAlias, out)
            }
            _ => {}
        }
    }

    /// Finds out where an ACK goes that has no flow.
    fn aim_ack(&mut self, now: Now, ack: &Message<'_>, inbound: Inbound, look: Look, out: &mut Vec<Output>) {
        match resource(&inbound) {
            Resource::User(aor) => self.locate_ack(now, inbound, aor, look, out),
            Resource::Foreign => {
                let aim = Aim::at_uri(inbound.routed.request_uri.clone(), Size::Counts);
                self.send_ack(now, ack, inbound, aim, out);
            }
            Resource::Ourselves | Resource::Number | Resource::Nobody => {}
        }
    }

    fn locate_ack(&mut self, now: Now, inbound: Inbound, aor: Aor, look: Look, out: &mut Vec<Output>) {
        if !self.waiting.has_room() {
            self.counts.add(Count::Full);
            return;
        }
        let question = inbound.routed.where_is(aor.clone());
        let token = self.suspend(now, Stage::AckLocate(Box::new(inbound), look));
        out.push(Output::Ask { partition_of: aor, token, question });
    }

    /// The side that a request goes to by its token; `None` without one.
    pub(super) fn next_side(&self, inbound: &Inbound, request: &Message<'_>) -> Option<Side> {
        let token = inbound.routed.token.as_ref()?;
        Some(token.side(self.direction(token, request)?).clone())
    }

    fn direction(&self, token: &DialogToken, request: &Message<'_>) -> Option<Direction> {
        let (from, to) = (request.from_tag().unwrap_or_default(), request.to_tag().unwrap_or_default());
        token.direction(&self.keyring, from, to)
    }

    /// Whether a request comes from where the token says, or from somebody who needs no digest.
    fn is_confirmed(&self, inbound: &Inbound, request: &Message<'_>) -> bool {
        let Some(token) = &inbound.routed.token else { return false };
        let direction = self.direction(token, request);
        direction.is_some_and(|direction| token.confirms(direction, &inbound.source.flow))
            || edge::is_towards_registrar(inbound)
            || admission::without_digest(&inbound.settings, &inbound.source).is_some()
    }
}

/// Whether this server says where a request goes.
fn is_ours(resource: &Resource) -> bool {
    matches!(resource, Resource::User(_) | Resource::Ourselves | Resource::Nobody)
}

fn has_flow(side: &Side) -> bool {
    side.way != Way::Uri
}
