//! A world of a pair: two hosts with a node each, a witness, phones, and all ways between them, in one thread, with virtual time.
//!
//! All that happens stands in one queue, by true time and then by the order in which it was caused. Each host has its own
//! clocks; machines see those alone, the world and its checkers see true time. What happens to a process that stands still
//! waits until it goes on; its kernel goes on by itself.

mod checks;
mod cluster;
mod faults;
mod link;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::cluster::{Message, Record, VoterId, Witness, WriteNumber};
use bytes::Bytes;
use clock::{Instant, Now};
use keys::RootKey;
use lease::Epoch;
use replica::Wanted;
use routing::Settings;
use sip::Aor;

use super::books::Books;
use super::cast;
use super::clock::HostClock;
use super::events::{Event, Events};
use super::host::Host;
use crate::nat::Nat;
use crate::network::{Conditions, Network};
use crate::phone::Phone;
use crate::rng::Rng;
use crate::store::Store;
use crate::trace::Trace;
use crate::watch::Violation;

pub(super) use faults::Weather;
use link::{Link, Step};

/// The two nodes come first.
pub(super) const NODES: usize = 2;
/// The witness's place among the members.
pub(super) const WITNESS: usize = 2;
/// A machine that wants to be woken more often at one instant will never stop.
const WAKES_MAX: u32 = 50_000;
/// A world that breaks one rule all the time is told so often.
const VIOLATIONS_MAX: usize = 10;

/// What a guardian orders its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The lease is another one than before.
    Look,
    /// This epoch is to end here.
    Drain(Epoch),
}

/// What a guardian has its kernel do.
#[derive(Clone, Copy, Debug)]
enum GateWrite {
    Open(Epoch, Instant),
    Close(Epoch),
}

/// How far a datagram of an engine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is to be written to the socket.
    ToSocket,
    /// It is in the kernel.
    ToGate,
}

/// What happens at a time. What is for a process of an earlier start is dropped.
#[derive(Debug)]
enum Happening {
    Message { from: usize, to: usize, message: Message },
    Kept { host: usize, boot: u64, write: WriteNumber, record: Record },
    Gate { host: usize, boot: u64, write: GateWrite },
    Input { host: usize, boot: u64, input: ::cluster::guardian::Input },
    Carry { host: usize, boot: u64, outputs: Vec<::cluster::guardian::Output> },
    Order { host: usize, boot: u64, order: Order },
    Drain { host: usize, boot: u64 },
    Report { host: usize, boot: u64 },
    Look { host: usize, boot: u64 },
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    ToEngine { host: usize, boot: u64, from: SocketAddr, local: SocketAddr, bytes: Vec<u8> },
    Leave { host: usize, boot: u64, way: Way, from: SocketAddr, to: SocketAddr, bytes: Bytes },
    Account { host: usize, boot: u64, partition: u16, aor: Aor },
    Fetch { host: usize, boot: u64, wanted: Vec<Wanted> },
    Call { host: usize, boot: u64 },
    Link { link: u64, step: Step },
    Announced(usize),
    Start(usize),
    StartGuardian { host: usize, boot: u64 },
    StartEngine { host: usize, boot: u64 },
    StartWitness,
    Fault,
    Busy,
    Register(usize),
    Crash(usize),
}

/// A phone and where it stands.
#[derive(Debug)]
struct Resident {
    phone: Phone,
    nat: Option<usize>,
    /// It does nothing but what it must.
    is_still: bool,
    /// When it last answered a keepalive.
    kept_alive: Option<Instant>,
}

/// The third voter.
#[derive(Debug)]
struct WitnessHost {
    clock: HostClock,
    machine: Option<Witness>,
    boot: u64,
    disk: Record,
    disk_free: Instant,
}

/// A call that must ring.
#[derive(Debug)]
struct Probe {
    callee: usize,
    began: Instant,
    /// Whether it is to be judged: nothing disturbs it.
    counts: bool,
    rang: bool,
    /// When the callee sent its 200.
    answered: Option<Instant>,
    /// The caller has the 200.
    is_up: bool,
}

/// A world.
#[derive(Debug)]
pub(super) struct World {
    now: Instant,
    sequence: u64,
    queue: BTreeMap<(Instant, u64), Happening>,
    at_this_instant: u32,
    is_over: bool,
    rng: Rng,
    settings: Arc<Settings>,
    root: RootKey,
    hosts: [Host; NODES],
    witness: WitnessHost,
    /// Ways between members on which nothing arrives.
    cut: BTreeSet<(usize, usize)>,
    links: BTreeMap<u64, Link>,
    linked: u64,
    link_slow: Duration,
    link_slow_until: Instant,
    lies: Option<faults::Lies>,
    /// Whom the neighbours' caches name for the virtual addresses.
    switch: Option<usize>,
    /// Per node: whether the phones' side is cut, towards it and from it.
    lan_cut: [[bool; 2]; NODES],
    network: Network,
    nats: Vec<Nat>,
    phones: Vec<Resident>,
    probes: BTreeMap<u32, Probe>,
    called: u32,
    nonces: BTreeMap<Bytes, (Instant, usize)>,
    used: BTreeSet<(Bytes, u32)>,
    aors: Vec<Aor>,
    /// The witness of which engine was active under which epoch.
    tenures: BTreeMap<Epoch, (usize, u64)>,
    weather: Weather,
    /// Nothing has a reason to be degraded from then on.
    quiet_from: Instant,
    books: Books,
    scratch: crate::events::Events,
    broken: Vec<Violation>,
    pub(super) events: Events,
    pub(super) trace: Trace,
}

impl World {
    /// A world at its beginning, in which everything is switched on.
    pub(super) fn new(seed: u64, shown: bool) -> Self {
        let mut rng = Rng::new(seed);
        let began = Instant::START + Duration::from_secs(1);
        let settings = cast::shared_settings();
        let root = RootKey::new(std::array::from_fn(|_| rng.next() as u8));
        let mut clocks = rng.branch("clocks");
        let olds = rng.pick(&[0, 40, 400]);
        let hosts = [0, 1].map(|number| {
            let clock = HostClock::new(&mut clocks);
            let mut store = Store::new();
            for (user, password) in crate::cast::accounts() {
                store.add_account(user, crate::cast::DOMAIN, &password);
            }
            let far = clock.now(began).wall + Duration::from_secs(1 << 20);
            for binding in cast::old_bindings(olds, far) {
                store.add_binding(binding);
            }
            Host::new(number, clock, store)
        });
        let mut cast = rng.branch("cast");
        let setups = cast::phones(&mut cast);
        let phones: Vec<Resident> = setups
            .into_iter()
            .map(|(setup, nat)| {
                let is_still = cast.chance(400);
                Resident { phone: Phone::new(setup), nat, is_still, kept_alive: None }
            })
            .collect();
        let aors = phones.iter().filter_map(|resident| Aor::parse(&resident.phone.aor())).collect();
        let mut world = Self {
            now: began,
            sequence: 0,
            queue: BTreeMap::new(),
            at_this_instant: 0,
            is_over: false,
            settings,
            root,
            hosts,
            witness: WitnessHost {
                clock: HostClock::new(&mut clocks),
                machine: None,
                boot: 0,
                disk: Record::first(VoterId(WITNESS as u64 + 1)),
                disk_free: began,
            },
            cut: BTreeSet::new(),
            links: BTreeMap::new(),
            linked: 0,
            link_slow: Duration::ZERO,
            link_slow_until: began,
            lies: None,
            switch: None,
            lan_cut: [[false; 2]; NODES],
            network: Network::new(rng.branch("network"), Conditions::GOOD),
            nats: cast::nats(&mut cast),
            phones,
            probes: BTreeMap::new(),
            called: 0,
            nonces: BTreeMap::new(),
            used: BTreeSet::new(),
            aors,
            tenures: BTreeMap::new(),
            weather: Weather::Calm,
            quiet_from: began,
            books: Books::default(),
            scratch: crate::events::Events::default(),
            broken: Vec::new(),
            events: Events::default(),
            trace: Trace::new(shown),
            rng,
        };
        world.disturb(faults::SETTLE);
        for host in 0..NODES {
            let after = world.rng.between(Duration::ZERO, Duration::from_millis(200));
            world.later(after, Happening::Start(host));
        }
        world.later(Duration::from_millis(1), Happening::StartWitness);
        for phone in 0..world.phones.len() {
            let after = world.rng.between(Duration::from_secs(3), Duration::from_secs(8));
            world.plan_register(after, phone);
        }
        world.later(Duration::from_secs(8), Happening::Busy);
        world
    }

    /// What was broken.
    pub(super) fn broken(&self) -> &[Violation] {
        &self.broken
    }

    /// Lets time pass, unless something is broken.
    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while !self.is_over && self.step(until) {}
        self.now = self.now.max(until);
    }

    fn step(&mut self, until: Instant) -> bool {
        let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
        let guardian = (0..NODES).filter_map(|host| Some((self.hosts[host].guardian_due()?, host))).min();
        let engine = (0..NODES).filter_map(|host| Some((self.hosts[host].engine_due()?, host))).min();
        let phones = self.phones.iter().enumerate();
        let phone =
            phones.filter_map(|(number, resident)| Some((resident.phone.poll_timeout()?, number))).min();
        let next = [queued, guardian.map(|it| it.0), engine.map(|it| it.0), phone.map(|it| it.0)];
        let Some(next) = next.into_iter().flatten().min().filter(|&next| next <= until) else { return false };
        self.move_to(next);
        if queued.is_some_and(|at| at <= self.now) {
            if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        } else if let Some((_, host)) = guardian.filter(|(at, _)| *at <= self.now) {
            self.with_guardian(host, |guardian, now, out| guardian.handle_timeout(now, out));
        } else if let Some((_, host)) = engine.filter(|(at, _)| *at <= self.now) {
            self.with_engine(host, |node, now, out| node.handle_timeout(now, out));
        } else if let Some((_, number)) = phone {
            let mut out = Vec::new();
            self.phones[number].phone.handle_timeout(self.now, &mut out);
            self.carry_phone(number, out);
        }
        true
    }

    fn move_to(&mut self, next: Instant) {
        if next > self.now {
            self.now = next;
            self.at_this_instant = 0;
        }
        self.at_this_instant += 1;
        if self.at_this_instant > WAKES_MAX {
            self.breach("every machine comes to rest", format!("{:?}", self.queue.first_key_value()));
            self.is_over = true;
        }
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(thaws) = self.waits(&happening) {
            return self.at(thaws, happening);
        }
        match happening {
            Happening::Message { from, to, message } => self.hear_member(from, to, message),
            Happening::Kept { host, boot, write, record } => self.kept(host, boot, write, record),
            Happening::Gate { host, boot, write } => self.write_gate(host, boot, write),
            Happening::Input { host, boot, input } => {
                if boot == self.hosts[host].boot {
                    self.input(host, input);
                }
            }
            Happening::Carry { host, boot, outputs } => {
                if boot == self.hosts[host].boot {
                    self.carry_guardian(host, outputs);
                }
            }
            Happening::Datagram { from, to, bytes } => self.deliver(from, to, &bytes),
            Happening::ToEngine { host, boot, from, local, bytes } => {
                self.deliver_engine(host, boot, from, local, &bytes);
            }
            Happening::Leave { host, boot, way, from, to, bytes } => {
                if way == Way::ToGate || self.is_engine(host, boot) {
                    self.leave(host, boot, way, (from, to), bytes);
                }
            }
            Happening::Announced(host) => self.announced(host),
            Happening::Link { link, step } => self.step_link(link, step),
            Happening::Start(host) => self.start_host(host),
            Happening::StartGuardian { host, boot } => self.start_guardian(host, boot),
            Happening::StartEngine { host, boot } => self.start_engine(host, boot),
            Happening::StartWitness => self.start_witness(),
            Happening::Fault => self.fault(),
            Happening::Busy => {
                self.judge_calls();
                self.busy();
            }
            Happening::Register(phone) => self.register(phone),
            Happening::Crash(host) => self.crash(host),
            Happening::Order { host, boot, .. }
            | Happening::Drain { host, boot }
            | Happening::Report { host, boot }
            | Happening::Look { host, boot }
            | Happening::Account { host, boot, .. }
            | Happening::Fetch { host, boot, .. }
            | Happening::Call { host, boot }
                if !self.is_engine(host, boot) => {}
            Happening::Order { host, order, .. } => self.order(host, order),
            Happening::Drain { host, .. } => self.drain(host),
            Happening::Report { host, boot } => self.report_ready(host, boot),
            Happening::Look { host, boot } => self.look_at_engine(host, boot),
            Happening::Account { host, partition, aor, .. } => self.reply_account(host, partition, &aor),
            Happening::Fetch { host, wanted, .. } => {
                let what = crate::node::FromPeer::Fetch(wanted);
                self.with_engine(host, |node, now, out| node.handle_peer(now, what, out));
            }
            Happening::Call { host, boot } => self.call_peer(host, boot),
        }
    }

    /// When a process goes on that stands still, if it is one that this happens to.
    fn waits(&self, happening: &Happening) -> Option<Instant> {
        let thaws = match happening {
            Happening::Message { to, .. } if *to < NODES => self.hosts[*to].guardian_frozen,
            Happening::Kept { host, .. } if *host < NODES => self.hosts[*host].guardian_frozen,
            // The kernel itself closes late; who waits for it hears of it by an input.
            Happening::Input { host, .. } | Happening::Carry { host, .. } => {
                self.hosts[*host].guardian_frozen
            }
            Happening::Order { host, .. }
            | Happening::Drain { host, .. }
            | Happening::Report { host, .. }
            | Happening::ToEngine { host, .. }
            | Happening::Leave { host, way: Way::ToSocket, .. }
            | Happening::Account { host, .. }
            | Happening::Fetch { host, .. }
            | Happening::Call { host, .. } => self.hosts[*host].engine_frozen,
            _ => return None,
        };
        (thaws > self.now).then_some(thaws)
    }

    fn is_engine(&self, host: usize, boot: u64) -> bool {
        self.hosts[host].engine.as_ref().is_some_and(|engine| engine.boot == boot)
    }

    fn clocks(&self, host: usize) -> Now {
        self.hosts[host].clock.now(self.now)
    }

    fn breach(&mut self, rule: &'static str, seen: String) {
        self.trace.add(self.now, format_args!("broken: {rule}: {seen}"), b"");
        if self.broken.len() < VIOLATIONS_MAX {
            self.broken.push(Violation { rule, at: self.now, seen });
        }
    }

    fn count(&mut self, event: Event) {
        self.events.add(event);
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.at(self.now + after, happening);
    }

    fn at(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }
}
