//! A table by address of record, whose rows have a number that stays while the row stays.
//!
//! The text of an address of record is kept once, in its row; the index holds row numbers alone. The
//! hash is keyed: whoever picks names can not make them collide.

use ahash::RandomState;
use hashbrown::HashTable;
use keys::Key;
use sip::Aor;

/// Rows by address of record.
#[derive(Debug)]
pub(super) struct AorTable<V> {
    hash: RandomState,
    index: HashTable<u32>,
    rows: Vec<Option<(Aor, V)>>,
    free: Vec<u32>,
}

impl<V> AorTable<V> {
    /// An empty table; `key` is for its hash.
    pub(super) fn new(key: &Key) -> Self {
        let seed = |number: &[u8]| key.mac(&[b"address of record table", number]).short();
        Self {
            hash: RandomState::with_seeds(seed(b"0"), seed(b"1"), seed(b"2"), seed(b"3")),
            index: HashTable::new(),
            rows: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The row of `aor`.
    pub(super) fn find(&self, aor: &Aor) -> Option<u32> {
        self.index.find(self.hash.hash_one(aor), |&row| self.is_at(row, aor)).copied()
    }

    /// The row numbered `row`.
    pub(super) fn at(&self, row: u32) -> Option<(&Aor, &V)> {
        self.rows.get(row as usize)?.as_ref().map(|(aor, value)| (aor, value))
    }

    /// The row numbered `row`, to be changed.
    pub(super) fn at_mut(&mut self, row: u32) -> Option<(&Aor, &mut V)> {
        self.rows.get_mut(row as usize)?.as_mut().map(|(aor, value)| (&*aor, value))
    }

    /// Adds a row, or replaces the value of the one that is there; gives its number.
    pub(super) fn insert(&mut self, aor: Aor, value: V) -> u32 {
        if let Some(row) = self.find(&aor) {
            self.rows[row as usize] = Some((aor, value));
            return row;
        }
        let hash = self.hash.hash_one(&aor);
        let row = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            u32::try_from(self.rows.len() - 1)
                .expect("every user of the table bounds its rows far below 2^32")
        });
        self.rows[row as usize] = Some((aor, value));
        let (rows, state) = (&self.rows, &self.hash);
        self.index.insert_unique(hash, row, |&row| hash_of(rows, state, row));
        row
    }

    /// Takes a row out; its number may be given to another.
    pub(super) fn remove(&mut self, row: u32) -> Option<(Aor, V)> {
        let (aor, value) = self.rows.get_mut(row as usize)?.take()?;
        if let Ok(entry) = self.index.find_entry(self.hash.hash_one(&aor), |&other| other == row) {
            entry.remove();
        }
        self.free.push(row);
        Some((aor, value))
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// One more than the highest row number that was given so far.
    pub(super) fn rows_end(&self) -> u32 {
        self.rows.len() as u32
    }

    /// All rows by their number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Aor, &V)> {
        self.rows.iter().flatten().map(|(aor, value)| (aor, value))
    }

    fn is_at(&self, row: u32, aor: &Aor) -> bool {
        self.at(row).is_some_and(|(other, _)| other == aor)
    }
}

fn hash_of<V>(rows: &[Option<(Aor, V)>], state: &RandomState, row: u32) -> u64 {
    rows[row as usize].as_ref().map_or(0, |(aor, _)| state.hash_one(aor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_until_it_is_removed_and_its_number_is_used_again() {
        let mut table = table();
        let alice = table.insert(aor("alice"), 1);
        let bob = table.insert(aor("bob"), 2);

        assert_eq!(table.find(&aor("alice")), Some(alice));
        assert_eq!(table.remove(alice), Some((aor("alice"), 1)));
        assert_eq!(table.find(&aor("alice")), None);
        assert_eq!(table.at(alice), None);
        assert_eq!(table.insert(aor("carol"), 3), alice);
        assert_eq!(table.at(bob), Some((&aor("bob"), &2)));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_second_insert_replaces_the_value_and_keeps_the_number() {
        let mut table = table();
        let row = table.insert(aor("alice"), 1);

        assert_eq!(table.insert(aor("alice"), 2), row);
        assert_eq!(table.at(row), Some((&aor("alice"), &2)));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn many_rows_are_all_found_after_the_index_has_grown() {
        let mut table = table();
        for number in 0..1_000 {
            table.insert(aor(&format!("user{number}")), number);
        }

        for number in 0..1_000 {
            let row = table.find(&aor(&format!("user{number}"))).unwrap();
            assert_eq!(table.at(row).unwrap().1, &number);
        }
    }

    fn table() -> AorTable<i32> {
        AorTable::new(&keys::RootKey::new([1; 32]).subkey("test", 0))
    }

    fn aor(user: &str) -> Aor {
        Aor::parse(&format!("{user}@example.org")).unwrap()
    }
}
