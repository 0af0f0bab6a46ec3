//! Each rule that is left out is found by the world of a pair.
//!
//! `FAULT` says which one is tried alone; a fault is planted in the whole process.

use sim::pair::fault as pair;
use sim::{Telling, run_pair};

/// So many worlds are tried before a fault counts as not found.
const SEEDS: u64 = 400;
/// Worlds that have found rare faults are tried before all: they find them again in a hundredth of the time.
const TELLING: [u64; 3] = [220, 84, 453];

#[test]
fn each_rule_of_who_joins_engine_and_replica_is_found_if_it_is_left_out() {
    let faults =
        pair::ALL.map(|fault| (format!("{fault:?}"), move |is_on: bool| pair::plant(is_on.then_some(fault))));
    find(faults);
}

#[test]
fn the_rules_of_the_replica_are_found_if_they_are_left_out() {
    use replica::fault::{ALL, Fault, plant};

    // A pair's connection never comes apart within its stream, there are not enough bindings to fill a window, owners have
    // room, phones come back for what was left over, and who waits does so at once; how often a liar is asked is not
    // counted. The replica's own world finds these.
    let others = [
        Fault::RefusalNotTold,
        Fault::NoWindow,
        Fault::GapNotSeen,
        Fault::OldPieceSent,
        Fault::OldConnectionCounts,
        Fault::ExtraKept,
        Fault::NoRest,
    ];
    let faults = ALL.into_iter().filter(|fault| !others.contains(fault));
    find(faults.map(|fault| (format!("{fault:?}"), move |is_on: bool| plant(is_on.then_some(fault)))));
}

#[test]
fn the_rules_of_the_lease_are_found_if_they_are_left_out() {
    use cluster::fault::{ALL, Fault, plant};

    // No list of voters changes here, and some orders of events are too rare where so much else happens: the lease's own worlds
    // and its model find these.
    let others = [
        Fault::NoRestartWait,
        Fault::OldListServed,
        Fault::ChangeUnsettled,
        Fault::AnswerBeforeDisk,
        Fault::CountedFromArrival,
        Fault::AnswerWithoutQuestion,
        Fault::ReleaseClosesNothing,
        Fault::OneIncarnation,
        Fault::HandoverFromArrival,
    ];
    // The witness is a host here.
    let faults = ALL.into_iter().filter(|fault| !others.contains(fault) && !fault.is_of_row());
    find(faults.map(|fault| (format!("{fault:?}"), move |is_on: bool| plant(is_on.then_some(fault)))));
}

#[test]
fn the_rules_of_calls_are_found_if_they_are_left_out() {
    use sim::calls::fault::{ALL, plant};
    use sim::calls::{Depth, Kind, run_calls};

    let kinds = [Kind::Busy, Kind::Cancelled, Kind::Brief, Kind::TimedOut];
    let mut missed = Vec::new();
    for fault in ALL {
        plant(Some(fault));
        let lost = kinds.iter().find_map(|&kind| {
            let (case, why) = run_calls(kind, Depth::UntilLost, 1).failed.into_iter().next()?;
            Some(format!("{} {case}: {}", kind.name(), why.join("; ")))
        });
        plant(None);
        match lost {
            Some(lost) => println!("{fault:?}: found by {lost}"),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
    for kind in kinds {
        assert_eq!(run_calls(kind, Depth::Every(7), 1).failed, [], "no fault is planted");
    }
}

fn find(faults: impl IntoIterator<Item = (String, impl Fn(bool))>) {
    let wanted = std::env::var("FAULT").ok();
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let mut missed = Vec::new();
    for seed in TELLING {
        assert!(run_pair(seed, Telling::Verdict).is_good(), "seed {seed}: no fault is planted");
    }
    for (name, plant) in faults {
        if wanted.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        plant(true);
        let found = TELLING.into_iter().chain(1..=seeds).find_map(|seed| {
            let verdict = run_pair(seed, Telling::Verdict);
            let broken = verdict.violations.first().map(|violation| violation.rule.to_owned());
            broken.or(verdict.errors.first().cloned()).map(|broken| (seed, broken))
        });
        plant(false);
        match found {
            Some((seed, broken)) => println!("{name}: found by seed {seed}: {broken}"),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
