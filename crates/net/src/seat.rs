//! A machine behind its lock, with the moment at which it wants to be called.
//!
//! Several threads feed one machine. Each holds the lock for one batch and no other lock of this kind with
//! it. Whoever had it publishes the machine's next deadline before letting go, so that the event loop that
//! owns the machine can sleep until then without taking the lock.
//!
//! Invariant: a machine never sees the time go back, though the threads read the clock before they wait
//! for the lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use clock::{Instant, Now};
use engine::Prober;

/// What has deadlines.
pub(crate) trait Machine {
    /// When it wants to be called.
    fn due(&self) -> Option<Instant>;

    /// Lets go of what is in hand: another node may be active.
    fn stand_by(&mut self, now: Now);
}

impl Machine for Prober {
    fn due(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn stand_by(&mut self, _now: Now) {
        Prober::stand_by(self);
    }
}

#[derive(Debug)]
pub(crate) struct Seat<M> {
    occupied: Mutex<Occupied<M>>,
    /// Nanoseconds of the next deadline; [`Instant::FAR`] if there is none.
    due: AtomicU64,
    /// Whether the machine stands by. It is written under the lock; who reads it without saves a look.
    stands_by: AtomicBool,
    broken: AtomicBool,
}

#[derive(Debug)]
struct Occupied<M> {
    machine: M,
    latest: Now,
}

impl<M: Machine> Seat<M> {
    pub(crate) fn new(now: Now, machine: M) -> Self {
        let due = AtomicU64::new(machine.due().unwrap_or(Instant::FAR).as_nanos());
        Self {
            occupied: Mutex::new(Occupied { machine, latest: now }),
            due,
            stands_by: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// As [`Self::with`], for what is done by the lease: the machine does not stand by any more.
    pub(crate) fn act<R>(&self, now: Now, act: impl FnOnce(&mut M, Now) -> R) -> R {
        self.with(now, |machine, now| {
            if self.stands_by.load(Ordering::Relaxed) {
                self.stands_by.store(false, Ordering::Relaxed);
            }
            act(machine, now)
        })
    }

    /// Lets the machine stand by, if it does not. `is_over` is asked with the lock in hand whether there is no lease: since the
    /// caller has looked it may have come, and another thread may have begun something by it that must not be let go of.
    pub(crate) fn stand_by(&self, now: Now, is_over: impl FnOnce() -> bool) {
        if !self.stands_by.load(Ordering::Relaxed) {
            self.with(now, |machine, now| {
                if is_over() {
                    machine.stand_by(now);
                    self.stands_by.store(true, Ordering::Relaxed);
                }
            });
        }
    }

    /// Lets `act` use the machine, at `now` or later, and publishes its next deadline.
    pub(crate) fn with<R>(&self, now: Now, act: impl FnOnce(&mut M, Now) -> R) -> R {
        let mut occupied = self.lock();
        if occupied.latest.instant < now.instant {
            occupied.latest = now;
        }
        let latest = occupied.latest;
        let result = act(&mut occupied.machine, latest);
        let due = occupied.machine.due().unwrap_or(Instant::FAR);
        // SeqCst with the sleeper's own store, see `Alarm`: one of the two sees what the other wrote.
        self.due.store(due.as_nanos(), Ordering::SeqCst);
        result
    }

    /// Lets `look` read the machine.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(&self.lock().machine)
    }

    /// The machine's next deadline.
    pub(crate) fn due(&self) -> Instant {
        Instant::from_nanos(self.due.load(Ordering::SeqCst))
    }

    /// Whether the machine stands by: it has no deadline, and wants to know when it may act again.
    pub(crate) fn is_standing_by(&self) -> bool {
        self.stands_by.load(Ordering::Relaxed)
    }

    /// Whether a thread panicked inside the machine: its state can no longer be trusted.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Occupied<M>> {
        self.occupied.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            self.broken.store(true, Ordering::Relaxed);
            poisoned.into_inner()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::WallTime;

    use super::*;

    struct Clockwork(Option<Instant>);

    impl Machine for Clockwork {
        fn due(&self) -> Option<Instant> {
            self.0
        }

        fn stand_by(&mut self, _now: Now) {
            self.0 = None;
        }
    }

    #[test]
    fn who_stands_by_has_no_deadline_until_it_acts_again() {
        let seat = Seat::new(at(1), Clockwork(Some(at(5).instant)));

        seat.stand_by(at(2), || true);
        assert_eq!(seat.due(), Instant::FAR);
        assert!(seat.is_standing_by());

        seat.act(at(3), |machine, _| machine.0 = Some(at(6).instant));
        assert_eq!(seat.due(), at(6).instant);
        assert!(!seat.is_standing_by());
        seat.stand_by(at(4), || true);
        assert_eq!(seat.due(), Instant::FAR);
    }

    #[test]
    fn what_was_begun_by_a_lease_that_has_just_come_is_not_let_go_of() {
        let seat = Seat::new(at(1), Clockwork(None));
        seat.stand_by(at(2), || true);

        // One thread has looked before the lease came, and is late.
        seat.act(at(3), |machine, _| machine.0 = Some(at(6).instant));
        seat.stand_by(at(2), || false);

        assert_eq!(seat.due(), at(6).instant);
        assert!(!seat.is_standing_by());
    }

    #[test]
    fn a_machine_never_sees_the_time_go_back() {
        let seat = Seat::new(at(1), Clockwork(None));
        seat.with(at(3), |_, _| ());

        let seen = seat.with(at(2), |_, now| now);

        assert_eq!(seen, at(3));
    }

    #[test]
    fn the_next_deadline_is_published_after_each_use() {
        let seat = Seat::new(at(1), Clockwork(None));
        assert_eq!(seat.due(), Instant::FAR);

        seat.with(at(1), |machine, _| machine.0 = Some(at(5).instant));
        assert_eq!(seat.due(), at(5).instant);

        seat.with(at(5), |machine, _| machine.0 = None);
        assert_eq!(seat.due(), Instant::FAR);
    }

    #[test]
    fn a_panic_inside_a_machine_is_remembered_and_stops_nobody_else() {
        let seat = Seat::new(at(1), Clockwork(None));
        std::thread::scope(|scope| {
            let panics = || seat.with(at(1), |_, _| std::panic::resume_unwind(Box::new(())));
            let panicked = scope.spawn(panics).join();
            assert!(panicked.is_err());
        });

        assert_eq!(seat.with(at(2), |_, now| now), at(2));
        assert!(seat.is_broken());
    }

    fn at(seconds: u64) -> Now {
        Now::new(Instant::START + Duration::from_secs(seconds), WallTime::from_millis(seconds * 1_000))
    }
}
