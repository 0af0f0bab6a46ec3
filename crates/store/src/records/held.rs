//! The records that two nodes owe to the database together.
//!
//! What the active node owes it tells the other one, and takes it back when it is in the database. The other one keeps it in memory
//! and writes nothing, until it becomes active: then all of it goes to files of its own, and it owes it as if the calls
//! had ended there. By its id a record that both write is there once.
//!
//! The invariants of the replica's owners hold: what was told stands here under its number, in both roles.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use engine::Peer;
use engine::copies::{place_of_record, record_capsule, record_key};

use super::Line;

/// Records that a node tells the other one. With a kilobyte each they take 130 MB, and are those of an hour at 36 calls each
/// second. What comes beyond that is owed by one node alone.
const TOLD_MAX: usize = 131_072;
/// Records that a node keeps: those of the other one, and its own of when it was active itself.
const KEPT_MAX: usize = 2 * TOLD_MAX;

/// The records.
#[derive(Default)]
pub struct Held {
    peer: OnceLock<Arc<dyn Peer>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_active: bool,
    records: BTreeMap<u64, Record>,
    /// Those that found no room.
    beyond: u64,
}

#[derive(Debug)]
struct Record {
    id: u128,
    line: Bytes,
    /// Whether it is in the files of this node.
    is_own: bool,
    /// Whether the other node knows of it, as far as is known.
    is_told: bool,
    /// Whether it is in the database, and only the active node may say so.
    is_written: bool,
}

impl Held {
    /// From here on the other node is told.
    pub fn attach(&self, peer: Arc<dyn Peer>) {
        // A node has one peer: a second one is not told.
        let _ = self.peer.set(peer);
    }

    /// Whether there is another node.
    pub fn is_attached(&self) -> bool {
        self.peer.get().is_some()
    }

    /// How many records found no room since the start.
    pub fn beyond(&self) -> u64 {
        self.state().beyond
    }

    /// On the active node: a record is owed, or has another line now.
    pub fn owe(&self, id: u128, line: Bytes) {
        let mut state = self.state();
        if !state.has_room(id, TOLD_MAX) {
            state.beyond += 1;
            return;
        }
        let is_told = self.tell(&state, id, &line);
        state.records.insert(number(id), Record { id, line, is_own: true, is_told, is_written: false });
    }

    /// Records stand in the files of before the start, and not in the database.
    pub fn adopt(&self, lines: &[&Line]) {
        if !self.is_attached() {
            return;
        }
        for line in lines {
            let Some(id) = id_of(line) else { continue };
            // One that ended since, or that the other node tells of too, is newer.
            if !self.state().records.contains_key(&number(id)) {
                let mut bytes = Vec::new();
                line.write(&mut bytes);
                self.owe(id, Bytes::from(bytes));
            }
        }
    }

    /// Records are in the database.
    pub fn written(&self, lines: &[&Line]) {
        let state = &mut *self.state();
        for id in lines.iter().filter_map(|line| id_of(line)) {
            let Some(record) = state.records.get_mut(&number(id)) else { continue };
            if record.is_told && !state.is_active {
                // The active node has it too, and says when it is gone.
                record.is_written = true;
            } else {
                state.records.remove(&number(id));
                if state.is_active {
                    self.take_back(id);
                }
            }
        }
    }

    /// On a standby: the active node owes a record. Whether there was room.
    pub fn hold(&self, id: u128, line: Bytes) -> bool {
        let mut state = self.state();
        if !state.has_room(id, KEPT_MAX) {
            state.beyond += 1;
            return false;
        }
        let before = state.records.get(&number(id));
        let (is_own, is_written) = before.map_or((false, false), |it| (it.is_own, it.is_written));
        state.records.insert(number(id), Record { id, line, is_own, is_told: true, is_written });
        true
    }

    /// On a standby: the active node owes it no longer.
    pub fn let_go(&self, number: u64) {
        self.state().records.remove(&number);
    }

    /// A record, for the other node that lacks it.
    pub fn fetch(&self, number: u64) -> Option<(u128, Bytes)> {
        self.state().records.get(&number).map(|record| (record.id, record.line.clone()))
    }

    /// This node has become active. Gives the lines that it is to write to its own files.
    pub fn became_active(&self) -> Vec<Bytes> {
        let mut state = self.state();
        state.is_active = true;
        let mut lines = Vec::new();
        let written: Vec<u128> =
            state.records.values().filter(|record| record.is_written).map(|record| record.id).collect();
        for id in written {
            state.records.remove(&number(id));
            self.take_back(id);
        }
        let untold: Vec<(u128, Bytes)> = state
            .records
            .values_mut()
            .filter_map(|record| {
                if !std::mem::replace(&mut record.is_own, true) {
                    lines.push(record.line.clone());
                }
                let was_told = std::mem::replace(&mut record.is_told, true);
                (!was_told).then(|| (record.id, record.line.clone()))
            })
            .collect();
        for (id, line) in untold {
            self.tell(&state, id, &line);
        }
        lines
    }

    /// Another node may be active.
    pub fn stood_by(&self) {
        self.state().is_active = false;
    }

    /// Under the lock, so that the changes of one record keep their order. Whether it was told.
    fn tell(&self, state: &State, id: u128, line: &Bytes) -> bool {
        let Some(peer) = self.peer.get().filter(|_| state.is_active) else { return false };
        let _posted = peer.put(record_capsule(id, line.clone()), place_of_record(id));
        true
    }

    fn take_back(&self, id: u128) {
        if let Some(peer) = self.peer.get() {
            let _posted = peer.remove(engine::copies::RECORD, &record_key(id));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, id: u128, max: usize) -> bool {
        self.records.len() < max || self.records.contains_key(&number(id))
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Held({})", self.state().records.len())
    }
}

fn number(id: u128) -> u64 {
    place_of_record(id).number
}

fn id_of(line: &Line) -> Option<u128> {
    u128::from_str_radix(&line.id, 16).ok()
}

#[cfg(test)]
mod tests;
