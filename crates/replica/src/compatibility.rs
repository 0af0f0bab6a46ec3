//! Frames between neighbouring versions: what one of them lacks or does not know changes nothing else.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::frame::{Ack, Body, Frame, Hello, Put};

/// The frames of a later version: a field more in what is known, and a kind of frame more.
#[derive(Clone, PartialEq, Message)]
struct LaterFrame {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(string, tag = "90")]
    note: String,
    #[prost(oneof = "LaterBody", tags = "2, 4, 91")]
    body: Option<LaterBody>,
}

#[derive(Clone, PartialEq, Oneof)]
enum LaterBody {
    #[prost(message, tag = "2")]
    Hello(LaterHello),
    #[prost(message, tag = "4")]
    Put(LaterPut),
    #[prost(message, tag = "91")]
    Postcard(LaterHello),
}

#[derive(Clone, PartialEq, Message)]
struct LaterHello {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(uint32, tag = "2")]
    protocol_oldest: u32,
    #[prost(uint32, tag = "3")]
    node: u32,
    #[prost(fixed64, tag = "4")]
    incarnation: u64,
    #[prost(uint64, tag = "5")]
    epoch: u64,
    #[prost(fixed64, tag = "6")]
    digest: u64,
    #[prost(uint64, tag = "7")]
    sequence: u64,
    #[prost(bytes = "bytes", tag = "40")]
    abilities: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct LaterPut {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, tag = "2")]
    format: u32,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(uint64, tag = "4")]
    version: u64,
    #[prost(bytes = "bytes", tag = "5")]
    bytes: Bytes,
    #[prost(uint64, tag = "6")]
    left_ms: u64,
    #[prost(uint64, repeated, tag = "50")]
    shards: Vec<u64>,
}

/// A frame of an earlier version, which knew neither the time left nor refusals.
#[derive(Clone, PartialEq, Message)]
struct EarlierPut {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, tag = "2")]
    format: u32,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(uint64, tag = "4")]
    version: u64,
    #[prost(bytes = "bytes", tag = "5")]
    bytes: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct EarlierAck {
    #[prost(uint64, tag = "1")]
    through: u64,
}

#[test]
fn what_a_later_version_adds_is_skipped() {
    let (key, bytes) = (Bytes::from_static(b"key"), Bytes::from_static(b"bytes"));
    let put = Put { kind: 1, format: 2, key: key.clone(), version: 3, bytes: bytes.clone(), left_ms: 4 };
    let shards = vec![1, 2, 3];
    let later = LaterPut { kind: 1, format: 2, key, version: 3, bytes, left_ms: 4, shards };

    let frame = read(&LaterFrame {
        sequence: 9,
        note: "of a later version".to_owned(),
        body: Some(LaterBody::Put(later)),
    });

    assert_eq!(frame, Frame { sequence: 9, body: Some(Body::Put(put)) });
}

#[test]
fn a_later_greeting_is_understood() {
    let hello =
        Hello { protocol: 2, protocol_oldest: 1, node: 1, incarnation: 5, epoch: 7, digest: 8, sequence: 9 };
    let later = LaterHello {
        protocol: 2,
        protocol_oldest: 1,
        node: 1,
        incarnation: 5,
        epoch: 7,
        digest: 8,
        sequence: 9,
        abilities: Bytes::from_static(b"many"),
    };

    let frame = read(&LaterFrame { body: Some(LaterBody::Hello(later)), ..LaterFrame::default() });

    assert_eq!(frame.body, Some(Body::Hello(hello)));
}

#[test]
fn a_frame_of_an_unknown_kind_keeps_its_number() {
    let postcard = Some(LaterBody::Postcard(LaterHello::default()));

    let frame = read(&LaterFrame { sequence: 12, note: String::new(), body: postcard });

    assert_eq!(frame, Frame { sequence: 12, body: None });
}

#[test]
fn an_earlier_version_reads_what_it_knows_and_is_read_with_what_it_lacks() {
    let (key, bytes) = (Bytes::from_static(b"key"), Bytes::from_static(b"bytes"));
    let earlier = EarlierPut { kind: 1, format: 2, key: key.clone(), version: 3, bytes: bytes.clone() };
    let put = Put { kind: 1, format: 2, key, version: 3, bytes, left_ms: 4 };

    assert_eq!(EarlierPut::decode(&put.encode_to_vec()[..]), Ok(earlier.clone()));
    assert_eq!(Put::decode(&earlier.encode_to_vec()[..]), Ok(Put { left_ms: 0, ..put }));
    let ack = Ack::decode(&EarlierAck { through: 5 }.encode_to_vec()[..]);
    assert_eq!(ack, Ok(Ack { through: 5, refused: vec![] }));
    let ack = EarlierAck::decode(&Ack { through: 5, refused: vec![4] }.encode_to_vec()[..]);
    assert_eq!(ack, Ok(EarlierAck { through: 5 }));
}

fn read(frame: &LaterFrame) -> Frame {
    Frame::decode(&frame.encode_to_vec()[..]).unwrap()
}
