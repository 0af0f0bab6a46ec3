//! Calls that neither side may remember: both are asked, and one that is alone is told so.
//!
//! A phone that vanished sends no BYE, and where the phones refresh nothing (RFC 4028) its call would be up for ever. So each
//! side of a long call gets an OPTIONS within the dialog, as if from the other side, by the way that the dialog's token
//! names. Who says that there is no such call (481), or nothing at all, has none; then the other side gets a BYE and the call
//! is over. Every other answer, a refusal too, shows that somebody is there.
//!
//! Deviation: a proxy speaks for an end (RFC 3261 §12.2). An OPTIONS has the number of the last request of the end that it
//! speaks for, so that the next one that this end sends by itself is not out of order; no phone refuses an equal number by
//! the standard, and one that does shows that it is there. A BYE has the next number: nothing comes after it.
//!
//! Invariant: nothing is sent here without a token that this server sealed for this dialog.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now};
use lease::ActiveLease;
use sip::{Message, Method, Name, NameAddr, RequestBuilder, Status, Uri};
use transaction::ServerKey;

use super::super::Output;
use super::super::dialog_token::Direction;
use super::super::inbound::{Inbound, Sender, Turn};
use super::super::media;
use super::super::own::is_own_route;
use super::super::reply::Reply;
use super::super::user::TransactionUser;
use super::dialog::{End, Ends};
use crate::{CallEnding, CallName, Count, Settings};

/// Requests of this kind that are under way; each may take a minute.
const ERRANDS_MAX: usize = 4_096;
/// Dialogs that are looked after in one step; the others come a moment later.
pub(super) const CHECKED_AT_ONCE: usize = 32;
/// That moment.
const LATER: Duration = Duration::from_secs(1);

/// What was sent within a dialog, by their server keys, which no transaction has.
#[derive(Debug, Default)]
pub(in crate::call) struct Errands(BTreeMap<ServerKey, Errand>);

/// One request.
#[derive(Clone, Debug)]
struct Errand {
    call: CallName,
    /// The tag of whoever answered the call.
    tag: Box<[u8]>,
    to: Direction,
    purpose: Purpose,
}

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Ask,
    HangUp,
}

impl Errands {
    /// Another node is active.
    pub(in crate::call) fn forget(&mut self) {
        self.0.clear();
    }
}

/// When a dialog that begins, or becomes known, at this time is looked after first: calls that came at once do not all
/// become due at once.
pub(in crate::call) fn first_check(now: Instant, settings: &Settings, call: CallName) -> Option<Instant> {
    let interval = settings.proxy.long_call_check?;
    let share = u32::try_from(call.as_u64() % 1_024).unwrap_or_default();
    Some(now + interval + interval * share / 4_096)
}

impl TransactionUser {
    /// Asks both sides of a dialog whether they are there.
    pub(super) fn look_after(&mut self, now: Now, call: CallName, index: usize, out: &mut Vec<Output>) {
        let next = self.settings.proxy.long_call_check.map(|interval| now.instant + interval);
        let found = self.live.change(call, |live| {
            let dialog = live.dialogs.get_mut(index)?;
            dialog.check_at = next;
            let parties = live.parties.as_ref()?;
            Some((parties.call_id.clone(), dialog.tag.clone(), dialog.ends.clone()?))
        });
        let Some(Some((call_id, tag, ends))) = found.filter(|_| next.is_some()) else { return };
        for to in [Direction::ToCaller, Direction::ToCallee] {
            let errand = Errand { call, tag: tag.clone(), to, purpose: Purpose::Ask };
            self.run_errand(now, &call_id, &ends, errand, out);
        }
    }

    /// Too many are due in one step.
    pub(super) fn look_after_later(&mut self, now: Now, call: CallName, index: usize) {
        self.live.change(call, |live| {
            if let Some(dialog) = live.dialogs.get_mut(index) {
                dialog.check_at = Some(now.instant + LATER);
            }
        });
    }

    /// A request of this kind has its best answer; `None`: none will come.
    pub(in crate::call) fn errand_done(
        &mut self,
        now: Now,
        key: ServerKey,
        status: Option<Status>,
        out: &mut Vec<Output>,
    ) {
        let Some(Errand { call, tag, to, purpose }) = self.errands.0.remove(&key) else { return };
        let is_gone = matches!(status, Some(Status::CALL_DOES_NOT_EXIST | Status::REQUEST_TIMEOUT));
        if purpose != Purpose::Ask || !is_gone {
            return;
        }
        let Some(live) = self.live.calls.get(&call) else { return };
        let Some(index) = live.dialogs.iter().position(|dialog| dialog.tag == tag) else { return };
        let found = live.parties.as_ref().map(|it| it.call_id.clone()).zip(live.dialogs[index].ends.clone());
        self.counts.add(Count::CallDead);
        self.dialog_ended(now, call, index, CallEnding::Lost, out);
        if let Some((call_id, ends)) = found {
            let errand = Errand { call, tag, to: to.back(), purpose: Purpose::HangUp };
            self.run_errand(now, &call_id, &ends, errand, out);
        }
    }

    /// Ends a dialog of which no media come: both sides are told. Whether it is known.
    pub fn hang_up(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        call: CallName,
        media_tag: u64,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(live) = self.live.calls.get(&call) else { return false };
        let is_it = |tag: &[u8]| media::media_tag(&self.keyring, tag) == media_tag;
        let Some(index) = live.dialogs.iter().position(|dialog| is_it(&dialog.tag)) else { return false };
        let tag = live.dialogs[index].tag.clone();
        let found = live.parties.as_ref().map(|it| it.call_id.clone()).zip(live.dialogs[index].ends.clone());
        self.counts.add(Count::CallSilent);
        self.dialog_ended(now, call, index, CallEnding::Silent, out);
        let Some((call_id, ends)) = found else { return true };
        for to in [Direction::ToCaller, Direction::ToCallee] {
            let errand = Errand { call, tag: tag.clone(), to, purpose: Purpose::HangUp };
            self.run_errand(now, &call_id, &ends, errand, out);
        }
        true
    }

    fn run_errand(&mut self, now: Now, call_id: &[u8], ends: &Ends, errand: Errand, out: &mut Vec<Output>) {
        if self.errands.0.len() >= ERRANDS_MAX || !self.has_room_for_context() {
            return;
        }
        let Some(bytes) = self.errand_bytes(now, call_id, ends, &errand) else { return };
        let Ok(request) = Message::parse(&bytes) else { return };
        let key = ServerKey::of(&self.keyring.transaction, &request).ok();
        let source = self.settings.listeners.iter().next().and_then(|listener| self.own_source(listener.id));
        let (Some(key), Some(source)) = (key, source) else { return };
        let Ok(mut inbound) = self.inbound(source, &bytes, &request) else { return };
        let Some(side) = self.next_side(&inbound, &request) else { return };
        inbound.sender = Some(Sender::ForAnEnd);
        self.errands.0.insert(key, errand);
        let turn = Turn { now, key, request: &request, flow: inbound.source.flow };
        self.seek_side(turn, inbound, &side, out);
    }

    /// The request as the end would write it that it seems to come from. The Via is no hop, and goes when it leaves.
    fn errand_bytes(&self, now: Now, call_id: &[u8], ends: &Ends, errand: &Errand) -> Option<Bytes> {
        let (from, to) = match errand.to {
            Direction::ToCallee => (&ends.caller, &ends.callee),
            Direction::ToCaller => (&ends.callee, &ends.caller),
        };
        let End { from: local, to: remote, cseq, .. } = from;
        let (method, number) = match errand.purpose {
            Purpose::Ask => (Method::Options, cseq.unwrap_or(0)),
            Purpose::HangUp => (Method::Bye, cseq.map_or(1, |number| number.saturating_add(1))),
        };
        let mac = self.keyring.tag.mac(&[
            b"for an end",
            call_id,
            local,
            remote,
            &now.instant.as_nanos().to_be_bytes(),
        ]);
        let mut via = b"SIP/2.0/UDP own.invalid;branch=z9hG4bK-e-".to_vec();
        keys::hex(&mac.as_bytes()[..8], &mut via);
        let cseq = [number.to_string().as_bytes(), b" ", method.as_bytes()].concat();
        let mut builder = RequestBuilder::new(method, &to.target);
        builder.header(Name::Via, &via);
        for value in self.route(ends, errand.to)? {
            builder.header(Name::Route, &value);
        }
        builder
            .header(Name::MaxForwards, b"71")
            .header(Name::From, local)
            .header(Name::To, remote)
            .header(Name::CallId, call_id)
            .header(Name::CSeq, &cseq);
        if let Some(server) = &self.settings.server {
            builder.header(Name::UserAgent, server.as_bytes());
        }
        let mut bytes = Vec::with_capacity(768);
        builder.write(&mut bytes);
        Some(Bytes::from(bytes))
    }

    /// The way in a direction, from this server on; `None` if it does not lead by here.
    // RFC 3261 §12.1.2: the caller has the values in reverse order.
    fn route(&self, ends: &Ends, to: Direction) -> Option<Vec<Vec<u8>>> {
        let text = [b"OPTIONS sip:a SIP/2.0\r\nRecord-Route: ", &ends.record_route[..], b"\r\n\r\n"].concat();
        let list = Message::parse(&text).ok()?;
        let mut values: Vec<Vec<u8>> = list.values(Name::RecordRoute).map(<[u8]>::to_vec).collect();
        if to == Direction::ToCallee {
            values.reverse();
        }
        let is_ours =
            |value: &Vec<u8>| match NameAddr::parse(value).ok().and_then(|address| address.uri().ok()) {
                Some(Uri::Sip(uri)) => is_own_route(&self.settings, &uri),
                _ => false,
            };
        let first = values.iter().position(is_ours)?;
        values.drain(..first);
        Some(values)
    }

    /// What such a request is answered with that this server can not send on.
    pub(in crate::call) fn errand_failed(
        &mut self,
        now: Now,
        key: ServerKey,
        reply: &Reply,
        out: &mut Vec<Output>,
    ) {
        // What went wrong here says nothing about the phone.
        tracing::debug!(status = reply.status.0, "could not ask within a dialog");
        self.errand_done(now, key, None, out);
    }
}

/// Whether a request speaks for one end of a dialog.
pub(in crate::call) fn is_for_an_end(inbound: &Inbound) -> bool {
    inbound.sender == Some(Sender::ForAnEnd)
}
