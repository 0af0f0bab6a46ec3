//! The lease in a hostile world: no two gates are ever open at once, and when all heals somebody is active.

#[path = "safety/rng.rs"]
mod rng;
#[path = "safety/world.rs"]
mod world;

use std::time::Duration;

use world::{Counts, Loss, World};

const HOSTILE: Duration = Duration::from_secs(20);

#[test]
fn no_seed_opens_two_gates_and_every_seed_converges() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, seeds) = (number("FIRST_SEED").unwrap_or(1), number("SEEDS").unwrap_or(200));
    let mut counts = Counts::new();
    for seed in first..first + seeds {
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
        "crash",
        "crash while writing",
        "freeze",
        "frozen before acting",
        "gave up",
        "hand-over asked",
        "handed over",
        "lease expired",
        "list: a change is settled",
        "list: a seat is being added",
        "list: a seat is being removed",
        "message doubled",
        "message late",
        "message lost",
        "one-way cut",
        "refused: epoch used",
        "refused: held",
        "refused: old list",
        "refused: restarted",
        "two-way cut",
        "write to disk",
    ] {
        assert!(counts.get(what).is_some_and(|times| *times > 0), "never happened: {what}");
    }
}

#[test]
fn a_witness_in_a_row_opens_no_two_gates_and_every_seed_converges() {
    for (loss, most) in [(Loss::Renewals, 60), (Loss::Anything, 30)] {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let (first, seeds) = (number("FIRST_SEED").unwrap_or(1), number("SEEDS").unwrap_or(most));
        let mut counts = Counts::new();
        for seed in first..first + seeds {
            let mut world = World::with_row(seed, loss);
            world.run(HOSTILE);
            assert_eq!(world.violation, None, "seed {seed}, {loss:?} lost");
            for (what, times) in world.counts {
                *counts.entry(what).or_default() += times;
            }
        }
        for (what, times) in &counts {
            println!("{times:>10}  {what}");
        }
        for what in [
            "became active",
            "row: a failover that lost writes",
            "row: a request doubled",
            "row: a request lost",
            "row: an answer lost",
            "row: another one was there",
            "row: late",
            "row: nobody knows whether it was written",
            "row: written",
        ] {
            let has_happened = counts.get(what).is_some_and(|times| *times > 0);
            assert!(has_happened || seeds < most, "never happened: {what}");
        }
    }
}

#[cfg(feature = "test-faults")]
#[test]
fn each_planted_fault_is_found() {
    use cluster::fault;

    let mut unfound = Vec::new();
    // Only those whose name begins so.
    let wanted = std::env::var("FAULT").unwrap_or_default();
    // Two holders by lists that are two changes apart are too rare for chance: the exhaustive model finds that one.
    // So is a failover in the moment between two looks at a row: `row.rs` tells those moments step by step.
    let too_rare = [
        fault::Fault::ChangeUnsettled,
        fault::Fault::RowWatchedFromAsking,
        fault::Fault::RowHistoryUnchecked,
        fault::Fault::RowErrorIgnored,
        fault::Fault::RowStrangerTrusted,
    ];
    let is_wanted =
        |fault: &fault::Fault| !too_rare.contains(fault) && format!("{fault:?}").starts_with(&wanted);
    for fault in fault::ALL.into_iter().filter(is_wanted) {
        fault::plant(Some(fault));
        let found = (1..=3_000).find(|seed| {
            let mut worlds = vec![World::new(*seed)];
            if fault.is_of_row() {
                worlds = [Loss::Renewals, Loss::Anything].map(|loss| World::with_row(*seed, loss)).into();
            }
            worlds.iter_mut().any(|world| {
                world.run(HOSTILE);
                world.violation.is_some()
            })
        });
        fault::plant(None);
        match found {
            Some(seed) => println!("{fault:?}: found by seed {seed}"),
            None => unfound.push(fault),
        }
    }
    assert!(unfound.is_empty(), "not found: {unfound:?}");
}
