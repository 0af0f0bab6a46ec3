//! Keepalives: which bindings get them, when, what is sent, and who is taken for dead.
//!
//! Each binding has its turn in every interval, at a phase that is a hash of its names: so any number
//! of them is spread evenly, and stays so through restarts. An OPTIONS names itself by a sealed mark
//! in its branch, and any answer to it shows that the phone is alive. It is sent once and not
//! repeated: the next turn is the repetition.
//!
//! Invariant: an answer counts only for a keepalive that was sent over the binding's present flow.

use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use keys::Key;
use sip::{Aor, Uri};
use transport::{Flow, Listener, Transport};

use super::binding::Registration;
use super::places::Places;
use crate::{BindingId, Keepalive, KeepaliveMark, Nat};

/// How the keepalives of one binding fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Score {
    /// When its next turn is; [`Instant::FAR`] if it needs none.
    pub next_at: Instant,
    sent: u32,
    /// Answers to this number and those before it say nothing about the present.
    settled: u32,
    unanswered: u32,
}

impl Score {
    /// The score of a binding that was sent nothing.
    pub(super) const fn new(next_at: Instant) -> Self {
        Self { next_at, sent: 0, settled: 0, unanswered: 0 }
    }

    /// Counts a keepalive that is sent; gives its number.
    pub(super) fn send(&mut self) -> u32 {
        self.sent = self.sent.wrapping_add(1);
        self.unanswered = self.unanswered.saturating_add(1);
        self.sent
    }

    /// Takes an answer; whether it counts.
    pub(super) fn answered(&mut self, number: u32) -> bool {
        let counts = self.settled < number && number <= self.sent;
        if counts {
            self.settled = number;
            self.unanswered = 0;
        }
        counts
    }

    /// The phone has shown that it is alive.
    pub(super) fn refresh(&mut self) {
        self.unanswered = 0;
    }

    /// The phone is reached in another way, or by this node again, from here on.
    pub(super) fn change_flow(&mut self) {
        self.settled = self.sent;
        self.unanswered = 0;
    }

    /// Whether so many in a row were not answered; never if `failures` is 0.
    pub(super) const fn is_dead(&self, failures: u32) -> bool {
        failures > 0 && self.unanswered >= failures
    }
}

/// The next turn after `now` of a binding; [`Instant::FAR`] if it needs no keepalives or can get none.
pub(super) fn next_turn(
    key: &Key,
    rules: &Nat,
    places: &Places,
    now: Instant,
    aor: &Aor,
    registration: &Registration,
) -> Instant {
    let is_possible = rules.keepalive != Keepalive::Off && registration.flow(places).is_some();
    if !is_possible || !is_needed(registration) {
        return Instant::FAR;
    }
    let interval = u64::try_from(rules.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
    let names = [b"phase".as_slice(), aor.as_str().as_bytes(), registration.text.contact()];
    let phase = key.mac(&names).short() % interval;
    let within = now.as_nanos() % interval;
    let left = if phase > within { phase - within } else { interval - within + phase };
    now + Duration::from_nanos(left)
}

/// How much sooner than usual the first turn after a restart is.
const RESTART_HASTE: u32 = 10;

/// When a binding has its first turn after a restart, or a time as a standby, if `turn` is its next one: a turn that fell
/// into the time when nothing was sent is made good before a NAT forgets, and all of them still spread out in their order.
pub(super) fn first_turn_after_restart(now: Instant, turn: Instant) -> Instant {
    match turn {
        Instant::FAR => Instant::FAR,
        turn => now + turn.since(now) / RESTART_HASTE,
    }
}

/// An OPTIONS request that asks a phone whether it is there.
#[derive(Debug)]
pub(super) struct Options<'a> {
    /// Names it, so that its answer is known.
    pub mark: KeepaliveMark,
    /// The listener that sends it.
    pub listener: &'a Listener,
    /// The way it takes.
    pub flow: &'a Flow,
    /// Whom it is sent to.
    pub aor: &'a Aor,
    /// The URI that was registered.
    pub contact: &'a [u8],
}

impl Options<'_> {
    // RFC 3261 §8.1.1: the six header fields of every request, and nothing that asks for more than an answer.
    // RFC 3581 §3: `rport` lets the answer of a phone behind NAT come back to the port that sent this.
    pub(super) fn write(&self, key: &Key) -> Bytes {
        let Self { mark, listener, flow, aor, contact } = self;
        let sent_by = listener.sent_by();
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"OPTIONS ");
        out.extend_from_slice(request_uri(contact));
        out.extend_from_slice(b" SIP/2.0\r\nVia: SIP/2.0/");
        out.extend_from_slice(listener.transport.via_name().as_bytes());
        out.push(b' ');
        out.extend_from_slice(sent_by.as_bytes());
        out.extend_from_slice(b";rport;branch=");
        mark.write_branch(key, flow, &mut out);
        out.extend_from_slice(b"\r\nMax-Forwards: 70\r\nFrom: <sip:");
        out.extend_from_slice(sent_by.as_bytes());
        out.extend_from_slice(b">;tag=");
        self.write_derived(key, b"tag", &mut out);
        out.extend_from_slice(b"\r\nTo: <sip:");
        out.extend_from_slice(aor.as_str().as_bytes());
        out.extend_from_slice(b">\r\nCall-ID: ");
        self.write_derived(key, b"call-id", &mut out);
        out.extend_from_slice(b"\r\nCSeq: ");
        out.extend_from_slice(mark.number.to_string().as_bytes());
        out.extend_from_slice(b" OPTIONS\r\nContent-Length: 0\r\n\r\n");
        Bytes::from(out)
    }

    /// The same for all keepalives of a binding.
    fn write_derived(&self, key: &Key, purpose: &[u8], out: &mut Vec<u8>) {
        let KeepaliveMark { partition, binding: BindingId(binding), .. } = self.mark;
        let mac = key.mac(&[purpose, &partition.to_be_bytes(), &binding.to_be_bytes(), self.contact]);
        keys::hex(&mac.as_bytes()[..8], out);
    }
}

/// What keeps a mapping open where no answer is wanted.
// RFC 3261 §7.5: a receiver of a stream ignores an empty line before a message, and two would be a ping.
pub(super) const fn empty_line(transport: Transport) -> &'static [u8] {
    if transport.is_reliable() { b"\r\n" } else { b"\r\n\r\n" }
}

/// Whether a binding needs keepalives: only a phone behind NAT is called by its flow whatever its contact says, so
/// only there the flow must be kept, and silence on it means that calls would not arrive either.
fn is_needed(registration: &Registration) -> bool {
    // RFC 3327 §5.2: with a Path a proxy stands before the phone, and that one keeps the flow.
    registration.nat && !registration.text.has_path()
}

/// RFC 3261 §19.1.1: a Request-URI has no header fields.
fn request_uri(contact: &[u8]) -> &[u8] {
    match Uri::parse(contact) {
        Ok(Uri::Sip(uri)) => {
            let dropped = uri.headers.map_or(0, |headers| headers.len() + 1);
            &contact[..contact.len().saturating_sub(dropped)]
        }
        _ => contact,
    }
}
