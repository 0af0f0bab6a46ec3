//! Whether this node is fit to be active, and each reason why not.
//!
//! A check is *failing* when it has failed as often in a row as it is allowed to, and *passing* again after as many
//! successes; so one lost answer moves nothing. A check that has never been heard of counts as passing: it must be able to
//! fail before it may take a service down.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;

/// Checks of one node, the operator's included.
const CHECKS_MAX: usize = 32;

/// The first pause of a node that gave up for its health; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A node that was well for so long begins again with the shortest pause.
const FORGIVEN_AFTER: Duration = Duration::from_secs(300);

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// The engine is there and answers SIP.
    Engine,
    /// An interface has its carrier.
    Carrier(Box<str>),
    /// The gateway of an interface answers ARP or neighbour discovery.
    Gateway(Box<str>),
    /// The state directory can be written to.
    Disk,
    /// A command of the operator.
    Command(Box<str>),
}

impl Check {
    /// How much it weighs: a node that can not serve at all is worse than one that may be cut off.
    const fn weight(&self) -> u8 {
        match self {
            Self::Engine => 100,
            Self::Carrier(_) => 40,
            Self::Gateway(_) => 20,
            Self::Command(_) => 10,
            Self::Disk => 5,
        }
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine => formatter.write_str("engine"),
            Self::Carrier(interface) => write!(formatter, "carrier of {interface}"),
            Self::Gateway(gateway) => write!(formatter, "gateway {gateway}"),
            Self::Disk => formatter.write_str("disk"),
            Self::Command(name) => write!(formatter, "check {name}"),
        }
    }
}

/// How often in a row a check must fail, or pass, to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Failures.
    pub failures: u8,
    /// Successes after a failure.
    pub successes: u8,
}

/// Of what is known at once, such as a carrier.
pub const AT_ONCE: Patience = Patience { failures: 1, successes: 1 };

/// The health of this node.
#[derive(Clone, Debug, Default)]
pub struct Health {
    checks: BTreeMap<Check, Condition>,
    paused_until: Option<Instant>,
    pause: Duration,
    gave_up: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Condition {
    patience: Patience,
    /// In a row, of the kind that differs from what counts.
    against: u8,
    failing: Option<Failing>,
}

#[derive(Clone, Debug)]
struct Failing {
    since: Instant,
    reason: Box<str>,
}

impl Health {
    /// A check has passed, or failed for this reason. Says whether what counts has changed.
    pub fn report(
        &mut self,
        now: Instant,
        check: Check,
        patience: Patience,
        result: Result<(), Box<str>>,
    ) -> bool {
        if !self.checks.contains_key(&check) && self.checks.len() >= CHECKS_MAX {
            return false;
        }
        let condition = self.checks.entry(check).or_insert(Condition { patience, against: 0, failing: None });
        condition.patience = patience;
        match (result, &mut condition.failing) {
            (Ok(()), None) => {
                condition.against = 0;
                false
            }
            (Err(reason), Some(failing)) => {
                condition.against = 0;
                failing.reason = reason;
                false
            }
            (Ok(()), failing @ Some(_)) => {
                condition.against = condition.against.saturating_add(1);
                let is_passing = condition.against >= condition.patience.successes;
                if is_passing {
                    condition.against = 0;
                    *failing = None;
                }
                is_passing
            }
            (Err(reason), failing @ None) => {
                condition.against = condition.against.saturating_add(1);
                let is_failing = condition.against >= condition.patience.failures;
                if is_failing {
                    condition.against = 0;
                    *failing = Some(Failing { since: now, reason });
                }
                is_failing
            }
        }
    }

    /// Checks that are made no more.
    pub fn keep(&mut self, is_kept: impl Fn(&Check) -> bool) {
        self.checks.retain(|check, _| is_kept(check));
    }

    /// What is wrong: 0 is nothing; more is worse.
    pub fn ailment(&self) -> u8 {
        self.failing().fold(0_u8, |sum, (check, ..)| sum.saturating_add(check.weight()))
    }

    /// Each check that fails: for how long it does and why.
    pub fn failing(&self) -> impl Iterator<Item = (&Check, Instant, &str)> {
        self.checks
            .iter()
            .filter_map(|(check, condition)| condition.failing.as_ref().map(|failing| (check, failing)))
            .map(|(check, failing)| (check, failing.since, &*failing.reason))
    }

    /// All checks, with whether they pass.
    pub fn checks(&self) -> impl Iterator<Item = (&Check, Option<&str>)> {
        self.checks
            .iter()
            .map(|(check, condition)| (check, condition.failing.as_ref().map(|failing| &*failing.reason)))
    }

    /// The node gave the service up because of its health: it does not want it back at once.
    pub fn gave_up(&mut self, now: Instant) {
        let is_forgiven = self.gave_up.is_none_or(|before| now.since(before) >= FORGIVEN_AFTER);
        self.pause = if is_forgiven { PAUSE_MIN } else { (self.pause * 2).min(PAUSE_MAX) };
        self.gave_up = Some(now);
        self.paused_until = Some(now + self.pause);
    }

    /// Until when the node does not want the service, if it gave it up.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Patience = Patience { failures: 3, successes: 2 };

    #[test]
    fn a_check_fails_after_as_many_failures_in_a_row_as_it_is_allowed() {
        let mut health = Health::default();
        let mut report = |result| health.report(Instant::START, gateway(), THREE, result);

        assert!(!report(failed()) && !report(failed()));
        assert!(!report(Ok(())), "the row is broken");
        assert!(!report(failed()) && !report(failed()));
        assert!(report(failed()));
        assert_eq!(health.ailment(), 20);
    }

    #[test]
    fn a_failing_check_passes_again_after_its_successes() {
        let mut health = Health::default();
        for _ in 0..3 {
            health.report(Instant::START, gateway(), THREE, failed());
        }

        assert!(!health.report(Instant::START, gateway(), THREE, Ok(())));
        assert!(health.report(Instant::START, gateway(), THREE, Ok(())));
        assert_eq!(health.ailment(), 0);
    }

    #[test]
    fn a_dead_engine_is_worse_than_all_that_a_network_can_do() {
        let mut health = Health::default();
        health.report(Instant::START, Check::Engine, AT_ONCE, failed());
        let dead = health.ailment();
        let mut health = Health::default();
        for check in [gateway(), Check::Carrier("eth0".into()), Check::Command("own".into()), Check::Disk] {
            health.report(Instant::START, check, AT_ONCE, failed());
        }

        assert!(health.ailment() < dead);
    }

    #[test]
    fn each_surrender_within_minutes_doubles_the_pause() {
        let mut health = Health::default();
        let mut now = Instant::START;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            health.gave_up(now);
            let until = health.paused_until(now).expect("just gave up");
            pauses.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);

        now += FORGIVEN_AFTER;
        health.gave_up(now);
        assert_eq!(health.paused_until(now), Some(now + PAUSE_MIN));
    }

    fn gateway() -> Check {
        Check::Gateway("192.0.2.1".into())
    }

    fn failed() -> Result<(), Box<str>> {
        Err("no answer".into())
    }
}
