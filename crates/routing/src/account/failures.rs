//! How fast the password of an account may be guessed from one source.
//!
//! Some wrong passwords of one name from one source are free; each further one makes the next wait, twice as long each
//! time, and in the end the name is blocked there for a while. What comes in the meantime is not even
//! checked. Other names of the same source, and the same name elsewhere, are not touched by it: behind the NAT of an
//! office sit many phones.
//!
//! A datagram's address can be forged, so what does not show that its sender gets our answers slows nobody. Instead its
//! source is asked for a nonce of its own ([`Pace::Afresh`]) after a few such failures: a phone that came
//! from another network answers by itself, and who forges never sees the nonce.
//!
//! Invariant: from one source one name is tried `failures_free` times, and from then on with pauses that grow.

use std::time::Duration;

use clock::Instant;
use sip::Aor;

use crate::bans::{Admission, Evidence, SourceNetwork, Table, doubled};

/// Names that fail in one partition, all sources together; about 200 bytes each.
const NAMES_MAX: usize = 1 << 14;
/// Sources whose evidence was doubtful in one partition; about 100 bytes each.
const DOUBTFUL_MAX: usize = 1 << 14;

/// The first pause.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a name is blocked.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Whether credentials are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// They are.
    Free,
    /// Not until the pause is over.
    Slow,
    /// Not with this nonce: the sender is to answer one that was sent to its own address.
    Afresh,
}

/// A name that fails from one source, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlowedName {
    /// From where.
    pub source: SourceNetwork,
    /// Which account was tried.
    pub account: Aor,
    /// How many wrong passwords there were.
    pub failures: u32,
    /// How long nothing is checked.
    pub left: Duration,
}

/// The names that failed lately.
#[derive(Debug)]
pub(super) struct Failures {
    names: Table<(SourceNetwork, Aor), Failing>,
    doubtful: Table<SourceNetwork, Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    failures: u32,
    paused_until: Instant,
    forgotten_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    failures: u32,
    forgotten_at: Instant,
}

impl Failures {
    /// Nobody has failed.
    pub(super) fn new() -> Self {
        Self { names: Table::new(NAMES_MAX), doubtful: Table::new(DOUBTFUL_MAX) }
    }

    /// Judges credentials before they are checked.
    pub(super) fn pace(
        &self,
        now: Instant,
        rules: &Admission,
        network: SourceNetwork,
        account: &Aor,
        evidence: Evidence,
    ) -> Pace {
        if evidence == Evidence::Claimed {
            let doubt = self.doubtful.of(&network).filter(|doubt| now < doubt.forgotten_at);
            return match doubt {
                Some(doubt) if doubt.failures >= rules.failures_free.max(1) => Pace::Afresh,
                _ => Pace::Free,
            };
        }
        match self.names.of(&(network, account.clone())) {
            Some(failing) if now < failing.paused_until => Pace::Slow,
            _ => Pace::Free,
        }
    }

    /// Learns of a wrong password.
    pub(super) fn wrong(
        &mut self,
        now: Instant,
        rules: &Admission,
        network: SourceNetwork,
        account: &Aor,
        evidence: Evidence,
    ) {
        let forgotten_at = now + rules.window;
        if evidence == Evidence::Claimed {
            let fresh = Doubt { failures: 0, forgotten_at };
            let doubt = self.doubtful.touch(network, || fresh);
            if now >= doubt.forgotten_at {
                *doubt = fresh;
            }
            doubt.failures = doubt.failures.saturating_add(1);
            return;
        }
        let fresh = Failing { failures: 0, paused_until: Instant::START, forgotten_at };
        let failing = self.names.touch((network, account.clone()), || fresh);
        if now >= failing.forgotten_at {
            *failing = fresh;
        }
        failing.failures = failing.failures.saturating_add(1);
        failing.forgotten_at = forgotten_at;
        if failing.failures >= rules.failures_max {
            failing.paused_until = now + rules.ban;
            failing.forgotten_at = now + rules.ban;
        } else if let Some(over) = failing.failures.checked_sub(rules.failures_free.saturating_add(1)) {
            failing.paused_until = now + doubled(PAUSE, over, PAUSE_MAX);
            failing.forgotten_at = failing.paused_until + rules.window;
        }
    }

    /// Learns of a right password.
    pub(super) fn right(&mut self, network: SourceNetwork, account: &Aor) {
        if !self.names.is_empty() {
            self.names.remove(&(network, account.clone()));
        }
    }

    /// Forgets the failures of one source, or of all.
    pub(super) fn forgive(&mut self, network: Option<SourceNetwork>) {
        self.names.retain(|(source, _), _| network.is_some_and(|network| *source != network));
        self.doubtful.retain(|source, _| network.is_some_and(|network| *source != network));
    }

    /// The names that are not checked now, in order.
    pub(super) fn slowed(&self, now: Instant) -> Vec<SlowedName> {
        let slowed = self.names.iter().filter(|(_, failing)| now < failing.paused_until);
        slowed
            .map(|((source, account), failing)| SlowedName {
                source: *source,
                account: account.clone(),
                failures: failing.failures,
                left: failing.paused_until.since(now),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_mistakes_are_free_and_then_each_pause_is_twice_as_long() {
        let mut failures = Failures::new();
        let mut pauses = Vec::new();
        let mut now = at(0);
        for _ in 0..12 {
            fail(&mut failures, now, OFFICE, "alice");
            let pause = failures.slowed(now).first().map_or(0, |slowed| slowed.left.as_millis());
            pauses.push(pause);
            now += Duration::from_millis(u64::try_from(pause).unwrap());
            assert_eq!(pace(&failures, now, OFFICE, "alice"), Pace::Free);
        }

        assert_eq!(pauses, [0, 0, 0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn a_name_that_fails_on_is_blocked_and_then_begins_anew() {
        let mut failures = Failures::new();
        for _ in 0..20 {
            fail(&mut failures, at(0), OFFICE, "alice");
        }

        assert_eq!(pace(&failures, at(599), OFFICE, "alice"), Pace::Slow);
        assert_eq!(pace(&failures, at(600), OFFICE, "alice"), Pace::Free);
        fail(&mut failures, at(600), OFFICE, "alice");
        assert_eq!(pace(&failures, at(600), OFFICE, "alice"), Pace::Free);
    }

    #[test]
    fn neither_another_name_nor_another_source_is_slowed() {
        let mut failures = Failures::new();
        for _ in 0..20 {
            fail(&mut failures, at(0), OFFICE, "alice");
        }

        assert_eq!(pace(&failures, at(0), OFFICE, "bob"), Pace::Free);
        assert_eq!(pace(&failures, at(0), HOME, "alice"), Pace::Free);
    }

    #[test]
    fn the_right_password_and_the_operator_end_it() {
        let mut failures = Failures::new();
        for network in [OFFICE, HOME] {
            for _ in 0..9 {
                fail(&mut failures, at(0), network, "alice");
                fail(&mut failures, at(0), network, "bob");
            }
        }

        failures.right(OFFICE, &aor("alice"));
        assert_eq!(pace(&failures, at(0), OFFICE, "alice"), Pace::Free);
        assert_eq!(pace(&failures, at(0), OFFICE, "bob"), Pace::Slow);

        failures.forgive(Some(OFFICE));
        assert_eq!(pace(&failures, at(0), OFFICE, "bob"), Pace::Free);
        assert_eq!(failures.slowed(at(0)).len(), 2);
        failures.forgive(None);
        assert_eq!(failures.slowed(at(0)), []);
    }

    #[test]
    fn forged_failures_slow_nobody_but_ask_for_a_nonce_of_ones_own() {
        let mut failures = Failures::new();
        let (rules, alice) = (Admission::default(), aor("alice"));
        for number in 0..3 {
            let pace = failures.pace(at(0), &rules, OFFICE, &alice, Evidence::Claimed);
            assert_eq!(pace, Pace::Free, "{number}");
            failures.wrong(at(0), &rules, OFFICE, &alice, Evidence::Claimed);
        }

        assert_eq!(failures.pace(at(0), &rules, OFFICE, &aor("bob"), Evidence::Claimed), Pace::Afresh);
        assert_eq!(failures.pace(at(0), &rules, HOME, &alice, Evidence::Claimed), Pace::Free);
        assert_eq!(pace(&failures, at(0), OFFICE, "alice"), Pace::Free);
        assert_eq!(failures.pace(at(300), &rules, OFFICE, &alice, Evidence::Claimed), Pace::Free);
    }

    #[test]
    fn it_is_bounded() {
        let mut failures = Failures::new();
        let rules = Admission::default();
        for number in 0..40_000u32 {
            let network = SourceNetwork::V4(number.into());
            for evidence in [Evidence::Claimed, Evidence::Shown] {
                failures.wrong(at(0), &rules, network, &aor("alice"), evidence);
            }
        }

        assert_eq!((failures.names.len(), failures.doubtful.len()), (NAMES_MAX, DOUBTFUL_MAX));
    }

    proptest! {
        /// Whoever tries all the time, in whatever rhythm, gets few answers.
        #[test]
        fn a_guesser_gets_few_answers_in_an_hour(step in 1u64..5_000) {
            let mut failures = Failures::new();
            let mut answers = 0;
            for now in (0..3_600_000).step_by(step as usize) {
                let now = Instant::START + Duration::from_millis(now);
                if pace(&failures, now, OFFICE, "alice") == Pace::Free {
                    fail(&mut failures, now, OFFICE, "alice");
                    answers += 1;
                }
            }
            prop_assert!(answers <= 80, "{answers}");
        }
    }

    const OFFICE: SourceNetwork = SourceNetwork::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
    const HOME: SourceNetwork = SourceNetwork::V4(std::net::Ipv4Addr::new(198, 51, 100, 9));

    fn pace(failures: &Failures, now: Instant, network: SourceNetwork, user: &str) -> Pace {
        failures.pace(now, &Admission::default(), network, &aor(user), Evidence::Shown)
    }

    fn fail(failures: &mut Failures, now: Instant, network: SourceNetwork, user: &str) {
        failures.wrong(now, &Admission::default(), network, &aor(user), Evidence::Shown);
    }

    fn aor(user: &str) -> Aor {
        Aor::parse(&format!("{user}@example.org")).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}
