//! A transaction user with the peers around it: each test says what they send and looks at what comes out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use lease::LeaseMirror;
use sip::{Aor, Message, Method, Name};
use transaction::{ClientEvent, ClientKey, ServerEvent, ServerKey};
use transport::selection::Records;
use transport::{
    Advertise, ConnectionId, Destination, Flow, Listener, ListenerId, Listeners, LocalAddr, RemoteAddr,
    Source, Transport,
};

use super::takeovers::Takeovers;
use crate::call::inbound::Inbound;
use crate::call::{Output, Readiness, TransactionUser};
use crate::{
    Answer, Authenticated, CallRecord, Counts, Keyring, Located, Question, Report, Settings, Target, Token,
    TrustedPeer,
};

pub(super) const UDP: ListenerId = ListenerId(0);
pub(super) const TCP: ListenerId = ListenerId(1);
/// Behind a 1:1 NAT: advertised as 203.0.113.10.
pub(super) const INSIDE: ListenerId = ListenerId(2);
/// Without digest.
pub(super) const OPEN: ListenerId = ListenerId(3);
pub(super) const UDP6: ListenerId = ListenerId(4);

/// A phone at home, which sends from the address that it believes in.
pub(super) const ALICE: &str = "192.0.2.101:5060";
pub(super) const BOB: &str = "192.0.2.102:5060";
/// The outside of the NAT in front of Carol at 10.9.9.9.
pub(super) const CAROL: &str = "198.51.100.7:31000";
pub(super) const STRANGER: &str = "203.0.113.66:5060";
pub(super) const CARRIER: &str = "198.51.100.200:5060";

/// One that stays on its node.
pub(in crate::call) type Scene = SceneOf<false>;

/// A scene; in one that is `TAKEN_OVER` another node goes on with all calls after each step.
pub(in crate::call) struct SceneOf<const TAKEN_OVER: bool> {
    pub(super) user: TransactionUser,
    pub(in crate::call) keyring: Keyring,
    pub(super) now: Now,
    /// What the bans were told.
    pub(super) reports: Vec<Report>,
    /// What was left of calls.
    pub(super) records: Vec<CallRecord>,
    mirror: LeaseMirror,
    takeovers: Takeovers,
}

/// A request that has left.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) key: ClientKey,
    pub(super) to: Destination,
    pub(super) request: Bytes,
}

impl<const TAKEN_OVER: bool> SceneOf<TAKEN_OVER> {
    pub(in crate::call) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let keyring = Keyring::derive(&keys::RootKey::new([7; 32]));
        let mut user = TransactionUser::new(Arc::new(settings), keyring.clone(), 3, 9);
        user.take_changed_calls(&mut Vec::new());
        user.keep_records();
        Self {
            user,
            keyring,
            now: Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000)),
            reports: Vec::new(),
            records: Vec::new(),
            mirror: LeaseMirror::permanent(),
            takeovers: Takeovers::new(TAKEN_OVER),
        }
    }

    pub(super) fn counts(&self) -> &Counts {
        self.user.counts()
    }

    /// A request by UDP to the first listener.
    pub(super) fn receive(&mut self, from: &str, text: &str) -> Vec<Output> {
        self.receive_by(udp(UDP, from), text)
    }

    pub(super) fn receive_by(&mut self, source: Source, text: &str) -> Vec<Output> {
        let bytes = text.replace('\n', "\r\n").into_bytes();
        let message = Message::parse(&bytes).expect("the test's message");
        message.validate().expect("the test's message");
        self.receive_bytes(source, &bytes)
    }

    /// What the checks make of a request of Alice's.
    pub(in crate::call) fn inbound(&self, request: &Request) -> Inbound {
        let bytes = Bytes::from(request.text().replace('\n', "\r\n"));
        let message = Message::parse(&bytes).expect("the test's message");
        self.user.inbound(udp(UDP, ALICE), &bytes, &message).expect("nothing is wrong with it")
    }

    /// A request as the layers below hand it up.
    pub(super) fn receive_bytes(&mut self, source: Source, bytes: &[u8]) -> Vec<Output> {
        let message = Message::parse(bytes).unwrap();
        let mut stamped = Vec::new();
        transport::stamp(&message, &source, &mut stamped);
        let key = ServerKey::of(&self.keyring.transaction, &message).unwrap();
        let method = message.method().unwrap();
        let invite = ServerKey::of_cancelled(&self.keyring.transaction, &message).unwrap();
        let lease = self.mirror.active(self.now.instant).unwrap();
        let (user, now, request, mut out) = (&mut self.user, self.now, Bytes::from(stamped), Vec::new());
        match method {
            Method::Ack => user.handle_ack(now, &lease, source, request, &mut out),
            Method::Cancel => user.handle_cancel(now, &lease, key, invite, source, request, &mut out),
            _ => user.handle_request(now, &lease, key, source, request, &mut out),
        }
        self.without_reports(out)
    }

    /// A request that comes while another node is active.
    pub(super) fn standby(&mut self, from: &str, text: &str, readiness: Readiness) -> Vec<Output> {
        let bytes = text.replace('\n', "\r\n").into_bytes();
        let message = Message::parse(&bytes).expect("the test's message");
        let (source, mut stamped, mut out) = (udp(UDP, from), Vec::new(), Vec::new());
        transport::stamp(&message, &source, &mut stamped);
        self.user.answer_as_standby(self.now, source, Bytes::from(stamped), readiness, &mut out);
        self.without_reports(out)
    }

    /// A request that the layers below could not understand.
    pub(super) fn refuse(&mut self, message: &Message<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        let source = udp(UDP, STRANGER);
        self.user.refuse(self.now, source, message, sip::Status::BAD_REQUEST, "Bad", &mut out);
        self.without_reports(out)
    }

    /// A response that a client transaction passed up.
    pub(super) fn response(&mut self, key: ClientKey, message: &Message<'_>) -> Vec<Output> {
        let lease = self.mirror.active(self.now.instant).unwrap();
        let mut out = Vec::new();
        self.user.handle_response(self.now, &lease, key, udp(UDP, STRANGER), message, &mut out);
        self.without_reports(out)
    }

    pub(super) fn answer(&mut self, token: Token, answer: Answer) -> Vec<Output> {
        let token = self.takeovers.token(token);
        let lease = self.mirror.active(self.now.instant).unwrap();
        let mut out = Vec::new();
        self.user.handle_answer(self.now, &lease, token, answer, &mut out);
        self.without_reports(out)
    }

    pub(super) fn resolved(&mut self, token: Token, records: Records) -> Vec<Output> {
        let token = self.takeovers.token(token);
        let lease = self.mirror.active(self.now.instant).unwrap();
        let mut out = Vec::new();
        self.user.handle_resolved(self.now, &lease, token, records, &mut out);
        self.without_reports(out)
    }

    /// The server transaction of a request has ended.
    pub(super) fn server_ended(&mut self, key: ServerKey) -> Vec<Output> {
        let mut out = Vec::new();
        self.user.handle_server_event(self.now, key, ServerEvent::Terminated, &mut out);
        self.without_reports(out)
    }

    /// Another node becomes active, and this one forgets all.
    pub(super) fn stand_by(&mut self) {
        self.user.stand_by();
        self.takeovers.forget();
    }

    pub(super) fn client_event(&mut self, key: ClientKey, event: ClientEvent) -> Vec<Output> {
        let lease = self.mirror.active(self.now.instant).unwrap();
        let mut out = Vec::new();
        self.user.handle_client_event(self.now, &lease, key, event, &mut out);
        self.without_reports(out)
    }

    /// A response from where the request went, made of the request.
    pub(super) fn reply(&mut self, left: &Left, status: u16, extra: &str) -> Vec<Output> {
        let source = source_of(&left.to);
        self.reply_from(source, left, status, extra)
    }

    pub(super) fn reply_from(
        &mut self,
        source: Source,
        left: &Left,
        status: u16,
        extra: &str,
    ) -> Vec<Output> {
        let bytes = response(&left.request, status, extra);
        let message = Message::parse(&bytes).expect("the test's response");
        message.validate().expect("the test's response");
        let key = ClientKey::of_response(&self.keyring.transaction, &message).unwrap();
        let lease = self.mirror.active(self.now.instant).unwrap();
        let mut out = Vec::new();
        self.user.handle_response(self.now, &lease, key, source, &message, &mut out);
        self.without_reports(out)
    }

    /// This node goes on with what another one has begun.
    pub(super) fn took_over(&mut self) {
        self.user.took_over(self.now);
    }

    /// A response that belongs to no client transaction.
    pub(super) fn stray(&mut self, from: &str, bytes: &[u8]) -> Vec<Output> {
        let message = Message::parse(bytes).expect("the test's response");
        let mut out = Vec::new();
        self.user.handle_stray_response(self.now, udp(UDP, from), &message, &mut out);
        self.without_reports(out)
    }

    /// Lets time pass, and calls whenever the machine wants to be called.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now.instant + time;
        let mut all = Vec::new();
        while let Some(at) = self.user.poll_timeout().filter(|at| *at <= end) {
            self.step_to(at);
            let lease = self.mirror.active(self.now.instant).unwrap();
            let mut out = Vec::new();
            self.user.handle_timeout(self.now, &lease, &mut out);
            all.extend(self.without_reports(out));
        }
        self.step_to(end);
        all
    }

    fn step_to(&mut self, at: Instant) {
        let passed = at.since(self.now.instant);
        self.now = Now::new(self.now.instant.max(at), self.now.wall + passed);
    }

    /// Sends a request with an account's credentials, which are found to be right; what comes out then.
    pub(super) fn send_as_account(&mut self, from: &str, request: &Request) -> Vec<Output> {
        self.send_as_account_by(udp(UDP, from), request)
    }

    pub(super) fn send_as_account_by(&mut self, source: Source, request: &Request) -> Vec<Output> {
        let refused = self.receive_by(source, &request.text());
        let with = request.clone().header(&credentials(request, &only_response(&refused)));
        let asked = self.receive_by(source, &with.again().text());
        let (token, question) = only_ask(&asked);
        assert!(matches!(question, Question::Authenticate(_)), "{asked:?}");
        self.answer(token, Answer::Authenticated(Authenticated::Yes))
    }

    /// The same, and the target is found at these bindings.
    pub(super) fn call_as_account(
        &mut self,
        from: &str,
        request: &Request,
        targets: Vec<Target>,
    ) -> Vec<Output> {
        self.call_as_account_by(udp(UDP, from), request, targets)
    }

    pub(super) fn call_as_account_by(
        &mut self,
        source: Source,
        request: &Request,
        targets: Vec<Target>,
    ) -> Vec<Output> {
        let admitted = self.send_as_account_by(source, request);
        let (token, question) = only_ask(&admitted);
        assert!(matches!(question, Question::Locate(_) | Question::Call(_)), "{admitted:?}");
        self.answer(token, Answer::Located(Located::Targets(targets)))
    }

    /// What came out of a step, but for reports and records, which are kept apart. Then another node goes on.
    fn without_reports(&mut self, out: Vec<Output>) -> Vec<Output> {
        self.takeovers.after_step(&mut self.user, &out);
        self.takeovers.take_over(&mut self.user, &self.keyring, self.now, &self.mirror);
        let mut others = Vec::new();
        for output in out {
            match output {
                Output::Report(report) => self.reports.push(report),
                Output::Record(_, record) => self.records.push(*record),
                other => others.push(other),
            }
        }
        others
    }
}

/// A request as a test writes it.
#[derive(Clone, Debug)]
pub(in crate::call) struct Request {
    pub(super) method: &'static str,
    pub(super) uri: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) contact: String,
    pub(super) call_id: String,
    pub(super) via: String,
    pub(super) cseq: u32,
    pub(super) headers: Vec<String>,
    pub(super) body: String,
}

/// An INVITE from Alice's phone to a user.
pub(in crate::call) fn invite(uri: &str) -> Request {
    Request {
        method: "INVITE",
        uri: uri.to_owned(),
        from: "\"Alice\" <sip:alice@example.org>;tag=alice-tag".to_owned(),
        to: format!("<{uri}>"),
        contact: "<sip:alice@192.0.2.101:5060>".to_owned(),
        call_id: "call-1@192.0.2.101".to_owned(),
        via: "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-alice-1;rport".to_owned(),
        cseq: 1,
        headers: Vec::new(),
        body: String::new(),
    }
}

/// The same request with another method.
pub(super) fn request(method: &'static str, uri: &str) -> Request {
    Request { method, ..invite(uri) }
}

/// A REGISTER of Alice's phone.
pub(super) fn register() -> Request {
    Request {
        uri: "sip:example.org".to_owned(),
        to: "<sip:alice@example.org>".to_owned(),
        ..request("REGISTER", "sip:example.org")
    }
}

impl Request {
    pub(super) fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    pub(super) fn from(mut self, from: &str) -> Self {
        self.from = from.to_owned();
        self
    }

    pub(super) fn to(mut self, to: &str) -> Self {
        self.to = to.to_owned();
        self
    }

    pub(super) fn via(mut self, via: &str) -> Self {
        self.via = via.to_owned();
        self
    }

    pub(super) fn contact(mut self, contact: &str) -> Self {
        self.contact = contact.to_owned();
        self
    }

    pub(super) fn uri(mut self, uri: &str) -> Self {
        self.uri = uri.to_owned();
        self
    }

    /// The request that follows: another branch, the next CSeq.
    pub(super) fn again(mut self) -> Self {
        self.cseq += 1;
        self.via = self.via.replacen("branch=z9hG4bK", "branch=z9hG4bKx", 1);
        self
    }

    pub(super) fn text(&self) -> String {
        let Self { method, uri, from, to, contact, call_id, via, cseq, headers, body } = self;
        let mut text = format!("{method} {uri} SIP/2.0\nVia: {via}\n");
        if !headers.iter().any(|line| line.starts_with("Max-Forwards")) {
            text.push_str("Max-Forwards: 70\n");
        }
        text.push_str(&format!("From: {from}\nTo: {to}\nCall-ID: {call_id}\nCSeq: {cseq} {method}\n"));
        if !contact.is_empty() {
            text.push_str(&format!("Contact: {contact}\n"));
        }
        for line in headers {
            text.push_str(&format!("{line}\n"));
        }
        text.push_str(&format!("Content-Length: {}\n\n{body}", body.replace('\n', "\r\n").len()));
        text
    }
}

/// The credentials line that answers a challenge. Their response is judged by the test.
pub(super) fn credentials(request: &Request, challenge: &Bytes) -> String {
    let message = Message::parse(challenge).unwrap();
    let (name, line) = match message.header(Name::WwwAuthenticate) {
        Some(line) => ("Authorization", line),
        None => ("Proxy-Authorization", message.header(Name::ProxyAuthenticate).expect("a challenge")),
    };
    let value = |name: &str| {
        let line = std::str::from_utf8(line).unwrap();
        let rest = line.split_once(&format!("{name}=\"")).expect("a parameter").1;
        rest.split_once('"').unwrap().0.to_owned()
    };
    format!(
        "{name}: Digest username=\"alice\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"0123\", \
         algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"c\"",
        value("realm"),
        value("nonce"),
        request.uri,
    )
}

pub(super) fn settings() -> Settings {
    let listener = |id, transport, local: &str| Listener {
        id,
        transport,
        local: LocalAddr(local.parse().unwrap()),
        advertise: None,
        digest: true,
    };
    let listeners = vec![
        listener(UDP, Transport::Udp, "192.0.2.5:5060"),
        listener(TCP, Transport::Tcp, "192.0.2.5:5060"),
        Listener {
            advertise: Some(Advertise { host: "203.0.113.10".to_owned(), port: None }),
            ..listener(INSIDE, Transport::Udp, "10.0.0.5:5060")
        },
        Listener { digest: false, ..listener(OPEN, Transport::Udp, "10.1.0.5:5060") },
        listener(UDP6, Transport::Udp, "[2001:db8::5]:5060"),
    ];
    Settings {
        listeners: Arc::new(Listeners::new(listeners)),
        domains: BTreeSet::from(["example.org".to_owned()]),
        server: Some("Tandem/test".to_owned()),
        trusted: vec![TrustedPeer {
            network: "198.51.100.200/32".parse().unwrap(),
            name: "carrier".to_owned(),
        }],
        ..Settings::default()
    }
}

pub(super) fn udp(listener: ListenerId, remote: &str) -> Source {
    Source { flow: datagram(listener, remote), transport: Transport::Udp }
}

pub(super) fn tcp(number: u64, remote: &str) -> Source {
    Source { flow: connection(number, remote), transport: Transport::Tcp }
}

pub(super) fn datagram(listener: ListenerId, remote: &str) -> Flow {
    Flow::Datagram { listener, remote: RemoteAddr(remote.parse().unwrap()) }
}

pub(super) fn connection(number: u64, remote: &str) -> Flow {
    let id = ConnectionId { node: 0, boot: 9, listener: TCP, number };
    Flow::Connection { id, remote: RemoteAddr(remote.parse().unwrap()) }
}

/// A phone that sits at the address of its Contact.
pub(super) fn target(contact: &str, listener: ListenerId, remote: &str) -> Target {
    Target {
        aor: Aor::parse("bob@example.org").unwrap(),
        contact: Bytes::copy_from_slice(contact.as_bytes()),
        path: Vec::new(),
        flow: Some(datagram(listener, remote)),
        listener: Some(listener),
        nat: false,
        q: 1_000,
        instance: None,
        reg_id: None,
    }
}

pub(super) fn bob() -> Target {
    target("sip:bob@192.0.2.102:5060", UDP, BOB)
}

/// A phone behind NAT.
pub(super) fn carol() -> Target {
    Target {
        nat: true,
        aor: Aor::parse("carol@example.org").unwrap(),
        ..target("sip:carol@10.9.9.9:5060", UDP, CAROL)
    }
}

pub(super) fn only_response(out: &[Output]) -> Bytes {
    let responses = responses(out);
    assert_eq!(responses.len(), 1, "one response: {out:?}");
    responses[0].clone()
}

pub(super) fn responses(out: &[Output]) -> Vec<Bytes> {
    out.iter()
        .filter_map(|output| match output {
            Output::Respond { message, .. } | Output::RespondStateless { message, .. } => {
                Some(message.clone())
            }
            _ => None,
        })
        .collect()
}

/// The status codes of all responses.
pub(super) fn statuses(out: &[Output]) -> Vec<u16> {
    responses(out).iter().map(status).collect()
}

/// Whether the one response keeps no state.
pub(super) fn is_stateless(out: &[Output]) -> bool {
    matches!(out, [Output::RespondStateless { .. }])
}

pub(super) fn status(message: &Bytes) -> u16 {
    Message::parse(message).unwrap().status().unwrap().0
}

pub(super) fn only_ask(out: &[Output]) -> (Token, Question) {
    let asks: Vec<_> = out
        .iter()
        .filter_map(|output| match output {
            Output::Ask { token, question, .. } => Some((*token, question.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(asks.len(), 1, "one question: {out:?}");
    asks.into_iter().next().unwrap()
}

/// All requests that have left by a client transaction.
pub(super) fn left(out: &[Output]) -> Vec<Left> {
    out.iter()
        .filter_map(|output| match output {
            Output::Forward { key, to, request, .. } => {
                Some(Left { key: *key, to: *to, request: request.clone() })
            }
            _ => None,
        })
        .collect()
}

pub(super) fn only_left(out: &[Output]) -> Left {
    let left = left(out);
    assert_eq!(left.len(), 1, "one request: {out:?}");
    left[0].clone()
}

pub(super) fn method(bytes: &Bytes) -> String {
    String::from_utf8(Message::parse(bytes).unwrap().method().unwrap().as_bytes().to_vec()).unwrap()
}

/// All values of a header field, as text.
pub(super) fn values(bytes: &[u8], name: Name) -> Vec<String> {
    let message = Message::parse(bytes).unwrap();
    message.values(name).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

pub(super) fn header(bytes: &[u8], name: Name) -> Option<String> {
    let message = Message::parse(bytes).unwrap();
    message.header(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

pub(super) fn request_uri(bytes: &[u8]) -> String {
    String::from_utf8(Message::parse(bytes).unwrap().request_uri().unwrap().to_vec()).unwrap()
}

/// A response to a request that has left, as the phone there makes it.
pub(super) fn response(request: &[u8], status: u16, extra: &str) -> Vec<u8> {
    let message = Message::parse(request).unwrap();
    let mut text = format!("SIP/2.0 {status} Reason\r\n");
    for name in [Name::Via, Name::RecordRoute] {
        for value in message.values(name) {
            let name = String::from_utf8_lossy(name.canonical()).into_owned();
            text.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value)));
        }
    }
    let line = |name: Name| String::from_utf8_lossy(message.header(name).unwrap()).into_owned();
    let to = match message.to_tag() {
        Some(_) => line(Name::To),
        None if status == 100 => line(Name::To),
        None => format!("{};tag=callee-tag", line(Name::To)),
    };
    text.push_str(&format!("From: {}\r\nTo: {to}\r\n", line(Name::From)));
    text.push_str(&format!("Call-ID: {}\r\nCSeq: {}\r\n", line(Name::CallId), line(Name::CSeq)));
    for line in extra.lines() {
        text.push_str(&format!("{line}\r\n"));
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into_bytes()
}

fn source_of(to: &Destination) -> Source {
    let (flow, transport) = match *to {
        Destination::Flow(flow) if flow.is_reliable() => (flow, Transport::Tcp),
        Destination::Flow(flow) => (flow, Transport::Udp),
        Destination::Connect { listener, remote } => {
            let id = ConnectionId { node: 0, boot: 9, listener, number: 1_000 };
            (Flow::Connection { id, remote }, Transport::Tcp)
        }
    };
    Source { flow, transport }
}
