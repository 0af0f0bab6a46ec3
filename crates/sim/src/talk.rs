//! Talk through the media relay: two phones behind every kind of NAT router, and the node dies in between.
//!
//! A seed makes a call: early media, holds that outlast the router's mappings, offers with another port, a router that
//! forgets, takeovers with and without notice, and strangers that send to every port all the time. `world` lets it happen
//! with virtual time, `phone` is what talks, `node` is the relay as a node has it, without the signalling around it.
//!
//! The rules: what is said after all has settled is heard, whatever the routers are; what a stranger sends is heard by
//! nobody and moves nothing; a call that is over has no ports.

mod events;
mod node;
mod phone;
mod world;

use crate::journal::Journal;
use crate::run::{Telling, Verdict, judged};
use world::World;

/// Plays the talk of a seed.
pub fn run_talk(seed: u64, telling: Telling) -> Verdict {
    judged(seed, &Journal::default(), || {
        let mut world = World::new(seed, telling == Telling::Everything);
        world.play();
        Verdict {
            seed,
            violations: world.broken,
            errors: Vec::new(),
            events: world.events.table(),
            hash: world.trace.hash(),
            happenings: world.trace.lines(),
            text: world.trace.into_text(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_talk_twice() {
        let (first, second) = (run_talk(3, Telling::Verdict), run_talk(3, Telling::Verdict));

        assert!(first.happenings > 1_000);
        assert_eq!((first.hash, first.happenings), (second.hash, second.happenings));
    }

    #[test]
    fn the_first_talks_break_no_rule() {
        for seed in 1..=20 {
            let verdict = run_talk(seed, Telling::Verdict);

            assert!(verdict.is_good(), "seed {seed}: {:?} {:?}", verdict.violations, verdict.errors);
        }
    }
}
