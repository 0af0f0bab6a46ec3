//! Frames as a liar writes them.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Frame {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(message, tag = "6")]
    ack: Option<Ack>,
    #[prost(message, tag = "8")]
    verdict: Option<Verdict>,
}

#[derive(Clone, PartialEq, Message)]
struct Ack {
    #[prost(uint64, tag = "1")]
    through: u64,
    #[prost(uint64, repeated, tag = "2")]
    refused: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Verdict {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(message, repeated, tag = "2")]
    kinds: Vec<KindVerdict>,
}

#[derive(Clone, PartialEq, Message)]
struct KindVerdict {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    count: u64,
    #[prost(uint32, repeated, tag = "3")]
    differing: Vec<u32>,
}

/// How somebody lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Bytes that are no frames.
    Garbage,
    /// More is acknowledged than was sent.
    Acknowledgement,
    /// The first bucket of each kind differs.
    Verdict,
}

/// What a liar writes instead; `None`: it has no lie for this.
pub(super) fn lie(lie: Lie, bytes: &Bytes) -> Option<Bytes> {
    let mut frame = Frame::decode(bytes.get(4..)?).ok()?;
    match (lie, &mut frame) {
        // Sound would be a length of four bytes and so much.
        (Lie::Garbage, _) => return Some(Bytes::from(vec![0x5a; bytes.len().min(64)])),
        (Lie::Acknowledgement, Frame { ack: Some(ack), .. }) => ack.through += 1 << 20,
        (Lie::Verdict, Frame { verdict: Some(verdict), .. }) => {
            for kind in &mut verdict.kinds {
                if kind.differing.first() != Some(&0) {
                    kind.differing.insert(0, 0);
                }
            }
        }
        _ => return None,
    }
    let body = frame.encode_to_vec();
    Some([&(body.len() as u32).to_be_bytes()[..], &body].concat().into())
}
