//! Telling the neighbours where the virtual addresses are: gratuitous ARP in both forms (RFC 5227 §2.3) and unsolicited
//! neighbour advertisements (RFC 4861 §7.2.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::interface::Interface;

const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;

/// An announcement could not be sent.
#[derive(Debug, thiserror::Error)]
#[error("announcing {address} on {interface}: {reason}")]
pub struct AnnounceError {
    address: IpAddr,
    interface: String,
    reason: io::Error,
}

/// Announces addresses on one interface.
pub struct Announcer {
    socket: OwnedFd,
    interface: Interface,
}

impl Announcer {
    /// A raw socket on the interface; it needs CAP_NET_RAW.
    pub fn open(interface: Interface) -> io::Result<Self> {
        Ok(Self { socket: packet_socket(0)?, interface })
    }

    /// Announces one address once, in every form.
    pub fn announce(&self, address: IpAddr) -> Result<(), AnnounceError> {
        let mac = self.interface.mac;
        let frames = match address {
            // RFC 5227 §3: hosts differ in which of the two they take up.
            IpAddr::V4(address) => vec![arp(mac, address, 1), arp(mac, address, 2)],
            IpAddr::V6(address) => vec![neighbour_advertisement(mac, address)],
        };
        for frame in frames {
            self.send(&frame).map_err(|reason| AnnounceError {
                address,
                interface: self.interface.name.clone(),
                reason,
            })?;
        }
        Ok(())
    }

    /// Asks whether a neighbour is there: ARP with this sender, or 0.0.0.0 for a probe (RFC 5227 §2.1).
    pub fn ask_v4(&self, sender: Ipv4Addr, target: Ipv4Addr) -> io::Result<()> {
        let mut frame = arp(self.interface.mac, sender, 1);
        let length = frame.len();
        frame[length - 4..].copy_from_slice(&target.octets());
        self.send(&frame)
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        let address = link_address(self.interface.index, 0);
        // SAFETY: the frame and the address live during the call, and their lengths are theirs.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A socket for raw frames. `protocol` 0 receives nothing.
pub(crate) fn packet_socket(protocol: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a plain call; the descriptor it gives is owned by nobody else.
    let socket = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol.to_be())) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

pub(crate) fn link_address(index: u32, protocol: u16) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    }
}

/// RFC 826: `operation` 1 is a request, 2 a reply; both say that `address` is at `mac`.
fn arp(mac: [u8; 6], address: Ipv4Addr, operation: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend_from_slice(&BROADCAST);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ETHERTYPE_ARP);
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&address.octets());
    // RFC 5227 §2.3: an announcement as a request leaves the target's hardware address empty.
    frame.extend_from_slice(if operation == 1 { &[0; 6] } else { &BROADCAST });
    frame.extend_from_slice(&address.octets());
    frame
}

fn neighbour_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let all_nodes: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // RFC 4861 §4.4: override; not solicited. The option says the hardware address.
    let mut body = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    body.extend_from_slice(&address.octets());
    body.extend_from_slice(&[2, 1]);
    body.extend_from_slice(&mac);
    let checksum = checksum(address, all_nodes, &body);
    body[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = Vec::with_capacity(14 + 40 + body.len());
    frame.extend_from_slice(&ALL_NODES_MAC);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ETHERTYPE_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, body.len() as u8, ICMPV6, 255]);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&all_nodes.octets());
    frame.extend_from_slice(&body);
    frame
}

/// RFC 4443 §2.3: over a pseudo-header and the message.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> u16 {
    let mut bytes = Vec::with_capacity(40 + body.len());
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&to.octets());
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, ICMPV6]);
    bytes.extend_from_slice(body);
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_gratuitous_arp_names_the_address_as_sender_and_target() {
        let frame = arp(MAC, Ipv4Addr::new(192, 0, 2, 9), 1);

        assert_eq!(frame.len(), 42);
        assert_eq!(frame[28..32], [192, 0, 2, 9]);
        assert_eq!(frame[38..42], [192, 0, 2, 9]);
        assert_eq!(frame[22..28], MAC);
    }

    #[test]
    fn a_neighbour_advertisement_has_a_checksum_that_sums_to_all_ones() {
        let address: Ipv6Addr = "2001:db8::9".parse().expect("an address");
        let frame = neighbour_advertisement(MAC, address);
        let body = &frame[54..];

        assert_eq!(checksum(address, "ff02::1".parse().expect("an address"), body), 0);
        assert_eq!(body[8..24], address.octets());
    }
}
