//! Entries on their way between two nodes: what the other node is told of a partition's changes, and what a partition
//! does with what the other node tells.
//!
//! Whoever runs a partition calls [`post`] behind each step of it, before its outputs go on, and lets those wait that it
//! names. On a standby [`read`] says whose a capsule is, [`apply`] and [`remove`] let that partition have it, and on the
//! active node [`fetch`] says what an entry is like by now. Nothing here sends or keeps anything.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now};
use replica::{Capsule, Fetched, Kind, Known, Place, Posted, Ticket, Wanted};
use routing::account::{
    BINDING_FORMAT, BindingKey, Change, NONCE_FORMAT, NonceChange, Output, StoredNonce, Unreadable,
};
use routing::bans::{BAN_FORMAT, BanChange, SourceNetwork, StoredBan};
use routing::{AccountPartition as Partition, Answer, Bans, BindingId, StoredBinding, StoredDialog};
use sip::Aor;
use transport::{STRANDED_FORMAT, Stranded};

use crate::call_capsule::FORMAT as CALL_FORMAT;
use crate::holding::{Holding, Passage};
use crate::peer::OwnEntry;

mod calls;
mod connections;
mod dialogs;
mod media;
mod records;

pub use self::calls::{CallEntry, apply_call, fetch_call, post_calls, remove_call};
pub use self::connections::{
    ConnectionAt, apply_connection, connection_at, fetch_connection, forget_connection,
    place_of_own_connection, post_connection,
};
pub use self::dialogs::{DialogEntry, apply_dialog};
pub use self::media::{MediaEntry, apply_media};
pub use self::records::{
    fetch_record, is_record, place_of_record, read_record, record_at, record_capsule, record_key,
};

/// A binding. The numbers of kinds are part of what two nodes say to each other: none is ever given another meaning.
pub const BINDING: Kind = Kind(1);
/// The counts that were used with a nonce.
pub const NONCE_COUNT: Kind = Kind(2);
/// A source that is held.
pub const BAN: Kind = Kind(3);
/// An INVITE that is under way.
pub const CALL: Kind = Kind(4);
/// A call that was answered.
pub const DIALOG: Kind = Kind(5);
/// A stream connection, which ends with the node that has it.
pub const CONNECTION: Kind = Kind(6);
/// The media of a call that pass the relay.
pub const MEDIA: Kind = Kind(7);
/// The record of a call that has ended, until it is in the database.
pub const RECORD: Kind = Kind(8);

/// What this version understands of another node's.
pub const KNOWN: [Known; 8] = [
    Known { kind: BINDING, format_max: BINDING_FORMAT },
    Known { kind: NONCE_COUNT, format_max: NONCE_FORMAT },
    Known { kind: BAN, format_max: BAN_FORMAT },
    Known { kind: CALL, format_max: CALL_FORMAT },
    Known { kind: DIALOG, format_max: StoredDialog::FORMAT },
    Known { kind: CONNECTION, format_max: STRANDED_FORMAT },
    Known { kind: MEDIA, format_max: media::MEDIA_FORMAT },
    Known { kind: RECORD, format_max: records::RECORD_FORMAT },
];

/// The owners of bans in places, behind all partitions: of IPv4 sources, and of IPv6 sources.
const BANS_V4: u16 = u16::MAX;
const BANS_V6: u16 = u16::MAX - 1;
/// The owner of connections.
const CONNECTIONS: u16 = u16::MAX - 2;
/// The owner of records.
const RECORDS: u16 = u16::MAX - 3;

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
    outputs.retain_mut(|output| match output {
        Output::Save(change) => {
            holding.handle_posted(post_change(now, partition, holding.partition(), replica, change));
            true
        }
        Output::Answer { asker, answer } if Holding::holds(answer) => {
            let taken = std::mem::replace(answer, Answer::Noted);
            match holding.handle_answer(*asker, taken, || replica.everything()) {
                Passage::Passes(passes) => {
                    *answer = passes;
                    true
                }
                Passage::Waits(ticket, posted) => {
                    waits.push((ticket, posted));
                    false
                }
            }
        }
        Output::Answer { .. } | Output::LoadAccount(_) | Output::Send { .. } | Output::Report(_) => true,
    });
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

/// Tells the other node which nonces of a partition have changed since it was told last, at most so many; gives how many
/// those were. To be called from time to time, under the partition's lock.
pub fn post_nonces(
    now: Now,
    partition: &mut Partition,
    number: u16,
    replica: &mut impl Replica,
    count: usize,
) -> usize {
    let changes = partition.take_nonce_changes(now, count);
    for change in &changes {
        // Nobody waits for them.
        let _posted = match change {
            NonceChange::Put(stored) => {
                let place = Place { owner: number, number: stored.number() };
                replica.put(nonce_capsule(now, stored), place)
            }
            NonceChange::Remove(nonce) => replica.remove(NONCE_COUNT, nonce),
        };
    }
    changes.len()
}

/// The same for bans, under their lock.
pub fn post_bans(now: Instant, bans: &mut Bans, replica: &mut impl Replica, count: usize) -> usize {
    let changes = bans.take_changes(now, count);
    for change in &changes {
        let _posted = match change {
            BanChange::Put(ban) => replica.put(ban_capsule(ban), place_of_ban(ban.source)),
            BanChange::Remove(source) => replica.remove(BAN, &source.to_key()),
        };
    }
    changes.len()
}

/// What a capsule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// [`BINDING`].
    Binding(Box<StoredBinding>),
    /// [`NONCE_COUNT`].
    NonceCount(Box<StoredNonce>),
    /// [`BAN`].
    Ban(StoredBan),
    /// [`CALL`].
    Call(CallEntry),
    /// [`DIALOG`].
    Dialog(Box<DialogEntry>),
    /// [`CONNECTION`].
    Connection(Stranded),
    /// [`MEDIA`].
    Media(Box<MediaEntry>),
}

/// Who owns an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerOf<'a> {
    /// The partition of this address of record.
    Partition(&'a Aor),
    /// The bans.
    Bans,
    /// The shard of this Call-ID.
    Shard(&'a [u8]),
    /// Whoever has the connections.
    Connections,
}

impl Entry {
    /// Who is to have it.
    pub fn owner(&self) -> OwnerOf<'_> {
        match self {
            Self::Binding(stored) => OwnerOf::Partition(&stored.aor),
            Self::NonceCount(stored) => OwnerOf::Partition(&stored.account),
            Self::Ban(_) => OwnerOf::Bans,
            Self::Call(call) => OwnerOf::Shard(&call.call_id),
            Self::Dialog(dialog) => OwnerOf::Shard(dialog.call_id()),
            Self::Connection(_) => OwnerOf::Connections,
            Self::Media(media) => OwnerOf::Shard(media.call_id()),
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
        NONCE_COUNT => {
            let stored = StoredNonce::from_capsule(now, capsule.left, &capsule.key, capsule.bytes)?;
            Ok(Entry::NonceCount(Box::new(stored)))
        }
        BAN => StoredBan::from_capsule(capsule.left, &capsule.key, capsule.bytes).map(Entry::Ban),
        CALL => calls::read(&capsule.key, capsule.bytes).map(Entry::Call),
        DIALOG => dialogs::read(&capsule.key, capsule.bytes).map(|entry| Entry::Dialog(Box::new(entry))),
        CONNECTION => Stranded::from_capsule(&capsule.key, &capsule.bytes)
            .map(Entry::Connection)
            .map_err(|_| Unreadable::Malformed),
        MEDIA => media::read(&capsule.key, capsule.bytes).map(|entry| Entry::Media(Box::new(entry))),
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
        Entry::NonceCount(stored) => {
            let nonce = partition.restore_nonce(now, *stored)?;
            Some(Place { owner: number, number: nonce })
        }
        Entry::Ban(_) | Entry::Call(_) | Entry::Dialog(_) | Entry::Connection(_) | Entry::Media(_) => None,
    }
}

/// On a standby: the bans take an entry.
pub fn apply_ban(now: Instant, bans: &mut Bans, ban: StoredBan) -> Place {
    bans.restore(now, ban);
    place_of_ban(ban.source)
}

/// The source whose ban is at this place; `None`: it is the place of something else.
pub fn banned_at(place: Place) -> Option<SourceNetwork> {
    match place.owner {
        BANS_V4 => u32::try_from(place.number).ok().map(|bits| SourceNetwork::V4(Ipv4Addr::from_bits(bits))),
        BANS_V6 => Some(SourceNetwork::V6(place.number)),
        _ => None,
    }
}

/// On a standby: the partition that `place` names lets an entry go.
pub fn remove(partition: &mut Partition, kind: Kind, place: Place, out: &mut Vec<Output>) {
    match kind {
        BINDING => partition.withdraw(BindingId(place.number), out),
        NONCE_COUNT => partition.withdraw_nonce(place.number),
        _ => {}
    }
}

/// On the active node: an entry of the partition that `wanted` names, as it is.
pub fn fetch(now: Now, partition: &Partition, wanted: Wanted) -> Fetched {
    let capsule = match wanted.name.kind {
        BINDING => partition
            .stored(now, BindingId(wanted.place.number))
            .map(|stored| binding_capsule(now, &BindingKey::of(&stored), &stored)),
        NONCE_COUNT => {
            partition.stored_nonce(now, wanted.place.number).map(|stored| nonce_capsule(now, &stored))
        }
        _ => None,
    };
    Fetched { wanted, capsule }
}

/// On the active node: the ban of a source, as it is.
pub fn fetch_ban(now: Instant, bans: &Bans, source: SourceNetwork, wanted: Wanted) -> Fetched {
    let capsule = bans.stored(now, source).map(|ban| ban_capsule(&ban));
    Fetched { wanted, capsule }
}

/// What a node begins with of a binding that it has from its own disk.
pub fn of_own_disk(number: u16, key: &BindingKey, id: BindingId) -> OwnEntry {
    OwnEntry { kind: BINDING, key: key.to_bytes(), place: Place { owner: number, number: id.0 } }
}

/// The same of a nonce.
pub fn nonce_of_own_disk(number: u16, stored: &StoredNonce) -> OwnEntry {
    let key = Bytes::copy_from_slice(&stored.nonce);
    OwnEntry { kind: NONCE_COUNT, key, place: Place { owner: number, number: stored.number() } }
}

fn nonce_capsule(now: Now, stored: &StoredNonce) -> Capsule {
    Capsule {
        kind: NONCE_COUNT,
        format: NONCE_FORMAT,
        key: Bytes::copy_from_slice(&stored.nonce),
        bytes: stored.to_capsule(),
        left: stored.expires_at.since(now.wall),
    }
}

fn ban_capsule(ban: &StoredBan) -> Capsule {
    let (key, bytes) = (ban.source.to_key(), ban.to_capsule());
    Capsule { kind: BAN, format: BAN_FORMAT, key, bytes, left: ban.forgotten_in }
}

fn place_of_ban(source: SourceNetwork) -> Place {
    match source {
        SourceNetwork::V4(address) => Place { owner: BANS_V4, number: address.to_bits().into() },
        SourceNetwork::V6(prefix) => Place { owner: BANS_V6, number: prefix },
    }
}

fn binding_capsule(now: Now, key: &BindingKey, stored: &StoredBinding) -> Capsule {
    let left: Duration = stored.left(now.wall);
    Capsule { kind: BINDING, format: BINDING_FORMAT, key: key.to_bytes(), bytes: stored.to_capsule(), left }
}
