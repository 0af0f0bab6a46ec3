//! Where messages come from and where they go.

use crate::{RemoteAddr, Transport};

/// The number of a listener in [`Listeners`](crate::Listeners); it stays the same over a reload while the
/// listener's (address, port, transport) stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

/// One connection. It is never used twice, not even by another start or another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The node that has, or had, the connection.
    pub node: u8,
    /// The start of that node's engine: a number that is drawn at each start.
    pub boot: u32,
    /// The listener that accepted it, or from whose address it was opened.
    pub listener: ListenerId,
    /// Counts up in one boot.
    pub number: u64,
}

/// A way to and from one peer (RFC 5626 §3.2): a pair of addresses, or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flow {
    /// Datagrams between a listener and a remote address.
    Datagram {
        /// Our side.
        listener: ListenerId,
        /// The peer's side.
        remote: RemoteAddr,
    },
    /// A connection.
    Connection {
        /// Which one.
        id: ConnectionId,
        /// The peer's side of it.
        remote: RemoteAddr,
    },
}

impl Flow {
    /// Our side of the flow.
    pub const fn listener(&self) -> ListenerId {
        match self {
            Self::Datagram { listener, .. } => *listener,
            Self::Connection { id, .. } => id.listener,
        }
    }

    /// The peer's side of the flow.
    pub const fn remote(&self) -> RemoteAddr {
        match self {
            Self::Datagram { remote, .. } | Self::Connection { remote, .. } => *remote,
        }
    }

    /// Whether the transport itself repeats what is lost.
    pub const fn is_reliable(&self) -> bool {
        matches!(self, Self::Connection { .. })
    }
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The way back.
    pub flow: Flow,
    /// The listener's transport.
    pub transport: Transport,
}

/// Where a message is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// By a flow that is there: a datagram from the listener, or this very connection. If the
    /// connection is gone the message can not be sent.
    Flow(Flow),
    /// By a connection of the listener's transport to `remote`: one that is there (RFC 3261 §18: reuse),
    /// else one that the edge opens from the listener's address.
    Connect {
        /// From whose address, and with which transport.
        listener: ListenerId,
        /// To whom.
        remote: RemoteAddr,
    },
}

impl Destination {
    /// Our side.
    pub const fn listener(&self) -> ListenerId {
        match self {
            Self::Flow(flow) => flow.listener(),
            Self::Connect { listener, .. } => *listener,
        }
    }

    /// The peer's side.
    pub const fn remote(&self) -> RemoteAddr {
        match self {
            Self::Flow(flow) => flow.remote(),
            Self::Connect { remote, .. } => *remote,
        }
    }

    /// Whether the transport itself repeats what is lost.
    pub const fn is_reliable(&self) -> bool {
        match self {
            Self::Flow(flow) => flow.is_reliable(),
            Self::Connect { .. } => true,
        }
    }
}
