//! Who calls phones: several calls at once, each by digest, from INVITE to BYE or CANCEL.
//!
//! Like the phones it has no socket and no clock.

use std::time::{Duration, Instant};

use sip::{Message, Method, Status, ack_for, cancel_for};

use super::dialog::Dialog;
use super::login::Login;
use super::message::{Repeated, Request, SESSION, Speaker, response, text};
use super::wire::Speaks;

/// How long a call is talked on.
const TALKS_FOR: Duration = Duration::from_millis(500);

/// A call that is over stays to be asked about; so many at the most.
const CALLS_MAX: usize = 64;

/// Who calls.
#[derive(Debug)]
pub struct Caller {
    speaker: Speaker,
    login: Login,
    calls: Vec<Call>,
    patience: Duration,
}

/// Whether a call is hung up by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After half a second.
    Short,
    /// When [`Caller::hang_up`] or [`Caller::hang_up_all`] says so.
    Held,
}

/// How a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not answered yet.
    Calling,
    /// It rings.
    Ringing,
    /// It was answered, so long after it began.
    Up(Duration),
    /// It was answered, so long after it began, and its BYE too; or the other side's BYE has come.
    Ended(Duration),
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled, and the other side's end of it has come.
    Cancelled,
    /// It came to nothing: why.
    Failed(String),
}

#[derive(Debug)]
struct Call {
    to: String,
    length: Length,
    began: Instant,
    patience: Duration,
    invite: Request,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The INVITE is to be sent.
    Due,
    /// The INVITE was sent.
    Calling { sent: Repeated, is_proved: bool, heard: Heard },
    /// The call is to be cancelled.
    Unwanted { sent: Repeated },
    /// The CANCEL was sent; it is not repeated any more when it was answered.
    Cancelling { sent: Repeated, cancel: Option<Repeated> },
    /// It was answered.
    Up { since: Instant, dialog: Dialog, ack: Vec<u8> },
    /// The BYE was sent.
    Ending { since: Instant, began: Instant, bye: Repeated, cseq: u32 },
    /// It is over.
    Over(Standing),
}

/// What was heard of an INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Trying,
    Ringing,
}

impl Caller {
    /// Who calls nobody yet. Whoever does not answer for as long as its patience lasts is not reached.
    pub fn new(speaker: Speaker, patience: Duration) -> Self {
        Self { speaker, login: Login::default(), calls: Vec::new(), patience }
    }

    /// Calls a phone with the next passing of time. Gives the Call-ID; `None`: there are too many calls.
    pub fn call(&mut self, now: Instant, user: &str, length: Length) -> Option<String> {
        let is_over = |call: &Call| matches!(call.state, State::Over(_));
        if self.calls.len() >= CALLS_MAX {
            let oldest = self.calls.iter().position(is_over)?;
            self.calls.remove(oldest);
        }
        let uri = format!("sip:{user}@{}", self.speaker.domain);
        let call_id = self.speaker.unique();
        let invite = Request {
            method: Method::Invite,
            routes: Vec::new(),
            from: format!("<{}>;tag={}", self.speaker.aor(), self.speaker.unique()),
            to: format!("<{uri}>"),
            uri,
            call_id: call_id.clone(),
            cseq: 0,
            contact: Some(self.speaker.contact()),
            lines: Vec::new(),
            body: SESSION,
        };
        let (to, patience) = (user.to_owned(), self.patience);
        self.calls.push(Call { to, length, began: now, patience, invite, state: State::Due });
        Some(call_id)
    }

    /// Hangs up a call that is up.
    pub fn hang_up(&mut self, call_id: &str) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.invite.call_id == call_id) {
            call.length = Length::Short;
        }
    }

    /// Hangs up all calls that are held.
    pub fn hang_up_all(&mut self) {
        for call in &mut self.calls {
            call.length = Length::Short;
        }
    }

    /// Cancels a call that is not answered, with the next passing of time.
    pub fn cancel(&mut self, call_id: &str) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.invite.call_id == call_id) {
            call.cancel();
        }
    }

    /// Ends all calls, whatever they are doing.
    pub fn end_all(&mut self) {
        self.hang_up_all();
        for call in &mut self.calls {
            call.cancel();
        }
    }

    /// Whether one of its calls is not over.
    pub fn is_calling(&self) -> bool {
        self.calls.iter().any(|call| !matches!(call.state, State::Over(_)))
    }

    /// How a call stands.
    pub fn standing_of(&self, call_id: &str) -> Option<Standing> {
        self.calls.iter().find(|call| call.invite.call_id == call_id).map(Call::standing)
    }

    /// How the last call to a phone stands.
    pub fn standing(&self, user: &str) -> Option<Standing> {
        self.calls.iter().rev().find(|call| call.to == user).map(Call::standing)
    }

    /// Whether a message belongs to one of its calls.
    pub fn has(&self, message: &Message<'_>) -> bool {
        let call_id = text(message.call_id().ok());
        self.calls.iter().any(|call| call.invite.call_id == call_id)
    }
}

impl Speaks for Caller {
    fn handle(&mut self, now: Instant, message: &Message<'_>, out: &mut Vec<Vec<u8>>) {
        let Self { speaker, login, calls, .. } = self;
        let call_id = text(message.call_id().ok());
        let Some(call) = calls.iter_mut().find(|call| call.invite.call_id == call_id) else { return };
        if message.is_request() {
            call.handle_request(message, speaker, out);
        } else {
            call.handle(now, message, speaker, login, out);
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let Self { speaker, login, calls, .. } = self;
        for call in calls {
            call.handle_timeout(now, speaker, login, out);
        }
    }
}

impl Call {
    fn standing(&self) -> Standing {
        let after = |since: &Instant| since.saturating_duration_since(self.began);
        match &self.state {
            State::Due | State::Calling { heard: Heard::Nothing | Heard::Trying, .. } => Standing::Calling,
            State::Calling { heard: Heard::Ringing, .. } => Standing::Ringing,
            State::Unwanted { .. } | State::Cancelling { .. } => Standing::Cancelling,
            State::Up { since, .. } | State::Ending { since, .. } => Standing::Up(after(since)),
            State::Over(standing) => standing.clone(),
        }
    }

    fn cancel(&mut self) {
        match &self.state {
            State::Due => self.state = State::Over(Standing::Cancelled),
            State::Calling { sent, .. } => self.state = State::Unwanted { sent: sent.clone() },
            _ => {}
        }
    }

    /// The other side hangs up.
    fn handle_request(&mut self, request: &Message<'_>, speaker: &Speaker, out: &mut Vec<Vec<u8>>) {
        let status = match (request.method(), &self.state) {
            (Some(Method::Ack), _) => return,
            (Some(Method::Bye), State::Up { since, .. }) => {
                self.state = State::Over(Standing::Ended(since.saturating_duration_since(self.began)));
                Status::OK
            }
            (Some(Method::Bye), State::Ending { .. } | State::Over(Standing::Ended(_))) => Status::OK,
            (Some(Method::Bye), _) => Status(481),
            _ => Status(501),
        };
        out.push(response(request, status, speaker, b""));
    }

    fn handle(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        speaker: &mut Speaker,
        login: &mut Login,
        out: &mut Vec<Vec<u8>>,
    ) {
        let Ok(cseq) = response.cseq() else { return };
        let (Some(status), number) = (response.status().map(|status| status.0), cseq.number) else { return };
        let is_of_invite = cseq.method == Method::Invite && number == self.invite.cseq;
        match &mut self.state {
            State::Calling { heard, .. } if is_of_invite && status < 200 => match status {
                180..=199 => *heard = Heard::Ringing,
                _ if *heard == Heard::Nothing => *heard = Heard::Trying,
                _ => {}
            },
            State::Calling { .. } | State::Unwanted { .. } | State::Cancelling { .. }
                if is_of_invite && status / 100 == 2 =>
            {
                let dialog = Dialog::of_caller(&self.invite, response);
                let mut ack = dialog.request(Method::Ack, self.invite.cseq);
                ack.lines = self.invite.lines.clone();
                let ack = ack.render(&speaker.via());
                out.push(ack.clone());
                if !matches!(self.state, State::Calling { .. }) {
                    // Both have crossed each other.
                    self.length = Length::Short;
                }
                self.state = State::Up { since: now, dialog, ack };
            }
            State::Calling { sent, is_proved, .. } if is_of_invite => {
                acknowledge(sent, response, out);
                let is_asked = status == 407 && !*is_proved && login.learn(response);
                if is_asked {
                    self.invite(now, speaker, login, out);
                } else {
                    self.state = State::Over(Standing::Failed(status_text(status)));
                }
            }
            State::Unwanted { sent } | State::Cancelling { sent, .. } if is_of_invite && status >= 300 => {
                acknowledge(sent, response, out);
                self.state = State::Over(match status {
                    487 => Standing::Cancelled,
                    _ => Standing::Failed(status_text(status)),
                });
            }
            State::Cancelling { cancel, .. } if cseq.method == Method::Cancel && status >= 200 => {
                *cancel = None;
                if status >= 300 {
                    let reason = format!("its CANCEL got {}", status_text(status));
                    self.state = State::Over(Standing::Failed(reason));
                }
            }
            // The ACK was lost.
            State::Up { ack, .. } if cseq.method == Method::Invite && status / 100 == 2 => {
                out.push(ack.clone());
            }
            State::Ending { since, began, cseq: sent, .. }
                if cseq.method == Method::Bye && number == *sent && status >= 200 =>
            {
                let answered = since.saturating_duration_since(*began);
                self.state = State::Over(match status {
                    200..=299 => Standing::Ended(answered),
                    _ => Standing::Failed(format!("its BYE got {}", status_text(status))),
                });
            }
            _ => {}
        }
    }

    fn handle_timeout(
        &mut self,
        now: Instant,
        speaker: &mut Speaker,
        login: &mut Login,
        out: &mut Vec<Vec<u8>>,
    ) {
        let is_late = now.saturating_duration_since(self.began) >= self.patience;
        match &mut self.state {
            State::Due => self.invite(now, speaker, login, out),
            State::Calling { sent, heard, .. } => {
                // RFC 3261 §17.1.1.2: a provisional response ends the repetitions.
                if *heard == Heard::Nothing {
                    sent.handle_timeout(now, out);
                }
                if is_late {
                    let seconds = self.patience.as_secs();
                    self.state = State::Over(Standing::Failed(format!("no answer in {seconds} s")));
                }
            }
            State::Unwanted { sent } => {
                let mut bytes = Vec::new();
                if let Ok(invite) = Message::parse(&sent.bytes) {
                    cancel_for(&invite, &mut bytes);
                }
                let cancel = Some(Repeated::send(now, bytes, out));
                self.state = State::Cancelling { sent: sent.clone(), cancel };
                // What is late is the end of it from here on.
                self.began = now;
            }
            State::Cancelling { cancel, .. } => {
                if let Some(cancel) = cancel {
                    cancel.handle_timeout(now, out);
                }
                if is_late {
                    self.state = State::Over(Standing::Failed("its CANCEL did not end it".to_owned()));
                }
            }
            State::Up { since, dialog, .. }
                if self.length == Length::Short && now.saturating_duration_since(*since) >= TALKS_FOR =>
            {
                let cseq = self.invite.cseq + 1;
                let bye = dialog.request(Method::Bye, cseq).render(&speaker.via());
                let bye = Repeated::send(now, bye, out);
                self.state = State::Ending { since: *since, began: self.began, bye, cseq };
                // What is late is the BYE from here on.
                self.began = now;
            }
            State::Ending { bye, .. } => {
                bye.handle_timeout(now, out);
                if is_late {
                    self.state = State::Over(Standing::Failed("its BYE got no answer".to_owned()));
                }
            }
            State::Up { .. } | State::Over(_) => {}
        }
    }

    fn invite(&mut self, now: Instant, speaker: &mut Speaker, login: &mut Login, out: &mut Vec<Vec<u8>>) {
        self.invite.cseq += 1;
        // An old nonce that is not taken any more is one try.
        let is_proved = self.invite.cseq > 1;
        let proof = login.prove(speaker, Method::Invite, &self.invite.uri);
        self.invite.lines = proof.into_iter().collect();
        let sent = Repeated::send(now, self.invite.render(&speaker.via()), out);
        self.state = State::Calling { sent, is_proved, heard: Heard::Nothing };
    }
}

fn acknowledge(invite: &Repeated, response: &Message<'_>, out: &mut Vec<Vec<u8>>) {
    if let Ok(invite) = Message::parse(&invite.bytes) {
        let mut ack = Vec::new();
        ack_for(&invite, response, &mut ack);
        out.push(ack);
    }
}

fn status_text(status: u16) -> String {
    format!("{status} {}", Status(status).reason_phrase())
}

#[cfg(test)]
mod tests {
    use sip::{Name, ResponseBuilder};

    use super::*;

    #[test]
    fn a_call_is_proved_answered_acknowledged_and_hung_up() {
        let (begin, mut caller) = (Instant::now(), caller());
        caller.call(begin, "ben", Length::Short);
        let first = written(&mut caller, begin).remove(0);
        let challenge = "Digest realm=\"d\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"";

        let said = say(&mut caller, begin, &first, 407, &[(Name::ProxyAuthenticate, challenge)]);

        assert_eq!(method(&said[0]), Method::Ack);
        let proved = said[1].clone();
        assert!(parse(&proved).has(Name::ProxyAuthorization));
        assert!(say(&mut caller, begin, &proved, 180, &[]).is_empty());
        assert_eq!(caller.standing("ben"), Some(Standing::Ringing));
        let lines = [
            (Name::Contact, "<sip:ben@192.0.2.22:5060>"),
            (Name::RecordRoute, "<sip:one;lr>"),
            (Name::RecordRoute, "<sip:two;lr>"),
        ];
        let answered = begin + Duration::from_millis(400);
        let ack = say(&mut caller, answered, &proved, 200, &lines).remove(0);
        let ack = parse(&ack);
        assert_eq!(
            (ack.method(), ack.request_uri()),
            (Some(Method::Ack), Some(&b"sip:ben@192.0.2.22:5060"[..]))
        );
        assert_eq!(ack.values(Name::Route).next(), Some(&b"<sip:two;lr>"[..]));
        assert_eq!(caller.standing("ben"), Some(Standing::Up(Duration::from_millis(400))));
        let bye = written(&mut caller, answered + TALKS_FOR).remove(0);
        assert_eq!(method(&bye), Method::Bye);
        say(&mut caller, answered + TALKS_FOR, &bye, 200, &[]);
        assert_eq!(caller.standing("ben"), Some(Standing::Ended(Duration::from_millis(400))));
    }

    #[test]
    fn a_call_that_is_held_is_ended_when_it_is_said() {
        let (begin, mut caller) = (Instant::now(), caller());
        caller.call(begin, "ben", Length::Held);
        let invite = written(&mut caller, begin).remove(0);
        say(&mut caller, begin, &invite, 200, &[(Name::Contact, "<sip:ben@192.0.2.22>")]);
        assert!(written(&mut caller, begin + TALKS_FOR * 20).is_empty());

        caller.hang_up_all();

        assert_eq!(method(&written(&mut caller, begin + TALKS_FOR * 20)[0]), Method::Bye);
    }

    #[test]
    fn whom_it_does_not_reach_is_told_with_the_reason() {
        let (begin, mut caller) = (Instant::now(), caller());
        for user in ["ben", "cleo"] {
            caller.call(begin, user, Length::Short);
        }
        let ben = written(&mut caller, begin).remove(0);
        say(&mut caller, begin, &ben, 480, &[]);
        written(&mut caller, begin + PATIENCE);

        let failed = |reason: &str| Some(Standing::Failed(reason.to_owned()));
        assert_eq!(caller.standing("ben"), failed("480 Temporarily Unavailable"));
        assert_eq!(caller.standing("cleo"), failed("no answer in 6 s"));
        assert_eq!(caller.standing("dora"), None);
    }

    #[test]
    fn a_call_is_cancelled_until_the_other_side_says_that_it_is_over() {
        let (begin, mut caller) = (Instant::now(), caller());
        let call = caller.call(begin, "ben", Length::Held).expect("there is room");
        let invite = written(&mut caller, begin).remove(0);
        say(&mut caller, begin, &invite, 180, &[]);
        caller.cancel(&call);

        let cancel = written(&mut caller, begin).remove(0);

        assert_eq!(method(&cancel), Method::Cancel);
        assert_eq!(written(&mut caller, begin + Duration::from_secs(1)), [&cancel[..]], "it was lost");
        say(&mut caller, begin, &cancel, 200, &[]);
        assert!(written(&mut caller, begin + Duration::from_secs(3)).is_empty());
        assert_eq!(caller.standing_of(&call), Some(Standing::Cancelling), "only its own CANCEL was answered");
        let ack = say(&mut caller, begin, &invite, 487, &[]).remove(0);
        assert_eq!((method(&ack), caller.standing_of(&call)), (Method::Ack, Some(Standing::Cancelled)));
    }

    #[test]
    fn a_call_that_the_other_side_hangs_up_is_over() {
        let (begin, mut caller) = (Instant::now(), caller());
        let call = caller.call(begin, "ben", Length::Held).expect("there is room");
        let invite = written(&mut caller, begin).remove(0);
        assert!(written(&mut caller, begin + Duration::from_millis(499)).is_empty());
        say(&mut caller, begin, &invite, 100, &[]);
        assert!(written(&mut caller, begin + Duration::from_secs(2)).is_empty(), "the server has it");
        say(&mut caller, begin, &invite, 200, &[(Name::Contact, "<sip:ben@192.0.2.22>")]);
        let bye = String::from_utf8(invite).expect("it is text").replace("INVITE", "BYE");
        let mut out = Vec::new();

        caller.handle(begin, &parse(bye.as_bytes()), &mut out);

        assert_eq!(parse(&out[0]).status(), Some(Status::OK));
        assert_eq!(caller.standing_of(&call), Some(Standing::Ended(Duration::ZERO)));
    }

    const PATIENCE: Duration = Duration::from_secs(6);

    fn written(caller: &mut Caller, now: Instant) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        caller.handle_timeout(now, &mut out);
        out
    }

    fn say(
        caller: &mut Caller,
        now: Instant,
        request: &[u8],
        status: u16,
        lines: &[(Name, &str)],
    ) -> Vec<Vec<u8>> {
        let request = parse(request);
        let mut builder = ResponseBuilder::new(&request, Status(status));
        builder.to_tag(b"9");
        for (name, value) in lines {
            builder.header(*name, value.as_bytes());
        }
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        builder.write(&mut bytes);
        caller.handle(now, &parse(&bytes), &mut out);
        out
    }

    fn method(bytes: &[u8]) -> Method<'_> {
        parse(bytes).method().expect("a request")
    }

    fn parse(bytes: &[u8]) -> Message<'_> {
        Message::parse(bytes).expect("it is SIP")
    }

    fn caller() -> Caller {
        let speaker = Speaker::new("kim", "secret", "demo.example", ([192, 0, 2, 31], 5060).into(), 1);
        Caller::new(speaker, PATIENCE)
    }
}
