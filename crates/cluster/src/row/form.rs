//! A row as the text that a server keeps.

use std::time::Duration;

use super::Row;
use crate::record::RECORD_BYTES;
use crate::{LEASE_MAX, Record, RecordError};

/// The first bytes of a row: the name and version of its form.
const MAGIC: &[u8; 8] = b"TDMROW01";

const ROW_BYTES: usize = 8 + 8 + 8 + RECORD_BYTES + 4;

/// How long a row's text is at the most.
pub const ROW_TEXT_MAX: usize = ROW_BYTES * 2;

/// Why a text is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowError {
    /// It has another length, or something else than hexadecimal digits.
    Text,
    /// It begins otherwise: something else, or the form of another version.
    Magic,
    /// Its checksum does not fit: somebody has changed it by hand.
    Checksum,
    /// What a voter remembers is no record.
    Record(RecordError),
    /// It is written otherwise than it is here, so that no comparison with what was read would ever fit; or no voter could have
    /// come so far.
    Unlikely,
}

impl std::fmt::Display for RowError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text => write!(formatter, "not {ROW_TEXT_MAX} hexadecimal digits"),
            Self::Magic => formatter.write_str("not a witness's row, or that of another version"),
            Self::Checksum => formatter.write_str("damaged, or changed by hand: its checksum does not fit"),
            Self::Record(error) => write!(formatter, "its record is {error}"),
            Self::Unlikely => formatter.write_str("made by hand: no witness writes it so"),
        }
    }
}

impl std::error::Error for RowError {}

impl Row {
    /// The text for the server: hexadecimal digits, because every database keeps those as they are.
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(ROW_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.writes.to_be_bytes());
        let lease = u64::try_from(self.lease.as_nanos()).unwrap_or(u64::MAX);
        bytes.extend_from_slice(&lease.to_be_bytes());
        bytes.extend_from_slice(&self.record.to_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// Reads what [`Self::to_text`] wrote.
    pub fn from_text(text: &str) -> Result<Self, RowError> {
        if text.len() != ROW_TEXT_MAX {
            return Err(RowError::Text);
        }
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let digits = digits.filter(|digits| digits.len() == ROW_TEXT_MAX).ok_or(RowError::Text)?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let (body, checksum) = bytes.split_at(ROW_BYTES - 4);
        if !body.starts_with(MAGIC) {
            return Err(RowError::Magic);
        }
        if crc32fast::hash(body).to_be_bytes() != checksum {
            return Err(RowError::Checksum);
        }
        let number = |at: usize| {
            let bytes = body[at..at + 8].try_into().expect("eight bytes of a body whose length was checked");
            u64::from_be_bytes(bytes)
        };
        let record = Record::from_bytes(&body[24..]).map_err(RowError::Record)?;
        let row = Self { record, lease: Duration::from_nanos(number(16)), writes: number(8) };
        let is_likely = row.lease <= LEASE_MAX && row.writes < u64::MAX && row.to_text() == text;
        is_likely.then_some(row).ok_or(RowError::Unlikely)
    }
}
