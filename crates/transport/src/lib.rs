//! The transport layer of RFC 3261 §18 without sockets: listeners, flows, framing, the marks that a
//! received request gets in its top Via, where a response goes, and which server comes next.
//!
//! The edge owns the sockets. It asks [`classify`] what a datagram is, gives what a stream brings to
//! the stream's [`Framer`], keeps its streams in [`Connections`], and finds its [`Listener`] by what
//! a [`Destination`] says. A request is marked by [`stamp`] as soon as it is read, and what goes up
//! from there knows where its responses go ([`response_destination`]) from the message and its
//! [`Source`] alone. Where a request goes that has no flow is said by [`next_hop`], and which of a name's servers by
//! [`selection`]. What another node must know of a connection to end it in this one's place is [`Stranded`], and when it
//! does so is said by its [`Orphans`].

mod address;
mod classify;
mod connections;
mod flow;
mod framer;
mod framing_problem;
mod listener;
mod next_hop;
mod orphans;
mod quoted;
pub mod selection;
mod stamp;
mod stranding;

pub use address::{Advertise, LocalAddr, RemoteAddr, Transport};
pub use classify::{Classified, classify};
pub use connections::{
    CloseReason, ConnectionCounters, ConnectionLimits, Connections, Output as ConnectionOutput, Progress,
    Refused,
};
pub use flow::{ConnectionId, Destination, Flow, ListenerId, Source};
pub use framer::{Frame, Framer, FramingError, PING, PONG};
pub use framing_problem::framing_problem;
pub use listener::{LISTENERS_MAX, Listener, Listeners};
pub use next_hop::{
    DATAGRAM_REQUEST_BYTES_MAX, NextHop, SizedTransport, Unsupported, next_hop, transport_for_size,
};
pub use orphans::{OrphanCounters, Orphans, Output as OrphanOutput, TICKLES_AT_ONCE_MAX};
pub use quoted::Quoted;
pub use stamp::{response_destination, stamp};
pub use stranding::{Ends, Handshake, NotStranded, STRANDED_FORMAT, Stranded, Tickle};
