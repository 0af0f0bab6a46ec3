//! Records of calls on their way between two nodes, as [`copies`](super) has it for bindings: what this node owes to the
//! database the other one owes too, until it is there.
//!
//! A record is told before the end of its call, so whoever holds the one has the other.

use std::time::Duration;

use bytes::Bytes;
use replica::{Capsule, Fetched, Kind, Place, Wanted};

use super::{RECORD, RECORDS};

/// The version of the encoding: a line as it stands in the files.
pub(super) const RECORD_FORMAT: u32 = 1;

/// A record is owed until it is written; nobody looks at this.
const LEFT: Duration = Duration::from_secs(24 * 3_600);

/// A record for the other node.
pub fn record_capsule(id: u128, line: Bytes) -> Capsule {
    Capsule { kind: RECORD, format: RECORD_FORMAT, key: record_key(id), bytes: line, left: LEFT }
}

/// What a record is called.
pub fn record_key(id: u128) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// The record of a capsule, and its line; `None`: it has no name of one.
pub fn read_record(capsule: Capsule) -> Option<(u128, Bytes)> {
    let id = <[u8; 16]>::try_from(&capsule.key[..]).ok()?;
    Some((u128::from_be_bytes(id), capsule.bytes))
}

/// Where a record is.
// An id is a keyed hash, so that nobody can aim at another's number.
pub fn place_of_record(id: u128) -> Place {
    Place { owner: RECORDS, number: id as u64 }
}

/// The number of the record at this place; `None`: it is the place of something else.
pub fn record_at(place: Place) -> Option<u64> {
    (place.owner == RECORDS).then_some(place.number)
}

/// On the active node: a record, if it is still owed.
pub fn fetch_record(record: Option<(u128, Bytes)>, wanted: Wanted) -> Fetched {
    Fetched { wanted, capsule: record.map(|(id, line)| record_capsule(id, line)) }
}

/// Whether a capsule is one of these.
pub fn is_record(kind: Kind) -> bool {
    kind == RECORD
}
