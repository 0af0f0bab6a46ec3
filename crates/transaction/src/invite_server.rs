//! The INVITE server transaction: RFC 3261 §17.2.1 with the Accepted state of RFC 6026 §7.1.
//!
//! ```text
//!              1xx from TU                 2xx from TU
//!   ┌────────┐  ┌──┐     ┌────────────┐                    ┌──────────┐  2xx from TU: send
//!   │ INVITE ├─►│  └─────┤ Proceeding ├───────────────────►│ Accepted │  INVITE: absorb
//!   └────────┘  └───────►└─────┬──────┘                    └────┬─────┘  ACK: to TU
//!                              │ 300-699 from TU                │ L
//!                        ┌─────▼──────┐  ACK  ┌───────────┐  I  ▼
//!                   G ┌──┤ Completed  ├──────►│ Confirmed ├────►Terminated
//!                     └─►└─────┬──────┘       └───────────┘     ▲
//!                              └────────────────────────────────┘ H
//! ```
//!
//! It keeps the response that it may have to repeat, and nothing else.

use bytes::Bytes;
use clock::Instant;
use sip::Status;

use crate::stored::{Repeat, ServerState};
use crate::timers::{Fired, Retransmission, Timers};

/// One INVITE that came in.
#[derive(Clone, Debug)]
pub(crate) struct InviteServer {
    state: State,
    reliable: bool,
}

#[derive(Clone, Debug)]
enum State {
    Proceeding { provisional: Option<Bytes> },
    Completed { response: Bytes, timer_g: Option<Retransmission>, timer_h: Instant },
    Accepted { timer_l: Instant },
    Confirmed { timer_i: Instant },
    Terminated,
}

/// What becomes of an ACK that found an INVITE's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// It was waited for, and ends here.
    Confirms,
    /// It comes once more, or too early, and changes nothing.
    Absorbed,
    /// It is for the transaction user.
    For2xx,
}

impl InviteServer {
    pub fn new(reliable: bool) -> Self {
        Self { state: State::Proceeding { provisional: None }, reliable }
    }

    /// What another node goes on with; `None` once it has ended.
    pub fn stored(&self, now: Instant) -> Option<ServerState> {
        Some(match &self.state {
            State::Proceeding { provisional } => {
                ServerState::InviteProceeding { provisional: provisional.clone() }
            }
            State::Completed { response, timer_g, timer_h } => ServerState::InviteCompleted {
                response: response.clone(),
                repeat: Repeat::of(now, *timer_g),
                left: timer_h.since(now),
            },
            State::Accepted { timer_l } => ServerState::InviteAccepted { left: timer_l.since(now) },
            State::Confirmed { timer_i } => ServerState::InviteConfirmed { left: timer_i.since(now) },
            State::Terminated => return None,
        })
    }

    /// Goes on with what was stored; `None`: that is of another request.
    pub fn restored(now: Instant, state: ServerState, reliable: bool) -> Option<Self> {
        let state = match state {
            ServerState::InviteProceeding { provisional } => State::Proceeding { provisional },
            ServerState::InviteCompleted { response, repeat, left } => {
                State::Completed { response, timer_g: Repeat::restored(now, repeat), timer_h: now + left }
            }
            ServerState::InviteAccepted { left } => State::Accepted { timer_l: now + left },
            ServerState::InviteConfirmed { left } => State::Confirmed { timer_i: now + left },
            ServerState::Trying { .. } | ServerState::Proceeding { .. } | ServerState::Completed { .. } => {
                return None;
            }
        };
        Some(Self { state, reliable })
    }

    /// A retransmission of the INVITE: what to send again.
    pub fn handle_invite(&self) -> Option<Bytes> {
        match &self.state {
            // RFC 3261 §17.2.1: the most recent provisional response is repeated.
            State::Proceeding { provisional } => provisional.clone(),
            State::Completed { response, .. } => Some(response.clone()),
            // RFC 6026 §7.1: absorbed; the 2xx is repeated by the user agent that gave it.
            State::Accepted { .. } | State::Confirmed { .. } | State::Terminated => None,
        }
    }

    /// An ACK with the INVITE's branch.
    pub fn handle_ack(&mut self, now: Instant, timers: &Timers) -> Acknowledged {
        match self.state {
            State::Completed { .. } => {
                // RFC 3261 §17.2.1: timer I absorbs more ACKs for T4; a stream brings no more.
                self.state = match timers.stray_messages(self.reliable) {
                    wait if wait.is_zero() => State::Terminated,
                    wait => State::Confirmed { timer_i: now + wait },
                };
                Acknowledged::Confirms
            }
            // RFC 6026 §7.1: the ACK to a 2xx is the transaction user's.
            State::Accepted { .. } => Acknowledged::For2xx,
            State::Proceeding { .. } | State::Confirmed { .. } | State::Terminated => Acknowledged::Absorbed,
        }
    }

    /// A response of the transaction user: what to send.
    pub fn respond(
        &mut self,
        now: Instant,
        timers: &Timers,
        status: Status,
        message: Bytes,
    ) -> Option<Bytes> {
        match &mut self.state {
            State::Proceeding { provisional } if status.is_provisional() => {
                *provisional = Some(message.clone());
            }
            State::Proceeding { .. } if status.is_success() => {
                // RFC 6026 §7.1: timer L is 64*T1 over any transport.
                self.state = State::Accepted { timer_l: now + timers.transaction_lifetime() };
            }
            State::Proceeding { .. } => {
                self.state = State::Completed {
                    response: message.clone(),
                    // RFC 3261 §17.2.1: timer G runs over unreliable transports only, timer H over all.
                    timer_g: (!self.reliable).then(|| Retransmission::start(now, timers.t1)),
                    timer_h: now + timers.transaction_lifetime(),
                };
            }
            // RFC 6026 §7.1: each retransmission of the 2xx, and a 2xx of another fork, passes.
            State::Accepted { .. } if status.is_success() => {}
            // RFC 3261 §17.2.1: any other response after a final one is discarded.
            State::Completed { .. }
            | State::Accepted { .. }
            | State::Confirmed { .. }
            | State::Terminated => {
                return None;
            }
        }
        Some(message)
    }

    pub fn handle_timeout(&mut self, now: Instant, timers: &Timers) -> Option<Fired> {
        match &mut self.state {
            State::Completed { timer_h, .. } if *timer_h <= now => {
                self.state = State::Terminated;
                Some(Fired::AckMissing)
            }
            State::Completed { response, timer_g: Some(timer_g), .. } if timer_g.at <= now => {
                *timer_g = timer_g.next(now, timers.t2);
                Some(Fired::Resend(response.clone()))
            }
            State::Accepted { timer_l: end } | State::Confirmed { timer_i: end } if *end <= now => {
                self.state = State::Terminated;
                Some(Fired::Ended)
            }
            _ => None,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Proceeding { .. } | State::Terminated => None,
            State::Completed { timer_g, timer_h, .. } => {
                Some(timer_g.map_or(*timer_h, |timer_g| timer_g.at.min(*timer_h)))
            }
            State::Accepted { timer_l: end } | State::Confirmed { timer_i: end } => Some(*end),
        }
    }

    pub fn is_reliable(&self) -> bool {
        self.reliable
    }

    pub fn is_terminated(&self) -> bool {
        matches!(self.state, State::Terminated)
    }
}

#[cfg(test)]
mod tests {
    use sip::Method::{Ack, Invite};

    use crate::Disposition::{Absorbed, AckFor2xx, New};
    use crate::script::{RELIABLE, Script, UNRELIABLE, log, response};
    use crate::{Kind, NoTransaction};

    /// RFC 3261 §17.2.1: nothing before the first one, then the most recent one.
    #[test]
    fn a_retransmitted_invite_gets_the_last_provisional_response_again() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);

        assert_eq!(server.request(Invite), Absorbed);
        assert!(server.words().is_empty());

        server.respond(100).unwrap();
        server.respond(180).unwrap();
        assert_eq!(server.words(), ["100", "180"]);

        assert_eq!(server.request(Invite), Absorbed);
        assert_eq!(server.words(), ["180"]);
    }

    /// RFC 3261 §17.2.1: the machine sets no bound to ringing; timer C is the proxy's.
    #[test]
    fn a_server_transaction_in_proceeding_does_not_end_by_itself() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        server.respond(180).unwrap();

        server.at(3_600_000);

        assert_eq!(server.words(), ["180"]);
        assert_eq!(server.transactions.counts(), (1, 0));
    }

    /// RFC 3261 §17.2.1: timer G doubles from T1 up to T2, timer H ends it after 64*T1.
    #[test]
    fn a_final_response_is_repeated_until_the_ack_is_given_up() {
        for status in [300, 486, 503, 603] {
            let mut server = Script::server(Kind::Invite, UNRELIABLE);

            server.respond(status).unwrap();
            server.at(120_000);

            let word = status.to_string();
            let sent = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
            let mut expected: Vec<_> = sent.iter().map(|&ms| (ms, word.as_str())).collect();
            expected.extend([(32_000, "AckMissing"), (32_000, "Terminated")]);
            assert_eq!(server.log(), log(&expected));
            assert_eq!(server.request(Invite), New);
        }
    }

    /// RFC 3261 §17.2.1: timer G does not run over a reliable transport, timer H does.
    #[test]
    fn over_a_stream_a_final_response_is_not_repeated() {
        let mut server = Script::server(Kind::Invite, RELIABLE);

        server.respond(486).unwrap();
        server.at(120_000);

        assert_eq!(server.log(), log(&[(0, "486"), (32_000, "AckMissing"), (32_000, "Terminated")]));
    }

    /// RFC 3261 §17.2.1.
    #[test]
    fn a_retransmitted_invite_gets_the_final_response_again_at_once() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        server.respond(486).unwrap();
        server.words();

        assert_eq!(server.at(100).request(Invite), Absorbed);

        assert_eq!(server.log(), log(&[(100, "486")]));
    }

    /// RFC 3261 §17.2.1: the ACK ends G and H; timer I absorbs its repetitions for T4.
    #[test]
    fn the_ack_to_a_300_699_is_absorbed_and_ends_the_retransmissions() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        server.respond(486).unwrap();

        assert_eq!(server.at(700).request(Ack), Absorbed);
        assert_eq!(server.at(800).request(Ack), Absorbed);
        assert_eq!(server.at(900).request(Invite), Absorbed);
        server.at(120_000);

        assert_eq!(server.log(), log(&[(0, "486"), (500, "486"), (5_700, "Terminated")]));
        assert_eq!(server.request(Ack), AckFor2xx, "it has no transaction any more");
    }

    /// RFC 3261 §17.2.1: timer I is zero over a reliable transport.
    #[test]
    fn over_a_stream_the_transaction_ends_with_the_ack() {
        let mut server = Script::server(Kind::Invite, RELIABLE);
        server.respond(486).unwrap();

        assert_eq!(server.at(700).request(Ack), Absorbed);

        assert_eq!(server.log(), log(&[(0, "486"), (700, "Terminated")]));
    }

    /// RFC 6026 §7.1: timer L is 64*T1 over any transport; the 2xx is not the transaction's to repeat.
    #[test]
    fn after_a_2xx_retransmitted_invites_are_absorbed_for_64_t1() {
        for reliable in [UNRELIABLE, RELIABLE] {
            let mut server = Script::server(Kind::Invite, reliable);

            server.at(100).respond(200).unwrap();
            assert_eq!(server.at(600).request(Invite), Absorbed);
            assert_eq!(server.at(32_099).request(Invite), Absorbed);
            assert_eq!(server.at(32_100).request(Invite), New);

            assert_eq!(server.log(), log(&[(100, "200"), (32_100, "Terminated")]));
        }
    }

    /// RFC 6026 §7.1: retransmissions by the user agent, and other forks.
    #[test]
    fn after_a_2xx_each_further_2xx_passes() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        server.respond(200).unwrap();

        server.at(500).respond(200).unwrap();
        server.at(900).respond(202).unwrap();

        assert_eq!(server.log(), log(&[(0, "200"), (500, "200"), (900, "202")]));
    }

    /// RFC 6026 §7.1: an ACK in Accepted goes to the transaction user.
    #[test]
    fn the_ack_to_a_2xx_goes_up_even_if_it_finds_the_invite() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        server.respond(200).unwrap();

        assert_eq!(server.request(Ack), AckFor2xx);
        assert_eq!(server.transactions.counts(), (1, 0));
    }

    #[test]
    fn an_ack_before_the_final_response_is_absorbed() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        server.respond(180).unwrap();

        assert_eq!(server.request(Ack), Absorbed);
        server.respond(486).unwrap();

        assert_eq!(server.at(500).words(), ["180", "486", "486"], "it acknowledges nothing");
    }

    /// RFC 3261 §17.2.1: in Completed, Confirmed and Accepted.
    #[test]
    fn a_second_verdict_is_withheld() {
        for (first, second) in [(486, 200), (486, 180), (486, 503), (200, 486), (200, 180)] {
            let mut server = Script::server(Kind::Invite, UNRELIABLE);
            server.respond(first).unwrap();
            server.words();

            assert_eq!(server.respond(second), Ok(()));
            assert!(server.words().is_empty(), "{second} after {first}");

            server.request(Ack);
            assert_eq!(server.respond(second), Ok(()));
            assert!(server.words().is_empty(), "{second} after {first} and its ACK");
            assert_eq!(server.transactions.counters().responses_withheld, 2);
        }
    }

    #[test]
    fn a_response_after_the_end_is_refused() {
        let mut server = Script::server(Kind::Invite, RELIABLE);
        server.respond(486).unwrap();
        server.request(Ack);
        server.words();

        assert_eq!(server.respond(486), Err(NoTransaction));
        assert!(server.words().is_empty());
    }

    #[test]
    fn a_late_wake_up_sends_once() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        server.respond(486).unwrap();
        server.words();

        server.sleep_until(20_000);
        assert_eq!(server.words(), ["486"]);

        server.sleep_until(40_000);
        assert_eq!(server.words(), ["AckMissing", "Terminated"]);
    }

    #[test]
    fn a_response_is_kept_only_while_it_may_be_repeated() {
        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        let (ringing, busy) = (response(180, Kind::Invite), response(486, Kind::Invite));

        server.respond_with(180, ringing.clone()).unwrap();
        assert!(!ringing.is_unique());

        server.respond_with(486, busy.clone()).unwrap();
        assert!(ringing.is_unique() && !busy.is_unique());

        server.request(Ack);
        assert!(busy.is_unique());

        let mut server = Script::server(Kind::Invite, UNRELIABLE);
        let answer = response(200, Kind::Invite);
        server.respond_with(200, answer.clone()).unwrap();
        assert!(answer.is_unique());
    }
}
