//! Deadlines in the order of their time.
//!
//! A machine keeps the true deadline with its own state and puts a reminder in here; it never takes
//! a reminder out. When a reminder is due the machine compares it with the state: one that no
//! longer fits is ignored. So moving a deadline is a push and cancelling one costs nothing.
//!
//! Invariant: reminders come out by time, and by the order of their arrival where times are equal,
//! so that the same inputs give the same outputs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Instant;

/// What is to be looked at, and when.
#[derive(Clone, Debug)]
pub struct Deadlines<K> {
    heap: BinaryHeap<Reverse<Reminder<K>>>,
    arrived: u64,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), arrived: 0 }
    }
}

impl<K> Deadlines<K> {
    /// Remembers to look at `key` at `at`.
    pub fn push(&mut self, at: Instant, key: K) {
        self.arrived += 1;
        self.heap.push(Reverse(Reminder { at, arrived: self.arrived, key }));
    }

    /// When the next reminder is due.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(reminder)| reminder.at)
    }

    /// Takes the next reminder that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(reminder)| (reminder.at, reminder.key))
    }

    /// How many reminders are kept, stale ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[derive(Clone, Debug)]
struct Reminder<K> {
    at: Instant,
    arrived: u64,
    key: K,
}

impl<K> Reminder<K> {
    fn order(&self) -> (Instant, u64) {
        (self.at, self.arrived)
    }
}

impl<K> PartialEq for Reminder<K> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<K> Eq for Reminder<K> {}

impl<K> PartialOrd for Reminder<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Reminder<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reminders_come_by_time_and_then_by_arrival() {
        let mut deadlines = Deadlines::default();
        deadlines.push(at(2), "late");
        deadlines.push(at(1), "first");
        deadlines.push(at(1), "second");

        let due: Vec<_> = std::iter::from_fn(|| deadlines.pop_due(at(2))).map(|(_, key)| key).collect();

        assert_eq!(due, ["first", "second", "late"]);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut deadlines = Deadlines::default();
        deadlines.push(at(2), ());

        assert_eq!(deadlines.pop_due(at(1)), None);
        assert_eq!(deadlines.next(), Some(at(2)));
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}
