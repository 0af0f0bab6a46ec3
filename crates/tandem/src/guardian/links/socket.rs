//! One socket of the link.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use clock::Instant;
use cluster::MemberId;
use cluster::peer::PathId;
use socket2::{Domain, Protocol, Type};

use super::PathView;

/// RFC 4594 §3.2: network control. A router that has to drop something drops the lease last.
const CLASS_SELECTOR_6: u32 = 0xc0;

/// The highest priority of a host's own queues that needs no right.
const PRIORITY: u32 = 6;

/// What a flood of strangers may take of the kernel's memory.
const STRANGERS_BYTES: usize = 16 * 1024;

/// A socket of the link, or the wish for one.
#[derive(Debug)]
pub(super) struct Socket {
    local: SocketAddr,
    /// `None`: for strangers.
    peer: Option<Peer>,
    open: Option<UdpSocket>,
    trouble: Option<io::Error>,
}

#[derive(Debug)]
struct Peer {
    member: MemberId,
    path: PathId,
    remote: SocketAddr,
    heard: Option<Instant>,
}

impl Socket {
    pub(super) fn for_member(member: MemberId, path: PathId, local: SocketAddr, remote: SocketAddr) -> Self {
        let peer = Some(Peer { member, path, remote, heard: None });
        Self { local, peer, open: None, trouble: None }
    }

    pub(super) fn for_strangers(local: SocketAddr) -> Self {
        Self { local, peer: None, open: None, trouble: None }
    }

    pub(super) fn open_if_missing(&mut self, register: impl FnOnce(&UdpSocket) -> io::Result<()>) {
        if self.open.is_some() {
            return;
        }
        let opened = open(self.local, self.peer.as_ref().map(|peer| peer.remote))
            .and_then(|socket| register(&socket).map(|()| socket));
        match opened {
            Ok(socket) => {
                if self.trouble.take().is_some() {
                    tracing::info!(local = %self.local, "the link can use this address again");
                }
                self.open = Some(socket);
            }
            Err(error) => {
                if self.trouble.is_none() {
                    tracing::warn!(local = %self.local, remote = self.remote(), %error, "the link can not use a path yet");
                }
                self.trouble = Some(error);
            }
        }
    }

    pub(super) fn send_to_member(&mut self, to: MemberId, bytes: &[u8]) {
        if self.peer.as_ref().is_none_or(|peer| peer.member != to) {
            return;
        }
        let Some(socket) = &self.open else { return };
        match socket.send(bytes) {
            Ok(_) => self.trouble = None,
            // What the kernel was told of an earlier datagram is reported once, in place of sending this one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let _ = socket.send(bytes);
            }
            Err(error) => {
                self.trouble = Some(error);
            }
        }
    }

    /// A datagram and where it came from.
    pub(super) fn receive(&self, bytes: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let socket = self.open.as_ref()?;
        loop {
            match socket.recv_from(bytes) {
                Ok(received) => return Some(received),
                // RFC 1122 §4.1.3.3: an ICMP error for something that was sent; the next call reads on.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return None,
            }
        }
    }

    /// Whom a datagram from there is from, as far as addresses go.
    pub(super) fn expects(&self, from: SocketAddr) -> Option<(MemberId, PathId)> {
        let peer = self.peer.as_ref()?;
        let is_it = peer.remote.ip() == from.ip() && peer.remote.port() == from.port();
        is_it.then_some((peer.member, peer.path))
    }

    pub(super) fn heard(&mut self, now: Instant) {
        if let Some(peer) = &mut self.peer {
            peer.heard = Some(now);
        }
    }

    pub(super) fn view(&self, now: Instant) -> Option<PathView> {
        let peer = self.peer.as_ref()?;
        Some(PathView {
            member: peer.member,
            local: self.local,
            remote: peer.remote,
            trouble: self.trouble.as_ref().map(io::Error::to_string),
            silent_for: peer.heard.map(|heard| now.since(heard)),
        })
    }

    fn remote(&self) -> String {
        self.peer.as_ref().map_or_else(|| "anybody".to_owned(), |peer| peer.remote.to_string())
    }
}

fn open(local: SocketAddr, remote: Option<SocketAddr>) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Several sockets of this process share the address; those of another user may not.
    socket.set_reuse_port(true)?;
    match local {
        SocketAddr::V4(_) => socket.set_tos_v4(CLASS_SELECTOR_6)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_tclass_v6(CLASS_SELECTOR_6)?;
        }
    }
    socket.set_priority(PRIORITY)?;
    match remote {
        None => {
            socket.set_recv_buffer_size(STRANGERS_BYTES)?;
            socket.bind(&local.into())?;
        }
        Some(remote) => {
            socket.bind(&local.into())?;
            socket.connect(&remote.into())?;
        }
    }
    Ok(socket.into())
}
