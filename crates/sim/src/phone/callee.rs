//! A call as its callee sees it.

use std::time::Duration;

use clock::Instant;
use sip::Message;
use transaction::ServerKey;

use super::caller::CALL_TIME_MAX;
use super::dialog::Dialog;
use super::message::{ODD_HEADER, answer, session, text};
use super::order::{Answering, Behaviour, Fact, Output, Role};
use super::{Phone, Purpose, Wake, Way, unexpected};

/// A call that came in.
#[derive(Debug)]
pub(crate) struct CalleeCall {
    pub(super) number: u32,
    state: State,
    answering: Answering,
    pub(super) tag: String,
    pub(super) key: ServerKey,
    pub(super) invite: Vec<u8>,
    pub(super) dialog: Option<Dialog>,
    /// The provisional response that waits for its PRACK.
    pub(super) unheard: Option<Vec<u8>>,
    /// The 200 to a re-INVITE that waits for its ACK, with the number of both.
    changed: Option<(ServerKey, u32, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Ringing,
    /// The 2xx was sent so often and waits for its ACK.
    Accepted {
        response: Vec<u8>,
        sent: u32,
    },
    Up,
    Ending,
    Ended,
}

/// What a callee does later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The provisional response is sent again after so many T1.
    Ring(u32),
    Notify,
    Final,
    Repeat(u32),
    RepeatChange(u32),
    NoAck,
    /// It rang too long.
    Tired,
    HangUp,
    Guard,
}

/// A phone rings no longer: longer than any timer of the server.
const RING_TIME_MAX: Duration = Duration::from_secs(400);

/// A 2xx to a re-INVITE is sent so often: for 64*T1.
const REPEATS_MAX: u32 = 10;

pub(super) const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

impl CalleeCall {
    /// The script's number of it.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether it rings or is up.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Ringing | State::Accepted { .. } | State::Up)
    }

    /// Whether nothing of it is left.
    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
            || (self.state == State::Ringing && self.answering.behaviour == Behaviour::Silence)
    }
}

impl Phone {
    pub(super) fn handle_invite(
        &mut self,
        now: Instant,
        key: ServerKey,
        invite: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        if invite.to_tag().is_some() {
            return self.handle_reinvite(now, key, invite);
        }
        let number = invite.header_by_name(b"X-Call").and_then(|value| text(value).parse().ok()).unwrap_or(0);
        let odd = invite
            .bytes()
            .windows(ODD_HEADER.len() + 2)
            .any(|window| window.strip_suffix(b"\r\n") == Some(ODD_HEADER.as_bytes()));
        if number != 0 && !odd {
            out.push(unexpected(format!("call {number}: an unknown header did not arrive as it was sent")));
        }
        let offers = invite.header_by_name(b"X-Offer").is_none();
        if number != 0 && invite.body().starts_with(b"v=0\r\n") != offers {
            out.push(unexpected(format!("call {number}: the body did not arrive")));
        }
        if invite.header(sip::Name::ProxyAuthorization).is_some() {
            out.push(unexpected(format!("call {number}: the caller's credentials were handed on")));
        }
        self.made += 1;
        let call = self.made;
        let tag = format!("{}-{call}", self.name());
        let answering = self.answering.get(&number).cloned().unwrap_or(Answering::PROMPT);
        self.callees.insert(
            call,
            CalleeCall {
                number,
                state: State::Ringing,
                answering: answering.clone(),
                tag: tag.clone(),
                key,
                invite: invite.bytes().to_vec(),
                dialog: None,
                unheard: None,
                changed: None,
            },
        );
        self.deadlines.push(now + RING_TIME_MAX, Wake::Callee(call, Step::Tired));
        out.push(Output::Fact(Fact::Ringing { call: number, bytes: invite.bytes().len() }));
        let ring = |status| answer(invite, status, &tag, &format!("Contact: <{}>\r\n", self.contact()), "");
        match answering.behaviour {
            Behaviour::Answer { status, after } => {
                match self.is_heard_reliably(invite) {
                    true => self.ring_reliably(now, call, status, invite),
                    false => {
                        let bytes = ring(status);
                        self.respond(now, key, status, &bytes);
                    }
                }
                self.deadlines.push(now + after, Wake::Callee(call, Step::Final));
            }
            Behaviour::Refuse { after, .. } => {
                let bytes = ring(180);
                self.respond(now, key, 180, &bytes);
                self.deadlines.push(now + after, Wake::Callee(call, Step::Final));
            }
            Behaviour::Redirect(contact) => {
                let bytes = answer(invite, 302, &tag, &format!("Contact: <{contact}>\r\n"), "");
                self.end_refused(now, call, 302, &bytes, out);
            }
            Behaviour::Ring => {
                let bytes = ring(180);
                self.respond(now, key, 180, &bytes);
            }
            Behaviour::Try => self.respond(now, key, 100, &answer(invite, 100, "", "", "")),
            Behaviour::Silence => {
                self.transactions.end_server(key);
            }
        }
    }

    fn handle_reinvite(&mut self, now: Instant, key: ServerKey, invite: &Message<'_>) {
        let bytes = answer(
            invite,
            200,
            "",
            &format!("Contact: <{}>\r\n", self.contact()),
            &session(self.setup.local.ip()),
        );
        let call = self.callees.iter_mut().find_map(|(&id, call)| {
            let dialog = call.dialog.as_mut().filter(|dialog| dialog.fits(invite))?;
            dialog.refresh(invite);
            call.changed = Some((key, invite.cseq().map_or(0, |cseq| cseq.number), bytes.clone()));
            Some((id, call.answering.changes_after))
        });
        match call {
            Some((id, Some(after))) => {
                self.deadlines.push(now + after, Wake::Callee(id, Step::RepeatChange(0)));
            }
            Some((id, None)) => {
                self.respond(now, key, 200, &bytes);
                self.deadlines.push(now + T1, Wake::Callee(id, Step::RepeatChange(1)));
            }
            None => self.respond(now, key, 481, &answer(invite, 481, "", "", "")),
        }
    }

    pub(super) fn handle_ack(&mut self, now: Instant, ack: &Message<'_>, out: &mut Vec<Output>) {
        let found = self.callees.iter_mut().find_map(|(&id, call)| {
            call.dialog.as_ref().filter(|dialog| dialog.fits(ack))?;
            Some((id, call))
        });
        let Some((id, call)) = found else { return };
        let number = ack.cseq().map_or(0, |cseq| cseq.number);
        call.changed.take_if(|(_, changed, _)| *changed == number);
        if !matches!(call.state, State::Accepted { .. }) {
            return;
        }
        let offered = Message::parse(&call.invite).is_ok_and(|invite| !invite.body().is_empty());
        if ack.body().starts_with(b"v=0\r\n") == offered {
            out.push(unexpected(format!("call {}: the ACK has not the body that was sent", call.number)));
        }
        call.state = State::Up;
        out.push(Output::Fact(Fact::Established { call: call.number, role: Role::Callee }));
        if let Some(after) = call.answering.hang_up_after {
            self.deadlines.push(now + after, Wake::Callee(id, Step::HangUp));
        }
        self.deadlines.push(now + CALL_TIME_MAX, Wake::Callee(id, Step::Guard));
    }

    // RFC 3261 §9.2: 200 to the CANCEL, 487 to the INVITE if it has no final response yet.
    pub(super) fn handle_cancel(
        &mut self,
        now: Instant,
        key: ServerKey,
        cancel: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let Ok(invite) = ServerKey::of_cancelled(&self.key, cancel) else { return };
        let found = self.callees.iter().find(|(_, call)| call.key == invite).map(|(&call, _)| call);
        let Some(id) = found else {
            return self.respond(now, key, 481, &answer(cancel, 481, "c", "", ""));
        };
        let Some(call) = self.callees.get_mut(&id) else { return };
        let (tag, number, bytes) = (call.tag.clone(), call.number, call.invite.clone());
        let rings = call.state == State::Ringing;
        if rings {
            call.state = State::Ended;
        }
        self.respond(now, key, 200, &answer(cancel, 200, &tag, "", ""));
        if rings {
            out.push(Output::Fact(Fact::Cancelled { call: number }));
            if let Ok(message) = Message::parse(&bytes) {
                self.respond(now, invite, 487, &answer(&message, 487, &tag, "", ""));
            }
        }
    }

    pub(super) fn handle_bye(
        &mut self,
        now: Instant,
        key: ServerKey,
        bye: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let known = self.caller_hears_bye(bye, out) || self.callee_hears_bye(bye, out);
        let status = if known { 200 } else { 481 };
        self.respond(now, key, status, &answer(bye, status, "", "", ""));
    }

    fn callee_hears_bye(&mut self, bye: &Message<'_>, out: &mut Vec<Output>) -> bool {
        let found = self
            .callees
            .values_mut()
            .find(|call| call.dialog.as_ref().is_some_and(|dialog| dialog.fits(bye)));
        let Some(call) = found else { return false };
        if !matches!(call.state, State::Ended) {
            if call.state != State::Ending {
                call.state = State::Ended;
            }
            out.push(Output::Fact(Fact::HeardHangUp { call: call.number, role: Role::Callee }));
        }
        true
    }

    pub(super) fn step_callee(&mut self, now: Instant, id: u32, step: Step, out: &mut Vec<Output>) {
        let Some(call) = self.callees.get_mut(&id) else { return };
        match (step, &mut call.state) {
            (Step::Ring(interval), State::Ringing) => self.ring_again(now, id, interval),
            (Step::Notify, State::Up) => self.notify(now, id, "200 OK", out),
            (Step::Final, State::Ringing) if call.unheard.is_some() => {
                self.deadlines.push(now + T1, Wake::Callee(id, Step::Final));
            }
            (Step::Final, State::Ringing) => self.give_final(now, id, out),
            (Step::Repeat(interval), State::Accepted { response, sent }) => {
                *sent += 1;
                let (response, key) = (response.clone(), call.key);
                self.respond(now, key, 200, &response);
                // RFC 3261 §13.3.1.4: the interval doubles up to T2.
                let interval = (T1 * interval * 2).min(T2);
                let next = (interval.as_millis() / T1.as_millis()) as u32;
                self.deadlines.push(now + interval, Wake::Callee(id, Step::Repeat(next)));
            }
            // RFC 3261 §13.3.1.4: the 2xx to a re-INVITE is repeated as the first one is.
            (Step::RepeatChange(times), State::Up) if times < REPEATS_MAX => {
                if let Some((key, _, response)) = call.changed.clone() {
                    self.respond(now, key, 200, &response);
                    self.deadlines.push(
                        now + (T1 * (1 << times.min(3))),
                        Wake::Callee(id, Step::RepeatChange(times + 1)),
                    );
                }
            }
            (Step::NoAck, State::Accepted { .. }) => {
                out.push(Output::Fact(Fact::NoAck { call: call.number }));
                call.state = State::Ending;
                self.bye_as_callee(now, id, out);
            }
            (Step::Tired, State::Ringing) if call.answering.behaviour == Behaviour::Silence => {
                call.state = State::Ended
            }
            (Step::Tired, State::Ringing) => {
                let (invite, tag) = (call.invite.clone(), call.tag.clone());
                out.push(Output::Fact(Fact::Forgotten { call: call.number }));
                if let Ok(invite) = Message::parse(&invite) {
                    self.end_refused(now, id, 480, &answer(&invite, 480, &tag, "", ""), out);
                }
            }
            (Step::HangUp | Step::Guard, State::Up) => {
                call.state = State::Ending;
                self.bye_as_callee(now, id, out);
            }
            _ => {}
        }
    }

    fn give_final(&mut self, now: Instant, id: u32, out: &mut Vec<Output>) {
        let contact = self.contact();
        let body = session(self.setup.local.ip());
        let Some(call) = self.callees.get_mut(&id) else { return };
        let Ok(invite) = Message::parse(&call.invite) else { return };
        if let Behaviour::Refuse { status, .. } = call.answering.behaviour {
            let bytes = answer(&invite, status, &call.tag, "", "");
            return self.end_refused(now, id, status, &bytes, out);
        }
        let bytes = answer(&invite, 200, &call.tag, &format!("Contact: <{contact}>\r\n"), &body);
        call.dialog = Dialog::of_callee(&invite, &call.tag);
        if call.dialog.is_none() {
            out.push(unexpected(format!("call {}: an INVITE makes no dialog", call.number)));
        }
        call.state = State::Accepted { response: bytes.clone(), sent: 1 };
        out.push(Output::Fact(Fact::Answered { call: call.number }));
        let key = call.key;
        self.respond(now, key, 200, &bytes);
        self.deadlines.push(now + T1, Wake::Callee(id, Step::Repeat(1)));
        self.deadlines.push(now + T1 * 64, Wake::Callee(id, Step::NoAck));
    }

    fn end_refused(&mut self, now: Instant, id: u32, status: u16, bytes: &[u8], out: &mut Vec<Output>) {
        let Some(call) = self.callees.get_mut(&id) else { return };
        call.state = State::Ended;
        out.push(Output::Fact(Fact::Refused { call: call.number }));
        let key = call.key;
        self.respond(now, key, status, bytes);
    }

    /// Hangs up the script's call, if it is up here.
    pub(super) fn hang_up_as_callee(&mut self, now: Instant, number: u32, out: &mut Vec<Output>) {
        let found = self.callees.iter().find(|(_, call)| call.number == number && call.state == State::Up);
        if let Some(id) = found.map(|(&id, _)| id) {
            self.step_callee(now, id, Step::HangUp, out);
        }
    }

    fn bye_as_callee(&mut self, now: Instant, id: u32, out: &mut Vec<Output>) {
        let strict = self.setup.strict;
        let Some(call) = self.callees.get_mut(&id) else { return };
        let Some(dialog) = call.dialog.as_mut() else { return };
        let mut request = dialog.request("BYE", strict);
        request.lines = format!("X-Call: {}\r\n", call.number);
        let way = self.way_of_callee(id);
        self.send_request(now, Purpose::Bye(id), request, way, out);
    }

    /// Where a request of a dialog goes that was begun by the other side.
    pub(super) fn way_of_callee(&self, id: u32) -> Way {
        let dialog = self.callees.get(&id).and_then(|call| call.dialog.as_ref());
        // A phone that talks to nobody but its server sends there; one in the open follows its route set.
        match dialog.and_then(|dialog| super::address_of(&dialog.next_hop())) {
            Some(hop) if !self.registration.is_wanted() => Way::Datagram(hop),
            _ => Way::Server,
        }
    }

    pub(super) fn bye_answered_as_callee(&mut self, id: u32, status: u16, out: &mut Vec<Output>) {
        if let Some(call) = self.callees.get_mut(&id) {
            call.state = State::Ended;
            out.push(Output::Fact(Fact::HungUp { call: call.number, role: Role::Callee, status }));
        }
    }
}
