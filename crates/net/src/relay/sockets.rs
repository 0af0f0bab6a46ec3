//! The sockets of one worker: which port is whose, and which streams it serves.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

use engine::SessionName;
use media::offer_answer::Side;
use media::stream::Port;
use slab::Slab;

use crate::mandate::Ownership;

/// The socket of one port.
#[derive(Debug)]
pub(super) struct MediaSocket {
    pub(super) socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) ownership: Ownership,
    pub(super) session: SessionName,
    /// Nearly always one; two dialogs of one fork share the port that faces the callee.
    pub(super) served: Vec<Served>,
}

/// A stream that a port serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// Its number among the worker's streams.
    pub(super) stream: usize,
    /// The side whose packets come here.
    pub(super) side: Side,
    /// What the port is to it.
    pub(super) port: Port,
}

#[derive(Debug, Default)]
pub(super) struct Sockets {
    all: Slab<MediaSocket>,
    by_place: BTreeMap<SocketAddr, usize>,
}

impl Sockets {
    pub(super) fn get(&self, number: usize) -> Option<&MediaSocket> {
        self.all.get(number)
    }

    /// The number of the socket at a place.
    pub(super) fn at(&self, local: SocketAddr) -> Option<usize> {
        self.by_place.get(&local).copied()
    }

    pub(super) fn insert(&mut self, socket: MediaSocket) -> usize {
        let local = socket.local;
        let number = self.all.insert(socket);
        self.by_place.insert(local, number);
        number
    }

    /// Gives a port to another session.
    pub(super) fn hand_over(&mut self, number: usize, session: SessionName) {
        if let Some(socket) = self.all.get_mut(number) {
            socket.session = session;
            socket.served.clear();
        }
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<MediaSocket> {
        let socket = self.all.try_remove(number)?;
        self.by_place.remove(&socket.local);
        Some(socket)
    }

    pub(super) fn serve(&mut self, number: usize, served: Served) {
        if let Some(socket) = self.all.get_mut(number)
            && !socket.served.contains(&served)
        {
            socket.served.push(served);
        }
    }

    /// The socket serves this stream no longer.
    pub(super) fn forget(&mut self, number: usize, stream: usize) {
        if let Some(socket) = self.all.get_mut(number) {
            socket.served.retain(|served| served.stream != stream);
        }
    }

    pub(super) fn forget_all(&mut self) {
        self.all.iter_mut().for_each(|(_, socket)| socket.served.clear());
    }
}
