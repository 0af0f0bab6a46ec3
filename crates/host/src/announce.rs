//! Telling the neighbours where the virtual addresses are: gratuitous ARP in both forms (RFC 5227 §2.3) and unsolicited
//! neighbour advertisements (RFC 4861 §7.2.6); and asking a neighbour whether it is there.

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

    /// Asks whether a neighbour is there. `sender` is the address that the neighbour learns to be here; without one it
    /// learns nothing (RFC 5227 §2.1: a probe has 0.0.0.0). Both must be of one family.
    pub fn ask(&self, sender: Option<IpAddr>, target: IpAddr) -> io::Result<()> {
        let mac = self.interface.mac;
        match (sender, target) {
            (None, IpAddr::V4(target)) => self.send(&question(mac, Ipv4Addr::UNSPECIFIED, target)),
            (Some(IpAddr::V4(sender)), IpAddr::V4(target)) => self.send(&question(mac, sender, target)),
            (None, IpAddr::V6(target)) => self.send(&solicitation(mac, Ipv6Addr::UNSPECIFIED, target)),
            (Some(IpAddr::V6(sender)), IpAddr::V6(target)) => self.send(&solicitation(mac, sender, target)),
            (Some(_), _) => Err(io::ErrorKind::InvalidInput.into()),
        }
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

/// An ARP request of `sender` for `target`.
fn question(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = arp(mac, sender, 1);
    let length = frame.len();
    frame[length - 4..].copy_from_slice(&target.octets());
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

    icmpv6(ALL_NODES_MAC, mac, address, all_nodes, &body)
}

/// RFC 4861 §4.3: it goes to the group that the target listens to; whoever has no address yet does not say where it is.
fn solicitation(mac: [u8; 6], sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., high, middle, low] = target.octets();
    let last = u16::from_be_bytes([middle, low]);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(high), last);
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    if !sender.is_unspecified() {
        body.extend_from_slice(&[1, 1]);
        body.extend_from_slice(&mac);
    }
    let checksum = checksum(sender, group, &body);
    body[2..4].copy_from_slice(&checksum.to_be_bytes());

    icmpv6([0x33, 0x33, 0xff, high, middle, low], mac, sender, group, &body)
}

fn icmpv6(to_mac: [u8; 6], mac: [u8; 6], from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + 40 + body.len());
    frame.extend_from_slice(&to_mac);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ETHERTYPE_IPV6);
    // RFC 4861 §7.1.1: a hop limit of 255 shows that no router has passed it on.
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, body.len() as u8, ICMPV6, 255]);
    frame.extend_from_slice(&from.octets());
    frame.extend_from_slice(&to.octets());
    frame.extend_from_slice(body);
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

    #[test]
    fn a_solicitation_goes_to_the_targets_group_and_says_where_its_sender_is() {
        let sender: Ipv6Addr = "2001:db8::9".parse().expect("an address");
        let group: Ipv6Addr = "ff02::1:ff45:6789".parse().expect("an address");
        let frame = solicitation(MAC, sender, "fe80::123:4567:8945:6789".parse().expect("an address"));

        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x45, 0x67, 0x89]);
        assert_eq!(frame[38..54], group.octets());
        assert_eq!(checksum(sender, group, &frame[54..]), 0);
        assert_eq!(frame[frame.len() - 6..], MAC);
    }

    #[test]
    fn a_probe_teaches_the_neighbour_nothing() {
        let target: Ipv6Addr = "fe80::1".parse().expect("an address");

        assert_eq!(solicitation(MAC, Ipv6Addr::UNSPECIFIED, target).len(), 14 + 40 + 24);
        assert_eq!(question(MAC, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1))[28..32], [0; 4]);
    }
}
