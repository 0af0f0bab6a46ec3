//! The connection between the engines of two nodes: TLS 1.3 over TCP, on which capsules go.
//!
//! The active node calls the standby by each path in turn and feeds its [`replica::Sender`]; the standby listens and feeds
//! its [`replica::Receiver`]. A [`Peer`] holds whichever machine its role wants, behind one lock that is held for one input
//! and never while an owner works. What the engine wants of it is [`engine::Peer`]. Threads that change entries only append
//! to what is to be sent: none of them ever waits for the network, and what is to be sent is bounded by the sender's window.
//!
//! Both nodes have the same key pair, derived from the cluster's key, and accept that public key alone, as it stands, without
//! any certificate: there is no authority, no name and no date that could be wrong, and no parser for them.

mod calling;
mod identity;
mod listening;
mod peer;
mod role;
mod troubles;

pub use identity::Identity;
pub use peer::{Peer, Plan, Start};
