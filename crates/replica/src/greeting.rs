//! The first frames of a connection: who speaks, under which epoch, and whether both can understand each other.

use bytes::Bytes;
use lease::Epoch;

use crate::digest::DigestKey;
use crate::frame::{Body, Frame, Hello, PROTOCOL, PROTOCOL_OLDEST, Welcome};
use crate::framing;

/// One start of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node's place in the configured list.
    pub node: u8,
    /// Its start: random.
    pub incarnation: u64,
}

/// Why a node is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Its epoch is lower than one that was seen.
    OldEpoch,
    /// Another node speaks under the same epoch.
    OtherHolder,
    /// The node that was called is no standby.
    NotStandby,
    /// There is no version of the protocol that both speak.
    Protocol,
    /// They hash with another key, or in another way.
    DigestDiffers,
    /// It calls itself.
    Itself,
    /// Something that this version does not know.
    Unknown,
}

const REFUSALS: [Refusal; 6] = [
    Refusal::OldEpoch,
    Refusal::OtherHolder,
    Refusal::NotStandby,
    Refusal::Protocol,
    Refusal::DigestDiffers,
    Refusal::Itself,
];

impl Refusal {
    fn to_number(self) -> u32 {
        REFUSALS.iter().position(|known| *known == self).map_or(u32::MAX, |place| place as u32 + 1)
    }

    fn of_number(number: u32) -> Option<Self> {
        let place = usize::try_from(number.checked_sub(1)?).unwrap_or(usize::MAX);
        Some(REFUSALS.get(place).copied().unwrap_or(Self::Unknown))
    }
}

/// What a node that is no standby answers to whoever calls it as one: a caller whose epoch is lower learns so.
pub fn turn_away(me: Origin, epoch: Epoch) -> Bytes {
    framing::to_bytes(&welcome(me, epoch, Some(Refusal::NotStandby), Vec::new()))
}

/// The first frame of the active node. `sequence` is the number of the first frame of its stream.
pub(crate) fn hello(me: Origin, epoch: Epoch, key: &DigestKey, sequence: u64) -> Frame {
    let hello = Hello {
        protocol: PROTOCOL,
        protocol_oldest: PROTOCOL_OLDEST,
        node: me.node.into(),
        incarnation: me.incarnation,
        epoch: epoch.0,
        digest: key.parameters(),
        sequence,
    };
    Frame { sequence: 0, body: Some(Body::Hello(hello)) }
}

/// The standby's answer.
pub(crate) fn welcome(me: Origin, epoch: Epoch, refusal: Option<Refusal>, kinds: Vec<u32>) -> Frame {
    let welcome = Welcome {
        protocol: PROTOCOL,
        protocol_oldest: PROTOCOL_OLDEST,
        node: me.node.into(),
        incarnation: me.incarnation,
        epoch: epoch.0,
        refusal: refusal.map_or(0, Refusal::to_number),
        kinds,
    };
    Frame { sequence: 0, body: Some(Body::Welcome(welcome)) }
}

/// What speaks against a hello by itself, epochs left aside.
pub(crate) fn objection(me: Origin, key: &DigestKey, hello: &Hello) -> Option<Refusal> {
    if !speaks(hello.protocol, hello.protocol_oldest) {
        Some(Refusal::Protocol)
    } else if hello.digest != key.parameters() {
        Some(Refusal::DigestDiffers)
    } else if hello.node == u32::from(me.node) {
        Some(Refusal::Itself)
    } else {
        None
    }
}

/// Why the standby does not let this node in, if it does not.
pub(crate) fn refusal_of(welcome: &Welcome) -> Option<Refusal> {
    let own = (!speaks(welcome.protocol, welcome.protocol_oldest)).then_some(Refusal::Protocol);
    Refusal::of_number(welcome.refusal).or(own)
}

/// The origin in a greeting.
pub(crate) fn origin(node: u32, incarnation: u64) -> Origin {
    Origin { node: u8::try_from(node).unwrap_or(u8::MAX), incarnation }
}

fn speaks(protocol: u32, oldest: u32) -> bool {
    oldest <= PROTOCOL && protocol >= PROTOCOL_OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Origin = Origin { node: 1, incarnation: 5 };
    const KEY: DigestKey = DigestKey::new([1; 16]);

    #[test]
    fn every_refusal_is_read_as_it_was_written() {
        for refusal in REFUSALS {
            assert_eq!(Refusal::of_number(refusal.to_number()), Some(refusal));
        }
        assert_eq!(Refusal::of_number(0), None);
        assert_eq!(Refusal::of_number(99), Some(Refusal::Unknown));
    }

    #[test]
    fn neighbouring_versions_speak_and_distant_ones_do_not() {
        assert_eq!(objection(ME, &KEY, &hello_of(PROTOCOL + 1, PROTOCOL)), None);
        assert_eq!(objection(ME, &KEY, &hello_of(PROTOCOL + 2, PROTOCOL + 1)), Some(Refusal::Protocol));
        assert_eq!(
            objection(ME, &KEY, &hello_of(PROTOCOL_OLDEST - 1, PROTOCOL_OLDEST - 1)),
            Some(Refusal::Protocol)
        );
    }

    #[test]
    fn who_hashes_with_another_key_is_refused() {
        assert_eq!(
            objection(ME, &DigestKey::new([2; 16]), &hello_of(PROTOCOL, PROTOCOL)),
            Some(Refusal::DigestDiffers)
        );
    }

    fn hello_of(protocol: u32, protocol_oldest: u32) -> Hello {
        let Some(Body::Hello(hello)) = hello(Origin { node: 0, incarnation: 1 }, Epoch(1), &KEY, 1).body
        else {
            unreachable!("that is what it makes")
        };
        Hello { protocol, protocol_oldest, ..hello }
    }
}
