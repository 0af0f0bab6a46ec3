//! The engines, and what goes between them and the phones: through switch, gate, socket and network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::cluster::guardian::{Engine as EngineIs, Input};
use bytes::Bytes;
use clock::Now;
use lease::Epoch;
use replica::{Cause, Origin};
use sip::Aor;

use super::{Event, Happening, Order, Way, Weather, World};
use crate::cast::{local_of, public_of};
use crate::node::{Node, Output, PeerOutput};
use crate::pair::fault::{self, Fault};
use crate::pair::host::Engine;
use crate::phone::{self, Answering, CallOrder, Fact, Role};
use crate::store::Condition;

/// How long the database takes for an account.
const LOOK_UP: Duration = Duration::from_millis(3);
/// An engine that is to come to its end does so after this time, whatever is left.
const DRAIN_MAX: Duration = Duration::from_millis(30);

impl World {
    /// An engine is started by its guardian.
    pub(super) fn begin_engine(&mut self, host: usize) {
        let after = self.rng.between(Duration::from_millis(30), Duration::from_millis(300));
        let boot = self.hosts[host].boot;
        self.later(after, Happening::StartEngine { host, boot });
    }

    pub(super) fn start_engine(&mut self, host: usize, boot: u64) {
        let now = self.clocks(host);
        let this = &mut self.hosts[host];
        if this.guardian.is_none() || this.boot != boot || this.engine.is_some() {
            return;
        }
        this.engine_boot += 1;
        this.engine_frozen = self.now;
        let number = this.engine_boot;
        let me = Origin { node: host as u8, incarnation: self.rng.next() };
        let seen = 2 * number as u32 + host as u32;
        let mut node = Node::start(now, Arc::clone(&self.settings), &self.root, seen);
        let restored = node.restore(now, this.store.bindings(), this.store.nonces());
        node.join(me, Epoch(0), &restored);
        node.set_lease(this.page);
        this.engine = Some(Engine {
            node,
            boot: number,
            acting: None,
            is_calling: false,
            rests_until: self.now,
            draining: None,
            early: Vec::new(),
            ended: None,
        });
        self.trace.add(self.now, format_args!("engine {host} starts with {} bindings", restored.len()), b"");
        self.found_on_disk(host);
        self.tell(host, Input::Engine(EngineIs::Ready));
        let order = Order::Look;
        self.later(Duration::from_micros(20), Happening::Order { host, boot: number, order });
        self.later(Duration::from_millis(1), Happening::Report { host, boot: number });
        self.later(Duration::from_millis(250), Happening::Look { host, boot: number });
    }

    /// An engine ends; its guardian sees it at once and starts another one.
    pub(super) fn end_engine(&mut self, host: usize) {
        self.lose_engine(host);
        self.tell(host, Input::Engine(EngineIs::Dead));
        self.begin_engine(host);
    }

    /// What is lost with an engine.
    pub(super) fn lose_engine(&mut self, host: usize) {
        if self.hosts[host].engine.is_none() {
            return;
        }
        self.trace.add(self.now, format_args!("engine {host} ends"), b"");
        self.disturb(Duration::from_millis(500));
        self.count_expired(host);
        self.hosts[host].engine = None;
        let now = self.clocks(host).instant;
        // The queue before the file is the engine's.
        self.hosts[host].store.kill(now);
        self.close_links_of(host);
        self.books.crash(host);
    }

    /// An order of the guardian arrives.
    pub(super) fn order(&mut self, host: usize, order: Order) {
        self.trace.add(self.now, format_args!("engine {host}: {order:?}"), b"");
        match order {
            Order::Look => self.with_engine(host, |node, now, out| node.look_at_lease(now, out)),
            Order::Drain(epoch) => {
                let until = self.now + DRAIN_MAX;
                if let Some(engine) = &mut self.hosts[host].engine {
                    engine.draining = Some((epoch, until));
                }
                self.drain(host);
            }
        }
    }

    /// Whether what was begun has come to its end, and to the peer.
    pub(super) fn drain(&mut self, host: usize) {
        let now = self.clocks(host);
        let Some(engine) = &mut self.hosts[host].engine else { return };
        let Some((epoch, until)) = engine.draining else { return };
        let is_done = engine.node.held_answers() == 0 && engine.node.lag(now) == 0;
        if !is_done && self.now < until {
            let boot = engine.boot;
            return self.later(Duration::from_millis(1), Happening::Drain { host, boot });
        }
        (engine.draining, engine.ended) = (None, Some(epoch));
        self.count(Event::Drained);
        self.with_engine(host, |node, now, out| node.look_at_lease(now, out));
        self.tell(host, Input::Drained);
    }

    /// Lets an engine act, in the role that the lease gives it.
    pub(super) fn with_engine(&mut self, host: usize, act: impl FnOnce(&mut Node, Now, &mut Vec<Output>)) {
        let mandate = self.hosts[host].mandate();
        let epoch = mandate.active(self.clocks(host).instant).map(|lease| lease.epoch());
        let Some(engine) = &mut self.hosts[host].engine else { return };
        let before = std::mem::replace(&mut engine.acting, epoch);
        match (before, epoch) {
            (None, Some(epoch)) => {
                self.takes_over(host);
                self.step_engine(host, |node, now, out| node.become_active(now, epoch, out));
            }
            (Some(before), Some(epoch)) if before != epoch && mandate.since() <= before => {
                self.count(Event::EpochRaised);
                self.step_engine(host, |node, now, out| node.raise(now, epoch, out));
            }
            // It has lost the lease and has it again, and has seen neither.
            (Some(before), Some(epoch)) if before != epoch => {
                self.step_engine(host, |node, now, out| node.become_active(now, epoch, out));
            }
            (Some(before), None) => {
                engine.draining = None;
                self.step_engine(host, |node, now, out| node.become_standby(now, before, out));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        self.step_engine(host, act);
        self.handle_early(host);
    }

    /// What came before the lease is handled when it is there.
    fn handle_early(&mut self, host: usize) {
        let Some(engine) = &mut self.hosts[host].engine else { return };
        if engine.acting.is_none() || engine.early.is_empty() {
            return;
        }
        for (from, local, bytes) in std::mem::take(&mut engine.early) {
            self.count(Event::Early);
            self.heard(host, from, local, &bytes);
            self.step_engine(host, |node, now, out| node.handle_datagram(now, local, from, &bytes, out));
        }
    }

    /// Lets an engine act, and looks whether a standby does what it must not.
    fn step_engine(&mut self, host: usize, act: impl FnOnce(&mut Node, Now, &mut Vec<Output>)) {
        let now = self.clocks(host);
        let mandate = self.hosts[host].mandate();
        let Some(engine) = &mut self.hosts[host].engine else { return };
        engine.node.set_lease(mandate);
        let (was_active, before) = (engine.node.is_active(now), engine.node.binding_count());
        let mut out = Vec::new();
        act(&mut engine.node, now, &mut out);
        let after = engine.node.binding_count();
        if !was_active {
            let withdrawn = out.iter().filter(|it| matches!(it, Output::Peer(PeerOutput::Withdrawn))).count();
            if after + withdrawn < before {
                let seen =
                    format!("node {host}: {before} bindings, then {after}, {withdrawn} by the active node");
                self.breach("a standby ends no binding by itself", seen);
            }
            if let Some(sent) = out.iter().find(|it| matches!(it, Output::Datagram { .. })) {
                self.breach("a standby sends nothing", format!("node {host}: {sent:?}"));
            }
        }
        self.carry_engine(host, out);
        self.call_if_wanted(host);
    }

    fn call_if_wanted(&mut self, host: usize) {
        let after = self.rng.between(Duration::from_micros(300), Duration::from_millis(2));
        let Some(engine) = &mut self.hosts[host].engine else { return };
        if engine.node.wants_connection() && !std::mem::replace(&mut engine.is_calling, true) {
            let boot = engine.boot;
            let at = engine.rests_until.max(self.now + after);
            self.at(at, Happening::Call { host, boot });
        }
    }

    fn carry_engine(&mut self, host: usize, out: Vec<Output>) {
        let Some(boot) = self.hosts[host].engine.as_ref().map(|engine| engine.boot) else { return };
        // What is worked out together leaves together: the process may be put aside before.
        let sends = out.iter().any(|output| matches!(output, Output::Datagram { .. }));
        let lag = match sends && self.weather.is_stormy() && self.rng.chance(15) {
            true => self.rng.between(Duration::from_millis(50), Duration::from_millis(900)),
            false => Duration::ZERO,
        };
        let way = if self.rng.chance(500) { Way::ToSocket } else { Way::ToGate };
        let mut settling: Option<Option<Cause>> = None;
        for output in out {
            match output {
                Output::Datagram { from, to, bytes } => {
                    self.produced(host, settling, &bytes);
                    match lag.is_zero() {
                        true => self.leave(host, boot, Way::ToSocket, (from, to), bytes),
                        false if way == Way::ToSocket => {
                            self.later(lag, Happening::Leave { host, boot, way, from, to, bytes });
                        }
                        // It is past the last look at the lease, and no further.
                        false if self.may_send(host) => {
                            self.later(lag, Happening::Leave { host, boot, way, from, to, bytes });
                        }
                        false => {}
                    }
                }
                Output::Load { partition, aor } => {
                    self.later(LOOK_UP, Happening::Account { host, boot, partition, aor });
                }
                Output::Save(change) => {
                    let now = self.clocks(host).instant;
                    self.hosts[host].store.save(now, change);
                }
                Output::Peer(PeerOutput::Settling(cause)) => settling = Some(cause),
                Output::Peer(PeerOutput::Settled) => settling = None,
                Output::Peer(output) => self.carry_peer(host, boot, output),
                // No phone of a pair has connections, and no name is looked up.
                Output::Open { .. }
                | Output::Write { .. }
                | Output::Close { .. }
                | Output::Resolve { .. } => {}
            }
        }
        if !lag.is_zero() {
            self.hosts[host].engine_frozen = self.now + lag;
            if self.rng.chance(500) {
                self.hosts[host].guardian_frozen = self.now + lag;
            }
            self.disturb(lag);
        }
    }

    fn carry_peer(&mut self, host: usize, boot: u64, output: PeerOutput) {
        match output {
            PeerOutput::Send(link, bytes) => {
                let bytes = self.lie(host, bytes);
                self.send_peer(host, link, bytes);
            }
            PeerOutput::Close(link, cause) => {
                self.trace.add(self.now, format_args!("engine {host} closes link {link}: {cause:?}"), b"");
                self.close_peer(host, link);
            }
            PeerOutput::Fetch(wanted) => {
                let after = match self.rng.chance(300) {
                    true => self.rng.between(Duration::ZERO, Duration::from_millis(5)),
                    false => Duration::from_micros(1),
                };
                self.later(after, Happening::Fetch { host, boot, wanted });
            }
            PeerOutput::Agreed => self.agreed(host),
            PeerOutput::Applied => self.count(Event::Applied),
            PeerOutput::Withdrawn => self.count(Event::Withdrawn),
            PeerOutput::Refused => self.breach("every entry finds room", format!("node {host}")),
            PeerOutput::Superseded(epoch) => {
                let seen = format!("node {host}: {epoch:?}");
                self.breach("who has the lease has the highest epoch", seen);
            }
            PeerOutput::TurnedAway => self.count(Event::TurnedAway),
            PeerOutput::Settling(_) | PeerOutput::Settled => {}
        }
    }

    /// The last look at the lease, by the clock of that moment.
    fn may_send(&self, host: usize) -> bool {
        self.hosts[host].mandate().active(self.clocks(host).instant).is_some()
    }

    /// A datagram goes on its way from socket and gate.
    pub(super) fn leave(
        &mut self,
        host: usize,
        boot: u64,
        way: Way,
        (from, to): (SocketAddr, SocketAddr),
        bytes: Bytes,
    ) {
        if way == Way::ToSocket && (!self.is_engine(host, boot) || !self.may_send(host)) {
            return self.count(Event::TooLateAtTheSocket);
        }
        if self.hosts[host].gate_until() <= self.now && !fault::is_planted(Fault::NoGate) {
            return self.count(Event::TooLateAtTheGate);
        }
        if self.hosts[1 - host].gate_until() > self.now {
            self.breach("two nodes never send from the virtual address", format!("node {host} to {to}"));
        }
        self.sent(host, from, to, &bytes);
        self.trace.add(self.now, format_args!("node {host} {} > {to}", public_of(from)), &bytes);
        if !self.lan_cut[host][1] {
            self.transmit(public_of(from), to, bytes.to_vec());
        }
    }

    fn transmit(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let mut arrivals = self.network.carry(self.now, from.ip(), to.ip(), &mut self.scratch);
        while let Some(at) = arrivals.pop() {
            self.at(at, Happening::Datagram { from, to, bytes: bytes.clone() });
        }
    }

    /// A datagram comes to an address of the world.
    pub(super) fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if let Some(local) = local_of(to) {
            let Some(host) = self.switch.filter(|host| !self.lan_cut[*host][0]) else { return };
            let Some(host) = self.passed_on(host) else { return };
            let admits = self.hosts[host].gate.admits && !fault::is_planted(Fault::NotAdmitted);
            if self.hosts[host].gate_until() <= self.now && !admits {
                self.lost_in_a_switchover(host, "at the gate", from, bytes);
                return self.count(Event::StoppedAtTheGate);
            }
            if let Some(engine) = &self.hosts[host].engine {
                let boot = engine.boot;
                let bytes = bytes.to_vec();
                self.later(Duration::ZERO, Happening::ToEngine { host, boot, from, local, bytes });
            }
        } else if let Some(number) = self.inside(to, from) {
            self.trace.add(self.now, format_args!("phone {number} < {from}"), b"");
            let mut out = Vec::new();
            self.phones[number].phone.handle_datagram(self.now, from, bytes, &mut out);
            self.carry_phone(number, out);
        }
    }

    /// At which node a datagram arrives that came to one.
    fn passed_on(&mut self, host: usize) -> Option<usize> {
        let this = &self.hosts[host];
        if !this.is_up || this.gate.passes_on.is_none() || fault::is_planted(Fault::NotPassedOn) {
            return Some(host);
        }
        let is_cut = self.lan_cut[host][1] || self.lan_cut[1 - host][0];
        self.count(Event::PassedOn);
        (!is_cut).then_some(1 - host)
    }

    /// A switchover that is wished while all is well loses no datagram.
    fn lost_in_a_switchover(&mut self, host: usize, place: &str, from: SocketAddr, bytes: &[u8]) {
        if self.weather == Weather::Planned {
            let what = String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned();
            self.breach(
                "a planned switchover loses nothing",
                format!("node {host}, {place}: {what} of {from}"),
            );
        }
    }

    pub(super) fn deliver_engine(
        &mut self,
        host: usize,
        boot: u64,
        from: SocketAddr,
        local: SocketAddr,
        bytes: &[u8],
    ) {
        // An engine that comes to its end begins nothing more.
        if !self.is_engine(host, boot) {
            return;
        }
        let is_active = self.hosts[host].mandate().active(self.clocks(host).instant).is_some();
        let admits = self.hosts[host].gate.admits;
        let Some(engine) = &mut self.hosts[host].engine else { return };
        if !is_active && admits && !fault::is_planted(Fault::EarlyForgotten) {
            return engine.early.push((from, local, bytes.to_vec()));
        }
        if !is_active || engine.draining.is_some() {
            self.lost_in_a_switchover(host, "in the engine", from, bytes);
            return;
        }
        self.trace.add(self.now, format_args!("{from} > node {host} {local}"), bytes);
        self.heard(host, from, local, bytes);
        self.with_engine(host, |node, now, out| node.handle_datagram(now, local, from, bytes, out));
    }

    pub(super) fn reply_account(&mut self, host: usize, partition: u16, aor: &Aor) {
        let store = &mut self.hosts[host].store;
        debug_assert_eq!(store.condition(), Condition::Up);
        let Some(loaded) = store.look_up(partition, aor) else { return };
        self.with_engine(host, |node, now, out| node.handle_account(now, partition, aor, loaded, out));
    }

    /// Which phone a datagram from `from` to this outside address reaches.
    fn inside(&mut self, to: SocketAddr, from: SocketAddr) -> Option<usize> {
        let inside = match self.nats.iter_mut().find(|nat| nat.outside() == to.ip()) {
            Some(nat) => nat.inbound(self.now, to.port(), from)?,
            None => to,
        };
        let is_there =
            |it: &super::Resident| it.phone.setup().local == inside && (inside == to) == it.nat.is_none();
        self.phones.iter().position(is_there)
    }

    pub(super) fn carry_phone(&mut self, number: usize, out: Vec<phone::Output>) {
        for output in out {
            match output {
                phone::Output::Datagram { to, bytes } => {
                    let inside = self.phones[number].phone.setup().local;
                    let from = match self.phones[number].nat {
                        Some(nat) => self.nats[nat].outbound(self.now, inside, to),
                        None => inside,
                    };
                    self.transmit(from, to, bytes);
                }
                phone::Output::Fact(fact) => self.fact(number, fact),
                // They all talk over UDP.
                phone::Output::Open { .. } | phone::Output::Write { .. } | phone::Output::Close { .. } => {}
            }
        }
    }

    pub(super) fn plan_register(&mut self, after: Duration, phone: usize) {
        self.later(after, Happening::Register(phone));
    }

    /// Phones register without need, leave, and call, so that there is always something under way.
    pub(super) fn busy(&mut self) {
        let after = self.rng.between(Duration::from_millis(100), Duration::from_millis(1_500));
        self.later(after, Happening::Busy);
        let number = self.rng.index(self.phones.len());
        match self.rng.below(10) {
            0 if number != super::cast::CALLER && !self.phones[number].is_still => self.unregister(number),
            1 | 2 => self.call(number),
            3 if number != super::cast::CALLER => self.lose_power(number),
            _ if self.phones[number].is_still => {}
            _ => self.register(number),
        }
    }

    pub(super) fn register(&mut self, number: usize) {
        let mut out = Vec::new();
        self.phones[number].phone.register(self.now, &mut out);
        self.carry_phone(number, out);
    }

    fn unregister(&mut self, number: usize) {
        let mut out = Vec::new();
        self.phones[number].phone.unregister(self.now, &mut out);
        self.carry_phone(number, out);
        let after = self.rng.between(Duration::from_secs(1), Duration::from_secs(8));
        self.plan_register(after, number);
    }

    /// A phone is switched off without a word, for longer than its binding lasts.
    fn lose_power(&mut self, number: usize) {
        let lasts = self.phones[number].phone.setup().expires;
        if lasts > Duration::from_secs(30) || !self.rng.chance(200) {
            return;
        }
        self.phones[number].phone.lose_power();
        let after = lasts + self.rng.between(Duration::from_secs(5), Duration::from_secs(15));
        self.plan_register(after, number);
    }

    /// Somebody is called, and rings if he is registered.
    fn call(&mut self, callee: usize) {
        let caller = super::cast::CALLER;
        if callee == caller {
            return;
        }
        self.called += 1;
        let number = self.called;
        let target = format!("sip:{}", self.phones[callee].phone.aor());
        let mut order = CallOrder::new(number, target);
        order.hang_up_after = Some(Duration::from_millis(500));
        let counts = self.must_ring(callee);
        let probe =
            super::Probe { callee, began: self.now, counts, rang: false, answered: None, is_up: false };
        self.probes.insert(number, probe);
        self.phones[callee].phone.prepare(number, Answering::PROMPT);
        let mut out = Vec::new();
        self.phones[caller].phone.call(self.now, order, &mut out);
        self.carry_phone(caller, out);
    }

    fn fact(&mut self, number: usize, fact: Fact) {
        self.trace.add(self.now, format_args!("phone {number}: {fact:?}"), b"");
        match fact {
            Fact::Unregistered => self.count(Event::Unregistered),
            Fact::RegisterRefused(status) => {
                let seen = format!("phone {number}: {status}");
                self.breach("a phone with the right password is not refused", seen);
            }
            Fact::Challenged { stale: false, had_credentials: true, method, .. } => {
                let seen = format!("{method} of phone {number}");
                self.breach("right credentials are not challenged again", seen);
            }
            Fact::RegisterTimedOut => self.unanswered(number),
            Fact::Ringing { call, .. } => self.rang(number, call),
            Fact::Answered { call } => {
                if let Some(probe) = self.probes.get_mut(&call) {
                    probe.answered.get_or_insert(self.now);
                }
            }
            Fact::Established { call, role: Role::Caller } => {
                if let Some(probe) = self.probes.get_mut(&call) {
                    probe.is_up = true;
                }
            }
            Fact::KeepaliveAnswered => self.kept_alive(number),
            Fact::Unexpected(seen) => self.breach("a phone sees only what a correct server does", seen),
            _ => {}
        }
    }
}
