//! Changes of this host's interfaces, addresses and default routes, as the kernel tells them.
//!
//! It says that something has changed, not what: whoever hears it looks again. So nothing that was lost in an overrun can
//! be missed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// The kernel's groups of links, addresses and routes of both families.
const GROUPS: u32 = (libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_ROUTE) as u32;

/// Room for one datagram.
const BUFFER_BYTES: usize = 32 * 1024;

/// Datagrams that are read before others have their turn: a router that learns its routes tells of thousands.
const TURN_MAX: usize = 256;

/// What has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// An interface: its carrier, its state, its being there.
    pub links: bool,
    /// An address came or went.
    pub addresses: bool,
    /// A route came or went.
    pub routes: bool,
}

impl Changed {
    const ALL: Self = Self { links: true, addresses: true, routes: true };

    /// Whether anything has.
    pub fn is_any(self) -> bool {
        self != Self::default()
    }
}

/// Hears of changes.
pub struct Changes {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Changes {
    /// Begins to listen; what is read of the kernel after this can not miss a change.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// What has changed since the last call.
    pub fn take(&mut self) -> io::Result<Changed> {
        let mut changed = Changed::default();
        for _ in 0..TURN_MAX {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => read(&self.buffer, &mut changed),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More was told than there was room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = Changed::ALL,
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open as long as this borrow lives.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// Waits until one of the descriptors can be read, or this time is over.
pub fn wait_readable(descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|descriptor| libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // Rounded up: to wake a moment early is to wake twice.
    let milliseconds = timeout.as_millis().saturating_add(1).min(60_000) as i32;
    // SAFETY: the list lives during the call, and its length is its own.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    match ready {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}

/// Reads the headers of the messages in a datagram.
fn read(mut bytes: &[u8], changed: &mut Changed) {
    while let Some(header) = bytes.first_chunk::<16>() {
        let word = |at: usize| [header[at], header[at + 1]];
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        match u16::from_ne_bytes(word(4)) {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => changed.links = true,
            libc::RTM_NEWADDR | libc::RTM_DELADDR => changed.addresses = true,
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => changed.routes = true,
            _ => {}
        }
        if length < header.len() {
            return;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_of_a_datagram_is_seen() {
        let mut bytes = message(libc::RTM_NEWADDR, 17);
        bytes.extend(message(libc::RTM_DELROUTE, 16));
        let mut changed = Changed::default();

        read(&bytes, &mut changed);

        assert_eq!(changed, Changed { links: false, addresses: true, routes: true });
    }

    #[test]
    fn a_length_that_is_no_length_ends_the_reading() {
        let mut bytes = message(libc::RTM_NEWLINK, 16);
        bytes[..4].copy_from_slice(&3_u32.to_ne_bytes());
        let mut changed = Changed::default();

        read(&bytes, &mut changed);
        read(&bytes[..7], &mut changed);

        assert_eq!(changed, Changed { links: true, ..Changed::default() });
    }

    fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; (length as usize).next_multiple_of(4)];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes
    }
}
