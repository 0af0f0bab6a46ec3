//! The link: sealed datagrams between members, over every path at once.
//!
//! Who has the cluster key is a member; nobody else can say anything. Each member opens a session to each other one, by a
//! Noise handshake (NNpsk0) of two datagrams, and seals what it says with it; what the other says comes by the session that
//! the other opened. So there is no turn to agree on, and either may start again at any time.
//!
//! A datagram is sent over several paths, and any copy may be doubled or replayed by a stranger: the first one is given on,
//! the others only show that a path works. A handshake that is replayed makes a session that nobody can use; the ones in
//! force, in both directions, stay until the new one has carried something, also if it is of another start of the member.
//! A stranger costs one look at a few bytes, or, with the right first bytes, one failed opening; nothing is kept of it.
//!
//! Invariant: what is given on was sealed by a member in this start of both, and is given on once.

mod counts;
mod noise;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use snow::{HandshakeState, StatelessTransportState};

pub use counts::{Discard, LinkCounts};
use noise::Chance;
use window::Window;

use crate::MemberId;
use crate::wire::{MESSAGE_BYTES_MAX, VERSION};

/// The first bytes of each datagram.
const MAGIC: [u8; 4] = *b"TDML";
/// Magic, version, kind, sender, receiver, session.
const HEAD_BYTES: usize = 4 + 1 + 1 + 1 + 1 + 4;
const KIND_OPEN: u8 = 1;
const KIND_ACCEPT: u8 = 2;
const KIND_SEALED: u8 = 3;
/// The number of a sealed datagram.
const NUMBER_BYTES: usize = 8;
/// What sealing adds.
const TAG_BYTES: usize = 16;
/// The longest datagram; anything longer is a stranger's.
pub const DATAGRAM_BYTES_MAX: usize = HEAD_BYTES + NUMBER_BYTES + MESSAGE_BYTES_MAX + TAG_BYTES;
/// When a handshake that is not answered is begun anew for the first time; then after twice as long each time.
const OPEN_EVERY: Duration = Duration::from_millis(100);
/// The longest such wait. Each beginning makes the answer to the one before worthless, so it must be longer than an answer
/// can take: on a path around the world, or on a host that is busy.
const OPEN_EVERY_MAX: Duration = Duration::from_millis(800);
/// What was begun so long ago is not answered any more, when its receiver has just shown that it is there.
const ANSWER_MAX: Duration = Duration::from_millis(400);
/// A member that was not heard for so long has perhaps forgotten the session.
const SILENCE_MAX: Duration = Duration::from_millis(500);
/// Handshakes of one member that are answered in one second: each costs a Diffie-Hellman.
const OPENS_PER_SECOND: u32 = 20;

/// A datagram that is to be sent over every path to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// To whom.
    pub to: MemberId,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// What a datagram was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A member says this.
    Message(MemberId, Vec<u8>),
    /// What a member said came once more, by another path.
    Copy(MemberId),
    /// Part of a handshake, or a copy of one: no proof that the member is there.
    Handshake(MemberId),
    /// Nothing; it was counted.
    Discarded(Discard),
}

/// All sessions of one member.
pub struct Link {
    me: MemberId,
    key: [u8; 32],
    boot: u64,
    chance: Chance,
    members: BTreeMap<MemberId, Member>,
    sessions: u32,
    counts: LinkCounts,
}

struct Member {
    opening: Option<Opening>,
    opened_at: Option<Instant>,
    /// From then until a handshake is begun anew.
    open_after: Duration,
    outgoing: Option<Outgoing>,
    incoming: Option<Incoming>,
    /// A session that has not carried anything yet.
    accepted: Option<Incoming>,
    heard: Option<Instant>,
    /// The start of the member that accepted the outgoing session.
    boot: Option<u64>,
    second: Instant,
    opens: u32,
}

struct Opening {
    session: u32,
    state: HandshakeState,
}

struct Outgoing {
    session: u32,
    state: StatelessTransportState,
    number: u64,
}

struct Incoming {
    session: u32,
    state: StatelessTransportState,
    window: Window,
    /// The start of the member that opened it.
    boot: u64,
}

impl Link {
    /// The link of member `me` to `others`. `key` is the link's subkey of the cluster key; `boot` and `chance` are random,
    /// and differ at each start.
    pub fn new(
        now: Instant,
        me: MemberId,
        others: impl IntoIterator<Item = MemberId>,
        key: [u8; 32],
        boot: u64,
        chance: [u8; 32],
    ) -> Self {
        let member = |_| Member {
            opening: None,
            opened_at: None,
            open_after: OPEN_EVERY,
            outgoing: None,
            incoming: None,
            accepted: None,
            heard: None,
            boot: None,
            second: now,
            opens: 0,
        };
        let members = others.into_iter().filter(|id| *id != me).map(|id| (id, member(id))).collect();
        Self {
            me,
            key,
            boot,
            chance: Chance::new(chance),
            members,
            sessions: 0,
            counts: LinkCounts::default(),
        }
    }

    /// Seals a message. Without a session a handshake is begun instead, and the message is lost: whatever matters is said
    /// again.
    pub fn seal(&mut self, now: Instant, to: MemberId, message: &[u8], out: &mut Vec<Datagram>) {
        let me = self.me;
        let Some(member) = self.members.get_mut(&to) else { return };
        if let Some(outgoing) = &mut member.outgoing {
            let mut bytes = head(KIND_SEALED, me, to, outgoing.session);
            bytes.extend_from_slice(&outgoing.number.to_be_bytes());
            let start = bytes.len();
            bytes.resize(start + message.len() + TAG_BYTES, 0);
            if outgoing.state.write_message(outgoing.number, message, &mut bytes[start..]).is_ok() {
                outgoing.number += 1;
                out.push(Datagram { to, bytes });
            }
        }
        self.open_if_due(now, to, out);
    }

    /// Takes a datagram that came by any path.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<Datagram>) -> Received {
        let received = self.receive(now, bytes, out).unwrap_or_else(Received::Discarded);
        self.counts.count(&received);
        received
    }

    /// Begins sessions that are not there.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        for id in ids {
            self.open_if_due(now, id, out);
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.members
            .values()
            .map(|member| match (member.opened_at, member.heard) {
                (None, _) => Instant::START,
                (Some(opened), heard) if member.wants_session(opened + member.open_after) => {
                    (opened + member.open_after).max(heard.map_or(Instant::START, |heard| heard))
                }
                (Some(opened), Some(heard)) => (heard + SILENCE_MAX).max(opened + member.open_after),
                (Some(opened), None) => opened + member.open_after,
            })
            .min()
    }

    /// What came and was discarded, by cause.
    pub fn counts(&self) -> &LinkCounts {
        &self.counts
    }

    /// Whether there is a session to a member.
    pub fn has_session(&self, member: MemberId) -> bool {
        self.members.get(&member).is_some_and(|member| member.outgoing.is_some())
    }

    fn open_if_due(&mut self, now: Instant, to: MemberId, out: &mut Vec<Datagram>) {
        if self.members.get(&to).is_some_and(|member| member.wants_session(now)) {
            self.open_unless_early(now, to, out);
        }
    }

    fn open_unless_early(&mut self, now: Instant, to: MemberId, out: &mut Vec<Datagram>) {
        let (me, boot) = (self.me, self.boot);
        let Some(member) = self.members.get_mut(&to) else { return };
        if member.opened_at.is_some_and(|at| now.since(at) < member.open_after) {
            return;
        }
        let is_again = member.opened_at.is_some() && member.opening.is_some();
        member.open_after = if is_again { (member.open_after * 2).min(OPEN_EVERY_MAX) } else { OPEN_EVERY };
        member.opened_at = Some(now);
        self.sessions = self.sessions.wrapping_add(1);
        // Sessions of two starts must not be taken for each other.
        let session = self.sessions ^ (boot as u32);
        let Some(mut state) = noise::initiator(&self.key, prologue(me, to), &mut self.chance) else { return };
        let mut bytes = head(KIND_OPEN, me, to, session);
        if noise::say(&mut state, &boot.to_be_bytes(), &mut bytes) {
            member.opening = Some(Opening { session, state });
            out.push(Datagram { to, bytes });
        }
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<Datagram>) -> Result<Received, Discard> {
        let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or(Discard::Garbage)?;
        if !head.starts_with(&MAGIC) || bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(Discard::Garbage);
        }
        let (version, kind, from, to) = (head[4], head[5], MemberId(head[6]), MemberId(head[7]));
        if version != VERSION {
            return Err(Discard::Version(version));
        }
        if to != self.me || !self.members.contains_key(&from) {
            return Err(Discard::NotForUs);
        }
        let session = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        match kind {
            KIND_OPEN => self.accept(now, from, session, body, out),
            KIND_ACCEPT => self.accepted(now, from, session, body),
            KIND_SEALED => self.unseal(now, from, session, body, out),
            _ => Err(Discard::Garbage),
        }
    }

    /// Another member opens a session.
    fn accept(
        &mut self,
        now: Instant,
        from: MemberId,
        session: u32,
        body: &[u8],
        out: &mut Vec<Datagram>,
    ) -> Result<Received, Discard> {
        let member = self.members.get_mut(&from).ok_or(Discard::NotForUs)?;
        if now.since(member.second) >= Duration::from_secs(1) {
            (member.second, member.opens) = (now, 0);
        }
        if member.opens >= OPENS_PER_SECOND {
            return Err(Discard::TooMany);
        }
        let is_copy =
            |incoming: &Option<Incoming>| incoming.as_ref().is_some_and(|known| known.session == session);
        // The same handshake by a second path: the answer to the first is under way.
        if is_copy(&member.incoming) || is_copy(&member.accepted) {
            return Ok(Received::Handshake(from));
        }
        let mut state = noise::responder(&self.key, prologue(from, self.me), &mut self.chance)
            .ok_or(Discard::WrongKey)?;
        let boot = noise::hear(&mut state, body).ok_or(Discard::WrongKey)?;
        member.opens += 1;
        let mut bytes = head(KIND_ACCEPT, self.me, from, session);
        if !noise::say(&mut state, &self.boot.to_be_bytes(), &mut bytes) {
            return Err(Discard::WrongKey);
        }
        let state = state.into_stateless_transport_mode().map_err(|_| Discard::WrongKey)?;
        member.accepted = Some(Incoming { session, state, window: Window::default(), boot });
        // It may have started anew, or this is a replay from an earlier start: a session is opened, and what it answers
        // tells. Until then the one in force stays.
        let is_other = member.boot.is_some_and(|known| known != boot);
        let wants = is_other || member.outgoing.is_none();
        if wants && member.opened_at.is_some_and(|at| now.since(at) >= ANSWER_MAX) {
            member.open_after = OPEN_EVERY;
        }
        out.push(Datagram { to: from, bytes });
        match is_other {
            true => self.open_unless_early(now, from, out),
            false => self.open_if_due(now, from, out),
        }
        Ok(Received::Handshake(from))
    }

    /// Another member accepts our session.
    fn accepted(
        &mut self,
        now: Instant,
        from: MemberId,
        session: u32,
        body: &[u8],
    ) -> Result<Received, Discard> {
        let member = self.members.get_mut(&from).ok_or(Discard::NotForUs)?;
        if member.opening.as_ref().is_none_or(|opening| opening.session != session) {
            return match member.outgoing.as_ref().is_some_and(|outgoing| outgoing.session == session) {
                true => Ok(Received::Handshake(from)),
                false => Err(Discard::UnknownSession),
            };
        }
        let Some(Opening { session, mut state }) = member.opening.take() else {
            return Err(Discard::UnknownSession);
        };
        // A forged answer must not cost the true one its place; the handshake is begun anew soon.
        let boot = noise::hear(&mut state, body).ok_or(Discard::WrongKey)?;
        let state = state.into_stateless_transport_mode().map_err(|_| Discard::WrongKey)?;
        member.outgoing = Some(Outgoing { session, state, number: 0 });
        member.boot = Some(boot);
        member.heard = Some(now);
        member.open_after = OPEN_EVERY;
        Ok(Received::Handshake(from))
    }

    fn unseal(
        &mut self,
        now: Instant,
        from: MemberId,
        session: u32,
        body: &[u8],
        out: &mut Vec<Datagram>,
    ) -> Result<Received, Discard> {
        let member = self.members.get_mut(&from).ok_or(Discard::NotForUs)?;
        let (number, sealed) = body.split_first_chunk::<NUMBER_BYTES>().ok_or(Discard::Garbage)?;
        let number = u64::from_be_bytes(*number);
        let is_accepted = member.accepted.as_ref().is_some_and(|accepted| accepted.session == session);
        let incoming = match is_accepted {
            true => member.accepted.as_mut(),
            false => member.incoming.as_mut().filter(|incoming| incoming.session == session),
        };
        let incoming = incoming.ok_or(Discard::UnknownSession)?;
        if incoming.window.is_too_old(number) {
            return Err(Discard::Replayed);
        }
        let mut message = vec![0; sealed.len()];
        let length =
            incoming.state.read_message(number, sealed, &mut message).map_err(|_| Discard::WrongKey)?;
        message.truncate(length);
        let is_first = incoming.window.take(number);
        if is_accepted {
            member.incoming = member.accepted.take();
            member.opener_is_alive();
        }
        if !is_first {
            return Ok(Received::Copy(from));
        }
        member.heard = Some(now);
        if is_accepted {
            self.open_if_due(now, from, out);
        }
        Ok(Received::Message(from, message))
    }
}

impl Member {
    fn wants_session(&self, now: Instant) -> bool {
        self.outgoing.is_none() || self.heard.is_none_or(|heard| now.since(heard) >= SILENCE_MAX)
    }

    /// Something came by the session that the member opened last. If it was opened by another start than the one that
    /// accepted ours, that one is gone, and what it knew of our session.
    fn opener_is_alive(&mut self) {
        let opener = self.incoming.as_ref().map(|incoming| incoming.boot);
        if self.boot.is_some() && self.boot != opener {
            self.outgoing = None;
            self.boot = None;
            self.open_after = OPEN_EVERY;
        }
    }
}

fn head(kind: u8, from: MemberId, to: MemberId, session: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DATAGRAM_BYTES_MAX);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, kind, from.0, to.0]);
    bytes.extend_from_slice(&session.to_be_bytes());
    bytes
}

/// What both sides of a handshake must agree on: who opens to whom.
fn prologue(from: MemberId, to: MemberId) -> [u8; 4] {
    [b'T', VERSION, from.0, to.0]
}

#[cfg(test)]
mod tests;
