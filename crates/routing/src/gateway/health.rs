//! How one gateway is: a value that counts what happened to it.
//!
//! It begins as unknown, which is as good as up. So many failures in a row take it down, of probes or of
//! calls, each counted by itself: a gateway may answer OPTIONS and fail at calls. So many answers in a row
//! bring it up again. One that is busy by its own word is left alone for the time that it named.

use std::time::Duration;

use clock::{Instant, Now, WallTime};
use sip::Status;

use super::Verdict;

/// Busy for longer is not believed: a slip of one server must not take its calls for a day.
const BUSY_MAX: Duration = Duration::from_secs(600);
/// One that calls took down and that is not probed gets a call again after this time.
const TRIAL_AFTER: Duration = Duration::from_secs(30);

/// Why a gateway was taken for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came back.
    Silent,
    /// This answer came back.
    Refused(Status),
    /// It could not be sent anything.
    Unreachable,
    /// Its name leads nowhere.
    NoAddress,
}

/// Whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has heard of it yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down(Failure),
}

/// What is known of one gateway.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether it is there.
    pub state: State,
    /// Since when.
    pub since: WallTime,
    busy_until: Option<Instant>,
    trial_at: Option<Instant>,
    /// In a row.
    probes_failed: u32,
    probes_answered: u32,
    calls_failed: u32,
}

/// How many in a row decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) failures: u32,
    pub(super) successes: u32,
    pub(super) is_probed: bool,
}

impl Health {
    pub(super) fn new(now: Now) -> Self {
        Self {
            state: State::Unknown,
            since: now.wall,
            busy_until: None,
            trial_at: None,
            probes_failed: 0,
            probes_answered: 0,
            calls_failed: 0,
        }
    }

    /// A probe was answered.
    pub(super) fn probe_answered(&mut self, now: Now, limits: Limits) {
        self.probes_failed = 0;
        self.probes_answered = self.probes_answered.saturating_add(1);
        match self.state {
            State::Unknown => self.become_state(now, State::Up),
            State::Down(_) if self.probes_answered >= limits.successes => self.become_state(now, State::Up),
            State::Up | State::Down(_) => {}
        }
    }

    /// A probe was not answered as it should be.
    pub(super) fn probe_failed(&mut self, now: Now, limits: Limits, failure: Failure) {
        self.probes_answered = 0;
        self.probes_failed = self.probes_failed.saturating_add(1);
        if self.probes_failed >= limits.failures {
            self.go_down(now, failure);
        }
    }

    /// A call was answered.
    pub(super) fn call_answered(&mut self, now: Now) {
        self.calls_failed = 0;
        self.busy_until = None;
        if self.state != State::Up {
            self.become_state(now, State::Up);
        }
    }

    /// A call failed because of the gateway.
    pub(super) fn call_failed(&mut self, now: Now, limits: Limits, failure: Failure) {
        self.calls_failed = self.calls_failed.saturating_add(1);
        if self.calls_failed >= limits.failures {
            self.go_down(now, failure);
            self.trial_at = (!limits.is_probed).then(|| now.instant + TRIAL_AFTER);
        }
    }

    /// It has asked to be left alone.
    pub(super) fn be_busy(&mut self, now: Now, time: Duration) {
        self.busy_until = Some(now.instant + time.min(BUSY_MAX));
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Now, limits: Limits) {
        self.busy_until = self.busy_until.filter(|until| *until > now.instant);
        if self.trial_at.is_some_and(|at| at <= now.instant) {
            // One more failure is enough to take it down again.
            self.calls_failed = limits.failures.saturating_sub(1);
            self.become_state(now, State::Unknown);
        }
    }

    /// When [`Self::tick`] does something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.busy_until, self.trial_at].into_iter().flatten().min()
    }

    /// Whether the next probes decide something, so that they are not to be waited for.
    pub(super) fn is_undecided(&self) -> bool {
        match self.state {
            State::Up => self.probes_failed > 0,
            State::Unknown => true,
            State::Down(_) => self.probes_answered > 0,
        }
    }

    /// How long it still is busy.
    pub fn busy_for(&self, now: Instant) -> Option<Duration> {
        self.busy_until.filter(|until| *until > now).map(|until| until.since(now))
    }

    /// What a call should think of it.
    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        match self.state {
            State::Down(_) => Verdict::Doubtful,
            _ if self.busy_for(now).is_some() => Verdict::Doubtful,
            State::Unknown | State::Up => Verdict::Good,
        }
    }

    fn go_down(&mut self, now: Now, failure: Failure) {
        match self.state {
            State::Down(_) => self.state = State::Down(failure),
            State::Unknown | State::Up => self.become_state(now, State::Down(failure)),
        }
    }

    fn become_state(&mut self, now: Now, state: State) {
        self.state = state;
        self.since = now.wall;
        self.trial_at = None;
        self.probes_answered = 0;
        if state == State::Up {
            self.probes_failed = 0;
            self.calls_failed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { failures: 3, successes: 2, is_probed: true };

    #[test]
    fn it_goes_down_after_so_many_failures_in_a_row_and_comes_up_after_so_many_answers() {
        let mut health = Health::new(at(0));
        for _ in 0..2 {
            health.probe_failed(at(1), LIMITS, Failure::Silent);
        }
        health.probe_answered(at(2), LIMITS);
        assert_eq!(health.state, State::Up, "not in a row");

        for second in 3..6 {
            assert_eq!(health.verdict(at(second).instant), Verdict::Good);
            health.probe_failed(at(second), LIMITS, Failure::Silent);
        }
        assert_eq!((health.state, health.since), (State::Down(Failure::Silent), at(5).wall));
        assert_eq!(health.verdict(at(6).instant), Verdict::Doubtful);

        health.probe_answered(at(7), LIMITS);
        health.probe_failed(at(8), LIMITS, Failure::Refused(Status::SERVICE_UNAVAILABLE));
        health.probe_answered(at(9), LIMITS);
        assert!(matches!(health.state, State::Down(_)), "not in a row");
        assert_eq!(health.since, at(5).wall);
        health.probe_answered(at(10), LIMITS);
        assert_eq!((health.state, health.since), (State::Up, at(10).wall));
    }

    #[test]
    fn failed_calls_take_it_down_though_it_answers_probes() {
        let mut health = Health::new(at(0));
        for second in 1..=3 {
            health.probe_answered(at(second), LIMITS);
            health.call_failed(at(second), LIMITS, Failure::Silent);
        }
        assert_eq!(health.state, State::Down(Failure::Silent));
        assert_eq!(health.deadline(), None, "the next probe decides");

        health.call_answered(at(4));
        assert_eq!(health.state, State::Up);
    }

    #[test]
    fn one_that_is_not_probed_gets_a_call_again_after_a_while_and_no_second_chance() {
        let limits = Limits { is_probed: false, ..LIMITS };
        let mut health = Health::new(at(0));
        for _ in 0..3 {
            health.call_failed(at(1), limits, Failure::Unreachable);
        }
        let trial = health.deadline().unwrap();
        assert_eq!(trial, at(1).instant + TRIAL_AFTER);

        health.tick(at(31), limits);
        assert_eq!(health.verdict(at(31).instant), Verdict::Good);

        health.call_failed(at(32), limits, Failure::Unreachable);
        assert_eq!(health.verdict(at(32).instant), Verdict::Doubtful);
    }

    #[test]
    fn one_that_is_busy_is_left_alone_for_its_time_and_not_for_a_day() {
        let mut health = Health::new(at(0));
        health.be_busy(at(1), Duration::from_secs(20));
        assert_eq!(health.verdict(at(20).instant), Verdict::Doubtful);
        assert_eq!(health.verdict(at(21).instant), Verdict::Good);

        health.be_busy(at(30), Duration::from_secs(86_400));
        assert_eq!(health.deadline(), Some(at(30).instant + BUSY_MAX));
        health.call_answered(at(31));
        assert_eq!(health.verdict(at(31).instant), Verdict::Good);
    }

    fn at(seconds: u64) -> Now {
        Now::new(Instant::START + Duration::from_secs(seconds), WallTime::from_millis(seconds * 1_000))
    }
}
