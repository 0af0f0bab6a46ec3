//! For tests: one transaction in virtual time, and what came of it.

use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use keys::{Key, RootKey};
use sip::{Message, Method, Status};

use crate::{
    ClientKey, Disposition, Kind, Limits, NoTransaction, Output, ResponseDisposition, ServerKey, Timers,
    Transactions,
};

pub(crate) const UNRELIABLE: bool = false;
pub(crate) const RELIABLE: bool = true;

/// A method of this kind.
pub(crate) fn method_of(kind: Kind) -> Method<'static> {
    match kind {
        Kind::Invite => Method::Invite,
        Kind::NonInvite => Method::Options,
    }
}

/// One transaction, or one of each side. Times are milliseconds since its beginning.
pub(crate) struct Script {
    pub transactions: Transactions<&'static str>,
    kind: Kind,
    now: u64,
    out: Vec<Output<&'static str>>,
    log: Vec<(u64, String)>,
}

impl Script {
    pub fn server(kind: Kind, reliable: bool) -> Self {
        let mut script = Self::new(kind, Timers::default());
        let begun =
            script.transactions.begin_server(at(0), server_key(), method_of(kind), "client", reliable);
        assert_eq!(begun, Ok(()));
        script
    }

    pub fn client(kind: Kind, reliable: bool) -> Self {
        Self::client_with(kind, reliable, Timers::default(), request(kind))
    }

    pub fn client_with(kind: Kind, reliable: bool, timers: Timers, request: Bytes) -> Self {
        let mut script = Self::new(kind, timers);
        let begun = script.transactions.begin_client(
            at(0),
            client_key(kind),
            kind,
            request,
            "server",
            reliable,
            &mut script.out,
        );
        assert_eq!(begun, Ok(()));
        script.note();
        script
    }

    fn new(kind: Kind, timers: Timers) -> Self {
        let transactions = Transactions::new(timers, Limits::default());
        Self { transactions, kind, now: 0, out: Vec::new(), log: Vec::new() }
    }

    /// Lets time pass until `ms`, waking the machine exactly when it wants to be woken.
    pub fn at(&mut self, ms: u64) -> &mut Self {
        while let Some(due) = self.transactions.poll_timeout().filter(|&due| due <= at(ms)) {
            self.now = due.as_nanos() / 1_000_000;
            self.transactions.handle_timeout(due, &mut self.out);
            self.note();
            assert!(
                self.transactions.poll_timeout() > Some(due) || self.transactions.poll_timeout().is_none()
            );
        }
        self.now = ms;
        self
    }

    /// Lets time pass until `ms` and wakes the machine only then.
    pub fn sleep_until(&mut self, ms: u64) -> &mut Self {
        self.now = ms;
        self.transactions.handle_timeout(at(ms), &mut self.out);
        self.note();
        self
    }

    /// A request comes in that finds the server transaction.
    pub fn request(&mut self, method: Method<'_>) -> Disposition {
        let disposition = self.transactions.handle_request(at(self.now), server_key(), method, &mut self.out);
        self.note();
        disposition
    }

    /// The transaction user responds.
    pub fn respond(&mut self, status: u16) -> Result<(), NoTransaction> {
        self.respond_with(status, response(status, self.kind))
    }

    pub fn respond_with(&mut self, status: u16, message: Bytes) -> Result<(), NoTransaction> {
        let (now, status) = (at(self.now), Status(status));
        let responded = self.transactions.respond(now, server_key(), status, message, &mut self.out);
        self.note();
        responded
    }

    /// A response comes in that finds the client transaction.
    pub fn response(&mut self, status: u16) -> ResponseDisposition {
        let bytes = response(status, self.kind);
        let message = Message::parse(&bytes).unwrap();
        let key = ClientKey::of_response(&secret(), &message).unwrap();
        assert_eq!(key, client_key(self.kind));
        let disposition = self.transactions.handle_response(at(self.now), key, &message, &mut self.out);
        self.note();
        disposition
    }

    /// The edge says that the request could not be sent.
    pub fn send_failed(&mut self) {
        self.transactions.handle_send_failed(at(self.now), client_key(self.kind), &mut self.out);
        self.note();
    }

    /// What has happened since the last call, each with its time: the first word of what was sent, or
    /// the event.
    pub fn log(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.log)
    }

    /// As [`Script::log`], without the times.
    pub fn words(&mut self) -> Vec<String> {
        self.log().into_iter().map(|(_, word)| word).collect()
    }

    fn note(&mut self) {
        for output in self.out.drain(..) {
            let word = match output {
                Output::Send { message, .. } => first_word(&message),
                Output::Client(_, event) => format!("{event:?}"),
                Output::Server(_, event) => format!("{event:?}"),
            };
            self.log.push((self.now, word));
        }
    }
}

/// `[(500, "INVITE")]` as [`Script::log`] gives it.
pub(crate) fn log(entries: &[(u64, &str)]) -> Vec<(u64, String)> {
    entries.iter().map(|&(ms, word)| (ms, word.to_owned())).collect()
}

pub(crate) fn at(ms: u64) -> Instant {
    Instant::START + Duration::from_millis(ms)
}

pub(crate) fn secret() -> Key {
    RootKey::new([7; 32]).subkey("transaction", 0)
}

pub(crate) fn server_key() -> ServerKey {
    let request = request(Kind::Invite);
    ServerKey::of(&secret(), &Message::parse(&request).unwrap()).unwrap()
}

pub(crate) fn client_key(kind: Kind) -> ClientKey {
    ClientKey::of(&secret(), b"z9hG4bKbranch", method(kind))
}

fn method(kind: Kind) -> Method<'static> {
    match kind {
        Kind::Invite => Method::Invite,
        Kind::NonInvite => Method::Options,
    }
}

pub(crate) fn request(kind: Kind) -> Bytes {
    let method = String::from_utf8_lossy(method(kind).as_bytes()).into_owned();
    format!(
        "{method} sip:bob@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKbranch\r\n\
         Max-Forwards: 70\r\nRoute: <sip:192.0.2.5;lr>\r\nFrom: <sip:alice@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\n\
         CSeq: 4 {method}\r\nContent-Length: 0\r\n\r\n"
    )
    .into()
}

pub(crate) fn response(status: u16, kind: Kind) -> Bytes {
    let method = String::from_utf8_lossy(method(kind).as_bytes()).into_owned();
    format!(
        "SIP/2.0 {status} Word\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKbranch\r\n\
         From: <sip:alice@a>;tag=1\r\nTo: <sip:bob@b>;tag={status}\r\nCall-ID: c\r\nCSeq: 4 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into()
}

fn first_word(message: &[u8]) -> String {
    let parsed = Message::parse(message).unwrap();
    match (parsed.method(), parsed.status()) {
        (Some(method), _) => String::from_utf8_lossy(method.as_bytes()).into_owned(),
        (None, Some(status)) => status.0.to_string(),
        (None, None) => unreachable!("a message is a request or a response"),
    }
}
