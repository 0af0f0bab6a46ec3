//! What the forwarder of packets is to do for one stream.

use std::net::{IpAddr, SocketAddr};

use clock::Instant;

use super::message::{Side, Tag};
use super::side::SideMedia;
use crate::latch::{Expected, Latched};
use crate::ports::Ports;
use crate::sdp::Carriage;

/// Names a stream within a call: a dialog's media line, and which of its ports if it has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The dialog.
    pub dialog: Tag,
    /// The media line, from 0.
    pub line: u16,
    /// The port of the line, from 0; nearly every line has one.
    pub pair: u16,
}

/// A stream between two sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What carries it.
    pub carriage: Carriage,
    /// Whether RTCP comes and goes on the port of RTP, because both sides say so.
    pub is_muxed: bool,
    /// Towards the caller.
    pub caller: Leg,
    /// Towards the callee.
    pub callee: Leg,
    /// Clock rates of payload types.
    pub clock_rates: Vec<(u8, u32)>,
    /// When the signalling last spoke of it: the windows of its latches count from here.
    pub signalled_at: Instant,
}

/// One side of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The port that this side sends media to; RTCP is on the next one.
    pub local: SocketAddr,
    /// What its signalling says of media.
    pub media: Expected,
    /// What it says of RTCP.
    pub rtcp: Expected,
    /// Whether it says that it sends, so that its silence means something.
    pub sends: bool,
    /// Where it was latched on to by the node before.
    pub latched: Option<Latched>,
}

impl Plan {
    /// One side's leg.
    pub fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }
}

/// The relay's addresses on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    /// The address that sockets are bound to.
    pub local: IpAddr,
    /// The address that is told: the same, or the one outside of a 1:1 NAT.
    pub named: IpAddr,
}

/// The relay's addresses on both sides of a call; they may be of different families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faces {
    /// Towards the caller.
    pub caller: Face,
    /// Towards the callee.
    pub callee: Face,
}

impl Faces {
    /// The address towards one side.
    pub fn towards(&self, side: Side) -> Face {
        match side {
            Side::Caller => self.caller,
            Side::Callee => self.callee,
        }
    }
}

/// The ports of one media line, which face the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Legs {
    pub(super) caller: Ports,
    pub(super) callee: Ports,
}

impl Legs {
    pub(super) fn towards(&self, side: Side) -> Ports {
        match side {
            Side::Caller => self.caller,
            Side::Callee => self.callee,
        }
    }
}

/// What both sides have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreement {
    pub(super) caller: SideMedia,
    pub(super) callee: SideMedia,
}

impl Agreement {
    pub(super) fn new(by: Side, offer: SideMedia, answer: SideMedia) -> Self {
        match by {
            Side::Caller => Self { caller: offer, callee: answer },
            Side::Callee => Self { caller: answer, callee: offer },
        }
    }

    /// The streams of one line, of which both sides want the same number or one side fewer.
    pub(super) fn plans(&self, line: usize, legs: Legs, faces: &Faces, signalled_at: Instant) -> Vec<Plan> {
        let (Some(caller), Some(callee)) = (self.caller.lines.get(line), self.callee.lines.get(line)) else {
            return Vec::new();
        };
        let pairs = caller.ports.min(callee.ports).min(legs.caller.pairs()).min(legs.callee.pairs());
        let plan = |pair: u16| {
            let leg = |side: Side, media: &SideMedia| {
                let own = &media.lines[line];
                // A line without RTCP has its ports one behind the other.
                let step = if own.carriage.has_rtcp() { 2 * pair } else { pair };
                let (expected, rtcp) = media.expected(own, pair);
                Leg {
                    local: SocketAddr::new(faces.towards(side).local, legs.towards(side).rtp() + step),
                    media: expected,
                    rtcp,
                    sends: own.sends,
                    latched: None,
                }
            };
            let mut clock_rates = caller.clock_rates.clone();
            clock_rates.extend(&callee.clock_rates);
            clock_rates.sort_unstable();
            clock_rates.dedup_by_key(|(payload, _)| *payload);
            Plan {
                carriage: callee.carriage,
                is_muxed: caller.is_muxed && callee.is_muxed,
                caller: leg(Side::Caller, &self.caller),
                callee: leg(Side::Callee, &self.callee),
                clock_rates,
                signalled_at,
            }
        };
        (0..pairs).map(plan).collect()
    }
}
