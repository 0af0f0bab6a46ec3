//! Calls over takeovers: each kind of call is played once undisturbed, and then once for each moment at which the active node
//! can be killed. It must end as the undisturbed one: what rang is answered, what is cancelled stops ringing, forks end with
//! one answer, who is not answered hears so, a BYE reaches the other side, and no phone sees a second call.
//!
//! `kind` says what is played, `case` what is done to it, `world` lets it happen.

mod case;
mod events;
pub mod fault;
mod kind;
mod world;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clock::Instant;

use crate::events::Table;
use crate::journal::Journal;
use crate::run::{Telling, Verdict, judged};
use crate::watch::Violation;
pub use case::Case;
use case::{Played, Point, Trouble};
pub use kind::Kind;
use world::World;

/// Nothing may be earlier: no timer runs out sooner because another node has it.
const EARLY_MAX: Duration = Duration::from_millis(100);

/// What each party of a call said. Only what is of one thread has an order.
type Ending = Vec<(String, Vec<Said>)>;

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// Of which call, and which part of it.
    thread: (u32, &'static str),
    fact: String,
    at: Instant,
}

/// A case in which a call did not end as it should, and why.
pub type Failed = (Case, Vec<String>);

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every moment, with every trouble.
    Whole,
    /// Every so many-th case.
    Every(usize),
    /// Every moment, until a call is lost.
    UntilLost,
}

/// What became of a kind of call.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which kind.
    pub kind: Kind,
    /// How many cases were played.
    pub cases: usize,
    /// Those that failed.
    pub failed: Vec<Failed>,
    /// How often each event happened.
    pub events: Table,
}

/// What a kind of call is compared with.
#[derive(Debug)]
struct Reference {
    ending: Ending,
    points: Vec<Point>,
    slow_points: Vec<Point>,
    datagrams: usize,
}

/// What became of one case.
#[derive(Debug)]
struct Outcome {
    why: Vec<String>,
    ending: Ending,
    points: Vec<Point>,
    datagrams: usize,
    verdict: Verdict,
}

/// Whether nobody is left to repeat what is lost in this trouble: a phone that died behind its ACK, or the node that had
/// begun to end the call by a BYE of its own and died with it.
fn is_beyond(kind: Kind, trouble: Trouble) -> bool {
    matches!(
        (kind, trouble),
        (Kind::Forgotten, Trouble::LostDatagram) | (Kind::Abandoned | Kind::Forgotten, Trouble::LostBefore)
    )
}

/// Plays a kind of call in all its cases, with so many threads.
pub fn run_calls(kind: Kind, depth: Depth, jobs: usize) -> Report {
    let reference = match Reference::of(kind) {
        Ok(reference) => reference,
        Err(failed) => return Report { kind, cases: 1, failed: vec![failed], events: Table::default() },
    };
    let mut cases = vec![Case(Played::Slow)];
    cases.extend((0..reference.datagrams).map(|number| Case(Played::Lost(number))));
    for trouble in Trouble::ALL.into_iter().filter(|trouble| !is_beyond(kind, *trouble)) {
        let points = if trouble == Trouble::SlowLink { &reference.slow_points } else { &reference.points };
        cases.extend(Case::kills(points, &[trouble]));
    }
    if let Depth::Every(nth) = depth {
        cases = cases.into_iter().step_by(nth.max(1)).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<(Vec<Failed>, Table)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(&case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = play(kind, case, Some(&reference.ending), Telling::Verdict);
                    let Ok(mut done) = done.lock() else { return };
                    done.1.merge(&outcome.verdict.events);
                    if !outcome.why.is_empty() {
                        done.0.push((case, outcome.why));
                        if depth == Depth::UntilLost {
                            next.store(cases.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (mut failed, events) = done.into_inner().unwrap_or_default();
    failed.sort();
    Report { kind, cases: cases.len() + 1, failed, events }
}

/// Plays one case and tells everything.
pub fn run_call(kind: Kind, case: Case) -> Verdict {
    match Reference::of(kind) {
        Ok(reference) => play(kind, case, Some(&reference.ending), Telling::Everything).verdict,
        Err((case, _)) => play(kind, case, None, Telling::Everything).verdict,
    }
}

impl Reference {
    fn of(kind: Kind) -> Result<Self, Failed> {
        let plain = play(kind, Case::UNDISTURBED, None, Telling::Verdict);
        let slow = play(kind, Case(Played::Slow), Some(&plain.ending), Telling::Verdict);
        for (case, outcome) in [(Case::UNDISTURBED, &plain), (Case(Played::Slow), &slow)] {
            if !outcome.why.is_empty() {
                return Err((case, outcome.why.clone()));
            }
        }
        Ok(Self {
            ending: plain.ending,
            points: plain.points,
            slow_points: slow.points,
            datagrams: plain.datagrams,
        })
    }
}

fn play(kind: Kind, case: Case, reference: Option<&Ending>, telling: Telling) -> Outcome {
    let mut kept = (Vec::new(), Vec::new(), 0);
    let verdict = judged(0, &Journal::default(), || {
        let mut world = World::new(kind, case, telling == Telling::Everything);
        world.play();
        let ending = world.said();
        let mut why = world.broken.clone();
        why.extend(differences(reference.unwrap_or(&ending), &ending, world.late_max()));
        if !why.is_empty() && world.is_excused() {
            world.events.add(events::Event::Excused);
            why.clear();
        }
        kept = (ending, world.points(), world.datagrams());
        let violations = why.into_iter().map(|seen| Violation {
            rule: "a call ends as if nothing had happened",
            at: Instant::START,
            seen,
        });
        Verdict {
            seed: 0,
            violations: violations.collect(),
            errors: Vec::new(),
            events: world.events.table(),
            hash: world.trace.hash(),
            happenings: world.trace.lines(),
            text: world.trace.into_text(),
        }
    });
    let seen = verdict.violations.iter().map(|violation| violation.seen.clone());
    let why = seen.chain(verdict.errors.iter().cloned()).collect();
    let (ending, points, datagrams) = kept;
    Outcome { why, ending, points, datagrams, verdict }
}

/// In what a call ended otherwise than it should.
fn differences(wanted: &Ending, ending: &Ending, late_max: Duration) -> Vec<String> {
    let mut differences = Vec::new();
    for ((party, wanted), (_, said)) in wanted.iter().zip(ending) {
        if wanted.iter().map(|said| &said.fact).eq(said.iter().map(|said| &said.fact)) {
            let is_off = |wanted: &Said, said: &Said| {
                said.at > wanted.at + late_max || said.at + EARLY_MAX < wanted.at
            };
            let off = wanted.iter().zip(said).filter(|(wanted, said)| is_off(wanted, said));
            let off = off
                .map(|(wanted, said)| format!("{party}: {}: at {}, not {}", said.fact, said.at, wanted.at));
            differences.extend(off);
            continue;
        }
        let facts: BTreeSet<&String> = wanted.iter().chain(said).map(|said| &said.fact).collect();
        let mut others = 0;
        for fact in facts {
            let count = |said: &[Said]| said.iter().filter(|said| said.fact == *fact).count();
            let (should, did) = (count(wanted), count(said));
            if should != did {
                others += 1;
                differences.push(format!("{party}: {fact}: {did} times, not {should}"));
            }
        }
        if others == 0 {
            let in_order = said.iter().map(|said| said.fact.as_str()).collect::<Vec<_>>().join(", ");
            differences.push(format!("{party}: in another order: {in_order}"));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_call_ends_well_if_nothing_happens() {
        for kind in Kind::ALL {
            let reference = Reference::of(kind);

            assert!(reference.is_ok_and(|it| it.points.len() > 20 && it.datagrams > 4), "{kind:?}");
        }
    }

    #[test]
    fn the_same_case_gives_the_same_bytes_twice() {
        let case = Case::parse("before:9:power").unwrap();

        let (first, second) = (run_call(Kind::Forked, case), run_call(Kind::Forked, case));

        assert_eq!((first.hash, first.happenings), (second.hash, second.happenings));
    }

    #[test]
    fn a_fact_that_is_missing_doubled_or_in_another_place_is_a_difference() {
        let said = |facts: &[&str]| {
            let facts =
                facts.iter().map(|&it| Said { thread: (1, ""), fact: it.to_owned(), at: Instant::START });
            vec![("bob".to_owned(), facts.collect())]
        };
        let late_max = Duration::from_secs(1);
        let wanted = said(&["Ringing", "Answered"]);

        assert_eq!(differences(&wanted, &wanted, late_max), Vec::<String>::new());
        for other in [&["Ringing"][..], &["Ringing", "Ringing", "Answered"], &["Answered", "Ringing"]] {
            assert_eq!(differences(&wanted, &said(other), late_max).len(), 1, "{other:?}");
        }
        let mut late = wanted.clone();
        late[0].1[1].at = Instant::START + late_max;
        assert_eq!(differences(&wanted, &late, late_max), Vec::<String>::new());
        late[0].1[1].at = Instant::START + late_max + Duration::from_nanos(1);
        assert_eq!(differences(&wanted, &late, late_max).len(), 1);
        assert_eq!(differences(&late, &wanted, late_max).len(), 1, "too early");
    }
}
