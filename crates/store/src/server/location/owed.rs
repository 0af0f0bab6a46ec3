//! Which bindings the table is owed: a set of keys, each once, the longest owed first.
//!
//! What is to be written is looked up when it is written, so that a binding that changes ten times meanwhile is written
//! once, as it is then. A set that has grown too long is given up: comparing the whole table costs less.

use std::collections::{HashSet, VecDeque};

use routing::account::BindingKey;

/// Keys that are remembered: with 200 bytes each they take 50 MB while a database is away for long.
pub const OWED_MAX: usize = 250_000;

/// Keys of bindings that have changed.
#[derive(Debug, Default)]
pub struct Owed {
    order: VecDeque<BindingKey>,
    /// The same ones. Never iterated.
    there: HashSet<BindingKey>,
}

/// Whether a key could be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is in the set.
    Yes,
    /// There was no room, and nothing is in the set any more.
    GivenUp,
}

impl Owed {
    /// Notes that a binding has changed.
    pub fn note(&mut self, key: BindingKey) -> Noted {
        if self.there.contains(&key) {
            return Noted::Yes;
        }
        if self.order.len() >= OWED_MAX {
            self.clear();
            return Noted::GivenUp;
        }
        self.there.insert(key.clone());
        self.order.push_back(key);
        Noted::Yes
    }

    /// Takes those that are owed for longest.
    pub fn take(&mut self, max: usize) -> Vec<BindingKey> {
        let taken: Vec<BindingKey> = self.order.drain(..max.min(self.order.len())).collect();
        for key in &taken {
            self.there.remove(key);
        }
        taken
    }

    /// Puts back what could not be written, before all others.
    pub fn put_back(&mut self, keys: Vec<BindingKey>) {
        for key in keys.into_iter().rev() {
            if self.there.insert(key.clone()) {
                self.order.push_front(key);
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many are owed.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sip::Aor;

    use super::*;

    #[test]
    fn a_binding_is_owed_once_and_the_longest_owed_is_first() {
        let mut owed = Owed::default();
        for contact in ["c", "a", "c", "b"] {
            assert_eq!(owed.note(key(contact)), Noted::Yes);
        }

        assert_eq!(owed.take(2), [key("c"), key("a")]);
        assert_eq!(owed.note(key("c")), Noted::Yes);
        assert_eq!(owed.take(9), [key("b"), key("c")]);
        assert!(owed.is_empty());
    }

    #[test]
    fn what_could_not_be_written_comes_first_again_and_once() {
        let mut owed = Owed::default();
        for contact in ["a", "b", "c"] {
            owed.note(key(contact));
        }
        let taken = owed.take(2);
        owed.note(key("b"));

        owed.put_back(taken);

        assert_eq!(owed.len(), 3);
        assert_eq!(owed.take(9), [key("a"), key("c"), key("b")]);
    }

    #[test]
    fn a_set_that_is_full_is_given_up() {
        let mut owed = Owed::default();
        for number in 0..OWED_MAX {
            owed.note(key(&number.to_string()));
        }

        assert_eq!(owed.note(key("7")), Noted::Yes, "it is there");
        assert_eq!((owed.note(key("one more")), owed.len()), (Noted::GivenUp, 0));
        assert_eq!((owed.note(key("one more")), owed.len()), (Noted::Yes, 1));
    }

    fn key(contact: &str) -> BindingKey {
        let aor = Aor::parse("alice@example.org").expect("an address of record");
        BindingKey { aor, contact: Bytes::copy_from_slice(contact.as_bytes()), flow: None }
    }
}
