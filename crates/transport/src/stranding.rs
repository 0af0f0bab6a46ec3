//! A stream connection as another node needs to know it, when this one dies with it.
//!
//! The peer of such a connection does not know that its other end is gone, and nothing tells it but its own next word,
//! which may be many minutes away. A segment without data that repeats what was acknowledged last makes it speak at once
//! (RFC 9293 §3.8.4), and to that the kernel, which has no such connection, answers by a reset. It works through a NAT
//! that looks at sequence numbers only with true ones; they may be old by some of the peer's windows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clock::WallTime;

use crate::{LocalAddr, RemoteAddr};

/// The version of the encoding.
pub const STRANDED_FORMAT: u32 = 1;

const HAS_CALL: u8 = 1;
const HAS_CLOCK: u8 = 2;

/// How much later than it is a segment says that it is: the clocks of two nodes differ, and a peer drops what seems
/// older than what it had (RFC 7323 §5).
const CLOCK_MARGIN_MS: u32 = 30_000;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    /// Our side.
    pub local: LocalAddr,
    /// The peer's side.
    pub remote: RemoteAddr,
}

/// The numbers with which a connection began, as its SYN-ACK has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Whose they are.
    pub ends: Ends,
    /// Our initial sequence number.
    pub ours: u32,
    /// The peer's.
    pub theirs: u32,
    /// The value of our clock in segments, at wall time 0; `None`: segments carry none.
    pub clock: Option<u32>,
}

/// A connection as it may be told to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// Whose it is.
    pub ends: Ends,
    /// The first byte of ours that the peer had not acknowledged.
    pub ours: u32,
    /// The first byte of the peer's that had not come.
    pub theirs: u32,
    /// As in [`Handshake`].
    pub clock: Option<u32>,
    /// Whether a call goes by it.
    pub has_call: bool,
}

/// A segment without data that lets a peer speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tickle {
    /// From our side to the peer's.
    pub ends: Ends,
    /// Its sequence number.
    pub sequence: u32,
    /// What it acknowledges.
    pub acknowledged: u32,
    /// Its timestamp (RFC 7323), if the connection has such.
    pub timestamp: Option<u32>,
}

/// What is no capsule of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStranded;

impl Handshake {
    /// Takes the clock from one of our segments, which had this value at this time.
    pub fn clock_at(value: u32, now: WallTime) -> u32 {
        value.wrapping_sub(milliseconds(now))
    }
}

impl Ends {
    /// What tells a connection from others.
    pub fn to_key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(38);
        for end in [self.local.0, self.remote.0] {
            match end.ip().to_canonical() {
                IpAddr::V4(address) => key.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => key.extend_from_slice(&address.octets()),
            }
            key.extend_from_slice(&end.port().to_be_bytes());
        }
        key
    }

    /// Reads what [`Self::to_key`] wrote.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (local, remote) = match key.len() {
            12 | 36 => key.split_at(key.len() / 2),
            _ => return None,
        };
        Some(Self { local: LocalAddr(end(local)?), remote: RemoteAddr(end(remote)?) })
    }
}

impl Stranded {
    /// The capsule; the key is that of its [`Ends`].
    pub fn to_capsule(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(13);
        bytes.extend_from_slice(&self.ours.to_be_bytes());
        bytes.extend_from_slice(&self.theirs.to_be_bytes());
        let has_clock = if self.clock.is_some() { HAS_CLOCK } else { 0 };
        bytes.push(if self.has_call { HAS_CALL | has_clock } else { has_clock });
        if let Some(clock) = self.clock {
            bytes.extend_from_slice(&clock.to_be_bytes());
        }
        bytes
    }

    /// Reads a capsule. What a later version has written behind is left.
    ///
    /// # Errors
    ///
    /// [`NotStranded`] for what no node has written.
    pub fn from_capsule(key: &[u8], bytes: &[u8]) -> Result<Self, NotStranded> {
        let ends = Ends::from_key(key).ok_or(NotStranded)?;
        // Nobody could be spoken to there.
        if !ends.remote.is_host() || ends.local.0.port() == 0 {
            return Err(NotStranded);
        }
        let number = |at: usize| {
            bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk().copied())
                .map(u32::from_be_bytes)
                .ok_or(NotStranded)
        };
        let flags = *bytes.get(8).ok_or(NotStranded)?;
        let clock = if flags & HAS_CLOCK != 0 { Some(number(9)?) } else { None };
        Ok(Self { ends, ours: number(0)?, theirs: number(4)?, clock, has_call: flags & HAS_CALL != 0 })
    }

    /// The segment that lets the peer speak.
    pub fn tickle(&self, now: WallTime) -> Tickle {
        Tickle {
            ends: self.ends,
            // RFC 9293 §3.8.4: one below what the peer waits for, or it would take it for a plain acknowledgement.
            sequence: self.ours.wrapping_sub(1),
            acknowledged: self.theirs,
            timestamp: self
                .clock
                .map(|clock| clock.wrapping_add(milliseconds(now)).wrapping_add(CLOCK_MARGIN_MS)),
        }
    }
}

/// Of the wall clock, as far as a timestamp counts.
fn milliseconds(now: WallTime) -> u32 {
    now.as_millis() as u32
}

fn end(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_last_chunk::<2>()?;
    let address = match address.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capsule_says_what_was_told_in_either_family() {
        for (local, remote) in
            [("192.0.2.10:5060", "198.51.100.7:40001"), ("[2001:db8::10]:5060", "[2001:db8:1::7]:40001")]
        {
            for (clock, has_call) in [(None, false), (Some(0xffff_fff0), true)] {
                let ends = Ends { local: LocalAddr(at(local)), remote: RemoteAddr(at(remote)) };
                let told = Stranded { ends, ours: 7, theirs: u32::MAX, clock, has_call };
                let (key, mut bytes) = (ends.to_key(), told.to_capsule());

                for length in 0..bytes.len() {
                    assert_eq!(Stranded::from_capsule(&key, &bytes[..length]), Err(NotStranded), "{length}");
                }
                bytes.push(9);
                assert_eq!(Stranded::from_capsule(&key, &bytes), Ok(told));
            }
        }
    }

    #[test]
    fn what_leads_to_nobody_is_no_connection() {
        let bytes = Stranded::to_capsule(&Stranded {
            ends: Ends { local: LocalAddr(at("192.0.2.10:5060")), remote: RemoteAddr(at("192.0.2.7:1")) },
            ours: 1,
            theirs: 1,
            clock: None,
            has_call: false,
        });
        for remote in ["0.0.0.0:5060", "255.255.255.255:5060", "224.0.0.1:5060", "192.0.2.7:0"] {
            let ends = Ends { local: LocalAddr(at("192.0.2.10:5060")), remote: RemoteAddr(at(remote)) };
            assert_eq!(Stranded::from_capsule(&ends.to_key(), &bytes), Err(NotStranded), "{remote}");
        }
        for length in [0, 11, 13, 24, 37] {
            assert_eq!(Stranded::from_capsule(&vec![1; length], &bytes), Err(NotStranded), "{length}");
        }
    }

    #[test]
    fn a_tickle_is_one_below_what_the_peer_waits_for_and_not_older_than_what_it_had() {
        let ends = Ends { local: LocalAddr(at("192.0.2.10:5060")), remote: RemoteAddr(at("192.0.2.7:1")) };
        let began = WallTime::from_millis(1_700_000_000_000);
        let clock = Some(Handshake::clock_at(100, began));
        let told = Stranded { ends, ours: 0, theirs: 5, clock, has_call: false };

        let tickle = told.tickle(began + std::time::Duration::from_millis(50));

        assert_eq!((tickle.sequence, tickle.acknowledged), (u32::MAX, 5));
        assert_eq!(tickle.timestamp, Some(150 + CLOCK_MARGIN_MS));
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }
}
