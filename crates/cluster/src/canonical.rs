//! For an exhaustive search: states that differ in nothing that matters become equal.
//!
//! Time is told from a fixed now, so that a state is found again later; what is past, and how often something was counted,
//! is forgotten where no decision depends on it.

use std::time::Duration;

use clock::Instant;

use crate::{Incarnation, RequestNumber};

/// Moves a host's time, so that `now` is `to`.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// What the host's clock shows.
    pub now: Instant,
    /// What it is to show.
    pub to: Instant,
    /// Deadlines by chance are put off to a multiple of this.
    pub unit: Duration,
}

impl Frame {
    /// A moment whose age matters.
    pub fn aged(&self, at: &mut Instant, age_max: Duration) {
        *at = match *at {
            Instant::FAR => Instant::FAR,
            at if at > self.now => self.to + (at - self.now),
            at => {
                let age = (self.now - at).min(age_max);
                Instant::from_nanos(self.to.as_nanos().saturating_sub(age.as_nanos() as u64))
            }
        };
    }

    /// A deadline: when it is past, it does not matter since when.
    pub fn deadline(&self, at: &mut Instant) {
        self.aged(at, Duration::ZERO);
    }

    /// A deadline by chance.
    pub fn by_chance(&self, at: &mut Instant) {
        self.deadline(at);
        let after = (*at - self.to).as_nanos().div_ceil(self.unit.as_nanos()) * self.unit.as_nanos();
        *at = self.to + Duration::from_nanos(after as u64);
    }
}

/// Gives a question of a start another number.
pub type Renumber<'a> = dyn FnMut(Incarnation, &mut RequestNumber) + 'a;
