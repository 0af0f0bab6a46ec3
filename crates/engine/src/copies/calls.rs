//! Calls on their way between two nodes, as [`copies`](super) has it for bindings.

use std::time::Duration;

use bytes::Bytes;
use clock::Now;
use replica::{Capsule, Fetched, Kind, Place, Posted, Ticket, Wanted};
use routing::account::Unreadable;
use transaction::ServerKey;

use super::{CALL, DIALOG, MEDIA, Replica, dialogs, media};
use crate::call_capsule::{CallCapsule, FORMAT};
use crate::call_holding::{CallHolding, CallPassage};
use crate::place::owner_of_shard;
use crate::shard::{CallBytes, Output, Shard, number_of};

/// A call ends by what happens to it; nobody looks at this.
const LEFT: Duration = Duration::from_secs(24 * 3_600);

/// A call that another node tells of. It can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEntry {
    key: ServerKey,
    /// It says whose shard the call is: [`crate::shard_of_call`].
    pub call_id: Bytes,
    bytes: Bytes,
}

/// Tells the other node which calls a step of a shard has changed, and takes out of the step's outputs the messages that
/// wait for it: `waits` are the tickets whose ends [`CallHolding::handle_settled`] is to be told.
///
/// To be called under the shard's lock, so that the changes of one call keep their order.
pub fn post_calls(
    now: Now,
    shard: &mut Shard,
    holding: &mut CallHolding,
    replica: &mut impl Replica,
    outputs: &mut Vec<Output>,
    waits: &mut Vec<(Ticket, Posted)>,
) {
    // Before the calls: who waits for a call's capsule waits for its media's.
    media::post(now, shard, holding.shard(), replica);
    dialogs::post(now, shard, holding.shard(), replica);
    let mut changed = std::mem::take(&mut holding.changed);
    shard.take_changed_calls(&mut changed);
    for key in changed.drain(..) {
        if let Some(call) = shard.tell(now, key) {
            let place = Place { owner: owner_of_shard(holding.shard()), number: number_of(key) };
            holding.handle_posted(key, replica.put(capsule(key, call), place));
        } else if shard.untell(key) {
            holding.handle_posted(key, replica.remove(CALL, &key.as_u128().to_be_bytes()));
        }
    }
    holding.changed = changed;
    let mut passed = Vec::new();
    outputs.retain_mut(|output| {
        let Output::SendWhenHeld { call, to, message, of, waits: until, settled } = output else {
            return true;
        };
        let (message, settled) = ((*to, std::mem::take(message), *of), *settled);
        match holding.handle_message(*call, message, settled, *until, || replica.everything()) {
            CallPassage::Passes((to, message, of)) => {
                passed.extend(settled.map(Output::Settled));
                *output = Output::Send { to, message, of };
                true
            }
            CallPassage::Behind => false,
            CallPassage::Waits(ticket, posted) => {
                waits.push((ticket, posted));
                false
            }
        }
    });
    outputs.append(&mut passed);
    holding.handle_end_of_step();
}

/// Reads a capsule of the kind [`CALL`].
pub(super) fn read(key: &[u8], bytes: Bytes) -> Result<CallEntry, Unreadable> {
    let key = <[u8; 16]>::try_from(key).map_err(|_| Unreadable::Malformed)?;
    let call_id = CallCapsule::from_bytes(bytes.clone())?.call_id;
    Ok(CallEntry { key: ServerKey::from_u128(u128::from_be_bytes(key)), call_id, bytes })
}

/// On a standby: the shard with this number takes a call. Gives its place; `None` if there is no room for it.
pub fn apply_call(now: Now, shard: &mut Shard, number: u16, call: CallEntry) -> Option<Place> {
    let number_of_call = shard.inherit(now, call.key, &call.call_id, call.bytes)?;
    Some(Place { owner: owner_of_shard(number), number: number_of_call })
}

/// On a standby: the shard that `place` names lets a call go, or what is known of one that was answered.
pub fn remove_call(shard: &mut Shard, kind: Kind, place: Place) {
    match kind {
        CALL => shard.disinherit(place.number),
        DIALOG => dialogs::remove(shard, place),
        MEDIA => media::remove(shard, place),
        _ => {}
    }
}

/// On the active node: a call of the shard that `wanted` names, as it is.
pub fn fetch_call(now: Now, shard: &mut Shard, wanted: Wanted) -> Fetched {
    if wanted.name.kind == DIALOG {
        return dialogs::fetch(now, shard, wanted);
    }
    if wanted.name.kind == MEDIA {
        return media::fetch(now, shard, wanted);
    }
    let call = shard.fetch(now, wanted.place.number);
    Fetched { wanted, capsule: call.map(|(key, call)| capsule(key, call)) }
}

fn capsule(key: ServerKey, call: CallBytes) -> Capsule {
    let key = Bytes::copy_from_slice(&key.as_u128().to_be_bytes());
    Capsule { kind: CALL, format: FORMAT, key, bytes: call.bytes, left: LEFT }
}
