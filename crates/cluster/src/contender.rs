//! One node's claim to a service: standby, candidate, active, giving up.
//!
//! The contender does not decide *whether* it should be active; whoever watches the peers and the node's health tells it to
//! [`Contender::campaign`] or to [`Contender::give_up`]. It sees that it never is active without a majority.
//!
//! A candidate sees first that its own voter is free, asks the others, and votes for itself last. What it got in vain it
//! releases. The holder renews five times in each lease; when a voter knows a higher epoch, the holder raises its own.
//! Giving up has an order: the gate is closed first, then all votes are forgotten, then the release leaves.
//!
//! Invariant: active at `now` only if a majority of votes counts at `now`; every vote counts from before its question left.

#[cfg(feature = "test-model")]
mod canonical;
mod change;
mod handover;

use std::time::Duration;

use clock::Instant;

use crate::fault::{self, Fault};
use crate::tally::Tally;
use crate::{
    Answer, Ask, Epoch, HandoverAnswer, HandoverAsk, Holder, LEASE_MAX, LeasePlan, Refusal, RefusalCause,
    Release, ServiceId, Verdict, VoterId, VoterList,
};
use change::Changing;
use handover::{Giving, Taking};

/// The shortest wait after a campaign that failed.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// What chance adds to it at the most. A candidate of a later rank waits longer by one [`PAUSE_MIN`] for each before it.
const PAUSE_SPREAD: Duration = Duration::from_millis(20);

/// What a contender asks of the edge, to be done in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Ask a voter. The own one is asked like any other.
    Ask(VoterId, Ask),
    /// Release at every voter.
    Release(Release),
    /// This node is active from now on: open the gate, add the address, announce.
    Activate(Epoch, Instant),
    /// The lease goes on until this deadline, under this epoch.
    Extend(Epoch, Instant),
    /// This node is active no more: stop sending, close the gate for the epoch; then call [`Contender::gate_closed`].
    Deactivate(Epoch, Cause),
    /// Ask the holder to hand over.
    AskHandover(HandoverAsk),
    /// Set this epoch aside at the own voter.
    Reserve(Epoch),
    /// Stop new work and bring what is replicated to the peer; then call [`Contender::drained`].
    Drain,
    /// Let the own voter give its reserved vote to the new holder and send it this answer.
    HandOver(HandoverAnswer),
    /// Send this answer once more; the vote was given before.
    RepeatHandOver(HandoverAnswer),
    /// The list of voters could not be changed: the voters that would be left did not vote in time.
    ListUnchanged,
    /// Let the own voter release the old grant and give this node the reserved epoch, and call at once
    /// [`Contender::own_vote`] with what it says.
    VoteForSelf(Release, Epoch, Duration),
}

/// Why a node is active no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// No majority answered in time.
    Expired,
    /// It was told to give up: its health, the operator, a stop.
    GivenUp,
    /// The service was handed over.
    HandedOver,
}

/// What a node is for the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It holds nothing.
    Standby,
    /// It asks for votes.
    Candidate,
    /// It is active.
    Active,
    /// Its gate is being closed.
    Closing,
}

/// The claim of one node to one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contender {
    service: ServiceId,
    me: Holder,
    own: VoterId,
    list: VoterList,
    plan: LeasePlan,
    /// The highest epoch that was seen anywhere.
    highest: Epoch,
    /// Whether a campaign is wanted, and from when on one may begin.
    wish: Option<Instant>,
    state: State,
    tally: Tally,
    /// Voters that refused a candidate for a time, and when they are asked again.
    retries: Vec<(VoterId, Instant)>,
    taking: Option<Taking>,
    giving: Option<Giving>,
    changing: Option<Changing>,
    attempts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Standby,
    /// `until`: when the campaign has failed.
    Candidate {
        epoch: Epoch,
        until: Instant,
        own: OwnVote,
    },
    /// `wanted` is higher than `epoch` while the holder raises its epoch.
    Active {
        epoch: Epoch,
        wanted: Epoch,
        until: Instant,
        renew_at: Instant,
    },
    /// `wanted` as it was when active: some voters may have granted it.
    Closing {
        epoch: Epoch,
        wanted: Epoch,
    },
}

/// The own vote of a candidate comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum OwnVote {
    Kept,
    Asked,
}

impl Contender {
    /// A standby that has just started. `highest` is the highest epoch that its disk knows.
    pub fn new(
        service: ServiceId,
        me: Holder,
        own: VoterId,
        list: VoterList,
        plan: LeasePlan,
        highest: Epoch,
    ) -> Self {
        Self {
            service,
            me,
            own,
            list,
            plan,
            highest,
            wish: None,
            state: State::Standby,
            tally: Tally::new(),
            retries: Vec::new(),
            taking: None,
            giving: None,
            changing: None,
            attempts: 0,
        }
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        match self.state {
            State::Standby => Role::Standby,
            State::Candidate { .. } => Role::Candidate,
            State::Active { .. } => Role::Active,
            State::Closing { .. } => Role::Closing,
        }
    }

    /// Who this node is.
    pub fn me(&self) -> Holder {
        self.me
    }

    /// The epoch and deadline under which this node is active at `now`.
    pub fn lease(&self, now: Instant) -> Option<(Epoch, Instant)> {
        match self.state {
            State::Active { epoch, until, .. } if now < until && !self.has_stopped() => Some((epoch, until)),
            _ => None,
        }
    }

    /// Asks for another lease from now on.
    pub fn plan(&mut self, plan: LeasePlan) {
        self.plan = plan;
    }

    /// A list of voters was seen: in a question, or told by who has a later one. The latest is counted by.
    pub fn saw_list(&mut self, list: &VoterList) {
        if list.version() > self.list.version() {
            self.list = *list;
            self.changing = None;
        } else if list.version() == self.list.version() && !list.contradicts(&self.list) {
            self.list = self.list.with_voters_of(list);
        }
    }

    /// The list of voters that is counted by.
    pub fn list(&self) -> &VoterList {
        &self.list
    }

    /// The highest epoch that was seen anywhere.
    pub fn highest(&self) -> Epoch {
        self.highest
    }

    /// The voters whose votes count at `now`.
    pub fn votes(&self, now: Instant) -> impl Iterator<Item = VoterId> {
        self.tally.voters(now)
    }

    /// An epoch was seen: in a heartbeat, a capsule, a database row.
    pub fn saw_epoch(&mut self, epoch: Epoch) {
        self.highest = self.highest.max(epoch);
    }

    /// Wants to be active; who has no seat in the list of voters does not. `own_barred`: for how long the own voter can not grant to this node.
    pub fn campaign(&mut self, now: Instant, own_barred: Duration, out: &mut Vec<Output>) {
        let may_begin = self.wish.is_none_or(|from| from <= now);
        if self.state != State::Standby || self.taking.is_some() || !may_begin || !self.is_own_seated() {
            return;
        }
        if !own_barred.is_zero() {
            self.wish = Some(now + own_barred);
            return;
        }
        self.wish = None;
        self.attempts += 1;
        self.highest = Epoch(self.highest.0 + 1);
        let epoch = self.highest;
        self.tally.forget();
        self.retries.clear();
        let until = now + LeasePlan::counted(self.plan.lease);
        self.state = State::Candidate { epoch, until, own: OwnVote::Kept };
        for voter in self.others() {
            self.ask(now, voter, epoch, out);
        }
        self.settle(now, out);
    }

    /// Stops wanting to be active, and being it.
    pub fn give_up(&mut self, out: &mut Vec<Output>) {
        self.wish = None;
        match self.state {
            State::Standby | State::Closing { .. } => {}
            State::Candidate { epoch, .. } => self.release(epoch, epoch, out),
            State::Active { .. } => {
                self.giving = None;
                self.close(Cause::GivenUp, out);
            }
        }
    }

    /// The gate is closed for the epoch of the last [`Output::Deactivate`].
    pub fn gate_closed(&mut self, out: &mut Vec<Output>) {
        let State::Closing { epoch, wanted } = self.state else { return };
        if self.has_stopped() {
            return self.handed_over(epoch, out);
        }
        self.release(epoch, wanted, out);
    }

    /// A voter has answered.
    pub fn handle_answer(&mut self, now: Instant, answer: &Answer, out: &mut Vec<Output>) {
        // What has run out does not come back.
        self.handle_timeout(now, out);
        if answer.service != self.service || answer.holder != self.me || !self.tally.count(now, answer) {
            return;
        }
        match answer.verdict {
            Verdict::Granted(_) => {}
            Verdict::Refused(refusal) => {
                self.saw_epoch(refusal.highest);
                self.refused(now, answer.voter, refusal, out);
            }
        }
        self.settle(now, out);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.state {
            State::Standby | State::Closing { .. } => {}
            State::Candidate { epoch, until, .. } if until <= now => {
                self.pause(now);
                self.release(epoch, epoch, out);
            }
            State::Candidate { epoch, .. } => self.retry(now, epoch, out),
            State::Active { until, .. } if until <= now => {
                self.giving = None;
                self.close(Cause::Expired, out);
            }
            State::Active { epoch, wanted, until, renew_at } if renew_at <= now && !self.has_stopped() => {
                let renew_at = now + self.plan.renewal();
                self.state = State::Active { epoch, wanted, until, renew_at };
                let changing = self.changing.and_then(|changing| changing.seat.voter);
                let newcomer = changing.filter(|voter| !self.list.voters().any(|other| other == *voter));
                for voter in self.list.voters().chain(newcomer).collect::<Vec<_>>() {
                    self.ask(now, voter, wanted, out);
                }
            }
            State::Active { .. } => {}
        }
        self.changing_timeout(now, out);
        self.taking_timeout(now, out);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_state = match self.state {
            State::Standby | State::Closing { .. } => None,
            State::Candidate { until, .. } => self.retries.iter().map(|(_, at)| *at).chain([until]).min(),
            State::Active { until, .. } if self.has_stopped() => Some(until),
            State::Active { until, renew_at, .. } => Some(until.min(renew_at)),
        };
        let changing = self.changing.as_ref().map(Changing::until);
        of_state.into_iter().chain(self.taking.as_ref().map(Taking::due)).chain(changing).min()
    }

    /// When a campaign that is still wanted may begin again.
    pub fn may_campaign_at(&self) -> Option<Instant> {
        self.wish
    }

    fn is_own_seated(&self) -> bool {
        self.list.voters().any(|voter| voter == self.own)
    }

    fn others(&self) -> Vec<VoterId> {
        self.list.voters().filter(|voter| *voter != self.own).collect()
    }

    /// Asks those again whose grant has ended.
    fn retry(&mut self, now: Instant, epoch: Epoch, out: &mut Vec<Output>) {
        let due: Vec<VoterId> =
            self.retries.extract_if(.., |(_, at)| *at <= now).map(|(voter, _)| voter).collect();
        for voter in due {
            self.ask(now, voter, epoch, out);
        }
    }

    fn ask(&mut self, now: Instant, voter: VoterId, epoch: Epoch, out: &mut Vec<Output>) {
        let ask = Ask {
            service: self.service,
            holder: self.me,
            number: self.tally.number(),
            epoch,
            lease: self.plan.lease,
            list: self.list,
        };
        self.tally.ask(now, voter, &ask);
        out.push(Output::Ask(voter, ask));
    }

    /// Takes what the votes allow.
    fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.state {
            State::Candidate { epoch, until, own } => {
                let deadline = self.tally.deadline(&self.list, epoch);
                if now < deadline {
                    self.activate(now, epoch, deadline, out);
                    return;
                }
                // The own vote is the last one: it is asked for when with it there is a majority.
                let granted: Vec<VoterId> = self.tally.voters(now).collect();
                let is_enough = self.list.is_majority(|voter| voter == self.own || granted.contains(&voter));
                if own == OwnVote::Kept && self.is_own_seated() && is_enough {
                    self.state = State::Candidate { epoch, until, own: OwnVote::Asked };
                    self.ask(now, self.own, epoch, out);
                }
            }
            State::Active { epoch, wanted, until, renew_at } => {
                let raised = self.tally.deadline(&self.list, wanted);
                let (epoch, deadline) = match wanted > epoch && now < raised {
                    true => (wanted, raised),
                    false => (epoch, self.tally.deadline(&self.list, epoch)),
                };
                if deadline > until {
                    self.state = State::Active { epoch, wanted, until: deadline, renew_at };
                    out.push(Output::Extend(epoch, deadline));
                }
                self.settle_change(now, out);
            }
            State::Standby | State::Closing { .. } => {}
        }
    }

    fn activate(&mut self, now: Instant, epoch: Epoch, deadline: Instant, out: &mut Vec<Output>) {
        self.wish = None;
        self.retries.clear();
        let renew_at = now + self.plan.renewal();
        self.state = State::Active { epoch, wanted: epoch, until: deadline, renew_at };
        out.push(Output::Activate(epoch, deadline));
    }

    fn refused(&mut self, now: Instant, voter: VoterId, refusal: Refusal, out: &mut Vec<Output>) {
        let Refusal { cause, left, .. } = refusal;
        match self.state {
            State::Candidate { epoch, until, own } => {
                if matches!(cause, RefusalCause::Held | RefusalCause::Restarted) && left <= LEASE_MAX {
                    // The voter says when its grant ends: then it is asked again, and not before.
                    self.retries.push((voter, now + left));
                    let until = until.max(now + left + LeasePlan::counted(self.plan.lease));
                    self.state = State::Candidate { epoch, until, own };
                    return;
                }
                let is_possible = |voter: VoterId| {
                    self.tally.is_possible(now, voter)
                        || self.retries.iter().any(|(other, _)| *other == voter)
                        || (voter == self.own && own == OwnVote::Kept)
                };
                if !self.list.is_majority(is_possible) {
                    self.pause(now);
                    self.release(epoch, epoch, out);
                }
            }
            State::Active { epoch, until, renew_at, .. } if cause == RefusalCause::EpochUsed => {
                // A voter knows a higher epoch: it grants again only to one above that.
                let wanted = Epoch(self.highest.0 + 1);
                self.highest = wanted;
                self.state = State::Active { epoch, wanted, until, renew_at: renew_at.min(now) };
            }
            _ => {}
        }
    }

    /// Waits before the next campaign, for a moment by chance and rank, so that two candidates do not meet again.
    fn pause(&mut self, now: Instant) {
        let rank = u32::from(self.me.node.0).min(8);
        let mixed = self.me.incarnation.0 ^ self.attempts.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let spread = mixed.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32;
        let chance = Duration::from_nanos(spread % PAUSE_SPREAD.as_nanos() as u64);
        self.wish = Some(now + PAUSE_MIN + chance + PAUSE_MIN * rank);
    }

    /// Ends the tenure: the gate is closed before anything else.
    fn close(&mut self, cause: Cause, out: &mut Vec<Output>) {
        let State::Active { epoch, wanted, .. } = self.state else { return };
        self.state = State::Closing { epoch, wanted };
        self.changing = None;
        if fault::is_planted(Fault::ReleaseBeforeGate) {
            out.push(Output::Release(Release { service: self.service, holder: self.me, epoch }));
        }
        out.push(Output::Deactivate(epoch, cause));
    }

    /// Gives all votes back. Nothing that was asked before counts any more.
    fn release(&mut self, epoch: Epoch, wanted: Epoch, out: &mut Vec<Output>) {
        self.tally.forget();
        self.retries.clear();
        self.state = State::Standby;
        out.push(Output::Release(Release { service: self.service, holder: self.me, epoch }));
        if wanted != epoch {
            out.push(Output::Release(Release { service: self.service, holder: self.me, epoch: wanted }));
        }
    }
}
