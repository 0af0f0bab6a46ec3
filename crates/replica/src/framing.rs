//! The byte stream between two nodes: frames behind their length.
//!
//! It never holds more than one frame of the longest kind and what came with its last piece.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::frame::{FRAME_BYTES_MAX, Frame};

const LENGTH_BYTES: usize = 4;

/// Takes frames out of a stream that comes in pieces.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: BytesMut,
}

/// The stream can not be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// A frame says that it is longer than any may be.
    TooLong,
    /// A frame is no message.
    Malformed,
}

impl Deframer {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece. All whole frames are to be taken out before the next one comes.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FramingError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FramingError::TooLong);
        }
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let bytes = self.buffer.split_to(length).freeze();
        Frame::decode(bytes).map(Some).map_err(|_| FramingError::Malformed)
    }

    /// Bytes of a frame that is not whole yet.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

/// The bytes of a frame behind their length.
pub(crate) fn to_bytes(frame: &Frame) -> Bytes {
    let length = frame.encoded_len();
    let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + length);
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    // BytesMut grows, so that nothing is left to go wrong.
    frame.encode_raw(&mut bytes);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Ack, Body};

    #[test]
    fn frames_come_out_however_the_stream_is_cut() {
        let frames = [frame(1), frame(2), frame(300)];
        let stream: Vec<u8> = frames.iter().flat_map(|frame| to_bytes(frame).to_vec()).collect();
        for length in 1..stream.len() {
            let (mut deframer, mut found) = (Deframer::new(), Vec::new());
            for piece in stream.chunks(length) {
                deframer.push(piece);
                while let Some(frame) = deframer.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames, "in pieces of {length}");
            assert_eq!(deframer.pending(), 0);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_before_it_has_come() {
        let mut deframer = Deframer::new();
        deframer.push(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes());

        assert_eq!(deframer.next_frame(), Err(FramingError::TooLong));
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        let mut deframer = Deframer::new();
        deframer.push(&[0, 0, 0, 1, 0xff]);

        assert_eq!(deframer.next_frame(), Err(FramingError::Malformed));
    }

    fn frame(through: u64) -> Frame {
        Frame { sequence: 0, body: Some(Body::Ack(Ack { through, refused: Vec::new() })) }
    }
}
