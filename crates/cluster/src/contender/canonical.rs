//! The contender in an exhaustive search.

use std::time::Duration;

use super::change::CHANGING_MAX;
use super::{Contender, State};
use crate::RequestNumber;
use crate::canonical::{Frame, Renumber};

impl Contender {
    /// Moves its time and forgets what is past.
    pub fn rebase(&mut self, frame: &Frame) {
        self.attempts = 0;
        self.wish = self.wish.filter(|wish| frame.now < *wish);
        if let Some(wish) = &mut self.wish {
            frame.by_chance(wish);
        }
        match &mut self.state {
            State::Standby | State::Closing { .. } => {}
            State::Candidate { until, .. } => frame.deadline(until),
            State::Active { until, renew_at, .. } => {
                frame.deadline(until);
                frame.deadline(renew_at);
            }
        }
        self.tally.rebase(frame);
        for (_, at) in &mut self.retries {
            frame.deadline(at);
        }
        if let Some(taking) = &mut self.taking {
            frame.deadline(&mut taking.ask_at);
            frame.deadline(&mut taking.until);
            for (_, sent) in &mut taking.asks {
                frame.aged(sent, self.plan.lease);
            }
            if let Some(voting) = &mut taking.voting {
                frame.aged(voting, Duration::MAX);
            }
        }
        if let Some(changing) = &mut self.changing {
            frame.aged(&mut changing.since, CHANGING_MAX);
        }
    }

    /// All numbers of questions that it remembers.
    pub fn numbers(&mut self, renumber: &mut Renumber<'_>) {
        let me = self.me.incarnation;
        self.tally.numbers(me, renumber);
        for (number, _) in self.taking.iter_mut().flat_map(|taking| &mut taking.asks) {
            renumber(me, number);
        }
        if let Some(giving) = &mut self.giving {
            giving.numbers(renumber);
        }
    }

    /// The number of the last question: higher than all others.
    pub fn last_number(&mut self, renumber: &mut Renumber<'_>) {
        self.tally.last_number(self.me.incarnation, renumber);
    }

    /// Forgets questions that nobody can answer any more, where that changes nothing.
    pub fn forget_unanswerable(&mut self, is_answerable: &dyn Fn(RequestNumber) -> bool) {
        // A candidate looks whether a question is open.
        if !matches!(self.state, State::Candidate { .. }) {
            self.tally.forget_open(is_answerable);
        }
        if let Some(taking) = &mut self.taking {
            // Whether one was asked at all is looked at.
            let last = taking.asks.last().map(|(number, _)| *number);
            taking.asks.retain(|(number, _)| is_answerable(*number) || Some(*number) == last);
        }
    }
}
