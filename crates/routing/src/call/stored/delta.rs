//! A message as what differs from another one: a request that has left has most of its lines from the one that came.

use bytes::{Bytes, BytesMut};
use sip::limits::MESSAGE_BYTES_MAX;

use super::at_most;
use crate::account::Unreadable;

/// Lines of the base that are looked at for one line: a hop takes away less.
const AHEAD_MAX: usize = 32;
/// Pieces of one message.
const PIECES_MAX: usize = 4_096;

/// A message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredDelta {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<StoredPiece>,
}

/// A part of it: some text, and then a part of the base.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredPiece {
    #[prost(bytes = "bytes", tag = "1")]
    text: Bytes,
    #[prost(uint32, tag = "2")]
    start: u32,
    #[prost(uint32, tag = "3")]
    length: u32,
}

impl StoredDelta {
    /// What `message` is with respect to `base`.
    pub(super) fn of(base: &[u8], message: &Bytes) -> Self {
        let base_lines: Vec<&[u8]> = base.split_inclusive(|&byte| byte == b'\n').collect();
        let mut pieces: Vec<StoredPiece> = Vec::new();
        // The line of the base that comes next, where that is in the base, and where in the message.
        let (mut next, mut base_at, mut at) = (0, 0, 0);
        for line in message.split_inclusive(|&byte| byte == b'\n') {
            let ahead = base_lines[next..].iter().take(AHEAD_MAX);
            let skipped = ahead.clone().position(|known| *known == line);
            match (skipped, pieces.last_mut()) {
                (Some(0), Some(piece)) if piece.length > 0 => piece.length += line.len() as u32,
                (Some(count), last) => {
                    let gone: usize = base_lines[next..next + count].iter().map(|line| line.len()).sum();
                    let (start, length) = ((base_at + gone) as u32, line.len() as u32);
                    match last {
                        Some(piece) if piece.length == 0 => (piece.start, piece.length) = (start, length),
                        _ => pieces.push(StoredPiece { text: Bytes::new(), start, length }),
                    }
                    (next, base_at) = (next + count, base_at + gone);
                }
                (None, Some(piece)) if piece.length == 0 => {
                    piece.text = message.slice(at - piece.text.len()..at + line.len());
                }
                (None, _) => {
                    let text = message.slice(at..at + line.len());
                    pieces.push(StoredPiece { text, start: 0, length: 0 });
                }
            }
            if skipped.is_some() {
                (next, base_at) = (next + 1, base_at + line.len());
            }
            at += line.len();
        }
        if pieces.len() > PIECES_MAX {
            pieces = vec![StoredPiece { text: message.clone(), start: 0, length: 0 }];
        }
        Self { pieces }
    }

    /// The message again.
    pub(super) fn read(&self, base: &[u8]) -> Result<Bytes, Unreadable> {
        at_most(&self.pieces, PIECES_MAX)?;
        let mut message = BytesMut::with_capacity(base.len() + 512);
        for StoredPiece { text, start, length } in &self.pieces {
            let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
            let (start, length) = (place(*start), place(*length));
            let copied = base.get(start..start.saturating_add(length)).ok_or(Unreadable::Malformed)?;
            if message.len() + text.len() + copied.len() > MESSAGE_BYTES_MAX {
                return Err(Unreadable::Malformed);
            }
            message.extend_from_slice(text);
            message.extend_from_slice(copied);
        }
        Ok(message.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_lines_that_differ_are_told() {
        let base = b"INVITE sip:bob@a SIP/2.0\r\nVia: x\r\nMax-Forwards: 70\r\nTo: <b>\r\n\r\nbody\r\n";
        let message = Bytes::from_static(
            b"INVITE sip:bob@b SIP/2.0\r\nVia: us\r\nVia: x\r\nMax-Forwards: 69\r\nTo: <b>\r\n\r\nbody\r\n",
        );

        let delta = StoredDelta::of(base, &message);

        let texts: Vec<&[u8]> = delta.pieces.iter().map(|piece| &piece.text[..]).collect();
        assert_eq!(texts, [&b"INVITE sip:bob@b SIP/2.0\r\nVia: us\r\n"[..], b"Max-Forwards: 69\r\n"]);
        assert_eq!(delta.read(base), Ok(message));
    }

    #[test]
    fn what_points_beyond_the_base_is_refused() {
        for (start, length) in [(5, 1), (0, 6), (u32::MAX, u32::MAX)] {
            let pieces = vec![StoredPiece { text: Bytes::new(), start, length }];
            assert_eq!(StoredDelta { pieces }.read(b"base\n"), Err(Unreadable::Malformed));
        }
        let piece = StoredPiece { text: Bytes::new(), start: 0, length: 60_000 };
        let twice = StoredDelta { pieces: vec![piece.clone(), piece] };
        assert_eq!(twice.read(&[b'a'; 60_000]), Err(Unreadable::Malformed));
    }

    proptest! {
        #[test]
        fn every_message_comes_back(base in "[ab\n]{0,80}", message in "[ab\n]{0,80}") {
            let message = Bytes::from(message.into_bytes());

            let delta = StoredDelta::of(base.as_bytes(), &message);

            prop_assert_eq!(delta.read(base.as_bytes()), Ok(message));
        }
    }
}
