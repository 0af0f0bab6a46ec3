//! Who calls the phones: several calls at once, each by digest, from INVITE to BYE.
//!
//! Like the phones it has no socket and no clock.

use std::time::{Duration, Instant};

use sip::{Message, Method, Name, ack_for};

use super::phone::login::Login;
use super::phone::message::{Repeated, Request, SESSION, Speaker, text};
use super::wire::Speaks;

/// A phone that does not answer for so long is not reached.
const REACHED_WITHIN: Duration = Duration::from_secs(6);

/// How long a call is talked on.
const TALKS_FOR: Duration = Duration::from_millis(500);

/// A call that is over stays to be asked about; so many at the most.
const CALLS_MAX: usize = 32;

/// Who calls.
#[derive(Debug)]
pub struct Caller {
    speaker: Speaker,
    login: Login,
    calls: Vec<Call>,
}

/// Whether a call is hung up by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After half a second.
    Short,
    /// When [`Caller::hang_up`] says so.
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
    /// It was answered, so long after it began, and its BYE too.
    Ended(Duration),
    /// It came to nothing: why.
    Failed(String),
}

#[derive(Debug)]
struct Call {
    to: String,
    length: Length,
    began: Instant,
    invite: Request,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The INVITE was sent.
    Calling { sent: Repeated, is_proved: bool, rings: bool },
    /// It was answered.
    Up { since: Instant, dialog: Box<Dialog> },
    /// The BYE was sent.
    Ending { since: Instant, began: Instant, bye: Repeated, cseq: u32 },
    /// It is over.
    Over(Standing),
}

/// What the requests of a call that is up have in common.
#[derive(Debug)]
struct Dialog {
    uri: String,
    to: String,
    routes: Vec<String>,
    ack: Vec<u8>,
}

impl Caller {
    /// Who calls nobody yet.
    pub fn new(speaker: Speaker) -> Self {
        Self { speaker, login: Login::default(), calls: Vec::new() }
    }

    /// Calls a phone with the next passing of time.
    pub fn call(&mut self, now: Instant, user: &str, length: Length) {
        self.calls.retain(|call| call.to != user || !matches!(call.state, State::Over(_)));
        if self.calls.len() >= CALLS_MAX {
            return;
        }
        let uri = format!("sip:{user}@{}", self.speaker.domain);
        let invite = Request {
            method: Method::Invite,
            routes: Vec::new(),
            from: format!("<{}>;tag={}", self.speaker.aor(), self.speaker.unique()),
            to: format!("<{uri}>"),
            uri,
            call_id: self.speaker.unique(),
            cseq: 0,
            contact: Some(self.speaker.contact()),
            lines: Vec::new(),
            body: SESSION,
        };
        let state = State::Over(Standing::Calling);
        self.calls.push(Call { to: user.to_owned(), length, began: now, invite, state });
    }

    /// Hangs up all calls that are held.
    pub fn hang_up(&mut self) {
        for call in &mut self.calls {
            call.length = Length::Short;
        }
    }

    /// How the last call to a phone stands.
    pub fn standing(&self, user: &str) -> Option<Standing> {
        let call = self.calls.iter().rev().find(|call| call.to == user)?;
        let after = |since: Instant| since.saturating_duration_since(call.began);
        Some(match &call.state {
            State::Calling { rings: false, .. } => Standing::Calling,
            State::Calling { rings: true, .. } => Standing::Ringing,
            State::Up { since, .. } => Standing::Up(after(*since)),
            State::Ending { since, .. } => Standing::Up(after(*since)),
            State::Over(standing) => standing.clone(),
        })
    }
}

impl Speaks for Caller {
    fn handle(&mut self, now: Instant, message: &Message<'_>, out: &mut Vec<Vec<u8>>) {
        let Self { speaker, login, calls } = self;
        let call_id = text(message.call_id().ok());
        if message.status().is_none() {
            return;
        }
        if let Some(call) = calls.iter_mut().find(|call| call.invite.call_id == call_id) {
            call.handle(now, message, speaker, login, out);
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let Self { speaker, login, calls } = self;
        for call in calls {
            call.handle_timeout(now, speaker, login, out);
        }
    }
}

impl Call {
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
        match &mut self.state {
            State::Calling { sent, is_proved, rings }
                if cseq.method == Method::Invite && number == self.invite.cseq =>
            {
                match status {
                    100..=179 => {}
                    180..=199 => *rings = true,
                    200..=299 => {
                        let dialog = Box::new(dialog(&self.invite, response, speaker));
                        out.push(dialog.ack.clone());
                        self.state = State::Up { since: now, dialog };
                    }
                    _ => {
                        if let Ok(invite) = Message::parse(&sent.bytes) {
                            let mut ack = Vec::new();
                            ack_for(&invite, response, &mut ack);
                            out.push(ack);
                        }
                        let is_asked = status == 407 && !*is_proved && login.learn(response);
                        if is_asked {
                            self.invite(now, speaker, login, out);
                        } else {
                            let reason = status_text(status);
                            self.state = State::Over(Standing::Failed(reason));
                        }
                    }
                }
            }
            // The ACK was lost.
            State::Up { dialog, .. } if cseq.method == Method::Invite && status / 100 == 2 => {
                out.push(dialog.ack.clone());
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
        let is_late = |since: Instant| now.saturating_duration_since(since) >= REACHED_WITHIN;
        match &mut self.state {
            State::Over(Standing::Calling) => self.invite(now, speaker, login, out),
            State::Calling { sent, rings, .. } => {
                // RFC 3261 §17.1.1.2: a provisional response ends the repetitions.
                if !*rings {
                    sent.handle_timeout(now, out);
                }
                if is_late(self.began) {
                    let seconds = REACHED_WITHIN.as_secs();
                    self.state = State::Over(Standing::Failed(format!("no answer in {seconds} s")));
                }
            }
            State::Up { since, dialog }
                if self.length == Length::Short && now.saturating_duration_since(*since) >= TALKS_FOR =>
            {
                let cseq = self.invite.cseq + 1;
                let bye = dialog.request(&self.invite, Method::Bye, cseq).render(&speaker.via());
                let bye = Repeated::send(now, bye, out);
                self.state = State::Ending { since: *since, began: self.began, bye, cseq };
                // What is late is the BYE from here on.
                self.began = now;
            }
            State::Ending { bye, .. } => {
                bye.handle_timeout(now, out);
                if is_late(self.began) {
                    self.state = State::Over(Standing::Failed("its BYE got no answer".to_owned()));
                }
            }
            State::Up { .. } | State::Over(_) => {}
        }
    }

    fn invite(&mut self, now: Instant, speaker: &mut Speaker, login: &mut Login, out: &mut Vec<Vec<u8>>) {
        self.invite.cseq += 1;
        let is_again = self.invite.cseq > 1;
        let proof = login.prove(speaker, Method::Invite, &self.invite.uri);
        self.invite.lines = proof.into_iter().collect();
        let sent = Repeated::send(now, self.invite.render(&speaker.via()), out);
        // An old nonce that is not taken any more is one try.
        self.state = State::Calling { sent, is_proved: is_again, rings: false };
    }
}

impl Dialog {
    fn request(&self, invite: &Request, method: Method<'static>, cseq: u32) -> Request {
        Request {
            method,
            uri: self.uri.clone(),
            routes: self.routes.clone(),
            to: self.to.clone(),
            cseq,
            lines: Vec::new(),
            body: b"",
            ..invite.clone()
        }
    }
}

// RFC 3261 §12.1.2: the caller's route set is the Record-Route of the response from its end to its beginning.
fn dialog(invite: &Request, response: &Message<'_>, speaker: &mut Speaker) -> Dialog {
    let mut routes: Vec<String> = response.values(Name::RecordRoute).map(|route| text(Some(route))).collect();
    routes.reverse();
    let contact = text(response.header(Name::Contact));
    let uri = contact.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let uri = uri.map_or(contact.clone(), |(uri, _)| uri.to_owned());
    let mut dialog = Dialog { uri, to: text(response.header(Name::To)), routes, ack: Vec::new() };
    let mut ack = dialog.request(invite, Method::Ack, invite.cseq);
    ack.lines = invite.lines.clone();
    dialog.ack = ack.render(&speaker.via());
    dialog
}

fn status_text(status: u16) -> String {
    format!("{status} {}", sip::Status(status).reason_phrase())
}

#[cfg(test)]
mod tests {
    use sip::{ResponseBuilder, Status};

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

        caller.hang_up();

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
        written(&mut caller, begin + REACHED_WITHIN);

        let failed = |reason: &str| Some(Standing::Failed(reason.to_owned()));
        assert_eq!(caller.standing("ben"), failed("480 Temporarily Unavailable"));
        assert_eq!(caller.standing("cleo"), failed("no answer in 6 s"));
        assert_eq!(caller.standing("dora"), None);
    }

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
        Caller::new(Speaker::new("kim", "secret", "demo.example", ([192, 0, 2, 31], 5060).into(), 1))
    }
}
