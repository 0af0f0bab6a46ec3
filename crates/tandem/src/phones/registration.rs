//! A phone's REGISTER, and its refreshes.

use std::time::{Duration, Instant};

use sip::{Contacts, Message, Method, Name, Status};

use super::login::Login;
use super::message::{Repeated, Request, Speaker, text};

/// After a refusal.
const PAUSE: Duration = Duration::from_secs(2);

/// A registration.
#[derive(Clone, Debug)]
pub struct Registration {
    login: Login,
    call_id: String,
    cseq: u32,
    state: State,
    wish: Wish,
    expires: Duration,
    /// How many REGISTERs were sent.
    pub sent: u32,
    /// Until when it lasts.
    pub until: Option<Instant>,
    /// Why the last REGISTER was refused, if it was.
    pub refusal: Option<Status>,
    /// Contacts of others that the server told with the last 200: who calls this phone calls them too.
    pub strangers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    ToBeRegistered,
    NotToBe,
}

#[derive(Clone, Debug)]
enum State {
    /// A REGISTER is to be sent then, or when somebody says so.
    Due(Option<Instant>),
    /// One was sent.
    Asking { request: Repeated, is_challenged: bool },
}

impl Registration {
    /// The first REGISTER waits for [`Registration::renew`].
    pub fn new(speaker: &mut Speaker, expires: Duration) -> Self {
        Self {
            login: Login::default(),
            call_id: speaker.unique(),
            cseq: 0,
            state: State::Due(None),
            wish: Wish::ToBeRegistered,
            expires,
            sent: 0,
            until: None,
            refusal: None,
            strangers: Vec::new(),
        }
    }

    /// Sends a REGISTER soon, though none is due.
    pub fn renew(&mut self, now: Instant) {
        if matches!(self.state, State::Due(_)) {
            self.state = State::Due(Some(now));
        }
    }

    /// Takes it away soon, for good.
    pub fn end(&mut self, now: Instant) {
        self.wish = Wish::NotToBe;
        self.state = State::Due(Some(now));
    }

    /// Takes a response to a REGISTER.
    pub fn handle(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        speaker: &mut Speaker,
        out: &mut Vec<Vec<u8>>,
    ) {
        let State::Asking { is_challenged, .. } = self.state else { return };
        let is_ours = response.call_id().is_ok_and(|call_id| call_id == self.call_id.as_bytes())
            && response.cseq().is_ok_and(|cseq| cseq.number == self.cseq);
        let Some(status) = response.status().filter(|status| is_ours && status.0 >= 200) else { return };
        match status.0 {
            200 if self.wish == Wish::NotToBe => {
                self.until = None;
                self.state = State::Due(None);
            }
            200 => {
                let granted = granted(response, speaker).unwrap_or(self.expires);
                self.until = Some(now + granted);
                self.refusal = None;
                self.strangers = strangers(response, speaker);
                self.state = State::Due(Some(now + granted / 2));
            }
            // An old nonce that is not taken any more is no refusal.
            401 if !is_challenged && self.login.learn(response) => self.ask(now, true, speaker, out),
            _ => {
                self.login = Login::default();
                self.refusal = Some(status);
                self.state = State::Due(Some(now + PAUSE));
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, speaker: &mut Speaker, out: &mut Vec<Vec<u8>>) {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
        }
        match &mut self.state {
            State::Due(Some(due)) if now >= *due => self.ask(now, false, speaker, out),
            State::Due(_) => {}
            State::Asking { request, .. } => {
                if request.handle_timeout(now, out) {
                    self.sent += 1;
                }
            }
        }
    }

    fn ask(&mut self, now: Instant, is_challenged: bool, speaker: &mut Speaker, out: &mut Vec<Vec<u8>>) {
        self.cseq += 1;
        self.sent += 1;
        let uri = format!("sip:{}", speaker.domain);
        let proof = self.login.prove(speaker, Method::Register, &uri);
        let expires = match self.wish {
            Wish::ToBeRegistered => self.expires,
            Wish::NotToBe => Duration::ZERO,
        };
        let expires = (Name::Expires, expires.as_secs().to_string());
        let request = Request {
            method: Method::Register,
            from: format!("<{}>;tag={}", speaker.aor(), speaker.unique()),
            to: format!("<{}>", speaker.aor()),
            uri,
            routes: Vec::new(),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            contact: Some(speaker.contact()),
            lines: [expires].into_iter().chain(proof).collect(),
            body: b"",
        };
        let via = speaker.via();
        let request = Repeated::send(now, request.render(&via), out);
        self.state = State::Asking { request, is_challenged };
    }
}

/// How long the server keeps this phone's contact.
fn granted(response: &Message<'_>, speaker: &Speaker) -> Option<Duration> {
    let Ok(Contacts::List(list)) = response.contacts() else { return None };
    let own = format!("{}@{}", speaker.user, speaker.local);
    let ours = list.into_iter().find(|contact| text(Some(contact.uri)).contains(&own))?;
    ours.expires().or_else(|| response.expires()).map(|seconds| Duration::from_secs(seconds.into()))
}

/// The contacts that are not this phone's.
fn strangers(response: &Message<'_>, speaker: &Speaker) -> Vec<String> {
    let Ok(Contacts::List(list)) = response.contacts() else { return Vec::new() };
    let own = format!("{}@{}", speaker.user, speaker.local);
    list.into_iter().map(|contact| text(Some(contact.uri))).filter(|uri| !uri.contains(&own)).collect()
}

#[cfg(test)]
mod tests {
    use sip::ResponseBuilder;

    use super::*;

    #[test]
    fn a_phone_proves_itself_once_and_then_waits_for_half_of_what_was_granted() {
        let (now, mut out) = (Instant::now(), Vec::new());
        let (mut speaker, mut registration) = switched_on(now, &mut out);

        let challenge = answered(
            &out.remove(0),
            401,
            (Name::WwwAuthenticate, "Digest realm=\"d\", nonce=\"n\", algorithm=SHA-256"),
        );
        registration.handle(now, &parse(&challenge), &mut speaker, &mut out);

        let proved = out.remove(0);
        assert!(parse(&proved).has(Name::Authorization));
        let contact = (Name::Contact, "<sip:anna@192.0.2.21:5060>;expires=600");
        let done = answered(&proved, 200, contact);
        registration.handle(now, &parse(&done), &mut speaker, &mut out);
        assert_eq!(registration.until, Some(now + Duration::from_secs(600)));
        registration.handle_timeout(now + Duration::from_secs(299), &mut speaker, &mut out);
        assert_eq!((out.len(), registration.sent), (0, 2));
        registration.handle_timeout(now + Duration::from_secs(300), &mut speaker, &mut out);
        assert_eq!((out.len(), registration.sent), (1, 3));
        assert!(parse(&out[0]).has(Name::Authorization), "the nonce is used again");
        let stale = (Name::WwwAuthenticate, "Digest realm=\"d\", nonce=\"m\", algorithm=SHA-256, stale=true");
        let stale = answered(&out.remove(0), 401, stale);
        registration.handle(now, &parse(&stale), &mut speaker, &mut out);
        let proved = out.remove(0);
        assert!(text(parse(&proved).header(Name::Authorization)).contains("nonce=\"m\""));
        registration.handle(
            now,
            &parse(&answered(&proved, 401, (Name::Server, "x"))),
            &mut speaker,
            &mut out,
        );
        assert_eq!((out.len(), registration.refusal), (0, Some(Status(401))), "a wrong password");
    }

    #[test]
    fn what_others_have_registered_is_told_and_an_end_asks_for_no_time() {
        let (now, mut out) = (Instant::now(), Vec::new());
        let (mut speaker, mut registration) = switched_on(now, &mut out);
        let contacts = "<sip:anna@192.0.2.21:5060>;expires=600, <sip:anna@192.0.2.99>;expires=9";
        let done = answered(&out.remove(0), 200, (Name::Contact, contacts));
        registration.handle(now, &parse(&done), &mut speaker, &mut out);
        assert_eq!(registration.strangers, ["sip:anna@192.0.2.99"]);

        registration.end(now);
        registration.handle_timeout(now, &mut speaker, &mut out);

        let asked = out.remove(0);
        assert_eq!(parse(&asked).expires(), Some(0));
        let done = answered(&asked, 200, (Name::Server, "x"));
        registration.handle(now, &parse(&done), &mut speaker, &mut out);
        registration.handle_timeout(now + EXPIRES * 2, &mut speaker, &mut out);
        assert!(registration.until.is_none() && out.is_empty());
    }

    #[test]
    fn a_refusal_is_not_asked_about_at_once() {
        let (now, mut out) = (Instant::now(), Vec::new());
        let (mut speaker, mut registration) = switched_on(now, &mut out);
        let refusal = answered(&out.remove(0), 403, (Name::Expires, "1"));

        registration.handle(now, &parse(&refusal), &mut speaker, &mut out);
        registration.handle_timeout(now + PAUSE / 2, &mut speaker, &mut out);

        assert!(out.is_empty() && registration.until.is_none());
        assert_eq!(registration.refusal, Some(Status(403)));
        registration.handle_timeout(now + PAUSE, &mut speaker, &mut out);
        assert_eq!(out.len(), 1);
    }

    const EXPIRES: Duration = Duration::from_secs(3_600);

    fn answered(request: &[u8], status: u16, (name, value): (Name, &str)) -> Vec<u8> {
        let request = parse(request);
        let mut bytes = Vec::new();
        ResponseBuilder::new(&request, Status(status)).header(name, value.as_bytes()).write(&mut bytes);
        bytes
    }

    fn parse(bytes: &[u8]) -> Message<'_> {
        Message::parse(bytes).expect("it is SIP")
    }

    /// A phone that has sent its first REGISTER.
    fn switched_on(now: Instant, out: &mut Vec<Vec<u8>>) -> (Speaker, Registration) {
        let mut speaker = Speaker::new("anna", "secret", "demo.example", ([192, 0, 2, 21], 5060).into(), 1);
        let mut registration = Registration::new(&mut speaker, EXPIRES);
        registration.handle_timeout(now, &mut speaker, out);
        assert!(out.is_empty(), "nobody has switched it on");
        registration.renew(now);
        registration.handle_timeout(now, &mut speaker, out);
        (speaker, registration)
    }
}
