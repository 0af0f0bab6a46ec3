//! The relay's ports: which pairs are free, in use, or not to be used again yet.
//!
//! Ports come in pairs, an even one for media and the next one for RTCP, and a line with several ports gets pairs in a
//! row. Which pair comes next follows from a seed, so that a stranger does not guess it from the last one.
//!
//! The shards of a node share a range, so that none of them is out of ports while others have some. A standby takes the ports
//! of what it is told at once, and not when it becomes active: by then another of its shards may already give ports.
//!
//! Invariant: a pair is with one holder at most, and after it was given back it rests for a while, because packets of the
//! call before may still come, and would come to a stranger's call.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// The ports that all shards of a node share. Two are equal if they are from and to the same port.
#[derive(Clone, Debug)]
pub struct PortRange {
    first: u16,
    /// Of each pair who has it, counted from 1; 0 is nobody.
    holders: Arc<[AtomicU32]>,
}

impl PortRange {
    /// The whole pairs from `first` to `last`, all of them free.
    pub fn new(first: u16, last: u16) -> Self {
        // Port 0 is none.
        let first = u32::from(first.max(2)).next_multiple_of(2);
        let pairs = (u32::from(last) + 1).saturating_sub(first) / 2;
        let first = u16::try_from(first).unwrap_or(u16::MAX - 1);
        Self { first, holders: (0..pairs).map(|_| AtomicU32::new(0)).collect() }
    }

    /// What a shard takes from the range and gives back. `seed` is a secret of the node.
    pub fn pool(&self, holder: u16, seed: u64) -> Pool {
        Pool {
            range: self.clone(),
            holder: u32::from(holder) + 1,
            resting: VecDeque::new(),
            seed,
            given: 0,
            is_elsewhere: false,
        }
    }

    fn row(&self, ports: Ports) -> Option<Range<usize>> {
        let start = usize::from(ports.first.checked_sub(self.first)? / 2);
        let end = start + usize::from(ports.pairs);
        (end <= self.holders.len()).then_some(start..end)
    }

    /// Takes a whole row for somebody, or none of it.
    fn take(&self, row: Range<usize>, holder: u32) -> Result<(), Taken> {
        for at in row.clone() {
            // Nothing else is told by a pair's holder than who has it.
            if self.holders[at].compare_exchange(0, holder, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                self.free(row.start..at);
                return Err(Taken);
            }
        }
        Ok(())
    }

    fn free(&self, row: Range<usize>) {
        self.holders[row].iter().for_each(|holder| holder.store(0, Ordering::Relaxed));
    }

    fn holder(&self, at: usize) -> u32 {
        self.holders[at].load(Ordering::Relaxed)
    }
}

impl PartialEq for PortRange {
    fn eq(&self, other: &Self) -> bool {
        (self.first, self.holders.len()) == (other.first, other.holders.len())
    }
}

impl Eq for PortRange {}

/// What one holder takes from a range.
#[derive(Debug)]
pub struct Pool {
    range: PortRange,
    holder: u32,
    /// Of its pairs those that rest, when they are free again, in that order.
    resting: VecDeque<(Instant, usize)>,
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

    /// The whole pairs from `first` to `last`, which nobody shares. `seed` is a secret of the node.
    pub fn new(first: u16, last: u16, seed: u64) -> Self {
        PortRange::new(first, last).pool(0, seed)
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
        let (count, all) = (usize::from(pairs), self.range.holders.len());
        if all < count {
            return Err(NoPorts::Exhausted);
        }
        self.given += 1;
        let start = (mix(self.seed, self.given) % all as u64) as usize;
        let row = self.take_row(start, all, count).or_else(|| self.take_row(0, start + count, count));
        let row = row.ok_or(NoPorts::Exhausted)?;
        // Lossless: the row is within a range of ports.
        Ok(Ports { first: self.range.first + 2 * row as u16, pairs })
    }

    /// Takes ports that another node gave.
    ///
    /// # Errors
    ///
    /// They are in use, or not of this range. Those of this holder that rest are given: they were this call's.
    pub fn claim(&mut self, now: Instant, ports: Ports) -> Result<(), Taken> {
        self.wake(now);
        let row = self.range.row(ports).ok_or(Taken)?;
        let is_awake = |pair: usize| self.range.holder(pair) == self.holder && !self.rests(pair);
        if row.clone().any(is_awake) {
            return Err(Taken);
        }
        self.resting.retain(|(_, pair)| {
            let is_claimed = row.contains(pair);
            if is_claimed {
                self.range.free(*pair..pair + 1);
            }
            !is_claimed
        });
        self.range.take(row, self.holder)
    }

    /// Takes back ports that nobody was told of, or that somebody else has given, so that they need no rest.
    pub fn put_back(&mut self, ports: Ports) {
        if let Some(row) = self.row_awake(ports) {
            self.range.free(row);
        }
    }

    /// Gives ports back. What is not in use is not given back twice.
    pub fn release(&mut self, now: Instant, ports: Ports) {
        self.wake(now);
        let Some(row) = self.row_awake(ports) else { return };
        self.resting.extend(row.map(|pair| (now + REST, pair)));
    }

    /// What rests is free: another node gives ports from here on, and knows what it may give.
    pub fn end_rest(&mut self) {
        for (_, pair) in self.resting.drain(..) {
            self.range.free(pair..pair + 1);
        }
    }

    /// How many pairs this holder has, without those that rest.
    pub fn held(&self) -> usize {
        let all = 0..self.range.holders.len();
        all.filter(|at| self.range.holder(*at) == self.holder).count() - self.resting.len()
    }

    /// A range of its own that is as this one is.
    #[cfg(test)]
    pub(crate) fn copy(&self) -> Self {
        let holders =
            self.range.holders.iter().map(|it| AtomicU32::new(it.load(Ordering::Relaxed))).collect();
        let range = PortRange { holders, ..self.range };
        Self { range, resting: self.resting.clone(), ..*self }
    }

    fn wake(&mut self, now: Instant) {
        while let Some((_, pair)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.range.free(pair..pair + 1);
        }
    }

    /// Takes the first row of free pairs from `from` on that ends before `to`.
    fn take_row(&self, from: usize, to: usize, count: usize) -> Option<usize> {
        let mut length = 0;
        for at in from..to.min(self.range.holders.len()) {
            length = if self.range.holder(at) == 0 { length + 1 } else { 0 };
            if length == count {
                let start = at + 1 - count;
                if self.range.take(start..at + 1, self.holder).is_ok() {
                    return Some(start);
                }
                // Another holder was faster.
                length = 0;
            }
        }
        None
    }

    fn rests(&self, pair: usize) -> bool {
        self.resting.iter().any(|(_, resting)| *resting == pair)
    }

    /// The row of these ports if this holder has all of it, and none of it rests.
    fn row_awake(&self, ports: Ports) -> Option<Range<usize>> {
        let row = self.range.row(ports)?;
        row.clone().all(|at| self.range.holder(at) == self.holder && !self.rests(at)).then_some(row)
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
        for _ in 0..32_767 {
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
        assert_eq!(pool.held(), 1);
    }

    #[test]
    fn what_rests_is_claimed_in_any_shape() {
        let mut pool = Pool::new(30_000, 30_007, 7);
        pool.claim(NOW, Ports::new(30_002, 1).unwrap()).unwrap();
        pool.release(NOW, Ports::new(30_002, 1).unwrap());
        let two = Ports::new(30_000, 2).unwrap();

        assert_eq!(pool.claim(NOW, two), Ok(()));
        assert_eq!(
            pool.allocate(NOW + REST, 2),
            Ok(Ports::new(30_004, 2).unwrap()),
            "its rest is over, and it is held"
        );
        pool.release(NOW + REST, two);
        assert_eq!(pool.allocate(NOW + REST, 1), Err(NoPorts::Exhausted));
    }

    #[test]
    fn holders_share_a_range_and_give_back_only_their_own() {
        let range = PortRange::new(30_000, 30_003);
        let (mut one, mut other) = (range.pool(0, 7), range.pool(1, 7));
        let ports = one.allocate(NOW, 1).unwrap();
        other.put_back(ports);
        other.release(NOW, ports);

        assert_ne!(other.allocate(NOW, 1).unwrap(), ports);
        assert_eq!(other.allocate(NOW, 1), Err(NoPorts::Exhausted));
        assert_eq!(other.claim(NOW, ports), Err(Taken));
        assert_eq!((one.held(), other.held()), (1, 1));
        one.put_back(ports);
        assert_eq!(other.allocate(NOW, 1), Ok(ports));
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
                prop_assert_eq!(pool.held() * 2, ports.len());
            }
            held.into_iter().for_each(|ports| pool.release(now, ports));
            prop_assert_eq!(pool.held(), 0);
            now += REST;
            prop_assert!((0..32).all(|_| pool.allocate(now, 1).is_ok()));
        }
    }
}
