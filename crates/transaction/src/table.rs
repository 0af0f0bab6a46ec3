//! A bounded table of transactions: found by key, and woken by their alarms.
//!
//! The slots are numbered, so that an alarm names its transaction in four bytes and needs no look-up.
//! The keys are hashes already, made with a secret, so the table uses them as they are.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use clock::Instant;
use hashbrown::HashMap;
use slab::Slab;

use crate::alarms::Alarms;

/// The table holds as many transactions as it may: answer 503 without a transaction, or try elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the table of transactions is full")
    }
}

impl std::error::Error for Full {}

/// Transactions of one side.
#[derive(Debug)]
pub(crate) struct Table<K, T> {
    index: HashMap<K, u32, BuildHasherDefault<AsItIs>>,
    slots: Slab<(K, T)>,
    alarms: Alarms,
    max: usize,
}

impl<K: Copy + Eq + Hash, T> Table<K, T> {
    /// An empty table for `max` transactions at most.
    pub fn new(max: u32) -> Self {
        Self { index: HashMap::default(), slots: Slab::new(), alarms: Alarms::default(), max: max as usize }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn contains(&self, key: K) -> bool {
        self.index.contains_key(&key)
    }

    pub fn get(&self, key: K) -> Option<&T> {
        let slot = *self.index.get(&key)?;
        self.slots.get(slot as usize).map(|(_, transaction)| transaction)
    }

    pub fn find(&mut self, key: K) -> Option<(u32, &mut T)> {
        let slot = *self.index.get(&key)?;
        self.slots.get_mut(slot as usize).map(|(_, transaction)| (slot, transaction))
    }

    pub fn at(&mut self, slot: u32) -> Option<(K, &mut T)> {
        self.slots.get_mut(slot as usize).map(|(key, transaction)| (*key, transaction))
    }

    /// Takes in a transaction whose key is not in the table, with its first deadline.
    pub fn insert(&mut self, key: K, transaction: T, deadline: Option<Instant>) -> Result<(), Full> {
        debug_assert!(!self.contains(key), "a key is inserted once");
        if self.slots.len() >= self.max {
            return Err(Full);
        }
        // The number of slots is bounded by `max`, which is a `u32`.
        let slot = self.slots.insert((key, transaction)) as u32;
        self.index.insert(key, slot);
        self.alarms.set(slot, deadline);
        Ok(())
    }

    /// Moves the alarm to the transaction's deadline.
    pub fn set_deadline(&mut self, slot: u32, deadline: Option<Instant>) {
        self.alarms.set(slot, deadline);
    }

    pub fn remove(&mut self, key: K) -> Option<T> {
        let slot = self.index.remove(&key)?;
        self.alarms.set(slot, None);
        self.slots.try_remove(slot as usize).map(|(_, transaction)| transaction)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.alarms.next()
    }

    /// The next transaction whose alarm is due; the alarm is gone until it is set again.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.alarms.pop_due(now)
    }

    /// Removes all, without a word.
    pub fn clear(&mut self) {
        *self = Self::new(u32::try_from(self.max).expect("it was given as one"));
    }

    #[cfg(test)]
    pub fn alarms(&self) -> usize {
        self.alarms.len()
    }
}

/// Takes a number of 128 bits, which is a keyed hash, for its own hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only for completeness: both kinds of keys are hashed as one number.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_table_refuses_until_one_has_left() {
        let mut table: Table<u128, ()> = Table::new(2);
        assert_eq!(table.insert(1, (), None), Ok(()));
        assert_eq!(table.insert(2, (), None), Ok(()));

        assert_eq!(table.insert(3, (), None), Err(Full));
        assert_eq!(table.remove(1), Some(()));
        assert_eq!(table.insert(3, (), None), Ok(()));
        assert!(!table.contains(1) && table.contains(2) && table.contains(3));
    }

    #[test]
    fn a_removed_transaction_leaves_no_alarm_to_the_next_in_its_slot() {
        let soon = Instant::START + Duration::from_secs(1);
        let mut table: Table<u128, &str> = Table::new(2);
        assert_eq!(table.insert(1, "first", Some(soon)), Ok(()));
        table.remove(1);
        assert_eq!(table.insert(2, "second", None), Ok(()));

        assert_eq!((table.alarms(), table.next_deadline(), table.pop_due(soon)), (0, None, None));
        assert_eq!(table.remove(1), None);
    }
}
