//! Two nodes, a witness on a host or in a row, and another one that may take its place, whose clocks drift, whose messages are lost, doubled and late, which freeze, crash and start
//! again, and a checker that knows when each gate was open.

mod edge;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::Instant;
use cluster::row::RowVoter;
use cluster::{
    Answer, Ask, Contender, Epoch, HandoverAnswer, HandoverAsk, Holder, Incarnation, LeasePlan, ListVersion,
    MemberId, NodeId, Record, Release, Role, Seat, ServiceId, Voter, VoterId, VoterList, WriteNumber,
};

use super::rng::Rng;
pub use server::Loss;
use server::{Reply, Request, Server};

const SERVICE: ServiceId = ServiceId(0);
const NODES: usize = 2;
const PLACES: usize = 4;
/// How many of them have a seat at first.
const SEATED: usize = 3;
/// Where the first witness is.
const WITNESS: usize = 2;
const MS: u64 = 1_000_000;
const HEARTBEAT: u64 = 50 * MS;
const MISSED: u64 = 120 * MS;

/// How often each thing happened that a run is about.
pub type Counts = BTreeMap<&'static str, u64>;

#[derive(Clone, Debug)]
enum Message {
    Ask(Ask),
    Answer(Answer),
    Release(Release),
    Heartbeat { holder: Holder, epoch: Epoch, is_active: bool },
    HandoverAsk(HandoverAsk),
    HandoverAnswer(HandoverAnswer),
    List(VoterList),
}

#[expect(clippy::large_enum_variant, reason = "a world has a few of them at a time")]
#[derive(Clone, Debug)]
enum Event {
    Deliver {
        to: usize,
        message: Message,
    },
    /// The place's machines want to be called. Of another start: ignored.
    Wake {
        place: usize,
        boot: u64,
    },
    Kept {
        place: usize,
        boot: u64,
        write: WriteNumber,
        record: Record,
    },
    GateWritten {
        place: usize,
        boot: u64,
        write: GateWrite,
    },
    Drained {
        place: usize,
        boot: u64,
    },
    Start(usize),
    Fault,
    /// The process that speaks to the server is told something by its node.
    Told {
        place: usize,
        boot: u64,
        message: cluster::Message,
    },
    /// Something arrives at the server.
    Requested(Request),
    /// An answer of the server arrives, or has not come in time.
    Replied {
        place: usize,
        number: u64,
        reply: Reply,
    },
}

#[derive(Clone, Copy, Debug)]
enum GateWrite {
    Open(Epoch, Instant),
    Close(Epoch),
}

/// What the kernel has: it obeys the deadline whatever the guardian does.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    closed: u64,
    until: u64,
    epoch: u64,
}

struct Place {
    voter: Option<Voter>,
    /// The voter of the witness's row; each node has its own.
    row: Option<RowVoter>,
    /// The operation that it waits for.
    operation: u64,
    /// Which connection it has.
    connection: u64,
    contender: Option<Contender>,
    disk: Record,
    boot: u64,
    /// This clock runs so many millionths of true time, from this offset.
    rate: u64,
    offset: u64,
    frozen_until: u64,
    heard: u64,
    peer: Option<(Holder, Epoch)>,
    gate: Gate,
    lease: Duration,
    list: VoterList,
    is_up: bool,
    /// The highest epoch whose release has reached the voter of this start or was written down.
    released: Epoch,
}

pub struct World {
    rng: Rng,
    now: u64,
    number: u64,
    queue: BTreeMap<(u64, u64), Event>,
    places: Vec<Place>,
    /// The witness is a row here.
    server: Option<Server>,
    cut: BTreeSet<(usize, usize)>,
    is_hostile: bool,
    /// Which start of which place was active under an epoch.
    tenures: BTreeMap<Epoch, (usize, u64)>,
    /// Which start of which place became active last.
    last_active: (usize, u64),
    pub counts: Counts,
    pub violation: Option<String>,
}

impl World {
    /// A world whose witness is a host.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, None)
    }

    /// A world whose witness is a row of a server that may lose so much when it fails over.
    pub fn with_row(seed: u64, loss: Loss) -> Self {
        Self::with(seed, Some(Server::new(loss, VoterId(WITNESS as u64 + 1))))
    }

    fn with(seed: u64, server: Option<Server>) -> Self {
        let mut rng = Rng::new(seed);
        let places = (0..PLACES)
            .map(|place| Place {
                voter: None,
                row: None,
                operation: 0,
                connection: 0,
                contender: None,
                disk: Record::first(VoterId(place as u64 + 1)),
                boot: 0,
                rate: rng.between(900_000, 1_100_001),
                offset: rng.between(0, 1_000_000 * MS),
                frozen_until: 0,
                heard: 0,
                peer: None,
                gate: Gate::default(),
                lease: Duration::from_millis(500),
                list: VoterList::NONE,
                is_up: false,
                released: Epoch(0),
            })
            .collect();
        let mut world = Self {
            rng,
            now: 0,
            number: 0,
            queue: BTreeMap::new(),
            places,
            server,
            cut: BTreeSet::new(),
            is_hostile: true,
            tenures: BTreeMap::new(),
            counts: Counts::new(),
            last_active: (usize::MAX, 0),
            violation: None,
        };
        for place in 0..PLACES {
            let at = world.rng.below(100 * MS);
            world.push(at, Event::Start(place));
        }
        world.push(500 * MS, Event::Fault);
        world
    }

    /// Faults for `hostile`, then none, and somebody must be active at the end.
    pub fn run(&mut self, hostile: Duration) {
        self.run_until(hostile.as_nanos() as u64);
        self.heal();
        self.run_until(self.now + 15_000 * MS);
        if self.violation.is_none() && self.active().len() != 1 {
            self.violation = Some(format!("{} are active though all is well", self.active().len()));
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.violation.is_none() {
            let Some(((at, _), event)) =
                self.queue.first_key_value().map(|(key, event)| (*key, event.clone()))
            else {
                return;
            };
            if at > end {
                break;
            }
            self.queue.pop_first();
            self.now = at;
            self.happen(event);
        }
        self.now = self.now.max(end.min(self.now + 1));
    }

    fn heal(&mut self) {
        self.is_hostile = false;
        self.cut.clear();
        for place in 0..PLACES {
            self.places[place].frozen_until = 0;
            if !self.places[place].is_up {
                self.push(1, Event::Start(place));
            }
        }
    }

    fn active(&self) -> Vec<usize> {
        (0..NODES).filter(|place| self.gate_until(*place) > self.now).collect()
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn push(&mut self, after: u64, event: Event) {
        self.number += 1;
        self.queue.insert((self.now + after.max(1), self.number), event);
    }

    fn local(&self, place: usize) -> Instant {
        let Place { rate, offset, .. } = self.places[place];
        Instant::from_nanos(offset + (u128::from(self.now) * u128::from(rate) / 1_000_000) as u64)
    }

    /// When, in true time, a clock shows `local`.
    fn at_local(&self, place: usize, local: Instant) -> u64 {
        let Place { rate, offset, .. } = self.places[place];
        let since = u128::from(local.as_nanos().saturating_sub(offset));
        u64::try_from((since * 1_000_000).div_ceil(u128::from(rate))).unwrap_or(u64::MAX)
    }

    fn gate_until(&self, place: usize) -> u64 {
        let gate = self.places[place].gate;
        if gate.epoch > gate.closed { gate.until } else { 0 }
    }

    fn happen(&mut self, event: Event) {
        let place = match &event {
            Event::Deliver { to, .. } => *to,
            Event::Wake { place, .. } | Event::Kept { place, .. } | Event::GateWritten { place, .. } => {
                *place
            }
            Event::Drained { place, .. } => *place,
            Event::Told { place, .. } | Event::Replied { place, .. } => *place,
            Event::Start(place) => return self.start(*place),
            Event::Fault => return self.fault(),
            Event::Requested(request) => return self.requested(request.clone()),
        };
        if !self.places[place].is_up {
            return;
        }
        // What happens to a frozen process waits; datagrams wait in the socket.
        if self.places[place].frozen_until > self.now {
            let after = self.places[place].frozen_until - self.now;
            return self.push(after, event);
        }
        match event {
            Event::Deliver { message, .. } => self.deliver(place, message),
            Event::Wake { boot, .. } if boot == self.places[place].boot => self.wake(place),
            Event::Kept { boot, write, record, .. } if boot == self.places[place].boot => {
                self.places[place].disk = record;
                let now = self.local(place);
                let mut out = Vec::new();
                let reserved = record.reserved;
                if let Some(voter) = &mut self.places[place].voter {
                    voter.handle_kept(now, write, true, &mut out);
                }
                self.carry_voter(place, out);
                let mut out = Vec::new();
                if reserved > Epoch(0)
                    && self.places[place].voter.as_ref().is_some_and(|voter| voter.has_reserved(reserved))
                    && let Some(contender) = &mut self.places[place].contender
                {
                    contender.reserved(now, reserved, &mut out);
                }
                self.carry_contender(place, out);
            }
            Event::Told { boot, message, .. } if boot == self.places[place].boot => {
                self.told(place, message);
            }
            Event::Replied { number, reply, .. } => self.replied(place, number, reply),
            Event::GateWritten { boot, write, .. } if boot == self.places[place].boot => {
                self.write_gate(place, write)
            }
            Event::Drained { boot, .. } if boot == self.places[place].boot => {
                let mut out = Vec::new();
                if let Some(contender) = &mut self.places[place].contender {
                    contender.drained(&mut out);
                }
                self.carry_contender(place, out);
            }
            _ => {}
        }
    }

    fn start(&mut self, place: usize) {
        if self.places[place].is_up || place == WITNESS && self.server.is_some() {
            return;
        }
        self.count("start");
        let now = self.local(place);
        let boot = self.places[place].boot + 1;
        // A server that loses anything may lose that somebody was granted a longer one.
        let may_differ = self.server.as_ref().is_none_or(|server| server.loss() == Loss::Renewals);
        let is_short = self.rng.chance(300) && may_differ;
        let lease = Duration::from_millis(if is_short { 200 } else { 500 });
        let incarnation = Incarnation(self.rng.next());
        let list = match self.places[place].disk.list {
            VoterList::NONE => VoterList::new(ListVersion::FIRST, (0..SEATED).map(seat), None),
            list => list,
        };
        let this = &mut self.places[place];
        this.is_up = true;
        this.boot = boot;
        this.lease = lease;
        this.heard = self.now;
        this.peer = None;
        this.released = this.disk.closed;
        // A guardian cleans the gate that its predecessor left before it votes.
        this.gate = Gate { closed: this.gate.epoch, ..this.gate };
        let voter = Voter::new(now, SERVICE, this.disk);
        if place < NODES {
            let me = Holder { node: NodeId(place as u8), incarnation };
            this.contender =
                Some(Contender::new(SERVICE, me, voter.id(), list, LeasePlan { lease }, voter.highest()));
        }
        this.voter = Some(voter);
        if place < NODES && self.server.is_some() {
            self.start_row(place);
        }
        self.push(1, Event::Wake { place, boot });
    }

    fn wake(&mut self, place: usize) {
        let boot = self.places[place].boot;
        let now = self.local(place);
        let mut out = Vec::new();
        let is_silent = self.now - self.places[place].heard > MISSED;
        let wants_over = self.is_hostile && self.rng.chance(2);
        let gives_up = self.is_hostile && self.rng.chance(1);
        let is_sound = self.server.as_ref().is_none_or(|server| server.loss() == Loss::Renewals);
        let changes = (self.is_hostile && is_sound && self.rng.chance(4))
            .then(|| self.rng.below(PLACES as u64) as usize);
        let this = &mut self.places[place];
        if let (Some(contender), Some(voter)) = (&mut this.contender, &this.voter) {
            contender.handle_timeout(now, &mut out);
            if gives_up {
                contender.give_up(&mut out);
            }
            let me = contender.me();
            if contender.role() == Role::Standby && is_silent && !gives_up {
                contender.campaign(now, voter.barred_for(now, me), &mut out);
            }
            if let Some(other) = changes.filter(|other| *other != place) {
                contender.change_list(now, seat(other), &mut out);
            }
            if let Some((holder, epoch)) = this.peer
                && wants_over
            {
                contender.take_over(now, holder, epoch, &mut out);
            }
        }
        self.carry_contender(place, out);
        self.row_timeout(place);
        self.look_at_list(place);
        self.heartbeat(place);
        let after = self.rng.between(MS, 8 * MS);
        self.push(after, Event::Wake { place, boot });
    }

    fn look_at_list(&mut self, place: usize) {
        let Some(contender) = &self.places[place].contender else { return };
        let (before, list) = (self.places[place].list, *contender.list());
        if list.version() > before.version() && contender.role() == Role::Active {
            self.count(match list.change() {
                Some(change) if list.seats().any(|seat| seat == change) => "list: a seat is being added",
                Some(_) => "list: a seat is being removed",
                None => "list: a change is settled",
            });
        }
        self.places[place].list = list;
    }

    fn heartbeat(&mut self, place: usize) {
        if place >= NODES || !self.rng.chance(MS * 5 * 1_000 / HEARTBEAT) {
            return;
        }
        let now = self.local(place);
        let Some(contender) = &self.places[place].contender else { return };
        let Some((epoch, _)) = contender.lease(now) else { return };
        let holder = contender.me();
        self.send(place, 1 - place, Message::Heartbeat { holder, epoch, is_active: true });
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if to == WITNESS && self.server.is_some() {
            return self.tell(from, message);
        }
        if from != to && (self.cut.contains(&(from, to)) || (self.is_hostile && self.rng.chance(50))) {
            return self.count("message lost");
        }
        let copies = 1 + usize::from(from != to && self.is_hostile && self.rng.chance(50));
        if copies > 1 {
            self.count("message doubled");
        }
        for _ in 0..copies {
            let after = match () {
                () if from == to => self.rng.below(MS),
                () if self.is_hostile && self.rng.chance(60) => {
                    self.count("message late");
                    self.rng.between(50 * MS, 1_500 * MS)
                }
                () => self.rng.between(MS / 10, 10 * MS),
            };
            self.push(after, Event::Deliver { to, message: message.clone() });
        }
    }

    fn deliver(&mut self, place: usize, message: Message) {
        let now = self.local(place);
        let mut by_voter = Vec::new();
        let mut out = Vec::new();
        let true_now = self.now;
        let this = &mut self.places[place];
        match message {
            Message::Ask(ask) => {
                if let Some(contender) = &mut this.contender {
                    contender.saw_epoch(ask.epoch);
                    contender.saw_list(&ask.list);
                }
                if let Some(voter) = &mut this.voter {
                    voter.handle_ask(now, ask, &mut by_voter);
                }
            }
            Message::Release(release) => {
                if let Some(voter) = &mut this.voter {
                    voter.handle_release(release, &mut by_voter);
                }
                this.released = this.released.max(release.epoch);
                if let Some(contender) = &mut this.contender {
                    contender.saw_epoch(release.epoch);
                }
                if this.peer.is_some_and(|(holder, _)| holder == release.holder) {
                    this.peer = None;
                    this.heard = 0;
                }
            }
            Message::Answer(answer) => {
                if let Some(contender) = &mut this.contender {
                    contender.handle_answer(now, &answer, &mut out);
                }
            }
            Message::Heartbeat { holder, epoch, is_active } => {
                if is_active {
                    this.heard = true_now;
                    this.peer = Some((holder, epoch));
                }
                if let Some(contender) = &mut this.contender {
                    contender.saw_epoch(epoch);
                }
            }
            Message::List(list) => {
                if let Some(contender) = &mut this.contender {
                    contender.saw_list(&list);
                }
            }
            Message::HandoverAsk(ask) => {
                if let Some(contender) = &mut this.contender {
                    contender.handle_handover_ask(now, ask, &mut out);
                }
            }
            Message::HandoverAnswer(answer) => {
                if let Some(contender) = &mut this.contender {
                    contender.handle_handover(now, &answer, &mut out);
                }
            }
        }
        self.carry_voter(place, by_voter);
        self.carry_contender(place, out);
    }

    fn fault(&mut self) {
        if !self.is_hostile {
            return;
        }
        // A disk that is being written to is where a crash hurts most.
        let writing = self.queue.values().find_map(|event| match event {
            Event::Kept { place, .. } => Some(*place),
            _ => None,
        });
        let any = self.rng.below(PLACES as u64) as usize;
        let place = writing.unwrap_or(any);
        if self.server.is_some() && self.rng.chance(300) {
            let count = self.rng.below(6);
            self.server_fault(count);
        }
        match self.rng.below(6) {
            0 => {
                self.count(if writing.is_some() { "crash while writing" } else { "crash" });
                let this = &mut self.places[place];
                this.is_up = false;
                this.voter = None;
                this.row = None;
                this.contender = None;
                this.frozen_until = 0;
                let after = if self.rng.chance(500) {
                    self.rng.between(MS, 50 * MS)
                } else {
                    self.rng.between(50 * MS, 3_000 * MS)
                };
                self.push(after, Event::Start(place));
            }
            1 => {
                self.count("freeze");
                self.places[place].frozen_until = self.now + self.rng.between(20 * MS, 1_500 * MS);
            }
            2 | 3 => {
                self.count("one-way cut");
                let other = (place + 1 + self.rng.below(2) as usize) % PLACES;
                self.cut.insert((place, other));
            }
            4 => {
                self.count("two-way cut");
                let other = (place + 1 + self.rng.below(2) as usize) % PLACES;
                self.cut.insert((place, other));
                self.cut.insert((other, place));
            }
            _ => {
                self.count("cables mended");
                self.cut.clear();
            }
        }
        let after = self.rng.between(20 * MS, 700 * MS);
        self.push(after, Event::Fault);
    }
}

fn seat(place: usize) -> Seat {
    Seat { member: MemberId(place as u8), voter: Some(VoterId(place as u64 + 1)) }
}
