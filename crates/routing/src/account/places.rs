//! The listeners that bindings were registered on, by what they are and not by their number.
//!
//! A binding outlives a restart and a reload, and so may name a listener that is absent today. Its
//! place stays, and gets the listener's number as soon as there is one again.

use std::collections::BTreeMap;

use transport::{ListenerId, Listeners, LocalAddr, Transport};

/// Far more listeners than a host has, counted over all reloads since the start.
const PLACES_MAX: usize = 4_096;

/// One row of [`Places`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlaceId(u16);

/// All listeners that a binding names.
#[derive(Debug, Default)]
pub(super) struct Places {
    rows: Vec<Place>,
    index: BTreeMap<(Transport, LocalAddr), PlaceId>,
}

#[derive(Debug)]
struct Place {
    named: (Transport, LocalAddr),
    listener: Option<ListenerId>,
}

impl Places {
    /// The place of a listener, present or not; `None` if there are too many.
    pub(super) fn place(&mut self, named: (Transport, LocalAddr), listeners: &Listeners) -> Option<PlaceId> {
        if let Some(&place) = self.index.get(&named) {
            return Some(place);
        }
        if self.rows.len() >= PLACES_MAX {
            return None;
        }
        let place = PlaceId(u16::try_from(self.rows.len()).expect("PLACES_MAX fits"));
        self.rows.push(Place { named, listener: number(named, listeners) });
        self.index.insert(named, place);
        Some(place)
    }

    /// Finds every listener's number anew.
    pub(super) fn reload(&mut self, listeners: &Listeners) {
        for row in &mut self.rows {
            row.listener = number(row.named, listeners);
        }
    }

    /// What the listener is.
    pub(super) fn named(&self, place: PlaceId) -> (Transport, LocalAddr) {
        self.rows[usize::from(place.0)].named
    }

    /// The listener's number, if it is there.
    pub(super) fn listener(&self, place: PlaceId) -> Option<ListenerId> {
        self.rows[usize::from(place.0)].listener
    }
}

fn number((transport, local): (Transport, LocalAddr), listeners: &Listeners) -> Option<ListenerId> {
    listeners.find(transport, local)
}
