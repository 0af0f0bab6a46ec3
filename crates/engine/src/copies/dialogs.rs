//! Calls that were answered, on their way between two nodes, as [`copies`](super) has it for bindings.
//!
//! Nobody waits for what is told of them, but for the answer to a BYE: behind it stands that a call has ended, see
//! [`Shard::answers`](crate::Shard).

use bytes::Bytes;
use clock::Now;
use replica::{Capsule, Fetched, Place, Wanted};
use routing::account::Unreadable;
use routing::{CallName, StoredDialog};

use super::{DIALOG, Replica};
use crate::place::owner_of_shard;
use crate::shard::Shard;

/// A call that another node tells of.
#[derive(Clone, Debug, PartialEq)]
pub struct DialogEntry {
    name: CallName,
    dialog: StoredDialog,
}

impl Eq for DialogEntry {}

impl DialogEntry {
    /// It says whose shard the call is: [`crate::shard_of_call`].
    pub fn call_id(&self) -> &[u8] {
        self.dialog.call_id()
    }
}

/// Tells the other node which of these calls a step of a shard has changed.
pub(super) fn post(now: Now, shard: &mut Shard, number: u16, replica: &mut impl Replica) {
    for name in shard.take_changed_dialogs() {
        let _posted = match shard.stored_dialog(now, name) {
            Some(dialog) => replica.put(capsule(name, &dialog), place_of(number, name)),
            None => replica.remove(DIALOG, &name.as_u64().to_be_bytes()),
        };
    }
}

/// Reads a capsule of the kind [`DIALOG`].
pub(super) fn read(key: &[u8], bytes: Bytes) -> Result<DialogEntry, Unreadable> {
    let key = <[u8; 8]>::try_from(key).map_err(|_| Unreadable::Malformed)?;
    let name = CallName::from_u64(u64::from_be_bytes(key));
    Ok(DialogEntry { name, dialog: StoredDialog::from_bytes(bytes)? })
}

/// On a standby: the shard with this number takes a call. Gives its place; `None` if there is no room for it.
pub fn apply_dialog(now: Now, shard: &mut Shard, number: u16, entry: &DialogEntry) -> Option<Place> {
    let is_taken = shard.inherit_dialog(now, entry.name, &entry.dialog);
    is_taken.then(|| place_of(number, entry.name))
}

/// On a standby: the shard that `place` names lets a call go.
pub(super) fn remove(shard: &mut Shard, place: Place) {
    shard.disinherit_dialog(CallName::from_u64(place.number));
}

/// On the active node: a call of the shard that `wanted` names, as it is.
pub(super) fn fetch(now: Now, shard: &Shard, wanted: Wanted) -> Fetched {
    let name = CallName::from_u64(wanted.place.number);
    let capsule = shard.stored_dialog(now, name).map(|dialog| capsule(name, &dialog));
    Fetched { wanted, capsule }
}

// A name is a keyed hash, so that nobody can aim at another's number.
fn place_of(shard: u16, name: CallName) -> Place {
    Place { owner: owner_of_shard(shard), number: name.as_u64() }
}

fn capsule(name: CallName, dialog: &StoredDialog) -> Capsule {
    Capsule {
        kind: DIALOG,
        format: StoredDialog::FORMAT,
        key: Bytes::copy_from_slice(&name.as_u64().to_be_bytes()),
        bytes: dialog.to_bytes(),
        left: dialog.left(),
    }
}
