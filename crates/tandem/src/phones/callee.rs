//! A phone that is called: it rings, is answered by itself or when it is told to, and talks until a side hangs up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sip::{Message, Method, Status};

use super::dialog::Dialog;
use super::message::{Repeated, SESSION, Speaker, response, text};

/// How long it rings.
const RINGS_FOR: Duration = Duration::from_millis(400);

/// A call that nobody ends is forgotten.
const CALL_MAX: Duration = Duration::from_secs(300);

/// Calls that are remembered, those that are over included: the oldest go first.
const CALLS_MAX: usize = 64;

/// Which calls a phone takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// All, one at a time.
    TakesAll,
    /// Those that it was told of by [`Callee::expect`]; to all others it is busy.
    TakesExpected,
}

/// What is done with a call that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It is answered after a while.
    Answers,
    /// It rings until [`Callee::answer`].
    Rings,
}

/// The calls that reach it.
#[derive(Clone, Debug)]
pub struct Callee {
    manners: Manners,
    expected: BTreeMap<String, Conduct>,
    calls: Vec<Call>,
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

/// How a call stands at the side that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attended {
    /// It rings.
    Ringing,
    /// It was answered, and the caller has not said that it knows.
    Answered,
    /// The caller knows.
    Talking,
    /// It was hung up here, and the caller has not said that it knows.
    HangingUp,
    /// It was hung up here.
    HungUp,
    /// The caller has hung up.
    LeftAlone,
    /// The caller has cancelled it.
    Cancelled,
    /// Its end was refused.
    Refused(Status),
}

#[derive(Clone, Debug)]
struct Call {
    call_id: String,
    invite: Vec<u8>,
    began: Instant,
    conduct: Conduct,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Ringing,
    /// The 200 is sent until its ACK comes.
    Answered(Repeated),
    Talking,
    /// It is to be refused.
    Refusing,
    /// It is to be hung up.
    Weary,
    /// The BYE is sent until its answer comes.
    HangingUp(Repeated),
    Over(Attended),
}

impl Callee {
    /// Nobody has called.
    pub fn new(manners: Manners) -> Self {
        Self { manners, expected: BTreeMap::new(), calls: Vec::new(), rang: 0 }
    }

    /// What it is doing.
    pub fn doing(&self) -> Doing {
        let stands = |wanted: &[Attended]| self.calls.iter().any(|call| wanted.contains(&call.attended()));
        if stands(&[Attended::Answered, Attended::Talking, Attended::HangingUp]) {
            Doing::Talking
        } else if stands(&[Attended::Ringing]) {
            Doing::Ringing
        } else {
            Doing::Idle
        }
    }

    /// A call with this Call-ID will come.
    pub fn expect(&mut self, call_id: &str, conduct: Conduct) {
        while self.expected.len() >= CALLS_MAX {
            self.expected.pop_first();
        }
        self.expected.insert(call_id.to_owned(), conduct);
    }

    /// How a call stands; `None`: it has not come.
    pub fn attended(&self, call_id: &str) -> Option<Attended> {
        self.calls.iter().find(|call| call.call_id == call_id).map(Call::attended)
    }

    /// Answers a call that rings, with the next passing of time.
    pub fn answer(&mut self, call_id: &str) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.call_id == call_id) {
            call.conduct = Conduct::Answers;
        }
    }

    /// Hangs a call up that is talked, with the next passing of time.
    pub fn hang_up(&mut self, call_id: &str) {
        let call = self.calls.iter_mut().find(|call| call.call_id == call_id);
        if let Some(call) = call.filter(|call| matches!(call.state, State::Talking | State::Answered(_))) {
            call.state = State::Weary;
        }
    }

    /// Ends what rings and what is talked, with the next passing of time, and expects nobody.
    pub fn end_all(&mut self) {
        self.expected.clear();
        for call in &mut self.calls {
            if !matches!(call.state, State::HangingUp(_) | State::Over(_)) {
                call.state = match call.state {
                    State::Ringing => State::Refusing,
                    _ => State::Weary,
                };
            }
        }
    }

    /// Takes a request.
    pub fn handle(&mut self, now: Instant, request: &Message<'_>, speaker: &Speaker, out: &mut Vec<Vec<u8>>) {
        let call_id = text(request.call_id().ok());
        let mut answer = |status, body: &[u8]| out.push(response(request, status, speaker, body));
        let is_busy = self.calls.iter().any(|call| !matches!(call.state, State::Over(_)));
        let conduct = match self.manners {
            Manners::TakesAll => (!is_busy).then_some(Conduct::Answers),
            Manners::TakesExpected => self.expected.get(&call_id).copied(),
        };
        let ours = self.calls.iter_mut().find(|call| call.call_id == call_id);
        match (request.method(), ours) {
            (Some(Method::Options), _) => answer(Status::OK, b""),
            (Some(Method::Invite), Some(call)) => match &call.state {
                State::Ringing => answer(Status::RINGING, b""),
                State::Answered(ok) => out.push(ok.bytes.clone()),
                State::Over(Attended::Cancelled) => answer(Status(487), b""),
                _ => {}
            },
            (Some(Method::Invite), None) => match conduct {
                None => answer(Status(486), b""),
                Some(conduct) => {
                    answer(Status::RINGING, b"");
                    self.rang += 1;
                    self.expected.remove(&call_id);
                    let invite = request.bytes().to_vec();
                    self.calls.push(Call { call_id, invite, began: now, conduct, state: State::Ringing });
                    let surplus = self.calls.len().saturating_sub(CALLS_MAX);
                    self.calls.drain(..surplus);
                }
            },
            (Some(Method::Ack), Some(call)) => {
                if matches!(call.state, State::Answered(_)) {
                    call.state = State::Talking;
                }
            }
            (Some(Method::Cancel), Some(call)) => {
                answer(Status::OK, b"");
                if matches!(call.state, State::Ringing)
                    && let Ok(invite) = Message::parse(&call.invite)
                {
                    out.push(response(&invite, Status(487), speaker, b""));
                    call.state = State::Over(Attended::Cancelled);
                }
            }
            (Some(Method::Bye), Some(call)) if matches!(call.state, State::Over(Attended::Cancelled)) => {
                answer(Status(481), b"");
            }
            (Some(Method::Bye), Some(call)) => {
                answer(Status::OK, b"");
                if !matches!(call.state, State::Over(_)) {
                    call.state = State::Over(Attended::LeftAlone);
                }
            }
            (Some(Method::Ack), None) | (None, _) => {}
            (Some(Method::Bye | Method::Cancel), None) => answer(Status(481), b""),
            (Some(_), _) => answer(Status(501), b""),
        }
    }

    /// Takes a response to a BYE of this side.
    pub fn handle_response(&mut self, _now: Instant, response: &Message<'_>) {
        let call_id = text(response.call_id().ok());
        let Some(status) = response.status().filter(|status| status.0 >= 200) else { return };
        let call = self.calls.iter_mut().find(|call| call.call_id == call_id);
        if let Some(call) = call.filter(|call| matches!(call.state, State::HangingUp(_))) {
            let end = if status.0 / 100 == 2 { Attended::HungUp } else { Attended::Refused(status) };
            call.state = State::Over(end);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, speaker: &mut Speaker, out: &mut Vec<Vec<u8>>) {
        for call in &mut self.calls {
            call.handle_timeout(now, speaker, out);
        }
        self.calls.retain(|call| now.saturating_duration_since(call.began) < CALL_MAX);
    }
}

impl Call {
    fn attended(&self) -> Attended {
        match &self.state {
            State::Ringing => Attended::Ringing,
            State::Answered(_) => Attended::Answered,
            State::Talking => Attended::Talking,
            State::Refusing | State::Weary | State::HangingUp(_) => Attended::HangingUp,
            State::Over(end) => *end,
        }
    }

    fn handle_timeout(&mut self, now: Instant, speaker: &mut Speaker, out: &mut Vec<Vec<u8>>) {
        let since = now.saturating_duration_since(self.began);
        match &mut self.state {
            State::Ringing if self.conduct == Conduct::Answers && since >= RINGS_FOR => {
                if let Ok(invite) = Message::parse(&self.invite) {
                    let ok = response(&invite, Status::OK, speaker, SESSION);
                    self.state = State::Answered(Repeated::send(now, ok, out));
                }
            }
            State::Refusing => {
                if let Ok(invite) = Message::parse(&self.invite) {
                    out.push(response(&invite, Status(480), speaker, b""));
                }
                self.state = State::Over(Attended::HungUp);
            }
            State::Weary => {
                if let Ok(invite) = Message::parse(&self.invite) {
                    let bye = Dialog::of_callee(&invite, speaker).request(Method::Bye, 1);
                    let bye = bye.render(&speaker.via());
                    self.state = State::HangingUp(Repeated::send(now, bye, out));
                }
            }
            State::Answered(repeated) | State::HangingUp(repeated) => {
                repeated.handle_timeout(now, out);
            }
            State::Ringing | State::Talking | State::Over(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phones::message::Request;

    #[test]
    fn a_call_rings_is_answered_and_ends() {
        let (now, mut out, own) = (Instant::now(), Vec::new(), speaker());
        let mut callee = Callee::new(Manners::TakesAll);
        let mut say = |callee: &mut Callee, method, cseq| {
            let bytes = request(method, cseq);
            callee.handle(now, &parse(&bytes), &own, &mut out);
            out.drain(..).map(|bytes| parse(&bytes).status().map(|status| status.0)).collect::<Vec<_>>()
        };

        assert_eq!(say(&mut callee, Method::Invite, 1), [Some(180)]);
        assert_eq!((callee.doing(), callee.rang), (Doing::Ringing, 1));
        let mut answers = Vec::new();
        callee.handle_timeout(now + RINGS_FOR, &mut speaker(), &mut answers);
        assert_eq!(parse(&answers[0]).status(), Some(Status::OK));
        assert_eq!(say(&mut callee, Method::Invite, 1), [Some(200)], "it was lost");
        assert_eq!(say(&mut callee, Method::Ack, 1), []);
        assert_eq!(callee.doing(), Doing::Talking);
        assert_eq!(say(&mut callee, Method::Options, 2), [Some(200)]);
        assert_eq!(say(&mut callee, Method::Bye, 2), [Some(200)]);
        assert_eq!(callee.doing(), Doing::Idle);
        assert_eq!(say(&mut callee, Method::Bye, 3), [Some(200)], "it was lost");
    }

    #[test]
    fn a_call_that_is_cancelled_does_not_ring_on() {
        let (now, mut out, speaker) = (Instant::now(), Vec::new(), speaker());
        let mut callee = Callee::new(Manners::TakesAll);
        for method in [Method::Invite, Method::Cancel] {
            callee.handle(now, &parse(&request(method, 1)), &speaker, &mut out);
        }

        let answers: Vec<_> = out.iter().map(|bytes| parse(bytes).status().map(|status| status.0)).collect();

        assert_eq!(answers, [Some(180), Some(200), Some(487)]);
        assert_eq!(callee.doing(), Doing::Idle);
    }

    #[test]
    fn only_what_is_expected_rings_and_it_may_be_hung_up_here() {
        let (now, mut out, mut speaker) = (Instant::now(), Vec::new(), speaker());
        let mut callee = Callee::new(Manners::TakesExpected);
        let invite = request(Method::Invite, 1);
        callee.handle(now, &parse(&invite), &speaker, &mut out);
        assert_eq!(parse(&out.remove(0)).status(), Some(Status(486)), "a stranger's");
        callee.expect("one", Conduct::Rings);
        callee.handle(now, &parse(&invite), &speaker, &mut out);
        callee.handle_timeout(now + RINGS_FOR * 9, &mut speaker, &mut out);
        assert_eq!((out.len(), callee.attended("one")), (1, Some(Attended::Ringing)));

        callee.answer("one");
        callee.handle_timeout(now + RINGS_FOR * 9, &mut speaker, &mut out);
        callee.handle(now, &parse(&request(Method::Ack, 1)), &speaker, &mut out);
        callee.hang_up("one");
        out.clear();
        callee.handle_timeout(now + RINGS_FOR * 9, &mut speaker, &mut out);

        let bye = out.remove(0);
        let bye = parse(&bye);
        assert_eq!((bye.method(), callee.attended("one")), (Some(Method::Bye), Some(Attended::HangingUp)));
        assert_eq!(text(bye.header(sip::Name::To)), "<sip:anna@demo.example>;tag=1");
        assert!(text(bye.header(sip::Name::From)).ends_with(&format!(";tag={}", speaker.tag())));
        let mut ok = Vec::new();
        sip::ResponseBuilder::new(&bye, Status::OK).write(&mut ok);
        callee.handle_response(now, &parse(&ok));
        assert_eq!(callee.attended("one"), Some(Attended::HungUp));
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
            contact: Some("<sip:anna@192.0.2.21>".to_owned()),
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
