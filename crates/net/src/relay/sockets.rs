//! The sockets of one worker: which port is whose, and which streams it serves.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use engine::SessionName;
use media::offer_answer::Side;
use media::stream::Port;
use slab::Slab;
use tracing::warn;

use crate::mandate::Ownership;

/// A socket that has heard so many packets is looked at, whether it may be connected. A call that is over at once, and an early
/// packet of a stranger, are not worth it.
const LOOK_EVERY: u32 = 16;

/// The socket of one port.
#[derive(Debug)]
pub(super) struct MediaSocket {
    pub(super) socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) ownership: Ownership,
    pub(super) session: SessionName,
    /// Nearly always one; two dialogs of one fork share the port that faces the callee.
    pub(super) served: Vec<Served>,
    /// Whom it is connected to. The kernel then looks up no way for what is sent there, and lets in what comes from there
    /// alone.
    peer: Option<SocketAddr>,
    /// Packets that it was not looked at for.
    heard: u32,
}

impl MediaSocket {
    pub(super) fn new(
        socket: UdpSocket,
        local: SocketAddr,
        ownership: Ownership,
        session: SessionName,
    ) -> Self {
        Self { socket, local, ownership, session, served: Vec::new(), peer: None, heard: 0 }
    }

    /// Where a packet is to be sent to that leaves for there: nowhere, if that is whom the socket is connected to.
    pub(super) fn to(&self, remote: SocketAddr) -> Option<SocketAddr> {
        Some(remote).filter(|_| self.peer != Some(remote))
    }

    /// Takes packets from anywhere again.
    fn release(&mut self) {
        self.heard = 0;
        if self.peer.take().is_some()
            && let Err(error) = rustix::net::connect_unspec(self.socket.as_fd())
        {
            warn!(local = %self.local, %error, "a port of the media relay hears no new place of its phone");
        }
    }
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
            socket.release();
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
            socket.release();
        }
    }

    /// The socket serves this stream no longer.
    pub(super) fn forget(&mut self, number: usize, stream: usize) {
        if let Some(socket) = self.all.get_mut(number) {
            socket.served.retain(|served| served.stream != stream);
            socket.release();
        }
    }

    pub(super) fn forget_all(&mut self) {
        for (_, socket) in &mut self.all {
            socket.served.clear();
            socket.release();
        }
    }

    /// So many packets have come to a socket. Says what it serves if it is time to look whether it may be connected: it is not, and
    /// serves one stream's media alone. RTCP is too rare.
    pub(super) fn hear(&mut self, number: usize, count: usize) -> Option<Served> {
        let socket = self.all.get_mut(number).filter(|socket| socket.peer.is_none())?;
        socket.heard += count as u32;
        if socket.heard < LOOK_EVERY {
            return None;
        }
        socket.heard = 0;
        let [served] = socket.served[..] else { return None };
        Some(served).filter(|served| served.port == Port::Media)
    }

    /// Connects a socket to the only place that may send to it, as long as nothing is said of its stream. Fails while the host does not
    /// have the socket's address.
    pub(super) fn connect(&mut self, number: usize, peer: SocketAddr) -> io::Result<()> {
        if let Some(socket) = self.all.get_mut(number) {
            socket.socket.connect(peer)?;
            socket.peer = Some(peer);
        }
        Ok(())
    }
}
