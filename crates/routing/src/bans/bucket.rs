//! A token bucket.

use std::time::Duration;

use clock::Instant;

/// How often something may happen on average, and how often at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// On average once in this time; not zero.
    pub every: Duration,
    /// At once, after a pause.
    pub burst: u32,
}

impl Rate {
    /// So many in a second on average.
    pub fn per_second(count: u32, burst: u32) -> Self {
        Self { every: Duration::from_secs(1) / count.max(1), burst }
    }

    /// So many in a minute, and all of a minute at once.
    pub fn per_minute(count: u32) -> Self {
        Self { every: Duration::from_secs(60) / count.max(1), burst: count }
    }

    /// The time in which an empty bucket fills.
    fn fills_in(&self) -> Duration {
        self.every.saturating_mul(self.burst)
    }
}

/// How much of a rate is left. Counted as the time until all is there again, so that nothing is rounded away and a
/// bucket that is full is one that may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A bucket of which nothing was taken.
    pub(crate) fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes so many tokens, or those that are there.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant, tokens: u32) {
        let wanted = self.full_at.max(now) + rate.every.saturating_mul(tokens);
        self.full_at = wanted.min(now + rate.fills_in()).max(self.full_at);
    }

    /// Puts one token back.
    pub(crate) fn give_back(&mut self, rate: Rate, now: Instant) {
        let owed = self.full_at.since(now);
        self.full_at = now + owed.saturating_sub(rate.every);
    }

    /// Whether there is no token left.
    pub(crate) fn is_empty(&self, rate: Rate, now: Instant) -> bool {
        self.full_at.since(now) + rate.every > rate.fills_in()
    }

    /// Whether no token is missing.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Until when it is empty, if nothing more is taken.
    pub(crate) fn empty_until(&self, rate: Rate, now: Instant) -> Instant {
        let empty_for = (self.full_at.since(now) + rate.every).saturating_sub(rate.fills_in());
        now + empty_for
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_the_rate() {
        let rate = Rate::per_second(10, 30);
        let mut bucket = Bucket::full(at(0));

        assert_eq!(taken(&mut bucket, rate, at(0)), 30);
        assert_eq!(taken(&mut bucket, rate, at(1_000)), 10);
        assert_eq!(taken(&mut bucket, rate, at(1_050)), 0);
        assert_eq!(taken(&mut bucket, rate, at(100_000)), 30);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more_than_that() {
        let rate = Rate::per_second(10, 30);
        let mut bucket = Bucket::full(at(0));
        for _ in 0..100 {
            bucket.take(rate, at(0), 1);
            bucket.give_back(rate, at(0));
        }
        assert!(bucket.is_full(at(0)));
        for _ in 0..100 {
            bucket.give_back(rate, at(0));
        }
        assert_eq!(taken(&mut bucket, rate, at(0)), 30);
    }

    #[test]
    fn more_than_is_there_leaves_it_empty_but_not_in_debt() {
        let rate = Rate::per_second(10, 30);
        let mut bucket = Bucket::full(at(0));

        bucket.take(rate, at(0), 1_000_000);

        assert_eq!(bucket.empty_until(rate, at(0)), at(100));
        assert!(bucket.is_empty(rate, at(99)));
        assert!(!bucket.is_empty(rate, at(100)));
    }

    proptest! {
        #[test]
        fn no_more_is_taken_than_the_burst_and_the_rate(
            steps in proptest::collection::vec((0u64..2_000, 1u32..50), 1..60)
        ) {
            let rate = Rate::per_second(10, 30);
            let mut bucket = Bucket::full(at(0));
            let (mut now, mut sum) = (0, 0u64);
            for (pause, wishes) in steps {
                now += pause;
                for _ in 0..wishes {
                    if !bucket.is_empty(rate, at(now)) {
                        bucket.take(rate, at(now), 1);
                        sum += 1;
                    }
                }
                prop_assert!(sum <= 30 + now / 100 + 1);
            }
        }
    }

    fn taken(bucket: &mut Bucket, rate: Rate, now: Instant) -> u32 {
        let mut taken = 0;
        while !bucket.is_empty(rate, now) {
            bucket.take(rate, now, 1);
            taken += 1;
        }
        taken
    }

    fn at(milliseconds: u64) -> Instant {
        Instant::START + Duration::from_millis(milliseconds)
    }
}
