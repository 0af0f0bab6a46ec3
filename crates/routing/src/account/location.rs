//! The bindings of a partition, by address of record, by number, by connection and by time.
//!
//! Invariants: a number is given once and leads to its binding without a search; a row without
//! bindings is not kept; each binding has exactly one reminder, never later than what it wants; a
//! binding stands in the index of connections exactly while it has a connection.

use std::collections::BTreeSet;

use clock::Instant;
use keys::Key;
use sip::Aor;
use transport::{ConnectionId, Listeners, LocalAddr, Transport};

use super::aor_table::AorTable;
use super::binding::{Binding, Registration};
use super::keepalive::Score;
use super::places::{PlaceId, Places};
use crate::BindingId;

/// Bindings of one partition: at 600 bytes each a bit more than a gigabyte.
pub(super) const BINDINGS_MAX: usize = 1 << 21;

/// The low bits of a number count up; the high ones say which row. 2^24 rows are more than
/// [`BINDINGS_MAX`], and 2^40 registrations take a year at 30 thousand a second.
const SERIAL_BITS: u32 = 40;

/// All bindings of a partition.
#[derive(Debug)]
pub(super) struct Location {
    rows: AorTable<Vec<Binding>>,
    places: Places,
    connections: BTreeSet<(ConnectionId, BindingId)>,
    reminders: BTreeSet<(Instant, BindingId)>,
    count: usize,
    serial: u64,
}

impl Location {
    /// Knows nobody.
    pub(super) fn new(key: &Key) -> Self {
        Self {
            rows: AorTable::new(key),
            places: Places::default(),
            connections: BTreeSet::new(),
            reminders: BTreeSet::new(),
            count: 0,
            serial: 0,
        }
    }

    /// How many bindings there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many more there may be.
    pub(super) fn room(&self) -> usize {
        BINDINGS_MAX - self.count
    }

    /// The listeners that bindings name.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// The place of a listener; `None` if there are too many.
    pub(super) fn place(&mut self, named: (Transport, LocalAddr), listeners: &Listeners) -> Option<PlaceId> {
        self.places.place(named, listeners)
    }

    /// Takes another set of listeners, and has every binding's keepalives judged anew.
    pub(super) fn reload(&mut self, listeners: &Listeners) {
        self.places.reload(listeners);
        for id in self.ids() {
            self.change(id, |binding| {
                binding.score.refresh();
                binding.score.next_at = Instant::START;
            });
        }
    }

    /// The bindings of an address of record in the order of their registration, ended ones included.
    pub(super) fn of(&self, aor: &Aor) -> &[Binding] {
        self.rows.find(aor).and_then(|row| self.rows.at(row)).map_or(&[], |(_, bindings)| bindings)
    }

    /// The binding with this number.
    pub(super) fn find(&self, id: BindingId) -> Option<(&Aor, &Binding)> {
        let (aor, bindings) = self.rows.at(row_of(id))?;
        bindings.iter().find(|binding| binding.id == id).map(|binding| (aor, binding))
    }

    /// The bindings of a row; `None` if it is empty.
    pub(super) fn row(&self, row: u32) -> Option<(&Aor, &[Binding])> {
        self.rows.at(row).map(|(aor, bindings)| (aor, bindings.as_slice()))
    }

    /// One more than the highest row number that was given so far.
    pub(super) fn rows_end(&self) -> u32 {
        self.rows.rows_end()
    }

    /// Every address of record that has bindings, in the order of the table's rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Aor, &[Binding])> {
        self.rows.iter().map(|(aor, bindings)| (aor, bindings.as_slice()))
    }

    /// Every connection that a binding came in over, once, in order.
    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        let mut connections: Vec<ConnectionId> = self.connections.iter().map(|&(id, _)| id).collect();
        connections.dedup();
        connections
    }

    /// The bindings that came in over a connection.
    pub(super) fn on_connection(&self, id: ConnectionId) -> Vec<BindingId> {
        let range = (id, BindingId(0))..=(id, BindingId(u64::MAX));
        self.connections.range(range).map(|&(_, binding)| binding).collect()
    }

    /// Adds a binding; `None` if there is no room.
    pub(super) fn add(&mut self, aor: &Aor, registration: Registration, score: Score) -> Option<BindingId> {
        if self.room() == 0 {
            return None;
        }
        let row = match self.rows.find(aor) {
            Some(row) => row,
            None => self.rows.insert(aor.clone(), Vec::new()),
        };
        self.serial = (self.serial + 1) & ((1 << SERIAL_BITS) - 1);
        let id = BindingId(u64::from(row) << SERIAL_BITS | self.serial);
        if let Some(connection) = &registration.connection {
            self.connections.insert((**connection, id));
        }
        let mut binding = Binding { id, registration, score, reminder_at: Instant::FAR };
        binding.reminder_at = binding.wants_attention_at();
        self.reminders.insert((binding.reminder_at, id));
        let (_, bindings) = self.rows.at_mut(row)?;
        // Most have a single one, and Vec would begin with room for four.
        bindings.reserve_exact(1);
        bindings.push(binding);
        self.count += 1;
        Some(id)
    }

    /// Changes a binding, and looks after what depends on it.
    pub(super) fn change<T>(&mut self, id: BindingId, change: impl FnOnce(&mut Binding) -> T) -> Option<T> {
        let (_, bindings) = self.rows.at_mut(row_of(id))?;
        let binding = bindings.iter_mut().find(|binding| binding.id == id)?;
        let before = binding.registration.connection.as_deref().copied();
        let changed = change(binding);
        let after = binding.registration.connection.as_deref().copied();
        if before != after {
            before.map(|connection| self.connections.remove(&(connection, id)));
            after.map(|connection| self.connections.insert((connection, id)));
        }
        self.remind(id);
        Some(changed)
    }

    /// Ends a binding.
    pub(super) fn remove(&mut self, id: BindingId) -> Option<(Aor, Binding)> {
        let row = row_of(id);
        let (aor, bindings) = self.rows.at_mut(row)?;
        let place = bindings.iter().position(|binding| binding.id == id)?;
        let aor = aor.clone();
        let binding = bindings.remove(place);
        if bindings.is_empty() {
            self.rows.remove(row);
        }
        self.reminders.remove(&(binding.reminder_at, id));
        if let Some(connection) = &binding.registration.connection {
            self.connections.remove(&(**connection, id));
        }
        self.count -= 1;
        Some((aor, binding))
    }

    /// When the next binding wants to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        self.reminders.first().map(|&(at, _)| at)
    }

    /// The next binding to be looked at. Unless it is changed or removed it is named again.
    pub(super) fn due(&mut self, now: Instant) -> Option<BindingId> {
        while let Some(&(at, id)) = self.reminders.first() {
            if at > now {
                return None;
            }
            let wants_at = self.find(id).map_or(Instant::FAR, |(_, binding)| binding.wants_attention_at());
            if wants_at <= now {
                return Some(id);
            }
            self.move_reminder(id, wants_at);
        }
        None
    }

    /// A reminder is moved only to come earlier: one that comes too early costs nothing but a look.
    fn remind(&mut self, id: BindingId) {
        let Some((_, binding)) = self.find(id) else { return };
        let wants_at = binding.wants_attention_at();
        if wants_at < binding.reminder_at {
            self.move_reminder(id, wants_at);
        }
    }

    fn move_reminder(&mut self, id: BindingId, at: Instant) {
        let Some((_, bindings)) = self.rows.at_mut(row_of(id)) else { return };
        let Some(binding) = bindings.iter_mut().find(|binding| binding.id == id) else { return };
        self.reminders.remove(&(binding.reminder_at, id));
        self.reminders.insert((at, id));
        binding.reminder_at = at;
    }

    fn ids(&self) -> Vec<BindingId> {
        self.rows.iter().flat_map(|(_, bindings)| bindings).map(|binding| binding.id).collect()
    }
}

#[cfg(test)]
impl Location {
    /// Stops the test if an invariant is broken.
    pub(super) fn check(&self) {
        let all = || self.rows.iter().flat_map(|(_, bindings)| bindings);
        assert_eq!(all().count(), self.count);
        assert!(self.rows.iter().all(|(_, bindings)| !bindings.is_empty()));
        let reminders: BTreeSet<_> = all().map(|binding| (binding.reminder_at, binding.id)).collect();
        assert_eq!(reminders, self.reminders);
        assert!(all().all(|binding| binding.reminder_at <= binding.wants_attention_at()));
        let of = |binding: &Binding| Some((**binding.registration.connection.as_ref()?, binding.id));
        assert_eq!(all().filter_map(of).collect::<BTreeSet<_>>(), self.connections);
        assert!(all().all(|binding| self.find(binding.id).is_some_and(|(_, found)| found.id == binding.id)));
    }
}

fn row_of(id: BindingId) -> u32 {
    u32::try_from(id.0 >> SERIAL_BITS).expect("64 - 40 bits fit")
}
