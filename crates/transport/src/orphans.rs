//! The connections of the node that was active before: known while this one stands by, and ended as soon as it is active.
//!
//! Each is tickled in several rounds, because a segment may be lost, and the first ones may leave before the neighbours
//! know where the virtual address is. Those with a call come first. A peer whose connection has ended meanwhile answers a
//! further round by a reset that nobody hears. After the last round a connection is forgotten.
//!
//! Invariant: an active node tickles no connection that it has itself: whoever connects again from the same port is
//! taken out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clock::{Instant, Now};

use crate::{Ends, Stranded, Tickle};

/// Segments that leave together. With [`STEP`] that makes 20,000 a second: 10,000 phones hear of it in half a second,
/// and those that come back at once do not come all at once.
pub const TICKLES_AT_ONCE_MAX: usize = 100;
const STEP: Duration = Duration::from_millis(5);

/// When each round begins, counted from the end of the one before. A peer may answer segments like these only every half
/// second (RFC 5961 §7).
const ROUNDS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// How long the peers of the last round have to answer before their connections are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this segment.
    Tickle(Tickle),
    /// Nothing is known of this connection any more: the other node may forget it too.
    Forgotten(Ends),
}

/// How often what has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrphanCounters {
    /// Segments asked for.
    pub tickled: u64,
    /// Connections that were not kept because there were too many.
    pub refused: u64,
}

/// All connections of the other node.
#[derive(Debug)]
pub struct Orphans {
    most: usize,
    last_number: u64,
    by_number: BTreeMap<u64, Stranded>,
    by_ends: BTreeMap<Ends, u64>,
    rounds: Option<Rounds>,
    counters: OrphanCounters,
}

/// What an active node has under way.
#[derive(Debug)]
struct Rounds {
    /// The round that is under way; behind the last one: what is left is forgotten.
    round: usize,
    /// Who is still to be tickled in it, or forgotten.
    left: VecDeque<u64>,
    next_at: Instant,
}

impl Orphans {
    /// Knows none. `most` is how many may be known.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            last_number: 0,
            by_number: BTreeMap::new(),
            by_ends: BTreeMap::new(),
            rounds: None,
            counters: OrphanCounters::default(),
        }
    }

    /// Other limits. What is known beyond them stays.
    pub fn reload(&mut self, most: usize) {
        self.most = most;
    }

    /// The active node tells of a connection, once more or for the first time. Gives its number here; `None` if there are too many.
    pub fn take(&mut self, told: Stranded) -> Option<u64> {
        if let Some(&number) = self.by_ends.get(&told.ends) {
            self.by_number.insert(number, told);
            return Some(number);
        }
        if self.by_number.len() >= self.most {
            self.counters.refused += 1;
            return None;
        }
        self.last_number += 1;
        self.by_ends.insert(told.ends, self.last_number);
        self.by_number.insert(self.last_number, told);
        Some(self.last_number)
    }

    /// The active node says that a connection has ended.
    pub fn withdraw(&mut self, number: u64) {
        if let Some(gone) = self.by_number.remove(&number) {
            self.by_ends.remove(&gone.ends);
        }
    }

    /// A connection with these ends is there: it is another one.
    pub fn replaced(&mut self, ends: &Ends) {
        if let Some(number) = self.by_ends.get(ends).copied() {
            self.withdraw(number);
        }
    }

    /// What is known by this number.
    pub fn get(&self, number: u64) -> Option<&Stranded> {
        self.by_number.get(&number)
    }

    /// This node has become active, so these connections have lost their other end.
    pub fn become_active(&mut self, now: Instant) {
        self.rounds = Some(Rounds { round: 0, left: self.all(), next_at: now + ROUNDS[0] });
    }

    /// This node is not active any more. What is known stays, and the next active node says what of it is true.
    pub fn stand_by(&mut self) {
        self.rounds = None;
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(mut rounds) = self.rounds.take() else { return };
        if rounds.next_at > now.instant {
            self.rounds = Some(rounds);
            return;
        }
        let is_last = rounds.round == ROUNDS.len();
        for _ in 0..TICKLES_AT_ONCE_MAX {
            let Some(number) = rounds.left.pop_front() else { break };
            // It may have been replaced since the round began.
            let Some(orphan) = self.by_number.get(&number).copied() else { continue };
            if is_last {
                self.withdraw(number);
                out.push(Output::Forgotten(orphan.ends));
            } else {
                self.counters.tickled += 1;
                out.push(Output::Tickle(orphan.tickle(now.wall)));
            }
        }
        if !rounds.left.is_empty() {
            rounds.next_at = now.instant + STEP;
        } else if is_last {
            return;
        } else {
            rounds.round += 1;
            rounds.left = self.all();
            rounds.next_at = now.instant + ROUNDS.get(rounds.round).copied().unwrap_or(FORGET_AFTER);
        }
        self.rounds = Some(rounds);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.rounds.as_ref().map(|rounds| rounds.next_at)
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// What has happened so far.
    pub fn counters(&self) -> &OrphanCounters {
        &self.counters
    }

    /// Those with a call first.
    fn all(&self) -> VecDeque<u64> {
        let of = |has_call: bool| {
            let is_wanted = move |(_, orphan): &(&u64, &Stranded)| orphan.has_call == has_call;
            self.by_number.iter().filter(is_wanted).map(|(number, _)| *number)
        };
        of(true).chain(of(false)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, SocketAddr};

    use clock::WallTime;

    use super::*;
    use crate::{LocalAddr, RemoteAddr};

    #[test]
    fn a_standby_tickles_nobody() {
        let mut orphans = Orphans::new(10);
        orphans.take(stranded(1, false));

        let mut out = Vec::new();
        orphans.handle_timeout(at(Duration::from_secs(60)), &mut out);
        assert_eq!((orphans.poll_timeout(), out.as_slice()), (None, &[][..]));

        orphans.become_active(Instant::START);
        orphans.stand_by();
        orphans.handle_timeout(at(Duration::from_secs(60)), &mut out);
        assert_eq!((orphans.poll_timeout(), out.as_slice()), (None, &[][..]));
        assert_eq!(orphans.len(), 1, "the next active node says what is true");
    }

    #[test]
    fn each_is_tickled_in_each_round_at_a_bounded_pace_and_then_forgotten() {
        let count = 1_050;
        let mut orphans = Orphans::new(2_000);
        for number in 0..count {
            orphans.take(stranded(number, false));
        }
        orphans.become_active(Instant::START);

        let played = play(&mut orphans);

        let first = played.iter().take_while(|(time, _)| *time < ROUNDS[1]);
        let last_of_first = first.map(|(time, _)| *time).max().expect("there is one");
        assert_eq!(last_of_first, STEP * 10, "a hundred every five milliseconds");
        let tickled = played.iter().filter(|(_, output)| matches!(output, Output::Tickle(_))).count();
        assert_eq!(tickled, usize::from(count) * ROUNDS.len());
        let forgotten: BTreeSet<Ends> = played.iter().filter_map(|(_, output)| forgotten(output)).collect();
        assert_eq!(forgotten.len(), usize::from(count));
        assert!(orphans.is_empty());
        assert_eq!(orphans.counters().tickled, tickled as u64);
    }

    #[test]
    fn who_is_in_a_call_is_told_first() {
        let mut orphans = Orphans::new(500);
        for number in 0..300 {
            orphans.take(stranded(number, number >= 250));
        }
        orphans.become_active(Instant::START);

        let mut out = Vec::new();
        orphans.handle_timeout(at(Duration::ZERO), &mut out);

        let ports: Vec<u16> = out.iter().filter_map(tickled).map(|ends| ends.remote.0.port()).collect();
        assert_eq!(ports.len(), TICKLES_AT_ONCE_MAX);
        assert!(ports[..50].iter().all(|port| *port >= 1_250), "{ports:?}");
    }

    #[test]
    fn whoever_connects_again_from_the_same_port_is_not_tickled() {
        let mut orphans = Orphans::new(10);
        for number in 0..2 {
            orphans.take(stranded(number, false));
        }
        orphans.become_active(Instant::START);
        orphans.replaced(&stranded(0, false).ends);

        let tickled: BTreeSet<Ends> =
            play(&mut orphans).iter().filter_map(|(_, output)| tickled(output)).collect();

        assert_eq!(tickled, BTreeSet::from([stranded(1, false).ends]));
    }

    #[test]
    fn what_is_told_again_keeps_its_number_and_too_many_are_refused() {
        let mut orphans = Orphans::new(2);
        let first = orphans.take(stranded(0, false)).expect("room");
        assert_eq!(orphans.take(stranded(0, true)), Some(first));
        assert!(orphans.get(first).is_some_and(|orphan| orphan.has_call));
        let second = orphans.take(stranded(1, false)).expect("room");
        assert_eq!(orphans.take(stranded(2, false)), None);
        assert_eq!(orphans.counters().refused, 1);

        orphans.withdraw(first);
        assert_eq!(orphans.get(first), None);
        let third = orphans.take(stranded(2, false)).expect("room again");
        assert!(third != first && third != second, "no number is given twice");
    }

    /// By seeds: connections come, change, go and return in any order, roles change at any time.
    #[test]
    fn whatever_happens_nobody_is_tickled_who_is_not_known_at_that_moment_or_while_the_node_stands_by() {
        for seed in 1..=300_u64 {
            let mut random = seed;
            let mut next = move |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let (mut orphans, mut known) = (Orphans::new(40), BTreeMap::new());
            let (mut time, mut is_active) = (Duration::ZERO, false);
            for _ in 0..400 {
                let told = stranded(next(60) as u16, next(2) == 0);
                match next(8) {
                    0..=2 => {
                        if let Some(number) = orphans.take(told) {
                            known.insert(told.ends, number);
                        }
                    }
                    3 => {
                        if let Some(number) = known.remove(&told.ends) {
                            orphans.withdraw(number);
                        }
                    }
                    4 => {
                        orphans.replaced(&told.ends);
                        known.remove(&told.ends);
                    }
                    5 if next(6) == 0 => {
                        is_active = !is_active;
                        match is_active {
                            true => orphans.become_active(at(time).instant),
                            false => orphans.stand_by(),
                        }
                    }
                    _ => time += Duration::from_millis(next(700)),
                }
                let mut out = Vec::new();
                orphans.handle_timeout(at(time), &mut out);
                assert!(is_active || out.is_empty(), "seed {seed}");
                assert!(out.len() <= TICKLES_AT_ONCE_MAX, "seed {seed}");
                for output in out {
                    match output {
                        Output::Tickle(tickle) => assert!(known.contains_key(&tickle.ends), "seed {seed}"),
                        Output::Forgotten(ends) => {
                            assert!(known.remove(&ends).is_some(), "seed {seed}: it was known");
                        }
                    }
                }
                assert_eq!(orphans.len(), known.len(), "seed {seed}");
                assert!(is_active || orphans.poll_timeout().is_none(), "seed {seed}");
            }
        }
    }

    fn play(orphans: &mut Orphans) -> Vec<(Duration, Output)> {
        let mut played = Vec::new();
        while let Some(next) = orphans.poll_timeout() {
            let mut out = Vec::new();
            let time = next.since(Instant::START);
            orphans.handle_timeout(at(time), &mut out);
            played.extend(out.into_iter().map(|output| (time, output)));
        }
        played
    }

    fn at(time: Duration) -> Now {
        Now::new(Instant::START + time, WallTime::from_millis(1_700_000_000_000) + time)
    }

    fn tickled(output: &Output) -> Option<Ends> {
        match output {
            Output::Tickle(tickle) => Some(tickle.ends),
            Output::Forgotten(_) => None,
        }
    }

    fn forgotten(output: &Output) -> Option<Ends> {
        match output {
            Output::Forgotten(ends) => Some(*ends),
            Output::Tickle(_) => None,
        }
    }

    fn stranded(number: u16, has_call: bool) -> Stranded {
        let ends = Ends {
            local: LocalAddr(SocketAddr::new(Ipv4Addr::new(192, 0, 2, 10).into(), 5060)),
            remote: RemoteAddr(SocketAddr::new(Ipv4Addr::new(198, 51, 100, 7).into(), 1_000 + number)),
        };
        Stranded { ends, ours: 1, theirs: 2, clock: None, has_call }
    }
}
