//! The INVITE client transaction: RFC 3261 §17.1.1 with the Accepted state of RFC 6026 §7.2.
//!
//! ```text
//!   ┌────────┐ 1xx   ┌────────────┐ 2xx   ┌──────────┐ 2xx: to TU
//!  A┤Calling ├──────►│ Proceeding ├──────►│ Accepted │
//!   └─┬───┬──┘       └─────┬──────┘       └────┬─────┘
//!     │   │ 300-699: ACK   │ 300-699: ACK      │ M
//!   B │   │  ┌───────────┐ │                   ▼
//!     │   └─►│ Completed │◄┘ ──────────────► Terminated
//!     │      └───────────┘ 300-699: ACK   D    ▲
//!     └────────────────────────────────────────┘
//! ```
//!
//! A 2xx leads from Calling to Accepted as well. The request is kept for as long as it may be sent
//! again or acknowledged; after that only the ACK is, and after a 2xx nothing.

use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use sip::{Message, Status};

use crate::ResponseDisposition;
use crate::stored::{ClientState, Repeat};
use crate::timers::{Fired, Retransmission, Timers};

/// One INVITE that was sent.
#[derive(Clone, Debug)]
pub(crate) struct InviteClient {
    state: State,
    reliable: bool,
}

#[derive(Clone, Debug)]
enum State {
    Calling { request: Bytes, timer_a: Option<Retransmission>, timer_b: Instant },
    Proceeding { request: Bytes },
    Completed { ack: Bytes, timer_d: Instant },
    Accepted { timer_m: Instant },
    Terminated,
}

impl InviteClient {
    /// The transaction of `request`, which is sent now.
    pub fn new(now: Instant, timers: &Timers, request: Bytes, reliable: bool) -> Self {
        // RFC 3261 §17.1.1.2: timer A runs over unreliable transports only, timer B over all.
        let timer_a = (!reliable).then(|| Retransmission::start(now, timers.t1));
        let timer_b = now + timers.transaction_lifetime();
        Self { state: State::Calling { request, timer_a, timer_b }, reliable }
    }

    /// What another node goes on with; `None` once it has ended.
    pub fn stored(&self, now: Instant) -> Option<ClientState> {
        Some(match &self.state {
            State::Calling { request, timer_a, timer_b } => ClientState::InviteCalling {
                request: request.clone(),
                repeat: Repeat::of(now, *timer_a),
                left: timer_b.since(now),
            },
            State::Proceeding { request } => ClientState::InviteProceeding { request: request.clone() },
            State::Completed { ack, timer_d } => {
                ClientState::InviteCompleted { ack: ack.clone(), left: timer_d.since(now) }
            }
            State::Accepted { timer_m } => ClientState::InviteAccepted { left: timer_m.since(now) },
            State::Terminated => return None,
        })
    }

    /// Goes on with what was stored; `None`: that is of another request.
    pub fn restored(now: Instant, state: ClientState, reliable: bool) -> Option<Self> {
        let state = match state {
            ClientState::InviteCalling { request, repeat, left } => {
                State::Calling { request, timer_a: Repeat::restored(now, repeat), timer_b: now + left }
            }
            ClientState::InviteProceeding { request } => State::Proceeding { request },
            ClientState::InviteCompleted { ack, left } => State::Completed { ack, timer_d: now + left },
            ClientState::InviteAccepted { left } => State::Accepted { timer_m: now + left },
            ClientState::Trying { .. } | ClientState::Proceeding { .. } | ClientState::Completed { .. } => {
                return None;
            }
        };
        Some(Self { state, reliable })
    }

    /// A response: whose it is, and the ACK to send.
    pub fn handle_response(
        &mut self,
        now: Instant,
        timers: &Timers,
        status: Status,
        response: &Message<'_>,
    ) -> (ResponseDisposition, Option<Bytes>) {
        match &self.state {
            State::Calling { request, .. } | State::Proceeding { request } => {
                if status.is_provisional() {
                    // RFC 3261 §17.1.1.2: timer B counts only in Calling. A ringing phone may ring on.
                    self.state = State::Proceeding { request: request.clone() };
                    return (ResponseDisposition::Deliver, None);
                }
                if status.is_success() {
                    // RFC 6026 §7.2: timer M is 64*T1 over any transport.
                    self.state = State::Accepted { timer_m: now + timers.transaction_lifetime() };
                    return (ResponseDisposition::Deliver, None);
                }
                let ack = acknowledgement(request, response);
                self.state = match &ack {
                    // RFC 3261 §17.1.1.2: timer D is zero over a stream, which repeats nothing.
                    Some(ack) if !self.reliable => {
                        State::Completed { ack: ack.clone(), timer_d: now + timers.d() }
                    }
                    _ => State::Terminated,
                };
                (ResponseDisposition::Deliver, ack)
            }
            // RFC 3261 §17.1.1.2: a repeated final response means that the ACK was lost.
            State::Completed { ack, .. } if status.is_final() && !status.is_success() => {
                (ResponseDisposition::Absorbed, Some(ack.clone()))
            }
            // RFC 6026 §7.2: each 2xx goes up, also one of another fork further down.
            State::Accepted { .. } if status.is_success() => (ResponseDisposition::Deliver, None),
            State::Completed { .. } | State::Accepted { .. } | State::Terminated => {
                (ResponseDisposition::Absorbed, None)
            }
        }
    }

    /// The request could not be sent: whether the transaction user has to know.
    pub fn handle_send_failed(&mut self) -> bool {
        // RFC 3261 §17.1.1.2: only in Calling. Once there was a response the peer has the request.
        let is_calling = matches!(self.state, State::Calling { .. });
        if is_calling {
            self.state = State::Terminated;
        }
        is_calling
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Option<Fired> {
        match &mut self.state {
            State::Calling { timer_b, .. } if *timer_b <= now => {
                self.state = State::Terminated;
                Some(Fired::TimedOut)
            }
            State::Calling { request, timer_a: Some(timer_a), .. } if timer_a.at <= now => {
                // RFC 3261 §17.1.1.2: doubled each time; unlike timer E it is not bounded by T2, but by timer B.
                *timer_a = timer_a.next(now, Duration::MAX);
                Some(Fired::Resend(request.clone()))
            }
            State::Completed { timer_d: end, .. } | State::Accepted { timer_m: end } if *end <= now => {
                self.state = State::Terminated;
                Some(Fired::Ended)
            }
            _ => None,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Calling { timer_a, timer_b, .. } => {
                Some(timer_a.map_or(*timer_b, |timer_a| timer_a.at.min(*timer_b)))
            }
            State::Proceeding { .. } | State::Terminated => None,
            State::Completed { timer_d: end, .. } | State::Accepted { timer_m: end } => Some(*end),
        }
    }

    pub fn is_reliable(&self) -> bool {
        self.reliable
    }

    pub fn is_terminated(&self) -> bool {
        matches!(self.state, State::Terminated)
    }
}

/// RFC 3261 §17.1.1.3: the ACK is made of the INVITE as it was sent, with the To of the response.
fn acknowledgement(invite: &[u8], response: &Message<'_>) -> Option<Bytes> {
    let invite = Message::parse(invite).ok()?;
    let mut ack = Vec::with_capacity(ACK_BYTES);
    sip::ack_for(&invite, response, &mut ack);
    Some(ack.into())
}

/// What most ACKs fit in.
const ACK_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::ResponseDisposition::{Absorbed, Deliver, Unknown};
    use crate::script::{RELIABLE, Script, UNRELIABLE, at, log, request, response};

    /// RFC 3261 §17.1.1.2: timer A doubles from T1 without a bound, timer B ends it after 64*T1.
    #[test]
    fn an_unanswered_invite_is_repeated_at_doubled_intervals_and_times_out() {
        let mut client = Script::client(Kind::Invite, UNRELIABLE);

        client.at(120_000);

        let expected = [
            (0, "INVITE"),
            (500, "INVITE"),
            (1_500, "INVITE"),
            (3_500, "INVITE"),
            (7_500, "INVITE"),
            (15_500, "INVITE"),
            (31_500, "INVITE"),
            (32_000, "TimedOut"),
            (32_000, "Terminated"),
        ];
        assert_eq!(client.log(), log(&expected));
        assert_eq!(client.response(200), Unknown);
    }

    /// RFC 3261 §17.1.1.2: timer B runs over any transport, timer A does not.
    #[test]
    fn an_unanswered_invite_is_not_repeated_over_a_stream() {
        let mut client = Script::client(Kind::Invite, RELIABLE);

        client.at(120_000);

        assert_eq!(client.log(), log(&[(0, "INVITE"), (32_000, "TimedOut"), (32_000, "Terminated")]));
    }

    /// RFC 3261 §17.1.1.2: after a pause of the process the missed retransmissions are not made up for.
    #[test]
    fn a_late_wake_up_sends_once() {
        let mut client = Script::client(Kind::Invite, UNRELIABLE);

        client.sleep_until(20_000).at(21_000);
        assert_eq!(client.log(), log(&[(0, "INVITE"), (20_000, "INVITE"), (21_000, "INVITE")]));

        client.sleep_until(90_000);
        assert_eq!(client.words(), ["TimedOut", "Terminated"]);
    }

    /// RFC 3261 §17.1.1.2: neither A nor B runs in Proceeding, over any transport.
    #[test]
    fn a_ringing_phone_may_ring_for_ever() {
        for reliable in [UNRELIABLE, RELIABLE] {
            let mut client = Script::client(Kind::Invite, reliable);

            assert_eq!(client.at(100).response(180), Deliver);
            assert_eq!(client.at(3_600_000).response(183), Deliver, "each provisional response goes up");

            assert_eq!(client.log(), log(&[(0, "INVITE")]));
            assert_eq!(client.transactions.poll_timeout(), None);
        }
    }

    /// RFC 6026 §7.2: from Calling and from Proceeding; timer M is 64*T1 over any transport.
    #[test]
    fn after_a_2xx_each_further_2xx_goes_up_for_64_t1() {
        for reliable in [UNRELIABLE, RELIABLE] {
            for provisional in [None, Some(180)] {
                let mut client = Script::client(Kind::Invite, reliable);
                client.words();
                provisional.map(|status| client.response(status));

                assert_eq!(client.at(400).response(200), Deliver);
                assert_eq!(client.at(900).response(200), Deliver, "a retransmission is the TU's as well");
                assert_eq!(client.at(32_399).response(202), Deliver);
                assert_eq!(client.log(), log(&[]), "the ACK to a 2xx is not the transaction's");

                assert_eq!(client.at(32_400).response(200), Unknown);
                assert_eq!(client.log(), log(&[(32_400, "Terminated")]));
            }
        }
    }

    /// RFC 6026 §7.2: what is no 2xx ends in Accepted, without an ACK.
    #[test]
    fn after_a_2xx_other_responses_are_absorbed() {
        let mut client = Script::client(Kind::Invite, UNRELIABLE);
        client.response(200);
        client.words();

        assert_eq!(client.response(180), Absorbed);
        assert_eq!(client.response(486), Absorbed);
        assert!(client.words().is_empty());
    }

    /// RFC 3261 §17.1.1.2: from Calling and from Proceeding, and again for each repetition, until
    /// timer D.
    #[test]
    fn a_final_response_other_than_2xx_is_acknowledged_each_time_it_comes() {
        for provisional in [None, Some(180)] {
            for status in [300, 486, 503, 699] {
                let mut client = Script::client(Kind::Invite, UNRELIABLE);
                client.words();
                provisional.map(|status| client.response(status));

                assert_eq!(client.at(400).response(status), Deliver);
                assert_eq!(client.at(900).response(status), Absorbed);
                assert_eq!(client.at(32_399).response(status), Absorbed);
                assert_eq!(client.at(32_400).response(status), Unknown);

                let expected = [(400, "ACK"), (900, "ACK"), (32_399, "ACK"), (32_400, "Terminated")];
                assert_eq!(client.log(), log(&expected));
            }
        }
    }

    /// RFC 3261 §17.1.1.2: timer D is zero over a reliable transport.
    #[test]
    fn over_a_stream_the_transaction_ends_with_the_ack() {
        let mut client = Script::client(Kind::Invite, RELIABLE);
        client.response(100);
        client.words();

        assert_eq!(client.at(400).response(404), Deliver);

        assert_eq!(client.log(), log(&[(400, "ACK"), (400, "Terminated")]));
        assert_eq!(client.response(404), Unknown);
    }

    /// RFC 3261 §17.1.1.2: at least 32 seconds, whatever our T1: the server counts with its own.
    #[test]
    fn timer_d_does_not_shrink_with_t1() {
        let timers = Timers { t1: Duration::from_millis(10), ..Timers::default() };
        let mut client = Script::client_with(Kind::Invite, UNRELIABLE, timers, request(Kind::Invite));
        client.response(486);
        client.words();

        client.at(60_000);

        assert_eq!(client.log(), log(&[(32_000, "Terminated")]));
    }

    /// RFC 3261 §17.1.1.2: Completed knows no 1xx and no 2xx.
    #[test]
    fn after_a_300_699_other_responses_are_absorbed() {
        let mut client = Script::client(Kind::Invite, UNRELIABLE);
        client.response(486);
        client.words();

        assert_eq!(client.response(180), Absorbed);
        assert_eq!(client.response(200), Absorbed);
        assert!(client.words().is_empty());
    }

    /// RFC 3261 §17.1.4: the transaction user is told at once.
    #[test]
    fn an_invite_that_can_not_be_sent_is_unreachable() {
        let mut client = Script::client(Kind::Invite, UNRELIABLE);
        client.words();

        client.at(3).send_failed();

        assert_eq!(client.log(), log(&[(3, "Unreachable"), (3, "Terminated")]));
        assert_eq!(client.response(200), Unknown);
    }

    /// RFC 3261 §17.1.1.2: a late "port unreachable" does not undo a response.
    #[test]
    fn an_invite_that_was_answered_was_sent() {
        for status in [180, 200, 486] {
            let mut client = Script::client(Kind::Invite, UNRELIABLE);
            client.response(status);
            client.words();

            client.send_failed();

            assert!(client.words().is_empty(), "{status}");
        }
    }

    /// RFC 3261 §17.1.1.3: the INVITE's R-URI, top Via, Route, From, Call-ID and number; the response's To.
    #[test]
    fn the_ack_is_made_of_the_invite_and_the_to_of_the_response() {
        let (invite, timers) = (request(Kind::Invite), Timers::default());
        let busy = response(486, Kind::Invite);
        let mut client = InviteClient::new(at(0), &timers, invite, UNRELIABLE);

        let (_, ack) = client.handle_response(at(0), &timers, Status(486), &Message::parse(&busy).unwrap());

        let ack = String::from_utf8(ack.unwrap().to_vec()).unwrap();
        assert!(ack.starts_with("ACK sip:bob@192.0.2.9 SIP/2.0\r\n"), "{ack}");
        for line in [
            "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKbranch",
            "Route: <sip:192.0.2.5;lr>",
            "From: <sip:alice@a>;tag=1",
            "To: <sip:bob@b>;tag=486",
            "Call-ID: c",
            "CSeq: 4 ACK",
            "Content-Length: 0",
        ] {
            assert!(ack.lines().any(|found| found == line), "{line} is missing in {ack}");
        }
    }

    /// What can not be acknowledged is still told, and keeps no state.
    #[test]
    fn a_request_that_is_no_message_is_not_acknowledged() {
        let timers = Timers::default();
        let busy = response(486, Kind::Invite);
        let mut client = InviteClient::new(at(0), &timers, Bytes::from_static(b"nonsense"), UNRELIABLE);

        let (disposition, ack) =
            client.handle_response(at(0), &timers, Status(486), &Message::parse(&busy).unwrap());

        assert_eq!((disposition, ack, client.is_terminated()), (Deliver, None, true));
    }

    #[test]
    fn the_request_is_kept_only_while_it_may_be_needed() {
        for (status, is_kept) in [(180, true), (200, false), (486, false)] {
            let invite = request(Kind::Invite);
            let mut client = Script::client_with(Kind::Invite, UNRELIABLE, Timers::default(), invite.clone());
            assert!(!invite.is_unique());

            client.response(status);

            assert_eq!(!invite.is_unique(), is_kept, "{status}");
        }
    }
}
