//! What a phone writes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sip::{Message, Method, Name, RequestBuilder, ResponseBuilder, Status};

/// A description of audio that nobody sends: these phones have no voice.
pub const SESSION: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                             m=audio 40000 RTP/AVP 8\r\n";

// RFC 3261 §17.1.1.1: T1, from which a request is repeated in intervals that double.
const REPEATED_FIRST: Duration = Duration::from_millis(500);
/// And T2, beyond which they do not grow.
const REPEATED_LAST: Duration = Duration::from_secs(4);

/// A user at an address.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Its user part and digest name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Its domain.
    pub domain: String,
    /// Where it can be reached, as it thinks.
    pub local: SocketAddr,
    salt: u64,
    serial: u64,
}

impl Speaker {
    /// `salt` makes its names differ from those of every other run.
    pub fn new(user: &str, password: &str, domain: &str, local: SocketAddr, salt: u64) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            domain: domain.to_owned(),
            local,
            salt,
            serial: 0,
        }
    }

    /// Its address of record, as a URI.
    pub fn aor(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    /// The value of Contact.
    pub fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.local)
    }

    /// A word that it has not used before.
    pub fn unique(&mut self) -> String {
        self.serial += 1;
        format!("{:x}{}{}", self.salt, self.user, self.serial)
    }

    /// The tag by which it answers.
    pub fn tag(&self) -> String {
        format!("{:x}{}", self.salt, self.user)
    }

    /// The value of Via for a new transaction.
    pub fn via(&mut self) -> String {
        let branch = self.unique();
        format!("SIP/2.0/UDP {};branch=z9hG4bK{branch};rport", self.local)
    }
}

/// A request that may be sent again as another transaction.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is wanted.
    pub method: Method<'static>,
    /// Of whom.
    pub uri: String,
    /// The values of Route.
    pub routes: Vec<String>,
    /// The value of From.
    pub from: String,
    /// The value of To.
    pub to: String,
    /// The value of Call-ID.
    pub call_id: String,
    /// The number of CSeq.
    pub cseq: u32,
    /// The value of Contact.
    pub contact: Option<String>,
    /// More lines.
    pub lines: Vec<(Name, String)>,
    /// The description of audio, or nothing.
    pub body: &'static [u8],
}

impl Request {
    /// Its bytes, with this Via.
    pub fn render(&self, via: &str) -> Vec<u8> {
        let mut builder = RequestBuilder::new(self.method, self.uri.as_bytes());
        builder.header(Name::Via, via.as_bytes());
        for route in &self.routes {
            builder.header(Name::Route, route.as_bytes());
        }
        let cseq = [self.cseq.to_string().as_bytes(), b" ", self.method.as_bytes()].concat();
        builder
            .header(Name::MaxForwards, b"70")
            .header(Name::From, self.from.as_bytes())
            .header(Name::To, self.to.as_bytes())
            .header(Name::CallId, self.call_id.as_bytes())
            .header(Name::CSeq, &cseq);
        if let Some(contact) = &self.contact {
            builder.header(Name::Contact, contact.as_bytes());
        }
        for (name, value) in &self.lines {
            builder.header(*name, value.as_bytes());
        }
        if !self.body.is_empty() {
            builder.body(b"application/sdp", self.body);
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes);
        bytes
    }
}

/// A response to a request; one above 100 says who answers.
pub fn response(request: &Message<'_>, status: Status, speaker: &Speaker, body: &[u8]) -> Vec<u8> {
    let mut builder = ResponseBuilder::new(request, status);
    builder.to_tag(speaker.tag().as_bytes()).copy(Name::RecordRoute);
    let contact = speaker.contact();
    builder.header(Name::Contact, contact.as_bytes());
    if !body.is_empty() {
        builder.body(b"application/sdp", body);
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes);
    bytes
}

/// The value of a header as text.
pub fn text(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// A message that is sent again and again until something comes back.
#[derive(Clone, Debug)]
pub struct Repeated {
    /// The message.
    pub bytes: Vec<u8>,
    next: Instant,
    interval: Duration,
}

impl Repeated {
    /// Sends it for the first time.
    pub fn send(now: Instant, bytes: Vec<u8>, out: &mut Vec<Vec<u8>>) -> Self {
        out.push(bytes.clone());
        Self { bytes, next: now + REPEATED_FIRST, interval: REPEATED_FIRST }
    }

    /// Sends it again if it is time; gives whether it was.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) -> bool {
        if now < self.next {
            return false;
        }
        self.interval = (self.interval * 2).min(REPEATED_LAST);
        self.next = now + self.interval;
        out.push(self.bytes.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_written_can_be_read() {
        let mut speaker = speaker();
        let request = Request {
            method: Method::Invite,
            uri: "sip:ben@demo.example".to_owned(),
            routes: vec!["<sip:192.0.2.9;lr>".to_owned()],
            from: format!("<{}>;tag=1", speaker.aor()),
            to: "<sip:ben@demo.example>".to_owned(),
            call_id: speaker.unique(),
            cseq: 7,
            contact: Some(speaker.contact()),
            lines: vec![(Name::Expires, "60".to_owned())],
            body: SESSION,
        };

        let bytes = request.render(&speaker.via());

        let message = Message::parse(&bytes).expect("it is SIP");
        message.validate().expect("all that is needed is there");
        assert_eq!(message.cseq().map(|cseq| (cseq.number, cseq.method)), Ok((7, Method::Invite)));
        assert_eq!((message.expires(), message.body()), (Some(60), SESSION));
        assert_eq!(message.routes().count(), 1);
    }

    #[test]
    fn a_message_is_repeated_less_and_less_often() {
        let (begin, mut out) = (Instant::now(), Vec::new());
        let mut repeated = Repeated::send(begin, b"x".to_vec(), &mut out);

        let sent =
            (0..20_000).filter(|ms| repeated.handle_timeout(begin + Duration::from_millis(*ms), &mut out));
        let sent: Vec<u64> = sent.collect();

        assert_eq!(sent, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500]);
        assert_eq!(out.len(), sent.len() + 1);
    }

    fn speaker() -> Speaker {
        Speaker::new("anna", "secret", "demo.example", ([192, 0, 2, 21], 5060).into(), 1)
    }
}
