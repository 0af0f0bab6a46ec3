//! What is to be written: bounded, in order, the last change of each binding only.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use engine::{Change, StoredNonce};
use routing::account::BindingKey;
use sip::Aor;

/// Changes that wait. With a kilobyte each they take 100 MB when the disk stays full for long.
pub const CHANGES_MAX: usize = 100_000;
/// Nonces that wait: their loss costs each phone one more challenge.
pub const NONCES_MAX: usize = 100_000;

/// Which nonce of which account.
type NonceKey = (Aor, [u8; 16]);

/// Changes and nonces that wait to be written.
#[derive(Debug, Default)]
pub struct Queue {
    /// In the order of their arrival.
    changes: BTreeMap<u64, Change>,
    /// Where each binding's change stands. Never iterated.
    places: HashMap<BindingKey, u64>,
    nonces: BTreeMap<NonceKey, StoredNonce>,
    next: u64,
    dropped: u64,
}

/// What is written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// With their places in the queue.
    pub changes: Vec<(u64, Change)>,
    /// All that waited.
    pub nonces: Vec<StoredNonce>,
}

impl Queue {
    /// Adds a change; an earlier one of the same binding is forgotten. In a full queue it is lost.
    pub fn add(&mut self, change: Change) {
        let key = key_of(&change);
        if let Some(place) = self.places.remove(&key) {
            self.changes.remove(&place);
        } else if self.changes.len() >= CHANGES_MAX {
            self.dropped += 1;
            return;
        }
        self.places.insert(key, self.next);
        self.changes.insert(self.next, change);
        self.next += 1;
    }

    /// Adds the counts of a nonce; earlier ones are forgotten. In a full queue they are lost.
    pub fn add_nonce(&mut self, nonce: StoredNonce) {
        let key = (nonce.account.clone(), nonce.nonce);
        if self.nonces.len() < NONCES_MAX || self.nonces.contains_key(&key) {
            self.nonces.insert(key, nonce);
        }
    }

    /// Takes what came first: at most `max` changes and as many nonces.
    pub fn take(&mut self, max: usize) -> Batch {
        let mut batch = Batch::default();
        while batch.changes.len() < max {
            let Some((place, change)) = self.changes.pop_first() else { break };
            self.places.remove(&key_of(&change));
            batch.changes.push((place, change));
        }
        while batch.nonces.len() < max {
            let Some((_, nonce)) = self.nonces.pop_first() else { break };
            batch.nonces.push(nonce);
        }
        batch
    }

    /// Puts back what could not be written, except for what was overtaken since.
    pub fn put_back(&mut self, batch: Batch) {
        for (place, change) in batch.changes {
            if let Entry::Vacant(vacant) = self.places.entry(key_of(&change)) {
                vacant.insert(place);
                self.changes.insert(place, change);
            }
        }
        for nonce in batch.nonces {
            self.nonces.entry((nonce.account.clone(), nonce.nonce)).or_insert(nonce);
        }
    }

    /// Counts changes that the database refused for good.
    pub fn count_refused(&mut self, number: u64) {
        self.dropped += number;
    }

    /// How many changes wait.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.nonces.is_empty()
    }

    /// How many changes were lost to the database.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn key_of(change: &Change) -> BindingKey {
    match change {
        Change::Put(binding) => BindingKey::of(binding),
        Change::Remove(key) => key.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clock::WallTime;

    use super::*;

    #[test]
    fn changes_leave_in_the_order_they_came() {
        let mut queue = Queue::default();
        for contact in ["c", "a", "b"] {
            queue.add(remove("alice@example.org", contact));
        }

        assert_eq!(contacts(&queue.take(2)), ["c", "a"]);
        assert_eq!(contacts(&queue.take(2)), ["b"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_later_change_of_a_binding_replaces_the_earlier_one() {
        let mut queue = Queue::default();
        queue.add(remove("alice@example.org", "a"));
        queue.add(remove("alice@example.org", "b"));
        queue.add(remove("alice@example.org", "a"));
        queue.add(remove("bob@example.org", "a"));

        assert_eq!(contacts(&queue.take(9)), ["b", "a", "a"]);
    }

    #[test]
    fn what_was_overtaken_while_it_could_not_be_written_stays_away() {
        let mut queue = Queue::default();
        queue.add(remove("alice@example.org", "a"));
        queue.add(remove("alice@example.org", "b"));
        let batch = queue.take(9);
        queue.add(remove("alice@example.org", "c"));
        queue.add(remove("alice@example.org", "a"));

        queue.put_back(batch);

        assert_eq!(contacts(&queue.take(9)), ["b", "c", "a"]);
    }

    #[test]
    fn a_full_queue_loses_what_is_new_but_still_takes_what_replaces() {
        let mut queue = Queue::default();
        for number in 0..CHANGES_MAX {
            queue.add(remove("alice@example.org", &number.to_string()));
        }

        queue.add(remove("alice@example.org", "one more"));
        queue.add(remove("alice@example.org", "7"));

        assert_eq!((queue.len(), queue.dropped()), (CHANGES_MAX, 1));
    }

    #[test]
    fn the_last_counts_of_a_nonce_are_kept() {
        let mut queue = Queue::default();
        let nonce = |highest| StoredNonce {
            account: aor("alice@example.org"),
            nonce: [7; 16],
            highest,
            used: 1,
            expires_at: WallTime::from_millis(1),
        };
        queue.add_nonce(nonce(1));
        let batch = queue.take(9);
        queue.add_nonce(nonce(2));
        queue.put_back(batch);

        assert_eq!(queue.take(9).nonces, [nonce(2)]);
    }

    fn remove(of: &str, contact: &str) -> Change {
        Change::Remove(BindingKey {
            aor: aor(of),
            contact: Bytes::copy_from_slice(contact.as_bytes()),
            flow: None,
        })
    }

    fn contacts(batch: &Batch) -> Vec<String> {
        let contact =
            |(_, change): &(u64, Change)| String::from_utf8_lossy(&key_of(change).contact).into_owned();
        batch.changes.iter().map(contact).collect()
    }

    fn aor(text: &str) -> Aor {
        Aor::parse(text).expect("an address of record")
    }
}
