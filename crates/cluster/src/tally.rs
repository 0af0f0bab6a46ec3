//! The votes of one contender: which count, and until when a majority does.

#[cfg(feature = "test-model")]
mod canonical;

use std::time::Duration;

use clock::Instant;

use crate::fault::{self, Fault};
use crate::list::majority;
use crate::{Answer, Ask, Epoch, LeasePlan, ListVersion, RequestNumber, Verdict, VoterId, VoterList};

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
    list: ListVersion,
    sent: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Vote {
    voter: VoterId,
    epoch: Epoch,
    until: Instant,
    /// The voter has this list, or a later one, on disk.
    list: ListVersion,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { open: Vec::new(), votes: Vec::new(), numbers: 0 }
    }

    /// Remembers a question that is about to leave, with a number of [`Self::number`]. The clock was read before.
    pub(crate) fn ask(&mut self, now: Instant, voter: VoterId, ask: &Ask) {
        // A question older than its lease can not bring a vote that counts.
        self.open.retain(|open| now.since(open.sent) < open.lease);
        if self.open.len() >= OPEN_MAX {
            self.open.remove(0);
        }
        let Ask { number, epoch, lease, list, .. } = *ask;
        self.open.push(Open { number, voter, epoch, lease, list: list.version(), sent: now });
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
                let until = now + LeasePlan::counted(lease);
                self.vote(answer.voter, answer.epoch, until, ListVersion::default());
                return true;
            }
            return false;
        };
        if let Verdict::Granted(lease) = answer.verdict {
            let from = if fault::is_planted(Fault::CountedFromArrival) { now } else { open.sent };
            self.vote(open.voter, open.epoch, from + LeasePlan::counted(lease), open.list);
        }
        true
    }

    /// Counts a vote; `list`: what its voter has on disk.
    pub(crate) fn vote(&mut self, voter: VoterId, epoch: Epoch, until: Instant, list: ListVersion) {
        match self.votes.iter_mut().find(|vote| vote.voter == voter) {
            Some(vote) => {
                vote.epoch = vote.epoch.max(epoch);
                vote.until = vote.until.max(until);
                vote.list = vote.list.max(list);
            }
            None => self.votes.push(Vote { voter, epoch, until, list }),
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

    /// Until when a majority of the seats counts, by votes of `least` or a higher epoch; while the list changes, a majority
    /// of the old seats and of the new ones.
    pub(crate) fn deadline(&self, list: &VoterList, least: Epoch) -> Instant {
        let is_counted = |vote: &&Vote| vote.epoch >= least || fault::is_planted(Fault::VotesNotForgotten);
        let deadlines = list.counted().map(|seats| {
            let is_seated = |vote: &&Vote| seats.iter().flatten().any(|seat| seat.voter == Some(vote.voter));
            let votes = self.votes.iter().filter(is_counted).filter(is_seated);
            let mut until: Vec<Instant> = votes.map(|vote| vote.until).collect();
            until.sort_unstable_by(|one, other| other.cmp(one));
            until.get(majority(&seats) - 1).copied().unwrap_or(Instant::START)
        });
        deadlines.min().unwrap_or(Instant::START)
    }

    /// Whether a majority, of each set of seats that is counted, votes and has the list on disk.
    pub(crate) fn has_list_on_disk(&self, now: Instant, list: &VoterList) -> bool {
        let holds = |vote: &&Vote| now < vote.until && vote.list >= list.version();
        list.is_majority(|voter| self.votes.iter().filter(holds).any(|vote| vote.voter == voter))
    }

    /// Whether a voter has a vote that counts, or a question that is open.
    pub(crate) fn is_possible(&self, now: Instant, voter: VoterId) -> bool {
        let counts = self.votes.iter().any(|vote| vote.voter == voter && now < vote.until);
        counts || self.open.iter().any(|open| open.voter == voter)
    }

    /// The voters whose votes count at `now`.
    pub(crate) fn voters(&self, now: Instant) -> impl Iterator<Item = VoterId> {
        self.votes.iter().filter(move |vote| now < vote.until).map(|vote| vote.voter)
    }
}
