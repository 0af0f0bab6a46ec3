//! What must hold of all that leaves the engine, and of what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sip::{Editor, Malformed, Message, Method, Name};
use transport::{Destination, Flow, ListenerId, Listeners, Source};

/// One side of a peer: the listener, and the address or the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    listener: ListenerId,
    address: IpAddr,
    connection: Option<u64>,
}

/// What a request and its responses have in common: Call-ID and CSeq.
type Names = (Vec<u8>, Vec<u8>);

/// How much an engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) servers: usize,
    pub(super) clients: usize,
    pub(super) suspended: usize,
    pub(super) contexts: usize,
}

/// What came in, and what has left because of it.
#[derive(Debug, Default)]
pub(super) struct Checks {
    senders: BTreeMap<Names, BTreeSet<Place>>,
    places: BTreeSet<Place>,
    arrivals: usize,
    /// The message that is being handled is a request that is not valid: its answer copies what is there.
    is_lenient: bool,
    /// A peer answered with Via values of others that can not be read: what it answered is passed on as it came.
    has_forged: bool,
    requests_left: usize,
    responses_left: usize,
}

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Somebody who may have a password, or the token of a dialog.
    Anybody,
    /// Somebody who has neither.
    Stranger,
}

impl Checks {
    /// A message comes in.
    pub(super) fn arrives(&mut self, source: &Source, bytes: &[u8]) {
        self.begin();
        self.arrivals += 1;
        let Ok((message, problem)) = Message::parse_lenient(bytes) else { return };
        if !message.is_request() {
            self.has_forged |= problem.is_none() && is_forged(&message);
            return;
        }
        let problem = transport::framing_problem(&message, source, problem);
        self.is_lenient = problem.is_some() || message.validate().is_err();
        let place = Place::of(source.flow);
        self.places.insert(place);
        self.senders.entry(names(&message)).or_default().insert(place);
    }

    /// Something else happens.
    pub(super) fn begin(&mut self) {
        self.is_lenient = false;
        (self.requests_left, self.responses_left) = (0, 0);
    }

    /// A message leaves.
    pub(super) fn leaves(&mut self, listeners: &Listeners, to: &Destination, bytes: &[u8]) {
        if sip::is_idle(bytes) {
            // A keepalive.
            return;
        }
        let mut is_read_whole = true;
        let message = match Message::parse_lenient(bytes) {
            Ok((message, None)) => {
                let has_length = message.header(Name::ContentLength).is_some();
                assert!(
                    !to.is_reliable() || has_length,
                    "a stream's message has no length: {}",
                    start(bytes)
                );
                message
            }
            // The answer to what has too many header lines has as many, and is read no further.
            Ok((message, Some(_))) if self.is_lenient && !message.is_request() => {
                is_read_whole = false;
                message
            }
            // The answer to what is almost too large is too large: it can not be sent, which hurts who asked for it.
            Ok((message, Some(Malformed::TooLarge))) if !message.is_request() => {
                is_read_whole = false;
                message
            }
            Ok((_, problem)) => panic!("what leaves is no message: {problem:?}: {}", start(bytes)),
            Err(_) => panic!("what leaves is no SIP: {}", start(bytes)),
        };
        if message.is_request() || !(self.is_lenient || self.has_forged) {
            assert_eq!(message.validate(), Ok(()), "what leaves is not valid: {}", start(bytes));
        }
        if message.is_request() {
            self.requests_left += 1;
            check_request(listeners, to, &message);
        } else {
            self.responses_left += 1;
            self.check_response(to, &message, is_read_whole);
        }
    }

    /// A stranger's request was handled.
    pub(super) fn after_stranger(&self, bytes: &[u8], before: Held, after: Held) {
        let Ok((message, _)) = Message::parse_lenient(bytes) else {
            assert_eq!((self.requests_left, self.responses_left), (0, 0), "what is no SIP was answered");
            return;
        };
        match message.method() {
            // Who knows a branch may cancel; who knows none gets a 481, and its transaction keeps that a while.
            None | Some(Method::Cancel) => return,
            Some(Method::Ack) => assert_eq!(self.responses_left, 0, "an ACK was answered"),
            Some(_) => {
                assert!(self.responses_left <= 1, "a stranger's request got {} answers", self.responses_left)
            }
        }
        assert_eq!(self.requests_left, 0, "a stranger's request was relayed: {}", start(bytes));
        let is_same = after.servers <= before.servers
            && after.clients <= before.clients
            && after.suspended <= before.suspended
            && after.contexts <= before.contexts;
        assert!(is_same, "a stranger's request stays: {before:?} {after:?}: {}", start(bytes));
    }

    /// How much is held is bounded by how much came.
    pub(super) fn check_held(&self, held: Held) {
        // One request has as many branches as Max-Breadth, twice that with their CANCELs.
        let clients_max = self.arrivals * 120;
        assert!(held.servers <= self.arrivals, "more server transactions than messages: {held:?}");
        assert!(held.contexts <= self.arrivals, "more contexts than messages: {held:?}");
        assert!(held.clients <= clients_max, "more client transactions than branches: {held:?}");
        assert!(held.suspended <= self.arrivals + clients_max, "more waits than branches: {held:?}");
    }

    fn check_response(&self, to: &Destination, response: &Message<'_>, is_read_whole: bool) {
        let Destination::Flow(flow) = to else { panic!("a response opens a connection") };
        let place = Place::of(*flow);
        // A peer may have changed the names in its response, and one that is too large is not read as far as its names; it
        // still goes to somebody who sent something.
        let named = is_read_whole.then(|| self.senders.get(&names(response))).flatten();
        let senders = named.unwrap_or(&self.places);
        assert!(senders.contains(&place), "a response goes to somebody else: {place:?}, not {senders:?}");
        let is_trying = response.status() == Some(sip::Status::TRYING);
        let is_invite = response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
        assert!(!is_trying || is_invite, "a 100 to a request that is no INVITE");
    }
}

impl Place {
    fn of(flow: Flow) -> Self {
        let connection = match flow {
            Flow::Connection { id, .. } => Some(id.number),
            Flow::Datagram { .. } => None,
        };
        Self { listener: flow.listener(), address: flow.remote().0.ip(), connection }
    }
}

fn check_request(listeners: &Listeners, to: &Destination, request: &Message<'_>) {
    let via = request.top_via().expect("it is valid");
    assert!(via.has_magic_cookie(), "a branch of ours has no cookie");
    if let Some(sent_by) = listeners.sent_by(to.listener()) {
        let (host, port) = sent_by.rsplit_once(':').expect("a port is always written");
        assert_eq!(via.host.to_string(), host, "our Via names another listener");
        assert_eq!(
            via.port.map(|port| port.to_string()).as_deref(),
            Some(port),
            "our Via names another port"
        );
    }
    let hops = request.max_forwards().expect("it is valid");
    assert!(hops.is_some(), "a request leaves without Max-Forwards");
    let address = to.remote().0.ip();
    assert!(!address.is_unspecified() && !address.is_multicast(), "a request goes to {address}");
    assert!(!matches!(address, IpAddr::V4(address) if address.is_broadcast()), "a request goes to all");
    assert!(to.remote().0.port() != 0, "a request goes to port 0");
}

/// Whether a response is valid, but would not be without its top Via.
fn is_forged(response: &Message<'_>) -> bool {
    let mut bytes = Vec::new();
    Editor::new(response).remove_first(Name::Via).write(&mut bytes);
    response.validate().is_ok() && Message::parse(&bytes).and_then(|copy| copy.validate()).is_err()
}

fn names(message: &Message<'_>) -> Names {
    let header = |name| message.header(name).map(words).unwrap_or_default();
    (header(Name::CallId), header(Name::CSeq))
}

/// The value without its folds.
fn words(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

fn start(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(600)].escape_ascii().to_string().replace("\\r\\n", "\n")
}
