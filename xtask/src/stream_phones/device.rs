//! What one of the phones says: it registers, calls, answers, and answers challenges. It has no socket.

use std::net::{IpAddr, SocketAddr};

use crate::phone::call::{Dialog, SDP};
use crate::phone::digest::{Answer, Challenge};
use crate::phone::message::Message;

/// For how long it registers, in seconds.
const EXPIRES: u32 = 3_600;
/// When it registers again after a refusal that does not say when, in seconds.
const RETRY_SECONDS: u64 = 5;

/// What has come of a message that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Registered,
    /// Its REGISTER was refused; it may try again in so many seconds.
    Refused(u64),
    CallIsUp,
    /// The final answer to its BYE, or to an INVITE that became no call.
    CallHasEnded(u16),
}

/// One phone: `user` and a number.
#[derive(Debug)]
pub(super) struct Device {
    number: u32,
    registrar: SocketAddr,
    password: Option<&'static str>,
    cseq: u32,
    challenge: Option<(Challenge, u32)>,
    /// The last request that it sent by itself.
    pending: Option<Message>,
    /// The call that it made.
    call: Option<Dialog>,
}

impl Device {
    pub(super) fn new(number: u32, registrar: SocketAddr, password: Option<&'static str>) -> Device {
        Device { number, registrar, password, cseq: 0, challenge: None, pending: None, call: None }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// A REGISTER by a new connection. Every second phone begins without credentials then, as many real ones do.
    pub(super) fn register(&mut self, local: SocketAddr) -> Message {
        if self.number % 2 == 1 {
            self.challenge = None;
        }
        let (number, own) = (self.number, self.aor());
        let contact = self.contact(local);
        let request = Message::request("REGISTER", &format!("sip:{}", self.domain()))
            .with("Via", "")
            .with("Max-Forwards", "70")
            .with("From", format!("<{own}>;tag=1"))
            .with("To", format!("<{own}>"))
            .with("Call-ID", format!("stream-{number}"))
            .with("CSeq", "0 REGISTER")
            .with(
                "Contact",
                format!(
                    "<{contact}>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{number:012}>\";reg-id=1"
                ),
            )
            .with("Supported", "outbound")
            .with("Expires", EXPIRES.to_string());
        self.ask(request, local)
    }

    /// Calls another phone.
    pub(super) fn invite(&mut self, number: u32, local: SocketAddr) -> Message {
        let (own, other) = (self.aor(), format!("sip:user{number}@{}", self.domain()));
        let request = Message::request("INVITE", &other)
            .with("Via", "")
            .with("Max-Forwards", "70")
            .with("From", format!("<{own}>;tag=2"))
            .with("To", format!("<{other}>"))
            .with("Call-ID", format!("stream-call-{}", self.number))
            .with("CSeq", "0 INVITE")
            .with("Contact", format!("<{}>", self.contact(local)))
            .with_body("application/sdp", SDP);
        self.ask(request, local)
    }

    /// Ends the call that it made, if there is one.
    pub(super) fn hang_up(&mut self, local: SocketAddr) -> Option<Message> {
        let (contact, number) = (self.contact(local), self.cseq + 1);
        let request = self.call.take()?.request_with("BYE", number, String::new(), &contact);
        Some(self.ask(request, local))
    }

    /// Takes a message; gives what is to be sent, and what has happened.
    pub(super) fn take(&mut self, message: &Message, local: SocketAddr) -> (Option<Message>, Option<Event>) {
        match (message.method(), message.status()) {
            (Some("ACK"), _) => (None, None),
            (Some(method), _) => {
                let mut answer = Message::response(message, 200, "OK").with_to_tag("1");
                if method == "INVITE" {
                    let contact = format!("<{}>", self.contact(local));
                    answer = answer.with("Contact", contact).with_body("application/sdp", SDP);
                }
                (Some(answer), None)
            }
            (None, Some(status @ 200..)) => self.take_final(message, status, local),
            _ => (None, None),
        }
    }

    fn take_final(
        &mut self,
        answer: &Message,
        status: u16,
        local: SocketAddr,
    ) -> (Option<Message>, Option<Event>) {
        let Some(request) = self.pending.take_if(|request| answer.answers(request)) else {
            return (None, None);
        };
        let is_invite = request.method() == Some("INVITE");
        if matches!(status, 401 | 407) && self.learn(answer) {
            let was_answered = ["Authorization", "Proxy-Authorization"]
                .iter()
                .any(|name| request.header(name).is_some_and(|value| !self.is_stale(value)));
            if !was_answered {
                return (Some(self.ask(request, local)), None);
            }
        }
        match (request.method(), status) {
            (Some("REGISTER"), 200..300) => (None, Some(Event::Registered)),
            (Some("REGISTER"), _) => {
                let after = answer.header("Retry-After").and_then(|value| value.parse().ok());
                (None, Some(Event::Refused(after.unwrap_or(RETRY_SECONDS))))
            }
            (Some("INVITE"), 200..300) => {
                let contact = self.contact(local);
                let Ok(dialog) = Dialog::of_caller(&request, answer) else {
                    return (None, Some(Event::CallHasEnded(status)));
                };
                let ack = dialog.request_with("ACK", self.cseq, self.via(local), &contact);
                self.call = Some(dialog);
                (Some(ack), Some(Event::CallIsUp))
            }
            _ if is_invite => (None, Some(Event::CallHasEnded(status))),
            (Some("BYE"), _) => (None, Some(Event::CallHasEnded(status))),
            _ => (None, None),
        }
    }

    /// Keeps the challenge of a 401 or 407, if it can be answered.
    fn learn(&mut self, answer: &Message) -> bool {
        let name = if answer.status() == Some(401) { "WWW-Authenticate" } else { "Proxy-Authenticate" };
        let challenge = answer.all(name).into_iter().find_map(Challenge::parse);
        let is_known = challenge.is_some() && self.password.is_some();
        self.challenge = challenge.map(|challenge| (challenge, 0));
        is_known
    }

    /// Whether credentials were for another nonce than the one that is wanted.
    fn is_stale(&self, credentials: &str) -> bool {
        let nonce = self.challenge.as_ref().map_or("", |(challenge, _)| challenge.nonce.as_str());
        !credentials.contains(&format!("nonce=\"{nonce}\""))
    }

    /// Makes a request the next one that is sent.
    fn ask(&mut self, request: Message, local: SocketAddr) -> Message {
        self.cseq += 1;
        let method = request.method().unwrap_or_default().to_owned();
        let cseq = format!("{} {method}", self.cseq);
        let mut request = request.with_only("Via", self.via(local)).with_only("CSeq", cseq);
        if let (Some((challenge, count)), Some(password)) = (&mut self.challenge, self.password) {
            *count += 1;
            let (user, uri) = (format!("user{}", self.number), request.uri().unwrap_or_default());
            let (user, method) = (user.as_str(), method.as_str());
            let answer = Answer { user, password, method, uri, count: *count, cnonce: "0a4f113b" };
            let name = if method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
            let value = challenge.answer(answer);
            request = request.with_only(name, value);
        }
        self.pending = Some(request.clone());
        request
    }

    fn via(&self, local: SocketAddr) -> String {
        format!("SIP/2.0/TCP {local};rport;branch=z9hG4bK{}x{}", self.number, self.cseq)
    }

    fn aor(&self) -> String {
        format!("sip:user{}@{}", self.number, self.domain())
    }

    fn contact(&self, local: SocketAddr) -> String {
        format!("sip:user{}@{local};transport=tcp", self.number)
    }

    fn domain(&self) -> String {
        match self.registrar.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        }
    }
}

/// Takes a whole message off the front; line ends before it are keepalives.
pub(super) fn next_message(received: &mut Vec<u8>) -> Option<Message> {
    let start = received.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(received.len());
    received.drain(..start);
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = Message::parse(&received[..end])?;
    let body = head.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if received.len() < end + body {
        return None;
    }
    let message = Message::parse(&received[..end + body]);
    received.drain(..end + body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::message::parameter;

    #[test]
    fn a_challenge_is_answered_once_and_the_nonce_is_kept() {
        let mut device = Device::new(2, registrar(), Some("secret"));
        let first = device.register(local());
        assert_eq!(first.header("Authorization"), None);

        let (again, event) = device.take(&challenge(&first, "one"), local());
        let again = again.expect("it answers");
        assert!(again.header("Authorization").is_some_and(|value| value.contains("nc=00000001")));
        assert_eq!((again.cseq(), event), ("2 REGISTER", None));

        let refused = device.take(&challenge(&again, "one"), local());
        assert_eq!(refused, (None, Some(Event::Refused(RETRY_SECONDS))), "its password is wrong");
        let next = device.register(local());
        let (stale, _) = device.take(&challenge(&next, "two"), local());
        assert!(stale.is_some(), "another nonce is answered");
        let (_, event) = device.take(&Message::response(&stale.expect("sent"), 200, "OK"), local());
        assert_eq!(event, Some(Event::Registered));
    }

    #[test]
    fn a_call_is_made_acknowledged_and_ended_within_its_dialog() {
        let (mut caller, mut callee) = (Device::new(0, registrar(), None), Device::new(1, registrar(), None));
        let invite = caller.invite(1, local());

        let (answer, _) = callee.take(&invite, local());
        let (ack, event) = caller.take(&answer.expect("answered"), local());
        assert_eq!(event, Some(Event::CallIsUp));
        let ack = ack.expect("acknowledged");
        assert_eq!((ack.method(), ack.cseq()), (Some("ACK"), "1 ACK"));
        assert_eq!(callee.take(&ack, local()), (None, None));

        let bye = caller.hang_up(local()).expect("there is a call");
        assert!(bye.header("To").is_some_and(|to| parameter(to, "tag").is_some()));
        let (ok, _) = callee.take(&bye, local());
        let (_, event) = caller.take(&ok.expect("answered"), local());
        assert_eq!(event, Some(Event::CallHasEnded(200)));
        assert_eq!(caller.hang_up(local()), None);
    }

    #[test]
    fn messages_are_cut_off_and_line_ends_between_them_are_passed_over() {
        let mut received = b"\r\nOPTIONS sip:a SIP/2.0\r\nContent-Length: 2\r\n\r\nab\r\nBYE".to_vec();

        let message = next_message(&mut received).expect("it is whole");
        assert_eq!((message.method(), message.body.as_str()), (Some("OPTIONS"), "ab"));
        assert_eq!(next_message(&mut received), None);
        assert_eq!(received, b"BYE");
    }

    fn challenge(request: &Message, nonce: &str) -> Message {
        let value = format!("Digest realm=\"x\", nonce=\"{nonce}\", algorithm=MD5");
        Message::response(request, 401, "Unauthorized").with("WWW-Authenticate", value)
    }

    fn registrar() -> SocketAddr {
        "192.0.2.10:5060".parse().expect("an address")
    }

    fn local() -> SocketAddr {
        "192.0.2.7:40000".parse().expect("an address")
    }
}
