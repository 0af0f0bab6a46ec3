//! A bounded table that forgets what was touched least recently.

use std::collections::BTreeMap;

/// At most `max` values by their keys, in the order of the keys.
///
/// Invariant: `by_age` has exactly the ages of `values`.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    values: BTreeMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
    touched: u64,
    max: usize,
}

impl<K: Clone + Ord, V> Table<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { values: BTreeMap::new(), by_age: BTreeMap::new(), touched: 0, max }
    }

    pub(crate) fn of(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    /// The value of `key`, made by `fresh` where there is none; it is the youngest from here on.
    pub(crate) fn touch(&mut self, key: K, fresh: impl FnOnce() -> V) -> &mut V {
        self.touched += 1;
        let age = self.touched;
        if let Some((old, _)) = self.values.get(&key) {
            self.by_age.remove(old);
        } else if self.values.len() == self.max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.values.remove(&oldest);
        }
        self.by_age.insert(age, key.clone());
        let entry = self.values.entry(key).or_insert_with(|| (age, fresh()));
        entry.0 = age;
        &mut entry.1
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some((age, _)) = self.values.remove(key) {
            self.by_age.remove(&age);
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        let by_age = &mut self.by_age;
        self.values.retain(|key, (age, value)| {
            let is_kept = keep(key, value);
            if !is_kept {
                by_age.remove(age);
            }
            is_kept
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter().map(|(key, (_, value))| (key, value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_forgets_what_was_touched_least_recently() {
        let mut table = Table::new(2);
        table.touch(1, || "one");
        table.touch(2, || "two");
        table.touch(1, || "again");
        table.touch(3, || "three");

        assert_eq!(table.iter().collect::<Vec<_>>(), [(&1, &"one"), (&3, &"three")]);
        table.remove(&1);
        table.retain(|key, _| *key != 3);
        assert_eq!(table.len(), 0);
        assert!(table.by_age.is_empty());
    }
}
