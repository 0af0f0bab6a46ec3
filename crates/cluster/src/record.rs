//! What a voter must not forget, and its form on disk.

use std::time::Duration;

use crate::{Epoch, Holder, Incarnation, ListVersion, NodeId, VoterId};

/// The first bytes of a record: the name and version of its form.
const MAGIC: &[u8; 8] = b"TDMVOTE1";

/// How long a record is.
const RECORD_BYTES: usize = 8 + 8 + 8 + 8 + 8 + 1 + 1 + 8 + 8 + 4 + 4;

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
    /// The version of the list of voters.
    pub list: ListVersion,
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
    pub fn first(voter: VoterId, list: ListVersion) -> Self {
        Self {
            voter,
            epoch: Epoch(0),
            holder: None,
            reserved: Epoch(0),
            closed: Epoch(0),
            longest: Duration::ZERO,
            list,
        }
    }

    /// The highest epoch that is used in any way.
    pub fn highest(&self) -> Epoch {
        self.epoch.max(self.reserved).max(self.closed)
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
        bytes.extend_from_slice(&self.list.0.to_be_bytes());
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
        let list = body[58..62].try_into().expect("four bytes of a body whose length was checked");
        let holder = Holder { node: NodeId(body[41]), incarnation: Incarnation(number(42)) };
        Ok(Self {
            voter: VoterId(number(8)),
            epoch: Epoch(number(16)),
            holder: (body[40] != 0).then_some(holder),
            reserved: Epoch(number(24)),
            closed: Epoch(number(32)),
            longest: Duration::from_nanos(number(50)),
            list: ListVersion(u32::from_be_bytes(list)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(Record::from_bytes(&record().to_bytes()), Ok(record()));
        let first = Record::first(VoterId(3), ListVersion(1));
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
            list: ListVersion(7),
        }
    }
}
