//! A phone: a user agent that registers, calls and is called, as the RFCs have it.
//!
//! It is a machine like the server's: messages, orders and time go in, outputs come out. It shares
//! with the server the syntax, the transaction machines and the framing, and nothing above them: digest,
//! dialogs and registration are its own, so that the server is not its own judge.

mod callee;
mod caller;
mod dialog;
mod digest;
mod message;
mod order;
mod registration;
mod request;
mod within;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clock::{Deadlines, Instant};
use keys::Key;
use sip::{Framed, Message, Method, Status};
use transaction::{
    ClientEvent, ClientKey, Disposition, Limits, Output as TransactionOutput, ResponseDisposition, ServerKey,
    Timers, Transactions,
};
use transport::Transport;

use crate::stream::StreamId;
use callee::CalleeCall;
use caller::CallerCall;
use digest::Realm;
use message::Outgoing;
use registration::Registration;

pub(crate) use dialog::address_of;
pub(crate) use digest::{Algorithm, Asker, Challenge};
pub(crate) use message::answer;
pub(crate) use order::{
    Answering, Behaviour, CallOrder, Fact, Offer, Output, Patience, Provisional, Refer, Role,
};

/// What a phone is.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The user part of its address of record.
    pub(crate) user: String,
    /// Its domain.
    pub(crate) domain: String,
    /// Its password.
    pub(crate) password: String,
    /// Its own address, which its Contact names.
    pub(crate) local: SocketAddr,
    /// The server's address.
    pub(crate) server: SocketAddr,
    /// How it talks to it.
    pub(crate) transport: Transport,
    /// Digest algorithms, best liked first.
    pub(crate) liked: Vec<Algorithm>,
    /// RFC 5626: whether its Contact has an instance and a reg-id.
    pub(crate) instance: bool,
    /// The `q` of its Contact, if it has one.
    pub(crate) q: Option<&'static str>,
    /// Whether its dialogs know strict routing only.
    pub(crate) strict: bool,
    /// Whether its first requests carry a Route to the server.
    pub(crate) preloads: bool,
    /// What it wishes its binding to last.
    pub(crate) expires: Duration,
}

/// Where a phone sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    /// A datagram.
    Datagram(SocketAddr),
    /// The connection that something came on.
    Stream(StreamId),
    /// The server, by the phone's transport.
    Server,
}

/// The phone's own connection to its server.
#[derive(Debug)]
enum Link {
    None,
    Opening { stream: StreamId, waiting: Vec<u8> },
    Open(StreamId),
}

/// What a client transaction is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    Register,
    Unregister,
    Invite(u32),
    Cancel,
    Reinvite(u32),
    Bye(u32),
    Within { script: u32, role: Role, method: &'static str },
    Options,
}

/// A request whose answer is awaited.
#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    request: Outgoing,
    way: Way,
    attempts: u32,
    used_again: bool,
}

/// When a phone wants to be woken, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Register,
    Reconnect,
    Caller(u32, caller::Step),
    Callee(u32, callee::Step),
}

/// A request is sent again with credentials so often.
const ATTEMPTS_MAX: u32 = 3;

/// A phone.
#[derive(Debug)]
pub(crate) struct Phone {
    setup: Setup,
    key: Key,
    transactions: Transactions<Way>,
    from_transactions: Vec<TransactionOutput<Way>>,
    deadlines: Deadlines<Wake>,
    pending: BTreeMap<ClientKey, Pending>,
    realms: BTreeMap<String, Realm>,
    registration: Registration,
    callers: BTreeMap<u32, CallerCall>,
    callees: BTreeMap<u32, CalleeCall>,
    answering: BTreeMap<u32, Answering>,
    link: Link,
    buffers: BTreeMap<StreamId, Vec<u8>>,
    made: u32,
    powered: bool,
}

/// The timers of RFC 3261 §17 as their defaults are.
pub(crate) const TIMERS: Timers =
    Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) };

impl Phone {
    /// A phone that has done nothing yet.
    pub(crate) fn new(setup: Setup) -> Self {
        Self::started(setup, 0)
    }

    /// A phone that has just got its power; `made` is how many ids it has made in its life.
    fn started(setup: Setup, made: u32) -> Self {
        let mut root = [0; 32];
        for (byte, value) in root.iter_mut().zip(setup.local.to_string().bytes()) {
            *byte = value;
        }
        Self {
            key: keys::RootKey::new(root).subkey("phone", 0),
            registration: Registration::new(&setup, made),
            setup,
            transactions: Transactions::new(TIMERS, Limits::default()),
            from_transactions: Vec::new(),
            deadlines: Deadlines::default(),
            pending: BTreeMap::new(),
            realms: BTreeMap::new(),
            callers: BTreeMap::new(),
            callees: BTreeMap::new(),
            answering: BTreeMap::new(),
            link: Link::None,
            buffers: BTreeMap::new(),
            made,
            powered: true,
        }
    }

    /// What its ids begin with: two phones of one user never make the same.
    fn name(&self) -> String {
        let address: String =
            self.setup.local.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{}-{address}", self.setup.user)
    }

    /// What it is.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Its address of record as text.
    pub(crate) fn aor(&self) -> String {
        format!("{}@{}", self.setup.user, self.setup.domain)
    }

    /// Says what to do with the script's call `number`.
    pub(crate) fn prepare(&mut self, number: u32, answering: Answering) {
        self.answering.insert(number, answering);
    }

    /// Whether a call is being made, rings or is up.
    pub(crate) fn is_in_call(&self) -> bool {
        self.callers.values().any(CallerCall::is_up) || self.callees.values().any(CalleeCall::is_up)
    }

    /// Forgets the script's call `number`, which has ended.
    pub(crate) fn forget_call(&mut self, number: u32) {
        self.callers.retain(|_, call| call.number() != number);
        self.callees.retain(|_, call| call.number() != number);
        self.answering.remove(&number);
    }

    /// How many calls have not ended, and how many transactions live.
    pub(crate) fn left(&self) -> (usize, usize) {
        let calls = self.callers.values().filter(|call| !call.is_ended()).count()
            + self.callees.values().filter(|call| !call.is_ended()).count();
        let (servers, clients) = self.transactions.counts();
        (calls, servers + clients)
    }

    /// Loses its power: says and hears nothing any more, and forgets everything.
    pub(crate) fn lose_power(&mut self) {
        let setup = self.setup.clone();
        *self = Self { powered: false, ..Self::started(setup, self.made) };
    }

    /// Whether it has power.
    pub(crate) fn is_powered(&self) -> bool {
        self.powered
    }

    /// Takes a datagram.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        if !self.powered {
            return;
        }
        if stun::is_stun(bytes) {
            out.push(Output::Fact(mapped(bytes)));
        } else if !bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            self.handle_message(now, Way::Datagram(from), bytes, out);
        }
        self.settle(now, out);
    }

    /// Is told which connection it just began to open.
    pub(crate) fn handle_opening(&mut self, stream: StreamId) {
        let waiting = match std::mem::replace(&mut self.link, Link::None) {
            Link::Opening { waiting, .. } => waiting,
            Link::None | Link::Open(_) => Vec::new(),
        };
        self.link = Link::Opening { stream, waiting };
        self.buffers.insert(stream, Vec::new());
    }

    /// Its connection is up.
    pub(crate) fn handle_opened(&mut self, stream: StreamId, out: &mut Vec<Output>) {
        if let Link::Opening { stream: opening, waiting } = &mut self.link
            && *opening == stream
        {
            let bytes = std::mem::take(waiting);
            self.link = Link::Open(stream);
            if !bytes.is_empty() {
                out.push(Output::Write { stream, bytes });
            }
        }
    }

    /// The server opened a connection to it.
    pub(crate) fn handle_accepted(&mut self, stream: StreamId) -> bool {
        if self.powered {
            self.buffers.insert(stream, Vec::new());
        }
        self.powered
    }

    /// Takes bytes of a connection.
    pub(crate) fn handle_bytes(
        &mut self,
        now: Instant,
        stream: StreamId,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let Some(buffer) = self.buffers.get_mut(&stream).filter(|_| self.powered) else { return };
        buffer.extend_from_slice(bytes);
        let mut buffer = std::mem::take(buffer);
        let mut read = 0;
        loop {
            match sip::frame_stream(&buffer[read..]) {
                // RFC 5626 §3.5.1: one line end answers a ping, two are one.
                Framed::NeedMore if buffer[read..] == *b"\r\n" => {
                    out.push(Output::Fact(Fact::Ponged));
                    read += 2;
                }
                Framed::NeedMore => break,
                Framed::Keepalive { len } => {
                    match len {
                        4 => out.push(Output::Write { stream, bytes: b"\r\n".to_vec() }),
                        _ => out.push(Output::Fact(Fact::Ponged)),
                    }
                    read += len;
                }
                Framed::Message { len } => {
                    let message = buffer[read..read + len].to_vec();
                    read += len;
                    self.handle_message(now, Way::Stream(stream), &message, out);
                }
                Framed::Broken(problem) => {
                    out.push(unexpected(format!("the server broke the framing of a stream: {problem:?}")));
                    read = buffer.len();
                    break;
                }
            }
        }
        buffer.drain(..read);
        self.buffers.insert(stream, buffer);
        self.settle(now, out);
    }

    /// A connection is gone, or was refused.
    pub(crate) fn handle_closed(&mut self, now: Instant, stream: StreamId) {
        self.buffers.remove(&stream);
        if matches!(self.link, Link::Opening { stream: own, .. } | Link::Open(own) if own == stream) {
            self.link = Link::None;
            if self.registration.is_wanted() {
                self.deadlines.push(now + RECONNECT, Wake::Reconnect);
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !self.powered {
            return;
        }
        self.transactions.handle_timeout(now, &mut self.from_transactions);
        self.settle(now, out);
        while let Some((at, wake)) = self.deadlines.pop_due(now) {
            match wake {
                Wake::Register if self.registration.is_due(at) => self.register(now, out),
                Wake::Reconnect if matches!(self.link, Link::None) && self.registration.is_wanted() => {
                    self.register(now, out);
                }
                Wake::Register | Wake::Reconnect => {}
                Wake::Caller(call, step) => self.step_caller(now, call, step, out),
                Wake::Callee(call, step) => self.step_callee(now, call, step, out),
            }
            self.settle(now, out);
        }
    }

    /// When [`Phone::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.powered {
            return None;
        }
        [self.transactions.poll_timeout(), self.deadlines.next()].into_iter().flatten().min()
    }

    /// Asks the server for OPTIONS.
    pub(crate) fn ask_options(&mut self, now: Instant, out: &mut Vec<Output>) {
        let request = self.fresh("OPTIONS", format!("sip:{}", self.setup.domain), None);
        self.send_request(now, Purpose::Options, request, Way::Server, out);
        self.settle(now, out);
    }

    /// Asks for its address by STUN (UDP), or pings its connection (TCP).
    pub(crate) fn ping(&mut self, out: &mut Vec<Output>) {
        match (self.setup.transport, &self.link) {
            (Transport::Udp, _) => {
                let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
                bytes.extend_from_slice(b"sim-sim-sim-");
                out.push(Output::Datagram { to: self.setup.server, bytes });
            }
            (Transport::Tcp, Link::Open(stream)) => {
                out.push(Output::Write { stream: *stream, bytes: b"\r\n\r\n".to_vec() });
            }
            (Transport::Tcp, _) => {}
        }
    }

    /// Closes its connection, as at a change of network.
    pub(crate) fn close_connection(&mut self, now: Instant, out: &mut Vec<Output>) {
        if let Link::Open(stream) = self.link {
            out.push(Output::Close { stream });
            self.handle_closed(now, stream);
        }
    }

    fn handle_message(&mut self, now: Instant, way: Way, bytes: &[u8], out: &mut Vec<Output>) {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(problem) => {
                let text = String::from_utf8_lossy(bytes);
                out.push(unexpected(format!(
                    "{} got what it can not parse ({problem:?}): {text}",
                    self.setup.user
                )));
                return;
            }
        };
        if let Err(problem) = message.validate() {
            out.push(unexpected(format!("{} got an invalid message: {problem:?}", self.setup.user)));
            return;
        }
        if message.is_request() {
            self.handle_request(now, way, &message, out);
        } else {
            self.handle_response(now, &message, out);
        }
    }

    fn handle_request(&mut self, now: Instant, way: Way, request: &Message<'_>, out: &mut Vec<Output>) {
        let (Some(method), Ok(key)) = (request.method(), ServerKey::of(&self.key, request)) else { return };
        match self.transactions.handle_request(now, key, method, &mut self.from_transactions) {
            Disposition::Absorbed => return,
            Disposition::AckFor2xx => return self.handle_ack(now, request, out),
            Disposition::New => {}
        }
        // RFC 3261 §18.2.2: with rport, or over a connection, the response goes back where the request came from.
        let reliable = matches!(way, Way::Stream(_));
        if self.transactions.begin_server(now, key, method, way, reliable).is_err() {
            out.push(unexpected("a phone's table of transactions is full".to_owned()));
            return;
        }
        match method {
            Method::Invite => self.handle_invite(now, key, request, out),
            Method::Cancel => self.handle_cancel(now, key, request, out),
            Method::Bye => self.handle_bye(now, key, request, out),
            Method::Options => {
                self.respond(
                    now,
                    key,
                    200,
                    &answer(request, 200, "o", "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\n", ""),
                );
                out.push(Output::Fact(Fact::KeepaliveAnswered));
            }
            Method::Prack | Method::Refer | Method::Notify | Method::Update => {
                self.handle_within(now, key, request, out)
            }
            _ => self.respond(now, key, 405, &answer(request, 405, "x", "Allow: INVITE\r\n", "")),
        }
    }

    fn handle_response(&mut self, now: Instant, response: &Message<'_>, out: &mut Vec<Output>) {
        let Ok(key) = ClientKey::of_response(&self.key, response) else { return };
        if self.transactions.handle_response(now, key, response, &mut self.from_transactions)
            != ResponseDisposition::Deliver
        {
            return;
        }
        let Some(status) = response.status() else { return };
        let asker = match status.0 {
            401 => Some(Asker::Server),
            407 => Some(Asker::Proxy),
            _ => None,
        };
        if let Some(asker) = asker
            && self.handle_challenge(now, key, asker, response, out)
        {
            return;
        }
        let Some(pending) = self.pending.get(&key) else { return };
        if status.is_success() && pending.used_again {
            out.push(Output::Fact(Fact::NonceReused));
        }
        let (purpose, cseq) = (pending.purpose.clone(), pending.request.cseq);
        let is_invite = matches!(purpose, Purpose::Invite(_) | Purpose::Reinvite(_));
        match purpose {
            Purpose::Register | Purpose::Unregister => self.registered(now, key, response, out),
            Purpose::Invite(call) => self.invite_answered(now, call, key, cseq, response, out),
            Purpose::Reinvite(call) => self.reinvite_answered(now, call, key, response, out),
            Purpose::Bye(call) => {
                if status.is_final() {
                    self.bye_answered(call, status.0, out);
                }
            }
            Purpose::Within { script: call, role, method } => {
                if status.is_final() {
                    out.push(Output::Fact(Fact::Within { call, role, method, status: status.0 }));
                }
            }
            Purpose::Options => out.push(Output::Fact(Fact::OptionsAnswered(status.0))),
            Purpose::Cancel => {}
        }
        // A client transaction of an INVITE goes on to hand up 2xx; its own end forgets it.
        let more = status.is_success() && is_invite;
        if status.is_final() && !more {
            self.pending.remove(&key);
        }
    }

    fn via(&self, branch: &str) -> String {
        format!("SIP/2.0/{} {};rport;branch={branch}", self.setup.transport.via_name(), self.setup.local)
    }

    fn contact(&self) -> String {
        let Setup { user, local, transport, .. } = &self.setup;
        match transport {
            Transport::Udp => format!("sip:{user}@{local}"),
            Transport::Tcp => format!("sip:{user}@{local};transport=tcp"),
        }
    }

    fn respond(&mut self, now: Instant, key: ServerKey, status: u16, bytes: &[u8]) {
        // The transaction may have ended meanwhile; then nobody waits for the response.
        let _ = self.transactions.respond(
            now,
            key,
            Status(status),
            Bytes::copy_from_slice(bytes),
            &mut self.from_transactions,
        );
    }

    /// Carries what the transactions want done.
    fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        while !self.from_transactions.is_empty() {
            for output in std::mem::take(&mut self.from_transactions) {
                match output {
                    TransactionOutput::Send { to, message, .. } => self.send(to, message.to_vec(), out),
                    TransactionOutput::Client(key, event) => self.client_event(now, key, event, out),
                    TransactionOutput::Server(..) => {}
                }
            }
        }
    }

    fn client_event(&mut self, now: Instant, key: ClientKey, event: ClientEvent, out: &mut Vec<Output>) {
        let pending = self.pending.remove(&key);
        if event == ClientEvent::Terminated {
            return;
        }
        let Some(pending) = pending else { return };
        match pending.purpose {
            Purpose::Register | Purpose::Unregister => self.register_timed_out(now, out),
            Purpose::Invite(call) => self.invite_timed_out(call, out),
            Purpose::Reinvite(call) => {
                out.push(Output::Fact(Fact::Reinvited { call: self.number_of(call), status: 0 }))
            }
            Purpose::Bye(call) => self.bye_answered(call, 0, out),
            Purpose::Within { script: call, role, method } => {
                out.push(Output::Fact(Fact::Within { call, role, method, status: 0 }));
            }
            Purpose::Cancel | Purpose::Options => {}
        }
    }

    fn send(&mut self, way: Way, bytes: Vec<u8>, out: &mut Vec<Output>) {
        match (way, self.setup.transport) {
            (Way::Datagram(to), _) => out.push(Output::Datagram { to, bytes }),
            (Way::Stream(stream), _) => out.push(Output::Write { stream, bytes }),
            (Way::Server, Transport::Udp) => out.push(Output::Datagram { to: self.setup.server, bytes }),
            (Way::Server, Transport::Tcp) => match &mut self.link {
                Link::Open(stream) => out.push(Output::Write { stream: *stream, bytes }),
                Link::Opening { waiting, .. } => waiting.extend_from_slice(&bytes),
                Link::None => {
                    self.link = Link::Opening { stream: StreamId(u64::MAX), waiting: bytes };
                    out.push(Output::Open { to: self.setup.server });
                }
            },
        }
    }
}

/// A phone whose connection was closed opens another after this time.
const RECONNECT: Duration = Duration::from_secs(2);

fn unexpected(text: String) -> Output {
    Output::Fact(Fact::Unexpected(text))
}

/// Reads XOR-MAPPED-ADDRESS (IPv4) as the first attribute, else says that it can not.
fn mapped(bytes: &[u8]) -> Fact {
    let mut rest = bytes.get(20..).unwrap_or_default();
    while let [kind_high, kind_low, length_high, length_low, after @ ..] = rest {
        let (kind, length) = (
            u16::from_be_bytes([*kind_high, *kind_low]),
            usize::from(u16::from_be_bytes([*length_high, *length_low])),
        );
        if let (0x0020, [_, 1, port_high, port_low, a, b, c, d, ..]) = (kind, after) {
            let port = u16::from_be_bytes([port_high ^ 0x21, port_low ^ 0x12]);
            return Fact::Mapped(SocketAddr::from(([a ^ 0x21, b ^ 0x12, c ^ 0xa4, d ^ 0x42], port)));
        }
        if let (0x0020, [_, 2, ..]) = (kind, after) {
            return Fact::Mapped(SocketAddr::from(([0; 16], 0)));
        }
        rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Fact::Unexpected("an answer to STUN without an address".to_owned())
}
