//! What a shard and those who forward packets say to each other.
//!
//! A shard says by [`RelayOrder`]s which ports are bound and what streams there are, and hears by [`RelayEvent`]s where
//! packets come from and when none come. A session belongs to one shard; whoever carries orders remembers of which, and
//! brings the events back to it.

use std::time::Duration;

use media::latch::Latched;
use media::offer_answer::{Broken, Face, Faces, Output, Side, StreamId};
use media::ports::PortRange;
use media::sdp::Origin;
use media::stream::StreamFigures;
use routing::SessionName;

/// How calls are relayed. Both nodes of a pair have the same range of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySettings {
    /// The ports that all shards of this node share.
    pub ports: PortRange,
    /// The relay's addresses. Towards a side it is the one of the listener that the side uses if it is among them, else the
    /// first of the same family, else the first.
    pub faces: Vec<Face>,
    /// What becomes of what can not be relayed.
    pub broken: Broken,
    /// What becomes of `o=` in a description.
    pub origin: Origin,
    /// Whether rtpengines relay the calls that begin; of the ports and addresses here only the addresses' families count then.
    pub is_elsewhere: bool,
    /// After how long without a packet a call that passes an rtpengine is ended; `None`: never. Our own relay has its own.
    pub silence: Option<Duration>,
}

/// Something that is to be done for a session, in the order in which it is said.
///
/// A `Bind` of ports that are bound for this session is said again at a takeover, and so is `Start`, which then takes the
/// place of a stream of that name. Who is not active any more ends all streams by itself, and keeps the ports bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayOrder {
    /// The session.
    pub session: SessionName,
    /// The relay's addresses on its two sides.
    pub faces: Faces,
    /// What is to be done.
    pub output: Output,
}

/// Something that has happened to a stream of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayEvent {
    /// The session.
    pub session: SessionName,
    /// The stream.
    pub stream: StreamId,
    /// What.
    pub report: RelayReport,
}

/// What has happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayReport {
    /// Packets of a side come from here.
    Latched(Side, Latched),
    /// No packet of either side has come for too long.
    Silent,
    /// How it went: told when the stream has ended.
    Figures(StreamFigures),
}
