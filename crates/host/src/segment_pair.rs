//! The way of TCP's sequence numbers between guardian and engine: the guardian, which has the rights, tells the engine which
//! numbers connections begin with, and sends for it the segments that end those of a dead node.
//!
//! Each message is one datagram of some [`Segment`]s. Neither side waits for the other: what finds no room is not sent, and
//! the sender may try again. It is one pair for all engines of a guardian's life: what a dead one left is about connections
//! that ended with it.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use crate::segments::Segment;

/// Segments of one message.
pub const SEGMENTS_MAX: usize = 100;

/// Two addresses of 16 bytes with their ports, two numbers, whether there is a timestamp, and it.
const SEGMENT_BYTES: usize = 2 * 18 + 4 + 4 + 1 + 4;

/// One end; both are alike.
#[derive(Debug)]
pub struct SegmentEnd(UnixDatagram);

impl SegmentEnd {
    /// Makes a pair.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixDatagram::pair()?;
        one.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that was inherited.
    pub fn open(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// The same end, for another process.
    pub fn for_child(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }

    /// Sends as many of the segments as one message has room for, and gives how many those are: 0 if the other side does
    /// not read.
    pub fn send(&self, segments: &[Segment]) -> io::Result<usize> {
        let segments = &segments[..segments.len().min(SEGMENTS_MAX)];
        let mut bytes = Vec::with_capacity(segments.len() * SEGMENT_BYTES);
        for segment in segments {
            write(segment, &mut bytes);
        }
        match self.0.send(&bytes) {
            Ok(_) => Ok(segments.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Takes the next message; `false`: there is none for now.
    pub fn receive(&self, into: &mut Vec<Segment>) -> io::Result<bool> {
        let mut room = [0; SEGMENTS_MAX * SEGMENT_BYTES];
        match self.0.recv(&mut room) {
            Ok(length) => {
                into.extend(room[..length].chunks_exact(SEGMENT_BYTES).filter_map(read));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for SegmentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn write(segment: &Segment, bytes: &mut Vec<u8>) {
    for end in [segment.local, segment.remote] {
        let address = match end.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        bytes.extend_from_slice(&address.octets());
        bytes.extend_from_slice(&end.port().to_le_bytes());
    }
    bytes.extend_from_slice(&segment.ours.to_le_bytes());
    bytes.extend_from_slice(&segment.theirs.to_le_bytes());
    bytes.push(u8::from(segment.timestamp.is_some()));
    bytes.extend_from_slice(&segment.timestamp.unwrap_or(0).to_le_bytes());
}

fn read(bytes: &[u8]) -> Option<Segment> {
    let end = |at: usize| {
        let address = Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?).to_canonical();
        Some(SocketAddr::new(address, u16::from_le_bytes(*bytes.get(at + 16..)?.first_chunk()?)))
    };
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    Some(Segment {
        local: end(0)?,
        remote: end(18)?,
        ours: number(36)?,
        theirs: number(40)?,
        timestamp: if *bytes.get(44)? == 1 { Some(number(45)?) } else { None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_arrive_as_they_were_sent_and_nobody_waits() {
        let (guardian, engine) = SegmentEnd::pair().expect("a pair");
        let engine = SegmentEnd::open(engine.for_child().expect("a descriptor"));
        let sent: Vec<Segment> = (0..250)
            .map(|number| Segment {
                local: if number % 2 == 0 { at("192.0.2.10:5060") } else { at("[2001:db8::1]:5060") },
                remote: at("[2001:db8::7]:40000"),
                ours: number,
                theirs: u32::MAX - number,
                timestamp: (number % 3 == 0).then_some(number),
            })
            .collect();

        let mut left = &sent[..];
        while !left.is_empty() {
            left = &left[guardian.send(left).expect("room")..];
        }
        let mut received = Vec::new();
        while engine.receive(&mut received).expect("a message") {}
        assert_eq!(received, sent);

        let mut count = 0;
        while guardian.send(&sent).expect("an open pair") > 0 {
            count += 1;
            assert!(count < 100_000, "an end that nobody reads is full at some time");
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }
}
