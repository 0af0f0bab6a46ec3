//! The world of one talk: what happens when, in virtual time and in one thread.
//!
//! Signalling is never lost here: what phones say reaches the node after a while, and is said again while no node is there.
//! Nor are packets of media: what is not heard was lost by a router, by the relay, or by a node that died.

mod signalling;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use media::offer_answer::{Branch, Kind, Method, Side, Tag, Within};

use super::events::{Event, Events};
use super::node::{Node, PORTS, Passed, SERVICE, SILENCE};
use super::phone::{self, Direction, Phone, Said};
use crate::nat::{Dependence, Nat, Refresh};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::watch::Violation;
use signalling::Signal;

/// The time in a packet.
const EVERY: Duration = Duration::from_millis(40);
const REPORT_EVERY: Duration = Duration::from_secs(5);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A packet is under way for so long on each of its two ways.
const TRANSIT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));
/// After the signalling or a takeover: two packets and their ways.
const SETTLED_AFTER: Duration = Duration::from_millis(250);
/// The same where a phone is somebody else for all that can be seen: its old place must have been quiet for a second.
const SETTLED_LATE_AFTER: Duration = Duration::from_millis(1_400);
/// What is owed is heard within this time.
const OWED_FOR: Duration = Duration::from_millis(200);
/// The other node is told of a latch within this time.
const TOLD_AFTER_MAX: Duration = Duration::from_millis(50);
/// From the death of a node until the other one is active.
const TAKEOVER: Duration = Duration::from_millis(450);
const SAY_AGAIN: Duration = Duration::from_millis(500);
/// The relay's windows.
const WINDOW: Duration = Duration::from_secs(30);
/// RFC 3261 §13.2.2.4: a 2xx may be repeated for so long.
const BRANCH_LASTS: Duration = Duration::from_secs(32);
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));
const BRANCH: Branch = Branch(1);
const TAG: Tag = Tag(2);
/// Nothing in a talk takes longer.
const LONGEST: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
enum Happening {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A message comes to the node.
    Signal(Signal),
    /// The node has passed it on.
    Delivered(Signal),
    /// The callee answers the INVITE, or first says what it will answer.
    Answer {
        is_early: bool,
    },
    Speak(usize),
    Report(usize),
    Stranger,
    Sweep,
    /// The next act of the script.
    Act,
    /// A phone that was on hold comes back.
    Resume(usize),
    /// A phone finds out that its router is another one.
    Notice(usize),
    Told(u64, Bytes),
    Kill,
    TakenOver,
    BranchEnded,
    End,
}

/// The world.
#[derive(Debug)]
pub(super) struct World {
    now: Instant,
    sequence: u64,
    queue: BTreeMap<(Instant, u64), Happening>,
    rng: Rng,
    nats: Vec<Nat>,
    kinds: Vec<(Dependence, Dependence)>,
    nat_timeout: Duration,
    phones: [Phone; 2],
    node: Option<Node>,
    /// What the other node knows, and how new that is.
    told: (u64, Bytes),
    version: u64,
    latch_untold: bool,
    cseq: u32,
    is_in_exchange: bool,
    is_answered: bool,
    is_over: bool,
    /// A router has forgotten, and nobody has said so yet.
    is_path_broken: bool,
    held_since: [Option<Instant>; 2],
    settled_at: Instant,
    taken_over_at: Instant,
    window_until: Instant,
    acts_left: u32,
    ends_silently: bool,
    owed: BTreeMap<(usize, u32, u16), Instant>,
    seen_at: [Option<SocketAddr>; 2],
    pub(super) events: Events,
    pub(super) trace: Trace,
    pub(super) broken: Vec<Violation>,
}

impl World {
    pub(super) fn new(seed: u64, shown: bool) -> Self {
        let mut rng = Rng::new(seed);
        let is_one_router = rng.chance(150);
        let nat_timeout = rng.pick(&[30, 60, 120].map(Duration::from_secs));
        let (mut nats, mut kinds) = (Vec::new(), Vec::new());
        for number in 0..2_u8 {
            let kind = (rng.pick(&Dependence::ALL), rng.pick(&Dependence::ALL));
            let refresh = rng.pick(&[Refresh::FromInside, Refresh::FromBothSides]);
            nats.push(Nat::new(ip(198, 51, 100, 10 + number), kind, refresh, nat_timeout));
            kinds.push(kind);
        }
        let mut phone = |side, number: u8| {
            let is_open = !is_one_router && rng.chance(150);
            let nat = (!is_open).then_some(if is_one_router { 0 } else { usize::from(number) });
            let address = if is_open { ip(198, 51, 100, 20 + number) } else { ip(10, 0, number, 2) };
            Phone::new(side, SocketAddr::new(address, 4_000), nat, rng.next() as u32)
        };
        let phones = [phone(Side::Caller, 0), phone(Side::Callee, 1)];
        let node = Node::new(seed);
        let told = (0, node.capsule(Instant::START));
        let acts_left = 3 + rng.below(6) as u32;
        let ends_silently = rng.chance(200);
        let mut world = Self {
            now: Instant::START + Duration::from_secs(1_000),
            sequence: 0,
            queue: BTreeMap::new(),
            rng,
            nats,
            kinds,
            nat_timeout,
            phones,
            node: Some(node),
            told,
            version: 0,
            latch_untold: false,
            cseq: 1,
            is_in_exchange: true,
            is_answered: false,
            is_over: false,
            is_path_broken: false,
            held_since: [None; 2],
            settled_at: Instant::START,
            taken_over_at: Instant::START,
            window_until: Instant::START,
            acts_left,
            ends_silently,
            owed: BTreeMap::new(),
            seen_at: [None; 2],
            events: Events::default(),
            trace: Trace::new(shown),
            broken: Vec::new(),
        };
        if is_one_router {
            world.events.add(Event::SameRouter);
        }
        world
    }

    /// Lets the talk happen, to its end.
    pub(super) fn play(&mut self) {
        for phone in 0..2 {
            let offset = self.rng.between(Duration::ZERO, EVERY);
            self.later(offset, Happening::Speak(phone));
            self.later(offset + REPORT_EVERY, Happening::Report(phone));
        }
        self.later(SWEEP_EVERY, Happening::Sweep);
        self.later(Duration::from_millis(10), Happening::Stranger);
        let offer = self.phones[0].describe(Direction::Both).into_bytes();
        self.say(Signal {
            kind: Kind::Request(Method::Invite),
            by: 0,
            within: Within::Branch(BRANCH),
            cseq: 1,
            body: offer,
            direction: Direction::Both,
        });
        let until = self.now + LONGEST;
        while !self.is_over {
            let Some(((at, _), happening)) = self.queue.pop_first() else { break };
            self.now = at;
            if at > until {
                return self.breach("a talk ends", String::new());
            }
            self.happen(happening);
        }
        if self.broken.is_empty()
            && let Some(node) = &self.node
            && node.held() != (0, 0)
        {
            let seen = format!("{:?}", node.held());
            self.breach("a call that is over has no ports", seen);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram { from, to, bytes } if to.ip() == SERVICE => self.relay(from, to, &bytes),
            Happening::Datagram { from, to, bytes } => self.deliver(from, to, &bytes),
            Happening::Signal(said) => self.handle_message(said),
            Happening::Delivered(said) => self.hear(said),
            Happening::Answer { is_early } => self.answer_invite(is_early),
            Happening::Speak(phone) => self.speak(phone),
            Happening::Report(phone) => self.report(phone),
            Happening::Stranger => self.attack(),
            Happening::Sweep => self.sweep(),
            Happening::Act => self.act(),
            Happening::Resume(phone) => self.resume(phone),
            Happening::Notice(phone) => match self.is_in_exchange {
                true => self.later(SAY_AGAIN, Happening::Notice(phone)),
                false => self.offer(phone, self.phones[phone].direction),
            },
            Happening::Told(version, capsule) if self.node.is_some() => {
                if version > self.told.0 {
                    self.told = (version, capsule);
                }
                self.latch_untold = version < self.version;
            }
            Happening::Told(..) => {}
            Happening::Kill => self.kill(),
            Happening::TakenOver => self.take_over(),
            Happening::BranchEnded => match &mut self.node {
                Some(node) => node.handle_branch_ended(self.now, BRANCH),
                None => self.later(SAY_AGAIN, Happening::BranchEnded),
            },
            Happening::End => self.end(),
        }
    }

    fn act(&mut self) {
        let is_busy = self.is_in_exchange || self.node.is_none() || self.held_since != [None; 2];
        if is_busy {
            return self.later(Duration::from_secs(1), Happening::Act);
        }
        let next = self.rng.between(Duration::from_secs(1), Duration::from_secs(40));
        if self.acts_left == 0 {
            return self.later(next, Happening::End);
        }
        self.acts_left -= 1;
        self.later(next, Happening::Act);
        let phone = self.rng.index(2);
        match self.rng.below(7) {
            0 => self.hold(phone),
            1 => self.move_port(phone),
            2 => self.forget_router(phone),
            3 => self.later(Duration::ZERO, Happening::Kill),
            4 => self.hand_over(),
            5 => {
                self.events.add(Event::OtherSource);
                let ssrc = self.rng.next() as u32;
                self.phones[phone].change_source(ssrc);
            }
            _ => {}
        }
    }

    fn hold(&mut self, phone: usize) {
        self.events.add(Event::Held);
        self.held_since[phone] = Some(self.now);
        let direction = self.rng.pick(&[Direction::SendOnly, Direction::Neither]);
        self.offer(phone, direction);
        let lasts = self.rng.between(Duration::from_secs(2), self.nat_timeout * 2);
        self.later(lasts, Happening::Resume(phone));
        if self.rng.chance(300) {
            self.later(lasts / 2, Happening::Kill);
        }
    }

    fn resume(&mut self, phone: usize) {
        if self.is_in_exchange || self.node.is_none() {
            return self.later(SAY_AGAIN, Happening::Resume(phone));
        }
        self.events.add(Event::Resumed);
        if let Some(since) = self.held_since[phone].take()
            && self.now.since(since) > self.nat_timeout
        {
            self.events.add(Event::LongHold);
        }
        self.offer(phone, Direction::Both);
    }

    fn move_port(&mut self, phone: usize) {
        self.events.add(Event::Moved);
        let local = &mut self.phones[phone].local;
        local.set_port(local.port() + 2);
        self.seen_at[phone] = None;
        self.offer(phone, Direction::Both);
    }

    fn forget_router(&mut self, phone: usize) {
        let Some(router) = self.phones[phone].nat else { return };
        self.events.add(Event::RouterForgot);
        self.nats[router].forget();
        self.is_path_broken = true;
        self.owed.clear();
        let after = self.rng.between(SAY_AGAIN, SAY_AGAIN * 5);
        self.later(after, Happening::Notice(phone));
    }

    fn kill(&mut self) {
        if self.is_over || self.node.take().is_none() {
            return;
        }
        self.events.add(if self.latch_untold { Event::KilledBeforeTold } else { Event::Killed });
        self.trace.add(self.now, format_args!("the node dies"), b"");
        self.owed.clear();
        self.later(TAKEOVER, Happening::TakenOver);
    }

    fn take_over(&mut self) {
        self.version = self.told.0 + 1;
        self.taken_over_at = self.now;
        match Node::take_over(self.now, self.told.1.clone(), self.version) {
            Ok(node) => self.node = Some(node),
            Err(why) => self.breach("what a node is told it can go on with", why),
        }
        self.trace.add(self.now, format_args!("the other node goes on"), b"");
        // Where it was not told of a latch, it may take a phone that is another one for another's.
        self.settle(if self.latch_untold { SETTLED_LATE_AFTER } else { SETTLED_AFTER });
        self.latch_untold = false;
    }

    /// Nothing is lost by a planned move.
    fn hand_over(&mut self) {
        let Some(node) = self.node.take() else { return };
        self.events.add(Event::HandedOver);
        self.told = (self.version, node.capsule(self.now));
        let settled_at = self.settled_at;
        self.take_over();
        self.settled_at = settled_at;
    }

    fn end(&mut self) {
        if self.is_in_exchange || self.node.is_none() {
            return self.later(SAY_AGAIN, Happening::End);
        }
        if std::mem::take(&mut self.ends_silently) {
            // Both lose their power.
            self.owed.clear();
            self.phones.iter_mut().for_each(|phone| phone.remote = None);
            return self.later(SILENCE * 2, Happening::End);
        }
        if self.phones.iter().all(|phone| phone.remote.is_none()) {
            return self.breach("nothing heard ends a call", String::new());
        }
        self.finish(Event::Ended);
    }

    fn finish(&mut self, how: Event) {
        self.events.add(how);
        self.is_over = true;
        if let Some(node) = &mut self.node {
            node.handle_branch_ended(self.now, BRANCH);
            node.handle_dialog_ended(self.now, TAG);
        }
    }

    fn speak(&mut self, phone: usize) {
        self.later(EVERY, Happening::Speak(phone));
        let Some(remote) = self.phones[phone].remote.filter(|_| self.phones[phone].direction.sends()) else {
            return;
        };
        let (sequence, bytes) = self.phones[phone].speak();
        if self.is_owed(phone) {
            self.owed.insert((phone, self.phones[phone].ssrc, sequence), self.now + OWED_FOR);
        }
        let local = self.phones[phone].local;
        let source = self.send(phone, local, remote, bytes);
        let before = self.seen_at[phone].replace(source);
        if before.is_some_and(|before| before != source) {
            self.events.add(Event::Remapped);
        }
    }

    /// Whether the other phone has to hear what is said now.
    fn is_owed(&self, phone: usize) -> bool {
        let (speaks, hears) = (&self.phones[phone], &self.phones[1 - phone]);
        let is_settled = self.is_answered && !self.is_in_exchange && self.now >= self.settled_at;
        // A router lets in only what answers something.
        let is_reached = hears.nat.is_none() || hears.direction.sends();
        let is_agreed = speaks.direction.sends() && hears.direction.receives() && hears.remote.is_some();
        is_settled && is_agreed && is_reached && !self.is_path_broken && self.node.is_some()
    }

    fn report(&mut self, phone: usize) {
        self.later(REPORT_EVERY, Happening::Report(phone));
        let Some(mut remote) = self.phones[phone].remote else { return };
        remote.set_port(remote.port() + 1);
        let mut local = self.phones[phone].local;
        local.set_port(local.port() + 1);
        let bytes = phone::report(self.phones[phone].ssrc);
        self.send(phone, local, remote, bytes);
    }

    /// Sends a datagram of a phone; gives the source that the world sees.
    fn send(&mut self, phone: usize, local: SocketAddr, remote: SocketAddr, bytes: Vec<u8>) -> SocketAddr {
        let from = match self.phones[phone].nat {
            Some(router) => self.nats[router].outbound(self.now, local, remote),
            None => local,
        };
        let transit = self.transit();
        self.later(transit, Happening::Datagram { from, to: remote, bytes });
        from
    }

    fn relay(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(node) = &mut self.node else { return };
        let passed = node.handle_datagram(self.now, from, to, bytes);
        let has_latched = node.take_latched();
        let is_strange = phone::said(bytes) == Some(Said::Strange);
        self.trace.add(self.now, format_args!("{from} to {to}, {:?}: {passed:?}", phone::said(bytes)), b"");
        match passed {
            Passed::On { .. } if is_strange => {
                return self.breach("a stranger's packet goes nowhere", format!("from {from} to {to}"));
            }
            Passed::On { from: by, to: target } => {
                self.count_kind(from, bytes);
                let transit = self.transit();
                self.later(transit, Happening::Datagram { from: by, to: target, bytes: bytes.to_vec() });
            }
            Passed::Dropped if is_strange => self.events.add(Event::StrangerDropped),
            Passed::Dropped => {}
        }
        if has_latched && is_strange {
            return self.breach("a stranger's packet moves nothing", format!("from {from} to {to}"));
        }
        if has_latched {
            self.tell_latch();
        }
    }

    /// The other node hears of a latch soon, unless this one dies before.
    fn tell_latch(&mut self) {
        let Some(node) = &self.node else { return };
        self.version += 1;
        self.latch_untold = true;
        let capsule = node.capsule(self.now);
        let (version, after) = (self.version, self.rng.between(Duration::ZERO, TOLD_AFTER_MAX));
        self.later(after, Happening::Told(version, capsule));
        if self.is_answered && self.rng.chance(100) {
            self.later(after / 2, Happening::Kill);
        }
    }

    fn count_kind(&mut self, from: SocketAddr, bytes: &[u8]) {
        if !matches!(phone::said(bytes), Some(Said::Media(..))) {
            return;
        }
        let router = self.nats.iter().position(|nat| nat.outside() == from.ip());
        self.events.add(router.map_or(Event::FromOpen, |router| Event::behind(self.kinds[router])));
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let router = self.nats.iter().position(|nat| nat.outside() == to.ip());
        let inside = match router {
            Some(router) => self.nats[router].inbound(self.now, to.port(), from),
            None => Some(to),
        };
        let Some(inside) = inside else { return self.events.add(Event::Refused) };
        let Some(phone) = self.phones.iter().position(|phone| phone.local.ip() == inside.ip()) else {
            return;
        };
        match phone::said(bytes) {
            Some(Said::Strange) => {
                self.breach("nobody hears a stranger", format!("phone {phone}, from {from}"))
            }
            Some(Said::Report) => self.events.add(Event::ReportHeard),
            Some(Said::Media(ssrc, sequence)) => {
                self.events.add(if self.is_answered { Event::Heard } else { Event::EarlyHeard });
                if self.owed.remove(&(1 - phone, ssrc, sequence)).is_some() {
                    self.events.add(Event::OwedHeard);
                }
            }
            None => self.breach("packets go on as they came", format!("{bytes:?}")),
        }
    }

    fn attack(&mut self) {
        let after = self.rng.between(Duration::from_millis(50), Duration::from_millis(500));
        self.later(after, Happening::Stranger);
        let target = self.rng.index(2);
        let is_talking = self.is_owed(target);
        // Who sits behind a phone's own router is found out only while the phone itself is heard.
        let is_near = is_talking && self.rng.chance(300);
        let port = 1_024 + self.rng.below(60_000) as u16;
        let from = SocketAddr::new(if is_near { self.seen(target).0 } else { STRANGER }, port);
        if is_near && (self.seen_at.contains(&Some(from)) || self.phones[target].local == from) {
            return;
        }
        let ssrc = match !is_near && self.rng.chance(500) {
            true => self.phones[target].ssrc,
            false => self.rng.next() as u32,
        };
        let latched =
            self.node.as_ref().map(|node| node.latched(Side::Caller).or(node.latched(Side::Callee)));
        self.events.add(match latched {
            _ if is_near => Event::StrangerFromRouter,
            Some(None) | None => Event::StrangerBefore,
            Some(Some(_)) if self.now < self.window_until => Event::StrangerInWindow,
            Some(Some(_)) => Event::StrangerLater,
        });
        for port in PORTS.0..=PORTS.1 {
            let bytes = phone::strange(ssrc, 9);
            let transit = self.transit();
            let to = SocketAddr::new(SERVICE, port);
            self.later(transit, Happening::Datagram { from, to, bytes });
        }
    }

    fn sweep(&mut self) {
        self.later(SWEEP_EVERY, Happening::Sweep);
        let now = self.now;
        let late: Vec<_> =
            self.owed.iter().filter(|(_, until)| **until < now).map(|(name, _)| *name).collect();
        if let Some((phone, _, sequence)) = late.first() {
            let seen = format!("{} packets, the first is number {sequence} of phone {phone}", late.len());
            self.owed.clear();
            self.breach("what is said after all has settled is heard", seen);
        }
        let is_silent = self.node.as_mut().is_some_and(|node| node.handle_timeout(now));
        if is_silent && self.phones.iter().all(|phone| phone.remote.is_none()) {
            self.finish(Event::Silent);
        } else if is_silent {
            self.breach("a call in which phones talk is not silent", String::new());
        }
    }

    /// The address that a phone's messages come from, and whether that is a router's.
    fn seen(&self, phone: usize) -> (IpAddr, bool) {
        match self.phones[phone].nat {
            Some(router) => (self.nats[router].outside(), true),
            None => (self.phones[phone].local.ip(), false),
        }
    }

    fn settle(&mut self, after: Duration) {
        self.settled_at = self.settled_at.max(self.now + after);
    }

    fn transit(&mut self) -> Duration {
        self.rng.between(TRANSIT.0, TRANSIT.1)
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), happening);
    }

    fn breach(&mut self, rule: &'static str, seen: String) {
        self.trace.add(self.now, format_args!("BROKEN: {rule}"), seen.as_bytes());
        self.broken.push(Violation { rule, at: self.now, seen });
        self.is_over = true;
    }
}

fn ip(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}
