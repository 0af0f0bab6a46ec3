//! The lease in a hostile world: no two gates are ever open at once, and when all heals somebody is active.

#[path = "safety/rng.rs"]
mod rng;
#[path = "safety/world.rs"]
mod world;

use std::time::Duration;

use world::{Counts, World};

const HOSTILE: Duration = Duration::from_secs(20);

#[test]
fn no_seed_opens_two_gates_and_every_seed_converges() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let mut counts = Counts::new();
    for seed in 1..=seeds {
        let mut world = World::new(seed);
        world.run(HOSTILE);
        assert_eq!(world.violation, None, "seed {seed}");
        for (what, times) in world.counts {
            *counts.entry(what).or_default() += times;
        }
    }
    for (what, times) in &counts {
        println!("{times:>10}  {what}");
    }
    for what in [
        "became active",
        "lease expired",
        "handed over",
        "gave up",
        "refused: held",
        "refused: restarted",
        "refused: epoch used",
    ] {
        assert!(counts.get(what).is_some_and(|times| *times > 0), "never happened: {what}");
    }
}

#[cfg(feature = "test-faults")]
#[test]
fn each_planted_fault_is_found() {
    use cluster::fault;

    let mut unfound = Vec::new();
    // The list of voters does not change in this world; the voter's own tests have that rule.
    let of_list = [fault::Fault::OldListServed, fault::Fault::ChangeUnsettled];
    for fault in fault::ALL.into_iter().filter(|fault| !of_list.contains(fault)) {
        fault::plant(Some(fault));
        let found = (1..=3_000).find(|seed| {
            let mut world = World::new(*seed);
            world.run(HOSTILE);
            world.violation.is_some()
        });
        fault::plant(None);
        match found {
            Some(seed) => println!("{fault:?}: found by seed {seed}"),
            None => unfound.push(fault),
        }
    }
    assert!(unfound.is_empty(), "not found: {unfound:?}");
}
