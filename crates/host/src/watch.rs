//! What others do on the interface: a stranger who claims a virtual address (RFC 5227 §2.4), a neighbour that answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::announce::{link_address, packet_socket};
use crate::interface::Interface;

/// ARP, as an Ethernet type.
const ARP: u16 = 0x0806;

/// The shortest ARP of Ethernet and IPv4, behind its Ethernet header.
const ARP_BYTES: usize = 14 + 28;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Another host says that a virtual address is its own.
    Claim(IpAddr, [u8; 6]),
    /// A neighbour has answered.
    Neighbour(Ipv4Addr),
}

/// Sees the ARP of one interface.
pub struct Watch {
    socket: OwnedFd,
    interface: Interface,
    addresses: Vec<IpAddr>,
}

impl Watch {
    /// Listens; it needs CAP_NET_RAW.
    pub fn open(interface: Interface, addresses: Vec<IpAddr>) -> io::Result<Self> {
        let socket = packet_socket(ARP)?;
        let address = link_address(interface.index, ARP);
        // SAFETY: the address lives during the call, and the length is its own.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, interface, addresses })
    }

    /// The next thing that was seen; `None`: nothing more for now.
    pub fn next(&self) -> Option<Seen> {
        loop {
            let mut frame = [0_u8; 256];
            // SAFETY: the buffer lives during the call, and its length is its own.
            let received =
                unsafe { libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            let length = usize::try_from(received).ok()?;
            if let Some(seen) = self.read(&frame[..length.min(frame.len())]) {
                return Some(seen);
            }
        }
    }

    fn read(&self, frame: &[u8]) -> Option<Seen> {
        if frame.len() < ARP_BYTES || frame[12..20] != [0x08, 0x06, 0, 1, 8, 0, 6, 4] {
            return None;
        }
        let mac: [u8; 6] = frame[22..28].try_into().ok()?;
        let sender = Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31]);
        let is_ours = self.addresses.contains(&IpAddr::V4(sender));
        match (is_ours, mac == self.interface.mac, frame[21]) {
            (true, false, _) => Some(Seen::Claim(IpAddr::V4(sender), mac)),
            (false, false, 2) => Some(Seen::Neighbour(sender)),
            _ => None,
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
