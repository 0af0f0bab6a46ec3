//! What goes wrong: storms of everything at once, lies of a peer, and switchovers that somebody wanted.

use std::time::Duration;

use ::cluster::Epoch;
use ::cluster::guardian::{Input, Wish};
use bytes::Bytes;
use clock::Instant;
use lease::LeaseMirror;
use replica::Origin;

use super::{Event, Happening, NODES, WITNESS, World};
use crate::network::Conditions;
use crate::node::FromPeer;
use crate::pair::cast;
use crate::pair::liar::{self, Lie};

/// How long nodes may take to find each other and to become equal when something has disturbed them: the longest silence
/// that ends a connection, and a few comparisons.
pub(super) const SETTLE: Duration = Duration::from_secs(10);
/// A peer that never agrees is given longer and longer rests.
const REST_MAX: Duration = Duration::from_secs(66);
/// Connections that no engine has made.
const STRANGE_LINK: u64 = 1 << 60;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pair) enum Weather {
    /// Nothing goes wrong.
    Calm,
    /// Everything does.
    Storm,
    /// Somebody wants switchovers, and all else is well.
    Planned,
    /// One node lies.
    Lies,
}

impl Weather {
    pub(super) fn is_stormy(self) -> bool {
        self == Self::Storm
    }
}

/// Who lies, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lies {
    host: usize,
    kind: Lie,
    /// What was held meanwhile may not be: no one can know.
    until: Instant,
}

impl World {
    /// Something is going on from here on.
    pub(in crate::pair) fn set_weather(&mut self, weather: Weather) {
        self.trace.add(self.now, format_args!("weather: {weather:?}"), b"");
        self.weather = weather;
        let bad = self.rng.chance(500);
        match weather {
            Weather::Calm => self.heal(),
            Weather::Storm if bad => self.network.set_conditions(Conditions::BAD),
            Weather::Lies => {
                self.lies = Some(Lies {
                    host: self.rng.index(NODES),
                    kind: self.rng.pick(&[Lie::Garbage, Lie::Acknowledgement, Lie::Verdict]),
                    until: self.now + Duration::from_secs(3_600),
                });
            }
            Weather::Storm | Weather::Planned => {}
        }
        if weather != Weather::Calm {
            let after = self.rng.between(Duration::from_millis(10), Duration::from_millis(500));
            self.later(after, Happening::Fault);
        }
    }

    /// How long it takes from a calm on until everything must be as it should.
    pub(in crate::pair) fn calm_after(&self) -> Duration {
        let lies = self.lies.map_or(Duration::ZERO, |_| REST_MAX);
        Duration::from_secs(30) + lies
    }

    fn heal(&mut self) {
        self.cut.clear();
        self.lan_cut = [[false; 2]; NODES];
        self.network.set_conditions(Conditions::GOOD);
        (self.link_slow, self.link_slow_until) = (Duration::ZERO, self.now);
        self.stall_links(Duration::ZERO);
        for host in 0..NODES {
            let this = &mut self.hosts[host];
            this.guardian_frozen = this.guardian_frozen.min(self.now);
            this.engine_frozen = this.engine_frozen.min(self.now);
            self.tell(host, Input::Wish(Wish::Return));
            self.later(Duration::from_millis(1), Happening::Start(host));
        }
        self.later(Duration::from_millis(1), Happening::StartWitness);
        if let Some(lies) = self.lies.take() {
            self.disturb(REST_MAX);
            self.trace.add(self.now, format_args!("node {} lies no more", lies.host), b"");
        }
        self.disturb(SETTLE);
    }

    pub(super) fn is_lying(&self) -> bool {
        self.lies.is_some_and(|lies| self.now < lies.until)
    }

    /// What leaves an engine's host, which may be another thing than what the engine has said.
    pub(super) fn lie(&mut self, host: usize, bytes: Bytes) -> Bytes {
        let Some(lies) = self.lies.filter(|lies| lies.host == host) else { return bytes };
        if !self.rng.chance(if lies.kind == Lie::Garbage { 200 } else { 800 }) {
            return bytes;
        }
        let Some(lie) = liar::lie(lies.kind, &bytes) else { return bytes };
        self.count(match lies.kind {
            Lie::Garbage => Event::LiedGarbage,
            Lie::Acknowledgement => Event::LiedAcknowledgement,
            Lie::Verdict => Event::LiedVerdict,
        });
        lie
    }

    /// The next fault of this weather.
    pub(super) fn fault(&mut self) {
        let host = self.rng.index(NODES);
        match self.weather {
            Weather::Calm => return,
            Weather::Planned => self.wish(host, Wish::Switchover { force: false }),
            Weather::Lies => self.speak_under_a_lower_epoch(host),
            Weather::Storm => self.storm(host),
        }
        let most = if self.weather.is_stormy() { 1_200 } else { 4_000 };
        let after = self.rng.between(Duration::from_millis(20), Duration::from_millis(most));
        self.later(after, Happening::Fault);
    }

    fn storm(&mut self, host: usize) {
        match self.rng.below(20) {
            0 | 1 => self.crash(host),
            2 => self.freeze(host, Event::HostFroze),
            3 => self.freeze(host, Event::GuardianFroze),
            4 => self.freeze(host, Event::EngineFroze),
            5 => self.kill_guardian(host),
            6 | 7 => self.kill_engine(host),
            8 => self.kill_witness(),
            9 => self.cut_one_way(),
            10 => self.cut_two_ways(),
            11 => self.cut_lan(host),
            12 | 13 => self.break_link(),
            14 => self.stall_link(),
            15 => self.slow_link(),
            16 => self.wish(host, Wish::Switchover { force: host == 0 }),
            17 => self.wish(host, Wish::Stop),
            _ => self.mend(),
        }
    }

    fn wish(&mut self, host: usize, wish: Wish) {
        if self.hosts[host].guardian.is_some() {
            self.disturb(SETTLE);
            self.tell(host, Input::Wish(wish));
        }
    }

    pub(super) fn start_host(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        if this.is_up {
            return;
        }
        this.is_up = true;
        this.boot += 1;
        let boot = this.boot;
        self.start_guardian(host, boot);
    }

    /// Everything of a host is gone, and its kernel with the gate.
    pub(super) fn end_host(&mut self, host: usize) {
        self.lose_engine(host);
        self.disturb(SETTLE);
        let now = self.now;
        let this = &mut self.hosts[host];
        this.guardian = None;
        this.is_up = false;
        this.page = LeaseMirror::none();
        (this.guardian_frozen, this.engine_frozen) = (now, now);
        (this.disk_free, this.writes_under_way) = (now, 0);
        this.gate.until = now;
    }

    pub(super) fn crash(&mut self, host: usize) {
        if !self.hosts[host].is_up || !self.weather.is_stormy() {
            return;
        }
        let is_writing = self.hosts[host].writes_under_way > 0;
        self.count(if is_writing { Event::CrashedWhileWriting } else { Event::HostCrashed });
        self.trace.add(self.now, format_args!("host {host} crashes"), b"");
        self.end_host(host);
        let after = match self.rng.chance(400) {
            true => self.rng.between(Duration::from_millis(5), Duration::from_millis(100)),
            false => self.rng.between(Duration::from_millis(100), Duration::from_secs(6)),
        };
        self.later(after, Happening::Start(host));
    }

    fn freeze(&mut self, host: usize, what: Event) {
        let most = if self.rng.chance(500) { 300 } else { 2_000 };
        let time = self.rng.between(Duration::from_millis(20), Duration::from_millis(most));
        self.trace.add(self.now, format_args!("{} {host} for {time:?}", what.name()), b"");
        let until = self.now + time;
        let this = &mut self.hosts[host];
        if what != Event::EngineFroze {
            this.guardian_frozen = this.guardian_frozen.max(until);
        }
        if what != Event::GuardianFroze {
            this.engine_frozen = this.engine_frozen.max(until);
        }
        self.disturb(time);
        self.count(what);
    }

    /// The engine dies with its guardian; the gate stays as it is, up to its deadline.
    fn kill_guardian(&mut self, host: usize) {
        if self.hosts[host].guardian.take().is_none() {
            return;
        }
        self.count(Event::GuardianKilled);
        self.trace.add(self.now, format_args!("guardian {host} is killed"), b"");
        self.lose_engine(host);
        let this = &mut self.hosts[host];
        this.boot += 1;
        (this.disk_free, this.writes_under_way) = (self.now, 0);
        let boot = this.boot;
        let after = self.rng.between(Duration::from_millis(20), Duration::from_millis(1_500));
        self.later(after, Happening::StartGuardian { host, boot });
    }

    fn kill_engine(&mut self, host: usize) {
        if self.hosts[host].engine.is_some() {
            self.count(Event::EngineKilled);
            self.end_engine(host);
        }
    }

    fn kill_witness(&mut self) {
        if self.witness.machine.take().is_some() {
            self.count(Event::WitnessKilled);
            self.witness.disk_free = self.now;
            let after = self.rng.between(Duration::from_millis(20), Duration::from_secs(4));
            self.later(after, Happening::StartWitness);
        }
    }

    fn cut_one_way(&mut self) {
        let (from, to) = self.pair_of_members();
        self.count(Event::OneWayCut);
        self.cut.insert((from, to));
        self.disturb(SETTLE);
    }

    fn cut_two_ways(&mut self) {
        let (one, other) = self.pair_of_members();
        self.count(Event::TwoWayCut);
        self.cut.extend([(one, other), (other, one)]);
        self.disturb(SETTLE);
    }

    fn pair_of_members(&mut self) -> (usize, usize) {
        let one = self.rng.index(WITNESS + 1);
        (one, (one + 1 + self.rng.index(WITNESS)) % (WITNESS + 1))
    }

    fn cut_lan(&mut self, host: usize) {
        self.count(Event::LanCut);
        let both = self.rng.chance(500);
        let way = self.rng.index(2);
        self.lan_cut[host][way] = true;
        self.lan_cut[host][1 - way] |= both;
    }

    fn break_link(&mut self) {
        let in_sync = (0..NODES).any(|host| {
            let now = self.clocks(host);
            let engine = self.hosts[host].engine.as_ref().filter(|engine| engine.node.is_sending());
            engine.is_some_and(|engine| (1..99).contains(&engine.node.ready(now)))
        });
        if self.break_links() {
            self.count(Event::LinkBroken);
            if in_sync {
                self.count(Event::LinkBrokenInSync);
            }
            self.disturb(SETTLE);
        }
    }

    fn stall_link(&mut self) {
        let most = if self.rng.chance(300) { 7_000 } else { 300 };
        let time = self.rng.between(Duration::from_millis(5), Duration::from_millis(most));
        self.count(Event::LinkStalled);
        self.stall_links(time);
        self.disturb(time);
    }

    fn slow_link(&mut self) {
        let time = self.rng.between(Duration::from_millis(500), Duration::from_secs(4));
        self.count(Event::LinkSlow);
        self.link_slow = self.rng.between(Duration::from_millis(1), Duration::from_millis(80));
        self.link_slow_until = self.now + time;
        self.disturb(time);
    }

    fn mend(&mut self) {
        self.cut.clear();
        self.lan_cut = [[false; 2]; NODES];
    }

    /// A node that does not know that its time is over, or pretends so, calls the other one.
    fn speak_under_a_lower_epoch(&mut self, host: usize) {
        let now = self.clocks(host);
        let epoch = match self.active() {
            Some(active) if self.hosts[active].gate.epoch > 1 => self.hosts[active].gate.epoch,
            _ => return,
        };
        let liar = Origin { node: 1 - host as u8, incarnation: self.rng.next() };
        let binding = cast::old_bindings(1, now.wall + Duration::from_secs(60));
        let words = liar::usurp(now, liar, Epoch(epoch - 1), &binding);
        self.linked += 1;
        let link = STRANGE_LINK + self.linked;
        self.count(Event::LiedEpoch);
        let before = self.hosts[host].engine.as_ref().map(|engine| engine.node.digests());
        for bytes in words {
            let what = FromPeer::Bytes(link, bytes);
            self.with_engine(host, |node, now, out| node.handle_peer(now, what, out));
        }
        let after = self.hosts[host].engine.as_ref().map(|engine| engine.node.digests());
        if before != after {
            self.breach("who speaks under a lower epoch changes nothing", format!("node {host}"));
        }
    }
}
