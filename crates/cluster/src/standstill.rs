//! Whether this machine may have stood still together with its clock.
//!
//! All time of the lease is counted by one clock, which goes on while a host is suspended. A virtual machine that is
//! paused, migrated or restored from a snapshot has no such clock: it stands still with the machine, and what was granted
//! or held goes on for as long as it stood. Nothing inside can see the pause itself. What can be seen is its end: somebody
//! (the hypervisor's agent, a time daemon) corrects the wall clock, which so jumps against the clock of the lease.
//!
//! A step by a time daemon or by hand looks the same, and is taken for the same: giving the service away for nothing costs
//! milliseconds. Daemons slew small errors, which is no jump: the kernel lets them change the speed by a tenth, and as
//! much is allowed for the time since the last look. A pause that this hides is shorter than what the lease keeps back for
//! clocks of different speed.

use std::time::Duration;

use clock::Now;

/// A larger jump is one.
const JUMP_MIN: Duration = Duration::from_millis(50);

/// How much faster or slower than the other one clock may go, as one part of so many.
const SLEW_PART: u32 = 9;

/// Compares the two clocks at each look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standstill {
    last: Option<Now>,
}

/// How far the wall clock has jumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// It is later than it should be: as after a pause.
    Forward(Duration),
    /// It is earlier: as when a clock that was ahead is set by a host's after a pause.
    Back(Duration),
}

impl Standstill {
    /// Looks at both clocks. `doubt` is how long it took to read them, at the most: who was put aside between reading the
    /// one and the other has seen no jump.
    pub fn look(&mut self, now: Now, doubt: Duration) -> Option<Jump> {
        let last = self.last.replace(now)?;
        let passed = now.instant.since(last.instant);
        let allowed = JUMP_MIN + passed / SLEW_PART + doubt;
        let (was, is) = (last.wall.as_millis(), now.wall.as_millis());
        let expected = was.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let jump = Duration::from_millis(is.abs_diff(expected));
        match jump > allowed {
            true if is > expected => Some(Jump::Forward(jump)),
            true => Some(Jump::Back(jump)),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::{Instant, WallTime};

    use super::*;

    const NONE: Duration = Duration::ZERO;

    #[test]
    fn clocks_that_go_together_have_not_jumped_however_long_nobody_looked() {
        let mut clocks = Clocks::new();

        for time in [1, 50, 3_600_000] {
            assert_eq!(clocks.look(time as u64, time), None);
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_has_jumped_once() {
        let mut clocks = Clocks::new();

        assert_eq!(clocks.look(10, 10 + 60), Some(Jump::Forward(Duration::from_millis(60))));
        assert_eq!(clocks.look(10, 10), None);
        let mut clocks = Clocks::new();
        clocks.look(1_000, 1_000);
        assert_eq!(clocks.look(10, -990), Some(Jump::Back(Duration::from_secs(1))));
    }

    #[test]
    fn the_jump_of_a_machine_that_stood_still_is_seen_also_when_it_is_looked_for_late() {
        let mut clocks = Clocks::new();

        // Five seconds of a pause, and a second until somebody looks.
        assert!(clocks.look(1_000, 6_000).is_some());
    }

    #[test]
    fn a_clock_that_is_slewed_by_a_tenth_has_not_jumped() {
        let mut clocks = Clocks::new();
        for _ in 0..1_000 {
            assert_eq!(clocks.look(50, 55), None);
        }
        assert_eq!(clocks.look(60_000, 66_000), None);
        assert_eq!(clocks.look(60_000, 54_000), None);
    }

    #[test]
    fn who_was_put_aside_between_two_clocks_has_seen_no_jump() {
        let mut clocks = Clocks::new();

        assert_eq!(clocks.look_slowly(10, 100, Duration::from_millis(90)), None);
    }

    struct Clocks {
        now: Now,
        standstill: Standstill,
    }

    impl Clocks {
        fn new() -> Self {
            let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
            let mut standstill = Standstill::default();
            assert_eq!(standstill.look(now, NONE), None);
            Self { now, standstill }
        }

        fn look(&mut self, passed_ms: u64, wall_ms: i64) -> Option<Jump> {
            self.look_slowly(passed_ms, wall_ms, NONE)
        }

        fn look_slowly(&mut self, passed_ms: u64, wall_ms: i64, doubt: Duration) -> Option<Jump> {
            let wall = self.now.wall.as_millis().saturating_add_signed(wall_ms);
            self.now =
                Now::new(self.now.instant + Duration::from_millis(passed_ms), WallTime::from_millis(wall));
            self.standstill.look(self.now, doubt)
        }
    }
}
