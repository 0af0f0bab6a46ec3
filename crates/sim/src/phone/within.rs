//! What phones send one another within a dialog beside ACK, BYE and the re-INVITE: PRACK, REFER, NOTIFY
//! and UPDATE.

use std::time::Duration;

use clock::Instant;
use sip::{Message, Method, Name};
use transaction::ServerKey;

use super::callee::{Step, T1};
use super::dialog::{Dialog, inside};
use super::message::{answer, session, text};
use super::order::{CallOrder, Fact, Output, Role};
use super::{Phone, Purpose, Wake, Way};

/// After so long a transfer has come to its end.
const TRANSFER_TAKES: Duration = Duration::from_millis(1_500);
/// A provisional response is not repeated after so many T1.
const RING_INTERVAL_MAX: u32 = 64;

impl Phone {
    /// Whether who called waits for a provisional response until it has heard it.
    pub(super) fn is_heard_reliably(&self, invite: &Message<'_>) -> bool {
        invite.values(Name::Supported).any(|value| value == b"100rel")
    }

    // RFC 3262 §3: the provisional response is repeated until the PRACK, at intervals that double.
    pub(super) fn ring_reliably(&mut self, now: Instant, id: u32, status: u16, invite: &Message<'_>) {
        let lines = format!("Contact: <{}>\r\nRequire: 100rel\r\nRSeq: 1\r\n", self.contact());
        let Some(call) = self.callees.get_mut(&id) else { return };
        call.unheard = Some(answer(invite, status, &call.tag, &lines, ""));
        self.ring_again(now, id, 1);
    }

    pub(super) fn ring_again(&mut self, now: Instant, id: u32, interval: u32) {
        let Some((key, bytes)) = self.callees.get(&id).and_then(|it| Some((it.key, it.unheard.clone()?)))
        else {
            return;
        };
        self.respond(now, key, 180, &bytes);
        if interval < RING_INTERVAL_MAX {
            self.deadlines.push(now + T1 * interval, Wake::Callee(id, Step::Ring(interval * 2)));
        }
    }

    // RFC 3262 §4: a provisional response with an RSeq that was not seen before is acknowledged.
    pub(super) fn acknowledge_progress(
        &mut self,
        now: Instant,
        number: u32,
        cseq: u32,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(sequence) = response.header(Name::RSeq).map(text) else { return };
        let strict = self.setup.strict;
        let Some(call) = self.callers.get_mut(&number) else { return };
        let Some(mut dialog) = Dialog::of_caller(response, cseq) else { return };
        let is_known =
            |(early, seen): &(Dialog, String)| early.remote_tag == dialog.remote_tag && *seen == sequence;
        if call.early.as_ref().is_some_and(is_known) {
            return;
        }
        let script = call.order.number;
        let mut request = dialog.request("PRACK", strict);
        request.lines = format!("RAck: {sequence} {cseq} INVITE\r\nX-Call: {script}\r\n");
        call.early = Some((dialog, sequence));
        let purpose = Purpose::Within { script, role: Role::Caller, method: "PRACK" };
        self.send_request(now, purpose, request, Way::Server, out);
    }

    pub(super) fn refer(&mut self, now: Instant, number: u32, out: &mut Vec<Output>) {
        let (strict, contact) = (self.setup.strict, self.contact());
        let Some(call) = self.callers.get_mut(&number) else { return };
        let (script, Some(refer)) = (call.order.number, &call.order.refer) else { return };
        let Some((dialog, _)) = call.dialogs.first_mut() else { return };
        let mut request = dialog.request("REFER", strict);
        request.lines =
            format!("Contact: <{contact}>\r\nRefer-To: <{}>\r\nX-Call: {script}\r\n", refer.target);
        let purpose = Purpose::Within { script, role: Role::Caller, method: "REFER" };
        self.send_request(now, purpose, request, Way::Server, out);
    }

    // RFC 3311 §5.1: the session is changed as by a re-INVITE, in one request and its answer.
    pub(super) fn update(&mut self, now: Instant, number: u32, out: &mut Vec<Output>) {
        let (strict, contact, body) = (self.setup.strict, self.contact(), session(self.setup.local.ip()));
        let Some(call) = self.callers.get_mut(&number) else { return };
        let script = call.order.number;
        let Some((dialog, _)) = call.dialogs.first_mut() else { return };
        let mut request = dialog.request("UPDATE", strict);
        request.lines = format!("Contact: <{contact}>\r\nX-Call: {script}\r\n");
        request.body = body;
        let purpose = Purpose::Within { script, role: Role::Caller, method: "UPDATE" };
        self.send_request(now, purpose, request, Way::Server, out);
    }

    /// Tells who sent it elsewhere how that goes.
    pub(super) fn notify(&mut self, now: Instant, id: u32, how: &str, out: &mut Vec<Output>) {
        let (strict, contact) = (self.setup.strict, self.contact());
        let Some(call) = self.callees.get_mut(&id) else { return };
        let script = call.number;
        let Some(dialog) = call.dialog.as_mut() else { return };
        let mut request = dialog.request("NOTIFY", strict);
        request.lines = format!(
            "Contact: <{contact}>\r\nEvent: refer\r\nSubscription-State: active\r\nX-How: {how}\r\nX-Call: {script}\r\n"
        );
        let way = self.way_of_callee(id);
        let purpose = Purpose::Within { script, role: Role::Callee, method: "NOTIFY" };
        self.send_request(now, purpose, request, way, out);
    }

    /// Takes one of them.
    pub(super) fn handle_within(
        &mut self,
        now: Instant,
        key: ServerKey,
        request: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let (method, name) = match request.method() {
            Some(method @ Method::Prack) => (method, "PRACK"),
            Some(method @ Method::Refer) => (method, "REFER"),
            Some(method @ Method::Update) => (method, "UPDATE"),
            Some(method) => (method, "NOTIFY"),
            None => return,
        };
        let mut called = None;
        let caller = self.callers.values().find(|it| it.dialogs.iter().any(|(it, _)| it.fits(request)));
        let found = match caller {
            Some(call) => Some((call.order.number, Role::Caller)),
            None => self.callees.iter_mut().find_map(|(&id, call)| {
                let is_early = || {
                    let invite = Message::parse(&call.invite).ok()?;
                    Some(method == Method::Prack && Dialog::of_callee(&invite, &call.tag)?.fits(request))
                };
                let fits = call.dialog.as_ref().is_some_and(|dialog| dialog.fits(request));
                if !fits && is_early() != Some(true) {
                    return None;
                }
                call.unheard.take_if(|_| method == Method::Prack);
                called = Some(id);
                Some((call.number, Role::Callee))
            }),
        };
        let Some((call, role)) = found else {
            return self.respond(now, key, 481, &answer(request, 481, "w", "", ""));
        };
        let status = if method == Method::Refer { 202 } else { 200 };
        let contact = format!("Contact: <{}>\r\n", self.contact());
        let body = match method {
            Method::Update => session(self.setup.local.ip()),
            _ => String::new(),
        };
        self.respond(now, key, status, &answer(request, status, "", &contact, &body));
        out.push(Output::Fact(Fact::HeardWithin { call, role, method: name }));
        if let (Method::Refer, Some(id)) = (method, called)
            && let Some(target) = request.header(Name::ReferTo).map(|value| inside(&text(value)))
        {
            self.notify(now, id, "100 Trying", out);
            self.deadlines.push(now + TRANSFER_TAKES, Wake::Callee(id, Step::Notify));
            let order =
                CallOrder { hang_up_after: Some(Duration::from_secs(2)), ..CallOrder::new(call + 1, target) };
            self.call(now, order, out);
        }
    }
}
