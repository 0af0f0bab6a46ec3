//! The relay's ports: which pairs are free, in use, or not to be used again yet.
//!
//! Ports come in pairs, an even one for media and the next one for RTCP, and a line with several ports gets pairs in a
//! row. Which pair comes next follows from a seed, so that a stranger does not guess it from the last one.
//!
//! Invariant: a pair is with one holder at most, and after it was given back it rests for a while, because packets of the
//! call before may still come, and would come to a stranger's call.

use std::collections::VecDeque;
use std::time::Duration;

use clock::Instant;

/// How long a pair rests: longer than a phone goes on sending after a BYE that it did not get at once.
pub const REST: Duration = Duration::from_secs(30);

/// What stands for a port of another relay.
const PLACEHOLDER: u16 = 2;

/// Pairs in a row that one line may want.
pub const PAIRS_MAX: u16 = 8;

/// Pairs of ports in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    first: u16,
    pairs: u16,
}

impl Ports {
    /// Pairs from an even port on; `None` if that is none, or they are none or too many.
    pub fn new(first: u16, pairs: u16) -> Option<Self> {
        let is_within = (1..=PAIRS_MAX).contains(&pairs) && first.checked_add(2 * pairs - 1).is_some();
        (first != 0 && first.is_multiple_of(2) && is_within).then_some(Self { first, pairs })
    }

    /// The port of media of the first pair, which is the one that a description names.
    pub fn rtp(self) -> u16 {
        self.first
    }

    /// The port of RTCP of the first pair.
    pub fn rtcp(self) -> u16 {
        self.first + 1
    }

    /// How many pairs there are.
    pub fn pairs(self) -> u16 {
        self.pairs
    }
}

/// The pool can not give what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPorts {
    /// All pairs are in use or rest.
    Exhausted,
    /// More than [`PAIRS_MAX`] pairs in a row, more than were told before, or none.
    TooMany,
}

/// Ports that can not be taken, because somebody has them or they are not of this pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken;

/// The ports of one range.
#[derive(Clone, Debug)]
pub struct Pool {
    first: u16,
    /// Of each pair whether it is in use or rests.
    busy: Vec<bool>,
    free: usize,
    /// Of the pairs that rest, when they are free again, in that order.
    resting: VecDeque<(Instant, Ports)>,
    seed: u64,
    given: u64,
    /// Whether the ports are another relay's, and these only stand for them.
    is_elsewhere: bool,
}

impl Pool {
    /// Ports that another relay gives: what is taken from here stands for them, says nothing, and never comes to an end.
    pub fn elsewhere() -> Self {
        Self { is_elsewhere: true, ..Self::new(1, 0, 0) }
    }

    /// The whole pairs from `first` to `last`. `seed` is a secret of the node.
    pub fn new(first: u16, last: u16, seed: u64) -> Self {
        // Port 0 is none.
        let first = u32::from(first.max(2)).next_multiple_of(2);
        let pairs = ((u32::from(last) + 1).saturating_sub(first) / 2) as usize;
        let first = u16::try_from(first).unwrap_or(u16::MAX - 1);
        Self {
            first,
            busy: vec![false; pairs],
            free: pairs,
            resting: VecDeque::new(),
            seed,
            given: 0,
            is_elsewhere: false,
        }
    }

    /// Takes pairs in a row.
    ///
    /// # Errors
    ///
    /// There is no such row: a call that wants it is to be refused.
    pub fn allocate(&mut self, now: Instant, pairs: u16) -> Result<Ports, NoPorts> {
        if !(1..=PAIRS_MAX).contains(&pairs) {
            return Err(NoPorts::TooMany);
        }
        if self.is_elsewhere {
            return Ok(Ports { first: PLACEHOLDER, pairs });
        }
        self.wake(now);
        let count = usize::from(pairs);
        if self.free < count {
            return Err(NoPorts::Exhausted);
        }
        self.given += 1;
        let start = (mix(self.seed, self.given) % self.busy.len() as u64) as usize;
        let row = self.find(start, self.busy.len(), count).or_else(|| self.find(0, start + count, count));
        let row = row.ok_or(NoPorts::Exhausted)?;
        // Lossless: the row is within a range of ports.
        let ports = Ports { first: self.first + 2 * row as u16, pairs };
        self.mark(ports, true);
        Ok(ports)
    }

    /// Takes ports that another node gave.
    ///
    /// # Errors
    ///
    /// They are in use, or not of this pool. Those that rest are given: they were this call's.
    pub fn claim(&mut self, now: Instant, ports: Ports) -> Result<(), Taken> {
        self.wake(now);
        let row = self.row(ports).ok_or(Taken)?;
        if let Some(at) = self.resting.iter().position(|(_, resting)| *resting == ports) {
            self.resting.remove(at);
            return Ok(());
        }
        if self.busy[row].contains(&true) {
            return Err(Taken);
        }
        self.mark(ports, true);
        Ok(())
    }

    /// Takes back ports that nobody was told of, so that they need no rest.
    pub fn put_back(&mut self, ports: Ports) {
        let is_held = self.row(ports).is_some_and(|row| !self.busy[row].contains(&false));
        if is_held && !self.rests(ports) {
            self.mark(ports, false);
        }
    }

    /// Gives ports back. What is not in use is not given back twice.
    pub fn release(&mut self, now: Instant, ports: Ports) {
        self.wake(now);
        let is_held = self.row(ports).is_some_and(|row| !self.busy[row].contains(&false));
        if is_held && !self.rests(ports) {
            self.resting.push_back((now + REST, ports));
        }
    }

    /// How many pairs could be given if all that rest were awake.
    pub fn unused(&self) -> usize {
        self.free + self.resting.iter().map(|(_, ports)| usize::from(ports.pairs)).sum::<usize>()
    }

    /// How many pairs there are.
    pub fn pairs(&self) -> usize {
        self.busy.len()
    }

    fn wake(&mut self, now: Instant) {
        while let Some((at, ports)) = self.resting.front().copied().filter(|(at, _)| *at <= now) {
            debug_assert!(at <= now);
            self.resting.pop_front();
            self.mark(ports, false);
        }
    }

    /// The first row of free pairs from `from` on that ends before `to`.
    fn find(&self, from: usize, to: usize, count: usize) -> Option<usize> {
        let mut length = 0;
        for at in from..to.min(self.busy.len()) {
            length = if self.busy[at] { 0 } else { length + 1 };
            if length == count {
                return Some(at + 1 - count);
            }
        }
        None
    }

    fn rests(&self, ports: Ports) -> bool {
        let end = |ports: Ports| u32::from(ports.first) + 2 * u32::from(ports.pairs);
        let meets =
            |resting: Ports| u32::from(resting.first) < end(ports) && u32::from(ports.first) < end(resting);
        self.resting.iter().any(|(_, resting)| meets(*resting))
    }

    fn row(&self, ports: Ports) -> Option<std::ops::Range<usize>> {
        let start = usize::from(ports.first.checked_sub(self.first)? / 2);
        let end = start + usize::from(ports.pairs);
        (end <= self.busy.len()).then_some(start..end)
    }

    fn mark(&mut self, ports: Ports, busy: bool) {
        let Some(row) = self.row(ports) else { return };
        let count = row.len();
        self.busy[row].fill(busy);
        self.free = if busy { self.free - count } else { self.free + count };
    }
}

/// SplitMix64: neighbouring numbers lead far apart.
fn mix(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::START;

    #[test]
    fn pairs_begin_with_an_even_port_within_the_range() {
        let mut pool = Pool::new(30_001, 30_010, 7);
        let given: BTreeSet<u16> = (0..4).map(|_| pool.allocate(NOW, 1).unwrap().rtp()).collect();

        assert_eq!(given, BTreeSet::from([30_002, 30_004, 30_006, 30_008]));
        assert_eq!(pool.allocate(NOW, 1), Err(NoPorts::Exhausted));
    }

    #[test]
    fn the_ends_of_all_ports_are_no_trap() {
        let mut pool = Pool::new(0, u16::MAX, 7);
        assert_eq!(pool.pairs(), 32_767);
        for _ in 0..pool.pairs() {
            let ports = pool.allocate(NOW, 1).unwrap();
            assert!(ports.rtp() >= 2 && ports.rtcp() > ports.rtp());
        }
        assert_eq!(pool.allocate(NOW, 1), Err(NoPorts::Exhausted));
        assert_eq!(Pool::new(u16::MAX, u16::MAX, 7).allocate(NOW, 1), Err(NoPorts::Exhausted));
        assert_eq!(Pool::new(9, 3, 7).allocate(NOW, 1), Err(NoPorts::Exhausted));
    }

    #[test]
    fn what_was_given_back_rests() {
        let mut pool = Pool::new(30_000, 30_001, 7);
        let ports = pool.allocate(NOW, 1).unwrap();
        pool.release(NOW, ports);
        pool.release(NOW, ports);

        let almost = Instant::from_nanos((NOW + REST).as_nanos() - 1);
        assert_eq!(pool.allocate(almost, 1), Err(NoPorts::Exhausted));
        assert_eq!(pool.allocate(NOW + REST, 1), Ok(ports));
        assert_eq!(pool.unused(), 0);
    }

    #[test]
    fn what_nobody_was_told_of_needs_no_rest() {
        let mut pool = Pool::new(30_000, 30_001, 7);
        let ports = pool.allocate(NOW, 1).unwrap();
        pool.put_back(ports);
        pool.put_back(ports);

        assert_eq!(pool.allocate(NOW, 1), Ok(ports));
        pool.release(NOW, ports);
        pool.put_back(ports);
        assert_eq!(pool.allocate(NOW, 1), Err(NoPorts::Exhausted), "it rests");
    }

    #[test]
    fn a_row_of_pairs_is_given_whole_or_not() {
        let mut pool = Pool::new(30_000, 30_007, 7);
        pool.claim(NOW, Ports::new(30_002, 1).unwrap()).unwrap();

        assert_eq!(pool.allocate(NOW, 3), Err(NoPorts::Exhausted));
        assert_eq!(pool.allocate(NOW, 2), Ok(Ports::new(30_004, 2).unwrap()));
        assert_eq!(pool.allocate(NOW, PAIRS_MAX + 1), Err(NoPorts::TooMany));
        assert_eq!(pool.allocate(NOW, 0), Err(NoPorts::TooMany));
    }

    #[test]
    fn what_another_node_gave_is_taken_once() {
        let mut pool = Pool::new(30_000, 30_007, 7);
        let ports = Ports::new(30_002, 2).unwrap();

        assert_eq!(pool.claim(NOW, ports), Ok(()));
        assert_eq!(pool.claim(NOW, ports), Err(Taken));
        assert_eq!(pool.claim(NOW, Ports::new(30_004, 1).unwrap()), Err(Taken));
        assert_eq!(pool.claim(NOW, Ports::new(30_006, 2).unwrap()), Err(Taken));
        assert_eq!(pool.claim(NOW, Ports::new(20_000, 1).unwrap()), Err(Taken));
        pool.release(NOW, ports);
        assert_eq!(pool.claim(NOW, ports), Ok(()));
    }

    #[test]
    fn ports_that_are_none_can_not_be_said() {
        for (first, pairs) in [(0, 1), (1, 1), (30_000, 0), (30_000, PAIRS_MAX + 1), (65_534, 2)] {
            assert_eq!(Ports::new(first, pairs), None, "{first} {pairs}");
        }
        assert!(Ports::new(65_534, 1).is_some());
    }

    proptest! {
        #[test]
        fn no_port_is_with_two_and_none_is_lost(
            seed: u64,
            steps in prop::collection::vec((0u16..4, any::<prop::sample::Index>(), 0u64..20), 0..200),
        ) {
            let mut pool = Pool::new(30_000, 30_063, seed);
            let mut held: Vec<Ports> = Vec::new();
            let mut now = NOW;
            for (pairs, which, seconds) in steps {
                now += Duration::from_secs(seconds);
                match pairs {
                    0 if !held.is_empty() => pool.release(now, held.swap_remove(which.index(held.len()))),
                    pairs => held.extend(pool.allocate(now, pairs)),
                }
                let ports: Vec<u16> =
                    held.iter().flat_map(|ports| (0..2 * ports.pairs()).map(|at| ports.rtp() + at)).collect();
                prop_assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
                prop_assert_eq!(pool.unused() * 2 + ports.len(), 64);
            }
            held.into_iter().for_each(|ports| pool.release(now, ports));
            prop_assert_eq!(pool.unused(), 32);
            now += REST;
            prop_assert!((0..32).all(|_| pool.allocate(now, 1).is_ok()));
        }
    }
}
