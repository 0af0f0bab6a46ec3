//! What an engine needs of the other node of a pair, and what that node needs of this one's partitions. The edge joins
//! both; shards and partitions never see it.

use bytes::Bytes;
use replica::{
    Apply, Capsule, Cause, Epoch, Fetched, Kind, Place, Posted, ReceiverView, SenderView, Ticket, Wanted,
};

use crate::copies::Replica;

/// The other node, and the way to it. No call waits for the network.
pub trait Peer: Send + Sync {
    /// An entry is new or changed. To be called under the owner's lock, so that the changes of one entry keep their order.
    fn put(&self, capsule: Capsule, place: Place) -> Posted;

    /// An entry is gone. As [`Peer::put`].
    fn remove(&self, kind: Kind, key: &[u8]) -> Posted;

    /// All that was ever put or removed, for who waits without a change of his own.
    fn everything(&self) -> Posted;

    /// Tells [`Owners::settled`] of each, perhaps before it returns, when the other node holds what was posted, or that it
    /// may not.
    fn wait(&self, waits: &[(Ticket, Posted)]);

    /// This node is active from here on: when this returns, nothing that another node said is given to an owner any more.
    /// It waits for owners that are at work, so it is for nobody who has a lock of theirs.
    fn become_active(&self, epoch: Epoch);

    /// This node, which is active, has raised its epoch, and nobody else was active meanwhile: nobody who waits is told.
    fn raise(&self, epoch: Epoch);

    /// This node stands by, and hears nobody with an epoch lower than this. Whoever waits is told. As
    /// [`Peer::become_active`], it is for nobody who has a lock of an owner.
    fn become_standby(&self, highest: Epoch);

    /// How much of everything the standby has, as far as this node knows: 0 to 100.
    fn ready(&self) -> u8;

    /// How many messages are on their way to the standby and not yet there.
    fn on_the_way(&self) -> usize;

    /// How it is.
    fn view(&self) -> PeerView;
}

/// The owners of all entries. No call may block for longer than a short lock, and none is made while the peer's own lock is
/// held, so that an owner may call [`Peer`] while it holds its lock; but not change the peer's role, which waits for
/// owners that are at work.
pub trait Owners: Send + Sync + 'static {
    /// On the standby: takes an entry; `None` if there is no room for it, and then the earlier version stays.
    fn apply(&self, apply: Apply) -> Option<Place>;

    /// On the standby: ends an entry.
    fn remove(&self, kind: Kind, place: Place);

    /// On the active node: the entries as they are, each one that is asked for.
    fn fetch(&self, wanted: Vec<Wanted>) -> Vec<Fetched>;

    /// On the active node: these waits have ended.
    fn settled(&self, settled: &[(Ticket, Outcome)]);

    /// The other node knows of a higher epoch: this node is not the active one any more.
    fn superseded(&self, epoch: Epoch);
}

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other node holds it.
    Held,
    /// It may not, and the service goes on.
    Degraded(Cause),
}

/// An entry that a node has from its own disk: what it begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEntry {
    /// What it is.
    pub kind: Kind,
    /// What tells it from others of its kind.
    pub key: Bytes,
    /// Where its owner has it.
    pub place: Place,
}

/// The other node, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// What is known by the role that this node has.
    pub by_role: ByRole,
    /// What happened on the way to it.
    pub counts: PeerCounts,
    /// What keeps this node from calling or being called, one text for each address; empty if nothing does.
    pub troubles: Vec<String>,
}

/// What a node knows of the other one by its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByRole {
    /// This node is active.
    Active(SenderView),
    /// This node is a standby.
    Standby(ReceiverView),
}

/// What happened on the way to the other node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Calls to it.
    pub called: u64,
    /// Calls that did not get through.
    pub unreached: u64,
    /// Handshakes that failed, on either side: another key, or nothing that is TLS.
    pub not_ours: u64,
    /// Connections from addresses that are not the other node's, or that were too many.
    pub strangers: u64,
}

impl Replica for &dyn Peer {
    fn put(&mut self, capsule: Capsule, place: Place) -> Posted {
        Peer::put(*self, capsule, place)
    }

    fn remove(&mut self, kind: Kind, key: &[u8]) -> Posted {
        Peer::remove(*self, kind, key)
    }

    fn everything(&mut self) -> Posted {
        Peer::everything(*self)
    }
}
