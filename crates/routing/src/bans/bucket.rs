//! A token bucket.

use clock::Instant;

/// How many in a second on average, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// On average.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// How much of its rate a source has left. Counted in nanoseconds of waiting, so that nothing is rounded away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// The bucket is full at this time.
    full_at: Instant,
}

impl Bucket {
    pub(super) fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let token = 1_000_000_000 / u64::from(rate.per_second.max(1));
        let full_at = self.full_at.max(now).as_nanos().saturating_add(token);
        let owed = full_at.saturating_sub(now.as_nanos());
        if owed > token.saturating_mul(u64::from(rate.burst)) {
            return false;
        }
        self.full_at = Instant::from_nanos(full_at);
        true
    }
}
