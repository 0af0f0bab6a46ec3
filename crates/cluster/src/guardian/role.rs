//! Whether this node should be active: who is silent, who is ill, what the operator wants.

use std::time::Duration;

use clock::Instant;

use super::{Engine, Guardian, Output, Refused, Wish};
use crate::heartbeat::{Heartbeat, Stance};
use crate::peer::Peer;
use crate::{Cause, Role};

/// How long a node that stops or was taken out waits to be relieved before it simply gives up; and how long a switchover
/// may take before the operator is told that it failed.
const RELIEF_MAX: Duration = Duration::from_secs(5);

/// A standby that holds less of the state, of 100, is handed nothing, unless an operator forces it.
const READY_MIN: u8 = 100;

/// Why a node has become active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody was active when it started.
    Start,
    /// The active node fell silent.
    PeerSilent,
    /// The active node released the service: its engine died, its health, a stop without hand-over.
    PeerReleased,
    /// The active node is less well than this one, and asked to be relieved.
    PeerIll,
    /// A planned switchover.
    Switchover,
}

/// What the role remembers.
#[derive(Debug)]
pub(super) struct State {
    started: Instant,
    /// When everything was last looked at.
    looked: Instant,
    /// When somebody, this node too, was last known to be active.
    someone_active: Option<Instant>,
    relief: Option<Relief>,
    is_away: bool,
    is_stopping: bool,
    has_ended: bool,
    /// When it last began to ask for votes.
    asked: Option<Instant>,
    /// Since when this node could take the service back.
    well_since: Option<Instant>,
    why: Reason,
}

/// This node wants another one to be active, or was wished to be active instead of one.
#[derive(Clone, Copy, Debug)]
struct Relief {
    since: Instant,
    want: Want,
}

/// Why relief is wanted, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// An operator wants a switchover.
    Switchover,
    /// The service is where an operator wanted it to be; the witness has not voted there yet.
    Moved,
    /// The node stops, or was taken out.
    Leaving,
    /// The node is ill, and another one is better: for as long as that is so.
    Ill,
}

impl Relief {
    fn is_wished(&self) -> bool {
        matches!(self.want, Want::Switchover | Want::Moved)
    }

    /// When it is waited for no more.
    fn until(&self) -> Option<Instant> {
        (self.want != Want::Ill).then(|| self.since + RELIEF_MAX)
    }
}

impl State {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            looked: now,
            someone_active: None,
            relief: None,
            is_away: false,
            is_stopping: false,
            has_ended: false,
            asked: None,
            well_since: None,
            why: Reason::Start,
        }
    }

    pub(super) fn wants_relief(&self) -> bool {
        self.relief.is_some_and(|relief| relief.want != Want::Moved)
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away || self.is_stopping
    }

    /// The node ends, whatever else is wished.
    pub(super) fn must_end(&mut self) {
        self.is_stopping = true;
        self.relief = None;
    }

    /// This node has become active; why.
    pub(super) fn became_active(&mut self, now: Instant) -> Reason {
        self.someone_active = Some(now);
        self.relief = match self.relief {
            // A switchover that was wished here is done when the witness has voted too.
            Some(relief) if relief.is_wished() && self.why == Reason::Switchover => {
                Some(Relief { since: now, want: Want::Moved })
            }
            // It was wished away from here, and came back: that may be tried again.
            Some(relief) if relief.is_wished() => Some(relief),
            _ => None,
        };
        std::mem::replace(&mut self.why, Reason::PeerSilent)
    }

    /// This node is active no more. Says whether it was relieved because it is ill.
    pub(super) fn became_standby(&mut self, now: Instant, cause: Cause) -> bool {
        // Whoever has more of the state than this node is given the time to take over, and the new one the time to be heard.
        self.someone_active = Some(now);
        let ill = self.relief.take_if(|relief| relief.want == Want::Ill);
        ill.is_some() && cause == Cause::HandedOver
    }
}

impl Guardian {
    /// What the operator wants.
    pub(super) fn wish(&mut self, now: Instant, wish: Wish, out: &mut Vec<Output>) {
        match wish {
            Wish::Switchover { force } => match self.switchover(now, force) {
                Ok(()) => {}
                Err(refused) => out.push(Output::Switched(Err(refused))),
            },
            Wish::Stop => self.role.is_stopping = true,
            Wish::Away => self.role.is_away = true,
            Wish::Return => self.role.is_away = false,
            Wish::Solo { .. } | Wish::ChangeList | Wish::Accept(_) => self.wish_list(now, wish, out),
        }
    }

    fn switchover(&mut self, now: Instant, force: bool) -> Result<(), Refused> {
        if self.lease(now).is_some() {
            let peer = self.peers.iter().find_map(|peer| peer.says(now)).ok_or(Refused::PeerSilent)?;
            self.fitness(peer, force)?;
            self.role.relief = Some(Relief { since: now, want: Want::Switchover });
            return Ok(());
        }
        let active =
            self.peers.iter().find(|peer| peer.is_active(now)).and_then(|peer| peer.says(now)).copied();
        let active = active.ok_or(Refused::NobodyActive)?;
        if self.stance(now) != Stance::Standby {
            return Err(Refused::SelfUnable);
        }
        if self.ready < READY_MIN && !force {
            return Err(Refused::PeerNotReady(self.ready));
        }
        self.role.why = Reason::Switchover;
        self.role.relief = Some(Relief { since: now, want: Want::Switchover });
        self.contender.take_over(now, active.from, active.epoch, &mut self.by_contender);
        Ok(())
    }

    /// Whether another node may become active in this one's place.
    fn fitness(&self, peer: &Heartbeat, force: bool) -> Result<(), Refused> {
        if peer.stance != Stance::Standby {
            return Err(Refused::PeerUnable);
        }
        if force {
            return Ok(());
        }
        if peer.ready < READY_MIN {
            return Err(Refused::PeerNotReady(peer.ready));
        }
        if peer.ailment > self.health.ailment() {
            return Err(Refused::PeerIll);
        }
        Ok(())
    }

    /// When [`Self::decide`] may decide otherwise than now, without any input.
    pub(super) fn role_due(&self) -> Option<Instant> {
        let silent_at = self.peers.iter().filter_map(Peer::silent_at);
        let relief = self.role.relief.as_ref().and_then(Relief::until);
        let (lease, since) = (self.settings.plan.lease, self.waiting_since());
        let waits = [Peer::silence_max(), lease, lease * 2, lease * 4].map(|wait| since + wait);
        silent_at
            .chain(waits)
            .chain(relief)
            .chain(self.listing_due())
            .chain(self.contender.may_campaign_at())
            .chain(self.preferred_at())
            .filter(|at| *at > self.role.looked)
            .min()
    }

    /// Since when nobody has been known to be active.
    fn waiting_since(&self) -> Instant {
        self.role.someone_active.unwrap_or(self.role.started)
    }

    /// Looks at everything and wants what follows.
    pub(super) fn decide(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.role.looked = now;
        if self.peers.iter().any(|peer| peer.is_active(now)) {
            self.role.someone_active = Some(now);
        }
        self.bound_listing(now, out);
        match self.contender.role() {
            Role::Active => {
                self.decide_active(now);
                self.moved(self.has_witness_voted(now), out);
                self.go_on_listing(now, out);
            }
            Role::Standby | Role::Candidate => self.decide_standby(now, out),
            Role::Closing => {}
        }
        let late = self.role.relief.take_if(|relief| relief.until().is_some_and(|until| until <= now));
        match late.map(|relief| relief.want) {
            Some(Want::Switchover) => out.push(Output::Switched(Err(Refused::NotTaken))),
            Some(Want::Moved) => out.push(Output::Switched(Err(Refused::WitnessSilent))),
            Some(Want::Leaving | Want::Ill) | None => {}
        }
    }

    fn decide_active(&mut self, now: Instant) {
        let peer = self.peers.iter().find_map(|peer| peer.says(now)).copied();
        let fit = peer.filter(|peer| self.fitness(peer, false).is_ok());
        if matches!(self.engine, Engine::Dead | Engine::Hung) {
            // Nothing can be handed over by an engine that is not there; without a ready peer it is started again here.
            if fit.is_some() {
                self.contender.give_up(&mut self.by_contender);
            }
            return;
        }
        if self.role.is_stopping || self.role.is_away {
            self.role.relief.take_if(|relief| relief.want == Want::Ill);
            let relief = self.role.relief.get_or_insert(Relief { since: now, want: Want::Leaving });
            if fit.is_none() || now.since(relief.since) >= RELIEF_MAX {
                self.role.relief = None;
                self.contender.give_up(&mut self.by_contender);
            }
            return;
        }
        let is_better = fit.is_some_and(|peer| peer.ailment < self.health.ailment());
        match &self.role.relief {
            None if is_better => self.role.relief = Some(Relief { since: now, want: Want::Ill }),
            Some(Relief { want: Want::Ill, .. }) if !is_better => self.role.relief = None,
            _ => {}
        }
    }

    fn decide_standby(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.role.is_stopping {
            if self.contender.role() == Role::Candidate {
                self.contender.give_up(&mut self.by_contender);
            }
            if !self.role.has_ended && self.by_contender.is_empty() {
                self.role.has_ended = true;
                out.push(Output::MayEnd);
            }
            return;
        }
        let active =
            self.peers.iter().find(|peer| peer.is_active(now)).and_then(|peer| peer.says(now)).copied();
        if let Some(active) = active {
            self.beside_active(now, &active, out);
            return;
        }
        self.role.well_since = None;
        self.end_vain_taking(now, out);
        if self.contender.role() == Role::Candidate || !self.may_campaign(now) {
            return;
        }
        if self.role.someone_active.is_some() {
            let is_heard = self.peers.iter().any(|peer| peer.is_heard(now));
            self.role.why = if is_heard { Reason::PeerReleased } else { Reason::PeerSilent };
        }
        let barred = self.voter.barred_for(now, self.me);
        self.contender.campaign(now, barred, &mut self.by_contender);
        if self.contender.role() == Role::Candidate {
            self.role.asked = Some(now);
        }
    }

    /// A hand-over that was asked of a node which died meanwhile must not keep this one from asking the voters.
    fn end_vain_taking(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_heard = self.peers.iter().any(|peer| peer.is_heard(now));
        // Who hands over says by a heartbeat that it is active no more, and that may be here before its answer.
        let is_late = now.since(self.waiting_since()) >= Peer::silence_max();
        if self.contender.is_taking_over() && (!is_heard || is_late) && self.contender.give_up_taking() {
            self.not_taken(if is_heard { Refused::NotTaken } else { Refused::PeerSilent }, out);
        }
    }

    /// A hand-over to this node has failed. If it was wished here, that is told: the service may come here all the same, but
    /// because nobody has it.
    pub(super) fn not_taken(&mut self, why: Refused, out: &mut Vec<Output>) {
        let is_wish = |relief: &mut Relief| relief.want == Want::Switchover;
        if self.role.why == Reason::Switchover && self.role.relief.take_if(is_wish).is_some() {
            out.push(Output::Switched(Err(why)));
        }
    }

    /// Tells the operator that the service has moved as was wished, once the witness votes there.
    fn moved(&mut self, has_witness: bool, out: &mut Vec<Output>) {
        if has_witness && self.role.relief.take_if(|relief| relief.want == Want::Moved).is_some() {
            out.push(Output::Switched(Ok(())));
        }
    }

    /// Another node is active, and heard.
    fn beside_active(&mut self, now: Instant, active: &Heartbeat, out: &mut Vec<Output>) {
        if self.contender.role() == Role::Candidate {
            self.contender.give_up(&mut self.by_contender);
            return;
        }
        if let Some(relief) = self.role.relief
            && !self.contender.is_taking_over()
            && relief.is_wished()
            && self.role.why != Reason::Switchover
        {
            // The other one has taken over from this one, as was wished here.
            let since = if relief.want == Want::Moved { relief.since } else { now };
            self.role.relief = Some(Relief { since, want: Want::Moved });
            self.moved(active.has_witness, out);
        }
        let is_able = self.stance(now) == Stance::Standby && self.ready >= READY_MIN;
        let is_well = is_able && self.health.ailment() == 0;
        self.role.well_since = if is_well { self.role.well_since.or(Some(now)) } else { None };
        let is_due = self.preferred_at().is_some_and(|at| at <= now);
        let is_asked = active.wants_relief && is_able && self.health.ailment() <= active.ailment;
        if (is_asked || is_due) && !self.contender.is_taking_over() {
            // A heartbeat does not say why relief is wanted: who is as well as this node was told to go. What an operator
            // wished here stays a switchover, or it would be given back at once.
            let is_wished = self.role.relief.is_some_and(|relief| relief.is_wished());
            let is_ill = self.health.ailment() < active.ailment;
            self.role.why =
                if is_asked && is_ill && !is_wished { Reason::PeerIll } else { Reason::Switchover };
            self.role.well_since = None;
            self.contender.take_over(now, active.from, active.epoch, &mut self.by_contender);
        }
    }

    fn preferred_at(&self) -> Option<Instant> {
        Some(self.role.well_since? + self.settings.preferred?)
    }

    /// Whether this node may ask for the service, nobody being known as active.
    fn may_campaign(&self, now: Instant) -> bool {
        if self.stance(now) != Stance::Standby || self.contender.is_taking_over() || self.is_deaf() {
            return false;
        }
        let lease = self.settings.plan.lease;
        let ours = self.health.ailment();
        let others = || self.peers.iter().filter_map(|peer| peer.says(now));
        let able = || others().filter(|peer| peer.stance == Stance::Standby);
        let waited = now.since(self.waiting_since());
        // At the start the others are given the time to be heard.
        if self.role.someone_active.is_none() && waited < Peer::silence_max() {
            return false;
        }
        if self.health.paused_until(now).is_some() && able().next().is_some() {
            return waited >= lease * 4;
        }
        let is_best = able().all(|peer| (ours, 100 - self.ready) <= (peer.ailment, 100 - peer.ready));
        // If no node is well, the least unwell one is better than none, after one lease.
        match (is_best, ours) {
            (true, 0) => true,
            (true, _) => waited >= lease,
            (false, _) => waited >= lease * 2,
        }
    }

    /// Whether nobody was heard since this node asked for votes. Its questions may arrive all the same: then it would
    /// be granted votes that it never hears of, again and again, and keep them from who could use them.
    fn is_deaf(&self) -> bool {
        let is_heard = |asked| self.members.values().any(|member| member.heard.is_some_and(|at| at > asked));
        let is_enough = self.contender.list().is_majority(|voter| voter == self.voter.id());
        !is_enough && self.role.asked.is_some_and(|asked| !is_heard(asked))
    }
}
