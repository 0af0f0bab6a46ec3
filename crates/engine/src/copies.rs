//! Entries on their way between two nodes: what the other node is told of a partition's changes, and what a partition
//! does with what the other node tells.
//!
//! Whoever runs a partition calls [`post`] behind each step of it, before its outputs go on, and lets those wait that it
//! names. On a standby [`read`] says whose a capsule is, [`apply`] and [`remove`] let that partition have it, and on the
//! active node [`fetch`] says what an entry is like by now. Nothing here sends or keeps anything.

use std::time::Duration;

use clock::Now;
use replica::{Capsule, Fetched, Kind, Known, Place, Posted, Ticket, Wanted};
use routing::account::{BINDING_FORMAT, BindingKey, Change, Output, Unreadable};
use routing::{AccountPartition as Partition, BindingId, StoredBinding};
use sip::Aor;

use crate::holding::{Holding, Passage};
use crate::peer::OwnEntry;

/// A binding. The numbers of kinds are part of what two nodes say to each other: none is ever given another meaning.
pub const BINDING: Kind = Kind(1);
/// The counts that were used with a nonce.
pub const NONCE_COUNT: Kind = Kind(2);
/// A source that is held.
pub const BAN: Kind = Kind(3);

/// What this version understands of another node's.
pub const KNOWN: [Known; 1] = [Known { kind: BINDING, format_max: BINDING_FORMAT }];

/// A place that no entry has: the entry has ended already, and its removal stands behind it.
const NOWHERE: u64 = u64::MAX;

/// Who tells the other node, in the order in which it is called.
pub trait Replica {
    /// An entry is new or changed.
    fn put(&mut self, capsule: Capsule, place: Place) -> Posted;

    /// An entry is gone.
    fn remove(&mut self, kind: Kind, key: &[u8]) -> Posted;

    /// All that was ever put or removed.
    fn everything(&mut self) -> Posted;
}

/// Tells the other node what a step of a partition has changed, and takes out of the step's outputs the answers that
/// wait for it: `waits` are the tickets whose ends [`Holding::handle_settled`] is to be told.
///
/// To be called under the partition's lock, so that the changes of one entry keep their order.
pub fn post(
    now: Now,
    partition: &Partition,
    holding: &mut Holding,
    replica: &mut impl Replica,
    outputs: &mut Vec<Output>,
    waits: &mut Vec<(Ticket, Posted)>,
) {
    let is_told = |output: &Output| match output {
        Output::Save(_) => true,
        Output::Answer { answer, .. } => Holding::holds(answer),
        Output::LoadAccount(_) | Output::Send { .. } | Output::Report(_) => false,
    };
    if !outputs.iter().any(is_told) {
        return;
    }
    for output in std::mem::take(outputs) {
        match output {
            Output::Save(change) => {
                holding.handle_posted(post_change(now, partition, holding.partition(), replica, &change));
                outputs.push(Output::Save(change));
            }
            Output::Answer { asker, answer } => {
                match holding.handle_answer(asker, answer, || replica.everything()) {
                    Passage::Passes(answer) => outputs.push(Output::Answer { asker, answer }),
                    Passage::Waits(ticket, posted) => waits.push((ticket, posted)),
                }
            }
            output => outputs.push(output),
        }
    }
    holding.handle_end_of_step();
}

fn post_change(
    now: Now,
    partition: &Partition,
    number: u16,
    replica: &mut impl Replica,
    change: &Change,
) -> Posted {
    match change {
        Change::Put(stored) => {
            let key = BindingKey::of(stored);
            let id = partition.number_of(&key).map_or(NOWHERE, |id| id.0);
            let place = Place { owner: number, number: id };
            replica.put(binding_capsule(now, &key, stored), place)
        }
        Change::Remove(key) => replica.remove(BINDING, &key.to_bytes()),
    }
}

/// What a capsule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// [`BINDING`].
    Binding(Box<StoredBinding>),
}

impl Entry {
    /// The address of record whose partition is the owner.
    pub fn aor(&self) -> &Aor {
        match self {
            Self::Binding(stored) => &stored.aor,
        }
    }
}

/// Reads a capsule of a kind in [`KNOWN`].
pub fn read(now: Now, capsule: Capsule) -> Result<Entry, Unreadable> {
    match capsule.kind {
        BINDING => {
            let stored = StoredBinding::from_capsule(now, capsule.left, capsule.bytes)?;
            // It would be removed by another key than it is found by.
            let is_of_key = BindingKey::of(&stored).to_bytes() == capsule.key;
            is_of_key.then(|| Entry::Binding(Box::new(stored))).ok_or(Unreadable::Malformed)
        }
        _ => Err(Unreadable::Malformed),
    }
}

/// On a standby: the partition with this number takes an entry. Gives its place; `None` if there is no room for it, and then
/// an earlier version of it stays. `out` is told what is to be written down.
pub fn apply(
    now: Now,
    partition: &mut Partition,
    number: u16,
    entry: Entry,
    out: &mut Vec<Output>,
) -> Option<Place> {
    match entry {
        Entry::Binding(stored) => {
            let id = partition.restore(now, StoredBinding::clone(&stored))?;
            out.push(Output::Save(Change::Put(stored)));
            Some(Place { owner: number, number: id.0 })
        }
    }
}

/// On a standby: the partition that `place` names lets an entry go.
pub fn remove(partition: &mut Partition, kind: Kind, place: Place, out: &mut Vec<Output>) {
    if kind == BINDING {
        partition.withdraw(BindingId(place.number), out);
    }
}

/// On the active node: an entry of the partition that `wanted` names, as it is.
pub fn fetch(now: Now, partition: &Partition, wanted: Wanted) -> Fetched {
    let capsule = match wanted.name.kind {
        BINDING => partition
            .stored(now, BindingId(wanted.place.number))
            .map(|stored| binding_capsule(now, &BindingKey::of(&stored), &stored)),
        _ => None,
    };
    Fetched { wanted, capsule }
}

/// What a node begins with of a binding that it has from its own disk.
pub fn of_own_disk(number: u16, key: &BindingKey, id: BindingId) -> OwnEntry {
    OwnEntry { kind: BINDING, key: key.to_bytes(), place: Place { owner: number, number: id.0 } }
}

fn binding_capsule(now: Now, key: &BindingKey, stored: &StoredBinding) -> Capsule {
    let left: Duration = stored.left(now.wall);
    Capsule { kind: BINDING, format: BINDING_FORMAT, key: key.to_bytes(), bytes: stored.to_capsule(), left }
}
