//! The whole of a node's guardian for one service: voter, contender, what is known of the peers, health, and the role.
//!
//! It takes what comes in (messages of members, what the engine and the checks say, the operator's wishes, time) and says
//! what is to be done, in order. Taking over: gate, addresses, announcement, engine, hook. Giving up: engine, gate, and
//! only when that is closed the addresses and the release. It never waits: what takes time comes back as an input.
//!
//! No preemption: who is active stays so, unless it is ill and another is better, or an operator or `preferred` says so.

mod admission;
mod listing;
mod role;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use clock::{Instant, Now};
use lease::LeaseMirror;

use crate::announce::Announcing;
use crate::health::{Check, Health, Patience};
use crate::heartbeat::{HEARTBEAT_EVERY, Heartbeat, Stance};
use crate::peer::{PathId, Peer};
use crate::{
    Cause, Contender, ContenderOutput, Epoch, HardwareAddress, Holder, LeasePlan, MemberId, Message, NodeId,
    Record, Release, ServiceId, Voter, VoterId, VoterList, VoterOutput, WriteNumber,
};

pub use role::Reason;
pub use view::{ListView, MemberView, PeerView, View};

/// How often a witness is asked how it is.
const HELLO_EVERY: Duration = Duration::from_secs(1);

/// How often the addresses' own life is refreshed in the kernel.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// Clocks of two hosts that are further apart than this: nonces made on one would be old or not yet good on the other.
pub const APART_MAX: Duration = Duration::from_secs(5);

/// What a guardian is started with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The service.
    pub service: ServiceId,
    /// This node and this start.
    pub me: Holder,
    /// All nodes, this one included, in the order of the configuration: each by its place in it.
    pub nodes: Vec<NodeId>,
    /// Whether there is a witness beside the nodes.
    pub has_witness: bool,
    /// Voters that were heard at earlier starts, by member.
    pub known: BTreeMap<MemberId, VoterId>,
    /// What this node's voter has on disk.
    pub record: Record,
    /// Settings that a reload may change.
    pub settings: Settings,
}

/// Settings that a reload may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The lease.
    pub plan: LeasePlan,
    /// This node takes the service back when it has been well for so long.
    pub preferred: Option<Duration>,
    /// A digest of the settings that must be the same on all nodes.
    pub digest: u64,
}

/// What comes in.
#[expect(
    clippy::large_enum_variant,
    reason = "an input lives for one call; a box would be an allocation for each"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A member says something. It was proved that it is that member.
    Message(MemberId, PathId, Message),
    /// A write of the voter's record is done, or has failed.
    Kept(WriteNumber, bool),
    /// The gate is closed for the epoch of the last [`Output::CloseGate`].
    GateClosed,
    /// What the engine is.
    Engine(Engine),
    /// The engine has brought what it had begun to its end, and to the peer.
    Drained,
    /// [`Output::Admit`] is done, or could not be done.
    Admitted,
    /// How much of the active node's state this node holds, 0 to 100.
    Ready(u8),
    /// A check has passed, or has failed for this reason.
    Checked(Check, Patience, Result<(), Box<str>>),
    /// A check is made no more.
    Unchecked(Check),
    /// A stranger was seen to claim a virtual address.
    Conflict,
    /// This machine may have stood still together with its clock ([`crate::standstill`]), or is a copy of what it was.
    /// All is given back without a hand-over, and the process must start anew at [`Output::MayEnd`].
    StoodStill,
    /// The operator wants something.
    Wish(Wish),
}

/// What the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// It is being started, or restores what it had.
    Starting,
    /// It can serve.
    Ready,
    /// It does not move.
    Hung,
    /// It has ended.
    Dead,
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The other node becomes active. `force`: also if it is not ready.
    Switchover {
        /// Also if it is not ready.
        force: bool,
    },
    /// This node ends: it hands over if it can.
    Stop,
    /// This node does not want to be active, until [`Wish::Return`].
    Away,
    /// It may be active again.
    Return,
    /// For maintenance of the other nodes: without their votes, or with them again.
    Solo {
        /// Without them.
        on: bool,
        /// The operator has seen that all others are off: this node is the only voter, also where no majority is left that
        /// could agree.
        force: bool,
    },
    /// The list of voters becomes the one that is configured.
    ChangeList,
    /// A member's voter, which is another one than before, votes from here on.
    Accept(MemberId),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Seal it and send it over every path to the member.
    Send(MemberId, Message),
    /// Write the record and sync it, not on this thread; then [`Input::Kept`].
    Keep(WriteNumber, Record),
    /// Write down who this member's voter is.
    Learn(MemberId, VoterId),
    /// Open the gate, or move its deadline.
    OpenGate(Epoch, Instant),
    /// Close the gate for this epoch and all lower ones; then [`Input::GateClosed`].
    CloseGate(Epoch),
    /// Add the virtual addresses, or give them another span of life.
    HoldAddresses,
    /// Take the virtual addresses away, and destroy the streams that stand on them.
    DropAddresses,
    /// Announce the virtual addresses to the neighbours.
    Announce,
    /// Let the engine send and expire by this lease.
    Lease(LeaseMirror),
    /// The engine sends nothing any more.
    NoLease,
    /// What comes for the virtual addresses from here on is passed on to the heir, if there is one that lets it in. The engine
    /// brings what it has begun to its end, and to the peer; then [`Input::Drained`].
    Drain(Option<HardwareAddress>),
    /// Add the virtual addresses and let in what comes for them, but nothing out; then [`Input::Admitted`]. It is asked for
    /// again while it is wanted.
    Admit,
    /// Let nothing in, and take the addresses away: this node has not taken over.
    TurnAway,
    /// This node has become active, for this reason.
    BecameActive(Epoch, Reason),
    /// It is active no more.
    BecameStandby(Epoch, Cause),
    /// The switchover that was wished is done, or can not be done.
    Switched(Result<(), Refused>),
    /// The change of the list of voters that was wished is done, or can not be done.
    ListChanged(Result<(), Refused>),
    /// All is given back: the process may end.
    MayEnd,
    /// Something that an operator must know.
    Alarm(Alarm),
}

/// Why a switchover or a change of the list of voters is refused, or how it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Neither this node nor the other is active.
    NobodyActive,
    /// The other node is not heard.
    PeerSilent,
    /// The other node's engine is not ready, or it was taken out.
    PeerUnable,
    /// The other node lacks part of the state: so much it has, of 100.
    PeerNotReady(u8),
    /// The other node is less well than this one.
    PeerIll,
    /// This node itself can not be active.
    SelfUnable,
    /// The other node did not take over in time.
    NotTaken,
    /// The service has moved, but the witness has not voted for the new holder: if that one dies, nobody can take over.
    WitnessSilent,
    /// The list of voters changes through the active node, and this one is not.
    NotActive,
    /// Another change of the list, or a switchover, is under way.
    Busy,
    /// The voters that would be left did not vote: they are no majority of the list before, or of the one after.
    NoMajority,
    /// Nobody was heard to vote for this member, or no other voter than the one that counts.
    VoterUnknown(MemberId),
}

/// What an operator must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The voter's disk failed.
    DiskFailed,
    /// Two starts of one node are alive: a machine was copied.
    Cloned(NodeId),
    /// A member's voter is another one than before: its disk was emptied, restored, or it was replaced. It does not count.
    VoterChanged(MemberId, VoterId),
    /// A stranger claims a virtual address.
    Conflict,
    /// The settings of a node that must be the same differ.
    SettingsDiffer(NodeId),
    /// The clock of a node is further from this one's than is good for nonces.
    ClocksApart(NodeId),
}

/// A node's guardian for one service.
#[derive(Debug)]
pub struct Guardian {
    service: ServiceId,
    me: Holder,
    member: MemberId,
    settings: Settings,
    voter: Voter,
    contender: Contender,
    members: BTreeMap<MemberId, Member>,
    listing: Option<listing::Listing>,
    peers: Vec<Peer>,
    health: Health,
    engine: Engine,
    ready: u8,
    announcing: Option<Announcing>,
    admits_at: Option<HardwareAddress>,
    admission: Option<admission::Admission>,
    role: role::State,
    /// The epoch under which this node became active last.
    active_since: Epoch,
    heartbeat_at: Instant,
    hello_at: Instant,
    refresh_at: Instant,
    by_voter: Vec<VoterOutput>,
    by_contender: Vec<ContenderOutput>,
}

#[derive(Debug)]
struct Member {
    /// A voter that spoke for it and has no seat.
    stranger: Option<VoterId>,
    is_witness: bool,
    heard: Option<Instant>,
    here: Option<crate::Here>,
    has_alarmed: bool,
}

impl Member {
    const fn new(is_witness: bool) -> Self {
        Self { stranger: None, is_witness, heard: None, here: None, has_alarmed: false }
    }
}

impl Guardian {
    /// A guardian that has just started: it holds nothing, and its engine is not there yet.
    pub fn new(now: Instant, start: Start) -> Self {
        let Start { service, me, nodes, has_witness, known, mut record, settings } = start;
        let own = MemberId::from(me.node);
        let count = nodes.len() + usize::from(has_witness);
        let ids = || (0..count).map(|at| MemberId(at as u8));
        if record.list == VoterList::NONE {
            // The first start. From then on the list changes as an operator wants, and not with the configuration.
            record.list = VoterList::of_members(ids());
        }
        record.list.learn(own, record.voter);
        known.iter().for_each(|(id, voter)| record.list.learn(*id, *voter));
        let members = ids().map(|id| (id, Member::new(usize::from(id.0) >= nodes.len()))).collect();
        let voter = Voter::new(now, service, record);
        let contender =
            Contender::new(service, me, record.voter, record.list, settings.plan, record.highest());
        let peers = nodes.iter().filter(|node| **node != me.node).map(|node| Peer::new(*node)).collect();
        Self {
            service,
            me,
            member: own,
            role: role::State::new(now),
            active_since: Epoch(0),
            settings,
            voter,
            contender,
            members,
            listing: None,
            peers,
            health: Health::default(),
            engine: Engine::Starting,
            ready: 100,
            announcing: None,
            admits_at: None,
            admission: None,
            heartbeat_at: now,
            hello_at: now,
            refresh_at: now,
            by_voter: Vec::new(),
            by_contender: Vec::new(),
        }
    }

    /// Takes other settings.
    pub fn reload(&mut self, settings: Settings) {
        self.contender.plan(settings.plan);
        self.settings = settings;
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let at = now.instant;
        match input {
            Input::Message(from, _, message) => self.message(now, from, message, out),
            Input::Kept(write, is_kept) => {
                self.voter.handle_kept(at, write, is_kept, &mut self.by_voter);
                self.reserved(at);
            }
            Input::Admitted => self.admitted(at),
            Input::GateClosed => self.contender.gate_closed(&mut self.by_contender),
            Input::Engine(engine) => self.engine = engine,
            Input::Drained => self.contender.drained(&mut self.by_contender),
            Input::Ready(ready) => self.ready = ready.min(100),
            Input::Checked(check, patience, result) => {
                self.health.report(at, check, patience, result);
            }
            Input::Unchecked(check) => self.health.keep(|known| *known != check),
            Input::StoodStill => {
                self.voter.stood_still(at);
                self.role.must_end();
                self.contender.give_up(&mut self.by_contender);
            }
            Input::Conflict => {
                if self.announcing.as_mut().is_some_and(|announcing| announcing.conflict(at)) {
                    out.push(Output::Alarm(Alarm::Conflict));
                }
            }
            Input::Wish(wish) => self.wish(at, wish, out),
        }
        self.settle(now, out);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Output>) {
        let at = now.instant;
        self.contender.handle_timeout(at, &mut self.by_contender);
        self.settle(now, out);
        if self.announcing.as_mut().is_some_and(|announcing| announcing.is_due(at)) {
            out.push(Output::Announce);
        }
        if self.announcing.is_some() && self.refresh_at <= at {
            self.refresh_at = at + REFRESH_EVERY;
            out.push(Output::HoldAddresses);
        }
        if self.heartbeat_at <= at {
            self.heartbeat_at = at + HEARTBEAT_EVERY;
            self.send_heartbeats(now, out);
        }
        if self.hello_at <= at {
            self.hello_at = at + HELLO_EVERY;
            for (id, _) in self.members.iter().filter(|(_, member)| member.is_witness) {
                out.push(Output::Send(*id, Message::Hello(self.service)));
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Instant {
        let announcing = self.announcing.as_ref();
        [
            Some(self.heartbeat_at),
            Some(self.hello_at),
            announcing.map(Announcing::due),
            announcing.map(|_| self.refresh_at),
            self.contender.poll_timeout(),
            self.role_due(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(self.heartbeat_at)
    }

    /// How well this node is.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The epoch and deadline under which this node is active at `now`.
    pub fn lease(&self, now: Instant) -> Option<(Epoch, Instant)> {
        self.contender.lease(now)
    }

    fn message(&mut self, now: Now, from: MemberId, message: Message, out: &mut Vec<Output>) {
        let at = now.instant;
        let is_known = from != self.member && self.members.contains_key(&from);
        if !is_known || message.service() != self.service {
            return;
        }
        match message {
            Message::Ask(ask) => {
                self.contender.saw_epoch(ask.epoch);
                self.contender.saw_list(&ask.list);
                self.voter.handle_ask(at, ask, &mut self.by_voter);
            }
            Message::Answer(answer) => {
                if self.is_voter_of(at, from, answer.voter, out) {
                    self.contender.handle_answer(at, &answer, &mut self.by_contender);
                }
            }
            Message::Release(release) => {
                self.contender.saw_epoch(release.epoch);
                self.voter.handle_release(release, &mut self.by_voter);
                for peer in &mut self.peers {
                    peer.released(release.holder);
                }
                if self.contender.released(release.holder) {
                    self.not_taken(Refused::NotTaken, out);
                }
            }
            Message::Heartbeat(heartbeat) => {
                self.is_voter_of(at, from, heartbeat.voter, out);
                self.heard(now, heartbeat, out);
            }
            Message::HandoverAsk(ask) => {
                self.contender.handle_handover_ask(at, ask, &mut self.by_contender);
            }
            Message::HandoverAnswer(answer) => {
                if self.is_voter_of(at, from, answer.voter, out) {
                    self.contender.handle_handover(at, &answer, &mut self.by_contender);
                }
            }
            Message::Here(here) => {
                self.contender.saw_epoch(here.highest);
                self.is_voter_of(at, from, here.voter, out);
                if let Some(member) = self.members.get_mut(&from) {
                    member.here = Some(here);
                }
            }
            Message::List(_, list) => self.contender.saw_list(&list),
            Message::Hello(_) => {}
        }
    }

    /// Whether a voter speaks for a member. The first one that does is learnt; another one does not count.
    fn is_voter_of(&mut self, at: Instant, id: MemberId, voter: VoterId, out: &mut Vec<Output>) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        member.heard = Some(at);
        let mut list = *self.contender.list();
        list.learn(id, voter);
        if list != *self.contender.list() {
            self.contender.saw_list(&list);
            out.push(Output::Learn(id, voter));
        }
        if list.has(id, voter) {
            // It was accepted. The next one to take its place is another story.
            if member.stranger == Some(voter) {
                member.stranger = None;
                member.has_alarmed = false;
            }
            return true;
        }
        member.stranger = Some(voter);
        if !member.has_alarmed && list.has_member(id) {
            member.has_alarmed = true;
            out.push(Output::Alarm(Alarm::VoterChanged(id, voter)));
        }
        // Its vote may be wanted: the contender knows whom it asked.
        self.listing.is_some_and(|listing| listing.adds(id, voter))
    }

    fn heard(&mut self, now: Now, heartbeat: Heartbeat, out: &mut Vec<Output>) {
        self.contender.saw_epoch(heartbeat.epoch);
        let node = heartbeat.from.node;
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.node() == node) else { return };
        let before = peer.last_said().copied();
        peer.heard(now.instant, heartbeat);
        if heartbeat.list < self.contender.list().version() {
            let list = Message::List(self.service, *self.contender.list());
            out.push(Output::Send(node.into(), list));
        }
        let differs = |heartbeat: &Heartbeat| heartbeat.settings != self.settings.digest;
        if differs(&heartbeat) && !before.as_ref().is_some_and(differs) {
            out.push(Output::Alarm(Alarm::SettingsDiffer(node)));
        }
        let apart = Duration::from_millis(heartbeat.wall_ms.abs_diff(now.wall.as_millis()));
        if peer.compared(now.instant, apart > APART_MAX) {
            out.push(Output::Alarm(Alarm::ClocksApart(node)));
        }
    }

    fn send_heartbeats(&self, now: Now, out: &mut Vec<Output>) {
        let at = now.instant;
        for peer in &self.peers {
            let heartbeat = Heartbeat {
                service: self.service,
                from: self.me,
                voter: self.voter.id(),
                stance: self.stance(at),
                epoch: self.lease(at).map_or(self.contender.highest(), |(epoch, _)| epoch),
                ailment: self.health.ailment(),
                ready: self.ready,
                wants_relief: self.role.wants_relief(),
                hears_you: peer.is_heard(at),
                has_witness: self.lease(at).is_some() && self.has_witness_voted(at),
                list: self.contender.list().version(),
                settings: self.settings.digest,
                wall_ms: now.wall.as_millis(),
                admits_at: self.admits_at,
            };
            out.push(Output::Send(peer.node().into(), Message::Heartbeat(heartbeat)));
        }
    }

    fn stance(&self, at: Instant) -> Stance {
        match () {
            () if self.lease(at).is_some() => Stance::Active,
            () if self.role.is_away() || !self.contender.list().has_member(self.member) => Stance::Away,
            () if self.engine != Engine::Ready || self.voter.is_faulty() => Stance::Unable,
            () => Stance::Standby,
        }
    }

    /// Decides, and carries outputs between the machines until none is left.
    fn settle(&mut self, now: Now, out: &mut Vec<Output>) {
        loop {
            self.carry(now, out);
            self.decide(now.instant, out);
            if self.by_voter.is_empty() && self.by_contender.is_empty() {
                self.settle_admission(out);
                return;
            }
        }
    }

    fn carry(&mut self, now: Now, out: &mut Vec<Output>) {
        while !self.by_voter.is_empty() || !self.by_contender.is_empty() {
            for output in std::mem::take(&mut self.by_voter) {
                self.carry_voter(now.instant, output, out);
            }
            for output in std::mem::take(&mut self.by_contender) {
                self.carry_contender(now, output, out);
            }
        }
    }

    fn carry_voter(&mut self, at: Instant, output: VoterOutput, out: &mut Vec<Output>) {
        match output {
            VoterOutput::Keep(write, record) => out.push(Output::Keep(write, record)),
            VoterOutput::Answer(node, answer) if node == self.me.node => {
                self.contender.handle_answer(at, &answer, &mut self.by_contender);
            }
            VoterOutput::Answer(node, answer) => self.send_to_peer(node, Message::Answer(answer), out),
            VoterOutput::Tell(node, list) if node == self.me.node => self.contender.saw_list(&list),
            VoterOutput::Tell(node, list) => {
                self.send_to_peer(node, Message::List(self.service, list), out);
            }
            VoterOutput::Alarm(crate::VoterAlarm::DiskFailed) => out.push(Output::Alarm(Alarm::DiskFailed)),
            VoterOutput::Alarm(crate::VoterAlarm::Cloned(node)) => {
                out.push(Output::Alarm(Alarm::Cloned(node)))
            }
        }
    }

    fn carry_contender(&mut self, now: Now, output: ContenderOutput, out: &mut Vec<Output>) {
        let at = now.instant;
        match output {
            ContenderOutput::Ask(voter, ask) if voter == self.voter.id() => {
                self.voter.handle_ask(at, ask, &mut self.by_voter);
            }
            ContenderOutput::Ask(voter, ask) => {
                if let Some(id) = self.member_of(voter) {
                    out.push(Output::Send(id, Message::Ask(ask)));
                }
            }
            ContenderOutput::Release(release) => self.send_release(release, out),
            ContenderOutput::Activate(epoch, until) => {
                out.push(Output::OpenGate(epoch, until));
                out.push(Output::HoldAddresses);
                out.push(Output::Announce);
                self.active_since = epoch;
                out.push(Output::Lease(LeaseMirror::until(until, epoch)));
                let mut announcing = Announcing::new(at);
                announcing.is_due(at);
                self.announcing = Some(announcing);
                self.refresh_at = at + REFRESH_EVERY;
                let reason = self.role.became_active(at);
                out.push(Output::BecameActive(epoch, reason));
                self.send_heartbeats(now, out);
            }
            ContenderOutput::Extend(epoch, until) => {
                out.push(Output::OpenGate(epoch, until));
                // What has run out does not come back, so nobody else was active in between.
                out.push(Output::Lease(LeaseMirror::until(until, epoch).held_since(self.active_since)));
            }
            ContenderOutput::Deactivate(epoch, cause) => {
                self.announcing = None;
                out.push(Output::NoLease);
                out.push(Output::CloseGate(epoch));
                out.push(Output::DropAddresses);
                if self.role.became_standby(at, cause) {
                    self.health.gave_up(at);
                }
                self.end_listing(Err(Refused::NotActive), out);
                out.push(Output::BecameStandby(epoch, cause));
            }
            ContenderOutput::ListUnchanged => self.end_listing(Err(Refused::NoMajority), out),
            ContenderOutput::AskHandover(ask) => {
                // What was let in has a short life of its own.
                if self.admission.is_some() {
                    out.push(Output::Admit);
                }
                self.send_to_peers(Message::HandoverAsk(ask), out);
            }
            ContenderOutput::Reserve(epoch) => self.voter.reserve(epoch, &mut self.by_voter),
            ContenderOutput::Drain => out.push(Output::Drain(self.heir(at))),
            ContenderOutput::HandOver(answer) => {
                let released = Release { service: answer.service, holder: answer.from, epoch: answer.epoch };
                let (to, next, lease) = (answer.to, answer.next, answer.lease);
                match self.voter.grant_reserved(at, released, to, next, lease, &mut self.by_voter) {
                    Some(_) => self.send_to_peers(Message::HandoverAnswer(answer), out),
                    None => self.contender.handover_failed(&mut self.by_contender),
                }
            }
            ContenderOutput::RepeatHandOver(answer) => {
                self.send_to_peers(Message::HandoverAnswer(answer), out);
            }
            ContenderOutput::VoteForSelf(release, epoch, lease) => {
                let granted =
                    self.voter.grant_reserved(at, release, self.me, epoch, lease, &mut self.by_voter);
                self.contender.own_vote(at, granted, &mut self.by_contender);
            }
        }
    }

    /// From which member a voter votes: by its seat, or because it speaks for it.
    fn member_of(&self, voter: VoterId) -> Option<MemberId> {
        let seated = || self.members.keys().find(|id| self.contender.list().has(**id, voter));
        let speaks = || self.members.iter().find(|(_, member)| member.stranger == Some(voter));
        seated().or_else(|| speaks().map(|(id, _)| id)).copied()
    }

    /// Whether each witness that has a seat has voted for this node.
    fn has_witness_voted(&self, at: Instant) -> bool {
        let is_witness = |id: MemberId| self.members.get(&id).is_some_and(|member| member.is_witness);
        let mut seats = self.contender.list().seats().filter(|seat| is_witness(seat.member));
        seats.all(|seat| seat.voter.is_some_and(|voter| self.contender.votes(at).any(|other| other == voter)))
    }

    fn send_release(&mut self, release: Release, out: &mut Vec<Output>) {
        self.voter.handle_release(release, &mut self.by_voter);
        for id in self.members.keys().filter(|id| **id != self.member) {
            out.push(Output::Send(*id, Message::Release(release)));
        }
    }

    fn send_to_peers(&self, message: Message, out: &mut Vec<Output>) {
        out.extend(self.peers.iter().map(|peer| Output::Send(peer.node().into(), message)));
    }

    /// Whoever asks may name a node that is none.
    fn send_to_peer(&self, node: NodeId, message: Message, out: &mut Vec<Output>) {
        if self.peers.iter().any(|peer| peer.node() == node) {
            out.push(Output::Send(node.into(), message));
        }
    }
}
