//! The planned hand-over: the service goes from the active node to the standby by one message.
//!
//! The standby's voter sets the next epoch aside on disk, then the standby asks the active node, again and again. The active
//! node's voter sets the same epoch aside, the node drains, stops sending and closes its gate; then it answers. The answer
//! says that the old epoch is over and is the old node's vote; with its own vote the standby has a majority of two, so that
//! neither a witness nor a disk lies in the gap.
//!
//! Invariant: the answer leaves after the gate is closed, and its vote counts from when its question was sent.

use std::time::Duration;

use clock::Instant;

use super::{Cause, Contender, Output, State};
use crate::fault::{self, Fault};
use crate::{Epoch, HandoverAnswer, HandoverAsk, Holder, LeasePlan, ListVersion, Release, RequestNumber};

/// How long a standby goes on asking. A drain of calls in their set-up takes less than this.
const TAKING_MAX: Duration = Duration::from_secs(10);

/// Questions of one hand-over that may still be answered: those of one lease.
const ASKS_MAX: usize = 16;

/// The standby's side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Taking {
    from: Holder,
    epoch: Epoch,
    next: Epoch,
    /// What was asked and when, oldest first; empty until the own voter has set the epoch aside.
    pub(super) asks: Vec<(RequestNumber, Instant)>,
    pub(super) ask_at: Instant,
    pub(super) until: Instant,
    /// When the own vote was asked for.
    pub(super) voting: Option<Instant>,
}

impl Taking {
    pub(super) fn due(&self) -> Instant {
        self.ask_at.min(self.until)
    }
}

/// The active node's side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Giving {
    ask: HandoverAsk,
    stage: Stage,
}

#[cfg(feature = "test-model")]
impl Giving {
    pub(super) fn numbers(&mut self, renumber: &mut crate::canonical::Renumber<'_>) {
        renumber(self.ask.to.incarnation, &mut self.ask.number);
        if let Stage::Answered(answer) = &mut self.stage {
            renumber(answer.to.incarnation, &mut answer.number);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The own voter sets the epoch aside.
    Reserving,
    /// What has begun is brought to its end, and to the peer.
    Draining,
    /// The gate is being closed.
    Stopped,
    /// The answer was given; it is repeated for each further question.
    Answered(HandoverAnswer),
}

impl Contender {
    /// Begins to take the service over from `from`, which is active under `epoch`.
    pub fn take_over(&mut self, now: Instant, from: Holder, epoch: Epoch, out: &mut Vec<Output>) {
        if self.state != State::Standby || self.taking.is_some() || !self.is_own_seated() {
            return;
        }
        self.saw_epoch(epoch);
        let next = Epoch(self.highest.0 + 1);
        self.saw_epoch(next);
        self.taking = Some(Taking {
            from,
            epoch,
            next,
            asks: Vec::new(),
            ask_at: Instant::FAR,
            until: now + TAKING_MAX,
            voting: None,
        });
        out.push(Output::Reserve(next));
    }

    /// Whether a hand-over to this node is under way.
    pub fn is_taking_over(&self) -> bool {
        self.taking.is_some()
    }

    /// The node that was asked is active no more: unless it has answered, a hand-over that was under way has failed. Says
    /// whether one was.
    pub fn give_up_taking(&mut self) -> bool {
        self.taking.take_if(|taking| taking.voting.is_none()).is_some()
    }

    /// A holder has given its votes back. It hands over to nobody.
    pub fn released(&mut self, holder: Holder) -> bool {
        let is_asked = self.taking.as_ref().is_some_and(|taking| taking.from == holder);
        is_asked && self.give_up_taking()
    }

    /// To whom this node hands over.
    pub fn gives_to(&self) -> Option<Holder> {
        self.giving.as_ref().map(|giving| giving.ask.to)
    }

    /// Whether this node has stopped renewing because it hands over.
    pub(super) fn has_stopped(&self) -> bool {
        matches!(&self.giving, Some(giving) if giving.stage == Stage::Stopped)
    }

    /// The own voter has the epoch of the last [`Output::Reserve`] on disk.
    pub fn reserved(&mut self, now: Instant, epoch: Epoch, out: &mut Vec<Output>) {
        if let Some(taking) = &mut self.taking
            && taking.next == epoch
            && taking.asks.is_empty()
        {
            taking.ask_at = now;
            self.taking_timeout(now, out);
        }
        if let Some(giving) = &mut self.giving
            && giving.ask.next == epoch
            && giving.stage == Stage::Reserving
        {
            giving.stage = Stage::Draining;
            out.push(Output::Drain);
        }
    }

    /// The standby asks for the service.
    pub fn handle_handover_ask(&mut self, now: Instant, ask: HandoverAsk, out: &mut Vec<Output>) {
        // Who counts by another list would count this node's vote where it may not count.
        let is_quiet = self.changing.is_none() && self.list.change().is_none();
        let is_listed = ask.list == self.list.version() && is_quiet;
        if ask.service != self.service || ask.lease != self.plan.lease || !is_listed {
            return;
        }
        if let Some(giving) = &mut self.giving
            && giving.ask.to == ask.to
            && giving.ask.next == ask.next
        {
            match giving.stage {
                Stage::Answered(answer) => out.push(Output::RepeatHandOver(answer)),
                // The latest question gives the vote that counts longest.
                _ if ask.number > giving.ask.number => giving.ask = ask,
                _ => {}
            }
            return;
        }
        let State::Active { epoch, wanted, until, .. } = self.state else { return };
        // The asking node's heartbeats may have told of the next epoch before its question does. That a voter votes under
        // one epoch for one holder is what keeps it from being used twice.
        let is_next = ask.next > epoch && ask.next >= self.highest;
        let is_fit = epoch == ask.epoch && wanted == epoch && now < until && is_next;
        if is_fit && self.giving.as_ref().is_none_or(|giving| matches!(giving.stage, Stage::Answered(_))) {
            self.saw_epoch(ask.next);
            self.giving = Some(Giving { ask, stage: Stage::Reserving });
            out.push(Output::Reserve(ask.next));
        }
    }

    /// What had begun is done, and the peer holds what it needs.
    pub fn drained(&mut self, out: &mut Vec<Output>) {
        let State::Active { epoch, .. } = self.state else { return };
        let Some(giving) = &mut self.giving else { return };
        if giving.stage != Stage::Draining {
            return;
        }
        giving.stage = Stage::Stopped;
        if fault::is_planted(Fault::HandoverBeforeGate) {
            let answer = self.handover_answer(epoch);
            out.extend(answer.map(Output::HandOver));
        }
        self.close(Cause::HandedOver, out);
    }

    /// The gate is closed: the answer may leave.
    pub(super) fn handed_over(&mut self, epoch: Epoch, out: &mut Vec<Output>) {
        self.tally.forget();
        self.state = State::Standby;
        let Some(answer) = self.handover_answer(epoch) else { return };
        if let Some(giving) = &mut self.giving {
            giving.stage = Stage::Answered(answer);
        }
        out.push(Output::HandOver(answer));
    }

    /// The own voter could not give the reserved vote: the service is released instead.
    pub fn handover_failed(&mut self, out: &mut Vec<Output>) {
        // The epoch may have been raised since the question, which names another one.
        if let Some(Giving { stage: Stage::Answered(answer), .. }) = self.giving.take() {
            self.release(answer.epoch, answer.epoch, out);
        }
    }

    /// The active node has answered.
    pub fn handle_handover(&mut self, now: Instant, answer: &HandoverAnswer, out: &mut Vec<Output>) {
        let Some(taking) = &mut self.taking else { return };
        let is_mine = answer.service == self.service && answer.to == self.me && answer.from == taking.from;
        let is_this = answer.epoch == taking.epoch && answer.next == taking.next && taking.voting.is_none();
        let sent = taking.asks.iter().find(|(number, _)| *number == answer.number).map(|(_, sent)| *sent);
        let (true, true, Some(sent)) = (is_mine, is_this, sent) else { return };
        let from = if fault::is_planted(Fault::HandoverFromArrival) { now } else { sent };
        let until = from + LeasePlan::counted(answer.lease);
        let release = Release { service: self.service, holder: answer.from, epoch: answer.epoch };
        taking.voting = Some(now);
        self.tally.forget();
        self.tally.vote(answer.voter, answer.next, until, ListVersion::default());
        out.push(Output::VoteForSelf(release, answer.next, self.plan.lease));
    }

    /// What the own voter said to [`Output::VoteForSelf`]; `None`: it does not grant.
    pub fn own_vote(&mut self, now: Instant, granted: Option<Duration>, out: &mut Vec<Output>) {
        let Some(taking) = self.taking.take() else { return };
        let Taking { from, epoch, next, voting: Some(asked), .. } = taking else { return };
        if let Some(lease) = granted {
            self.tally.vote(self.own, next, asked + LeasePlan::counted(lease), ListVersion::default());
        }
        let deadline = self.tally.deadline(&self.list, next);
        let is_active = granted.is_some() && now < deadline;
        if is_active {
            self.activate(now, next, deadline, out);
        }
        // The witness must not wait for the old grant to run out: it hears of its end before it is asked.
        out.push(Output::Release(Release { service: self.service, holder: from, epoch }));
        match is_active {
            // The others learn of it at once.
            true => self.handle_timeout(now, out),
            false => self.release(next, next, out),
        }
    }

    /// Asks again, or ends a hand-over that nobody answers.
    pub(super) fn taking_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(taking) = &mut self.taking else { return };
        if taking.until <= now {
            self.taking = None;
            return;
        }
        if taking.ask_at > now || taking.voting.is_some() {
            return;
        }
        taking.ask_at = now + self.plan.renewal();
        let number = self.tally.number();
        if taking.asks.len() >= ASKS_MAX {
            taking.asks.remove(0);
        }
        taking.asks.push((number, now));
        out.push(Output::AskHandover(HandoverAsk {
            service: self.service,
            to: self.me,
            number,
            epoch: taking.epoch,
            next: taking.next,
            lease: self.plan.lease,
            list: self.list.version(),
        }));
    }

    fn handover_answer(&self, epoch: Epoch) -> Option<HandoverAnswer> {
        let ask = self.giving.as_ref()?.ask;
        Some(HandoverAnswer {
            service: self.service,
            voter: self.own,
            from: self.me,
            to: ask.to,
            number: ask.number,
            epoch,
            next: ask.next,
            lease: ask.lease,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Answer, Ask, Incarnation, MemberId, NodeId, Refusal, RefusalCause, Seat, ServiceId, Verdict, VoterId,
        VoterList,
    };

    use super::*;

    const SERVICE: ServiceId = ServiceId(0);
    const A: Holder = Holder { node: NodeId(0), incarnation: Incarnation(1) };
    const B: Holder = Holder { node: NodeId(1), incarnation: Incarnation(2) };
    const PLAN: LeasePlan = LeasePlan { lease: Duration::from_millis(500) };

    #[test]
    fn a_hand_over_that_fails_releases_the_epoch_that_was_held_last() {
        let mut bench = Bench::active();
        bench.asked_to_hand_over(Epoch(9));
        // The others know a higher epoch than the one that is held, which is raised.
        bench.renew(|voter, ask| match ask.epoch {
            Epoch(1) if voter != VoterId(1) => refused(Epoch(4)),
            _ => Verdict::Granted(ask.lease),
        });
        bench.renew(|_, ask| Verdict::Granted(ask.lease));
        let raised = bench.contender.lease(bench.now).expect("it is active").0;
        assert!(raised > Epoch(1));

        bench.contender.reserved(bench.now, Epoch(9), &mut bench.out);
        bench.contender.drained(&mut bench.out);
        bench.contender.gate_closed(&mut bench.out);
        bench.out.clear();
        bench.contender.handover_failed(&mut bench.out);

        assert_eq!(bench.out, [Output::Release(Release { service: SERVICE, holder: A, epoch: raised })]);
    }

    fn refused(highest: Epoch) -> Verdict {
        Verdict::Refused(Refusal { cause: RefusalCause::EpochUsed, highest, left: Duration::ZERO })
    }

    struct Bench {
        now: Instant,
        contender: Contender,
        out: Vec<Output>,
    }

    impl Bench {
        /// A holds epoch 1.
        fn active() -> Self {
            let now = Instant::START + Duration::from_secs(1);
            let seat = |voter: u64| Seat { member: MemberId(voter as u8 - 1), voter: Some(VoterId(voter)) };
            let list = VoterList::new(ListVersion::FIRST, [1, 2, 3].map(seat), None);
            let contender = Contender::new(SERVICE, A, VoterId(1), list, PLAN, Epoch(0));
            let mut bench = Self { now, contender, out: Vec::new() };
            bench.contender.campaign(now, Duration::ZERO, &mut bench.out);
            bench.answer(|_, ask| Verdict::Granted(ask.lease));
            assert_eq!(bench.contender.lease(now).map(|(epoch, _)| epoch), Some(Epoch(1)));
            bench
        }

        fn asked_to_hand_over(&mut self, next: Epoch) {
            let ask = HandoverAsk {
                service: SERVICE,
                to: B,
                number: RequestNumber(1),
                epoch: Epoch(1),
                next,
                lease: PLAN.lease,
                list: ListVersion::FIRST,
            };
            self.contender.handle_handover_ask(self.now, ask, &mut self.out);
            assert!(self.out.contains(&Output::Reserve(next)));
        }

        /// Asks all voters again, who answer so.
        fn renew(&mut self, verdict: impl Fn(VoterId, &Ask) -> Verdict) {
            self.now += PLAN.renewal();
            self.contender.handle_timeout(self.now, &mut self.out);
            self.answer(verdict);
        }

        fn answer(&mut self, verdict: impl Fn(VoterId, &Ask) -> Verdict) {
            let mut asked = std::mem::take(&mut self.out);
            while !asked.is_empty() {
                for output in asked {
                    let Output::Ask(voter, ask) = output else { continue };
                    let verdict = verdict(voter, &ask);
                    let Ask { service, holder, number, epoch, .. } = ask;
                    let answer = Answer { voter, service, holder, number, epoch, verdict };
                    self.contender.handle_answer(self.now, &answer, &mut self.out);
                }
                asked = std::mem::take(&mut self.out);
            }
        }
    }
}
