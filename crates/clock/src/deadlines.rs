//! Deadlines in the order of their time.
//!
//! A machine keeps the true deadline with its own state and puts a reminder in here; it never takes
//! a reminder out. When a reminder is due the machine compares it with the state: one that no
//! longer fits is ignored. So moving a deadline is a push and cancelling one costs nothing.
//!
//! Invariant: reminders come out by time, and by the order of their arrival where times are equal,
//! so that the same inputs give the same outputs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::Instant;

/// How many different delays are told apart without cost; a machine has about three.
const LANES: usize = 4;

/// What is to be looked at, and when.
///
/// Most reminders are for one of a few delays after the present, so those of one delay come in the order of their time.
/// Each such lane is a queue; only what fits behind none of the queues goes to a heap.
#[derive(Clone, Debug)]
pub struct Deadlines<K> {
    /// Each in order.
    lanes: [VecDeque<Reminder<K>>; LANES],
    heap: BinaryHeap<Reverse<Reminder<K>>>,
    arrived: u64,
}

/// Where the next reminder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Lane(usize),
    Heap,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { lanes: Default::default(), heap: BinaryHeap::new(), arrived: 0 }
    }
}

impl<K> Deadlines<K> {
    /// Remembers to look at `key` at `at`.
    pub fn push(&mut self, at: Instant, key: K) {
        self.arrived += 1;
        let reminder = Reminder { at, arrived: self.arrived, key };
        match self.lane_for(at) {
            Some(lane) => self.lanes[lane].push_back(reminder),
            None => self.heap.push(Reverse(reminder)),
        }
    }

    /// When the next reminder is due.
    pub fn next(&self) -> Option<Instant> {
        self.first().map(|(_, (at, _))| at)
    }

    /// Takes the next reminder that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        let (place, (at, _)) = self.first()?;
        if at > now {
            return None;
        }
        let reminder = match place {
            Place::Lane(lane) => self.lanes[lane].pop_front(),
            Place::Heap => self.heap.pop().map(|Reverse(reminder)| reminder),
        };
        reminder.map(|reminder| (reminder.at, reminder.key))
    }

    /// How many reminders are kept, stale ones included.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum::<usize>() + self.heap.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lane whose last reminder is the latest that is not later, else one that is empty.
    fn lane_for(&self, at: Instant) -> Option<usize> {
        let last = |lane: usize| self.lanes[lane].back().map(|reminder| reminder.at);
        (0..LANES).filter(|&lane| last(lane).is_none_or(|last| last <= at)).max_by_key(|&lane| last(lane))
    }

    fn first(&self) -> Option<(Place, (Instant, u64))> {
        let lanes = self.lanes.iter().enumerate();
        let fronts = lanes.filter_map(|(lane, queue)| Some((Place::Lane(lane), queue.front()?.order())));
        let top = self.heap.peek().map(|Reverse(reminder)| (Place::Heap, reminder.order()));
        fronts.chain(top).min_by_key(|&(_, order)| order)
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

    #[test]
    fn reminders_in_no_order_come_in_order_and_none_is_lost() {
        let mut deadlines = Deadlines::default();
        let seconds: Vec<u64> = (0..200).map(|number| number * 7_919 % 61).collect();
        for &second in &seconds {
            deadlines.push(at(second), second);
        }

        let due: Vec<_> =
            std::iter::from_fn(|| deadlines.pop_due(Instant::FAR)).map(|(_, key)| key).collect();

        let mut sorted = seconds;
        sorted.sort_unstable();
        assert_eq!(due, sorted);
        assert!(deadlines.is_empty());
    }

    #[test]
    fn a_few_delays_need_no_heap() {
        let mut deadlines = Deadlines::default();
        for second in 0..100 {
            for delay in [10, 32, 180] {
                deadlines.push(at(second + delay), ());
            }
        }

        assert_eq!((deadlines.len(), deadlines.heap.len()), (300, 0));
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}
