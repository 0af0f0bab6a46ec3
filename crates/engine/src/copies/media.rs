//! Media sessions on their way between two nodes, as [`copies`](super) has it for bindings.
//!
//! What names ports that nobody was told of waits for the call that it is of, and a session is told before its call, so that
//! the other node knows the ports before anybody sends to them.

use std::time::Duration;

use bytes::Bytes;
use clock::Now;
use media::offer_answer::FORMAT;
use replica::{Capsule, Fetched, Place, Wanted};
use routing::SessionName;
use routing::account::Unreadable;

use super::{MEDIA, Replica};
use crate::media_control::StoredSession;
use crate::place::owner_of_shard;
use crate::shard::Shard;

/// The version of the encoding.
pub(super) const MEDIA_FORMAT: u32 = FORMAT;

/// A session ends by what happens to it; nobody looks at this.
const LEFT: Duration = Duration::from_secs(24 * 3_600);

/// A media session that another node tells of. It can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaEntry {
    name: SessionName,
    session: StoredSession,
}

impl Eq for MediaEntry {}

impl MediaEntry {
    /// It says whose shard the session is: [`crate::shard_of_call`].
    pub fn call_id(&self) -> &[u8] {
        &self.session.call_id
    }
}

/// Tells the other node which sessions a step of a shard has changed.
pub(super) fn post(now: Now, shard: &mut Shard, number: u16, replica: &mut impl Replica) {
    for name in shard.take_changed_sessions() {
        let _posted = match shard.stored_session(now, name) {
            Some(session) => replica.put(capsule(name, &session), place_of(number, name)),
            None => replica.remove(MEDIA, &name.as_u64().to_be_bytes()),
        };
    }
}

/// Reads a capsule of the kind [`MEDIA`].
pub(super) fn read(key: &[u8], bytes: Bytes) -> Result<MediaEntry, Unreadable> {
    let key = <[u8; 8]>::try_from(key).map_err(|_| Unreadable::Malformed)?;
    let name = SessionName::from_u64(u64::from_be_bytes(key));
    Ok(MediaEntry { name, session: StoredSession::from_bytes(bytes)? })
}

/// On a standby: the shard with this number takes a session. Gives its place; `None` if there is no room for it.
/// [`Shard::take_relay_orders`] says what its ports want.
pub fn apply_media(now: Now, shard: &mut Shard, number: u16, entry: &MediaEntry) -> Option<Place> {
    let is_taken = shard.inherit_session(now, entry.name, &entry.session);
    is_taken.then(|| place_of(number, entry.name))
}

/// On a standby: the shard that `place` names lets a session go.
pub(super) fn remove(shard: &mut Shard, place: Place) {
    shard.disinherit_session(SessionName::from_u64(place.number));
}

/// On the active node: a session of the shard that `wanted` names, as it is.
pub(super) fn fetch(now: Now, shard: &mut Shard, wanted: Wanted) -> Fetched {
    let name = SessionName::from_u64(wanted.place.number);
    let capsule = shard.stored_session(now, name).map(|session| capsule(name, &session));
    Fetched { wanted, capsule }
}

// A name is a keyed hash, so that nobody can aim at another's number.
fn place_of(shard: u16, name: SessionName) -> Place {
    Place { owner: owner_of_shard(shard), number: name.as_u64() }
}

fn capsule(name: SessionName, session: &StoredSession) -> Capsule {
    Capsule {
        kind: MEDIA,
        format: MEDIA_FORMAT,
        key: Bytes::copy_from_slice(&name.as_u64().to_be_bytes()),
        bytes: session.to_bytes(),
        left: LEFT,
    }
}
