//! The search: every state that can be reached, each looked at once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::state::{Action, Setting, State};

/// Which state is looked at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The nearest one: the first violation has the shortest way.
    Nearest,
    /// The last one found: little memory.
    Deepest,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    pub states: u64,
    pub steps: u64,
    pub seconds: f64,
    /// Whether every state was looked at.
    pub is_whole: bool,
    /// How many states it was tried from that somebody becomes active.
    pub converged: u64,
    pub violation: Option<(String, Vec<Action>)>,
}

/// When a search ends before it is whole, and from which of the states it is tried whether all ends well.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub states: u64,
    pub time: Duration,
    /// From one of so many; 0: from none.
    pub converging: u64,
}

pub fn search(setting: &Setting, order: Order, bounds: Bounds) -> Found {
    let begun = Instant::now();
    let first = State::first(setting);
    let mut seen: HashMap<u64, u64> = HashMap::from([(hash(&first), 0)]);
    let mut open = VecDeque::from([first]);
    let mut next = Vec::new();
    let mut found =
        Found { states: 1, steps: 0, seconds: 0.0, is_whole: false, converged: 0, violation: None };
    while let Some(state) = match order {
        Order::Nearest => open.pop_front(),
        Order::Deepest => open.pop_back(),
    } {
        let key = hash(&state);
        state.successors(setting, &mut next);
        for (_, state) in next.drain(..) {
            found.steps += 1;
            let next_key = hash(&state);
            let Entry::Vacant(place) = seen.entry(next_key) else { continue };
            place.insert(key);
            found.states += 1;
            let mut wrong = state.violation.map(str::to_owned);
            if wrong.is_none() && bounds.converging > 0 && next_key.is_multiple_of(bounds.converging) {
                found.converged += 1;
                if !state.clone().converges(setting) {
                    wrong = Some("nobody becomes active though all is well".to_owned());
                }
            }
            if let Some(wrong) = wrong {
                found.violation = Some((wrong, way(setting, &seen, next_key)));
                found.seconds = begun.elapsed().as_secs_f64();
                return found;
            }
            open.push_back(state);
        }
        if found.states >= bounds.states || begun.elapsed() >= bounds.time {
            found.seconds = begun.elapsed().as_secs_f64();
            return found;
        }
    }
    found.is_whole = true;
    found.seconds = begun.elapsed().as_secs_f64();
    found
}

/// How a state was reached: the way is gone once more, and each step's name written down.
fn way(setting: &Setting, seen: &HashMap<u64, u64>, last: u64) -> Vec<Action> {
    let mut keys = vec![last];
    while let Some(before) = keys.last().and_then(|key| seen.get(key))
        && *before != 0
    {
        keys.push(*before);
    }
    let mut state = State::first(setting);
    let mut way = Vec::new();
    for key in keys.iter().rev().skip(1) {
        let mut next = Vec::new();
        state.successors(setting, &mut next);
        let step = next.into_iter().find(|(_, state)| hash(state) == *key);
        let (action, after) = step.expect("this step was made before");
        way.push(action);
        state = after;
    }
    way
}

/// Two states of ten million have the same 64 bits with a chance of one in three hundred thousand.
fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
