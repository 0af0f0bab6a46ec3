//! A bounded table by address of record that forgets what was not asked for.
//!
//! When it is full a hand goes round the rows: a row that was used since the hand last passed is
//! spared once, the first that was not makes room. So a use costs one mark and no list is kept.

use keys::Key;
use sip::Aor;

use super::aor_table::AorTable;

/// At most so many values by address of record.
#[derive(Debug)]
pub(super) struct Cache<V> {
    rows: AorTable<Row<V>>,
    rows_max: usize,
    hand: u32,
}

#[derive(Debug)]
struct Row<V> {
    value: V,
    was_used: bool,
}

impl<V> Cache<V> {
    /// An empty cache of at most `rows_max` values.
    pub(super) fn new(key: &Key, rows_max: usize) -> Self {
        Self { rows: AorTable::new(key), rows_max, hand: 0 }
    }

    /// The value of `aor`, which counts as used.
    pub(super) fn find(&mut self, aor: &Aor) -> Option<&mut V> {
        let row = self.rows.find(aor)?;
        let (_, row) = self.rows.at_mut(row)?;
        row.was_used = true;
        Some(&mut row.value)
    }

    /// Adds or replaces a value; forgets another if there is no room.
    pub(super) fn insert(&mut self, aor: Aor, value: V) {
        if self.rows.len() >= self.rows_max && self.rows.find(&aor).is_none() {
            self.make_room();
        }
        self.rows.insert(aor, Row { value, was_used: false });
    }

    /// Forgets a value.
    pub(super) fn remove(&mut self, aor: &Aor) -> Option<V> {
        let row = self.rows.find(aor)?;
        self.rows.remove(row).map(|(_, row)| row.value)
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn make_room(&mut self) {
        // Two rounds are enough: the first takes every mark away.
        for _ in 0..2 * u64::from(self.rows.rows_end()) {
            let row = self.hand;
            self.hand = if row + 1 < self.rows.rows_end() { row + 1 } else { 0 };
            match self.rows.at_mut(row) {
                Some((_, found)) if found.was_used => found.was_used = false,
                Some(_) => {
                    self.rows.remove(row);
                    return;
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let mut cache = cache();
        for number in 0..100 {
            cache.insert(aor(number), number);
        }

        assert_eq!(cache.len(), 4);
        assert_eq!(cache.find(&aor(99)), Some(&mut 99));
    }

    #[test]
    fn what_is_used_again_and_again_stays_while_others_go() {
        let mut cache = cache();
        cache.insert(aor(0), 0);
        for number in 1..100 {
            cache.insert(aor(number), number);
            assert_eq!(cache.find(&aor(0)), Some(&mut 0), "{number}");
        }
    }

    #[test]
    fn a_replaced_value_takes_no_second_place() {
        let mut cache = cache();
        for number in 0..4 {
            cache.insert(aor(number), number);
        }

        cache.insert(aor(3), 33);

        assert_eq!(cache.find(&aor(0)), Some(&mut 0));
        assert_eq!(cache.find(&aor(3)), Some(&mut 33));
        assert_eq!(cache.remove(&aor(3)), Some(33));
        assert_eq!(cache.find(&aor(3)), None);
    }

    fn cache() -> Cache<u32> {
        Cache::new(&keys::RootKey::new([1; 32]).subkey("test", 0), 4)
    }

    fn aor(number: u32) -> Aor {
        Aor::parse(&format!("user{number}@example.org")).unwrap()
    }
}
