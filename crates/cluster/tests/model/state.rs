//! One state of the small world, and what can happen in it.
//!
//! The machines are those that ship. Time passes in ticks, of which a lease is one or two, for all hosts at once, by as
//! much as each host's clock goes; between two ticks anything happens in any order. What an edge does with the outputs is as in
//! `Guardian`: machines of one host talk at once, then what leaves the host leaves it, or the process is frozen first.

mod calm;
mod same;

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use cluster::{
    Answer, Ask, Contender, ContenderOutput, Epoch, HandoverAnswer, HandoverAsk, Holder, Incarnation,
    LeasePlan, ListVersion, MemberId, NodeId, Record, Release, Role, Seat, ServiceId, Verdict, Voter,
    VoterId, VoterList, VoterOutput, WriteNumber,
};

pub const SERVICE: ServiceId = ServiceId(0);
const NODES: usize = 2;
/// Some ticks, and so long that all other times of the machines are some ticks at the most.
const LEASE: Duration = Duration::from_secs(9);
/// Between two steps every clock shows this.
const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

/// How large the world is.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// How many ticks a lease is, by a clock of the usual speed.
    pub ticks: u32,
    /// How many units, of which ten are a tick, each clock goes on in a tick: 9, 10 or 11. Two nodes, then one or two witnesses.
    pub rates: &'static [u32],
    pub flight_max: usize,
    pub epoch_max: u64,
    pub crashes: u8,
    pub freezes: u8,
    /// How often a disk or a gate takes its time; else what they are asked for is done at once.
    pub lags: u8,
    pub copies: u8,
    pub handovers: u8,
    pub surrenders: u8,
    pub changes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Left {
    crashes: u8,
    freezes: u8,
    lags: u8,
    copies: u8,
    handovers: u8,
    surrenders: u8,
    changes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    Ask(Ask),
    Answer(Answer),
    Release(Release),
    List(VoterList),
    HandoverAsk(HandoverAsk),
    HandoverAnswer(HandoverAnswer),
}

/// What leaves the process.
#[expect(clippy::large_enum_variant, reason = "a box would be one more thing to copy for each state")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Effect {
    Send(u8, Message),
    Open(Epoch, Instant),
    Close(Epoch),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gate {
    epoch: Epoch,
    closed: Epoch,
    until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    voter: Option<Voter>,
    contender: Option<Contender>,
    disk: Record,
    writing: Vec<Record>,
    /// The gate is being closed.
    closing: Option<Epoch>,
    is_draining: bool,
    gate: Gate,
    /// It has read its clock and decided, and stands still before it acts.
    frozen: Vec<Effect>,
    boot: u8,
    /// Its disk or its gate takes its time.
    lags: bool,
    /// The highest epoch whose release has reached the voter of this start.
    released: Epoch,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    places: Vec<Place>,
    flight: Vec<(u8, Message)>,
    /// Which start of which place had its gate open, by epoch.
    tenures: BTreeMap<Epoch, (u8, u8)>,
    left: Left,
    pub violation: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Tick,
    Deliver(u8, Message),
    DeliverCopy(u8, Message),
    DiskWritten(u8),
    GateClosed(u8),
    Drained(u8),
    Wake(u8),
    Campaign(u8),
    GiveUp(u8),
    TakeOver(u8),
    ChangeList(u8, u8),
    Crash(u8),
    Start(u8),
    Thaw(u8),
}

impl Setting {
    fn unit(&self) -> Duration {
        LEASE / self.ticks / 10
    }
}

impl State {
    pub fn first(setting: &Setting) -> Self {
        let place = |at: usize| Place {
            voter: None,
            contender: None,
            disk: Record::first(VoterId(at as u64 + 1)),
            writing: Vec::new(),
            closing: None,
            is_draining: false,
            gate: Gate { epoch: Epoch(0), closed: Epoch(0), until: NOW },
            frozen: Vec::new(),
            boot: 0,
            lags: false,
            released: Epoch(0),
        };
        let Setting { crashes, freezes, lags, copies, handovers, surrenders, changes, .. } = *setting;
        let mut state = Self {
            places: (0..setting.rates.len()).map(place).collect(),
            flight: Vec::new(),
            tenures: BTreeMap::new(),
            left: Left { crashes, freezes, lags, copies, handovers, surrenders, changes },
            violation: None,
        };
        for at in 0..setting.rates.len() {
            state.start(at);
        }
        state.settle(setting, false);
        state
    }

    /// All states that may follow, with what leads there.
    pub fn successors(&self, setting: &Setting, into: &mut Vec<(Action, State)>) {
        let mut next = Next { setting, into };
        next.add(Action::Tick, self.clone(), true, |state| {
            state.after_tick(setting);
            Vec::new()
        });
        self.deliveries(&mut next);
        for at in 0..self.places.len() {
            self.of_place(at, &mut next);
        }
    }

    fn deliveries(&self, next: &mut Next<'_>) {
        for (index, (to, message)) in self.flight.iter().enumerate() {
            let at = usize::from(*to);
            if !self.places[at].moves() {
                continue;
            }
            let mut state = self.clone();
            state.flight.remove(index);
            next.act(Action::Deliver(*to, *message), state, at, |state| state.deliver(at, *message));
            if self.left.copies > 0 {
                let mut state = self.clone();
                state.left.copies -= 1;
                next.act(Action::DeliverCopy(*to, *message), state, at, |state| state.deliver(at, *message));
            }
        }
    }

    fn of_place(&self, at: usize, next: &mut Next<'_>) {
        let (place, id) = (&self.places[at], at as u8);
        if place.voter.is_none() {
            next.act(Action::Start(id), self.clone(), at, |state| {
                state.start(at);
                Vec::new()
            });
            return;
        }
        if self.left.crashes > 0 {
            let mut state = self.clone();
            state.left.crashes -= 1;
            next.act(Action::Crash(id), state, at, |state| {
                state.crash(at);
                Vec::new()
            });
        }
        if !place.moves() {
            let mut state = self.clone();
            let effects = std::mem::take(&mut state.places[at].frozen);
            return next.carry_out(Action::Thaw(id), state, at, effects);
        }
        if !place.writing.is_empty() {
            next.act(Action::DiskWritten(id), self.clone(), at, |state| state.disk_written(at));
        }
        let Some(contender) = &place.contender else { return };
        if place.closing.is_some() {
            next.act(Action::GateClosed(id), self.clone(), at, |state| state.gate_closed(at));
        }
        if place.is_draining {
            next.act(Action::Drained(id), self.clone(), at, |state| {
                state.places[at].is_draining = false;
                state.contend(at, |contender, out| contender.drained(out))
            });
        }
        if contender.poll_timeout().is_some_and(|due| due <= NOW) {
            next.act(Action::Wake(id), self.clone(), at, |state| {
                state.contend(at, |contender, out| contender.handle_timeout(NOW, out))
            });
        }
        if self.may_campaign(at) {
            next.act(Action::Campaign(id), self.clone(), at, |state| state.campaign(at));
        }
        if contender.role() == Role::Active && self.left.surrenders > 0 {
            let mut state = self.clone();
            state.left.surrenders -= 1;
            next.act(Action::GiveUp(id), state, at, |state| state.contend(at, Contender::give_up));
        }
        if let Some((holder, epoch)) = self.holder_for(at)
            && self.left.handovers > 0
        {
            let mut state = self.clone();
            state.left.handovers -= 1;
            next.act(Action::TakeOver(id), state, at, |state| {
                state.contend(at, |contender, out| contender.take_over(NOW, holder, epoch, out))
            });
        }
        if contender.role() == Role::Active && self.left.changes > 0 {
            for other in 0..self.places.len() {
                let mut state = self.clone();
                state.left.changes -= 1;
                next.act(Action::ChangeList(id, other as u8), state, at, |state| {
                    state.contend(at, |contender, out| {
                        contender.change_list(NOW, seat(other), out);
                    })
                });
            }
        }
    }

    fn may_campaign(&self, at: usize) -> bool {
        let place = &self.places[at];
        let (Some(voter), Some(contender)) = (&place.voter, &place.contender) else { return false };
        contender.role() == Role::Standby
            && !contender.is_taking_over()
            && contender.may_campaign_at().is_none()
            // Who has no seat does not, and would keep others from their turn by trying.
            && contender.list().has(MemberId(at as u8), voter.id())
            && voter.barred_for(NOW, contender.me()).is_zero()
    }

    fn campaign(&mut self, at: usize) -> Vec<Effect> {
        self.contend(at, |contender, out| contender.campaign(NOW, Duration::ZERO, out))
    }

    /// Whom a standby could take the service over from.
    fn holder_for(&self, at: usize) -> Option<(Holder, Epoch)> {
        let contender = self.places[at].contender.as_ref()?;
        let other = self.places[1 - at].contender.as_ref()?;
        let is_free = contender.role() == Role::Standby && !contender.is_taking_over();
        let (epoch, _) = other.lease(NOW)?;
        is_free.then_some((other.me(), epoch))
    }

    fn after_tick(&mut self, setting: &Setting) {
        for (place, rate) in self.places.iter_mut().zip(setting.rates) {
            place.rebase(NOW + setting.unit() * *rate, setting.unit());
        }
    }

    fn start(&mut self, at: usize) {
        let place = &mut self.places[at];
        place.boot += 1;
        place.released = place.disk.closed;
        // A guardian cleans the gate that its predecessor left before it votes.
        place.gate.closed = place.gate.epoch;
        let voter = Voter::new(NOW, SERVICE, place.disk);
        if at < NODES {
            let incarnation = Incarnation(at as u64 * 16 + u64::from(place.boot));
            let me = Holder { node: NodeId(at as u8), incarnation };
            let list = match place.disk.list {
                VoterList::NONE => VoterList::new(ListVersion::FIRST, (0..3).map(seat), None),
                list => list,
            };
            let plan = LeasePlan { lease: LEASE };
            place.contender = Some(Contender::new(SERVICE, me, voter.id(), list, plan, voter.highest()));
        }
        place.voter = Some(voter);
    }

    fn crash(&mut self, at: usize) {
        let place = &mut self.places[at];
        place.voter = None;
        place.contender = None;
        place.writing.clear();
        place.frozen.clear();
        place.closing = None;
        place.is_draining = false;
        place.lags = false;
    }

    fn disk_written(&mut self, at: usize) -> Vec<Effect> {
        let place = &mut self.places[at];
        place.disk = place.writing.remove(0);
        let (mut by_voter, mut by_contender) = (Vec::new(), Vec::new());
        let reserved = place.disk.reserved;
        if let Some(voter) = &mut place.voter {
            voter.handle_kept(NOW, WriteNumber(1), true, &mut by_voter);
            if let Some(contender) = &mut place.contender
                && voter.has_reserved(voter.reserved())
                && reserved > Epoch(0)
            {
                contender.reserved(NOW, reserved, &mut by_contender);
            }
        }
        self.talk(at, by_voter, by_contender)
    }

    fn gate_closed(&mut self, at: usize) -> Vec<Effect> {
        let place = &mut self.places[at];
        if let Some(epoch) = place.closing.take() {
            place.gate.closed = place.gate.closed.max(epoch);
        }
        self.contend(at, Contender::gate_closed)
    }

    fn contend(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Contender, &mut Vec<ContenderOutput>),
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Some(contender) = &mut self.places[at].contender {
            act(contender, &mut out);
        }
        self.talk(at, Vec::new(), out)
    }

    fn deliver(&mut self, at: usize, message: Message) -> Vec<Effect> {
        let place = &mut self.places[at];
        let (mut by_voter, mut by_contender) = (Vec::new(), Vec::new());
        let Some(voter) = &mut place.voter else { return Vec::new() };
        match message {
            Message::Ask(ask) => voter.handle_ask(NOW, ask, &mut by_voter),
            Message::Release(release) => {
                voter.handle_release(release, &mut by_voter);
                place.released = place.released.max(release.epoch);
            }
            _ => {}
        }
        if let Some(contender) = &mut place.contender {
            match message {
                Message::Ask(ask) => {
                    contender.saw_epoch(ask.epoch);
                    contender.saw_list(&ask.list);
                }
                Message::Release(release) => contender.saw_epoch(release.epoch),
                Message::Answer(answer) => contender.handle_answer(NOW, &answer, &mut by_contender),
                Message::List(list) => contender.saw_list(&list),
                Message::HandoverAsk(ask) => contender.handle_handover_ask(NOW, ask, &mut by_contender),
                Message::HandoverAnswer(answer) => contender.handle_handover(NOW, &answer, &mut by_contender),
            }
        }
        self.talk(at, by_voter, by_contender)
    }

    /// The machines of one host talk until they have said all; then something may leave it.
    fn talk(
        &mut self,
        at: usize,
        by_voter: Vec<VoterOutput>,
        by_contender: Vec<ContenderOutput>,
    ) -> Vec<Effect> {
        let mut talk = Talk { at, effects: Vec::new(), by_voter, by_contender };
        while !talk.by_voter.is_empty() || !talk.by_contender.is_empty() {
            for output in std::mem::take(&mut talk.by_voter) {
                self.voter_says(output, &mut talk);
            }
            for output in std::mem::take(&mut talk.by_contender) {
                self.contender_says(output, &mut talk);
            }
        }
        talk.effects
    }

    fn voter_says(&mut self, output: VoterOutput, talk: &mut Talk) {
        let place = &mut self.places[talk.at];
        match output {
            VoterOutput::Keep(_, record) => place.writing.push(record),
            VoterOutput::Answer(node, answer) => {
                if matches!(answer.verdict, Verdict::Granted(_)) && answer.epoch <= place.released {
                    self.violation = Some("an epoch was granted after its release");
                }
                let place = &mut self.places[talk.at];
                match &mut place.contender {
                    Some(contender) if usize::from(node.0) == talk.at => {
                        contender.handle_answer(NOW, &answer, &mut talk.by_contender);
                    }
                    _ => talk.effects.push(Effect::Send(node.0, Message::Answer(answer))),
                }
            }
            VoterOutput::Tell(node, list) => match &mut place.contender {
                Some(contender) if usize::from(node.0) == talk.at => contender.saw_list(&list),
                _ => talk.effects.push(Effect::Send(node.0, Message::List(list))),
            },
            VoterOutput::Alarm(_) => {}
        }
    }

    fn contender_says(&mut self, output: ContenderOutput, talk: &mut Talk) {
        let count = self.places.len();
        let (at, other) = (talk.at, 1 - talk.at as u8);
        let place = &mut self.places[at];
        let (Some(voter), Some(contender)) = (&mut place.voter, &mut place.contender) else { return };
        match output {
            ContenderOutput::Ask(id, ask) if id == voter.id() => {
                voter.handle_ask(NOW, ask, &mut talk.by_voter)
            }
            ContenderOutput::Ask(id, ask) => {
                talk.effects.push(Effect::Send(id.0 as u8 - 1, Message::Ask(ask)))
            }
            ContenderOutput::Release(release) => {
                voter.handle_release(release, &mut talk.by_voter);
                place.released = place.released.max(release.epoch);
                talk.send_to_others(count, Message::Release(release));
            }
            ContenderOutput::Activate(epoch, until) | ContenderOutput::Extend(epoch, until) => {
                talk.effects.push(Effect::Open(epoch, until));
            }
            ContenderOutput::Deactivate(epoch, _) => talk.effects.push(Effect::Close(epoch)),
            ContenderOutput::ListUnchanged => {}
            ContenderOutput::AskHandover(ask) => {
                talk.effects.push(Effect::Send(other, Message::HandoverAsk(ask)));
            }
            ContenderOutput::Reserve(epoch) => voter.reserve(epoch, &mut talk.by_voter),
            ContenderOutput::Drain => place.is_draining = true,
            ContenderOutput::HandOver(answer) => {
                let released = Release { service: SERVICE, holder: answer.from, epoch: answer.epoch };
                let granted = voter.grant_reserved(
                    NOW,
                    released,
                    answer.to,
                    answer.next,
                    answer.lease,
                    &mut talk.by_voter,
                );
                match granted {
                    Some(_) => talk.effects.push(Effect::Send(other, Message::HandoverAnswer(answer))),
                    None => contender.handover_failed(&mut talk.by_contender),
                }
            }
            ContenderOutput::RepeatHandOver(answer) => {
                talk.effects.push(Effect::Send(other, Message::HandoverAnswer(answer)));
            }
            ContenderOutput::VoteForSelf(release, epoch, lease) => {
                let me = contender.me();
                let granted = voter.grant_reserved(NOW, release, me, epoch, lease, &mut talk.by_voter);
                contender.own_vote(NOW, granted, &mut talk.by_contender);
            }
        }
    }

    /// What leaves the host leaves it; of each message that it is lost is one way to go on.
    fn carry_out(mut self, at: usize, effects: &[Effect], flight_max: usize, ends: &mut Vec<State>) {
        for (index, effect) in effects.iter().enumerate() {
            match *effect {
                Effect::Open(epoch, until) => self.open(at, epoch, until),
                Effect::Close(epoch) => self.places[at].closing = Some(epoch),
                Effect::Send(to, message) => {
                    if self.flight.len() < flight_max && !self.flight.contains(&(to, message)) {
                        let mut sent = self.clone();
                        sent.flight.push((to, message));
                        sent.carry_out(at, &effects[index + 1..], flight_max, ends);
                    }
                }
            }
        }
        self.write_and_close(at, flight_max, ends);
    }

    /// The disk and the gate do what they were asked for at once, or take their time.
    fn write_and_close(mut self, at: usize, flight_max: usize, ends: &mut Vec<State>) {
        let place = &self.places[at];
        let is_busy = !place.writing.is_empty() || place.closing.is_some();
        if !is_busy || place.lags || !place.moves() {
            return ends.push(self);
        }
        let mut slow = self.clone();
        let effects = match self.places[at].closing {
            Some(_) => self.gate_closed(at),
            None => self.disk_written(at),
        };
        for end in self.places.iter_mut() {
            end.renumber_writes();
        }
        self.carry_out(at, &effects, flight_max, ends);
        if slow.left.lags > 0 {
            slow.left.lags -= 1;
            slow.places[at].lags = true;
            ends.push(slow);
        }
    }

    fn open(&mut self, at: usize, epoch: Epoch, until: Instant) {
        let place = &mut self.places[at];
        place.gate.epoch = epoch;
        place.gate.until = until;
        let tenure = (at as u8, place.boot);
        let is_open = place.is_open();
        if is_open && *self.tenures.entry(epoch).or_insert(tenure) != tenure {
            self.violation = Some("an epoch had two holders");
        }
    }

    /// Makes equal what differs in nothing that matters, and looks whether two hold the service.
    fn settle(&mut self, setting: &Setting, has_ticked: bool) {
        if !has_ticked {
            self.places.iter_mut().for_each(|place| place.rebase(NOW, setting.unit()));
        }
        self.renumber();
        self.flight.sort_unstable();
        if self.left.crashes == 0 {
            self.forget_starts();
        }
        let open = self.places.iter().take(NODES).filter(|place| place.is_open()).count();
        let active =
            |place: &&Place| place.contender.as_ref().is_some_and(|contender| contender.lease(NOW).is_some());
        let active = self.places.iter().filter(active).count();
        if open > 1 {
            self.violation = Some("two gates are open");
        } else if active > 1 {
            self.violation = Some("two contenders are active");
        }
    }

    /// The highest epoch that anybody knows.
    fn highest(&self) -> Epoch {
        let contenders = self.places.iter().filter_map(|place| place.contender.as_ref());
        contenders.map(Contender::highest).max().unwrap_or(Epoch(0))
    }
}
impl Place {
    fn moves(&self) -> bool {
        self.voter.is_some() && self.frozen.is_empty()
    }

    fn is_open(&self) -> bool {
        self.gate.epoch > self.gate.closed && NOW < self.gate.until
    }
}

struct Talk {
    at: usize,
    effects: Vec<Effect>,
    by_voter: Vec<VoterOutput>,
    by_contender: Vec<ContenderOutput>,
}

impl Talk {
    fn send_to_others(&mut self, count: usize, message: Message) {
        let at = self.at;
        self.effects.extend((0..count).filter(|to| *to != at).map(|to| Effect::Send(to as u8, message)));
    }
}

/// Where successors go.
struct Next<'a> {
    setting: &'a Setting,
    into: &'a mut Vec<(Action, State)>,
}

impl Next<'_> {
    fn add(
        &mut self,
        action: Action,
        mut state: State,
        has_ticked: bool,
        act: impl FnOnce(&mut State) -> Vec<Effect>,
    ) {
        act(&mut state);
        state.settle(self.setting, has_ticked);
        self.into.push((action, state));
    }

    fn act(
        &mut self,
        action: Action,
        mut state: State,
        at: usize,
        act: impl FnOnce(&mut State) -> Vec<Effect>,
    ) {
        let effects = act(&mut state);
        if state.highest() > Epoch(self.setting.epoch_max) {
            return;
        }
        if !effects.is_empty() && state.left.freezes > 0 {
            let mut frozen = state.clone();
            frozen.left.freezes -= 1;
            frozen.places[at].frozen.clone_from(&effects);
            frozen.settle(self.setting, false);
            self.into.push((action, frozen));
        }
        self.carry_out(action, state, at, effects);
    }

    fn carry_out(&mut self, action: Action, state: State, at: usize, effects: Vec<Effect>) {
        let mut ends = Vec::new();
        state.carry_out(at, &effects, self.setting.flight_max, &mut ends);
        for mut end in ends {
            end.settle(self.setting, false);
            self.into.push((action, end));
        }
    }
}

fn seat(place: usize) -> Seat {
    Seat { member: MemberId(place as u8), voter: Some(VoterId(place as u64 + 1)) }
}
