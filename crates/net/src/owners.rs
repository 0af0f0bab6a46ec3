//! The machines, as the other node of a pair sees them: they take what it tells, and tell it what it lacks.

use std::sync::Weak;

use clock::Now;
use engine::copies::{
    Entry, OwnerOf, banned_at, connection_at, fetch_record, is_record, place_of_record, read_record,
    record_at,
};
use engine::{Holding, Outcome, Owners, PartitionOutput, Shard, shard_of_owner};
use replica::{Apply, Capsule, Cause, Epoch, Fetched, Kind, Place, Ticket, Wanted};
use routing::Bans;
use tracing::{debug, error};
use transport::RemoteAddr;

use crate::alarm::Event;
use crate::clocks;
use crate::copies::{AT_ONCE_MAX, Copies};
use crate::edge::Edge;
use crate::tally::Tally;

/// All owners of entries.
pub(crate) struct EdgeOwners(pub(crate) Weak<Edge>);

impl Owners for EdgeOwners {
    fn apply(&self, apply: Apply) -> Option<Place> {
        let edge = self.0.upgrade()?;
        if edge.copies.get().is_none_or(Copies::is_acting) {
            edge.tallies.add(Tally::CapsuleWhileActive);
            return None;
        }
        let (now, kind) = (clocks::now(), apply.capsule.kind);
        if is_record(kind) {
            return take_record(&edge, apply.capsule);
        }
        let entry = match engine::copies::read(now, apply.capsule) {
            Ok(entry) => entry,
            Err(unreadable) => {
                debug!(?kind, ?unreadable, "the active node sent what can not be taken");
                edge.tallies.add(Tally::CapsuleUnreadable);
                return None;
            }
        };
        let bans = &edge.machines.bans;
        if let Entry::Binding(stored) = &entry {
            let (transport, received) = (stored.listener.0, RemoteAddr(stored.received));
            bans.with(|bans| bans.handle_binding(now.instant, transport, received));
        }
        if let Entry::Ban(ban) = entry {
            return Some(bans.with(|bans| engine::copies::apply_ban(now.instant, bans, ban)));
        }
        if let Entry::Connection(stranded) = entry {
            return edge.streams.stranding.apply(stranded);
        }
        if let Some(number) = shard_of(&edge, &entry) {
            return edge.machines.shards[usize::from(number)].with(now, |owner, _| {
                let place = apply_to_shard(now, &mut owner.shard, number, entry);
                // What a shard is told may change which ports this node holds.
                edge.relay.take_orders(number, None, &mut owner.shard);
                place
            });
        }
        let OwnerOf::Partition(aor) = entry.owner() else { return None };
        let number = edge.machines.partition_of(aor);
        edge.machines.partitions[usize::from(number)].with(now, |owner, now| {
            let mut out = Vec::new();
            let place = engine::copies::apply(now, &mut owner.partition, number, entry, &mut out);
            save(&edge, out);
            place
        })
    }

    fn remove(&self, kind: Kind, place: Place) {
        let Some(edge) = self.0.upgrade() else { return };
        if let Some(source) = banned_at(place) {
            return edge.machines.bans.with(|bans| bans.withdraw(source));
        }
        if let Some(at) = connection_at(place) {
            return edge.streams.stranding.withdraw(at);
        }
        if let Some(number) = record_at(place) {
            return edge.records.iter().for_each(|records| records.let_go(number));
        }
        if let Some(shard) = shard_of_owner(place.owner) {
            let Some(seat) = edge.machines.shards.get(usize::from(shard)) else { return };
            return seat.with(clocks::now(), |owner, _| {
                engine::copies::remove_call(&mut owner.shard, kind, place);
                edge.relay.take_orders(shard, None, &mut owner.shard);
            });
        }
        let Some(seat) = edge.machines.partitions.get(usize::from(place.owner)) else { return };
        seat.with(clocks::now(), |owner, _| {
            let mut out = Vec::new();
            engine::copies::remove(&mut owner.partition, kind, place, &mut out);
            save(&edge, out);
        });
    }

    fn fetch(&self, wanted: Vec<Wanted>) -> Vec<Fetched> {
        let Some(edge) = self.0.upgrade() else { return Vec::new() };
        let mut of_partition: Vec<Vec<Wanted>> = vec![Vec::new(); edge.machines.partitions.len()];
        let mut of_shard: Vec<Vec<Wanted>> = vec![Vec::new(); edge.machines.shards.len()];
        let mut fetched = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            if let Some(at) = connection_at(wanted.place) {
                fetched.push(edge.streams.stranding.fetch(at, wanted));
                continue;
            }
            if let Some(number) = record_at(wanted.place) {
                let record = edge.records.as_ref().and_then(|records| records.fetch(number));
                fetched.push(fetch_record(record, wanted));
                continue;
            }
            let owner = wanted.place.owner;
            let list = match shard_of_owner(owner) {
                Some(shard) => of_shard.get_mut(usize::from(shard)),
                None => of_partition.get_mut(usize::from(owner)),
            };
            match (list, banned_at(wanted.place)) {
                (Some(list), _) => list.push(wanted),
                (None, Some(source)) => {
                    let now = clocks::instant();
                    let fetch = |bans: &Bans| engine::copies::fetch_ban(now, bans, source, wanted);
                    fetched.push(edge.machines.bans.read(fetch));
                }
                (None, None) => fetched.push(Fetched { wanted, capsule: None }),
            }
        }
        for (seat, wanted) in edge.machines.partitions.iter().zip(of_partition) {
            for wanted in wanted.chunks(AT_ONCE_MAX) {
                let now = clocks::now();
                seat.with(now, |owner, now| {
                    let fetch = |&wanted| engine::copies::fetch(now, &owner.partition, wanted);
                    fetched.extend(wanted.iter().map(fetch));
                });
            }
        }
        for (seat, wanted) in edge.machines.shards.iter().zip(of_shard) {
            for wanted in wanted.chunks(AT_ONCE_MAX) {
                seat.with(clocks::now(), |owner, now| {
                    let fetch = |&wanted| engine::copies::fetch_call(now, &mut owner.shard, wanted);
                    fetched.extend(wanted.iter().map(fetch));
                });
            }
        }
        fetched
    }

    fn settled(&self, settled: &[(Ticket, Outcome)]) {
        let Some(edge) = self.0.upgrade() else { return };
        let mut of_lane: Vec<Vec<Ticket>> = vec![Vec::new(); edge.alarms.len()];
        for &(ticket, outcome) in settled {
            edge.tallies.add(tally_of(outcome));
            let owner = Holding::owner_of(ticket);
            let number = shard_of_owner(owner).unwrap_or(owner);
            of_lane[edge.machines.owner_of(number)].push(ticket);
        }
        for (alarm, tickets) in edge.alarms.iter().zip(of_lane) {
            if !tickets.is_empty() {
                alarm.deliver(Event::Settled(tickets));
            }
        }
    }

    fn superseded(&self, epoch: Epoch) {
        let Some(edge) = self.0.upgrade() else { return };
        edge.tallies.add(Tally::Superseded);
        error!(epoch = epoch.0, "the other node was active under a higher epoch than this one's");
    }
}

/// A node that writes no records keeps none for the other one either, and says nothing of it: they are to be configured alike.
fn take_record(edge: &Edge, capsule: Capsule) -> Option<Place> {
    let Some((id, line)) = read_record(capsule) else {
        edge.tallies.add(Tally::CapsuleUnreadable);
        return None;
    };
    let is_held = edge.records.as_ref().is_none_or(|records| records.hold(id, line));
    is_held.then(|| place_of_record(id))
}

/// Under the partition's lock, so that the order of changes stays.
fn save(edge: &Edge, outputs: Vec<PartitionOutput>) {
    for output in outputs {
        if let PartitionOutput::Save(change) = output {
            edge.store.save(change);
        }
    }
}

fn tally_of(outcome: Outcome) -> Tally {
    match outcome {
        Outcome::Held => Tally::Replicated,
        Outcome::Degraded(Cause::NoPeer) => Tally::DegradedNoPeer,
        Outcome::Degraded(Cause::Stale) => Tally::DegradedStale,
        Outcome::Degraded(Cause::Late) => Tally::DegradedLate,
        Outcome::Degraded(Cause::Lost) => Tally::DegradedLost,
        Outcome::Degraded(Cause::Refused) => Tally::DegradedRefused,
        Outcome::Degraded(Cause::NotEqual) => Tally::DegradedNotEqual,
        Outcome::Degraded(Cause::UnknownKind) => Tally::DegradedUnknownKind,
        Outcome::Degraded(Cause::TooLong) => Tally::DegradedTooLong,
        Outcome::Degraded(Cause::TooMany) => Tally::DegradedTooMany,
    }
}

/// The shard that has the call of an entry; `None` if it is no shard's.
fn shard_of(edge: &Edge, entry: &Entry) -> Option<u16> {
    let call_id = match entry {
        Entry::Call(call) => &call.call_id,
        Entry::Dialog(dialog) => dialog.call_id(),
        Entry::Media(media) => media.call_id(),
        _ => return None,
    };
    Some(edge.machines.shard_of_call(call_id))
}

fn apply_to_shard(now: Now, shard: &mut Shard, number: u16, entry: Entry) -> Option<Place> {
    match entry {
        Entry::Call(call) => engine::copies::apply_call(now, shard, number, call),
        Entry::Dialog(dialog) => engine::copies::apply_dialog(now, shard, number, &dialog),
        Entry::Media(media) => engine::copies::apply_media(now, shard, number, &media),
        _ => None,
    }
}
