//! The votes of a contender in an exhaustive search.

use clock::Instant;

use super::{Open, Tally};
use crate::canonical::{Frame, Renumber};
use crate::{Incarnation, RequestNumber};

impl Tally {
    pub(crate) fn rebase(&mut self, frame: &Frame) {
        for open in &mut self.open {
            frame.aged(&mut open.sent, open.lease);
        }
        for vote in &mut self.votes {
            match frame.now < vote.until {
                true => frame.deadline(&mut vote.until),
                false => vote.until = Instant::START,
            }
        }
        // A vote that has run out matters only to an answer to an older question.
        let Self { open, votes, .. } = self;
        votes.retain(|vote| {
            let is_older = |open: &Open| open.epoch < vote.epoch || open.list < vote.list;
            vote.until > Instant::START || open.iter().any(is_older)
        });
    }

    pub(crate) fn numbers(&mut self, me: Incarnation, renumber: &mut Renumber<'_>) {
        for open in &mut self.open {
            renumber(me, &mut open.number);
        }
    }

    pub(crate) fn last_number(&mut self, me: Incarnation, renumber: &mut Renumber<'_>) {
        let mut last = RequestNumber(self.numbers);
        renumber(me, &mut last);
        self.numbers = last.0;
    }

    /// Forgets questions that nobody can answer any more.
    pub(crate) fn forget_open(&mut self, is_answerable: &dyn Fn(RequestNumber) -> bool) {
        self.open.retain(|open| is_answerable(open.number));
    }
}
