//! Two guardians and a witness on hosts that are well, until a test does something to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::{Instant, Now, WallTime};
use cluster::guardian::{Engine, Input, Output, Settings, Start, Wish};
use cluster::peer::PathId;
use cluster::{
    Epoch, Guardian, HardwareAddress, Holder, Incarnation, LeasePlan, MemberId, Message, NodeId, Record,
    ServiceId, VoterId, Witness, WitnessOutput, WriteNumber,
};

const SERVICE: ServiceId = ServiceId(0);
const WITNESS: usize = 2;
const MS: u64 = 1_000_000;
/// Longer than a disk takes.
pub const ADMISSION_TAKES: Duration = Duration::from_millis(7);

enum Machine {
    Node(Box<Guardian>),
    Witness(Box<Witness>),
    Off,
}

enum Event {
    Deliver { from: usize, to: usize, message: Message },
    Kept { at: usize, boot: u64, write: WriteNumber, record: Record },
    GateClosed { at: usize, boot: u64 },
    Drained { at: usize, boot: u64 },
    Admitted { at: usize, boot: u64 },
}

pub struct Pair {
    pub now: Duration,
    machines: Vec<Machine>,
    boots: Vec<u64>,
    disks: Vec<Record>,
    known: Vec<BTreeMap<MemberId, VoterId>>,
    pub settings: Vec<Settings>,
    gates: Vec<(Epoch, Duration)>,
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    cut: BTreeSet<(usize, usize)>,
    pub said: Vec<(Duration, usize, Output)>,
    seed: u64,
    has_witness: bool,
    /// How long each disk takes for a write.
    pub disk_takes: [Duration; 3],
    /// By how much the calendar of each node is ahead.
    pub ahead: [Duration; 2],
}

/// Where a node lets in what is passed on to it.
pub fn hardware_address(at: usize) -> HardwareAddress {
    HardwareAddress([2, 0, 0, 0, 0, at as u8])
}

impl Pair {
    pub fn new(seed: u64, lease: Duration) -> Self {
        Self::with(seed, lease, true)
    }

    /// Two nodes and nobody else.
    pub fn without_witness(seed: u64, lease: Duration) -> Self {
        Self::with(seed, lease, false)
    }

    fn with(seed: u64, lease: Duration, has_witness: bool) -> Self {
        let settings = Settings { plan: LeasePlan { lease }, preferred: None, digest: 7 };
        let mut pair = Self {
            now: Duration::ZERO,
            machines: vec![Machine::Off, Machine::Off, Machine::Off],
            boots: vec![0; 3],
            disks: (1..=3).map(|voter| Record::first(VoterId(voter))).collect(),
            known: vec![BTreeMap::new(); 3],
            settings: vec![settings; 2],
            gates: vec![(Epoch(0), Duration::ZERO); 2],
            queue: BTreeMap::new(),
            number: 0,
            cut: BTreeSet::new(),
            said: Vec::new(),
            seed,
            has_witness,
            disk_takes: [Duration::from_millis(3); 3],
            ahead: [Duration::ZERO; 2],
        };
        for at in 0..2 + usize::from(has_witness) {
            pair.start(at);
        }
        pair
    }

    /// A pair in which somebody has become active, and who.
    pub fn settled(seed: u64, lease: Duration) -> (Self, usize) {
        let mut pair = Self::new(seed, lease);
        pair.run(Duration::from_secs(3));
        let active = pair.active().expect("somebody is active after three seconds");
        (pair, active)
    }

    pub fn start(&mut self, at: usize) {
        self.boots[at] += 1;
        let now = self.clock();
        if at == WITNESS {
            self.machines[at] = Machine::Witness(Box::new(Witness::new(
                now.instant,
                SERVICE,
                vec![NodeId(0), NodeId(1)],
                self.disks[at],
            )));
            return;
        }
        let me = Holder {
            node: NodeId(at as u8),
            incarnation: Incarnation(self.seed ^ (self.boots[at] << 8 | at as u64)),
        };
        let start = Start {
            service: SERVICE,
            me,
            nodes: vec![NodeId(0), NodeId(1)],
            has_witness: self.has_witness,
            known: self.known[at].clone(),
            record: self.disks[at],
            settings: self.settings[at].clone(),
        };
        let mut guardian = Guardian::new(now.instant, start);
        guardian.admits_at(hardware_address(at));
        self.machines[at] = Machine::Node(Box::new(guardian));
        self.gates[at].1 = Duration::ZERO;
        self.input(at, Input::Engine(Engine::Ready));
    }

    /// The host is gone at once; its gate lives on in nobody's kernel.
    pub fn kill(&mut self, at: usize) {
        self.machines[at] = Machine::Off;
        if at != WITNESS {
            self.gates[at].1 = Duration::ZERO;
        }
    }

    /// The host's disk was emptied, and its voter is another one.
    pub fn replace_voter(&mut self, at: usize, voter: u64) {
        self.disks[at] = Record::first(VoterId(voter));
    }

    pub fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one, other));
        self.cut.insert((other, one));
    }

    /// It hears nobody, and all hear it.
    pub fn deafen(&mut self, at: usize) {
        self.cut.extend((0..=WITNESS).filter(|from| *from != at).map(|from| (from, at)));
    }

    pub fn mend(&mut self) {
        self.cut.clear();
    }

    pub fn wish(&mut self, at: usize, wish: Wish) {
        self.input(at, Input::Wish(wish));
    }

    pub fn input(&mut self, at: usize, input: Input) {
        let now = self.clock_of(at);
        let mut out = Vec::new();
        if let Machine::Node(guardian) = &mut self.machines[at] {
            guardian.handle(now, input, &mut out);
        }
        self.carry(at, out);
    }

    /// A host's guardian, if the host is on.
    pub fn guardian(&self, at: usize) -> Option<&Guardian> {
        match &self.machines[at] {
            Machine::Node(guardian) => Some(guardian),
            Machine::Witness(_) | Machine::Off => None,
        }
    }

    /// Who is active: whose gate is open.
    pub fn active(&self) -> Option<usize> {
        let open: Vec<usize> = (0..2).filter(|at| self.gates[*at].1 > self.now).collect();
        assert!(open.len() < 2, "two gates are open at {:?}", self.now);
        open.first().copied()
    }

    pub fn clock(&self) -> Now {
        let now = self.now.as_nanos() as u64;
        Now::new(Instant::from_nanos(1_000 * MS + now), WallTime::from_millis(1_700_000_000_000 + now / MS))
    }

    fn clock_of(&self, at: usize) -> Now {
        let now = self.clock();
        let ahead = self.ahead.get(at).copied().unwrap_or_default().as_millis() as u64;
        Now::new(now.instant, WallTime::from_millis(now.wall.as_millis() + ahead))
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_while(end, |_| true);
        self.now = end;
    }

    /// Runs until `done`, at the most for `time`; gives how long it took.
    pub fn until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        self.run_while(start + time, |pair| !done(pair));
        done(self).then(|| self.now - start)
    }

    fn run_while(&mut self, end: Duration, go_on: impl Fn(&Self) -> bool) {
        while go_on(self) {
            let event = self.queue.keys().next().map(|(at, _)| Duration::from_nanos(*at));
            let due = (0..2).filter_map(|at| match &self.machines[at] {
                Machine::Node(guardian) => {
                    let due = guardian.poll_timeout().as_nanos().saturating_sub(1_000 * MS);
                    Some((Duration::from_nanos(due), at))
                }
                _ => None,
            });
            let due = due.min();
            let next = [event, due.map(|(at, _)| at)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { return };
            self.now = self.now.max(next);
            self.active();
            if event.is_some_and(|event| event <= next) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
            } else if let Some((_, at)) = due {
                let now = self.clock_of(at);
                let mut out = Vec::new();
                if let Machine::Node(guardian) = &mut self.machines[at] {
                    guardian.handle_timeout(now, &mut out);
                }
                self.carry(at, out);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, message } => {
                let now = self.clock_of(to);
                let from = MemberId(from as u8);
                match &mut self.machines[to] {
                    Machine::Node(guardian) => {
                        let mut out = Vec::new();
                        guardian.handle(now, Input::Message(from, PathId(0), message), &mut out);
                        self.carry(to, out);
                    }
                    Machine::Witness(witness) => {
                        let mut out = Vec::new();
                        witness.handle_message(now.instant, from, message, &mut out);
                        self.carry_witness(to, out);
                    }
                    Machine::Off => {}
                }
            }
            Event::Kept { at, boot, write, record } if self.boots[at] == boot => {
                self.disks[at] = record;
                let now = self.clock();
                match &mut self.machines[at] {
                    Machine::Node(_) => self.input(at, Input::Kept(write, true)),
                    Machine::Witness(witness) => {
                        let mut out = Vec::new();
                        witness.handle_kept(now.instant, write, true, &mut out);
                        self.carry_witness(at, out);
                    }
                    Machine::Off => {}
                }
            }
            Event::GateClosed { at, boot } if self.boots[at] == boot => self.input(at, Input::GateClosed),
            Event::Admitted { at, boot } if self.boots[at] == boot => self.input(at, Input::Admitted),
            Event::Drained { at, boot } if self.boots[at] == boot => self.input(at, Input::Drained),
            _ => {}
        }
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.number += 1;
        self.queue.insert(((self.now + after).as_nanos() as u64, self.number), event);
    }

    fn send(&mut self, from: usize, to: MemberId, message: Message) {
        let to = usize::from(to.0);
        if !self.cut.contains(&(from, to)) {
            self.push(Duration::from_micros(200), Event::Deliver { from, to, message });
        }
    }

    fn carry_witness(&mut self, at: usize, out: Vec<WitnessOutput>) {
        for output in out {
            match output {
                WitnessOutput::Send(to, message) => self.send(at, to, message),
                WitnessOutput::Keep(write, record) => self.keep(at, write, record),
                WitnessOutput::Alarm(_) => {}
            }
        }
    }

    fn keep(&mut self, at: usize, write: WriteNumber, record: Record) {
        let boot = self.boots[at];
        self.push(self.disk_takes[at], Event::Kept { at, boot, write, record });
    }

    fn carry(&mut self, at: usize, out: Vec<Output>) {
        let boot = self.boots[at];
        for output in out {
            match &output {
                Output::Send(to, message) => {
                    self.send(at, *to, *message);
                    continue;
                }
                Output::Keep(write, record) => self.keep(at, *write, *record),
                Output::Learn(member, voter) => {
                    self.known[at].insert(*member, *voter);
                }
                Output::OpenGate(epoch, until) => {
                    let until = Duration::from_nanos(until.as_nanos() - 1_000 * MS);
                    self.gates[at] = (*epoch, until);
                    self.active();
                    continue;
                }
                Output::CloseGate(_) => {
                    self.gates[at].1 = Duration::ZERO;
                    self.push(Duration::from_micros(100), Event::GateClosed { at, boot });
                }
                Output::Drain(_) => self.push(Duration::from_millis(2), Event::Drained { at, boot }),
                Output::Admit => self.push(ADMISSION_TAKES, Event::Admitted { at, boot }),
                Output::Lease(..) | Output::HoldAddresses => continue,
                _ => {}
            }
            self.said.push((self.now, at, output));
        }
    }
}
