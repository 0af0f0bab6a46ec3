//! Which shard and which partition.

use keys::Key;
use sip::Aor;

/// The call shard of a message, by its Call-ID; one without a Call-ID belongs to the first.
pub fn shard_of(key: &Key, message: &[u8], shards: u16) -> u16 {
    if shards <= 1 {
        return 0;
    }
    match sip::find_call_id(message) {
        Some(call_id) => shard_of_call(key, call_id, shards),
        None => 0,
    }
}

/// The call shard of a Call-ID: all calls of a slice are of one shard.
pub fn shard_of_call(key: &Key, call_id: &[u8], shards: u16) -> u16 {
    if shards <= 1 { 0 } else { slice_of_call(key, call_id) % shards }
}

/// Into how many slices calls are parted, on each node alike. Where their number is no multiple of that of shards, some shards
/// have one slice more than others.
const SLICES: u16 = 64;

/// The slice of a Call-ID.
fn slice_of_call(key: &Key, call_id: &[u8]) -> u16 {
    (key.mac(&[call_id]).short() % u64::from(SLICES)) as u16
}

/// Owners of entries from this number on are call shards, those below it are account partitions.
const SHARDS_FROM: u16 = 0x8000;

/// The owner that a call shard is in places and tickets.
pub const fn owner_of_shard(shard: u16) -> u16 {
    SHARDS_FROM | shard
}

/// The call shard that is this owner, if it is one.
pub fn shard_of_owner(owner: u16) -> Option<u16> {
    owner.checked_sub(SHARDS_FROM)
}

/// The account partition of an address of record.
pub fn partition_of(key: &Key, aor: &Aor, partitions: u16) -> u16 {
    if partitions <= 1 {
        return 0;
    }
    let mac = key.mac(&[aor.user().as_bytes(), aor.domain().as_bytes()]);
    (mac.short() % u64::from(partitions)) as u16
}
