//! Frames as a liar writes them.

use bytes::Bytes;
use clock::Now;
use engine::copies::{BINDING, KNOWN};
use prost::Message;
use replica::{
    Capsule, ConnectionNumber, Deframer, Epoch, Holdings, Origin, Place, Receiver, ReceiverOutput, Sender,
    SenderOutput,
};
use routing::StoredBinding;
use routing::account::{BINDING_FORMAT, BindingKey};

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

/// What a node says that takes itself for the active one under this epoch, to a standby that believes it: it greets, and tells
/// of bindings.
pub(super) fn usurp(now: Now, me: Origin, epoch: Epoch, bindings: &[StoredBinding]) -> Vec<Bytes> {
    let key = crate::node::digest_key();
    let mut sender = Sender::new(me, epoch, key, Holdings::new());
    let believer = Origin { node: 1 - me.node, incarnation: 0 };
    let mut believer = Receiver::new(believer, key, &KNOWN, Epoch(0), Holdings::new());
    let (mut said, mut heard) = (Vec::new(), Vec::new());
    sender.connected(now.instant, &mut said);
    for frame in said.iter().filter_map(sent).flat_map(frames) {
        believer.handle_frame(now.instant, ConnectionNumber(0), frame, &mut heard);
    }
    for output in heard {
        if let ReceiverOutput::Send(_, bytes) = output {
            frames(&bytes).into_iter().for_each(|frame| sender.handle_frame(now.instant, frame, &mut said));
        }
    }
    for (stored, number) in bindings.iter().zip(0..) {
        let (key, bytes) = (BindingKey::of(stored).to_bytes(), stored.to_capsule());
        let capsule =
            Capsule { kind: BINDING, format: BINDING_FORMAT, key, bytes, left: stored.left(now.wall) };
        let _posted = sender.put(now.instant, capsule, Place { owner: 0, number }, &mut said);
    }
    said.iter().filter_map(sent).cloned().collect()
}

fn sent(output: &SenderOutput) -> Option<&Bytes> {
    match output {
        SenderOutput::Send(bytes) => Some(bytes),
        _ => None,
    }
}

fn frames(bytes: &Bytes) -> Vec<replica::Frame> {
    let mut deframer = Deframer::new();
    deframer.push(bytes);
    std::iter::from_fn(|| deframer.next_frame().ok().flatten()).collect()
}
