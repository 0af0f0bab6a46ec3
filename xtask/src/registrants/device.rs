//! One of many phones: what it sends next, and what an answer means to it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::phone::digest::{Answer, Challenge};
use crate::server::PASSWORD;

/// RFC 3261 §17.1.2.2: timer E doubles from T1 up to T2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// RFC 3261 §17.1.2.2: timer F.
const TRIED_FOR: Duration = Duration::from_secs(32);

/// What a REGISTER is to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A binding, or one that lasts again.
    Binding,
    /// None.
    End,
}

/// A REGISTER that has no final answer yet.
#[derive(Clone, Debug)]
struct Pending {
    wish: Wish,
    bytes: Vec<u8>,
    /// When it was first sent, since 1970.
    from: Duration,
    begun: Instant,
    interval: Duration,
    again_at: Instant,
}

/// What is to be done when a REGISTER may have to be sent again.
#[derive(Debug)]
pub enum Again<'d> {
    /// Nothing: it was answered.
    Settled,
    /// It is given up.
    GivenUp,
    /// These bytes leave again, and this is the next time.
    Send(&'d [u8], Instant),
}

/// What an answer meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is not the answer that is waited for.
    Nothing,
    /// A 200 to a REGISTER that was first sent then: it is registered for so long.
    Granted(Duration, Duration),
    /// A 200 to a REGISTER that was first sent then: it is registered no more.
    Ended(Duration),
    /// A 200 that does not say what it should.
    Wrong,
    /// The first 401: the same wish is to be sent with credentials.
    Challenged,
    /// A 401 to credentials: the nonce is not taken any more. The same wish is to be sent again.
    ChallengedAgain,
    /// Another refusal.
    Refused(u16),
}

/// Whose messages these are.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The phone's number.
    pub number: u32,
    /// The domain.
    pub domain: &'a str,
    /// Where the phone is.
    pub local: SocketAddr,
    /// For how long it registers.
    pub expires: Duration,
}

/// A phone.
#[derive(Clone, Debug, Default)]
pub struct Device {
    cseq: u32,
    challenge: Option<Box<Challenge>>,
    count: u32,
    pending: Option<Box<Pending>>,
}

impl Device {
    /// Whether a REGISTER is under way.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Begins a REGISTER, with the next nonce count if there is a nonce; gives its bytes and when they are sent again.
    /// One that is begun because of a 401 stands for the same wish as the one before.
    pub fn begin(&mut self, line: Line<'_>, wish: Wish, from: Duration) -> (&[u8], Instant) {
        self.cseq += 1;
        let bytes = self.write(line, wish);
        let now = Instant::now();
        let pending = Pending { wish, bytes, from, begun: now, interval: T1, again_at: now + T1 };
        (&self.pending.insert(Box::new(pending)).bytes, now + T1)
    }

    /// A time has come at which it was to be sent again.
    pub fn again(&mut self, at: Instant) -> Again<'_> {
        match &self.pending {
            Some(pending) if pending.again_at == at => {
                if pending.begun.elapsed() > TRIED_FOR {
                    self.pending = None;
                    return Again::GivenUp;
                }
            }
            _ => return Again::Settled,
        }
        let Some(pending) = &mut self.pending else { return Again::Settled };
        pending.interval = (pending.interval * 2).min(T2);
        pending.again_at = Instant::now() + pending.interval;
        Again::Send(&pending.bytes, pending.again_at)
    }

    /// Takes a response that names this phone.
    pub fn take(&mut self, line: Line<'_>, text: &str) -> (Heard, Option<Wish>) {
        let Some(pending) = &self.pending else { return (Heard::Nothing, None) };
        let status: Option<u16> = text.get(8..11).and_then(|code| code.parse().ok());
        let cseq = header(text, "CSeq").and_then(|value| value.split(' ').next()?.parse().ok());
        let (Some(status @ 200..), true) = (status, cseq == Some(self.cseq)) else {
            return (Heard::Nothing, None);
        };
        let (wish, from) = (pending.wish, pending.from);
        self.pending = None;
        let heard = match status {
            200 => {
                let granted = granted(text, &contact(line));
                match (wish, granted) {
                    (Wish::Binding, Some(granted)) => Heard::Granted(from, granted),
                    (Wish::End, None) => Heard::Ended(from),
                    _ => Heard::Wrong,
                }
            }
            401 => match header(text, "WWW-Authenticate").and_then(Challenge::parse) {
                Some(challenge) => {
                    let is_known = self.challenge.replace(Box::new(challenge)).is_some();
                    self.count = 0;
                    if is_known { Heard::ChallengedAgain } else { Heard::Challenged }
                }
                None => Heard::Refused(status),
            },
            _ => Heard::Refused(status),
        };
        (heard, Some(wish))
    }

    fn write(&mut self, line: Line<'_>, wish: Wish) -> Vec<u8> {
        let Line { number, domain, local, expires } = line;
        let user = format!("user{number}");
        let seconds = if wish == Wish::Binding { expires.as_secs() } else { 0 };
        let mut text = format!(
            "REGISTER sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bKr{number}x{cseq};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@{domain}>;tag=f{number}x{cseq}\r\n\
             To: <sip:{user}@{domain}>\r\n\
             Call-ID: registrant-{number}@{}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <{}>\r\n\
             Expires: {seconds}\r\n",
            local.ip(),
            contact(line),
            cseq = self.cseq,
        );
        if let Some(challenge) = &self.challenge {
            self.count += 1;
            let value = challenge.answer(Answer {
                user: &user,
                password: PASSWORD,
                method: "REGISTER",
                uri: &format!("sip:{domain}"),
                count: self.count,
                cnonce: "0a4f113b",
            });
            text += &format!("Authorization: {value}\r\n");
        }
        text += "Content-Length: 0\r\n\r\n";
        text.into_bytes()
    }
}

/// The URI that a phone registers.
pub fn contact(line: Line<'_>) -> String {
    format!("sip:user{}@{}", line.number, line.local)
}

/// For how long a 200 says that a contact is registered.
fn granted(text: &str, contact: &str) -> Option<Duration> {
    let (_, rest) = text.split_once(contact)?;
    let (_, rest) = rest.lines().next()?.split_once(";expires=")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().map(Duration::from_secs)
}

/// The number of the phone whose REGISTER a response answers.
pub fn answered(text: &str) -> Option<u32> {
    header(text, "Call-ID")?.strip_prefix("registrant-")?.split_once('@')?.0.parse().ok()
}

/// The value of a header field, as our server writes its name.
pub fn header<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_used_again_with_the_next_count() {
        let mut device = challenged();

        let first = sent(&mut device);
        assert_eq!(heard(&mut device, "200 OK", 2, CONTACT), GRANTED);
        let second = sent(&mut device);

        assert!(first.contains("nc=00000001") && second.contains("nc=00000002"), "{first}{second}");
        assert!(first.contains("CSeq: 2 REGISTER") && second.contains("CSeq: 3 REGISTER"));
    }

    #[test]
    fn a_401_to_a_known_nonce_is_told_apart_from_the_first_one() {
        let mut device = challenged();
        sent(&mut device);

        assert_eq!(heard(&mut device, "401 Unauthorized", 2, CHALLENGE), Heard::ChallengedAgain);
    }

    #[test]
    fn a_200_without_the_binding_is_wrong_and_a_late_answer_is_nothing() {
        let mut device = challenged();
        sent(&mut device);

        assert_eq!(heard(&mut device, "200 OK", 1, CONTACT), Heard::Nothing);
        assert_eq!(heard(&mut device, "100 Trying", 2, ""), Heard::Nothing);
        assert_eq!(heard(&mut device, "200 OK", 2, ""), Heard::Wrong);
        assert_eq!(heard(&mut device, "200 OK", 2, CONTACT), Heard::Nothing);
    }

    #[test]
    fn what_is_answered_is_not_sent_again() {
        let mut device = challenged();
        let (first, at) = device.begin(line(), Wish::Binding, Duration::ZERO);
        let first = first.to_vec();

        let Again::Send(second, next) = device.again(at) else { panic!("it has no answer") };
        assert_eq!(second, first);
        assert!(matches!(device.again(at), Again::Settled));
        heard(&mut device, "200 OK", 2, CONTACT);
        assert!(matches!(device.again(next), Again::Settled));
    }

    const GRANTED: Heard = Heard::Granted(Duration::ZERO, Duration::from_secs(3412));
    const CONTACT: &str = "Contact: <sip:user7@203.0.113.21:5070>;expires=3412\r\n";
    const CHALLENGE: &str =
        "WWW-Authenticate: Digest realm=\"203.0.113.100\", nonce=\"n\", algorithm=MD5, qop=\"auth\"\r\n";

    fn challenged() -> Device {
        let mut device = Device::default();
        sent(&mut device);
        assert_eq!(heard(&mut device, "401 Unauthorized", 1, CHALLENGE), Heard::Challenged);
        device
    }

    fn sent(device: &mut Device) -> String {
        String::from_utf8(device.begin(line(), Wish::Binding, Duration::ZERO).0.to_vec()).expect("it is text")
    }

    fn heard(device: &mut Device, status: &str, cseq: u32, more: &str) -> Heard {
        let text = format!(
            "SIP/2.0 {status}\r\nCall-ID: registrant-7@203.0.113.21\r\nCSeq: {cseq} REGISTER\r\n{more}\r\n"
        );
        assert_eq!(answered(&text), Some(7));
        device.take(line(), &text).0
    }

    fn line() -> Line<'static> {
        Line {
            number: 7,
            domain: "203.0.113.100",
            local: "203.0.113.21:5070".parse().expect("an address"),
            expires: Duration::from_secs(3600),
        }
    }
}
