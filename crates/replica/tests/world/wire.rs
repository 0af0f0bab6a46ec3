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

/// What is in a frame with its length, if a liar has a use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ack,
    Verdict,
    Other,
}

pub fn kind_of(bytes: &Bytes) -> Kind {
    match Frame::decode(&bytes[4..]) {
        Ok(Frame { ack: Some(_), .. }) => Kind::Ack,
        Ok(Frame { verdict: Some(_), .. }) => Kind::Verdict,
        _ => Kind::Other,
    }
}

/// An acknowledgement that says that much more has arrived.
pub fn ack_more(bytes: &Bytes, more: u64) -> Bytes {
    change(bytes, |frame| {
        if let Some(ack) = &mut frame.ack {
            ack.through += more;
        }
    })
}

/// A verdict that says that the first bucket of each kind differs.
pub fn differ(bytes: &Bytes) -> Bytes {
    change(bytes, |frame| {
        for kind in frame.verdict.iter_mut().flat_map(|verdict| &mut verdict.kinds) {
            if kind.differing.first() != Some(&0) {
                kind.differing.insert(0, 0);
            }
        }
    })
}

fn change(bytes: &Bytes, change: impl FnOnce(&mut Frame)) -> Bytes {
    let Ok(mut frame) = Frame::decode(&bytes[4..]) else { return bytes.clone() };
    change(&mut frame);
    let body = frame.encode_to_vec();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat().into()
}
