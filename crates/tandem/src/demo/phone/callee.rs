//! A phone that rings, is answered by itself, and talks until the other side hangs up.

use std::time::{Duration, Instant};

use sip::{Message, Method, Status};

use super::message::{Repeated, SESSION, Speaker, response, text};

/// How long it rings.
const RINGS_FOR: Duration = Duration::from_millis(400);

/// A call that nobody ends is forgotten.
const CALL_MAX: Duration = Duration::from_secs(300);

/// One call at a time.
#[derive(Clone, Debug, Default)]
pub struct Callee {
    call: Option<Call>,
    /// How often it rang.
    pub rang: u32,
}

/// What it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Nothing.
    Idle,
    /// It rings.
    Ringing,
    /// It talks.
    Talking,
}

#[derive(Clone, Debug)]
struct Call {
    call_id: String,
    invite: Vec<u8>,
    began: Instant,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Ringing,
    /// The 200 is sent until its ACK comes.
    Answered(Repeated),
    Talking,
}

impl Callee {
    /// What it is doing.
    pub fn doing(&self) -> Doing {
        match self.call.as_ref().map(|call| &call.state) {
            None => Doing::Idle,
            Some(State::Ringing) => Doing::Ringing,
            Some(State::Answered(_) | State::Talking) => Doing::Talking,
        }
    }

    /// Takes a request.
    pub fn handle(&mut self, now: Instant, request: &Message<'_>, speaker: &Speaker, out: &mut Vec<Vec<u8>>) {
        let call_id = text(request.call_id().ok());
        let mut answer = |status, body: &[u8]| out.push(response(request, status, speaker, body));
        let is_busy = self.call.is_some();
        let ours = self.call.as_mut().filter(|call| call.call_id == call_id);
        match (request.method(), ours) {
            (Some(Method::Options), _) => answer(Status::OK, b""),
            (Some(Method::Invite), Some(call)) => match &call.state {
                State::Ringing => answer(Status::RINGING, b""),
                State::Answered(ok) => out.push(ok.bytes.clone()),
                State::Talking => {}
            },
            (Some(Method::Invite), None) if is_busy => answer(Status(486), b""),
            (Some(Method::Invite), None) => {
                answer(Status::RINGING, b"");
                self.rang += 1;
                let invite = request.bytes().to_vec();
                self.call = Some(Call { call_id, invite, began: now, state: State::Ringing });
            }
            (Some(Method::Ack), Some(call)) => call.state = State::Talking,
            (Some(Method::Cancel), Some(call)) => {
                answer(Status::OK, b"");
                if matches!(call.state, State::Ringing)
                    && let Ok(invite) = Message::parse(&call.invite)
                {
                    out.push(response(&invite, Status(487), speaker, b""));
                    self.call = None;
                }
            }
            (Some(Method::Bye), Some(_)) => {
                answer(Status::OK, b"");
                self.call = None;
            }
            (Some(Method::Ack), None) | (None, _) => {}
            (Some(Method::Bye | Method::Cancel), None) => answer(Status(481), b""),
            (Some(_), _) => answer(Status(501), b""),
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, speaker: &Speaker, out: &mut Vec<Vec<u8>>) {
        let Some(call) = &mut self.call else { return };
        let since = now.saturating_duration_since(call.began);
        match &mut call.state {
            State::Ringing if since >= RINGS_FOR => {
                if let Ok(invite) = Message::parse(&call.invite) {
                    let ok = response(&invite, Status::OK, speaker, SESSION);
                    call.state = State::Answered(Repeated::send(now, ok, out));
                }
            }
            State::Answered(ok) => {
                ok.handle_timeout(now, out);
            }
            State::Ringing | State::Talking => {}
        }
        if since >= CALL_MAX {
            self.call = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::phone::message::Request;

    #[test]
    fn a_call_rings_is_answered_and_ends() {
        let (now, mut out, speaker) = (Instant::now(), Vec::new(), speaker());
        let mut callee = Callee::default();
        let mut say = |callee: &mut Callee, method, cseq| {
            let bytes = request(method, cseq);
            callee.handle(now, &parse(&bytes), &speaker, &mut out);
            out.drain(..).map(|bytes| parse(&bytes).status().map(|status| status.0)).collect::<Vec<_>>()
        };

        assert_eq!(say(&mut callee, Method::Invite, 1), [Some(180)]);
        assert_eq!((callee.doing(), callee.rang), (Doing::Ringing, 1));
        let mut answers = Vec::new();
        callee.handle_timeout(now + RINGS_FOR, &speaker, &mut answers);
        assert_eq!(parse(&answers[0]).status(), Some(Status::OK));
        assert_eq!(say(&mut callee, Method::Invite, 1), [Some(200)], "it was lost");
        assert_eq!(say(&mut callee, Method::Ack, 1), []);
        assert_eq!(callee.doing(), Doing::Talking);
        assert_eq!(say(&mut callee, Method::Options, 2), [Some(200)]);
        assert_eq!(say(&mut callee, Method::Bye, 2), [Some(200)]);
        assert_eq!(callee.doing(), Doing::Idle);
        assert_eq!(say(&mut callee, Method::Bye, 3), [Some(481)]);
    }

    #[test]
    fn a_call_that_is_cancelled_does_not_ring_on() {
        let (now, mut out, speaker) = (Instant::now(), Vec::new(), speaker());
        let mut callee = Callee::default();
        for method in [Method::Invite, Method::Cancel] {
            callee.handle(now, &parse(&request(method, 1)), &speaker, &mut out);
        }

        let answers: Vec<_> = out.iter().map(|bytes| parse(bytes).status().map(|status| status.0)).collect();

        assert_eq!(answers, [Some(180), Some(200), Some(487)]);
        assert_eq!(callee.doing(), Doing::Idle);
    }

    fn request(method: Method<'static>, cseq: u32) -> Vec<u8> {
        let request = Request {
            method,
            uri: "sip:ben@192.0.2.22".to_owned(),
            routes: Vec::new(),
            from: "<sip:anna@demo.example>;tag=1".to_owned(),
            to: "<sip:ben@demo.example>".to_owned(),
            call_id: "one".to_owned(),
            cseq,
            contact: None,
            lines: Vec::new(),
            body: b"",
        };
        request.render("SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1")
    }

    fn parse(bytes: &[u8]) -> Message<'_> {
        Message::parse(bytes).expect("it is SIP")
    }

    fn speaker() -> Speaker {
        Speaker::new("ben", "secret", "demo.example", ([192, 0, 2, 22], 5060).into(), 1)
    }
}
