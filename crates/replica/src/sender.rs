//! The active node's end: changes become one ordered stream, and who waits is told when the peer holds them.
//!
//! It keeps nothing of a capsule but its name and a stamp of its content, so that a peer that stands still costs the window
//! and no more. A peer that is too slow for the window is stale: it is sent nothing until it has acknowledged all that is
//! on its way, and then it is made equal like one that comes back.
//!
//! Invariants: a wait ends exactly once; with [`Output::Held`] only if all that it waits for was sent over this connection
//! and the peer's owners have it.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use lease::Epoch;

use crate::capsule::{Capsule, Kind, Name, Place, Ticket};
use crate::counts::SenderCounts;
use crate::digest::{BUCKETS, DigestKey};
use crate::fault::{self, Fault};
use crate::frame::{
    Ack, Body, CAPSULE_BYTES_MAX, Check, Frame, KindSums, Put, Raise, Remove, Verdict, Welcome,
};
use crate::framing::FramingError;
use crate::greeting::{self, Origin};
use crate::holdings::{Entry, Holdings, KINDS_MAX};

use self::output::Post;
use self::repair::{Repair, Step};
use self::stream::Stream;
use self::waits::Waits;

pub use self::output::{Cause, CloseCause, Fetched, Lag, Output, Posted, SenderView, Wanted};
pub use self::waits::WAIT_MAX;

mod output;
mod repair;
mod stream;
#[cfg(test)]
mod tests;
mod waits;
mod window;

/// How often both ends compare what they have.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A peer that acknowledges nothing for so long is given up, and so is a comparison that does not come on.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A peer whose oldest frame is older is not waited for any more: it would cost each request the whole wait.
const SLOW_AFTER: Duration = Duration::from_millis(100);

/// Bytes on their way up to which the peer is made equal: what stands before a change costs it time on the link.
const REPAIR_BYTES_MAX: usize = 64 << 10;

/// The longest rest, as a power of two of seconds, when the peer never agrees.
const REST_MAX: u32 = 6;

/// Room that a frame takes beside its capsule, at most.
const HEAD_BYTES_MAX: usize = 64;

/// The machine.
#[derive(Debug)]
pub struct Sender {
    me: Origin,
    epoch: Epoch,
    /// Under which epoch the last peer was greeted: both ends mark an entry's version with it.
    greeted: Epoch,
    key: DigestKey,
    holdings: Holdings,
    link: Link,
    stream: Stream,
    waits: Waits,
    version: u64,
    /// Numbers comparisons and rounds of repair.
    round: u64,
    counts: SenderCounts,
}

#[derive(Debug)]
enum Link {
    Absent,
    /// The hello has left.
    Greeting(Instant),
    Open(Box<Open>),
}

/// A peer that has let this node in.
#[derive(Debug)]
struct Open {
    peer: Origin,
    kinds: Vec<Kind>,
    flow: Flow,
    stage: Stage,
    /// It had everything at the last comparison, and was sent every change since.
    is_equal: bool,
    /// Comparisons in a row that found a difference after it was mended.
    misses: u32,
    skipped: u64,
    there: BTreeMap<Kind, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Every change is sent.
    Live,
    /// Nothing is sent until everything is acknowledged.
    Stale,
}

#[derive(Debug)]
enum Stage {
    /// The next comparison is due then.
    Resting(Instant),
    /// The peer compares these kinds.
    Checking {
        number: u64,
        since: Instant,
        kinds: Vec<Kind>,
    },
    Repairing(Repair),
}

impl Sender {
    /// The sender of a node that holds the lease under `epoch`. What is held without a place is given up: nobody here
    /// has it.
    pub fn new(me: Origin, epoch: Epoch, key: DigestKey, mut holdings: Holdings) -> Self {
        holdings.drop_placeless();
        Self {
            me,
            epoch,
            greeted: epoch,
            key,
            holdings,
            link: Link::Absent,
            stream: Stream::default(),
            waits: Waits::default(),
            version: 0,
            round: 0,
            counts: SenderCounts::default(),
        }
    }

    /// What this node holds, for it to be a standby.
    pub fn into_holdings(self) -> Holdings {
        self.holdings
    }

    /// The holder has raised its epoch, and nobody else was active meanwhile: the peer that has let it in is told and goes on
    /// hearing it.
    pub fn raise(&mut self, now: Instant, epoch: Epoch, out: &mut Vec<Output>) {
        self.epoch = self.epoch.max(epoch);
        if self.is_open() {
            self.tell_raised(now, out);
        }
    }

    fn tell_raised(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.epoch > self.greeted {
            let body = Body::Raise(Raise { epoch: self.epoch.0 });
            self.stream.post(now, body, &mut self.counts, out);
        }
    }

    /// A connection to the peer is there.
    pub fn connected(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.disconnected(out);
        self.link = Link::Greeting(now);
        self.greeted = self.epoch;
        let hello = greeting::hello(self.me, self.epoch, &self.key, self.stream.begin());
        out.push(Output::Send(crate::framing::to_bytes(&hello)));
    }

    /// The connection is gone: nobody waits any longer.
    pub fn disconnected(&mut self, out: &mut Vec<Output>) {
        if !matches!(self.link, Link::Absent) {
            self.counts.lost += 1;
        }
        self.link = Link::Absent;
        self.stream.window.clear();
        for ticket in self.waits.take_all() {
            self.degrade(ticket, Cause::Lost, out);
        }
    }

    /// An entry is new or changed. It is sent at once, if it can be.
    pub fn put(&mut self, now: Instant, capsule: Capsule, place: Place, out: &mut Vec<Output>) -> Posted {
        let name = self.name(&capsule);
        if capsule.len() > CAPSULE_BYTES_MAX {
            self.counts.too_long += 1;
            // The peer must not be left with what it was before.
            let _gone = self.remove_name(now, name, out);
            return Posted(Post::Unsent(Cause::TooLong));
        }
        let (version, kind) = (self.stamp(name, &capsule, place), capsule.kind);
        let length = capsule.len() + HEAD_BYTES_MAX;
        self.post_change(now, kind, length, put_frame(version, capsule), out)
    }

    /// An entry is gone.
    pub fn remove(&mut self, now: Instant, kind: Kind, key: &[u8], out: &mut Vec<Output>) -> Posted {
        self.remove_name(now, Name { kind, hash: self.key.name(kind, key) }, out)
    }

    /// An owner has changed or ended an entry without its being told, as [`crate::Receiver::diverged`] says: the next
    /// comparison finds it.
    pub fn diverged(&mut self, kind: Kind, entry_key: &[u8], place: Option<Place>) {
        self.holdings.diverged(&self.key, self.me, kind, entry_key, place);
    }

    /// All that was ever put or removed, for who waits without a change of his own.
    pub fn everything(&self) -> Posted {
        Posted(match &self.link {
            Link::Open(open) if open.flow == Flow::Stale => Post::Unsent(Cause::Stale),
            Link::Open(open) if open.is_equal => {
                let last = self.stream.last();
                Post::At(last.min(self.stream.acknowledged() + 1), last)
            }
            Link::Open(_) => Post::Unsent(Cause::NotEqual),
            Link::Absent | Link::Greeting(_) => Post::Unsent(Cause::NoPeer),
        })
    }

    /// Somebody waits until the peer holds what was posted, for [`WAIT_MAX`] at most.
    pub fn wait(&mut self, now: Instant, ticket: Ticket, posted: Posted, out: &mut Vec<Output>) {
        let (first, last) = match posted.0 {
            Post::At(first, last) => (first, last),
            Post::Unsent(_) if fault::is_planted(Fault::UnsentCounts) => (u64::MAX, 0),
            Post::Unsent(cause) => return self.degrade(ticket, cause, out),
        };
        let is_open = matches!(self.link, Link::Open(_));
        if self.stream.is_before(first) || (!is_open && !fault::is_planted(Fault::OldConnectionCounts)) {
            self.degrade(ticket, Cause::Lost, out);
        } else if self.stream.was_refused(first, last) {
            self.degrade(ticket, Cause::Refused, out);
        } else if last <= self.stream.acknowledged() || fault::is_planted(Fault::HeldWhenSent) {
            self.hold(ticket, out);
        } else if self.stream.window.age(now) > SLOW_AFTER {
            self.degrade(ticket, Cause::Late, out);
        } else if !self.waits.add(now, first, last, ticket) {
            self.degrade(ticket, Cause::TooMany, out);
        }
    }

    /// A frame came from the peer.
    pub fn handle_frame(&mut self, now: Instant, frame: Frame, out: &mut Vec<Output>) {
        let Some(body) = frame.body else {
            self.counts.skipped += 1;
            return;
        };
        let handled = match (&self.link, body) {
            (Link::Absent, _) => {
                self.counts.skipped += 1;
                return;
            }
            (Link::Greeting(_), Body::Welcome(welcome)) => self.welcomed(now, &welcome, out),
            (Link::Open(_), Body::Ack(ack)) => self.acknowledged(&ack, out),
            (Link::Open(_), Body::Verdict(verdict)) => self.judged(now, &verdict),
            (Link::Open(open), Body::List(_)) if !matches!(open.stage, Stage::Repairing(_)) => {
                // It answers a question of a repair that was given up.
                self.counts.skipped += 1;
                Ok(())
            }
            (Link::Open(_), Body::List(list)) => match self.repair() {
                Some(repair) => repair.handle_list(now, list).map_err(|_| CloseCause::Malformed),
                None => Ok(()),
            },
            _ => Err(CloseCause::Malformed),
        };
        match handled {
            Ok(()) => self.come_on(now, out),
            Err(cause) => self.close(cause, out),
        }
    }

    /// The bytes from the peer are no frames.
    pub fn handle_broken(&mut self, _error: FramingError, out: &mut Vec<Output>) {
        self.close(CloseCause::Malformed, out);
    }

    /// Owners answer [`Output::Fetch`].
    pub fn fetched(&mut self, now: Instant, answers: Vec<Fetched>, out: &mut Vec<Output>) {
        for Fetched { wanted, capsule } in answers {
            let name = wanted.name;
            let fetched = Fetched { wanted, capsule: None };
            if !self.repair().is_some_and(|repair| repair.take(now, &fetched)) {
                self.counts.outdated += 1;
                continue;
            }
            // What has changed since was sent when it changed.
            let is_same = self.holdings.entry(name).is_some_and(|entry| entry.stamp == wanted.stamp);
            if !is_same && !fault::is_planted(Fault::OldPieceSent) {
                self.counts.outdated += 1;
                continue;
            }
            let capsule = capsule.filter(|it| self.name(it) == name && it.len() <= CAPSULE_BYTES_MAX);
            let body = match capsule {
                Some(capsule) => {
                    let version = self.stamp(name, &capsule, wanted.place);
                    put_frame(version, capsule)
                }
                None => {
                    self.holdings.remove(name);
                    remove_frame(name)
                }
            };
            self.counts.repaired += 1;
            self.stream.post(now, body, &mut self.counts, out);
        }
        self.come_on(now, out);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(ticket) = self.waits.pop_due(now) {
            self.degrade(ticket, Cause::Late, out);
        }
        let is_silent = match &self.link {
            Link::Absent => false,
            Link::Greeting(since) => now.since(*since) >= SILENCE_MAX,
            Link::Open(open) => {
                let is_stuck = open.stage.is_stuck(now) && matches!(open.stage, Stage::Checking { .. });
                self.stream.window.age(now) >= SILENCE_MAX || is_stuck
            }
        };
        if is_silent {
            self.close(CloseCause::Silent, out);
        }
        self.come_on(now, out);
    }

    /// When time should next pass.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let link = match &self.link {
            Link::Absent => None,
            Link::Greeting(since) => Some(*since + SILENCE_MAX),
            Link::Open(open) => {
                let silent = self.stream.window.oldest().map(|oldest| oldest + SILENCE_MAX);
                let stage = match open.flow {
                    Flow::Live => open.stage.due(),
                    Flow::Stale => None,
                };
                [silent, stage].into_iter().flatten().min()
            }
        };
        [link, self.waits.next()].into_iter().flatten().min()
    }

    /// The epoch under which this node is active.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether there is a peer that has let this node in.
    pub fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// How many frames are on their way.
    pub fn on_the_way(&self) -> usize {
        self.stream.window.len()
    }

    /// How much of everything the peer has: 0 to 100. 100 is a peer that had all of it at the last comparison and was sent
    /// every change since; what is still on its way is [`SenderView::lag`].
    pub fn ready(&self) -> u8 {
        match &self.link {
            Link::Open(open) if open.flow == Flow::Live => self.share(open) as u8,
            _ => 0,
        }
    }

    /// The peer, as the operator sees it.
    pub fn view(&self, now: Instant) -> SenderView {
        let open = match &self.link {
            Link::Open(open) => Some(open),
            Link::Absent | Link::Greeting(_) => None,
        };
        let there = |kind| open.and_then(|open| open.there.get(&kind).copied()).unwrap_or_default();
        let window = &self.stream.window;
        SenderView {
            peer: open.map(|open| open.peer),
            ready: self.ready(),
            lag: Lag { messages: window.len(), bytes: window.bytes(), age: window.age(now) },
            kinds: self.holdings.kinds().map(|kind| (kind, self.holdings.count(kind), there(kind))).collect(),
            counts: self.counts,
        }
    }

    /// What is held here.
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// What happened.
    pub fn counts(&self) -> &SenderCounts {
        &self.counts
    }

    fn name(&self, capsule: &Capsule) -> Name {
        Name { kind: capsule.kind, hash: self.key.name(capsule.kind, &capsule.key) }
    }

    /// Gives what is to be sent a version, and remembers its stamp.
    fn stamp(&mut self, name: Name, capsule: &Capsule, place: Place) -> u64 {
        self.version += 1;
        let stamp = self.key.stamp(self.greeted.0, self.version, capsule);
        self.holdings.put(name, Entry { stamp, place: Some(place) });
        self.version
    }

    fn remove_name(&mut self, now: Instant, name: Name, out: &mut Vec<Output>) -> Posted {
        self.holdings.remove(name);
        self.post_change(now, name.kind, HEAD_BYTES_MAX, remove_frame(name), out)
    }

    fn post_change(
        &mut self,
        now: Instant,
        kind: Kind,
        length: usize,
        body: Body,
        out: &mut Vec<Output>,
    ) -> Posted {
        let Link::Open(open) = &mut self.link else { return Posted(Post::Unsent(Cause::NoPeer)) };
        if open.flow == Flow::Stale {
            return Posted(Post::Unsent(Cause::Stale));
        }
        if !open.kinds.contains(&kind) {
            return Posted(Post::Unsent(Cause::UnknownKind));
        }
        if !self.stream.window.has_room(length) && !fault::is_planted(Fault::NoWindow) {
            open.go_stale();
            self.counts.stale += 1;
            return Posted(Post::Unsent(Cause::Stale));
        }
        self.counts.sent += 1;
        let sequence = self.stream.post(now, body, &mut self.counts, out);
        Posted(Post::At(sequence, sequence))
    }

    fn welcomed(&mut self, now: Instant, welcome: &Welcome, out: &mut Vec<Output>) -> Result<(), CloseCause> {
        if welcome.epoch > self.epoch.0 {
            out.push(Output::Superseded(Epoch(welcome.epoch)));
        }
        if let Some(refusal) = greeting::refusal_of(welcome) {
            return Err(CloseCause::Refused(refusal));
        }
        if welcome.kinds.len() > KINDS_MAX || !welcome.kinds.is_sorted_by(|one, other| one < other) {
            return Err(CloseCause::Malformed);
        }
        let kinds = welcome.kinds.iter().filter_map(|&kind| u8::try_from(kind).ok()).map(Kind).collect();
        self.link = Link::Open(Box::new(Open {
            peer: greeting::origin(welcome.node, welcome.incarnation),
            kinds,
            flow: Flow::Live,
            stage: Stage::Resting(now),
            is_equal: false,
            misses: 0,
            skipped: 0,
            there: BTreeMap::new(),
        }));
        self.tell_raised(now, out);
        Ok(())
    }

    fn acknowledged(&mut self, ack: &Ack, out: &mut Vec<Output>) -> Result<(), CloseCause> {
        self.stream.acknowledge(ack)?;
        self.counts.refused += ack.refused.len() as u64;
        if let Link::Open(open) = &mut self.link
            && !ack.refused.is_empty()
        {
            open.is_equal = false;
        }
        for ticket in self.waits.take_refused(&ack.refused) {
            self.degrade(ticket, Cause::Refused, out);
        }
        for ticket in self.waits.take_through(ack.through) {
            self.hold(ticket, out);
        }
        Ok(())
    }

    fn judged(&mut self, now: Instant, verdict: &Verdict) -> Result<(), CloseCause> {
        let Link::Open(open) = &mut self.link else { return Ok(()) };
        let compared = match &open.stage {
            Stage::Checking { number, kinds, .. } if *number == verdict.number => kinds,
            // It answers a comparison that was given up.
            _ => {
                self.counts.skipped += 1;
                return Ok(());
            }
        };
        // Each kind that was asked about, and no other, in this order.
        if !verdict.kinds.iter().map(|judged| judged.kind).eq(compared.iter().map(|kind| u32::from(kind.0))) {
            return Err(CloseCause::Malformed);
        }
        let mut buckets = Vec::new();
        for judged in &verdict.kinds {
            let kind = Kind(u8::try_from(judged.kind).map_err(|_| CloseCause::Malformed)?);
            let is_sorted = judged.differing.is_sorted_by(|one, other| one < other);
            let is_within = judged.differing.last().is_none_or(|&last| (last as usize) < BUCKETS);
            if !is_sorted || !is_within {
                return Err(CloseCause::Malformed);
            }
            open.there.insert(kind, judged.count);
            buckets.extend(judged.differing.iter().map(|&bucket| (kind, bucket as usize)));
        }
        open.skipped = verdict.skipped;
        if buckets.is_empty() {
            self.counts.agreed += 1;
            (open.is_equal, open.misses) = (true, 0);
            open.stage = Stage::Resting(now + CHECK_EVERY);
        } else {
            self.counts.differed += 1;
            open.is_equal = false;
            self.round += 1;
            open.stage = Stage::Repairing(Repair::new(now, self.round, &self.holdings, buckets.into_iter()));
        }
        Ok(())
    }

    /// Does what is due and what the peer has room for.
    fn come_on(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Link::Open(open) = &mut self.link else { return };
        if open.flow == Flow::Stale {
            if !self.stream.window.is_empty() {
                return;
            }
            (open.flow, open.stage) = (Flow::Live, Stage::Resting(now));
        }
        if open.stage.is_stuck(now) {
            open.rest(now);
        }
        match &open.stage {
            Stage::Resting(until) if *until <= now => self.check(now, out),
            Stage::Repairing(_) => self.mend(now, out),
            Stage::Resting(_) | Stage::Checking { .. } => {}
        }
    }

    fn check(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Link::Open(open) = &mut self.link else { return };
        self.round += 1;
        // Also kinds of which there is nothing here: the peer may have something.
        let sums = |&kind: &Kind| KindSums {
            kind: kind.0.into(),
            count: self.holdings.count(kind),
            sums: self.holdings.sums(kind),
        };
        let check = Body::Check(Check { number: self.round, kinds: open.kinds.iter().map(sums).collect() });
        open.stage = Stage::Checking { number: self.round, since: now, kinds: open.kinds.clone() };
        self.stream.post(now, check, &mut self.counts, out);
    }

    fn mend(&mut self, now: Instant, out: &mut Vec<Output>) {
        loop {
            let Link::Open(open) = &self.link else { return };
            let ready = self.share(open);
            let Link::Open(open) = &mut self.link else { return };
            let Stage::Repairing(repair) = &mut open.stage else { return };
            if self.stream.window.bytes() > REPAIR_BYTES_MAX {
                return;
            }
            match repair.next(&self.holdings, ready) {
                Step::Wait => return,
                Step::Ask(ask) => {
                    self.stream.post(now, Body::Ask(ask), &mut self.counts, out);
                }
                Step::Send { extra, wanted } => {
                    for name in extra {
                        self.holdings.remove(name);
                        self.counts.repaired += 1;
                        self.stream.post(now, remove_frame(name), &mut self.counts, out);
                    }
                    if !wanted.is_empty() {
                        out.push(Output::Fetch(wanted));
                    }
                }
                Step::Done => {
                    open.misses += 1;
                    // The first time it is looked at at once whether it helped.
                    match open.misses {
                        1 => open.stage = Stage::Resting(now),
                        _ => open.rest(now),
                    }
                    return self.come_on_after_repair(now, out);
                }
            }
        }
    }

    fn come_on_after_repair(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_due = match &self.link {
            Link::Open(open) => matches!(open.stage, Stage::Resting(until) if until <= now),
            Link::Absent | Link::Greeting(_) => false,
        };
        if is_due {
            self.check(now, out);
        }
    }

    fn repair(&mut self) -> Option<&mut Repair> {
        match &mut self.link {
            Link::Open(open) => match &mut open.stage {
                Stage::Repairing(repair) => Some(repair),
                Stage::Resting(_) | Stage::Checking { .. } => None,
            },
            Link::Absent | Link::Greeting(_) => None,
        }
    }

    /// 100 if the peer is equal, else the share of entries in buckets that do not differ, at most 99.
    fn share(&self, open: &Open) -> u32 {
        if open.is_equal {
            return if open.skipped == 0 { 100 } else { 99 };
        }
        let all: u64 = open.kinds.iter().map(|&kind| self.holdings.count(kind)).sum();
        match &open.stage {
            Stage::Repairing(repair) => {
                let done = all.saturating_sub(repair.remaining());
                u32::try_from(done * 99 / all.max(1)).unwrap_or(99).min(99)
            }
            // A comparison after a repair: what it mended is there.
            Stage::Resting(_) | Stage::Checking { .. } if open.misses > 0 => 99,
            Stage::Resting(_) | Stage::Checking { .. } => 0,
        }
    }

    fn hold(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        self.counts.held += 1;
        out.push(Output::Held(ticket));
    }

    fn degrade(&mut self, ticket: Ticket, cause: Cause, out: &mut Vec<Output>) {
        self.counts.degraded += 1;
        out.push(Output::Degraded(ticket, cause));
    }

    fn close(&mut self, cause: CloseCause, out: &mut Vec<Output>) {
        if matches!(self.link, Link::Absent) {
            return;
        }
        out.push(Output::Close(cause));
        self.disconnected(out);
    }
}

impl Open {
    fn go_stale(&mut self) {
        self.flow = Flow::Stale;
        self.is_equal = false;
        self.misses = 0;
        self.stage = Stage::Resting(Instant::FAR);
    }

    /// Waits before the next comparison, for longer the more often it was in vain.
    fn rest(&mut self, now: Instant) {
        let seconds = match fault::is_planted(Fault::NoRest) {
            true => 0,
            false => 1 << self.misses.min(REST_MAX),
        };
        self.stage = Stage::Resting(now + Duration::from_secs(seconds));
    }
}

impl Stage {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Resting(until) => Some(*until).filter(|&until| until != Instant::FAR),
            Self::Checking { since, .. } => Some(*since + SILENCE_MAX),
            Self::Repairing(repair) => Some(repair.moved_at + SILENCE_MAX),
        }
    }

    /// Whether it should have come on long ago.
    fn is_stuck(&self, now: Instant) -> bool {
        !matches!(self, Self::Resting(_)) && self.due().is_some_and(|due| due <= now)
    }
}

fn put_frame(version: u64, capsule: Capsule) -> Body {
    let Capsule { kind, format, key, bytes, left } = capsule;
    // Rounded up, so that nothing ends earlier there than here, however often it goes to and fro.
    let left_ms = u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Body::Put(Put { kind: kind.0.into(), format, key, version, bytes, left_ms })
}

fn remove_frame(name: Name) -> Body {
    Body::Remove(Remove { kind: name.kind.0.into(), hash: name.hash })
}
