//! The two clocks of this process: read together, once for each batch of input.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clock::{Instant, Now, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Reads both clocks.
pub(crate) fn now() -> Now {
    // A calendar before 1970 is a host without a battery: it counts as 1970.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let wall = WallTime::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
    Now::new(instant(), wall)
}

/// Reads the monotonic clock alone.
///
/// It is the kernel's boot-time clock, which also counts while the host is suspended: a phone's registration
/// runs out in the meantime as well.
pub(crate) fn instant() -> Instant {
    let boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(boot.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let earlier = now().instant;
        let later = instant();
        let last = now().instant;

        assert!(earlier <= later && later <= last);
    }

    #[test]
    fn the_calendar_is_in_this_century() {
        const YEAR_2020: u64 = 1_577_836_800;

        assert!(now().wall.as_secs() > YEAR_2020);
    }
}
