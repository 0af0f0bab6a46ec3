//! Keeping one binding: register, refresh, end.

use std::time::Duration;

use clock::Instant;
use sip::Message;
use transaction::ClientKey;

use super::dialog::inside;
use super::message::{Outgoing, text};
use super::order::{Fact, Output};
use super::{Phone, Purpose, Setup, Wake, Way};

/// The state of a phone's registration.
// RFC 3261 §10.2.4: all of one phone use one Call-ID, and CSeq counts up.
#[derive(Debug)]
pub(crate) struct Registration {
    wanted: bool,
    under_way: bool,
    /// What is to be sent when the answer to the one under way is there.
    next: Option<Purpose>,
    call_id: String,
    cseq: u32,
    expires: Duration,
    due: Option<Instant>,
    sent: Instant,
    /// The address of record in To, if it is not the phone's own.
    to: Option<String>,
}

/// After a failure a phone tries again so much later.
const RETRY: Duration = Duration::from_secs(15);

impl Registration {
    pub(crate) fn new(setup: &Setup, made: u32) -> Self {
        Self {
            wanted: false,
            under_way: false,
            next: None,
            call_id: format!("register-{}-{made}@{}", setup.user, setup.local.ip()),
            cseq: 0,
            expires: setup.expires,
            due: None,
            sent: Instant::START,
            to: None,
        }
    }

    /// Whether the phone wants to be registered.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether a reminder for `at` is the one that counts.
    pub(crate) fn is_due(&self, at: Instant) -> bool {
        self.wanted && !self.under_way && self.due == Some(at)
    }

    /// A request was repeated with this CSeq number.
    pub(crate) fn took(&mut self, purpose: &Purpose, cseq: u32) {
        if matches!(purpose, Purpose::Register | Purpose::Unregister) {
            self.cseq = cseq;
        }
    }
}

impl Phone {
    /// Registers, or refreshes.
    pub(crate) fn register(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !self.powered {
            let setup = self.setup.clone();
            *self = Self::started(setup, self.made);
        }
        self.registration.wanted = true;
        self.send_register(now, Purpose::Register, self.registration.expires, out);
        self.settle(now, out);
    }

    /// Tries to register for another's address of record.
    pub(crate) fn register_as(&mut self, now: Instant, aor: String, out: &mut Vec<Output>) {
        self.registration.to = Some(format!("<sip:{aor}>"));
        self.send_register(now, Purpose::Register, self.registration.expires, out);
        self.registration.to = None;
        self.settle(now, out);
    }

    /// Ends its binding.
    pub(crate) fn unregister(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.powered {
            self.registration.wanted = false;
            self.send_register(now, Purpose::Unregister, Duration::ZERO, out);
            self.settle(now, out);
        }
    }

    fn send_register(&mut self, now: Instant, purpose: Purpose, expires: Duration, out: &mut Vec<Output>) {
        // RFC 3261 §10.2: the next one waits for the answer to the last one.
        if self.registration.under_way {
            if self.registration.to.is_none() {
                self.registration.next = Some(purpose);
            }
            return;
        }
        let Setup { user, domain, instance, .. } = self.setup.clone();
        let own = format!("<sip:{user}@{domain}>");
        let registration = &mut self.registration;
        registration.cseq += 1;
        registration.under_way = true;
        registration.sent = now;
        let (cseq, call_id) = (registration.cseq, registration.call_id.clone());
        let to = registration.to.clone().unwrap_or_else(|| own.clone());
        let contact = self.contact();
        let outbound = if instance {
            format!(";+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-{user:0>12}>\";reg-id=1")
        } else {
            String::new()
        };
        let q = self.setup.q.map(|q| format!(";q={q}")).unwrap_or_default();
        let mut lines = format!(
            "Contact: <{contact}>{outbound}{q}\r\nExpires: {}\r\nUser-Agent: sim\r\n",
            expires.as_secs()
        );
        if instance {
            lines += "Supported: path, outbound\r\n";
        }
        self.made += 1;
        let request = Outgoing {
            method: "REGISTER",
            uri: format!("sip:{domain}"),
            routes: Vec::new(),
            from: format!("{own};tag=r{}", self.made),
            to,
            call_id,
            cseq,
            lines,
            credentials: String::new(),
            body: String::new(),
        };
        self.send_request(now, purpose, request, Way::Server, out);
    }

    pub(super) fn registered(
        &mut self,
        now: Instant,
        key: ClientKey,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        let Some(pending) = self.pending.get(&key) else { return };
        let unregister = pending.purpose == Purpose::Unregister;
        let for_another = !pending.request.to.contains(&format!("sip:{}@", self.setup.user));
        if pending.request.cseq == self.registration.cseq {
            self.registration.under_way = false;
        }
        let contact = self.contact();
        match status.0 {
            200 if unregister => out.push(Output::Fact(Fact::Unregistered)),
            200 if for_another => {
                out.push(super::unexpected("a REGISTER for another's AoR was accepted".to_owned()))
            }
            // It was overtaken by the answer to an end that was asked for later.
            200 if !self.registration.wanted => {}
            200 => match listed(response, &contact) {
                Some(expires) if !expires.is_zero() => {
                    let sent = self.registration.sent;
                    out.push(Output::Fact(Fact::Registered { contact, sent, expires }));
                    let due = now + expires * 3 / 4;
                    self.remind(due);
                }
                _ => out.push(super::unexpected(format!("a 200 to REGISTER does not list {contact}"))),
            },
            423 => {
                let least = response.header(sip::Name::MinExpires).and_then(|value| text(value).parse().ok());
                self.registration.expires = Duration::from_secs(least.unwrap_or(3_600));
                self.remind(now + Duration::from_millis(10));
            }
            status => {
                out.push(Output::Fact(Fact::RegisterRefused(status)));
                if self.registration.wanted && !for_another && status >= 500 {
                    self.remind(now + RETRY);
                }
            }
        }
        self.send_next(now, out);
    }

    pub(super) fn register_timed_out(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.registration.under_way = false;
        out.push(Output::Fact(Fact::RegisterTimedOut));
        if self.registration.wanted {
            self.remind(now + RETRY);
        }
        self.send_next(now, out);
    }

    /// Sends what had to wait.
    fn send_next(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.registration.under_way {
            return;
        }
        match self.registration.next.take() {
            Some(Purpose::Unregister) => self.send_register(now, Purpose::Unregister, Duration::ZERO, out),
            Some(purpose) => self.send_register(now, purpose, self.registration.expires, out),
            None => {}
        }
    }

    fn remind(&mut self, at: Instant) {
        self.registration.due = Some(at);
        self.deadlines.push(at, Wake::Register);
    }
}

/// The time that a 200 gives this contact.
fn listed(response: &Message<'_>, contact: &str) -> Option<Duration> {
    response.values(sip::Name::Contact).map(text).find(|value| inside(value) == contact).and_then(|value| {
        let (_, rest) = value.split_once(";expires=")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().map(Duration::from_secs)
    })
}
