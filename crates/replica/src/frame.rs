//! What is said between two nodes, as Protocol Buffers.
//!
//! Fields are added and never given another meaning; what a node does not know it skips. A frame of an unknown kind is
//! skipped too, and keeps its number in the stream, so that nodes of neighbouring versions understand each other.

use bytes::Bytes;
use prost::{Message, Oneof};

/// The version of the protocol, and the oldest that is still spoken.
pub(crate) const PROTOCOL: u32 = 1;
pub(crate) const PROTOCOL_OLDEST: u32 = 1;

/// The longest frame: the longest capsule, or the list of a bucket.
pub const FRAME_BYTES_MAX: usize = 256 << 10;

/// Key and bytes of one capsule together. A transaction holds a request, which has at most 64 KiB.
pub const CAPSULE_BYTES_MAX: usize = 160 << 10;

/// Entries that one list names: 16 bytes each.
pub(crate) const LIST_MAX: usize = 4_096;

/// One frame.
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// The place in the sender's stream; 0 for what is not part of it.
    #[prost(uint64, tag = "1")]
    pub(crate) sequence: u64,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Body {
    #[prost(message, tag = "2")]
    Hello(Hello),
    #[prost(message, tag = "3")]
    Welcome(Welcome),
    #[prost(message, tag = "4")]
    Put(Put),
    #[prost(message, tag = "5")]
    Remove(Remove),
    #[prost(message, tag = "6")]
    Ack(Ack),
    #[prost(message, tag = "7")]
    Check(Check),
    #[prost(message, tag = "8")]
    Verdict(Verdict),
    #[prost(message, tag = "9")]
    Ask(Ask),
    #[prost(message, tag = "10")]
    List(List),
    #[prost(message, tag = "11")]
    Raise(Raise),
}

/// The first frame of the active node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    #[prost(uint32, tag = "2")]
    pub protocol_oldest: u32,
    #[prost(uint32, tag = "3")]
    pub node: u32,
    #[prost(fixed64, tag = "4")]
    pub incarnation: u64,
    #[prost(uint64, tag = "5")]
    pub epoch: u64,
    /// Both must hash alike.
    #[prost(fixed64, tag = "6")]
    pub digest: u64,
    /// The number of the first frame of the stream.
    #[prost(uint64, tag = "7")]
    pub sequence: u64,
}

/// The standby's answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Welcome {
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    #[prost(uint32, tag = "2")]
    pub protocol_oldest: u32,
    #[prost(uint32, tag = "3")]
    pub node: u32,
    #[prost(fixed64, tag = "4")]
    pub incarnation: u64,
    /// The highest epoch that it has seen.
    #[prost(uint64, tag = "5")]
    pub epoch: u64,
    /// 0: come in. Else why not.
    #[prost(uint32, tag = "6")]
    pub refusal: u32,
    /// What it understands.
    #[prost(uint32, repeated, tag = "7")]
    pub kinds: Vec<u32>,
}

/// An entry is this now.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Put {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint32, tag = "2")]
    pub format: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    #[prost(uint64, tag = "4")]
    pub version: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub bytes: Bytes,
    #[prost(uint64, tag = "6")]
    pub left_ms: u64,
}

/// An entry is gone.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Remove {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(fixed64, tag = "2")]
    pub hash: u64,
}

/// The active node has raised its epoch since its hello. What it says goes on to be marked with the one of the hello.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Raise {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
}

/// All of the stream up to here was applied, but for what is named.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ack {
    #[prost(uint64, tag = "1")]
    pub through: u64,
    #[prost(uint64, repeated, tag = "2")]
    pub refused: Vec<u64>,
}

/// What the active node has, at this place of the stream.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Check {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(message, repeated, tag = "2")]
    pub kinds: Vec<KindSums>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KindSums {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint64, tag = "2")]
    pub count: u64,
    #[prost(fixed64, repeated, tag = "3")]
    pub sums: Vec<u64>,
}

/// What the standby has instead.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Verdict {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(message, repeated, tag = "2")]
    pub kinds: Vec<KindVerdict>,
    /// Entries that it does not understand, and keeps for nobody.
    #[prost(uint64, tag = "3")]
    pub skipped: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KindVerdict {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint64, tag = "2")]
    pub count: u64,
    /// The buckets whose sums differ, in order.
    #[prost(uint32, repeated, tag = "3")]
    pub differing: Vec<u32>,
}

/// What do you have from here to there?
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ask {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(fixed64, tag = "2")]
    pub first: u64,
    #[prost(fixed64, tag = "3")]
    pub last: u64,
    /// How ready the standby is, for it to show.
    #[prost(uint32, tag = "4")]
    pub ready: u32,
}

/// All that the standby has from `first` to `through`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct List {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(fixed64, tag = "2")]
    pub first: u64,
    #[prost(fixed64, tag = "3")]
    pub through: u64,
    /// By hash, in order.
    #[prost(fixed64, repeated, tag = "4")]
    pub hashes: Vec<u64>,
    #[prost(fixed64, repeated, tag = "5")]
    pub stamps: Vec<u64>,
}
