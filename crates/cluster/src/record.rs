//! What a voter must not forget, and its form on disk.

use std::time::Duration;

use crate::fault::{self, Fault};
use crate::identity::same_holder;
use crate::list::SEATS_MAX;
use crate::{
    Ask, Epoch, Holder, Incarnation, LEASE_MAX, ListVersion, MemberId, NodeId, RefusalCause, Seat, VoterId,
    VoterList,
};

/// The first bytes of a record: the name and version of its form.
const MAGIC: &[u8; 8] = b"TDMVOTE1";

/// How long a record is.
pub(crate) const RECORD_BYTES: usize = LIST_AT + 8 + SEAT_BYTES * (SEATS_MAX + 1) + 4;

/// Where the list of voters begins.
const LIST_AT: usize = 8 + 8 + 8 + 8 + 8 + 1 + 1 + 8 + 8;

/// Whether there is a seat, its member, and its voter or zero.
const SEAT_BYTES: usize = 1 + 1 + 8;

/// What one voter keeps on disk for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Who the voter is.
    pub voter: VoterId,
    /// The highest epoch that was granted.
    pub epoch: Epoch,
    /// To whom.
    pub holder: Option<Holder>,
    /// The highest epoch that was set aside for a hand-over; no question is granted it.
    pub reserved: Epoch,
    /// The highest epoch that was released; neither it nor a lower one is granted again.
    pub closed: Epoch,
    /// The longest lease that was ever granted.
    pub longest: Duration,
    /// The list of voters that it was told last.
    pub list: VoterList,
}

/// Why the bytes of a file are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The file is shorter or longer than a record.
    Length(usize),
    /// It begins with other bytes: another file, or the form of another version.
    Magic,
    /// The checksum differs: the file was damaged.
    Checksum,
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(found) => write!(formatter, "{found} bytes long instead of {RECORD_BYTES}"),
            Self::Magic => formatter.write_str("not a voter's record, or that of another version"),
            Self::Checksum => formatter.write_str("damaged: its checksum does not fit"),
        }
    }
}

impl std::error::Error for RecordError {}

impl Record {
    /// The record of a voter that has never granted anything.
    pub fn first(voter: VoterId) -> Self {
        Self {
            voter,
            epoch: Epoch(0),
            holder: None,
            reserved: Epoch(0),
            closed: Epoch(0),
            longest: Duration::ZERO,
            list: VoterList::NONE,
        }
    }

    /// Whether the other one grants the same, for as long, by the same list of voters.
    pub(crate) fn grants_like(&self, other: &Self) -> bool {
        let granted = |record: &Self| (record.epoch, record.holder, record.longest, record.list);
        granted(self) == granted(other)
    }

    /// The highest epoch that is used in any way.
    pub fn highest(&self) -> Epoch {
        self.epoch.max(self.reserved).max(self.closed)
    }

    /// Why a question is refused whoever has the grant: what it asks for, or the list that it counts by.
    pub(crate) fn objection(&self, ask: &Ask) -> Option<RefusalCause> {
        if ask.lease.is_zero() || ask.lease > LEASE_MAX {
            return Some(RefusalCause::LeaseUnfit);
        }
        // A voter that has never granted anything believes whoever asks first.
        let is_other = self.holder.is_some() && ask.list.contradicts(&self.list);
        let is_old = self.knows_later_list(ask) || is_other;
        (is_old && !fault::is_planted(Fault::OldListServed)).then_some(RefusalCause::OldList)
    }

    /// Whether whoever asks is to be told of the list of voters.
    pub(crate) fn knows_later_list(&self, ask: &Ask) -> bool {
        ask.list.version() < self.list.version()
    }

    /// Whether a question is for the grant that was given last.
    pub(crate) fn is_renewed_by(&self, ask: &Ask) -> bool {
        self.epoch == ask.epoch && self.holder.is_some_and(|holder| same_holder(holder, ask.holder))
    }

    /// Whether an epoch is neither granted nor set aside.
    pub(crate) fn has_unused(&self, epoch: Epoch) -> bool {
        let is_new = epoch > self.epoch && epoch > self.reserved;
        is_new || epoch == self.epoch && fault::is_planted(Fault::EpochRepeated)
    }

    /// The record with what is asked for granted.
    pub(crate) fn granting(&self, ask: &Ask, lease: Duration) -> Self {
        Self {
            epoch: ask.epoch,
            holder: Some(ask.holder),
            longest: self.longest.max(lease),
            list: match ask.list.version() > self.list.version() || self.holder.is_none() {
                true => ask.list,
                false => self.list.with_voters_of(&ask.list),
            },
            ..*self
        }
    }

    /// The bytes for the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_BYTES);
        bytes.extend_from_slice(MAGIC);
        for number in [self.voter.0, self.epoch.0, self.reserved.0, self.closed.0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let holder = self.holder;
        bytes.push(u8::from(holder.is_some()));
        bytes.push(holder.map_or(0, |holder| holder.node.0));
        bytes.extend_from_slice(&holder.map_or(0, |holder| holder.incarnation.0).to_be_bytes());
        let longest = u64::try_from(self.longest.as_nanos()).unwrap_or(u64::MAX);
        bytes.extend_from_slice(&longest.to_be_bytes());
        bytes.extend_from_slice(&self.list.version().0.to_be_bytes());
        let mut seats = self.list.seats();
        for seat in (0..SEATS_MAX).map(|_| seats.next()).chain([self.list.change()]) {
            bytes.push(u8::from(seat.is_some()));
            bytes.push(seat.map_or(0, |seat| seat.member.0));
            let voter = seat.and_then(|seat| seat.voter).map_or(0, |voter| voter.0);
            bytes.extend_from_slice(&voter.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() != RECORD_BYTES {
            return Err(RecordError::Length(bytes.len()));
        }
        let (body, checksum) = bytes.split_at(RECORD_BYTES - 4);
        if !body.starts_with(MAGIC) {
            return Err(RecordError::Magic);
        }
        if crc32fast::hash(body).to_be_bytes() != checksum {
            return Err(RecordError::Checksum);
        }
        let number = |at: usize| {
            let bytes = body[at..at + 8].try_into().expect("eight bytes of a body whose length was checked");
            u64::from_be_bytes(bytes)
        };
        let seats: Vec<Option<Seat>> = (0..=SEATS_MAX)
            .map(|place| {
                let at = LIST_AT + 8 + place * SEAT_BYTES;
                let voter = Some(VoterId(number(at + 2))).filter(|voter| voter.0 != 0);
                (body[at] != 0).then_some(Seat { member: MemberId(body[at + 1]), voter })
            })
            .collect();
        let version = ListVersion(number(LIST_AT));
        let holder = Holder { node: NodeId(body[41]), incarnation: Incarnation(number(42)) };
        Ok(Self {
            voter: VoterId(number(8)),
            epoch: Epoch(number(16)),
            holder: (body[40] != 0).then_some(holder),
            reserved: Epoch(number(24)),
            closed: Epoch(number(32)),
            longest: Duration::from_nanos(number(50)),
            list: VoterList::new(version, seats[..SEATS_MAX].iter().copied().flatten(), seats[SEATS_MAX]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(Record::from_bytes(&record().to_bytes()), Ok(record()));
        let first = Record::first(VoterId(3));
        assert_eq!(Record::from_bytes(&first.to_bytes()), Ok(first));
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let good = record().to_bytes();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::from_bytes(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_torn_file_is_refused() {
        let good = record().to_bytes();
        for length in 0..good.len() {
            assert_eq!(Record::from_bytes(&good[..length]), Err(RecordError::Length(length)));
        }
    }

    fn record() -> Record {
        Record {
            voter: VoterId(0x0102_0304_0506_0708),
            epoch: Epoch(41),
            holder: Some(Holder { node: NodeId(2), incarnation: Incarnation(99) }),
            reserved: Epoch(42),
            closed: Epoch(40),
            longest: Duration::from_millis(500),
            list: list().changed(seat(3, Some(9)), Epoch(40)).expect("a change"),
        }
    }

    fn list() -> VoterList {
        VoterList::new(ListVersion(7), [seat(0, Some(1)), seat(1, None)], None)
    }

    fn seat(member: u8, voter: Option<u64>) -> Seat {
        Seat { member: MemberId(member), voter: voter.map(VoterId) }
    }
}
