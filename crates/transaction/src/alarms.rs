//! One alarm for each slot of a table, in the order of time.
//!
//! A heap with four children to a node, and for each slot the place of its alarm in the heap: so an
//! alarm is moved or taken away where it stands, and no dead ones are left behind. Nearly all alarms
//! of transactions are moved or taken away before they ring.
//!
//! Invariant: alarms ring by time, and by the order in which they were set where times are equal.

use clock::Instant;

const CHILDREN: usize = 4;
const NOWHERE: u32 = u32::MAX;

/// The alarms of one table.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    heap: Vec<Alarm>,
    /// By slot: the place in `heap`, or `NOWHERE`.
    places: Vec<u32>,
    set: u64,
}

#[derive(Clone, Copy, Debug)]
struct Alarm {
    at: Instant,
    order: u64,
    slot: u32,
}

impl Alarm {
    fn before(&self, other: &Self) -> bool {
        (self.at, self.order) < (other.at, other.order)
    }
}

impl Alarms {
    /// Sets, moves or (with `None`) takes away the alarm of `slot`.
    pub fn set(&mut self, slot: u32, at: Option<Instant>) {
        let index = slot as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, NOWHERE);
        }
        let place = self.places[index];
        match (place == NOWHERE, at) {
            (true, None) => {}
            (true, Some(at)) => {
                let alarm = self.alarm(slot, at);
                self.heap.push(alarm);
                self.rise(self.heap.len() - 1);
            }
            (false, None) => self.remove(place as usize),
            // An alarm that stays keeps its turn.
            (false, Some(at)) if self.heap[place as usize].at == at => {}
            (false, Some(at)) => {
                let alarm = self.alarm(slot, at);
                self.heap[place as usize] = alarm;
                let place = self.rise(place as usize);
                self.sink(place);
            }
        }
    }

    /// When the next alarm rings.
    pub fn next(&self) -> Option<Instant> {
        self.heap.first().map(|alarm| alarm.at)
    }

    /// Takes the next alarm that is due, and says of which slot it was.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let first = self.heap.first()?;
        if first.at > now {
            return None;
        }
        let slot = first.slot;
        self.remove(0);
        Some(slot)
    }

    /// How many alarms are set.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    fn alarm(&mut self, slot: u32, at: Instant) -> Alarm {
        self.set += 1;
        Alarm { at, order: self.set, slot }
    }

    fn remove(&mut self, place: usize) {
        let removed = self.heap.swap_remove(place);
        self.places[removed.slot as usize] = NOWHERE;
        if place < self.heap.len() {
            let place = self.rise(place);
            self.sink(place);
        }
    }

    fn rise(&mut self, mut place: usize) -> usize {
        let alarm = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if !alarm.before(&self.heap[parent]) {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, alarm);
        place
    }

    fn sink(&mut self, mut place: usize) {
        let alarm = self.heap[place];
        loop {
            let first = place * CHILDREN + 1;
            let last = self.heap.len().min(first + CHILDREN);
            let Some(child) = (first..last)
                .reduce(|best, child| if self.heap[child].before(&self.heap[best]) { child } else { best })
            else {
                break;
            };
            if !self.heap[child].before(&alarm) {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, alarm);
    }

    fn put(&mut self, place: usize, alarm: Alarm) {
        self.heap[place] = alarm;
        // The heap is not longer than the table, whose slots are numbered by a `u32`.
        self.places[alarm.slot as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alarms_ring_by_time_and_then_by_the_order_of_setting() {
        let mut alarms = Alarms::default();
        alarms.set(0, Some(at(2)));
        alarms.set(3, Some(at(1)));
        alarms.set(1, Some(at(1)));

        assert_eq!(alarms.next(), Some(at(1)));
        assert_eq!(alarms.pop_due(at(0)), None);
        assert_eq!(drain(&mut alarms, at(2)), [3, 1, 0]);
    }

    #[test]
    fn a_moved_alarm_rings_only_once() {
        let mut alarms = Alarms::default();
        alarms.set(0, Some(at(1)));
        alarms.set(0, Some(at(3)));
        alarms.set(0, Some(at(2)));

        assert_eq!(alarms.len(), 1);
        assert_eq!(alarms.pop_due(at(1)), None);
        assert_eq!(drain(&mut alarms, at(9)), [0]);
    }

    #[test]
    fn an_alarm_that_was_taken_away_leaves_nothing_behind() {
        let mut alarms = Alarms::default();
        alarms.set(7, Some(at(1)));
        alarms.set(7, None);
        alarms.set(8, None);

        assert_eq!((alarms.len(), alarms.next()), (0, None));
    }

    proptest! {
        #[test]
        fn alarms_agree_with_a_sorted_map(steps in prop::collection::vec((0u32..40, prop::option::of(0u64..60)), 0..400)) {
            let mut alarms = Alarms::default();
            let mut model: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            for (order, (slot, time)) in steps.into_iter().enumerate() {
                alarms.set(slot, time.map(at));
                match time {
                    None => drop(model.remove(&slot)),
                    Some(time) if model.get(&slot).is_some_and(|&(old, _)| old == time) => {}
                    Some(time) => drop(model.insert(slot, (time, order as u64))),
                }
                prop_assert_eq!(alarms.len(), model.len());
                prop_assert_eq!(alarms.next(), model.values().min().map(|&(time, _)| at(time)));
            }
            let mut expected: Vec<_> = model.into_iter().map(|(slot, turn)| (turn, slot)).collect();
            expected.sort_unstable();
            let expected: Vec<u32> = expected.into_iter().map(|(_, slot)| slot).collect();
            prop_assert_eq!(drain(&mut alarms, at(60)), expected);
        }
    }

    fn drain(alarms: &mut Alarms, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| alarms.pop_due(now)).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }
}
