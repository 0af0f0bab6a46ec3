//! The datagram side of the edge: one socket for each listener and event loop.

pub(crate) mod batch;
mod event_loop;
mod refusals;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bytes::Bytes;
use tracing::debug;
use transport::ListenerId;

use crate::carrier::Sender;
use crate::edge::Edge;
use crate::mandate::{Leave, Ownership};
use crate::option;
use crate::tally::Tally;

pub(crate) use self::event_loop::EventLoop;
pub(crate) use self::refusals::set_wanted as want_refusals;

/// How often a datagram is tried again that the kernel refuses: the errors of others may come in between.
const SEND_AGAIN_MAX: u32 = 3;

/// The sockets of one listener, one for each event loop. They are closed when the last thread lets go.
#[derive(Debug)]
pub(crate) struct UdpListener {
    pub(crate) id: ListenerId,
    pub(crate) ownership: Ownership,
    lanes: Vec<UdpSocket>,
}

impl UdpListener {
    pub(crate) fn new(id: ListenerId, ownership: Ownership, lanes: Vec<UdpSocket>) -> Self {
        Self { id, ownership, lanes }
    }

    /// The socket of one event loop.
    fn lane(&self, lane: usize) -> BorrowedFd<'_> {
        self.lanes[lane % self.lanes.len()].as_fd()
    }

    /// How many datagrams the kernel dropped for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.lanes.iter().filter_map(|socket| option::dropped(socket).ok()).sum()
    }
}

/// All UDP listeners; replaced as a whole by a reload.
pub(crate) type UdpListeners = BTreeMap<ListenerId, Arc<UdpListener>>;

/// A datagram on its way out.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) listener: ListenerId,
    pub(crate) remote: SocketAddr,
    pub(crate) message: Bytes,
    pub(crate) of: Option<Sender>,
}

/// Sends all datagrams in their order, in one call for each run that leaves by one listener. What the kernel refuses
/// goes to `failed`. What finds no room is dropped, as the network would: who sent it repeats it. So is what would leave by
/// a virtual address after the lease: nobody is told, because nobody is to act on it.
pub(crate) fn send_all(
    edge: &Edge,
    listeners: &UdpListeners,
    lane: usize,
    datagrams: &mut Vec<Datagram>,
    failed: &mut Vec<Sender>,
) {
    for same in datagrams.chunk_by(|one, other| one.listener == other.listener) {
        let Some(listener) = listeners.get(&same[0].listener) else {
            edge.tallies.add_many(Tally::ListenerGone, same.len());
            failed.extend(same.iter().filter_map(|datagram| datagram.of));
            continue;
        };
        send_by(edge, listener, lane, same, failed);
    }
    datagrams.clear();
}

fn send_by(
    edge: &Edge,
    listener: &UdpListener,
    lane: usize,
    mut rest: &[Datagram],
    failed: &mut Vec<Sender>,
) {
    let (socket, tallies) = (listener.lane(lane), &edge.tallies);
    let mut again = 0;
    while !rest.is_empty() {
        // Before each call, by the clock of that moment: what was worked out under the lease may be late.
        let leave = edge.mandate.may_send(listener.ownership);
        if leave == Leave::Never {
            tallies.add_many(Tally::Withheld, rest.len());
            return;
        }
        let next = rest.iter().map(|datagram| (datagram.remote, &datagram.message[..]));
        match batch::send(socket, next) {
            Ok(sent) => {
                tallies.add_many(Tally::DatagramSent, sent);
                let (left, later) = rest.split_at(sent.clamp(1, rest.len()));
                edge.mandate.sent(leave, left.iter().map(|datagram| &datagram.message[..]));
                rest = later;
                again = 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tallies.add_many(Tally::DatagramDropped, rest.len());
                return;
            }
            // It may be the error of an earlier datagram, which the kernel tells to whoever sends next.
            Err(_) if again < SEND_AGAIN_MAX => again += 1,
            Err(error) => {
                again = 0;
                debug!(remote = %rest[0].remote, %error, "datagram refused");
                tallies.add(Tally::DatagramRefused);
                failed.extend(rest[0].of);
                rest = &rest[1..];
            }
        }
    }
}
