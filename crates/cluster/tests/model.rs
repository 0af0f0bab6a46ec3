//! The lease in the small, exhaustively: the machines that ship, in every order in which things can happen.
//!
//! `docs/lease-model.md` says what is looked at and what is not. The large searches are `cargo xtask soak lease`.
#![cfg(feature = "test-model")]

#[path = "model/search.rs"]
mod search;
#[path = "model/settings.rs"]
mod settings;
#[path = "model/state.rs"]
mod state;

use std::time::Duration;

use search::{Bounds, Order, search};
use settings::{LARGE, Named, SMALL};

/// A state of the large searches takes 16 bytes for as long as the search lasts.
const STATES_MAX: u64 = 60_000_000;

#[test]
fn in_the_small_two_never_hold_the_service_and_in_the_end_one_does() {
    for named in SMALL {
        let is_whole = look(named, Bounds { states: STATES_MAX, time: Duration::MAX, converging: 50 });
        assert!(is_whole, "{}: not every state was looked at", named.name);
    }
}

#[test]
#[ignore = "takes hours: cargo xtask soak lease"]
fn in_the_large_two_never_hold_the_service_and_in_the_end_one_does() {
    let wanted = std::env::var("MODEL").unwrap_or_default();
    let minutes = std::env::var("MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let bounds = Bounds { states: STATES_MAX, time: Duration::from_secs(60 * minutes), converging: 1_000 };
    for named in LARGE.iter().filter(|named| wanted.is_empty() || named.name == wanted) {
        look(named, bounds);
    }
}

/// Searches and says what came of it, in the form that `cargo xtask soak lease` reads.
fn look(named: &Named, bounds: Bounds) -> bool {
    let found = search(&named.setting, Order::Deepest, bounds);
    println!(
        "model: {} | {} | {} | {} | {} | {:.0} s",
        named.name,
        found.states,
        found.steps,
        if found.is_whole { "all" } else { "not all" },
        found.converged,
        found.seconds
    );
    if let Some((what, way)) = &found.violation {
        way.iter().for_each(|action| println!("  {action:?}"));
        println!("{what}, after {} steps", way.len());
    }
    assert!(found.violation.is_none(), "{}: see above", named.name);
    assert!(found.converged > 0, "{}: nothing was tried to its end", named.name);
    found.is_whole
}

#[cfg(feature = "test-faults")]
#[test]
fn planted_faults_are_found_by_the_shortest_way() {
    use cluster::fault;

    let bounds = Bounds { states: 2_000_000, time: Duration::MAX, converging: 0 };
    for (fault, setting) in settings::PLANTED {
        fault::plant(Some(*fault));
        let found = search(setting, Order::Nearest, bounds);
        fault::plant(None);
        let (what, way) = found.violation.expect("every fault is found");
        println!("{fault:?}: {what}, after {} steps; {} states", way.len(), found.states);
    }
}
