//! Whether a process that is silent hangs, or only waits for its turn on the processor.
//!
//! The guardian's own thread comes before all others, so it does not feel that a host is starved; its engine does. To kill
//! an engine that would run if it were let would turn a slow service into none. The kernel tells of each thread how long it
//! ran, how long it was ready to run and did not, as of when it last ran, and whether it is ready now: one that hangs, or
//! was stopped, waits for nothing there, and one that turns in a circle runs.

use std::path::PathBuf;
use std::time::Duration;

use clock::Instant;

/// Threads that are looked at: an event loop for each core of a large host.
const THREADS_MAX: usize = 300;

/// How much of a silence must have been spent in waiting for the processor, all threads together.
const SHARE: u32 = 4;

/// A process that has begun to be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    since: Instant,
    before: Turns,
}

/// What the threads of a process had of the processor, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turns {
    ran: Duration,
    waited: Duration,
    /// Threads that are ready to run, or run.
    ready: usize,
}

impl Doubt {
    /// The process has been silent for a while.
    pub fn begin(now: Instant, pid: u32) -> Self {
        Self { since: now, before: Turns::of(pid) }
    }

    /// Whether its threads have waited for the processor since then.
    pub fn is_starved(&self, now: Instant, pid: u32) -> bool {
        self.is_waiting(now, Turns::of(pid))
    }

    fn is_waiting(&self, now: Instant, turns: Turns) -> bool {
        let share = now.since(self.since) / SHARE;
        let has_waited = turns.waited.saturating_sub(self.before.waited) >= share;
        // A wait that goes on is not counted yet.
        let has_not_run = turns.ran.saturating_sub(self.before.ran) < share;
        !share.is_zero() && (has_waited || (turns.ready > 0 && has_not_run))
    }
}

impl Turns {
    /// A kernel that does not count them says zero.
    fn of(pid: u32) -> Self {
        let Ok(threads) = std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/task"))) else {
            return Self::default();
        };
        let mut turns = Self::default();
        for thread in threads.take(THREADS_MAX).filter_map(Result::ok) {
            let read = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let (ran, waited) = times(&read("schedstat")).unwrap_or_default();
            turns.ran += ran;
            turns.waited += waited;
            turns.ready += usize::from(is_ready(&read("stat")));
        }
        turns
    }
}

/// How long a thread ran and waited: the first two numbers, in nanoseconds.
fn times(schedstat: &str) -> Option<(Duration, Duration)> {
    let mut numbers =
        schedstat.split_whitespace().map(|number| number.parse().ok().map(Duration::from_nanos));
    Some((numbers.next()??, numbers.next()??))
}

/// The state stands behind the name, which may have anything in it.
fn is_ready(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_that_was_spent_in_the_queue_is_starvation() {
        let doubt = doubt();

        assert!(doubt.is_waiting(at(1_100), Turns { waited: ms(7_040), ..BEFORE }));
        assert!(doubt.is_waiting(at(1_100), Turns { ready: 1, ..BEFORE }), "it still waits");
    }

    #[test]
    fn a_process_that_sleeps_was_stopped_or_turns_in_a_circle_hangs() {
        let doubt = doubt();

        assert!(!doubt.is_waiting(at(1_100), BEFORE));
        assert!(!doubt.is_waiting(at(1_100), Turns { waited: ms(7_010), ..BEFORE }));
        assert!(!doubt.is_waiting(at(1_100), Turns { ran: ms(3_090), ready: 1, ..BEFORE }));
    }

    #[test]
    fn what_the_kernel_says_of_a_thread_is_read() {
        assert_eq!(
            times("44632018 1093 7\n"),
            Some((Duration::from_nanos(44_632_018), Duration::from_nanos(1_093)))
        );
        assert_eq!(times("rubbish"), None);
        assert!(is_ready("7 (a) S) R 1 2 3") && !is_ready("7 (a) R) S 1 2 3") && !is_ready(""));
        let own = Turns::of(std::process::id());
        assert!(own.ready > 0, "this very thread runs");
        assert_eq!(Turns::of(u32::MAX), Turns::default());
    }

    const BEFORE: Turns = Turns { ran: Duration::from_secs(3), waited: Duration::from_secs(7), ready: 0 };

    fn doubt() -> Doubt {
        Doubt { since: at(1_000), before: BEFORE }
    }

    fn at(after: u64) -> Instant {
        Instant::from_nanos(after * 1_000_000)
    }

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }
}
