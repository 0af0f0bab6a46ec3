//! The non-INVITE client transaction: RFC 3261 §17.1.2.
//!
//! ```text
//!    ┌────────┐  1xx   ┌────────────┐
//!  E ┤ Trying ├───────►│ Proceeding ├ E
//!    └─┬────┬─┘        └──┬────┬────┘
//!      │    │ 200-699     │    │
//!      │    │  ┌──────────▼┐   │
//!    F │    └─►│ Completed │   │ F
//!      │       └────┬──────┘   │
//!      │            ▼ K        │
//!      └──────► Terminated ◄───┘
//! ```
//!
//! The request is kept until the final response, then nothing is.

use bytes::Bytes;
use clock::Instant;
use sip::Status;

use crate::ResponseDisposition;
use crate::stored::{ClientState, Repeat};
use crate::timers::{Fired, Retransmission, Timers};

/// One request other than INVITE and ACK that was sent.
#[derive(Clone, Debug)]
pub(crate) struct NonInviteClient {
    state: State,
    reliable: bool,
}

#[derive(Clone, Debug)]
enum State {
    Trying { request: Bytes, timer_e: Option<Retransmission>, timer_f: Instant },
    Proceeding { request: Bytes, timer_e: Option<Retransmission>, timer_f: Instant },
    Completed { timer_k: Instant },
    Terminated,
}

impl NonInviteClient {
    /// The transaction of `request`, which is sent now.
    pub fn new(now: Instant, timers: &Timers, request: Bytes, reliable: bool) -> Self {
        // RFC 3261 §17.1.2.2: timer E runs over unreliable transports only, timer F over all.
        let timer_e = (!reliable).then(|| Retransmission::start(now, timers.t1));
        let timer_f = now + timers.transaction_lifetime();
        Self { state: State::Trying { request, timer_e, timer_f }, reliable }
    }

    /// What another node goes on with; `None` once it has ended.
    pub fn stored(&self, now: Instant) -> Option<ClientState> {
        Some(match &self.state {
            State::Trying { request, timer_e, timer_f } => ClientState::Trying {
                request: request.clone(),
                repeat: Repeat::of(now, *timer_e),
                left: timer_f.since(now),
            },
            State::Proceeding { request, timer_e, timer_f } => ClientState::Proceeding {
                request: request.clone(),
                repeat: Repeat::of(now, *timer_e),
                left: timer_f.since(now),
            },
            State::Completed { timer_k } => ClientState::Completed { left: timer_k.since(now) },
            State::Terminated => return None,
        })
    }

    /// Goes on with what was stored; `None`: that is of an INVITE.
    pub fn restored(now: Instant, state: ClientState, reliable: bool) -> Option<Self> {
        let state = match state {
            ClientState::Trying { request, repeat, left } => {
                State::Trying { request, timer_e: Repeat::restored(now, repeat), timer_f: now + left }
            }
            ClientState::Proceeding { request, repeat, left } => {
                State::Proceeding { request, timer_e: Repeat::restored(now, repeat), timer_f: now + left }
            }
            ClientState::Completed { left } => State::Completed { timer_k: now + left },
            ClientState::InviteCalling { .. }
            | ClientState::InviteProceeding { .. }
            | ClientState::InviteCompleted { .. }
            | ClientState::InviteAccepted { .. } => return None,
        };
        Some(Self { state, reliable })
    }

    /// A response: whose it is.
    pub fn handle_response(&mut self, now: Instant, timers: &Timers, status: Status) -> ResponseDisposition {
        match &self.state {
            State::Trying { request, timer_e, timer_f } | State::Proceeding { request, timer_e, timer_f } => {
                if status.is_provisional() {
                    let (request, timer_e, timer_f) = (request.clone(), *timer_e, *timer_f);
                    self.state = State::Proceeding { request, timer_e, timer_f };
                    return ResponseDisposition::Deliver;
                }
                // RFC 3261 §17.1.2.2: timer K absorbs repeated responses for T4; a stream brings none.
                self.state = match timers.stray_messages(self.reliable) {
                    wait if wait.is_zero() => State::Terminated,
                    wait => State::Completed { timer_k: now + wait },
                };
                ResponseDisposition::Deliver
            }
            State::Completed { .. } | State::Terminated => ResponseDisposition::Absorbed,
        }
    }

    /// The request could not be sent: whether the transaction user has to know.
    pub fn handle_send_failed(&mut self) -> bool {
        let is_open = matches!(self.state, State::Trying { .. } | State::Proceeding { .. });
        if is_open {
            self.state = State::Terminated;
        }
        is_open
    }

    pub fn handle_timeout(&mut self, now: Instant, timers: &Timers) -> Option<Fired> {
        match &mut self.state {
            State::Trying { timer_f, .. } | State::Proceeding { timer_f, .. } if *timer_f <= now => {
                self.state = State::Terminated;
                Some(Fired::TimedOut)
            }
            State::Trying { request, timer_e: Some(timer_e), .. } if timer_e.at <= now => {
                *timer_e = timer_e.next(now, timers.t2);
                Some(Fired::Resend(request.clone()))
            }
            State::Proceeding { request, timer_e: Some(timer_e), .. } if timer_e.at <= now => {
                // RFC 3261 §17.1.2.2: in Proceeding the interval is T2, however short the last one was.
                *timer_e = Retransmission::start(now, timers.t2);
                Some(Fired::Resend(request.clone()))
            }
            State::Completed { timer_k } if *timer_k <= now => {
                self.state = State::Terminated;
                Some(Fired::Ended)
            }
            _ => None,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Trying { timer_e, timer_f, .. } | State::Proceeding { timer_e, timer_f, .. } => {
                Some(timer_e.map_or(*timer_f, |timer_e| timer_e.at.min(*timer_f)))
            }
            State::Completed { timer_k } => Some(*timer_k),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::ResponseDisposition::{Absorbed, Deliver, Unknown};
    use crate::script::{RELIABLE, Script, UNRELIABLE, log, request};

    /// RFC 3261 §17.1.2.2: timer E doubles from T1 up to T2, timer F ends it after 64*T1.
    #[test]
    fn an_unanswered_request_is_repeated_and_times_out() {
        let mut client = Script::client(Kind::NonInvite, UNRELIABLE);

        client.at(120_000);

        let sent = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        let mut expected: Vec<_> = sent.iter().map(|&ms| (ms, "OPTIONS")).collect();
        expected.extend([(32_000, "TimedOut"), (32_000, "Terminated")]);
        assert_eq!(client.log(), log(&expected));
        assert_eq!(client.response(200), Unknown);
    }

    /// RFC 3261 §17.1.2.2: timer F runs over any transport, timer E does not; also in Proceeding.
    #[test]
    fn an_unanswered_request_is_not_repeated_over_a_stream() {
        for provisional in [None, Some(100)] {
            let mut client = Script::client(Kind::NonInvite, RELIABLE);
            provisional.map(|status| client.response(status));

            client.at(120_000);

            let expected = [(0, "OPTIONS"), (32_000, "TimedOut"), (32_000, "Terminated")];
            assert_eq!(client.log(), log(&expected));
        }
    }

    /// RFC 3261 §17.1.2.2: in Proceeding the request is repeated each T2, and timer F goes on.
    #[test]
    fn a_provisional_response_slows_the_retransmissions_down() {
        let mut client = Script::client(Kind::NonInvite, UNRELIABLE);

        assert_eq!(client.at(600).response(100), Deliver);
        assert_eq!(client.at(700).response(182), Deliver, "each provisional response goes up");
        client.at(120_000);

        let sent = [0, 500, 1_500, 5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500];
        let mut expected: Vec<_> = sent.iter().map(|&ms| (ms, "OPTIONS")).collect();
        expected.extend([(32_000, "TimedOut"), (32_000, "Terminated")]);
        assert_eq!(client.log(), log(&expected));
    }

    /// RFC 3261 §17.1.2.2: from Trying and from Proceeding; timer K is T4 over an unreliable transport.
    #[test]
    fn a_final_response_goes_up_once_and_its_repetitions_are_absorbed_for_t4() {
        for provisional in [None, Some(100)] {
            for status in [200, 302, 401, 503, 604] {
                let mut client = Script::client(Kind::NonInvite, UNRELIABLE);
                client.words();
                provisional.map(|status| client.response(status));

                assert_eq!(client.at(100).response(status), Deliver);
                assert_eq!(client.at(200).response(status), Absorbed);
                assert_eq!(client.at(300).response(100), Absorbed);
                assert_eq!(client.at(5_099).response(200), Absorbed);
                assert_eq!(client.at(5_100).response(status), Unknown);

                assert_eq!(client.log(), log(&[(5_100, "Terminated")]));
            }
        }
    }

    /// RFC 3261 §17.1.2.2: timer K is zero over a reliable transport.
    #[test]
    fn over_a_stream_the_transaction_ends_with_the_final_response() {
        let mut client = Script::client(Kind::NonInvite, RELIABLE);
        client.words();

        assert_eq!(client.at(100).response(200), Deliver);

        assert_eq!(client.log(), log(&[(100, "Terminated")]));
        assert_eq!(client.response(200), Unknown);
    }

    /// RFC 3261 §17.1.4: in Trying and in Proceeding.
    #[test]
    fn a_request_that_can_not_be_sent_is_unreachable() {
        for provisional in [None, Some(100)] {
            let mut client = Script::client(Kind::NonInvite, UNRELIABLE);
            client.words();
            provisional.map(|status| client.response(status));

            client.at(3).send_failed();

            assert_eq!(client.log(), log(&[(3, "Unreachable"), (3, "Terminated")]));
        }
    }

    #[test]
    fn a_request_that_was_answered_was_sent() {
        let mut client = Script::client(Kind::NonInvite, UNRELIABLE);
        client.response(200);
        client.words();

        client.send_failed();

        assert!(client.words().is_empty());
    }

    #[test]
    fn the_request_is_kept_until_the_final_response() {
        for (status, is_kept) in [(100, true), (200, false), (404, false)] {
            let options = request(Kind::NonInvite);
            let mut client =
                Script::client_with(Kind::NonInvite, UNRELIABLE, Timers::default(), options.clone());

            client.response(status);

            assert_eq!(!options.is_unique(), is_kept, "{status}");
        }
    }
}
