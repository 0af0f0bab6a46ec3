//! The world of one seed.

mod checks;
mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clock::Instant;
use replica::{
    Capsule, ConnectionNumber, Deframer, DigestKey, Epoch, Fetched, Holdings, Kind, Known, Origin, Posted,
    Receiver, ReceiverOutput, Sender, SenderOutput, Ticket, Wanted,
};

use super::rng::Rng;
use super::table::{Row, Table};
use super::wire;

/// How often each thing happened that a run is about.
pub type Counts = BTreeMap<String, u64>;

/// What a run is about.
pub const MUST_HAPPEN: &[&str] = &[
    "held",
    "held by who changed nothing",
    "degraded Lost",
    "degraded NoPeer",
    "degraded Late",
    "degraded NotEqual",
    "degraded Refused",
    "degraded Stale",
    "degraded UnknownKind",
    "connection cut",
    "cut within a repair",
    "frame lost",
    "acknowledgement forged",
    "verdicts forged",
    "standby stalled",
    "standby started again",
    "owner refused",
    "roles changed",
    "lower epoch turned away",
    "piece outdated",
    "entry too much removed",
    "entry repaired",
    "became stale",
    "became equal",
];

const MS: u64 = 1_000_000;
const KEY: DigestKey = DigestKey::new([9; 16]);
const KINDS: [Kind; 2] = [Kind(1), Kind(2)];
/// The standby does not know it.
const STRANGE: Kind = Kind(3);

/// What may be on its way to a standby that takes nothing: the window, and what little stands outside of it.
const UNTAKEN_MAX: usize = 5 << 20;

/// How often one who never agrees may be asked in one world: a few times for each connection, and then seldom.
const LIES_MAX: u64 = 120;

type Key = (Kind, Bytes);

#[derive(Debug)]
enum Event {
    ToStandby(u64, Bytes),
    ToActive(u64, Bytes),
    /// Owners answer.
    Fetched(u64, Vec<Fetched>),
    /// Somebody comes to wait a while after his change.
    Wait(u64, Posted, Vec<(Key, u64)>),
    Act,
    Fault,
    Connect,
}

pub struct World {
    rng: Rng,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    epoch: u64,
    boots: u64,
    /// The active node's number, 0 or 1.
    active: u8,
    sender: Sender,
    receiver: Receiver,
    tables: [Table; 2],
    incarnations: [u64; 2],
    /// The connection that is there.
    connection: Option<u64>,
    connections: u64,
    deframers: BTreeMap<u64, [Deframer; 2]>,
    last_at: [u64; 2],
    untaken: usize,
    stalled_until: u64,
    refuses_until: u64,
    lies_until: u64,
    lies: u64,
    lose_frame: bool,
    forge_ack: bool,
    is_calm: bool,
    big: bool,
    /// What each key was, by the number of the change. The active's table is the last of them.
    history: BTreeMap<Key, Vec<(u64, Option<Bytes>)>>,
    changes: u64,
    tickets: u64,
    waiting: BTreeMap<Ticket, Vec<(Key, u64)>>,
    /// Those who wait without a change of their own.
    repetitions: BTreeSet<Ticket>,
    /// Until when each content was granted.
    granted: BTreeMap<Bytes, Instant>,
    /// The last change of each key that was said to be held.
    held: BTreeMap<Key, u64>,
    counts: Counts,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let big = rng.chance(300);
        let incarnations = [rng.next(), rng.next()];
        let (epoch, active) = (1, 0);
        let sender = Sender::new(origin(0, incarnations), Epoch(epoch), KEY, Holdings::new());
        let receiver = Receiver::new(origin(1, incarnations), KEY, &known(), Epoch(0), Holdings::new());
        let mut world = Self {
            rng,
            now: 1_000 * MS,
            events: BTreeMap::new(),
            scheduled: 0,
            epoch,
            boots: 0,
            active,
            sender,
            receiver,
            tables: [Table::default(), Table::default()],
            incarnations,
            connection: None,
            connections: 0,
            deframers: BTreeMap::new(),
            last_at: [0; 2],
            untaken: 0,
            stalled_until: 0,
            refuses_until: 0,
            lies_until: 0,
            lies: 0,
            lose_frame: false,
            forge_ack: false,
            is_calm: false,
            big,
            history: BTreeMap::new(),
            changes: 0,
            tickets: 0,
            waiting: BTreeMap::new(),
            repetitions: BTreeSet::new(),
            granted: BTreeMap::new(),
            held: BTreeMap::new(),
            counts: Counts::new(),
        };
        world.schedule(0, Event::Act);
        world.schedule(20 * MS, Event::Connect);
        world.schedule(50 * MS, Event::Fault);
        world
    }

    /// First faults, and then peace.
    pub fn run(mut self, counts: &mut Counts) -> Result<(), String> {
        let end = self.now + self.rng.between(3_000, 12_000) * MS;
        self.run_until(end)?;
        self.is_calm = true;
        (self.stalled_until, self.refuses_until, self.lies_until) = (0, 0, 0);
        (self.lose_frame, self.forge_ack) = (false, false);
        if self.connection.is_none() {
            self.schedule(0, Event::Connect);
        }
        // The longest rest of a peer that never agreed is 64 seconds, and it may have begun just now.
        for second in 2..150 {
            self.run_until(end + second * 1_000 * MS)?;
            if self.agree().is_ok() {
                break;
            }
        }
        self.agree()?;
        for (what, count) in self.counts {
            *counts.entry(what).or_default() += count;
        }
        Ok(())
    }

    fn run_until(&mut self, end: u64) -> Result<(), String> {
        loop {
            let timers = [self.sender.poll_timeout(), self.receiver.poll_timeout()];
            let timer = timers.into_iter().flatten().map(Instant::as_nanos).min().unwrap_or(u64::MAX);
            let event = self.events.first_key_value().map_or(u64::MAX, |(&(at, _), _)| at);
            let next = timer.min(event).max(self.now);
            if next > end {
                self.now = end;
                return Ok(());
            }
            self.now = next;
            if event <= next {
                let (_, event) = self.events.pop_first().ok_or("no event")?;
                self.happen(event)?;
            } else {
                self.with_sender(|sender, now, out| sender.handle_timeout(now, out))?;
                let mut out = Vec::new();
                self.receiver.handle_timeout(self.instant(), &mut out);
                self.carry_out_of_standby(out);
            }
            if self.lies > LIES_MAX {
                return Err(format!("a liar was asked {} times", self.lies));
            }
            if self.untaken > UNTAKEN_MAX {
                return Err(format!("{} bytes are on their way", self.untaken));
            }
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::ToStandby(connection, bytes) => {
                if self.now < self.stalled_until {
                    self.schedule_at(self.stalled_until, Event::ToStandby(connection, bytes));
                    return Ok(());
                }
                self.reach_standby(connection, &bytes);
            }
            Event::ToActive(connection, bytes) => self.reach_active(connection, &bytes)?,
            Event::Fetched(boot, answers) if boot == self.boots => {
                let before = *self.sender.counts();
                self.with_sender(|sender, now, out| sender.fetched(now, answers, out))?;
                let after = *self.sender.counts();
                self.count_if("piece outdated", after.outdated > before.outdated);
                self.count_if("entry repaired", after.repaired > before.repaired);
            }
            Event::Wait(boot, posted, changed) if boot == self.boots => self.wait(posted, changed)?,
            Event::Fetched(..) | Event::Wait(..) => {}
            Event::Act => self.act()?,
            Event::Fault => self.fault()?,
            Event::Connect => self.connect()?,
        }
        Ok(())
    }

    // What the service does.

    fn act(&mut self) -> Result<(), String> {
        let pause = match self.is_calm {
            true => self.rng.between(20, 4_000) * MS / 10,
            false => self.rng.between(1, 300) * MS / 10,
        };
        self.schedule(pause, Event::Act);
        let burst = if !self.is_calm && self.rng.chance(20) { 200 } else { 1 };
        for _ in 0..burst {
            self.change()?;
        }
        Ok(())
    }

    fn change(&mut self) -> Result<(), String> {
        let kind = match self.rng.chance(10) {
            true => STRANGE,
            false => KINDS[self.rng.below(2) as usize],
        };
        let keys = 1 + self.rng.below(3);
        let mut posted: Option<Posted> = None;
        let mut changed = Vec::new();
        let number = self.rng.below(400);
        for offset in 0..keys {
            let key = Bytes::from(format!("key {}", number + offset));
            self.changes += 1;
            let is_removal = self.rng.chance(250);
            let content = (!is_removal).then(|| self.content());
            self.history.entry((kind, key.clone())).or_default().push((self.changes, content.clone()));
            changed.push(((kind, key.clone()), self.changes));
            let now = self.instant();
            let table = &mut self.tables[usize::from(self.active)];
            let (mut out, stale) = (Vec::new(), self.sender.counts().stale);
            let one = match content {
                Some(content) => {
                    let left = Duration::from_millis(60_000_000 + self.rng.below(1_000_000));
                    self.granted.insert(content.slice(..8), now + left);
                    let row = Row { kind, key, content, ends_at: now + left };
                    let capsule = row.capsule(now);
                    let place = table.put(row);
                    self.sender.put(now, capsule, place, &mut out)
                }
                None => {
                    table.remove_key(kind, &key);
                    self.sender.remove(now, kind, &key, &mut out)
                }
            };
            self.count_if("became stale", self.sender.counts().stale > stale);
            self.carry_out_of_active(out)?;
            posted = Some(posted.map_or(one, |before| before.and(one)));
        }
        if let Some(posted) = posted.filter(|_| self.rng.chance(700)) {
            match self.rng.chance(30) {
                true => {
                    let delay = self.rng.below(900) * MS;
                    self.schedule(delay, Event::Wait(self.boots, posted, changed));
                }
                false => self.wait(posted, changed)?,
            }
        }
        if self.rng.chance(8) {
            // A repetition: it waits for all that was.
            let all = self.history.iter().filter(|((kind, _), _)| KINDS.contains(kind));
            let all = all.filter_map(|(key, changes)| Some((key.clone(), changes.last()?.0))).collect();
            let posted = self.sender.everything();
            self.repetitions.insert(Ticket(self.tickets + 1));
            self.wait(posted, all)?;
        }
        Ok(())
    }

    fn wait(&mut self, posted: Posted, changed: Vec<(Key, u64)>) -> Result<(), String> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, changed);
        self.with_sender(|sender, now, out| sender.wait(now, ticket, posted, out))
    }

    fn content(&mut self) -> Bytes {
        let length = match self.big {
            true => self.rng.between(20_000, 60_000),
            false => self.rng.between(8, 300),
        };
        let mut content = BytesMut::zeroed(length as usize);
        content[..8].copy_from_slice(&self.changes.to_be_bytes());
        content.freeze()
    }

    // What is carried.

    fn reach_standby(&mut self, connection: u64, bytes: &Bytes) {
        if self.connection != Some(connection) {
            return;
        }
        self.untaken -= bytes.len();
        let Some([deframer, _]) = self.deframers.get_mut(&connection) else { return };
        deframer.push(bytes);
        loop {
            let Some([deframer, _]) = self.deframers.get_mut(&connection) else { return };
            let mut out = Vec::new();
            match deframer.next_frame() {
                Ok(Some(frame)) => {
                    let number = ConnectionNumber(connection);
                    self.receiver.handle_frame(self.instant(), number, frame, &mut out);
                }
                Ok(None) => break,
                Err(error) => self.receiver.handle_broken(ConnectionNumber(connection), error, &mut out),
            }
            self.carry_out_of_standby(out);
            if self.connection != Some(connection) {
                return;
            }
        }
        let mut out = Vec::new();
        self.receiver.acknowledge(&mut out);
        self.carry_out_of_standby(out);
    }

    fn reach_active(&mut self, connection: u64, bytes: &Bytes) -> Result<(), String> {
        if self.connection != Some(connection) {
            return Ok(());
        }
        let Some([_, deframer]) = self.deframers.get_mut(&connection) else { return Ok(()) };
        deframer.push(bytes);
        while self.connection == Some(connection) {
            let Some([_, deframer]) = self.deframers.get_mut(&connection) else { return Ok(()) };
            let before = *self.sender.counts();
            match deframer.next_frame() {
                Ok(Some(frame)) => {
                    self.with_sender(|sender, now, out| sender.handle_frame(now, frame, out))?
                }
                Ok(None) => break,
                Err(error) => return Err(format!("the standby writes nonsense: {error:?}")),
            }
            let after = *self.sender.counts();
            self.count_if("entry too much removed", after.repaired > before.repaired);
            self.count_if("became equal", after.agreed > before.agreed);
        }
        Ok(())
    }

    fn carry_out_of_standby(&mut self, out: Vec<ReceiverOutput>) {
        let standby = usize::from(1 - self.active);
        for output in out {
            match output {
                ReceiverOutput::Send(connection, bytes) => {
                    let bytes = self.lie(bytes);
                    self.send(1, connection.0, bytes);
                }
                ReceiverOutput::Apply(apply) => {
                    if self.now < self.refuses_until && self.rng.chance(300) {
                        self.count("owner refused");
                        self.receiver.refused(apply.name);
                    } else {
                        let row = Row::of(self.instant(), &apply.capsule);
                        let place = self.tables[standby].put(row);
                        self.receiver.placed(apply.name, place);
                    }
                }
                ReceiverOutput::Remove(_, place) => self.tables[standby].remove(place),
                ReceiverOutput::Close(connection, _) if self.connection == Some(connection.0) => {
                    // The other side sees it, perhaps a while later.
                    self.connection = None;
                    self.forget_bytes();
                    let mut out = Vec::new();
                    self.sender.disconnected(&mut out);
                    let judged = self.carry_out_of_active(out);
                    debug_assert!(judged.is_ok(), "nothing is held by a loss");
                    let pause = self.rng.between(1, 400) * MS;
                    self.schedule(pause, Event::Connect);
                }
                ReceiverOutput::Close(..) => {}
            }
        }
    }

    fn lie(&mut self, bytes: Bytes) -> Bytes {
        match wire::kind_of(&bytes) {
            wire::Kind::Ack if std::mem::take(&mut self.forge_ack) => {
                self.count("acknowledgement forged");
                wire::ack_more(&bytes, 1 << 20)
            }
            wire::Kind::Verdict if self.now < self.lies_until => {
                self.count("verdicts forged");
                self.lies += 1;
                wire::differ(&bytes)
            }
            _ => bytes,
        }
    }

    fn with_sender(
        &mut self,
        act: impl FnOnce(&mut Sender, Instant, &mut Vec<SenderOutput>),
    ) -> Result<(), String> {
        let mut out = Vec::new();
        let now = self.instant();
        act(&mut self.sender, now, &mut out);
        self.carry_out_of_active(out)
    }

    fn carry_out_of_active(&mut self, out: Vec<SenderOutput>) -> Result<(), String> {
        for output in out {
            match output {
                SenderOutput::Send(bytes) => {
                    let Some(connection) = self.connection else { continue };
                    // A hello is not lost: nothing would be heard of it, and that is another matter.
                    if self.lose_frame && bytes.len() > 60 && self.sender.view(self.instant()).peer.is_some()
                    {
                        self.lose_frame = false;
                        self.count("frame lost");
                        continue;
                    }
                    self.untaken += bytes.len();
                    self.send(0, connection, bytes);
                }
                SenderOutput::Held(ticket) => self.hold(ticket)?,
                SenderOutput::Degraded(ticket, cause) => {
                    self.waiting.remove(&ticket);
                    self.count(&format!("degraded {cause:?}"));
                }
                SenderOutput::Fetch(wanted) => self.fetch(wanted),
                SenderOutput::Close(_) => {
                    if self.connection.take().is_some() {
                        self.receiver.disconnected(ConnectionNumber(self.connections));
                        self.forget_bytes();
                        let pause = self.rng.between(1, 400) * MS;
                        self.schedule(pause, Event::Connect);
                    }
                }
                SenderOutput::Superseded(epoch) => return Err(format!("superseded by {epoch:?}")),
            }
        }
        Ok(())
    }

    /// Owners read their tables now or later, and their answer takes a while too.
    fn fetch(&mut self, wanted: Vec<Wanted>) {
        let now = self.instant();
        let table = &self.tables[usize::from(self.active)];
        let answer = |wanted: Wanted| {
            let capsule: Option<Capsule> = table.at(wanted.place).map(|row| row.capsule(now));
            Fetched { wanted, capsule }
        };
        let answers: Vec<Fetched> = wanted.into_iter().map(answer).collect();
        let cut = self.rng.below(answers.len() as u64 + 1) as usize;
        let (first, second) = answers.split_at(cut);
        for part in [first, second] {
            let delay = if self.rng.chance(500) { 0 } else { self.rng.below(40 * MS) };
            self.schedule(delay, Event::Fetched(self.boots, part.to_vec()));
        }
    }

    fn send(&mut self, direction: usize, connection: u64, bytes: Bytes) {
        let most = if self.rng.chance(20) { 20 * MS } else { MS };
        let at = (self.now + self.rng.between(MS / 20, most)).max(self.last_at[direction]);
        self.last_at[direction] = at;
        let cut = self.rng.below(bytes.len() as u64 + 1) as usize;
        let pieces = match self.rng.chance(300) {
            true => vec![bytes.slice(..cut), bytes.slice(cut..)],
            false => vec![bytes],
        };
        for piece in pieces {
            let event = match direction {
                0 => Event::ToStandby(connection, piece),
                _ => Event::ToActive(connection, piece),
            };
            self.schedule_at(at, event);
        }
    }

    // What the world needs.

    fn forget_bytes(&mut self) {
        self.untaken = 0;
        self.deframers.clear();
    }

    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn schedule(&mut self, delay: u64, event: Event) {
        self.schedule_at(self.now + delay, event);
    }

    fn schedule_at(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    fn count_if(&mut self, what: &str, happened: bool) {
        if happened {
            self.count(what);
        }
    }
}

fn origin(node: u8, incarnations: [u64; 2]) -> Origin {
    Origin { node, incarnation: incarnations[usize::from(node)] }
}

fn known() -> Vec<Known> {
    KINDS.map(|kind| Known { kind, format_max: 1 }).to_vec()
}
