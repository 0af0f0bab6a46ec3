//! The non-INVITE server transaction: RFC 3261 §17.2.2 with RFC 4320.
//!
//! ```text
//!   ┌─────────┐      ┌────────┐  100 from TU   ┌────────────┐
//!   │ request ├─────►│ Trying ├───────────────►│ Proceeding │ request: repeat the 100
//!   └─────────┘      └───┬────┘                └─────┬──────┘
//!                        │ 200-699 from TU           │ 200-699 from TU
//!                        │       ┌───────────┐       │
//!                        └──────►│ Completed │◄──────┘ request: repeat the response
//!                                └─────┬─────┘
//!                                      │ J
//!                                      ▼
//!                                  Terminated
//! ```
//!
//! A request that nobody answers ends without a word 64*T1 after it came, when its client has given
//! up as well.

use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use sip::Status;

use crate::stored::ServerState;
use crate::timers::{Fired, Timers};

/// One request other than INVITE and ACK that came in.
#[derive(Clone, Debug)]
pub(crate) struct NonInviteServer {
    state: State,
    reliable: bool,
}

#[derive(Clone, Debug)]
enum State {
    Trying { begun: Instant, end: Instant },
    Proceeding { provisional: Bytes, end: Instant },
    Completed { response: Bytes, timer_j: Instant },
    Terminated,
}

impl NonInviteServer {
    pub fn new(now: Instant, timers: &Timers, reliable: bool) -> Self {
        // RFC 4320 §4.2: who can not answer before the client gives up does not answer at all.
        Self { state: State::Trying { begun: now, end: now + timers.transaction_lifetime() }, reliable }
    }

    /// What another node goes on with; `None` once it has ended.
    pub fn stored(&self, now: Instant) -> Option<ServerState> {
        Some(match &self.state {
            State::Trying { end, .. } => ServerState::Trying { left: end.since(now) },
            State::Proceeding { provisional, end } => {
                ServerState::Proceeding { provisional: provisional.clone(), left: end.since(now) }
            }
            State::Completed { response, timer_j } => {
                ServerState::Completed { response: response.clone(), left: timer_j.since(now) }
            }
            State::Terminated => return None,
        })
    }

    /// Goes on with what was stored of a request that came at `begun`; `None`: that is of an INVITE.
    pub fn restored(now: Instant, begun: Instant, state: ServerState, reliable: bool) -> Option<Self> {
        let state = match state {
            ServerState::Trying { left } => State::Trying { begun, end: now + left },
            ServerState::Proceeding { provisional, left } => {
                State::Proceeding { provisional, end: now + left }
            }
            ServerState::Completed { response, left } => State::Completed { response, timer_j: now + left },
            ServerState::InviteProceeding { .. }
            | ServerState::InviteCompleted { .. }
            | ServerState::InviteAccepted { .. }
            | ServerState::InviteConfirmed { .. } => return None,
        };
        Some(Self { state, reliable })
    }

    /// A retransmission of the request: what to send again.
    pub fn handle_request(&self) -> Option<Bytes> {
        match &self.state {
            State::Proceeding { provisional: response, .. } | State::Completed { response, .. } => {
                Some(response.clone())
            }
            // RFC 3261 §17.2.2: discarded in Trying.
            State::Trying { .. } | State::Terminated => None,
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
        let reliable = self.reliable;
        match &mut self.state {
            // RFC 4320 §4.2: a 408 comes when its client has long given up, and only burdens the network.
            State::Trying { .. } | State::Proceeding { .. } if status == Status(408) => None,
            State::Trying { begun, end } if status.is_provisional() => {
                if !may_send_provisional(now.since(*begun), timers, status, reliable) {
                    return None;
                }
                self.state = State::Proceeding { provisional: message.clone(), end: *end };
                Some(message)
            }
            State::Proceeding { provisional, .. } if status.is_provisional() => {
                if status != Status(100) {
                    return None;
                }
                *provisional = message.clone();
                Some(message)
            }
            State::Trying { .. } | State::Proceeding { .. } => {
                // RFC 3261 §17.2.2: timer J is 64*T1; over a stream nothing is repeated.
                self.state = if reliable {
                    State::Terminated
                } else {
                    State::Completed {
                        response: message.clone(),
                        timer_j: now + timers.transaction_lifetime(),
                    }
                };
                Some(message)
            }
            // RFC 3261 §17.2.2: another response after the final one is discarded.
            State::Completed { .. } | State::Terminated => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Option<Fired> {
        if self.deadline()? > now {
            return None;
        }
        self.state = State::Terminated;
        Some(Fired::Ended)
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Trying { end, .. } | State::Proceeding { end, .. } => Some(end),
            State::Completed { timer_j, .. } => Some(timer_j),
            State::Terminated => None,
        }
    }

    pub fn is_reliable(&self) -> bool {
        self.reliable
    }

    pub fn is_terminated(&self) -> bool {
        matches!(self.state, State::Terminated)
    }
}

/// RFC 4320 §4.1: only 100, and over an unreliable transport not before the client's timer E is at
/// T2: earlier it costs more messages than it saves.
fn may_send_provisional(age: Duration, timers: &Timers, status: Status, reliable: bool) -> bool {
    status == Status(100) && (reliable || age >= timers.provisional_to_non_invite_after())
}

#[cfg(test)]
mod tests {
    use sip::Method::Options;

    use crate::Disposition::{Absorbed, New};
    use crate::script::{RELIABLE, Script, UNRELIABLE, log, response};
    use crate::{Kind, NoTransaction};

    /// RFC 3261 §17.2.2: retransmissions in Trying are discarded.
    #[test]
    fn a_retransmission_before_any_response_is_swallowed() {
        let mut server = Script::server(Kind::NonInvite, UNRELIABLE);

        assert_eq!(server.request(Options), Absorbed);
        assert!(server.words().is_empty());
    }

    /// RFC 3261 §17.2.2: timer J is 64*T1 over an unreliable transport.
    #[test]
    fn a_retransmission_gets_the_final_response_again_for_64_t1() {
        for status in [200, 302, 401, 503, 600] {
            let mut server = Script::server(Kind::NonInvite, UNRELIABLE);

            server.at(100).respond(status).unwrap();
            assert_eq!(server.at(600).request(Options), Absorbed);
            assert_eq!(server.at(32_099).request(Options), Absorbed);
            assert_eq!(server.at(32_100).request(Options), New);

            let word = status.to_string();
            let expected = [(100, word.as_str()), (600, &word), (32_099, &word), (32_100, "Terminated")];
            assert_eq!(server.log(), log(&expected));
        }
    }

    /// RFC 3261 §17.2.2: timer J is zero over a reliable transport.
    #[test]
    fn over_a_stream_the_transaction_ends_with_the_final_response() {
        let mut server = Script::server(Kind::NonInvite, RELIABLE);

        server.at(100).respond(200).unwrap();

        assert_eq!(server.log(), log(&[(100, "200"), (100, "Terminated")]));
        assert_eq!(server.respond(200), Err(NoTransaction));
        assert_eq!(server.request(Options), New);
    }

    /// RFC 3261 §17.2.2: any other response after the final one is discarded.
    #[test]
    fn a_second_verdict_is_withheld() {
        let mut server = Script::server(Kind::NonInvite, UNRELIABLE);
        server.respond(200).unwrap();

        assert_eq!(server.respond(404), Ok(()));
        assert_eq!(server.at(10_000).respond(100), Ok(()));
        server.request(Options);

        assert_eq!(server.words(), ["200", "200"]);
    }

    /// RFC 4320 §4.1: over an unreliable transport not before the client's timer E is at T2.
    #[test]
    fn a_100_is_withheld_until_it_saves_retransmissions() {
        let mut server = Script::server(Kind::NonInvite, UNRELIABLE);

        assert_eq!(server.at(3_499).respond(100), Ok(()));
        assert!(server.words().is_empty());

        assert_eq!(server.at(3_500).respond(100), Ok(()));
        assert_eq!(server.request(Options), Absorbed);
        assert_eq!(server.at(7_500).respond(100), Ok(()));
        server.at(8_000).respond(200).unwrap();

        assert_eq!(server.log(), log(&[(3_500, "100"), (3_500, "100"), (7_500, "100"), (8_000, "200")]));
    }

    /// RFC 4320 §4.1: over a reliable transport it may be sent at any time.
    #[test]
    fn over_a_stream_a_100_may_be_sent_at_once() {
        let mut server = Script::server(Kind::NonInvite, RELIABLE);

        server.respond(100).unwrap();

        assert_eq!(server.words(), ["100"]);
    }

    /// RFC 4320 §4.1: no provisional response but 100, over any transport, in Trying and Proceeding.
    #[test]
    fn other_provisional_responses_are_withheld() {
        for reliable in [UNRELIABLE, RELIABLE] {
            let mut server = Script::server(Kind::NonInvite, reliable);

            assert_eq!(server.at(5_000).respond(180), Ok(()));
            server.respond(100).unwrap();
            assert_eq!(server.respond(183), Ok(()));

            assert_eq!(server.words(), ["100"]);
            assert_eq!(server.transactions.counters().responses_withheld, 2);
        }
    }

    /// RFC 4320 §4.2: never a 408; the request ends without a word when its client gives up.
    #[test]
    fn a_408_is_withheld_and_the_request_ends_unanswered() {
        for reliable in [UNRELIABLE, RELIABLE] {
            for provisional in [None, Some(100)] {
                let mut server = Script::server(Kind::NonInvite, reliable);
                server.at(4_000);
                if let Some(status) = provisional {
                    server.respond(status).unwrap();
                }
                server.words();

                assert_eq!(server.at(31_999).respond(408), Ok(()));
                assert!(server.words().is_empty());

                server.at(120_000);
                assert_eq!(server.log(), log(&[(32_000, "Terminated")]));
                assert_eq!(server.respond(200), Err(NoTransaction), "a late response is not sent");
            }
        }
    }

    #[test]
    fn the_100_is_forgotten_with_the_final_response() {
        let mut server = Script::server(Kind::NonInvite, UNRELIABLE);
        let (trying, okay) = (response(100, Kind::NonInvite), response(200, Kind::NonInvite));

        server.at(4_000).respond_with(100, trying.clone()).unwrap();
        assert!(!trying.is_unique());

        server.respond_with(200, okay.clone()).unwrap();
        assert!(trying.is_unique() && !okay.is_unique());

        server.at(120_000);
        assert!(okay.is_unique());
    }
}
