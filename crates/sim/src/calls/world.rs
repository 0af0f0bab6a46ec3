//! A world of one call: two nodes, the way between them, and a few phones, in virtual time and without chance.
//!
//! The first node is active, the other one its standby, and becomes active when the first one has been silent for the time of a
//! lease. Who holds the lease is not the question here, so no guardian takes part.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use keys::RootKey;
use lease::{Epoch, LeaseMirror};
use replica::{Cause, Origin, Wanted};
use routing::{CallRecord, Settings, Token};
use sip::Aor;
use transport::selection::Records;

use super::Said;
use super::case::{Case, Moment, Played, Point, Trouble};
use super::events::{Event, Events};
use super::kind::{self, Kind, NUMBER, Play};
use crate::cast::DOMAIN;
use crate::dns::Resolver;
use crate::nat::Nat;
use crate::node::{FromPeer, Node, Output, PeerOutput};
use crate::phone::{self, Fact, Phone, Role};
use crate::store::Store;
use crate::trace::Trace;

/// The calendar of both nodes.
const BEGAN: WallTime = WallTime::from_millis(1_800_000_000_000);
/// The second node's clock is so far ahead: an instant of one node says nothing to the other.
const AHEAD: u64 = 777_000_000_000;
/// When the call begins.
const CALL_AT: Instant = Instant::from_nanos(4_000_000_000);
/// From one node to the other.
const LINK: Duration = Duration::from_micros(200);
/// The same where the way is slow: longer than anybody waits for it.
const LINK_SLOW: Duration = Duration::from_millis(30);
/// From a phone to the nodes; each phone is a bit farther away than the one before.
const WAY: Duration = Duration::from_micros(2_000);
const WAY_MORE: Duration = Duration::from_micros(310);
/// How long the database takes for an account.
const LOOK_UP: Duration = Duration::from_millis(1);
/// At this time everything has come to its end, whatever was lost: no timer of phone or server is longer.
const OVER: Instant = Instant::from_nanos(480_000_000_000);
/// So long after the last word of a phone nothing is killed any more.
const AFTERMATH: Duration = Duration::from_secs(1);
/// A machine that wants to be woken more often at one instant will never stop.
const WAKES_MAX: u32 = 20_000;
/// The node that is active first.
const FIRST: usize = 0;

mod takeover;

#[derive(Debug)]
enum Happening {
    Register(usize),
    Call,
    LosePower(usize),
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    Account { side: usize, partition: u16, aor: Aor },
    Connect,
    Peer { side: usize, what: FromPeer },
    Fetch { side: usize, wanted: Vec<Wanted> },
    Resolved { side: usize, shard: u16, token: Token, records: Records },
    HandOver,
    TakeOver,
    Restart(usize),
    LookForCopy,
    LookForRest,
}

#[derive(Debug)]
struct Side {
    node: Option<Node>,
    store: Store,
    ahead: u64,
}

/// A phone, where it stands, and what it said that a call is judged by.
#[derive(Debug)]
struct Resident {
    phone: Phone,
    nat: Option<usize>,
    said: Vec<Said>,
}

/// A world.
#[derive(Debug)]
pub(super) struct World {
    case: Case,
    play: Play,
    now: Instant,
    sequence: u64,
    at_this_instant: u32,
    queue: BTreeMap<(Instant, u64), Happening>,
    sides: [Side; 2],
    active: usize,
    /// Whether no node is active.
    is_vacant: bool,
    epoch: Epoch,
    /// The number of the last connection between the nodes.
    connection: u64,
    is_connected: bool,
    killed: Option<Instant>,
    took_over: bool,
    /// Whether the node that was killed first is active again.
    is_back: bool,
    settings: Arc<Settings>,
    root: RootKey,
    phones: Vec<Resident>,
    nats: Vec<Nat>,
    points: Vec<(Instant, Point)>,
    datagrams: Vec<Instant>,
    of_new_node: usize,
    last_said: Instant,
    degraded: Option<Instant>,
    /// What the nodes wrote down of calls, those of one call once.
    records: BTreeMap<u128, String>,
    pub(super) broken: Vec<String>,
    pub(super) events: Events,
    pub(super) trace: Trace,
}

impl World {
    /// A world at its beginning.
    pub(super) fn new(kind: Kind, case: Case, shown: bool) -> Self {
        let play = Play::of(kind);
        let settings = kind::settings(kind);
        let root = RootKey::new([9; 32]);
        let now = Instant::from_nanos(1_000_000_000);
        let sides = [0, 1].map(|number| side(number, now, kind, &settings, &root));
        let phones = play.members.iter().map(|member| {
            let mut phone = Phone::new(member.setup.clone());
            for number in [NUMBER, NUMBER + 1] {
                phone.prepare(number, member.answering.clone());
            }
            Resident { phone, nat: member.nat, said: Vec::new() }
        });
        let mut world = Self {
            phones: phones.collect(),
            case,
            play,
            now,
            sequence: 0,
            at_this_instant: 0,
            queue: BTreeMap::new(),
            sides,
            active: FIRST,
            is_vacant: false,
            epoch: Epoch(1),
            connection: 0,
            is_connected: false,
            killed: None,
            took_over: false,
            is_back: false,
            settings,
            root,
            nats: kind::nats(),
            points: Vec::new(),
            datagrams: Vec::new(),
            of_new_node: 0,
            last_said: now,
            degraded: None,
            records: BTreeMap::new(),
            broken: Vec::new(),
            events: Events::default(),
            trace: Trace::new(shown),
        };
        world.step(1, "stands by", Node::look_at_lease);
        world.step(FIRST, "becomes active", |node, now, out| node.become_active(now, Epoch(1), out));
        for phone in 0..world.phones.len() {
            if world.play.members[phone].registers {
                world.later(Duration::from_millis(200 + 100 * phone as u64), Happening::Register(phone));
            }
        }
        world.at(CALL_AT, Happening::Call);
        world
    }

    /// Plays until nothing is left of the call.
    pub(super) fn play(&mut self) {
        while self.now < OVER && self.happen_next() {}
        for (number, resident) in self.phones.iter().enumerate() {
            if resident.phone.left().0 > 0 {
                self.broken.push(format!("a call goes on for ever at {}", name(&self.phones, number)));
            }
        }
        let held = self.sides[self.active].node.as_ref().map(Node::held).unwrap_or_default();
        if held.contexts + held.suspended > 0 {
            self.broken.push(format!("the active node goes on with the call for ever: {held:?}"));
        }
        if self.counted() > 0 {
            self.broken.push("the active node counts a call that is over".to_owned());
        }
    }

    /// How many calls the active node has.
    fn counted(&self) -> usize {
        self.sides[self.active].node.as_ref().map_or(0, Node::calls)
    }

    /// What each party said, in its order, and when.
    pub(super) fn said(&self) -> super::Ending {
        let parties = self.phones.iter().enumerate();
        let said = parties.map(|(number, it)| {
            let mut said = it.said.clone();
            said.sort_by_key(|said| said.thread);
            (name(&self.phones, number), said)
        });
        let mut facts: Vec<String> = self.records.values().cloned().collect();
        facts.sort();
        // Who handles the end of a call writes its record, at whatever time that is.
        let record = |fact| Said { thread: (0, "record"), fact, at: Instant::START };
        let records = ("records".to_owned(), facts.into_iter().map(record).collect());
        said.chain([records]).collect()
    }

    /// The inputs and outputs of the nodes while the call went on.
    pub(super) fn points(&self) -> Vec<Point> {
        let until = self.last_said + AFTERMATH;
        self.points.iter().filter(|(at, _)| *at <= until).map(|&(_, point)| point).collect()
    }

    /// How many datagrams there were while the call went on.
    pub(super) fn datagrams(&self) -> usize {
        self.datagrams.iter().filter(|at| **at <= self.last_said).count()
    }

    /// Whether what was lost may have been: a message had gone on without the other node, which did not have yet by the time
    /// of the end what it stood for.
    pub(super) fn is_excused(&self) -> bool {
        let (Some(degraded), Some(killed)) = (self.degraded, self.killed) else { return false };
        self.case.is_slow() && killed < degraded + LINK_SLOW * 2
    }

    fn happen_next(&mut self) -> bool {
        let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
        let node = (0..self.sides.len()).filter_map(|side| Some((self.sides[side].due()?, side))).min();
        let phones = self.phones.iter().enumerate();
        let phone = phones.filter_map(|(number, it)| Some((it.phone.poll_timeout()?, number))).min();
        let next = [queued, node.map(|it| it.0), phone.map(|it| it.0)].into_iter().flatten().min();
        let Some(next) = next else { return false };
        self.at_this_instant = if next > self.now { 0 } else { self.at_this_instant + 1 };
        self.now = self.now.max(next);
        if self.at_this_instant > WAKES_MAX {
            self.broken.push("a machine never comes to rest".to_owned());
            return false;
        }
        if queued.is_some_and(|at| at <= self.now) {
            return match self.queue.pop_first() {
                Some((_, Happening::LookForRest)) => !self.is_at_rest(),
                Some((_, happening)) => {
                    self.happen(happening);
                    true
                }
                None => false,
            };
        }
        match (node, phone) {
            (Some((at, side)), _) if at <= self.now => {
                self.step(side, "its time comes", Node::handle_timeout);
            }
            (_, Some((_, number))) => {
                let mut out = Vec::new();
                self.phones[number].phone.handle_timeout(self.now, &mut out);
                self.carry_phone(number, out);
            }
            _ => {}
        }
        true
    }

    /// Looks every second after the call's beginning.
    fn is_at_rest(&mut self) -> bool {
        let phones = self.phones.iter().all(|resident| resident.phone.left() == (0, 0));
        let comes_back = matches!(self.case.0, Played::Killed(_, Trouble::Back)) && self.killed.is_some();
        let waits = self.is_vacant || comes_back && !self.is_back;
        let held = self.sides[self.active].node.as_ref().map(Node::held).unwrap_or_default();
        if phones && !waits && held == Default::default() && self.counted() == 0 {
            return true;
        }
        self.later(Duration::from_secs(1), Happening::LookForRest);
        false
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Register(number) => {
                let mut out = Vec::new();
                self.phones[number].phone.register(self.now, &mut out);
                self.carry_phone(number, out);
            }
            Happening::Call => self.begin(),
            Happening::LosePower(number) => {
                self.trace.add(self.now, format_args!("{} loses its power", name(&self.phones, number)), b"");
                self.phones[number].phone.lose_power();
                self.last_said = self.now;
            }
            Happening::Datagram { from, to, bytes } => self.deliver(from, to, &bytes),
            Happening::Account { side, partition, aor } => {
                if let Some(loaded) = self.sides[side].store.look_up(partition, &aor) {
                    self.step(side, "hears of an account", |node, now, out| {
                        node.handle_account(now, partition, &aor, loaded, out);
                    });
                }
            }
            Happening::Connect => {
                let connection = self.connection;
                self.step(self.active, "is connected", |node, now, out| {
                    node.handle_peer(now, FromPeer::Connected(connection), out);
                });
            }
            Happening::Peer { side, what } => {
                self.step(side, "hears the other node", |node, now, out| node.handle_peer(now, what, out));
            }
            Happening::Fetch { side, wanted } => {
                let what = FromPeer::Fetch(wanted);
                self.step(side, "is asked for entries", |node, now, out| node.handle_peer(now, what, out));
            }
            Happening::Resolved { side, shard, token, records } => {
                self.step(side, "hears of a name", |node, now, out| {
                    node.handle_resolved(now, shard, token, records, out);
                });
            }
            Happening::HandOver => self.hand_over(),
            Happening::TakeOver => self.take_over(),
            Happening::Restart(side) => self.restart(side),
            Happening::LookForCopy => self.look_for_copy(),
            Happening::LookForRest => {}
        }
    }

    fn begin(&mut self) {
        let ready = self.ready();
        if ready != Some(100) {
            self.broken.push(format!("the standby is not ready before the call: {ready:?}"));
        }
        let mut out = Vec::new();
        self.phones[0].phone.call(self.now, self.play.order.clone(), &mut out);
        self.carry_phone(0, out);
        self.later(Duration::from_secs(2), Happening::LookForRest);
    }

    fn is_counted(&self) -> bool {
        self.now >= CALL_AT
    }

    /// Passes an input or output; `false`: the node that has it is no more.
    fn pass(&mut self, side: usize, is_output: bool, what: &str) -> bool {
        if !self.is_counted() {
            return self.sides[side].node.is_some();
        }
        let number = self.points.len();
        if is_output && let Some((_, last)) = self.points.last_mut() {
            last.is_followed = true;
        }
        self.points.push((self.now, Point { is_followed: false }));
        self.trace.add(self.now, format_args!("[{number}] node {side} {what}"), b"");
        self.strike(Moment::Before(number));
        self.sides[side].node.is_some()
    }

    /// Lets a node take an input, and carries what it gives.
    fn step(&mut self, side: usize, what: &str, act: impl FnOnce(&mut Node, Now, &mut Vec<Output>)) {
        if self.sides[side].node.is_none() {
            return;
        }
        let input = self.points.len();
        if !self.pass(side, false, what) || self.is_lost_with_its_host(what) {
            return;
        }
        let now = self.sides[side].clock(self.now);
        let mut out = Vec::new();
        if let Some(node) = &mut self.sides[side].node {
            act(node, now, &mut out);
            for record in node.take_records() {
                let CallRecord { id, status, ending, caller, callee, .. } = record;
                let fact = format!(
                    "{} {} by {}, {caller} to {callee}",
                    status.0,
                    ending.why(),
                    ending.by().as_str()
                );
                self.trace.add(self.now, format_args!("node {side} writes down: {fact}"), b"");
                self.records.entry(id).or_insert(fact);
            }
        }
        let mut settling: Option<Option<Cause>> = None;
        for output in out {
            match output {
                Output::Datagram { from, to, bytes } => {
                    let number = self.points.len();
                    if !self.pass(side, true, "sends a datagram") {
                        return;
                    }
                    if self.took_over {
                        self.events.add(Event::sent(&bytes));
                    }
                    self.trace.add(self.now, format_args!("node {side} > {to}"), &bytes);
                    if let Some(cause) = settling {
                        self.settled(cause);
                    }
                    if !self.is_lost_after_takeover() {
                        let way = self.way(self.inside_of(to));
                        self.transmit(way, from, to, bytes);
                    }
                    self.strike(Moment::After(number));
                }
                Output::Peer(PeerOutput::Send(connection, bytes)) => {
                    let number = self.points.len();
                    if !self.pass(side, true, "tells the other node") {
                        return;
                    }
                    let what = FromPeer::Bytes(connection, bytes);
                    if self.sides[1 - side].node.is_some()
                        && self.is_connected
                        && connection == self.connection
                    {
                        self.later(self.link(), Happening::Peer { side: 1 - side, what });
                    }
                    self.strike(Moment::After(number));
                }
                Output::Peer(PeerOutput::Settling(cause)) => settling = Some(cause),
                Output::Peer(PeerOutput::Settled) => settling = None,
                Output::Peer(output) => self.carry_peer(side, output),
                Output::Load { partition, aor } => {
                    self.later(LOOK_UP, Happening::Account { side, partition, aor });
                }
                Output::Save(change) => self.sides[side].store.save(self.now, change),
                Output::Resolve { shard, token, query } => {
                    self.events.add(if self.took_over { Event::ResolvedAgain } else { Event::Resolved });
                    let (after, records) =
                        crate::dns::resolve(Resolver::Up, &query, &mut crate::events::Events::default());
                    self.later(after, Happening::Resolved { side, shard, token, records });
                }
                // All talk over UDP.
                Output::Open { .. } | Output::Write { .. } | Output::Close { .. } => {}
            }
            if self.sides[side].node.is_none() {
                return;
            }
        }
        if self.is_counted() {
            self.strike(Moment::After(input));
        }
        self.connect(side);
    }

    /// An input of the standby that was on its way when the other one's host died.
    fn is_lost_with_its_host(&self, what: &str) -> bool {
        self.killed == Some(self.now)
            && what == "hears the other node"
            && !matches!(self.case.0, Played::Killed(_, Trouble::Process | Trouble::HandOver))
    }

    fn settled(&mut self, cause: Option<Cause>) {
        if self.killed.is_some() || !self.is_counted() {
            return;
        }
        let Some(cause) = cause else { return self.events.add(Event::Held) };
        self.events.add(Event::Degraded);
        self.degraded = Some(self.now);
        if !self.case.is_slow() {
            self.broken.push(format!("a message goes on without the other node, which is well: {cause:?}"));
        }
    }

    fn carry_peer(&mut self, side: usize, output: PeerOutput) {
        match output {
            PeerOutput::Fetch(wanted) => {
                self.later(Duration::from_micros(1), Happening::Fetch { side, wanted })
            }
            PeerOutput::Applied if self.is_counted() => self.events.add(Event::Applied),
            PeerOutput::Refused => self.broken.push("the standby refuses an entry".to_owned()),
            PeerOutput::Close(_, Some(cause)) => {
                self.broken.push(format!("node {side} closes the way to the other one: {cause:?}"));
            }
            _ => {}
        }
    }

    fn connect(&mut self, side: usize) {
        let wants = self.sides[side].node.as_ref().is_some_and(Node::wants_connection);
        if wants && self.sides[1 - side].node.is_some() && !std::mem::replace(&mut self.is_connected, true) {
            self.connection += 1;
            self.later(LINK, Happening::Connect);
        }
    }

    fn link(&self) -> Duration {
        // The standby is ready before the call begins.
        if self.case.is_slow() && self.is_counted() { LINK_SLOW } else { LINK }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        if to == crate::cast::FIRST {
            if self.is_vacant || self.is_lost_after_takeover() {
                return;
            }
            if self.took_over {
                self.events.add(Event::heard(bytes));
            }
            let side = self.active;
            self.trace.add(self.now, format_args!("{from} > node {side}"), bytes);
            return self.step(side, "hears a datagram", |node, now, out| {
                node.handle_datagram(now, to, from, bytes, out);
            });
        }
        let inside = match self.nats.iter_mut().find(|nat| nat.outside() == to.ip()) {
            Some(nat) => nat.inbound(self.now, to.port(), from),
            None => Some(to),
        };
        let there = |it: &Resident| Some(it.phone.setup().local) == inside;
        if let Some(number) = self.phones.iter().position(there) {
            let mut out = Vec::new();
            self.phones[number].phone.handle_datagram(self.now, from, bytes, &mut out);
            self.carry_phone(number, out);
        }
    }

    /// A datagram sets out.
    fn transmit(&mut self, way: Duration, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        if self.is_counted() {
            let number = self.datagrams.len();
            self.datagrams.push(self.now);
            if self.case.0 == Played::Lost(number) {
                self.trace.add(self.now, format_args!("datagram {number} is lost"), b"");
                return self.events.add(Event::Lost);
            }
        }
        self.later(way, Happening::Datagram { from, to, bytes });
    }

    /// Whether this datagram of the new node is the one that is lost: one of the first three, by the case's number.
    fn is_lost_after_takeover(&mut self) -> bool {
        let Played::Killed(Moment::Before(number) | Moment::After(number), Trouble::LostDatagram) =
            self.case.0
        else {
            return false;
        };
        if !self.took_over {
            return false;
        }
        self.of_new_node += 1;
        let is_lost = self.of_new_node == 1 + number % 3;
        if is_lost {
            self.trace.add(self.now, format_args!("a datagram of the new node is lost"), b"");
            self.events.add(Event::Lost);
        }
        is_lost
    }

    fn inside_of(&self, to: SocketAddr) -> usize {
        let is_there = |it: &Resident| match it.nat {
            Some(nat) => self.nats[nat].outside() == to.ip(),
            None => it.phone.setup().local == to,
        };
        self.phones.iter().position(is_there).unwrap_or(0)
    }

    fn way(&self, phone: usize) -> Duration {
        WAY + WAY_MORE * phone as u32
    }

    fn carry_phone(&mut self, number: usize, out: Vec<phone::Output>) {
        for output in out {
            match output {
                phone::Output::Datagram { to, bytes } => {
                    let inside = self.phones[number].phone.setup().local;
                    let from = match self.phones[number].nat {
                        Some(nat) => self.nats[nat].outbound(self.now, inside, to),
                        None => inside,
                    };
                    let (way, bytes) = (self.way(number), Bytes::from(bytes));
                    if number == 0 && self.is_counted() {
                        for &again in self.play.again_after {
                            let bytes = bytes.clone();
                            self.later(way + again, Happening::Datagram { from, to, bytes });
                        }
                    }
                    self.transmit(way, from, to, bytes);
                }
                phone::Output::Fact(fact) => self.fact(number, &fact),
                phone::Output::Open { .. } | phone::Output::Write { .. } | phone::Output::Close { .. } => {}
            }
        }
    }

    fn fact(&mut self, number: usize, fact: &Fact) {
        self.trace.add(self.now, format_args!("{}: {fact:?}", name(&self.phones, number)), b"");
        let said = match fact {
            Fact::Unexpected(seen) => return self.broken.push(seen.clone()),
            // Over UDP nobody repeats what is only told, unless who told it waits for a PRACK.
            Fact::Progress { .. } if !self.play.is_progress_heard => return,
            Fact::Established { role: Role::Callee, .. } if self.play.may_end_unacknowledged => return,
            Fact::Ringing { call, .. } => format!("Ringing {{ call: {call} }}"),
            _ if fact.call().is_some() => format!("{fact:?}"),
            Fact::RegisterRefused(_) | Fact::RegisterTimedOut => {
                return self.broken.push(format!("{}: {fact:?}", name(&self.phones, number)));
            }
            _ => return,
        };
        if matches!(fact, Fact::Established { .. }) && self.play.mortals.contains(&number) {
            self.later(kind::POWER_LASTS, Happening::LosePower(number));
        }
        self.last_said = self.now;
        let part = match fact {
            Fact::Within { method, .. } => *method,
            Fact::HeardWithin { .. } => "heard",
            _ => "",
        };
        let said = Said { thread: (fact.call().unwrap_or(0), part), fact: said, at: self.now };
        let phone = &mut self.phones[number];
        // A 200 to a re-INVITE that is repeated gets its ACK again, and says nothing else; nor does a 180 that waits for its
        // PRACK. A phone that says nothing takes each repetition of an INVITE for another one.
        let is_silent = self.play.members[number].answering.behaviour == phone::Behaviour::Silence;
        let is_again = (is_silent || matches!(fact, Fact::Reinvited { .. } | Fact::Progress { .. }))
            && phone.said.iter().any(|it| it.fact == said.fact);
        if !is_again {
            phone.said.push(said);
        }
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.at(self.now + after, happening);
    }

    fn at(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }
}

impl Happening {
    /// Whether a node waits for it, and nobody else.
    fn is_for(&self, node: usize) -> bool {
        match self {
            Self::Account { side, .. }
            | Self::Peer { side, .. }
            | Self::Fetch { side, .. }
            | Self::Resolved { side, .. } => *side == node,
            Self::Connect => true,
            _ => false,
        }
    }
}

impl Side {
    /// Its node is started for the so-many-th time.
    fn start(&mut self, number: usize, time: u64, at: Instant, settings: &Arc<Settings>, root: &RootKey) {
        let mut node =
            Node::start(self.clock(at), Arc::clone(settings), root, 10 * time as u32 + number as u32);
        node.join(Origin { node: number as u8, incarnation: 10 * time + number as u64 }, Epoch(0), &[]);
        node.set_lease(LeaseMirror::none());
        self.node = Some(node);
    }

    fn clock(&self, at: Instant) -> Now {
        Now::new(Instant::from_nanos(at.as_nanos() + self.ahead), BEGAN + at.since(Instant::START))
    }

    /// When its node wants to be called, by the world's clock.
    fn due(&self) -> Option<Instant> {
        let due = self.node.as_ref()?.poll_timeout()?;
        Some(Instant::from_nanos(due.as_nanos().saturating_sub(self.ahead)))
    }
}

fn side(number: usize, at: Instant, kind: Kind, settings: &Arc<Settings>, root: &RootKey) -> Side {
    let mut store = Store::new();
    for (user, password) in crate::cast::accounts() {
        store.add_account(user, DOMAIN, &password);
    }
    if let Some((user, forwards)) = kind::forwards(kind) {
        store.set_forwards(user, DOMAIN, forwards);
    }
    let mut side = Side { node: None, store, ahead: AHEAD * number as u64 };
    side.start(number, 1, at, settings, root);
    if let Some(node) = side.node.as_mut().filter(|_| number == FIRST) {
        node.set_lease(LeaseMirror::until(Instant::FAR, Epoch(1)));
    }
    side
}

/// What a phone is called in what is told.
fn name(phones: &[Resident], number: usize) -> String {
    let user = |number: usize| phones.get(number).map_or("", |it| it.phone.setup().user.as_str());
    match (1..number).filter(|&other| user(other) == user(number)).count() {
        0 => user(number).to_owned(),
        others => format!("{}-{}", user(number), others + 1),
    }
}
