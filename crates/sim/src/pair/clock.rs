//! The clocks of a host: one that drifts and began at any time, and a calendar that is a bit wrong.

use std::time::Duration;

use clock::{Instant, Now, WallTime};

use crate::rng::Rng;

/// The calendar at the start of every world.
const BEGAN: WallTime = WallTime::from_millis(1_800_000_000_000);
/// The calendars of two nodes are at most twice so far apart; nonces bear half a minute.
pub(super) const SKEW_MAX: Duration = Duration::from_secs(5);
/// The kernel lets a time daemon slew a clock by a tenth.
const SLEW: u64 = 100_000;
const MILLION: u128 = 1_000_000;

/// The clocks of one host.
#[derive(Clone, Debug)]
pub(super) struct HostClock {
    /// So many millionths of true time.
    rate: u64,
    offset: u64,
    skew: Duration,
}

impl HostClock {
    /// Clocks of chance.
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            rate: MILLION as u64 - SLEW + rng.below(2 * SLEW + 1),
            offset: 1_000_000_000 + rng.below(1_000_000_000_000_000),
            skew: rng.between(Duration::ZERO, SKEW_MAX * 2),
        }
    }

    /// What both clocks show at this true time.
    pub(super) fn now(&self, at: Instant) -> Now {
        Now::new(self.local(at), BEGAN + at.since(Instant::START) + self.skew)
    }

    /// What the drifting one shows.
    pub(super) fn local(&self, at: Instant) -> Instant {
        let passed = u128::from(at.as_nanos()) * u128::from(self.rate) / MILLION;
        Instant::from_nanos(self.offset + passed as u64)
    }

    /// The first true time at which the drifting one shows this.
    pub(super) fn true_at(&self, local: Instant) -> Instant {
        let since = u128::from(local.as_nanos().saturating_sub(self.offset));
        let at = (since * MILLION).div_ceil(u128::from(self.rate));
        Instant::from_nanos(u64::try_from(at).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_of_the_local_clock_has_come_at_its_true_time_and_not_before() {
        for seed in 0..50 {
            let clock = HostClock::new(&mut Rng::new(seed));
            let at = Instant::START + Duration::from_nanos(123_456_789_012);
            let deadline = clock.local(at) + Duration::from_nanos(987_654_321);

            let due = clock.true_at(deadline);

            assert!(clock.local(due) >= deadline, "seed {seed}");
            assert!(clock.local(Instant::from_nanos(due.as_nanos() - 2)) < deadline, "seed {seed}");
        }
    }
}
