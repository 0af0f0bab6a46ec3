//! The voter in an exhaustive search.

use super::{Voter, WriteNumber};
use crate::canonical::{Frame, Renumber};
use crate::{Holder, RequestNumber};

impl Voter {
    /// Moves its time, forgets what is past, and numbers what is being written from 1.
    pub fn rebase(&mut self, frame: &Frame) {
        self.grant = self.grant.filter(|grant| frame.now < grant.until);
        if let Some(grant) = &mut self.grant {
            frame.deadline(&mut grant.until);
        }
        frame.deadline(&mut self.waits_until);
        for start in self.starts.iter_mut() {
            frame.deadline(&mut start.cloned_until);
        }
        self.renumber_writes();
    }

    /// Numbers what is being written from 1.
    pub fn renumber_writes(&mut self) {
        let done = self.writing.first().map_or(self.writes, |(first, _)| first.0 - 1);
        self.writes -= done;
        for (number, _) in &mut self.writing {
            *number = WriteNumber(number.0 - done);
        }
        if let Some(pending) = &mut self.pending {
            pending.write = WriteNumber(pending.write.0.saturating_sub(done));
        }
    }

    /// Forgets what a start has said where no other one of that node will be heard.
    pub fn forget_starts(&mut self, is_only: &dyn Fn(Holder) -> bool) {
        for start in self.starts.iter_mut() {
            if is_only(Holder { node: start.node, incarnation: start.last.0 }) {
                start.last.1 = RequestNumber(0);
                start.before = None;
                start.turns = 0;
            }
        }
    }

    /// The number of the question that it will answer.
    pub fn pending_numbers(&mut self, renumber: &mut Renumber<'_>) {
        if let Some(pending) = &mut self.pending {
            renumber(pending.ask.holder.incarnation, &mut pending.ask.number);
        }
    }

    /// The numbers that it has heard last: compared only with those that may still come.
    pub fn heard_numbers(&mut self, renumber: &mut Renumber<'_>) {
        for start in self.starts.iter_mut() {
            renumber(start.last.0, &mut start.last.1);
            if let Some((incarnation, number)) = &mut start.before {
                renumber(*incarnation, number);
            }
        }
    }
}
