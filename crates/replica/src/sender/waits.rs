//! Who waits until the peer holds something, and for how long at most.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clock::Instant;

use crate::Ticket;

/// The longest wait: then the service goes on alone, and it is counted.
pub const WAIT_MAX: Duration = Duration::from_millis(5);

/// Waits at a time. At 5 ms each that is three million a second.
const WAITS_MAX: usize = 1 << 14;

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// By the last number waited for, and then by arrival; with the first one.
    by_sequence: BTreeMap<(u64, u64), (u64, Ticket)>,
    /// In order, because all wait for the same time. What has ended is left in and ignored.
    deadlines: VecDeque<(Instant, (u64, u64))>,
    arrived: u64,
}

impl Waits {
    /// `false` if there are too many.
    pub(super) fn add(&mut self, now: Instant, first: u64, last: u64, ticket: Ticket) -> bool {
        if self.by_sequence.len() >= WAITS_MAX {
            return false;
        }
        self.arrived += 1;
        let key = (last, self.arrived);
        self.by_sequence.insert(key, (first, ticket));
        self.deadlines.push_back((now + WAIT_MAX, key));
        true
    }

    /// Takes out everybody who waited for this number or an earlier one.
    pub(super) fn take_through(&mut self, through: u64) -> Vec<Ticket> {
        let mut taken = Vec::new();
        while let Some(first) = self.by_sequence.first_entry().filter(|first| first.key().0 <= through) {
            taken.push(first.remove().1);
        }
        self.forget_ended();
        taken
    }

    /// Takes out everybody who waited for one of these numbers, which are in order.
    pub(super) fn take_refused(&mut self, refused: &[u64]) -> Vec<Ticket> {
        let (Some(&least), false) = (refused.first(), self.by_sequence.is_empty()) else { return Vec::new() };
        let waits_for_one = |&(&(last, _), &(first, _)): &(&(u64, u64), &(u64, Ticket))| {
            let place = refused.partition_point(|&sequence| sequence < first);
            refused.get(place).is_some_and(|&sequence| sequence <= last)
        };
        let waits = self.by_sequence.range((least, 0)..);
        let keys: Vec<_> = waits.filter(waits_for_one).map(|(&key, _)| key).collect();
        keys.iter().filter_map(|key| self.by_sequence.remove(key)).map(|(_, ticket)| ticket).collect()
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> Vec<Ticket> {
        self.deadlines.clear();
        std::mem::take(&mut self.by_sequence).into_values().map(|(_, ticket)| ticket).collect()
    }

    /// Takes out the next one who has waited for too long.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Ticket> {
        self.forget_ended();
        let &(_, key) = self.deadlines.front().filter(|(at, _)| *at <= now)?;
        self.deadlines.pop_front();
        self.by_sequence.remove(&key).map(|(_, ticket)| ticket)
    }

    /// When the next one has.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.front().map(|&(at, _)| at)
    }

    fn forget_ended(&mut self) {
        while let Some((_, key)) = self.deadlines.front() {
            if self.by_sequence.contains_key(key) {
                return;
            }
            self.deadlines.pop_front();
        }
    }
}
