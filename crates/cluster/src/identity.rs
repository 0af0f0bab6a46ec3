//! Who is who.

use lease::Epoch;

use crate::fault::{self, Fault};

/// One host that can be active, by its place in the configured list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

/// A host that votes, by its place in the configured list: the nodes come first, in their order, then the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u8);

impl From<NodeId> for MemberId {
    fn from(NodeId(place): NodeId) -> Self {
        Self(place)
    }
}

/// An address of Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardwareAddress(pub [u8; 6]);

/// One start of a guardian: random, so that two starts of one node, or two copies of it, differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// Who holds or wants a lease. Another incarnation of the same node is another holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
}

/// Whether one holder is the other: another start of a node is another holder.
pub(crate) fn same_holder(one: Holder, other: Holder) -> bool {
    if fault::is_planted(Fault::OneIncarnation) { one.node == other.node } else { one == other }
}

/// A voter, made at its first start. One whose disk was emptied has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterId(pub u64);

/// A set of virtual addresses that move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u8);

/// The version of a list of voters: the epoch of the holder that made it, and its place among those of that epoch. So two
/// holders never make the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListVersion(pub u64);

impl ListVersion {
    /// That of the list with which nodes begin.
    pub const FIRST: Self = Self(1);

    /// The next version, made under `epoch`; `None` if that epoch has made all that it can.
    pub fn next(self, epoch: Epoch) -> Option<Self> {
        let first = epoch.0.checked_mul(LISTS_OF_EPOCH)?;
        let next = first.max(self.0 + 1);
        (next - first < LISTS_OF_EPOCH).then_some(Self(next))
    }
}

/// How many lists one holder can make; a change is two.
const LISTS_OF_EPOCH: u64 = 256;

/// The number of a question, never repeated within an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u64);
