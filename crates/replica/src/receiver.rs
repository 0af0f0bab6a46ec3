//! The standby's end: applies what the active node sends, acknowledges, and says where both differ.
//!
//! It expires nothing and changes nothing by itself. It hears one connection at a time, that of the node with the highest
//! epoch; a node with a lower one is turned away, whoever it is.
//!
//! Its edge carries out the outputs of one frame before it gives the next one, says by [`Receiver::placed`] or
//! [`Receiver::refused`] what became of a capsule, and calls [`Receiver::acknowledge`] after each batch.
//!
//! Invariant: what is acknowledged was applied by its owner, or is named as refused.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use lease::Epoch;

use crate::capsule::{Capsule, Kind, Name, Place};
use crate::counts::ReceiverCounts;
use crate::digest::{BUCKETS, DigestKey};
use crate::fault::{self, Fault};
use crate::frame::{Ack, Ask, Body, Check, Frame, Hello, KindVerdict, LIST_MAX, List, Put, Remove, Verdict};
use crate::framing::{self, FramingError};
use crate::greeting::{self, Origin, Refusal};
use crate::holdings::{Entry, Holdings, KINDS_MAX};
use crate::sender::CloseCause;

#[cfg(test)]
mod tests;

/// An active node that says nothing for so long is gone: it compares each second.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What was last compared longer ago says nothing any more.
const COMPARED_MAX: Duration = Duration::from_secs(10);

/// Frames that are acknowledged together, at most.
const UNACKNOWLEDGED_MAX: u64 = 512;

/// A connection, by the edge's number, which is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionNumber(pub u64);

/// A kind of capsule that this node understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The kind.
    pub kind: Kind,
    /// The newest version of its encoding that is understood.
    pub format_max: u32,
}

/// What a receiver wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(ConnectionNumber, Bytes),
    /// Give this to its owner, and say what became of it.
    Apply(Apply),
    /// Its owner is to remove this.
    Remove(Kind, Place),
    /// Close a connection.
    Close(ConnectionNumber, CloseCause),
}

/// An entry for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// What it is called.
    pub name: Name,
    /// The entry.
    pub capsule: Capsule,
    /// Where an earlier version of it is.
    pub before: Option<Place>,
}

/// The active node, as the operator sees it from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverView {
    /// Who it is, if it is connected.
    pub active: Option<Origin>,
    /// The highest epoch that was seen.
    pub epoch: Epoch,
    /// How much of everything is here: 0 to 100, and 100 only if all of it.
    pub ready: u8,
    /// For each kind how many entries are here, and how many were there at the last comparison.
    pub kinds: Vec<(Kind, u64, u64)>,
    /// What happened.
    pub counts: ReceiverCounts,
}

/// The machine.
#[derive(Debug)]
pub struct Receiver {
    me: Origin,
    key: DigestKey,
    known: BTreeMap<Kind, u32>,
    holdings: Holdings,
    highest: Epoch,
    /// Who spoke under the highest epoch.
    holder: Option<Origin>,
    session: Option<Session>,
    ready: u8,
    compared_at: Option<Instant>,
    there: BTreeMap<Kind, u64>,
    counts: ReceiverCounts,
}

#[derive(Debug)]
struct Session {
    connection: ConnectionNumber,
    active: Origin,
    /// Under which epoch it greeted: both ends mark an entry's version with it.
    epoch: Epoch,
    /// The last frame that was handled.
    sequence: u64,
    acknowledged: u64,
    refused: Vec<u64>,
    heard_at: Instant,
}

impl Receiver {
    /// The receiver of a standby. `highest` is the highest epoch that it knows of.
    pub fn new(me: Origin, key: DigestKey, known: &[Known], highest: Epoch, holdings: Holdings) -> Self {
        Self {
            me,
            key,
            known: known.iter().map(|known| (known.kind, known.format_max)).collect(),
            holdings,
            highest,
            holder: None,
            session: None,
            ready: 0,
            compared_at: None,
            there: BTreeMap::new(),
            counts: ReceiverCounts::default(),
        }
    }

    /// What this node holds, for it to be the active one.
    pub fn into_holdings(self) -> Holdings {
        self.holdings
    }

    /// A frame came. The first one of a connection says who speaks.
    pub fn handle_frame(
        &mut self,
        now: Instant,
        connection: ConnectionNumber,
        frame: Frame,
        out: &mut Vec<Output>,
    ) {
        if self.session.as_ref().is_none_or(|session| session.connection != connection) {
            return self.greet(now, connection, frame, out);
        }
        if let Err(cause) = self.hear(now, frame, out) {
            self.counts.broken += 1;
            self.session = None;
            out.push(Output::Close(connection, cause));
        }
    }

    /// The bytes of a connection are no frames.
    pub fn handle_broken(
        &mut self,
        connection: ConnectionNumber,
        _error: FramingError,
        out: &mut Vec<Output>,
    ) {
        self.counts.broken += 1;
        self.disconnected(connection);
        out.push(Output::Close(connection, CloseCause::Malformed));
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, connection: ConnectionNumber) {
        self.session.take_if(|session| session.connection == connection);
    }

    /// The owner has what it was given, here.
    pub fn placed(&mut self, name: Name, place: Place) {
        self.holdings.set_place(name, place);
    }

    /// The owner could not take what it was given, and still has what it had.
    pub fn refused(&mut self, name: Name) {
        self.counts.refused += 1;
        match self.holdings.entry(name) {
            // An earlier version, which must differ from whatever the active node has, and must be found to be removed.
            Some(Entry { stamp, place: Some(place) }) => {
                self.holdings.put(name, Entry { stamp: !stamp, place: Some(place) });
            }
            Some(Entry { place: None, .. }) | None => {
                self.holdings.remove(name);
            }
        }
        if let Some(session) = self.session.as_mut().filter(|_| !fault::is_planted(Fault::RefusalNotTold)) {
            session.refused.push(session.sequence);
        }
    }

    /// The owner has changed or ended an entry by itself, because it took this node for the active one a moment too long. What
    /// it has must differ from whatever the active node has, so that it is made equal.
    pub fn diverged(&mut self, kind: Kind, entry_key: &[u8], place: Option<Place>) {
        self.holdings.diverged(&self.key, self.me, kind, entry_key, place);
    }

    /// Says what has arrived, if something has.
    pub fn acknowledge(&mut self, out: &mut Vec<Output>) {
        let Some(session) = &mut self.session else { return };
        if session.acknowledged == session.sequence {
            return;
        }
        session.acknowledged = session.sequence;
        let ack = Ack { through: session.sequence, refused: std::mem::take(&mut session.refused) };
        out.push(say(session.connection, Body::Ack(ack)));
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_silent = |session: &mut Session| now.since(session.heard_at) >= SILENCE_MAX;
        if let Some(session) = self.session.take_if(is_silent) {
            out.push(Output::Close(session.connection, CloseCause::Silent));
        }
    }

    /// When time should next pass.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.session.as_ref().map(|session| session.heard_at + SILENCE_MAX)
    }

    /// How much of everything is here: 0 to 100, and 100 only if all of it. A loss of the connection changes nothing for
    /// a while: it may be the reason to become active.
    pub fn ready(&self, now: Instant) -> u8 {
        match self.compared_at {
            Some(at) if now.since(at) < COMPARED_MAX => self.ready,
            Some(_) | None => 0,
        }
    }

    /// The active node, as the operator sees it from here.
    pub fn view(&self, now: Instant) -> ReceiverView {
        let there = |kind| self.there.get(&kind).copied().unwrap_or_default();
        ReceiverView {
            active: self.session.as_ref().map(|session| session.active),
            epoch: self.highest,
            ready: self.ready(now),
            kinds: self.holdings.kinds().map(|kind| (kind, self.holdings.count(kind), there(kind))).collect(),
            counts: self.counts,
        }
    }

    /// What is held here.
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// What happened.
    pub fn counts(&self) -> &ReceiverCounts {
        &self.counts
    }

    fn greet(&mut self, now: Instant, connection: ConnectionNumber, frame: Frame, out: &mut Vec<Output>) {
        let Some(Body::Hello(hello)) = frame.body else {
            self.counts.broken += 1;
            out.push(Output::Close(connection, CloseCause::Malformed));
            return;
        };
        let from = greeting::origin(hello.node, hello.incarnation);
        let refusal = greeting::objection(self.me, &self.key, &hello).or_else(|| self.bars(from, &hello));
        let kinds = self.known.keys().map(|kind| kind.0.into()).collect();
        if refusal.is_none() {
            (self.highest, self.holder) = (Epoch(hello.epoch), Some(from));
        }
        let welcome = greeting::welcome(self.me, self.highest, refusal, kinds);
        out.push(Output::Send(connection, framing::to_bytes(&welcome)));
        if let Some(refusal) = refusal {
            self.counts.turned_away += 1;
            out.push(Output::Close(connection, CloseCause::Refused(refusal)));
            return;
        }
        if let Some(old) = self.session.take() {
            out.push(Output::Close(old.connection, CloseCause::Silent));
        }
        let sequence = hello.sequence.saturating_sub(1);
        self.session = Some(Session {
            connection,
            active: from,
            epoch: Epoch(hello.epoch),
            sequence,
            acknowledged: sequence,
            refused: Vec::new(),
            heard_at: now,
        });
        // What was missed in between is not known before it is compared.
        self.compared_at = None;
    }

    /// Whether the lease speaks against a node.
    fn bars(&self, from: Origin, hello: &Hello) -> Option<Refusal> {
        if hello.epoch < self.highest.0 && !fault::is_planted(Fault::LowerEpochHeard) {
            return Some(Refusal::OldEpoch);
        }
        // An engine that ended alone is started again under the lease that its guardian still has: that is another start of
        // the same holder.
        let is_other = self.holder.is_some_and(|holder| holder.node != from.node);
        (hello.epoch == self.highest.0 && is_other).then_some(Refusal::OtherHolder)
    }

    fn hear(&mut self, now: Instant, frame: Frame, out: &mut Vec<Output>) -> Result<(), CloseCause> {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.heard_at = now;
        let is_next = session.sequence.checked_add(1) == Some(frame.sequence);
        if !is_next && !fault::is_planted(Fault::GapNotSeen) {
            return Err(CloseCause::WrongSequence);
        }
        if session.sequence - session.acknowledged >= UNACKNOWLEDGED_MAX {
            self.acknowledge(out);
        }
        if let Some(session) = &mut self.session {
            session.sequence = frame.sequence;
        }
        match frame.body {
            Some(Body::Put(put)) => self.put(put, out),
            Some(Body::Remove(remove)) => self.remove(&remove, out),
            Some(Body::Check(check)) => self.compare(now, &check, out),
            Some(Body::Ask(ask)) => self.list(now, &ask, out),
            Some(Body::Raise(raise)) => {
                self.highest = self.highest.max(Epoch(raise.epoch));
                Ok(())
            }
            // Of a later version: it has its number and no meaning.
            None => {
                self.counts.skipped += 1;
                Ok(())
            }
            Some(Body::Hello(_) | Body::Welcome(_) | Body::Ack(_) | Body::Verdict(_) | Body::List(_)) => {
                Err(CloseCause::Malformed)
            }
        }
    }

    fn put(&mut self, put: Put, out: &mut Vec<Output>) -> Result<(), CloseCause> {
        let kind = kind_of(put.kind)?;
        let Put { format, key, version, bytes, left_ms, .. } = put;
        let capsule = Capsule { kind, format, key, bytes, left: Duration::from_millis(left_ms) };
        let name = Name { kind, hash: self.key.name(kind, &capsule.key) };
        let epoch = self.session.as_ref().map_or(self.highest, |session| session.epoch);
        let stamp = self.key.stamp(epoch.0, version, &capsule);
        let Some(&format_max) = self.known.get(&kind) else {
            self.counts.unknown += 1;
            return Ok(());
        };
        let before = self.holdings.place(name);
        if format > format_max {
            // It counts as held by nobody: what an older version of it said is not true any more.
            self.counts.unknown += 1;
            self.holdings.put(name, Entry { stamp, place: None });
            out.extend(before.map(|place| Output::Remove(kind, place)));
            return Ok(());
        }
        self.holdings.put(name, Entry { stamp, place: before });
        self.counts.applied += 1;
        out.push(Output::Apply(Apply { name, capsule, before }));
        Ok(())
    }

    fn remove(&mut self, remove: &Remove, out: &mut Vec<Output>) -> Result<(), CloseCause> {
        let name = Name { kind: kind_of(remove.kind)?, hash: remove.hash };
        if let Some(entry) = self.holdings.remove(name) {
            self.counts.removed += 1;
            out.extend(entry.place.map(|place| Output::Remove(name.kind, place)));
        }
        Ok(())
    }

    fn compare(&mut self, now: Instant, check: &Check, out: &mut Vec<Output>) -> Result<(), CloseCause> {
        if check.kinds.len() > KINDS_MAX {
            return Err(CloseCause::Malformed);
        }
        // What the peer counts is whatever it says.
        let (mut kinds, mut same, mut all) = (Vec::new(), 0u64, 0u64);
        for sums in &check.kinds {
            let kind = kind_of(sums.kind)?;
            if sums.sums.len() != BUCKETS {
                return Err(CloseCause::Malformed);
            }
            let differing = self.holdings.differing(kind, &sums.sums);
            all = all.saturating_add(sums.count.max(self.holdings.count(kind)));
            same += self.holdings.count_without(kind, &differing);
            self.there.insert(kind, sums.count);
            kinds.push(KindVerdict {
                kind: sums.kind,
                count: self.holdings.count(kind),
                differing: differing.into_iter().map(|bucket| bucket as u32).collect(),
            });
        }
        let is_equal = kinds.iter().all(|kind| kind.differing.is_empty());
        let skipped = self.holdings.placeless();
        match is_equal {
            true => self.counts.agreed += 1,
            false => self.counts.differed += 1,
        }
        self.compared_at = Some(now);
        self.ready = match (is_equal, skipped) {
            (true, 0) => 100,
            (true, _) => 99,
            (false, _) => u8::try_from(same.saturating_mul(99) / all.max(1)).unwrap_or(99).min(99),
        };
        let Some(session) = &self.session else { return Ok(()) };
        let verdict = Verdict { number: check.number, kinds, skipped };
        out.push(say(session.connection, Body::Verdict(verdict)));
        Ok(())
    }

    fn list(&mut self, now: Instant, ask: &Ask, out: &mut Vec<Output>) -> Result<(), CloseCause> {
        let kind = kind_of(ask.kind)?;
        if ask.first > ask.last {
            return Err(CloseCause::Malformed);
        }
        // It shows how far the active node has come with this one.
        self.compared_at = Some(now);
        self.ready = u8::try_from(ask.ready).unwrap_or(99).min(99);
        let mut entries = self.holdings.range(kind, ask.first, ask.last);
        let (hashes, stamps): (Vec<u64>, Vec<u64>) =
            entries.by_ref().take(LIST_MAX).map(|(hash, entry)| (hash, entry.stamp)).unzip();
        let is_whole = entries.next().is_none();
        let through = hashes.last().copied().filter(|_| !is_whole).unwrap_or(ask.last);
        let Some(session) = &self.session else { return Ok(()) };
        let list = List { kind: ask.kind, first: ask.first, through, hashes, stamps };
        out.push(say(session.connection, Body::List(list)));
        Ok(())
    }
}

fn kind_of(number: u32) -> Result<Kind, CloseCause> {
    u8::try_from(number).map(Kind).map_err(|_| CloseCause::Malformed)
}

fn say(connection: ConnectionNumber, body: Body) -> Output {
    Output::Send(connection, framing::to_bytes(&Frame { sequence: 0, body: Some(body) }))
}
