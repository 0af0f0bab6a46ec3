//! What was touched lately, in bounded memory and in constant time.
//!
//! Two generations: what is touched is in the young one. When that is full, or old enough, it becomes the old one,
//! and the old one is dropped whole. So a flood with ever other keys drives out what was not touched
//! lately, and no entry is ever looked for in order to be dropped.
//!
//! Invariant: an entry that is not driven out lasts for `lasts` at least and for twice that at most.

use std::time::Duration;

use ahash::RandomState;
use clock::Instant;
use hashbrown::HashMap;
use keys::Key;

/// Values by keys that are keyed hashes already.
#[derive(Debug)]
pub(super) struct Recent<V> {
    young: HashMap<u64, V, RandomState>,
    old: HashMap<u64, V, RandomState>,
    generation_max: usize,
    lasts: Duration,
    turns_at: Instant,
}

impl<V> Recent<V> {
    /// Knows nothing. At most `max` entries, in two generations.
    pub(super) fn new(key: &Key, max: usize, lasts: Duration) -> Self {
        let hasher = hasher(key);
        Self {
            young: HashMap::with_hasher(hasher.clone()),
            old: HashMap::with_hasher(hasher),
            generation_max: (max / 2).max(1),
            lasts,
            turns_at: Instant::START + lasts,
        }
    }

    /// Takes another length of life; what is there is kept for it at least.
    pub(super) fn reload(&mut self, now: Instant, lasts: Duration) {
        if self.lasts != lasts {
            self.lasts = lasts;
            self.turns_at = now + lasts;
        }
    }

    /// The value of `key`, if it was touched lately.
    pub(super) fn of(&self, now: Instant, key: u64) -> Option<&V> {
        if now < self.turns_at {
            self.young.get(&key).or_else(|| self.old.get(&key))
        } else if now < self.turns_at + self.lasts {
            self.young.get(&key)
        } else {
            None
        }
    }

    /// Whether `key` was touched so lately that touching it again changes nothing.
    pub(super) fn is_young(&self, now: Instant, key: u64) -> bool {
        now < self.turns_at && self.young.contains_key(&key)
    }

    /// The value of `key`, made by `fresh` where there is none.
    pub(super) fn touch(&mut self, now: Instant, key: u64, fresh: impl FnOnce() -> V) -> &mut V {
        self.turn(now);
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.old = std::mem::replace(&mut self.young, HashMap::with_hasher(self.old.hasher().clone()));
            self.turns_at = now + self.lasts;
        }
        let old = &mut self.old;
        self.young.entry(key).or_insert_with(|| old.remove(&key).unwrap_or_else(fresh))
    }

    /// Forgets `key`.
    pub(super) fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// All values, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.young.values().chain(self.old.values())
    }

    fn turn(&mut self, now: Instant) {
        if now < self.turns_at {
            return;
        }
        let is_long_ago = now >= self.turns_at + self.lasts;
        let young = std::mem::replace(&mut self.young, HashMap::with_hasher(self.old.hasher().clone()));
        self.old = if is_long_ago { HashMap::with_hasher(self.old.hasher().clone()) } else { young };
        self.turns_at = if is_long_ago { now } else { self.turns_at } + self.lasts;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// A hasher whose seeds a stranger can not foresee.
pub(super) fn hasher(key: &Key) -> RandomState {
    let seed = |number: u8| key.mac(&[b"hasher", &[number]]).short();
    RandomState::with_seeds(seed(0), seed(1), seed(2), seed(3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_lasts_once_to_twice_its_time_after_it_was_touched_last() {
        let mut recent = table(100);
        recent.touch(at(1), 7, || "seven");

        assert_eq!(recent.of(at(11), 7), Some(&"seven"));
        assert!(recent.is_young(at(9), 7) && !recent.is_young(at(11), 7));
        recent.touch(at(11), 8, || "eight");
        assert_eq!(recent.of(at(19), 7), Some(&"seven"));
        assert_eq!(recent.of(at(20), 7), None);

        recent.touch(at(22), 8, || "other");
        assert_eq!(recent.of(at(39), 8), Some(&"eight"));
        assert_eq!(recent.of(at(60), 8), None);
        recent.touch(at(60), 9, || "nine");
        assert_eq!(recent.len(), 1);
    }

    #[test]
    fn a_flood_drives_out_what_is_not_touched_and_nothing_else() {
        let mut recent = table(100);
        recent.touch(at(0), 1, || "touched");
        recent.touch(at(0), 2, || "not touched");

        for number in 1_000..2_000 {
            recent.touch(at(0), number, || "flood");
            recent.touch(at(0), 1, || "made anew");
            assert!(recent.len() <= 100);
        }

        assert_eq!(recent.of(at(0), 1), Some(&"touched"));
        assert_eq!(recent.of(at(0), 2), None);
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_no_entry_is_lost_before_its_time(
            steps in proptest::collection::vec((0u64..4, 0u64..30), 1..200)
        ) {
            // 30 keys never fill a generation.
            let mut recent = Recent::new(&key(), 80, Duration::from_secs(10));
            let mut now = 0;
            let mut touched = std::collections::BTreeMap::new();
            for (pause, number) in steps {
                now += pause;
                recent.touch(at(now), number, || ());
                touched.insert(number, now);
                prop_assert!(recent.len() <= 80);
                for (&number, &when) in &touched {
                    let is_there = recent.of(at(now), number).is_some();
                    prop_assert!(is_there || now >= when + 10);
                    prop_assert!(!is_there || now < when + 20);
                }
            }
        }
    }

    fn table(max: usize) -> Recent<&'static str> {
        Recent::new(&key(), max, Duration::from_secs(10))
    }

    fn key() -> Key {
        keys::RootKey::new([1; 32]).subkey("test", 0)
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}
