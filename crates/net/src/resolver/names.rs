//! Which names are being asked for, who waits for them, and which could not be resolved lately.
//!
//! A name that many calls need at once is asked for once. A failure is remembered for a while: the
//! resolver's own cache does not keep time-outs and server failures, so without this each call to a broken
//! domain would ask anew.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;

/// Names that are asked for at one time: what one local name server bears well.
const UNDER_WAY_MAX: usize = 256;
/// Who waits for all of them together. A shard bounds its own; this holds for all.
const WAITERS_MAX: usize = 16_384;
/// Failures that are remembered: some hundred bytes each.
const FAILURES_MAX: usize = 4_096;
/// How long nobody asks again for a name that does not exist.
const NO_SUCH_NAME_KEPT: Duration = Duration::from_secs(30);
/// How long nobody asks again after a time-out or a server's failure: it may be over soon.
const FAILED_KEPT: Duration = Duration::from_secs(5);

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The name does not exist, or has no address.
    NoSuchName,
    /// No name server answered in time, or none could.
    Failed,
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Ask a name server; the wish waits.
    Begin,
    /// The name is being asked for; the wish waits.
    Joined,
    /// It failed lately.
    Failed(Failure),
    /// There is no room.
    Refused,
}

/// `W` is who waits.
#[derive(Debug)]
pub(super) struct Names<W> {
    under_way: BTreeMap<Box<str>, Vec<W>>,
    waiters: usize,
    failures: BTreeMap<Box<str>, (Instant, Failure)>,
}

impl<W> Default for Names<W> {
    fn default() -> Self {
        Self { under_way: BTreeMap::new(), waiters: 0, failures: BTreeMap::new() }
    }
}

impl<W> Names<W> {
    pub(super) fn ask(&mut self, now: Instant, name: &str, waiter: W) -> Asked {
        match self.failures.get(name) {
            Some(&(until, failure)) if now < until => return Asked::Failed(failure),
            Some(_) => {
                self.failures.remove(name);
            }
            None => {}
        }
        if self.waiters >= WAITERS_MAX {
            return Asked::Refused;
        }
        if let Some(waiters) = self.under_way.get_mut(name) {
            waiters.push(waiter);
            self.waiters += 1;
            return Asked::Joined;
        }
        if self.under_way.len() >= UNDER_WAY_MAX {
            return Asked::Refused;
        }
        self.under_way.insert(name.into(), vec![waiter]);
        self.waiters += 1;
        Asked::Begin
    }

    /// Ends the wait for a name. Returns who waited, in the order of their asking.
    pub(super) fn finish(&mut self, now: Instant, name: &str, failure: Option<Failure>) -> Vec<W> {
        if let Some(failure) = failure {
            self.remember(now, name, failure);
        }
        let waiters = self.under_way.remove(name).unwrap_or_default();
        self.waiters -= waiters.len();
        waiters
    }

    /// Forgets all failures: the name servers may be others.
    pub(super) fn forget_failures(&mut self) {
        self.failures.clear();
    }

    fn remember(&mut self, now: Instant, name: &str, failure: Failure) {
        if self.failures.len() >= FAILURES_MAX {
            self.failures.retain(|_, (until, _)| now < *until);
        }
        // Full of fresh ones: this one is asked for again, which is no harm.
        if self.failures.len() < FAILURES_MAX {
            let kept = match failure {
                Failure::NoSuchName => NO_SUCH_NAME_KEPT,
                Failure::Failed => FAILED_KEPT,
            };
            self.failures.insert(name.into(), (now + kept, failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_once_however_many_wait() {
        let mut names = Names::default();

        assert_eq!(names.ask(at(0), "example.org", 1), Asked::Begin);
        assert_eq!(names.ask(at(0), "example.org", 2), Asked::Joined);
        assert_eq!(names.finish(at(1), "example.org", None), [1, 2]);
        assert_eq!(names.ask(at(1), "example.org", 3), Asked::Begin);
    }

    #[test]
    fn a_failure_is_remembered_for_its_time_and_no_longer() {
        let mut names = Names::default();
        names.ask(at(0), "broken.example", 1);
        names.finish(at(0), "broken.example", Some(Failure::Failed));

        assert_eq!(names.ask(at(4), "broken.example", 2), Asked::Failed(Failure::Failed));
        assert_eq!(names.ask(at(5), "broken.example", 3), Asked::Begin);
    }

    #[test]
    fn a_name_that_does_not_exist_is_remembered_longer_than_a_time_out() {
        let mut names = Names::default();
        names.ask(at(0), "nobody.example", 1);
        names.finish(at(0), "nobody.example", Some(Failure::NoSuchName));

        assert_eq!(names.ask(at(29), "nobody.example", 2), Asked::Failed(Failure::NoSuchName));
        assert_eq!(names.ask(at(30), "nobody.example", 3), Asked::Begin);
    }

    #[test]
    fn too_many_names_at_once_are_refused_until_one_is_done() {
        let mut names = Names::default();
        for number in 0..UNDER_WAY_MAX {
            assert_eq!(names.ask(at(0), &format!("{number}.example"), number), Asked::Begin);
        }

        assert_eq!(names.ask(at(0), "one-more.example", 0), Asked::Refused);
        names.finish(at(0), "7.example", None);
        assert_eq!(names.ask(at(0), "one-more.example", 0), Asked::Begin);
    }

    #[test]
    fn too_many_who_wait_are_refused() {
        let mut names = Names::default();
        for number in 0..WAITERS_MAX {
            names.ask(at(0), "example.org", number);
        }

        assert_eq!(names.ask(at(0), "example.org", 0), Asked::Refused);
    }

    #[test]
    fn failures_do_not_pile_up() {
        let mut names = Names::default();
        for number in 0..FAILURES_MAX + 10 {
            let name = format!("{number}.example");
            names.ask(at(0), &name, ());
            names.finish(at(0), &name, Some(Failure::Failed));
        }
        assert_eq!(names.failures.len(), FAILURES_MAX);

        names.ask(at(60), "later.example", ());
        names.finish(at(60), "later.example", Some(Failure::Failed));

        assert_eq!(names.failures.len(), 1, "what is over makes room");
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}
