//! One seed from its beginning to its end, and the verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cast::who;
use crate::events::Table;
use crate::journal::Journal;
use crate::script::{self, CONVERGED, RESTED};
use crate::watch::Violation;

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// The rules that were broken; none is good.
    pub violations: Vec<Violation>,
    /// What the server logged as ERROR, or how it panicked; none is good.
    pub errors: Vec<String>,
    /// How often each event happened.
    pub events: Table,
    /// The hash of all that happened: the same for the same seed.
    pub hash: u64,
    /// How many things happened.
    pub happenings: u64,
    /// What happened, if it was asked for.
    pub text: String,
}

impl Verdict {
    /// Whether nothing was broken.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.errors.is_empty()
    }
}

/// How much of a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The verdict only.
    Verdict,
    /// Everything that happened, as text.
    Everything,
}

/// Runs a seed.
pub fn run(seed: u64, telling: Telling) -> Verdict {
    judged(seed, &Journal::default(), || live(seed, telling))
}

/// Runs a world, and turns what it logs and how it panics into its verdict.
pub(crate) fn judged(seed: u64, journal: &Journal, live: impl FnOnce() -> Verdict) -> Verdict {
    let ran = tracing::subscriber::with_default(journal.clone(), || catch_unwind(AssertUnwindSafe(live)));
    let mut verdict = ran.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&said| said.to_owned()));
        Verdict {
            seed,
            violations: Vec::new(),
            errors: vec![format!("panicked: {}", said.unwrap_or_default())],
            events: Table::default(),
            hash: 0,
            happenings: 0,
            text: String::new(),
        }
    });
    verdict.errors.extend(journal.errors());
    verdict
}

fn live(seed: u64, telling: Telling) -> Verdict {
    let mut world = script::world(seed, telling == Telling::Everything);
    world.run_until(CONVERGED);
    for phone in who::REGISTERED.into_iter().chain([who::IVAN]) {
        if !world.bindings.is_bound(phone, world.now()) {
            let seen = format!("phone {phone}, {}", world.phone(phone).aor());
            world.watch.breach(world.now(), "when all has healed every phone is registered", seen);
        }
    }
    world.run_until(RESTED);
    world.audit_rest();
    world.close_books();
    Verdict {
        seed,
        violations: world.watch.broken().to_vec(),
        errors: Vec::new(),
        events: world.events.table(),
        hash: world.trace.hash(),
        happenings: world.trace.lines(),
        text: world.trace.into_text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_twice() {
        for seed in [1, 2] {
            let (first, second) = (run(seed, Telling::Verdict), run(seed, Telling::Verdict));

            assert!(first.happenings > 1_000);
            assert_eq!((first.hash, first.happenings), (second.hash, second.happenings));
        }
    }

    #[test]
    fn the_first_seeds_break_no_rule() {
        for seed in 1..=8 {
            let verdict = run(seed, Telling::Verdict);

            assert!(verdict.is_good(), "seed {seed}: {:?} {:?}", verdict.violations, verdict.errors);
        }
    }

    #[test]
    fn a_panic_is_a_verdict_and_not_the_end() {
        let verdict = judged(9, &Journal::default(), || panic!("planted"));

        assert!(!verdict.is_good());
        assert_eq!(verdict.errors, ["panicked: planted"]);
    }

    #[test]
    fn another_seed_is_another_story() {
        assert_ne!(run(1, Telling::Verdict).hash, run(5, Telling::Verdict).hash);
    }
}
