//! What is watched on the wire: rules that every message of the server must keep, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use clock::Instant;
use sip::{Framed, Message, Method};

use crate::cast;
use crate::events::{Event, Events};
use crate::stranger;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// When it was broken.
    pub at: Instant,
    /// What was seen.
    pub seen: String,
}

/// Looks at every message that the server gets or sends.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    asked: BTreeSet<(IpAddr, Option<u16>, Vec<u8>)>,
    seen: BTreeMap<u64, Instant>,
    counts: BTreeMap<Vec<u8>, u32>,
    pieces: BTreeMap<SocketAddr, Vec<u8>>,
    strangers: BTreeSet<IpAddr>,
    friends: BTreeSet<IpAddr>,
    broken: Vec<Violation>,
}

/// What the server got, as far as its outputs are judged by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// It came from a stranger.
    pub(crate) is_strange: bool,
    /// It is a request that came before, and is neither ACK nor CANCEL.
    pub(crate) is_again: bool,
}

/// A transaction lives so long at least; what comes again later is no retransmission.
const RETRANSMITTED_MAX: std::time::Duration = std::time::Duration::from_secs(31);

impl Watch {
    /// A watch that knows who may get requests.
    pub(crate) fn new(friends: BTreeSet<IpAddr>) -> Self {
        Self { friends, strangers: BTreeSet::from([cast::STRANGER.ip()]), ..Self::default() }
    }

    /// What was broken so far.
    pub(crate) fn broken(&self) -> &[Violation] {
        &self.broken
    }

    /// Adds what was seen elsewhere.
    pub(crate) fn breach(&mut self, at: Instant, rule: &'static str, seen: String) {
        if self.broken.len() < VIOLATIONS_MAX {
            self.broken.push(Violation { rule, at, seen });
        }
    }

    /// The server was started anew: it need not know what came before.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }

    /// The whole messages that a piece of a stream ends.
    pub(crate) fn frame(&mut self, remote: SocketAddr, piece: &[u8]) -> Vec<Vec<u8>> {
        let buffer = self.pieces.entry(remote).or_default();
        buffer.extend_from_slice(piece);
        let mut messages = Vec::new();
        loop {
            match sip::frame_stream(buffer) {
                Framed::NeedMore => return messages,
                Framed::Keepalive { len } => {
                    buffer.drain(..len);
                }
                Framed::Message { len } => messages.push(buffer.drain(..len).collect()),
                Framed::Broken(_) => messages.push(std::mem::take(buffer)),
            }
        }
    }

    /// The server gets a message.
    pub(crate) fn received(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        bytes: &[u8],
        events: &mut Events,
    ) -> Cause {
        let is_strange = self.strangers.contains(&remote.ip());
        let Ok((message, _)) = Message::parse_lenient(bytes) else {
            return Cause { is_strange, is_again: false };
        };
        if !message.is_request() {
            return Cause { is_strange, is_again: false };
        }
        self.asked.insert((remote.ip(), None, branch(&message)));
        self.asked.insert((remote.ip(), Some(remote.port()), branch(&message)));
        let before = self.seen.insert(hash(remote, bytes), now);
        let is_again = before.is_some_and(|before| now < before + RETRANSMITTED_MAX)
            // A CANCEL that overtook its INVITE was answered 481 without state; it may come again and fit.
            && !matches!(message.method(), Some(Method::Ack | Method::Cancel) | None);
        if !is_strange && before.is_none() {
            self.note_count(&message, events);
        }
        Cause { is_strange, is_again }
    }

    /// The server sends a message.
    pub(crate) fn sent(
        &mut self,
        now: Instant,
        cause: Cause,
        to: SocketAddr,
        bytes: &[u8],
        events: &mut Events,
    ) {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(problem) => {
                return self.breach(now, "the server sends only valid messages", show(problem, bytes));
            }
        };
        if message.is_request() {
            self.sent_request(now, cause, to, &message);
        } else {
            self.sent_response(now, cause, to, &message, events);
        }
    }

    fn sent_request(&mut self, now: Instant, cause: Cause, to: SocketAddr, request: &Message<'_>) {
        if let Err(problem) = request.validate() {
            self.breach(now, "the server sends only valid messages", show(problem, request.bytes()));
        }
        if cause.is_strange || stranger::is_marked(request.bytes()) {
            self.breach(now, "nothing from a stranger is relayed", show(to, request.bytes()));
        }
        if !self.friends.contains(&to.ip()) {
            self.breach(now, "requests go only to phones and neighbours", show(to, request.bytes()));
        }
        if cause.is_again {
            self.breach(now, "a retransmission is not forwarded", show(to, request.bytes()));
        }
    }

    fn sent_response(
        &mut self,
        now: Instant,
        cause: Cause,
        to: SocketAddr,
        response: &Message<'_>,
        events: &mut Events,
    ) {
        // RFC 3261 §18.2.2, RFC 3581 §4: without rport the port is the one that the Via names.
        let wants_port = response.top_via().is_ok_and(|via| via.rport().is_some());
        let port = wants_port.then_some(to.port());
        if !self.asked.contains(&(to.ip(), port, branch(response))) {
            self.breach(now, "a response goes only where its request came from", show(to, response.bytes()));
        }
        let method = response.cseq().map(|cseq| cseq.method);
        let status = response.status().map_or(0, |status| status.0);
        if method == Ok(Method::Ack) {
            self.breach(now, "an ACK is never answered", show(to, response.bytes()));
        }
        if method == Ok(Method::Cancel) && matches!(status, 401 | 407) {
            self.breach(now, "a CANCEL is never challenged", show(to, response.bytes()));
        }
        if self.strangers.contains(&to.ip()) {
            events.add(Event::StrangerAnswered);
            if status < 300 && status > 100 && !is_harmless(method) {
                self.breach(now, "a stranger gets no 2xx", show(to, response.bytes()));
            }
        }
        if cause.is_again {
            events.add(Event::RetransmissionAbsorbed);
        }
    }

    /// Counts nonce counts that come after higher ones.
    fn note_count(&mut self, request: &Message<'_>, events: &mut Events) {
        for name in [sip::Name::Authorization, sip::Name::ProxyAuthorization] {
            let Some(value) = request.header(name) else { continue };
            let value = String::from_utf8_lossy(value);
            let part = |name: &str| {
                Some(value.split_once(name)?.1.split([',', '"']).next().unwrap_or_default().to_owned())
            };
            let (Some(nonce), Some(count)) = (part("nonce=\""), part("nc=")) else { continue };
            let Ok(count) = u32::from_str_radix(count.trim(), 16) else { continue };
            let highest = self.counts.entry(nonce.into_bytes()).or_insert(0);
            if count < *highest {
                events.add(Event::NonceCountReordered);
            }
            *highest = count.max(*highest);
        }
    }
}

/// A world that breaks one rule all the time is told so often.
const VIOLATIONS_MAX: usize = 20;

/// OPTIONS to the server itself is answered to everybody; a CANCEL of nothing is, too.
fn is_harmless(method: Result<Method<'_>, sip::Malformed>) -> bool {
    matches!(method, Ok(Method::Options))
}

fn branch(message: &Message<'_>) -> Vec<u8> {
    message.top_via().ok().and_then(|via| via.branch().map(<[u8]>::to_vec)).unwrap_or_default()
}

fn hash(remote: SocketAddr, bytes: &[u8]) -> u64 {
    let text = remote.to_string();
    text.bytes().chain(bytes.iter().copied()).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn show(what: impl std::fmt::Debug, bytes: &[u8]) -> String {
    format!("{what:?}\n{}", String::from_utf8_lossy(bytes))
}
