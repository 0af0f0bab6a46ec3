//! Which questions are under way, who waits for them, and which had no answer lately.
//!
//! A question that many calls have at once is asked once. A failure is remembered for a while: the
//! resolver's own cache does not keep time-outs and server failures, so without this each call to a broken
//! domain would ask anew.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use transport::selection::Query;

/// Questions that are asked at one time: what one local name server bears well.
const UNDER_WAY_MAX: usize = 256;
/// Who waits for all of them together. A shard bounds its own; this holds for all.
const WAITERS_MAX: usize = 16_384;
/// Failures that are remembered: some hundred bytes each.
const FAILURES_MAX: usize = 4_096;
/// How long nobody asks again for what does not exist.
const NO_SUCH_NAME_KEPT: Duration = Duration::from_secs(30);
/// How long nobody asks again after a time-out or a server's failure: it may be over soon.
const FAILED_KEPT: Duration = Duration::from_secs(5);

/// Why a question has no records for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such name, or no such record of it.
    NoSuchName,
    /// No name server answered in time, or none could.
    Failed,
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Ask a name server; the wish waits.
    Begin,
    /// It is being asked; the wish waits.
    Joined,
    /// It failed lately.
    Failed(Failure),
    /// There is no room.
    Refused,
}

/// `W` is who waits.
#[derive(Debug)]
pub(super) struct Questions<W> {
    under_way: BTreeMap<Query, Vec<W>>,
    waiters: usize,
    failures: BTreeMap<Query, (Instant, Failure)>,
}

impl<W> Default for Questions<W> {
    fn default() -> Self {
        Self { under_way: BTreeMap::new(), waiters: 0, failures: BTreeMap::new() }
    }
}

impl<W> Questions<W> {
    pub(super) fn ask(&mut self, now: Instant, query: &Query, waiter: W) -> Asked {
        match self.failures.get(query) {
            Some(&(until, failure)) if now < until => return Asked::Failed(failure),
            Some(_) => {
                self.failures.remove(query);
            }
            None => {}
        }
        if self.waiters >= WAITERS_MAX {
            return Asked::Refused;
        }
        if let Some(waiters) = self.under_way.get_mut(query) {
            waiters.push(waiter);
            self.waiters += 1;
            return Asked::Joined;
        }
        if self.under_way.len() >= UNDER_WAY_MAX {
            return Asked::Refused;
        }
        self.under_way.insert(query.clone(), vec![waiter]);
        self.waiters += 1;
        Asked::Begin
    }

    /// Ends the wait for an answer. Returns who waited, in the order of their asking.
    pub(super) fn finish(&mut self, now: Instant, query: &Query, failure: Option<Failure>) -> Vec<W> {
        if let Some(failure) = failure {
            self.remember(now, query, failure);
        }
        let waiters = self.under_way.remove(query).unwrap_or_default();
        self.waiters -= waiters.len();
        waiters
    }

    /// Forgets all failures: the name servers may be others.
    pub(super) fn forget_failures(&mut self) {
        self.failures.clear();
    }

    fn remember(&mut self, now: Instant, query: &Query, failure: Failure) {
        if self.failures.len() >= FAILURES_MAX {
            self.failures.retain(|_, (until, _)| now < *until);
        }
        // Full of fresh ones: this one is asked for again, which is no harm.
        if self.failures.len() < FAILURES_MAX {
            let kept = match failure {
                Failure::NoSuchName => NO_SUCH_NAME_KEPT,
                Failure::Failed => FAILED_KEPT,
            };
            self.failures.insert(query.clone(), (now + kept, failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_once_however_many_wait() {
        let mut questions = Questions::default();

        assert_eq!(questions.ask(at(0), &query("example.org"), 1), Asked::Begin);
        assert_eq!(questions.ask(at(0), &query("example.org"), 2), Asked::Joined);
        assert_eq!(questions.finish(at(1), &query("example.org"), None), [1, 2]);
        assert_eq!(questions.ask(at(1), &query("example.org"), 3), Asked::Begin);
    }

    #[test]
    fn a_failure_is_remembered_for_its_time_and_no_longer() {
        let mut questions = Questions::default();
        questions.ask(at(0), &query("broken.example"), 1);
        questions.finish(at(0), &query("broken.example"), Some(Failure::Failed));

        assert_eq!(questions.ask(at(4), &query("broken.example"), 2), Asked::Failed(Failure::Failed));
        assert_eq!(questions.ask(at(5), &query("broken.example"), 3), Asked::Begin);
    }

    #[test]
    fn a_name_that_does_not_exist_is_remembered_longer_than_a_time_out() {
        let mut questions = Questions::default();
        questions.ask(at(0), &query("nobody.example"), 1);
        questions.finish(at(0), &query("nobody.example"), Some(Failure::NoSuchName));

        assert_eq!(questions.ask(at(29), &query("nobody.example"), 2), Asked::Failed(Failure::NoSuchName));
        assert_eq!(questions.ask(at(30), &query("nobody.example"), 3), Asked::Begin);
    }

    #[test]
    fn too_many_names_at_once_are_refused_until_one_is_done() {
        let mut questions = Questions::default();
        for number in 0..UNDER_WAY_MAX {
            assert_eq!(questions.ask(at(0), &query(&format!("{number}.example")), number), Asked::Begin);
        }

        assert_eq!(questions.ask(at(0), &query("one-more.example"), 0), Asked::Refused);
        questions.finish(at(0), &query("7.example"), None);
        assert_eq!(questions.ask(at(0), &query("one-more.example"), 0), Asked::Begin);
    }

    #[test]
    fn too_many_who_wait_are_refused() {
        let mut questions = Questions::default();
        for number in 0..WAITERS_MAX {
            questions.ask(at(0), &query("example.org"), number);
        }

        assert_eq!(questions.ask(at(0), &query("example.org"), 0), Asked::Refused);
    }

    #[test]
    fn failures_do_not_pile_up() {
        let mut questions = Questions::default();
        for number in 0..FAILURES_MAX + 10 {
            let name = query(&format!("{number}.example"));
            questions.ask(at(0), &name, ());
            questions.finish(at(0), &name, Some(Failure::Failed));
        }
        assert_eq!(questions.failures.len(), FAILURES_MAX);

        questions.ask(at(60), &query("later.example"), ());
        questions.finish(at(60), &query("later.example"), Some(Failure::Failed));

        assert_eq!(questions.failures.len(), 1, "what is over makes room");
    }

    #[test]
    fn one_name_has_several_questions() {
        let mut questions = Questions::default();
        questions.ask(at(0), &query("example.org"), 1);
        questions.finish(at(0), &query("example.org"), Some(Failure::NoSuchName));

        assert_eq!(questions.ask(at(1), &Query::Naptr("example.org".into()), 2), Asked::Begin);
    }

    fn query(name: &str) -> Query {
        Query::Addresses(name.into())
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}
