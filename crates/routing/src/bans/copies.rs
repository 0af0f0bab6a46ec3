//! Penalties as copies: what the other node is told, and what it told.
//!
//! Only penalties are told: budgets and offences are those of the node that hears a source. A standby forgets a penalty by
//! its time like any other, and tells nobody.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use prost::Message;

use super::{Bans, Cause, Measure, Penalty, SourceNetwork};
use crate::account::Unreadable;

/// The version of the encoding.
pub const FORMAT: u32 = 1;

/// A time so long is a mistake, and must not overflow a clock.
const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// A penalty as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBan {
    /// Who.
    pub source: SourceNetwork,
    /// How hard it is, or was, held.
    pub measure: Measure,
    /// Why.
    pub cause: Cause,
    /// How long it is still held; zero: the next one is only longer.
    pub held_for: Duration,
    /// The how many-th one it is.
    pub number: u32,
    /// When it is forgotten.
    pub forgotten_in: Duration,
}

/// What has become of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanChange {
    /// It has this penalty.
    Put(StoredBan),
    /// It has none.
    Remove(SourceNetwork),
}

#[derive(Clone, PartialEq, Message)]
struct Capsule {
    #[prost(uint32, tag = "1")]
    measure: u32,
    #[prost(uint32, tag = "2")]
    cause: u32,
    #[prost(uint64, tag = "3")]
    held_for_ms: u64,
    #[prost(uint32, tag = "4")]
    number: u32,
}

/// By their number; the numbers stay.
const MEASURES: [Measure; 2] = [Measure::Banned, Measure::Restrained];
const CAUSES: [Cause; 5] =
    [Cause::WrongCredentials, Cause::Scanner, Cause::Malformed, Cause::Flood, Cause::Operator];

impl StoredBan {
    /// Its bytes for the other node. The source is the capsule's key.
    pub fn to_capsule(&self) -> Bytes {
        let place = |place: Option<usize>| place.map_or(u32::MAX, |place| place as u32);
        let capsule = Capsule {
            measure: place(MEASURES.iter().position(|known| *known == self.measure)),
            cause: place(CAUSES.iter().position(|known| *known == self.cause)),
            held_for_ms: u64::try_from(self.held_for.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
            number: self.number,
        };
        capsule.encode_to_vec().into()
    }

    /// Reads what [`StoredBan::to_capsule`] wrote on the other node; `left` is how long it is remembered.
    pub fn from_capsule(left: Duration, key: &[u8], bytes: Bytes) -> Result<Self, Unreadable> {
        let capsule = Capsule::decode(bytes).map_err(|_| Unreadable::Malformed)?;
        let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            source: SourceNetwork::of_bytes(key).ok_or(Unreadable::Malformed)?,
            measure: *MEASURES.get(place(capsule.measure)).ok_or(Unreadable::Malformed)?,
            cause: *CAUSES.get(place(capsule.cause)).ok_or(Unreadable::Malformed)?,
            held_for: Duration::from_millis(capsule.held_for_ms).min(TIME_MAX),
            number: capsule.number,
            forgotten_in: left.min(TIME_MAX * 2),
        })
    }
}

impl SourceNetwork {
    /// Its bytes as a key.
    pub fn to_key(self) -> Bytes {
        Bytes::copy_from_slice(&self.to_bytes())
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [4, a, b, c, d, 0, 0, 0, 0] => Some(Self::V4(Ipv4Addr::new(*a, *b, *c, *d))),
            [6, prefix @ ..] => Some(Self::V6(u64::from_be_bytes(prefix.try_into().ok()?))),
            _ => None,
        }
    }
}

impl Bans {
    /// From here on it is noted whose penalty changes.
    pub fn note_changes(&mut self) {
        self.notes.get_or_insert_default();
    }

    /// Whether [`Bans::take_changes`] would give anything.
    pub fn has_changes(&self) -> bool {
        self.notes.as_ref().is_some_and(|notes| !notes.is_empty())
    }

    /// Whose penalties have changed since they were taken last, at most so many.
    pub fn take_changes(&mut self, now: Instant, count: usize) -> Vec<BanChange> {
        let Some(notes) = &mut self.notes else { return Vec::new() };
        let rest = notes.iter().nth(count).copied().map_or_else(BTreeSet::new, |rest| notes.split_off(&rest));
        let taken = std::mem::replace(notes, rest);
        let change = |source| self.stored(now, source).map_or(BanChange::Remove(source), BanChange::Put);
        taken.into_iter().map(change).collect()
    }

    /// The penalty of a source as it is.
    pub fn stored(&self, now: Instant, source: SourceNetwork) -> Option<StoredBan> {
        let penalty = self.penalties.get(&source)?;
        Some(StoredBan {
            source,
            measure: penalty.measure,
            cause: penalty.cause,
            held_for: penalty.until.since(now),
            number: penalty.number,
            forgotten_in: penalty.forgotten_at.since(now),
        })
    }

    /// Takes a penalty from the active node.
    pub fn restore(&mut self, now: Instant, ban: StoredBan) {
        let until = now + ban.held_for;
        let forgotten_at = (now + ban.forgotten_in).max(until);
        let (measure, cause, number) = (ban.measure, ban.cause, ban.number);
        self.put(ban.source, Penalty { measure, cause, until, number, forgotten_at });
    }

    /// Ends a penalty because the active node says that it has ended.
    pub fn withdraw(&mut self, source: SourceNetwork) {
        if let Some(penalty) = self.penalties.remove(&source) {
            self.forgotten.remove(&(penalty.forgotten_at, source));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_penalty_comes_back_with_its_times() {
        for source in ["192.0.2.1", "2001:db8:1:2::/64", "::/64"] {
            let ban = StoredBan { source: SourceNetwork::parse(source).unwrap(), ..stored() };

            let back = StoredBan::from_capsule(ban.forgotten_in, &ban.source.to_key(), ban.to_capsule());

            assert_eq!(back, Ok(ban));
        }
    }

    #[test]
    fn what_is_no_penalty_is_refused() {
        let bytes = |measure, cause| Capsule { measure, cause, held_for_ms: 1, number: 1 }.encode_to_vec();
        let key = stored().source.to_key();
        for (key, bytes) in [
            (&key[..], bytes(2, 0)),
            (&key[..], bytes(0, 5)),
            (&key[..], b"\xff".to_vec()),
            (b"", bytes(0, 0)),
            (&[4, 1, 2, 3, 4, 0, 0, 0, 1], bytes(0, 0)),
            (&[6, 1], bytes(0, 0)),
        ] {
            let read = StoredBan::from_capsule(Duration::from_secs(1), key, bytes.into());
            assert_eq!(read, Err(Unreadable::Malformed));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = StoredBan::from_capsule(Duration::MAX, &bytes, bytes.clone().into());
        }
    }

    fn stored() -> StoredBan {
        StoredBan {
            source: SourceNetwork::V4(Ipv4Addr::new(192, 0, 2, 1)),
            measure: Measure::Restrained,
            cause: Cause::Scanner,
            held_for: Duration::from_millis(1_500),
            number: 3,
            forgotten_in: Duration::from_secs(90),
        }
    }
}
