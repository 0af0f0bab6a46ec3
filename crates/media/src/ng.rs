//! Another relay in the place of our own: rtpengine, by its `ng` protocol.
//!
//! It is asked by UDP: a cookie, a space, and a dictionary in [`bencode`]. A [`Command`] offers a description, answers one, or
//! ends a call; the [`Reply`] has the description with the relay's addresses in it. A [`Client`] asks several of them: it
//! repeats what gets no answer, with the same cookie, notices which of them are gone, and asks another one where that is
//! possible.

pub mod bencode;
mod client;
mod command;
mod node;
mod reply;

pub use client::{Answer, Ask, Client, Failure, Output};
pub use command::{Command, Described};
pub use node::{NODES_MAX, Node, NodeCounts, NodeView};
pub use reply::{BYTES_MAX, Reply};
