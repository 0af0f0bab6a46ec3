//! Guardians and the witness: what they say to each other, what they write, and what they have their kernels do.

use std::time::Duration;

use ::cluster::guardian::{Engine as EngineIs, Input, Output, Reason, Settings, Start};
use ::cluster::peer::PathId;
use ::cluster::{
    Cause, Guardian, HardwareAddress, Holder, Incarnation, LeasePlan, MemberId, Message, NodeId, Record,
    ServiceId, Witness, WitnessOutput, WriteNumber,
};
use clock::{Instant, Now};
use lease::LeaseMirror;

use super::{Event, GateWrite, Happening, NODES, Order, WITNESS, Weather, World};

const SERVICE: ServiceId = ServiceId(0);
const LEASE: Duration = Duration::from_millis(500);

impl World {
    /// A guardian begins; what its predecessor left in the kernel is cleaned first.
    pub(super) fn start_guardian(&mut self, host: usize, boot: u64) {
        let incarnation = Incarnation(self.rng.next());
        let now = self.clocks(host);
        let this = &mut self.hosts[host];
        if !this.is_up || this.boot != boot || this.guardian.is_some() {
            return;
        }
        this.guardian_frozen = self.now;
        this.gate.closed = this.gate.epoch;
        this.page = LeaseMirror::none();
        let start = Start {
            service: SERVICE,
            me: Holder { node: NodeId(host as u8), incarnation },
            nodes: vec![NodeId(0), NodeId(1)],
            has_witness: true,
            known: this.known.clone(),
            record: this.disk,
            settings: Settings { plan: LeasePlan { lease: LEASE }, preferred: None, digest: 7 },
        };
        (this.gate.admits, this.gate.passes_on) = (false, None);
        let mut guardian = Guardian::new(now.instant, start);
        guardian.admits_at(HardwareAddress([2, 0, 0, 0, 0, host as u8]));
        this.guardian = Some(Box::new(guardian));
        self.trace.add(self.now, format_args!("guardian {host} starts"), b"");
        self.begin_engine(host);
    }

    pub(super) fn start_witness(&mut self) {
        if self.witness.machine.is_some() {
            return;
        }
        self.trace.add(self.now, format_args!("the witness starts"), b"");
        let now = self.witness.clock.local(self.now);
        let nodes = vec![NodeId(0), NodeId(1)];
        self.witness.boot += 1;
        self.witness.machine = Some(Witness::new(now, SERVICE, nodes, self.witness.disk));
    }

    pub(super) fn input(&mut self, host: usize, input: Input) {
        self.with_guardian(host, |guardian, now, out| guardian.handle(now, input, out));
    }

    /// Something is said to a guardian by another thread or process.
    pub(super) fn tell(&mut self, host: usize, input: Input) {
        let boot = self.hosts[host].boot;
        self.later(Duration::from_micros(10), Happening::Input { host, boot, input });
    }

    pub(super) fn with_guardian(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Guardian, Now, &mut Vec<Output>),
    ) {
        let now = self.clocks(host);
        let Some(guardian) = &mut self.hosts[host].guardian else { return };
        let mut out = Vec::new();
        act(guardian, now, &mut out);
        // The process may be put aside after it has read its clock and before it acts.
        if self.weather.is_stormy() && !out.is_empty() && self.rng.chance(2) {
            let lag = self.rng.between(Duration::from_millis(100), Duration::from_millis(900));
            self.count(Event::GuardianFrozeBeforeActing);
            self.disturb(lag);
            let boot = self.hosts[host].boot;
            self.hosts[host].guardian_frozen = self.now + lag;
            return self.later(lag, Happening::Carry { host, boot, outputs: out });
        }
        self.carry_guardian(host, out);
    }

    pub(super) fn carry_guardian(&mut self, host: usize, out: Vec<Output>) {
        let boot = self.hosts[host].boot;
        for output in out {
            if !matches!(output, Output::Send(..) | Output::OpenGate(..) | Output::Lease(..)) {
                self.trace.add(self.now, format_args!("guardian {host}: {output:?}"), b"");
            }
            match output {
                Output::Send(to, message) => self.send_member(host, usize::from(to.0), message),
                Output::Keep(write, record) => self.keep(host, boot, write, record),
                Output::Learn(member, voter) => {
                    self.hosts[host].known.insert(member, voter);
                }
                Output::OpenGate(epoch, until) => {
                    self.write_gate(host, boot, GateWrite::Open(epoch, until));
                }
                Output::CloseGate(epoch) => {
                    let slow = if self.weather.is_stormy() && self.rng.chance(100) { 100 } else { 2 };
                    let after = self.rng.between(Duration::from_micros(50), Duration::from_millis(slow));
                    self.later(after, Happening::Gate { host, boot, write: GateWrite::Close(epoch) });
                }
                Output::HoldAddresses | Output::DropAddresses => {}
                Output::Admit => {
                    let gate = &mut self.hosts[host].gate;
                    (gate.admits, gate.passes_on) = (true, None);
                    let after = self.rng.between(Duration::from_micros(50), Duration::from_millis(1));
                    self.later(after, Happening::Input { host, boot, input: Input::Admitted });
                }
                Output::TurnAway => self.hosts[host].gate.admits = false,
                Output::Announce => {
                    let after = self.rng.between(Duration::from_micros(50), Duration::from_micros(500));
                    self.later(after, Happening::Announced(host));
                }
                Output::Lease(lease) => {
                    self.hosts[host].page = lease;
                    self.show_page(host);
                }
                Output::NoLease => {
                    self.hosts[host].page = LeaseMirror::none();
                    self.show_page(host);
                }
                Output::Drain(heir) => self.begin_drain(host, boot, heir),
                Output::BecameActive(_, reason) => {
                    self.disturb(super::faults::SETTLE);
                    self.count(match reason {
                        Reason::Start => Event::FirstActive,
                        Reason::PeerSilent | Reason::PeerReleased => Event::TookOver,
                        Reason::PeerIll | Reason::Switchover => Event::SwitchedOver,
                    });
                    self.send_order(host, Order::Look);
                }
                Output::BecameStandby(_, cause) => {
                    self.disturb(super::faults::SETTLE);
                    self.count(match cause {
                        Cause::Expired => Event::LeaseExpired,
                        Cause::GivenUp | Cause::HandedOver => Event::GaveUp,
                    });
                    self.send_order(host, Order::Look);
                }
                Output::Switched(Err(_)) => self.count(Event::SwitchoverRefused),
                Output::MayEnd => self.may_end(host),
                Output::Switched(Ok(())) | Output::ListChanged(_) | Output::Alarm(_) => {}
            }
        }
    }

    /// What comes from here on goes to the heir, and the engine comes to its end.
    fn begin_drain(&mut self, host: usize, boot: u64, heir: Option<HardwareAddress>) {
        let gate = &mut self.hosts[host].gate;
        gate.passes_on = heir.map(|_| gate.epoch);
        let now = self.clocks(host).instant;
        let lease = self.hosts[host].guardian.as_ref().and_then(|guardian| guardian.lease(now));
        match lease {
            Some((epoch, _)) if self.hosts[host].engine.is_some() => {
                self.send_order(host, Order::Drain(epoch));
            }
            _ => {
                let input = Input::Drained;
                self.later(Duration::from_micros(10), Happening::Input { host, boot, input });
            }
        }
    }

    fn send_order(&mut self, host: usize, order: Order) {
        let slow = if self.weather.is_stormy() && self.rng.chance(50) { 40_000 } else { 1_000 };
        let after = self.rng.between(Duration::from_micros(20), Duration::from_micros(slow));
        let Some(boot) = self.hosts[host].engine.as_ref().map(|engine| engine.boot) else { return };
        // Orders keep their order: they go through one socket.
        let last = self.queue.iter().rev().find_map(|((at, _), happening)| match happening {
            Happening::Order { host: of, boot: start, .. } if (*of, *start) == (host, boot) => Some(*at),
            _ => None,
        });
        self.at((self.now + after).max(last.unwrap_or(self.now)), Happening::Order { host, boot, order });
    }

    /// The engine reads the page whenever it acts.
    fn show_page(&mut self, host: usize) {
        let mandate = self.hosts[host].mandate();
        if let Some(engine) = &mut self.hosts[host].engine {
            engine.node.set_lease(mandate);
        }
    }

    fn send_member(&mut self, from: usize, to: usize, message: Message) {
        let is_stormy = self.weather.is_stormy();
        if self.cut.contains(&(from, to)) || (is_stormy && self.rng.chance(30)) {
            return self.count(Event::MessageLost);
        }
        let copies = if is_stormy && self.rng.chance(30) { 2 } else { 1 };
        if copies > 1 {
            self.count(Event::MessageDoubled);
        }
        for _ in 0..copies {
            let after = match is_stormy && self.rng.chance(30) {
                true => {
                    self.count(Event::MessageLate);
                    self.rng.between(Duration::from_millis(20), Duration::from_millis(1_500))
                }
                false => self.rng.between(Duration::from_micros(50), Duration::from_micros(900)),
            };
            self.later(after, Happening::Message { from, to, message });
        }
    }

    pub(super) fn hear_member(&mut self, from: usize, to: usize, message: Message) {
        let from = MemberId(from as u8);
        if to < NODES {
            return self.input(to, Input::Message(from, PathId(0), message));
        }
        let now = self.witness.clock.local(self.now);
        let mut out = Vec::new();
        if let Some(witness) = &mut self.witness.machine {
            witness.handle_message(now, from, message, &mut out);
        }
        self.carry_witness(out);
    }

    fn carry_witness(&mut self, out: Vec<WitnessOutput>) {
        for output in out {
            match output {
                WitnessOutput::Send(to, message) => self.send_member(WITNESS, usize::from(to.0), message),
                WitnessOutput::Keep(write, record) => self.keep(WITNESS, self.witness.boot, write, record),
                WitnessOutput::Alarm(_) => {}
            }
        }
    }

    /// Writes are done in order.
    fn keep(&mut self, host: usize, boot: u64, write: WriteNumber, record: Record) {
        let slow = if self.weather.is_stormy() && self.rng.chance(100) { 60 } else { 3 };
        let after = self.rng.between(Duration::from_micros(200), Duration::from_millis(slow));
        let free = if host < NODES { &mut self.hosts[host].disk_free } else { &mut self.witness.disk_free };
        *free = (self.now + after).max(*free);
        let at = *free;
        if host < NODES {
            self.hosts[host].writes_under_way += 1;
            // A disk that is being written to is where a crash hurts most.
            if self.weather.is_stormy() && self.rng.chance(30) {
                self.later(after / 2, Happening::Crash(host));
            }
        }
        self.at(at, Happening::Kept { host, boot, write, record });
    }

    pub(super) fn kept(&mut self, host: usize, boot: u64, write: WriteNumber, record: Record) {
        if host < NODES {
            if self.hosts[host].boot == boot && self.hosts[host].guardian.is_some() {
                self.hosts[host].writes_under_way -= 1;
                self.hosts[host].disk = record;
                self.input(host, Input::Kept(write, true));
            }
            return;
        }
        if self.witness.boot != boot {
            return;
        }
        let now = self.witness.clock.local(self.now);
        let mut out = Vec::new();
        if let Some(witness) = &mut self.witness.machine {
            self.witness.disk = record;
            witness.handle_kept(now, write, true, &mut out);
        }
        self.carry_witness(out);
    }

    /// The kernel has another deadline, or none.
    pub(super) fn write_gate(&mut self, host: usize, boot: u64, write: GateWrite) {
        if !self.hosts[host].is_up || self.hosts[host].boot != boot {
            return;
        }
        match write {
            GateWrite::Open(epoch, until) => {
                let until = self.hosts[host].clock.true_at(until);
                let gate = &mut self.hosts[host].gate;
                (gate.epoch, gate.until, gate.admits) = (epoch.0, until, false);
                gate.passes_on = gate.passes_on.filter(|passing| *passing >= epoch.0);
                let tenure = (host, boot);
                if *self.tenures.entry(epoch).or_insert(tenure) != tenure {
                    self.breach("an epoch has one holder", format!("{epoch:?} has two"));
                }
                self.check_gates();
            }
            GateWrite::Close(epoch) => {
                let gate = &mut self.hosts[host].gate;
                gate.closed = gate.closed.max(epoch.0);
                let input = Input::GateClosed;
                self.later(Duration::from_micros(1), Happening::Input { host, boot, input });
            }
        }
    }

    /// No moment is in both gates' time.
    fn check_gates(&mut self) {
        let both = self.hosts[0].gate_until().min(self.hosts[1].gate_until());
        if both > self.now {
            let seen = format!("until {both}: {:?} and {:?}", self.hosts[0].gate, self.hosts[1].gate);
            self.breach("two nodes never have the virtual address", seen);
        }
    }

    /// The node whose gate is open.
    pub(super) fn active(&self) -> Option<usize> {
        (0..NODES).find(|host| self.hosts[*host].gate_until() > self.now)
    }

    /// The neighbours learn where the virtual addresses are, if the announcement passes the gate and the cable.
    pub(super) fn announced(&mut self, host: usize) {
        if self.hosts[host].gate_until() > self.now && !self.lan_cut[host][1] {
            self.switch = Some(host);
        }
    }

    /// The engine says how much it has.
    pub(super) fn report_ready(&mut self, host: usize, boot: u64) {
        let now = self.clocks(host);
        let Some(engine) = &self.hosts[host].engine else { return };
        let ready = if engine.node.is_sending() { 100 } else { engine.node.ready(now) };
        self.tell(host, Input::Ready(ready));
        self.later(Duration::from_millis(100), Happening::Report { host, boot });
    }

    /// The guardian's watch over its engine: one that does not move is ended.
    pub(super) fn look_at_engine(&mut self, host: usize, boot: u64) {
        let this = &self.hosts[host];
        if this.guardian_frozen <= self.now && this.engine_frozen > self.now + Duration::from_millis(250) {
            self.count(Event::EngineHung);
            self.tell(host, Input::Engine(EngineIs::Hung));
            return self.end_engine(host);
        }
        self.later(Duration::from_millis(250), Happening::Look { host, boot });
    }

    /// A node that was told to stop has given everything back.
    fn may_end(&mut self, host: usize) {
        self.count(Event::HostStopped);
        let now = self.clocks(host);
        if let Some(engine) = &self.hosts[host].engine {
            let nonces = engine.node.nonces(now);
            self.hosts[host].store.flush(nonces);
        }
        self.end_host(host);
        let after = match self.weather {
            Weather::Calm => Duration::from_millis(300),
            _ => self.rng.between(Duration::from_millis(100), Duration::from_secs(3)),
        };
        self.later(after, Happening::Start(host));
    }

    pub(super) fn disturb(&mut self, lasts: Duration) {
        self.quiet_from = self.quiet_from.max(self.now + lasts + super::faults::SETTLE);
    }

    /// Since when nothing disturbs.
    pub(super) fn is_quiet(&self) -> bool {
        self.now >= self.quiet_from && self.weather == Weather::Calm
    }
}

impl super::Host {
    /// Until when the gate is open, if the host is there at all.
    pub(super) fn gate_until(&self) -> Instant {
        if self.is_up { self.gate.open_until() } else { Instant::START }
    }
}
