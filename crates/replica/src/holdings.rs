//! What a node knows of its entries without having them: names, stamps, places, and sums to compare.
//!
//! Invariant: the sum of a bucket is the sum of the stamps of its entries, and its count is their number.

use std::collections::BTreeMap;

use crate::capsule::{Kind, Name, Place};
use crate::digest::{BUCKETS, DigestKey, bucket_of, span_of};
use crate::fault::{self, Fault};
use crate::greeting::Origin;

/// Kinds there can be; the program has a handful.
pub const KINDS_MAX: usize = 16;

/// All entries of a node, by kind. About 40 bytes for each.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    shelves: BTreeMap<Kind, Shelf>,
    /// Entries that nobody here understands.
    placeless: u64,
}

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Stands for its content.
    pub stamp: u64,
    /// Where its owner has it; `None`: nobody here understands it.
    pub place: Option<Place>,
}

/// One kind.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    entries: BTreeMap<u64, Entry>,
    sums: Box<[u64]>,
    counts: Box<[u32]>,
}

impl Holdings {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes an entry that this node has from its own disk, or from elsewhere than its peer. No other node, and no other
    /// start of this one, has the same stamp for it: the peer is sent it, or sends it.
    pub fn restore(&mut self, key: &DigestKey, me: Origin, kind: Kind, entry_key: &[u8], place: Place) {
        let name = Name { kind, hash: key.name(kind, entry_key) };
        let stamp = key.own_stamp(me.node, me.incarnation, name.hash);
        self.put(name, Entry { stamp, place: Some(place) });
    }

    /// An entry has changed at its owner, or has ended there (`None`), without its being told: what is left differs from
    /// whatever the peer has.
    pub(crate) fn diverged(
        &mut self,
        key: &DigestKey,
        me: Origin,
        kind: Kind,
        entry_key: &[u8],
        place: Option<Place>,
    ) {
        match place {
            Some(place) => self.restore(key, me, kind, entry_key, place),
            None => drop(self.remove(Name { kind, hash: key.name(kind, entry_key) })),
        }
    }

    /// How many entries of a kind there are.
    pub fn count(&self, kind: Kind) -> u64 {
        self.shelves.get(&kind).map_or(0, |shelf| shelf.entries.len() as u64)
    }

    /// Stands for everything that is held of a kind: two nodes that hold the same have the same.
    pub fn sum(&self, kind: Kind) -> u64 {
        self.shelves.get(&kind).map_or(0, |shelf| shelf.sums.iter().fold(0, |sum, &it| it.wrapping_add(sum)))
    }

    /// The kinds of which there is or was something.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.shelves.keys().copied()
    }

    /// Where the owner has an entry.
    pub fn place(&self, name: Name) -> Option<Place> {
        self.entry(name)?.place
    }

    pub(crate) fn entry(&self, name: Name) -> Option<Entry> {
        self.shelves.get(&name.kind)?.entries.get(&name.hash).copied()
    }

    /// Puts an entry in the place of what has the same name; gives back what that was. A kind too many is left out.
    pub(crate) fn put(&mut self, name: Name, entry: Entry) -> Option<Entry> {
        if self.shelves.len() >= KINDS_MAX && !self.shelves.contains_key(&name.kind) {
            return None;
        }
        let shelf = self.shelves.entry(name.kind).or_default();
        let before = shelf.entries.insert(name.hash, entry);
        self.placeless += u64::from(entry.place.is_none());
        self.placeless -= u64::from(before.is_some_and(|before| before.place.is_none()));
        let bucket = bucket_of(name.hash);
        match before {
            Some(before) if !fault::is_planted(Fault::SumKeepsOld) => {
                shelf.sums[bucket] = shelf.sums[bucket].wrapping_sub(before.stamp);
            }
            Some(_) => {}
            None => shelf.counts[bucket] += 1,
        }
        shelf.sums[bucket] = shelf.sums[bucket].wrapping_add(entry.stamp);
        before
    }

    /// Says where the owner has an entry.
    pub(crate) fn set_place(&mut self, name: Name, place: Place) {
        let entry = self.shelves.get_mut(&name.kind).and_then(|shelf| shelf.entries.get_mut(&name.hash));
        if let Some(entry) = entry {
            self.placeless -= u64::from(entry.place.is_none());
            entry.place = Some(place);
        }
    }

    pub(crate) fn remove(&mut self, name: Name) -> Option<Entry> {
        let shelf = self.shelves.get_mut(&name.kind)?;
        let entry = shelf.entries.remove(&name.hash)?;
        let bucket = bucket_of(name.hash);
        shelf.sums[bucket] = shelf.sums[bucket].wrapping_sub(entry.stamp);
        shelf.counts[bucket] -= 1;
        self.placeless -= u64::from(entry.place.is_none());
        Some(entry)
    }

    /// How many entries nobody here understands.
    pub(crate) fn placeless(&self) -> u64 {
        self.placeless
    }

    /// Gives up what nobody here understands. It looks at all entries, but only if there are such.
    pub(crate) fn drop_placeless(&mut self) {
        if self.placeless == 0 {
            return;
        }
        let names = |(&kind, shelf): (&Kind, &Shelf)| -> Vec<Name> {
            let placeless = shelf.entries.iter().filter(|(_, entry)| entry.place.is_none());
            placeless.map(|(&hash, _)| Name { kind, hash }).collect()
        };
        for name in self.shelves.iter().flat_map(names).collect::<Vec<_>>() {
            self.remove(name);
        }
    }

    /// The sums of a kind, one for each bucket.
    pub(crate) fn sums(&self, kind: Kind) -> Vec<u64> {
        self.shelves.get(&kind).map_or_else(|| vec![0; BUCKETS], |shelf| shelf.sums.to_vec())
    }

    /// How many entries a bucket has.
    pub(crate) fn bucket_count(&self, kind: Kind, bucket: usize) -> u64 {
        self.shelves.get(&kind).map_or(0, |shelf| u64::from(shelf.counts[bucket]))
    }

    /// The entries whose hash is from `first` to `last`, by hash.
    pub(crate) fn range(&self, kind: Kind, first: u64, last: u64) -> impl Iterator<Item = (u64, Entry)> + '_ {
        let shelf = self.shelves.get(&kind).filter(|_| first <= last);
        shelf
            .into_iter()
            .flat_map(move |shelf| shelf.entries.range(first..=last))
            .map(|(&hash, &entry)| (hash, entry))
    }

    /// The buckets whose sums differ from these.
    pub(crate) fn differing(&self, kind: Kind, sums: &[u64]) -> Vec<usize> {
        let own = self.sums(kind);
        (0..BUCKETS).filter(|&bucket| sums.get(bucket) != own.get(bucket)).collect()
    }

    /// The entries of all buckets but these.
    pub(crate) fn count_without(&self, kind: Kind, buckets: &[usize]) -> u64 {
        let left: u64 = buckets.iter().map(|&bucket| self.bucket_count(kind, bucket)).sum();
        self.count(kind) - left
    }

    /// Whether the sums are what the entries say.
    pub fn is_consistent(&self) -> bool {
        self.shelves.values().all(|shelf| {
            (0..BUCKETS).all(|bucket| {
                let (first, last) = span_of(bucket);
                let (sum, count) = shelf
                    .entries
                    .range(first..=last)
                    .fold((0u64, 0), |(sum, count), (_, it)| (sum.wrapping_add(it.stamp), count + 1));
                (sum, count) == (shelf.sums[bucket], shelf.counts[bucket])
            })
        })
    }
}

impl Default for Shelf {
    fn default() -> Self {
        let (sums, counts) = (vec![0; BUCKETS].into(), vec![0; BUCKETS].into());
        Self { entries: BTreeMap::new(), sums, counts }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_of_changes_does_not_change_a_sum() {
        let (mut one, mut other) = (Holdings::new(), Holdings::new());
        one.put(name(1), entry(10));
        one.put(name(2), entry(20));
        other.put(name(2), entry(5));
        other.put(name(1), entry(10));
        other.put(name(2), entry(20));

        assert_eq!((one.sum(KIND), one.count(KIND)), (other.sum(KIND), 2));
        assert_eq!(one.differing(KIND, &other.sums(KIND)), Vec::<usize>::new());
    }

    #[test]
    fn one_wrong_entry_makes_one_bucket_differ() {
        let (mut one, mut other) = (Holdings::new(), Holdings::new());
        for hash in (0..5_000).map(|number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            one.put(name(hash), entry(hash ^ 1));
            other.put(name(hash), entry(hash ^ 1));
        }
        let wrong = 77u64.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        other.put(name(wrong), entry(3));

        assert_eq!(one.differing(KIND, &other.sums(KIND)), [bucket_of(wrong)]);
    }

    proptest! {
        #[test]
        fn sums_and_counts_are_those_of_the_entries(
            changes in prop::collection::vec((0u64..40, prop::option::of(any::<u64>())), 0..300),
        ) {
            let mut holdings = Holdings::new();
            for (number, stamp) in changes {
                let name = name(number.wrapping_mul(0x0fff_ffff_ffff_fff1));
                match stamp {
                    Some(stamp) => drop(holdings.put(name, entry(stamp))),
                    None => drop(holdings.remove(name)),
                }
            }
            prop_assert!(holdings.is_consistent());
        }
    }

    const KIND: Kind = Kind(1);

    fn name(hash: u64) -> Name {
        Name { kind: KIND, hash }
    }

    fn entry(stamp: u64) -> Entry {
        Entry { stamp, place: None }
    }
}
