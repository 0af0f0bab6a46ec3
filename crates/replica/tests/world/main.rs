//! Two nodes and a connection that is cut, stalls, loses a frame and lies, owners that refuse, nodes that start again and
//! change roles: whatever was said to be held is with the peer, and when all heals both have the same.
//!
//! `SEEDS` says how many worlds are tried.

mod rng;
mod table;
mod wire;
mod world;

use world::{Counts, World};

#[test]
fn what_is_held_is_with_the_peer_and_both_become_equal() {
    let seeds = std::env::var("SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(if cfg!(debug_assertions) { 20 } else { 60 });
    let mut counts = Counts::new();
    for seed in 0..seeds {
        if let Err(problem) = World::new(seed).run(&mut counts) {
            panic!("seed {seed}: {problem}");
        }
    }
    println!("{seeds} worlds: {counts:?}");
    for what in world::MUST_HAPPEN {
        assert!(counts.contains_key(*what), "{what} never happened in {seeds} worlds");
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let run = || {
        let mut counts = Counts::new();
        World::new(3).run(&mut counts).map(|()| counts)
    };

    assert_eq!(run(), run());
}

#[cfg(feature = "test-faults")]
#[test]
fn each_rule_that_is_left_out_is_found() {
    use replica::fault;

    let mut missed = Vec::new();
    for fault in fault::ALL {
        fault::plant(Some(fault));
        let found = (0..300).find_map(|seed| {
            let run = std::panic::catch_unwind(|| World::new(seed).run(&mut Counts::new()));
            match run {
                Ok(Ok(())) => None,
                Ok(Err(problem)) => Some((seed, problem)),
                Err(_) => Some((seed, "a panic".to_owned())),
            }
        });
        fault::plant(None);
        match found {
            Some((seed, problem)) => println!("{fault:?}: seed {seed}: {problem}"),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
