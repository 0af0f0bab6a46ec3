//! A NAT, as at home: the packets of a phone leave from another address and another port, and only what answers them
//! comes in.
//!
//! It takes the packets from the interface inside as they are and sends their content by sockets of its own outside, one
//! for each address and port inside. The kernel forwards nothing. IPv4 and UDP only.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use host::lab::HostNetwork;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

/// As many addresses and ports inside are translated.
const TRANSLATIONS_MAX: usize = 16;

/// No datagram of a phone is larger.
const PACKET_BYTES_MAX: usize = 8 * 1024;

/// The number of IPv4 in a frame.
const ETHERTYPE_IPV4: u16 = 0x0800;

/// The number of UDP in a packet.
const UDP: u8 = 17;

/// Whoever sends by it writes the headers too.
const IPPROTO_RAW: i32 = 255;

/// Bytes of the headers that are written.
const HEADERS_BYTES: usize = 28;

/// How often it is seen that it is over.
const LOOKED_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The router, routing.
#[derive(Debug)]
pub struct HomeRouter {
    is_over: Arc<AtomicBool>,
}

impl HomeRouter {
    /// Translates for those inside to an address outside.
    pub fn start(host: &HostNetwork, outside: Ipv4Addr) -> io::Result<Self> {
        let (ear, mouth) = host.enter(|| -> io::Result<(Socket, Socket)> {
            let protocol = Protocol::from(i32::from(ETHERTYPE_IPV4.to_be()));
            let ear = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
            let mouth = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
            mouth.set_header_included_v4(true)?;
            Ok((ear, mouth))
        })??;
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        let network = host.clone();
        let router = Router { ear, mouth, network, outside, ways: BTreeMap::new() };
        std::thread::Builder::new().name("home-router".to_owned()).spawn(move || router.route(&until))?;
        Ok(Self { is_over })
    }
}

impl Drop for HomeRouter {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

struct Router {
    ear: Socket,
    mouth: Socket,
    network: HostNetwork,
    outside: Ipv4Addr,
    ways: BTreeMap<SocketAddrV4, UdpSocket>,
}

impl Router {
    fn route(mut self, until: &AtomicBool) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        while !until.load(Ordering::Relaxed) {
            let sockets = self.ways.values().map(|socket| PollFd::new(socket, PollFlags::IN));
            let mut set: Vec<PollFd<'_>> =
                std::iter::once(PollFd::new(&self.ear, PollFlags::IN)).chain(sockets).collect();
            if poll(&mut set, Some(&LOOKED_EVERY)).is_err() {
                continue;
            }
            let is_readable: Vec<bool> = set.iter().map(|one| !one.revents().is_empty()).collect();
            for ((inside, socket), _) in self.ways.iter().zip(&is_readable[1..]).filter(|(_, is)| **is) {
                // An ICMP error is one too.
                let Ok((length, SocketAddr::V4(from))) = socket.recv_from(&mut buffer) else { continue };
                let packet = written(from, *inside, &buffer[..length]);
                let _ = self.mouth.send_to(&packet, &SocketAddr::V4(*inside).into());
            }
            if is_readable[0] {
                self.take(&mut buffer);
            }
        }
    }

    /// A packet has come by some interface.
    fn take(&mut self, buffer: &mut [u8]) {
        let Ok(length) = self.ear.read(buffer) else { return };
        let Some(Datagram { from, to, content }) = read(&buffer[..length]) else { return };
        if !from.ip().is_private() || to.ip().is_private() || *to.ip() == self.outside {
            return;
        }
        if !self.ways.contains_key(&from) && self.ways.len() < TRANSLATIONS_MAX {
            let outside = self.outside;
            let opened = self.network.enter(|| UdpSocket::bind((outside, 0)));
            if let Ok(Ok(socket)) = opened {
                self.ways.insert(from, socket);
            }
        }
        if let Some(socket) = self.ways.get(&from) {
            // It is lost, as on a real network.
            let _ = socket.send_to(content, to);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Datagram<'a> {
    from: SocketAddrV4,
    to: SocketAddrV4,
    content: &'a [u8],
}

/// The datagram in a packet, if it is a whole one of UDP.
fn read(packet: &[u8]) -> Option<Datagram<'_>> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    let is_fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff != 0;
    if first >> 4 != 4 || header < 20 || *packet.get(9)? != UDP || is_fragment {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let number = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let from = SocketAddrV4::new(address(12)?, number(header)?);
    let to = SocketAddrV4::new(address(16)?, number(header + 2)?);
    let length = usize::from(number(header + 4)?);
    let content = packet.get(header + 8..header + length)?;
    Some(Datagram { from, to, content })
}

/// The packet of a datagram. The kernel fills in what is zero: the length and the checksum of the first header.
fn written(from: SocketAddrV4, to: SocketAddrV4, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + HEADERS_BYTES).unwrap_or(u16::MAX);
    let mut packet = Vec::with_capacity(usize::from(length));
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, UDP, 0, 0]);
    packet.extend_from_slice(&from.ip().octets());
    packet.extend_from_slice(&to.ip().octets());
    packet.extend_from_slice(&from.port().to_be_bytes());
    packet.extend_from_slice(&to.port().to_be_bytes());
    packet.extend_from_slice(&(length - 20).to_be_bytes());
    // No checksum: IPv4 does not ask for one.
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(content);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 2), 5060);
    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 100), 5061);

    #[test]
    fn a_packet_that_is_written_can_be_read() {
        let packet = written(FROM, TO, b"hello");

        assert_eq!(read(&packet), Some(Datagram { from: FROM, to: TO, content: b"hello" }));
    }

    #[test]
    fn what_is_no_whole_datagram_of_udp_is_left_alone() {
        let packet = written(FROM, TO, b"hello");
        for length in 0..packet.len() {
            assert_eq!(read(&packet[..length]), None, "{length}");
        }
        let changed = |at: usize, byte: u8| {
            let mut packet = packet.clone();
            packet[at] = byte;
            read(&packet).is_none()
        };
        assert!(changed(9, 6), "TCP");
        assert!(changed(0, 0x65), "IPv6");
        assert!(changed(6, 0x20), "a fragment");
        assert!(changed(0, 0x41), "a header that is too short");
        assert!(changed(25, 3), "a length that is too short");
    }
}
