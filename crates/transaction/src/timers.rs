//! The timers of RFC 3261 §17, all made of three lengths.

use std::time::Duration;

use clock::Instant;

/// The three lengths that all timers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// The estimate of the round-trip time.
    pub t1: Duration,
    /// The longest interval between two retransmissions, except of an INVITE.
    pub t2: Duration,
    /// How long a message may stay in the network.
    pub t4: Duration,
}

/// RFC 3261 §17.1.1.1: the values of table 4.
impl Default for Timers {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timers {
    /// Timers B, F, H, J, L and M: how long one side repeats what the other does not answer.
    pub const fn transaction_lifetime(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// RFC 4320 §4.1: the time after which a client's timer E is reset to T2; before it a non-INVITE
    /// request gets no 100 over an unreliable transport.
    pub fn provisional_to_non_invite_after(&self) -> Duration {
        let mut interval = self.t1.max(INTERVAL_MIN);
        let mut passed = interval;
        while interval.saturating_mul(2) < self.t2 {
            interval = interval.saturating_mul(2);
            passed = passed.saturating_add(interval);
        }
        passed
    }

    /// Timer D over an unreliable transport.
    pub(crate) fn d(&self) -> Duration {
        self.transaction_lifetime().max(TIMER_D_MIN)
    }

    /// Timers I and K.
    pub(crate) const fn stray_messages(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t4 }
    }
}

/// RFC 3261 §17.1.1.2: timer D is at least 32 seconds, because the server's timer H counts with a
/// T1 of its own.
const TIMER_D_MIN: Duration = Duration::from_secs(32);

/// The shortest interval between two retransmissions. A configured T1 of zero would repeat a
/// message without end in one instant.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// When a message is sent again, and after how long it was decided to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retransmission {
    /// The next time.
    pub at: Instant,
    interval: Duration,
}

impl Retransmission {
    /// The first retransmission is one `interval` away.
    pub fn start(now: Instant, interval: Duration) -> Self {
        let interval = interval.max(INTERVAL_MIN);
        Self { at: now + interval, interval }
    }

    /// One that was decided elsewhere.
    pub fn restored(at: Instant, interval: Duration) -> Self {
        Self { at, interval: interval.max(INTERVAL_MIN) }
    }

    /// After how long it was decided to be.
    pub fn interval(self) -> Duration {
        self.interval
    }

    /// The next one is twice as far as this one was, but not farther than `longest`.
    ///
    /// It is counted from now, not from when this one was due: after a pause of the whole process
    /// the missed ones are not made up for.
    pub fn next(self, now: Instant, longest: Duration) -> Self {
        Self::start(now, self.interval.saturating_mul(2).min(longest))
    }
}

/// What a machine wants when its alarm rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    /// Send the same bytes again.
    Resend(bytes::Bytes),
    /// Timer B or F: no final response came.
    TimedOut,
    /// Timer H: the final response was never acknowledged.
    AckMissing,
    /// A timer that only ends the wait for stray messages.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4320 §4.1: with the default values timer E is reset to T2 after 0.5 + 1 + 2 seconds.
    #[test]
    fn timer_e_reaches_t2_after_three_and_a_half_seconds() {
        assert_eq!(Timers::default().provisional_to_non_invite_after(), Duration::from_millis(3_500));
    }

    #[test]
    fn timers_of_zero_and_of_eternity_come_to_an_end() {
        let none = Timers { t1: Duration::ZERO, t2: Duration::ZERO, t4: Duration::ZERO };
        let far = Timers { t1: Duration::MAX, t2: Duration::MAX, t4: Duration::MAX };
        let quick = Timers { t1: Duration::ZERO, ..far };

        assert_eq!(none.provisional_to_non_invite_after(), INTERVAL_MIN);
        assert_eq!(far.provisional_to_non_invite_after(), Duration::MAX);
        assert_eq!(quick.provisional_to_non_invite_after(), Duration::MAX);
        assert_eq!(far.transaction_lifetime(), Duration::MAX);
        assert!(Retransmission::start(Instant::START, Duration::ZERO).at > Instant::START);
    }

    #[test]
    fn timer_d_is_never_shorter_than_the_default_of_the_other_side() {
        let quick = Timers { t1: Duration::from_millis(10), ..Timers::default() };

        assert_eq!(quick.d(), Duration::from_secs(32));
    }
}
