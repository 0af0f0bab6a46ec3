//! What a node says of itself, twenty times a second, over every path.

use std::time::Duration;

use crate::{Epoch, HardwareAddress, Holder, ListVersion, ServiceId, VoterId};

/// How often a node says how it is.
pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(50);

/// What a node says of itself for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    /// Which service.
    pub service: ServiceId,
    /// Who says it.
    pub from: Holder,
    /// The voter on that host.
    pub voter: VoterId,
    /// What it is.
    pub stance: Stance,
    /// The highest epoch that it knows; of an active node the one in force.
    pub epoch: Epoch,
    /// What is wrong with it: 0 is nothing, more is worse.
    pub ailment: u8,
    /// How much of what the other holds it holds too, 0 to 100.
    pub ready: u8,
    /// Whether it is active and asks to be relieved: a switchover, a stop, or its health.
    pub wants_relief: bool,
    /// Whether it hears the node that it says this to: a cut may go one way only.
    pub hears_you: bool,
    /// Whether it is active and the witness has voted for it too; without a witness: whether it is active.
    pub has_witness: bool,
    /// The version of the list of voters that it counts by.
    pub list: ListVersion,
    /// A digest of the settings that must be the same on all nodes.
    pub settings: u64,
    /// The calendar in milliseconds since 1970, to see clocks that are apart.
    pub wall_ms: u64,
    /// Where it lets in, before it is active, what the active node passes on in a hand-over; `None`: it can not.
    pub admits_at: Option<HardwareAddress>,
}

/// What a node is for a service, as others need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stance {
    /// It is active.
    Active,
    /// It could be.
    Standby,
    /// It is up, and can not be active: its engine is not ready, or its disk failed.
    Unable,
    /// It has taken itself out: a stop, maintenance, or an operator's wish.
    Away,
}
