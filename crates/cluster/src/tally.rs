//! The votes of one contender: which count, and until when a majority does.

use std::time::Duration;

use clock::Instant;

use crate::fault::{self, Fault};
use crate::{Answer, Epoch, LeasePlan, RequestNumber, Seats, Verdict, VoterId};

/// Questions that may be open at once: those of one lease to each voter, and some that were repeated.
const OPEN_MAX: usize = 64;

/// What was asked and not answered yet, and what was granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tally {
    open: Vec<Open>,
    votes: Vec<Vote>,
    numbers: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Open {
    number: RequestNumber,
    voter: VoterId,
    epoch: Epoch,
    lease: Duration,
    sent: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Vote {
    voter: VoterId,
    epoch: Epoch,
    until: Instant,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { open: Vec::new(), votes: Vec::new(), numbers: 0 }
    }

    /// A number for a question that is about to leave. The clock was read before.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        voter: VoterId,
        epoch: Epoch,
        lease: Duration,
    ) -> RequestNumber {
        let number = self.number();
        // A question older than its lease can not bring a vote that counts.
        self.open.retain(|open| now.since(open.sent) < open.lease);
        if self.open.len() >= OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push(Open { number, voter, epoch, lease, sent: now });
        number
    }

    /// A number that was never used.
    pub(crate) fn number(&mut self) -> RequestNumber {
        self.numbers += 1;
        RequestNumber(self.numbers)
    }

    /// Counts an answer, or says that it was not waited for.
    pub(crate) fn count(&mut self, now: Instant, answer: &Answer) -> bool {
        let open = self.open.iter().position(|open| {
            open.number == answer.number && open.voter == answer.voter && open.epoch == answer.epoch
        });
        let Some(open) = open.map(|at| self.open.remove(at)) else {
            if fault::is_planted(Fault::AnswerWithoutQuestion)
                && let Verdict::Granted(lease) = answer.verdict
            {
                self.vote(answer.voter, answer.epoch, now + LeasePlan::counted(lease));
                return true;
            }
            return false;
        };
        if let Verdict::Granted(lease) = answer.verdict {
            let from = if fault::is_planted(Fault::CountedFromArrival) { now } else { open.sent };
            self.vote(open.voter, open.epoch, from + LeasePlan::counted(lease));
        }
        true
    }

    /// Counts a vote that came another way.
    pub(crate) fn vote(&mut self, voter: VoterId, epoch: Epoch, until: Instant) {
        match self.votes.iter_mut().find(|vote| vote.voter == voter) {
            Some(vote) => {
                vote.epoch = vote.epoch.max(epoch);
                vote.until = vote.until.max(until);
            }
            None => self.votes.push(Vote { voter, epoch, until }),
        }
        self.votes.sort_by_key(|vote| vote.voter);
    }

    /// Forgets all votes and all open questions. Numbers are never repeated.
    pub(crate) fn forget(&mut self) {
        if !fault::is_planted(Fault::VotesNotForgotten) {
            self.open.clear();
            self.votes.clear();
        }
    }

    /// Until when a majority of the seats counts, by votes of `least` or a higher epoch.
    pub(crate) fn deadline(&self, seats: &Seats, least: Epoch) -> Instant {
        let mut until: Vec<Instant> = self
            .votes
            .iter()
            .filter(|vote| vote.epoch >= least || fault::is_planted(Fault::VotesNotForgotten))
            .filter(|vote| seats.voters().contains(&vote.voter))
            .map(|vote| vote.until)
            .collect();
        until.sort_unstable_by(|one, other| other.cmp(one));
        until.get(seats.majority() - 1).copied().unwrap_or(Instant::START)
    }

    /// How many of the voters have a vote that counts, or a question that is open.
    pub(crate) fn possible(&self, now: Instant, voters: &[VoterId]) -> usize {
        let counts = |voter: VoterId| self.votes.iter().any(|vote| vote.voter == voter && now < vote.until);
        let is_open = |voter: VoterId| self.open.iter().any(|open| open.voter == voter);
        voters.iter().filter(|voter| counts(**voter) || is_open(**voter)).count()
    }

    /// The voters whose votes count at `now`.
    pub(crate) fn voters(&self, now: Instant) -> impl Iterator<Item = VoterId> {
        self.votes.iter().filter(move |vote| now < vote.until).map(|vote| vote.voter)
    }
}
