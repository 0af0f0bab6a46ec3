//! A call as its caller sees it.

use std::time::Duration;

use clock::Instant;
use sip::{Message, Method, Name};
use transaction::ClientKey;

use super::dialog::{Dialog, inside};
use super::message::{ODD_HEADER, Outgoing, cancel, session, text};
use super::order::{CallOrder, Fact, Offer, Output, Patience, Provisional, Role};
use super::{Phone, Purpose, Wake, Way};

/// A call that was made.
#[derive(Debug)]
pub(crate) struct CallerCall {
    pub(super) order: CallOrder,
    state: State,
    /// The INVITE as it was sent last, with its Via.
    invite: Option<(Outgoing, String, ClientKey)>,
    /// Every dialog that a 2xx made, with its ACK.
    pub(super) dialogs: Vec<(Dialog, Vec<u8>)>,
    /// What a reliable provisional response began, with its RSeq.
    pub(super) early: Option<(Dialog, String)>,
    redirected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling { heard: bool, cancel: Cancel },
    Up,
    Ending,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    No,
    /// Waiting for a provisional response.
    Wanted,
    Sent,
}

/// What a caller does later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Cancel,
    GiveUp,
    /// The server rang on and then said no more.
    Lost,
    Reinvite,
    /// The server forgot the re-INVITE.
    ReinviteLost,
    Refer,
    Update,
    HangUp,
    /// No call lasts for ever.
    Guard,
}

/// Both sides end a call that lasts longer, so that a lost BYE leaves nothing.
pub(crate) const CALL_TIME_MAX: Duration = Duration::from_secs(240);

/// A caller that hears nothing for so long gives up: longer than any timer of the server.
const RING_TIME_MAX: Duration = Duration::from_secs(400);

// RFC 3261 §9.1: the client gives up 64*T1 after its CANCEL.
const AFTER_CANCEL: Duration = Duration::from_secs(32);

impl CallerCall {
    /// The script's number of it.
    pub(crate) fn number(&self) -> u32 {
        self.order.number
    }

    /// Whether it is being set up or is up.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Calling { .. } | State::Up)
    }

    /// Whether the caller gave up while it was being set up.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self.state, State::Calling { cancel: Cancel::Wanted | Cancel::Sent, .. })
    }

    /// Whether nothing of it is left.
    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }
}

impl Phone {
    /// Makes a call.
    pub(crate) fn call(&mut self, now: Instant, order: CallOrder, out: &mut Vec<Output>) {
        if !self.powered {
            return;
        }
        self.made += 1;
        let call = self.made;
        if let Some(after) = order.cancel_after {
            self.deadlines.push(now + after, Wake::Caller(call, Step::Cancel));
        }
        self.deadlines.push(now + RING_TIME_MAX, Wake::Caller(call, Step::Lost));
        self.callers.insert(
            call,
            CallerCall {
                state: State::Calling { heard: false, cancel: Cancel::No },
                invite: None,
                dialogs: Vec::new(),
                early: None,
                redirected: false,
                order,
            },
        );
        self.invite(now, call, out);
        self.settle(now, out);
    }

    /// Hangs the script's call up, if it is up.
    pub(crate) fn hang_up(&mut self, now: Instant, number: u32, out: &mut Vec<Output>) {
        let call = self.callers.iter().find(|(_, call)| call.order.number == number).map(|(&call, _)| call);
        if let Some(call) = call {
            self.step_caller(now, call, Step::HangUp, out);
        } else {
            self.hang_up_as_callee(now, number, out);
        }
        self.settle(now, out);
    }

    fn invite(&mut self, now: Instant, call: u32, out: &mut Vec<Output>) {
        let Some(order) = self.callers.get(&call).map(|call| call.order.clone()) else { return };
        let mut request = self.fresh("INVITE", order.target.clone(), Some(&format!("<{}>", order.target)));
        request.lines = format!(
            "Contact: <{}>\r\nX-Call: {}\r\n{ODD_HEADER}\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\n",
            self.contact(),
            order.number
        );
        match order.offer {
            Offer::InInvite => request.body = session(self.setup.local.ip()),
            Offer::InAck => request.lines += "X-Offer: in ACK\r\n",
        }
        if order.provisional == Provisional::Reliable {
            request.lines += "Supported: 100rel\r\n";
        }
        if order.bytes_min > 0 {
            request.lines += &format!("X-Long: {}\r\n", "l".repeat(order.bytes_min));
        }
        self.send_request(now, Purpose::Invite(call), request, Way::Server, out);
    }

    /// Remembers what a CANCEL needs.
    pub(super) fn caller_sends(&mut self, purpose: &Purpose, key: ClientKey, request: &Outgoing, via: &str) {
        if let Purpose::Invite(call) = purpose
            && let Some(call) = self.callers.get_mut(call)
        {
            call.invite = Some((request.clone(), via.to_owned(), key));
            if let State::Calling { heard, .. } = &mut call.state {
                *heard = false;
            }
        }
    }

    pub(super) fn invite_answered(
        &mut self,
        now: Instant,
        call: u32,
        key: ClientKey,
        cseq: u32,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(status) = response.status() else { return };
        if status.is_provisional() {
            self.progress(now, call, key, status.0, out);
            self.acknowledge_progress(now, call, cseq, response, out);
        } else if status.is_success() {
            self.accepted(now, call, cseq, response, out);
        } else {
            self.refused(now, call, response, status.0, out);
        }
    }

    fn progress(&mut self, now: Instant, number: u32, key: ClientKey, status: u16, out: &mut Vec<Output>) {
        let Some(call) = self.callers.get_mut(&number) else { return };
        let State::Calling { heard, cancel } = &mut call.state else { return };
        if call.invite.as_ref().is_none_or(|(_, _, sent)| *sent != key) {
            return;
        }
        *heard = true;
        if status > 100 {
            out.push(Output::Fact(Fact::Progress { call: call.order.number }));
        }
        if *cancel == Cancel::Wanted {
            self.send_cancel(now, number);
        }
    }

    fn send_cancel(&mut self, now: Instant, number: u32) {
        let Some(call) = self.callers.get_mut(&number) else { return };
        let Some((invite, via, _)) = call.invite.clone() else { return };
        call.state = State::Calling { heard: true, cancel: Cancel::Sent };
        let bytes = cancel(&invite, &via);
        let Some(branch) = via.rsplit("branch=").next() else { return };
        let key = ClientKey::of(&self.key, branch.as_bytes(), Method::Cancel);
        let request = Outgoing { method: "CANCEL", ..invite };
        self.pending.insert(
            key,
            super::Pending {
                purpose: Purpose::Cancel,
                request,
                way: Way::Server,
                attempts: super::ATTEMPTS_MAX,
                used_again: false,
            },
        );
        // A full table shows as a call that is not cancelled.
        let _ = self.transactions.begin_client(
            now,
            key,
            transaction::Kind::NonInvite,
            bytes.into(),
            Way::Server,
            self.setup.transport.is_reliable(),
            &mut self.from_transactions,
        );
        self.deadlines.push(now + AFTER_CANCEL, Wake::Caller(number, Step::GiveUp));
    }

    fn accepted(
        &mut self,
        now: Instant,
        number: u32,
        cseq: u32,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(call) = self.callers.get_mut(&number) else { return };
        let tag = response.to_tag().map(text).unwrap_or_default();
        if let Some((_, ack)) = call.dialogs.iter().find(|(dialog, _)| dialog.remote_tag == tag) {
            // RFC 3261 §13.2.2.4: each retransmission of the 2xx gets its ACK again.
            let ack = ack.clone();
            return self.send(Way::Server, ack, out);
        }
        let Some(mut dialog) = Dialog::of_caller(response, cseq) else {
            return out.push(super::unexpected("a 2xx to INVITE makes no dialog".to_owned()));
        };
        let script = call.order.number;
        if dialog.hops() == 0 {
            out.push(super::unexpected(format!("call {script}: the server did not stay in the dialog")));
        }
        let offer = call.order.offer;
        let ack = self.ack(&mut dialog, offer);
        let Some(call) = self.callers.get_mut(&number) else { return };
        if let Some((early, _)) = &call.early
            && early.remote_tag == dialog.remote_tag
        {
            dialog.cseq = dialog.cseq.max(early.cseq);
        }
        call.dialogs.push((dialog, ack.clone()));
        let position = call.dialogs.len() - 1;
        let state = call.state;
        self.send(Way::Server, ack, out);
        match state {
            State::Calling { cancel: Cancel::No | Cancel::Wanted, .. } => self.take_up(now, number, out),
            State::Calling { cancel: Cancel::Sent, .. } => {
                out.push(Output::Fact(Fact::Surplus { call: script, crossed_cancel: true }));
                if let Some(call) = self.callers.get_mut(&number) {
                    call.state = State::Ending;
                }
                self.bye(now, number, position, out);
            }
            State::Up | State::Ending | State::Ended => {
                out.push(Output::Fact(Fact::Surplus { call: script, crossed_cancel: false }));
                self.bye(now, number, position, out);
            }
        }
    }

    fn take_up(&mut self, now: Instant, number: u32, out: &mut Vec<Output>) {
        let Some(call) = self.callers.get_mut(&number) else { return };
        call.state = State::Up;
        out.push(Output::Fact(Fact::Established { call: call.order.number, role: Role::Caller }));
        let steps = [
            (call.order.reinvite_after, Step::Reinvite),
            (call.order.refer.as_ref().map(|refer| refer.after), Step::Refer),
            (call.order.update_after, Step::Update),
            (call.order.hang_up_after, Step::HangUp),
            (Some(CALL_TIME_MAX), Step::Guard),
        ];
        for (after, step) in steps {
            if let Some(after) = after {
                self.deadlines.push(now + after, Wake::Caller(number, step));
            }
        }
    }

    fn ack(&mut self, dialog: &mut Dialog, offer: Offer) -> Vec<u8> {
        self.made += 1;
        let branch = format!("z9hG4bK-{}-ack-{}", self.name(), self.made);
        let mut ack = dialog.request("ACK", self.setup.strict);
        if offer == Offer::InAck {
            ack.body = session(self.setup.local.ip());
        }
        ack.render(&self.via(&branch))
    }

    fn refused(
        &mut self,
        now: Instant,
        number: u32,
        response: &Message<'_>,
        status: u16,
        out: &mut Vec<Output>,
    ) {
        let Some(call) = self.callers.get_mut(&number) else { return };
        let State::Calling { cancel, .. } = call.state else { return };
        let contact = response.values(Name::Contact).next().map(|value| inside(&text(value)));
        if let (302, Some(target), false, Cancel::No) = (status, contact, call.redirected, cancel) {
            call.redirected = true;
            call.order.target = target;
            out.push(Output::Fact(Fact::Redirected { call: call.order.number }));
            return self.invite(now, number, out);
        }
        call.state = State::Ended;
        // A caller that gave up does not prove who it is: its call is over.
        let status = if cancel != Cancel::No && matches!(status, 401 | 407) { 487 } else { status };
        out.push(Output::Fact(Fact::Failed { call: call.order.number, status }));
    }

    pub(super) fn invite_timed_out(&mut self, number: u32, out: &mut Vec<Output>) {
        if let Some(call) = self.callers.get_mut(&number)
            && matches!(call.state, State::Calling { .. })
        {
            call.state = State::Ended;
            out.push(Output::Fact(Fact::TimedOut { call: call.order.number }));
        }
    }

    pub(super) fn step_caller(&mut self, now: Instant, number: u32, step: Step, out: &mut Vec<Output>) {
        let Some(call) = self.callers.get_mut(&number) else { return };
        match (step, call.state) {
            // RFC 3261 §9.1: a CANCEL waits for a provisional response.
            (Step::Cancel, State::Calling { heard: false, cancel: Cancel::No })
                if call.order.patience == Patience::Waits =>
            {
                call.state = State::Calling { heard: false, cancel: Cancel::Wanted };
            }
            (Step::Cancel, State::Calling { cancel: Cancel::No, .. }) => self.send_cancel(now, number),
            (Step::GiveUp | Step::Lost, State::Calling { .. }) => {
                call.state = State::Ended;
                let (script, key) = (call.order.number, call.invite.as_ref().map(|(_, _, key)| *key));
                if let Some(key) = key {
                    self.transactions.abandon_client(key);
                    self.pending.remove(&key);
                }
                out.push(Output::Fact(Fact::TimedOut { call: script }));
            }
            (Step::Reinvite, State::Up) => self.reinvite(now, number, out),
            (Step::Refer, State::Up) => self.refer(now, number, out),
            (Step::Update, State::Up) => self.update(now, number, out),
            (Step::ReinviteLost, _) => self.forget_reinvite(number),
            (Step::HangUp | Step::Guard, State::Up) => {
                call.state = State::Ending;
                self.bye(now, number, 0, out);
            }
            _ => {}
        }
    }

    fn reinvite(&mut self, now: Instant, number: u32, out: &mut Vec<Output>) {
        let (strict, contact, body) = (self.setup.strict, self.contact(), session(self.setup.local.ip()));
        let Some(call) = self.callers.get_mut(&number) else { return };
        let script = call.order.number;
        let Some((dialog, _)) = call.dialogs.first_mut() else { return };
        let mut request = dialog.request("INVITE", strict);
        request.lines = format!("Contact: <{contact}>\r\nX-Call: {script}\r\n");
        request.body = body;
        self.send_request(now, Purpose::Reinvite(number), request, Way::Server, out);
        self.deadlines.push(now + RING_TIME_MAX, Wake::Caller(number, Step::ReinviteLost));
    }

    /// A transaction in Proceeding has no timer of its own.
    fn forget_reinvite(&mut self, number: u32) {
        let lost = self.pending.iter().find(|(_, pending)| pending.purpose == Purpose::Reinvite(number));
        if let Some(key) = lost.map(|(&key, _)| key) {
            self.transactions.abandon_client(key);
            self.pending.remove(&key);
        }
    }

    pub(super) fn reinvite_answered(
        &mut self,
        _now: Instant,
        number: u32,
        _key: ClientKey,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        let strict = self.setup.strict;
        let Some(call) = self.callers.get_mut(&number) else { return };
        let script = call.order.number;
        let Some((dialog, _)) = call.dialogs.first_mut() else { return };
        if status.is_success() {
            dialog.refresh(response);
            let cseq = dialog.cseq;
            // RFC 3261 §13.2.2.4: the ACK has the number of its INVITE.
            dialog.cseq = response.cseq().map_or(cseq, |cseq| cseq.number);
            let ack = dialog.request("ACK", strict);
            dialog.cseq = cseq;
            self.made += 1;
            let bytes = ack.render(&self.via(&format!("z9hG4bK-{}-ack-{}", self.name(), self.made)));
            self.send(Way::Server, bytes, out);
        }
        out.push(Output::Fact(Fact::Reinvited { call: script, status: status.0 }));
    }

    fn bye(&mut self, now: Instant, number: u32, position: usize, out: &mut Vec<Output>) {
        let strict = self.setup.strict;
        let Some(call) = self.callers.get_mut(&number) else { return };
        let Some((dialog, _)) = call.dialogs.get_mut(position) else { return };
        let mut request = dialog.request("BYE", strict);
        request.lines = format!("X-Call: {}\r\n", call.order.number);
        self.send_request(now, Purpose::Bye(number), request, Way::Server, out);
    }

    /// The final answer to our BYE, or 0 for none.
    pub(super) fn bye_answered(&mut self, number: u32, status: u16, out: &mut Vec<Output>) {
        if let Some(call) = self.callers.get_mut(&number) {
            // A BYE to a surplus dialog ends only that.
            if call.state == State::Ending {
                call.state = State::Ended;
                out.push(Output::Fact(Fact::HungUp { call: call.order.number, role: Role::Caller, status }));
            }
        } else {
            self.bye_answered_as_callee(number, status, out);
        }
    }

    /// The other side hangs up a call that this phone made.
    pub(super) fn caller_hears_bye(&mut self, bye: &Message<'_>, out: &mut Vec<Output>) -> bool {
        for call in self.callers.values_mut() {
            let Some(position) = call.dialogs.iter().position(|(dialog, _)| dialog.fits(bye)) else {
                continue;
            };
            if position == 0 && matches!(call.state, State::Up | State::Ending) {
                if call.state == State::Up {
                    call.state = State::Ended;
                }
                out.push(Output::Fact(Fact::HeardHangUp { call: call.order.number, role: Role::Caller }));
            }
            return true;
        }
        false
    }

    pub(super) fn number_of(&self, call: u32) -> u32 {
        self.callers.get(&call).map_or(0, |call| call.order.number)
    }
}
