//! The books of calls: how many there were of each kind, and how many were hurt.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::Kind;
use super::counts::Counts;

/// The calls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Calls that were begun.
    pub calls: u64,
    /// Calls that did not go as scripted, at their caller or at a phone.
    pub hurt: u64,
    /// Messages that a caller or a phone sent once more, because the answer to them did not come in time.
    pub sent_again: u64,
}

impl Book {
    /// Of what the caller and each phone of a kind has counted. Who has seen a call being hurt is not told, so that one that
    /// two have seen counts once.
    pub(super) fn of(caller: &Counts, phones: &[Counts]) -> Book {
        let kept = |counts: &Counts| counts.created.max(caller.created) - counts.succeeded;
        let all = || std::iter::once(caller).chain(phones);
        Book {
            calls: caller.created,
            hurt: all().map(kept).max().unwrap_or_default(),
            sent_again: all().map(|counts| counts.sent_again).sum(),
        }
    }
}

/// The books of all kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    kinds: BTreeMap<Kind, Book>,
    complaints: Vec<String>,
}

impl Books {
    pub(super) fn add(&mut self, kind: Kind, book: Book) {
        self.kinds.insert(kind, book);
    }

    pub(super) fn complain(&mut self, complaint: String) {
        self.complaints.push(complaint);
    }

    /// One of them.
    pub fn of(&self, kind: Kind) -> Book {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.kinds.values().map(|book| book.calls).sum()
    }

    /// All that were hurt.
    pub fn hurt(&self) -> u64 {
        self.kinds.values().map(|book| book.hurt).sum()
    }

    /// All messages that were sent once more.
    pub fn sent_again(&self) -> u64 {
        self.kinds.values().map(|book| book.sent_again).sum()
    }

    /// Why calls were hurt, as SIPp says it.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// For a file.
    pub fn json(&self) -> Value {
        let of =
            |book: &Book| json!({ "calls": book.calls, "hurt": book.hurt, "sent_again": book.sent_again });
        self.kinds.iter().map(|(kind, book)| (kind.name().to_owned(), of(book))).collect()
    }

    /// From a file, without the complaints.
    pub fn read(value: &Value) -> Option<Books> {
        let book = |kind: Kind| {
            let value = &value[kind.name()];
            let number = |name: &str| value[name].as_u64();
            let book =
                Book { calls: number("calls")?, hurt: number("hurt")?, sent_again: number("sent_again")? };
            Some((kind, book))
        };
        let kinds = Kind::ALL.into_iter().map(book).collect::<Option<_>>()?;
        Some(Books { kinds, complaints: Vec::new() })
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} calls hurt", self.hurt(), self.calls())?;
        for (kind, book) in self.kinds.iter().filter(|(_, book)| book.hurt > 0) {
            write!(f, ", {} {} of {}", kind.name(), book.hurt, book.calls)?;
        }
        write!(f, "; {} messages sent again", self.sent_again())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_hurt_that_one_of_its_parties_has_not_seen_to_its_end() {
        let counts = |created, succeeded| Counts { created, succeeded, sent_again: 1, failures: Vec::new() };

        let good = Book::of(&counts(9, 9), &[counts(9, 9), counts(9, 9)]);
        let missing = Book::of(&counts(9, 9), &[counts(9, 9), counts(8, 8)]);
        let surplus = Book::of(&counts(9, 9), &[counts(10, 9)]);
        let failed = Book::of(&counts(9, 7), &[counts(9, 8)]);

        assert_eq!(good, Book { calls: 9, hurt: 0, sent_again: 3 });
        assert_eq!([missing.hurt, surplus.hurt, failed.hurt], [1, 1, 2]);
    }

    #[test]
    fn books_that_are_written_can_be_read() {
        let mut books = Books::default();
        for (kind, hurt) in Kind::ALL.into_iter().zip(0..) {
            books.add(kind, Book { calls: 10, hurt, sent_again: 2 });
        }

        assert_eq!(Books::read(&books.json()), Some(books.clone()));
        assert_eq!((books.calls(), books.hurt(), books.sent_again()), (40, 6, 8));
        assert_eq!(Books::read(&json!({ "ringing": 1 })), None);
    }
}
