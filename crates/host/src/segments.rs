//! The segments of TCP that a node sees and sends by hand, because no connection of the kernel's is meant.
//!
//! [`HandshakeTap`] sees the SYN-ACKs of one interface, which have both initial sequence numbers of a connection, and
//! nothing else: a filter in the kernel drops all other frames. [`Tickler`] sends segments without data from the virtual
//! addresses, as raw packets of TCP alone.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::announce::{link_address, packet_socket};
use crate::interface::Interface;
use crate::packet_filter;

const ETHERNET_BYTES: usize = 14;
const TCP_BYTES: usize = 20;
/// The flags of a SYN-ACK among SYN, ACK, RST and FIN.
const SYN_ACK: u32 = 0x12;
const ENDING_FLAGS: u32 = 0x17;
const ACK: u8 = 0x10;

/// All Ethernet types: only such a socket sees what leaves.
const ALL_TYPES: u16 = 0x0003;

/// Room for the handshakes of very many phones that connect again at once.
const RECEIVE_BUFFER_BYTES: libc::c_int = 8 << 20;

/// Numbers of a connection between a virtual address and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The virtual address with its port.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// The number of our side: in a handshake the initial one, in a tickle the one to be sent.
    pub ours: u32,
    /// The number of the peer's side: in a handshake the initial one, in a tickle what is acknowledged.
    pub theirs: u32,
    /// Our timestamp (RFC 7323).
    pub timestamp: Option<u32>,
}

/// Sees the handshakes of one interface.
pub struct HandshakeTap {
    socket: OwnedFd,
    addresses: Vec<IpAddr>,
}

impl HandshakeTap {
    /// Listens for connections of these addresses; it needs CAP_NET_RAW.
    pub fn open(interface: &Interface, addresses: Vec<IpAddr>) -> io::Result<Self> {
        // Nothing is queued before the filter is there: protocol 0 receives nothing.
        let socket = packet_socket(0)?;
        packet_filter::attach(&socket, &mut handshake_filter())?;
        set_receive_buffer(&socket);
        let address = link_address(interface.index, ALL_TYPES);
        // SAFETY: the address lives during the call, and the length is its own.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { socket, addresses }) }
    }

    /// The next handshake; `None`: there is none for now.
    pub fn next(&self) -> Option<Segment> {
        loop {
            let mut frame = [0_u8; 256];
            // SAFETY: the buffer lives during the call, and its length is its own.
            let received =
                unsafe { libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            let length = usize::try_from(received).ok()?;
            if let Some(seen) = read_handshake(&frame[..length.min(frame.len())], &self.addresses) {
                return Some(seen);
            }
        }
    }
}

impl AsFd for HandshakeTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends segments without data from virtual addresses.
pub struct Tickler {
    /// Each is bound to its address, so that nothing leaves from another one.
    sockets: BTreeMap<IpAddr, OwnedFd>,
}

impl Tickler {
    /// Opens a raw socket for each address, whether it is there or not; it needs CAP_NET_RAW.
    pub fn open(addresses: &[IpAddr]) -> io::Result<Self> {
        let sockets = addresses.iter().map(|address| Ok((*address, raw_socket(*address)?)));
        Ok(Self { sockets: sockets.collect::<io::Result<_>>()? })
    }

    /// Sends one segment. An address that is not here yet is an error of [`io::ErrorKind::InvalidInput`], and a buffer that
    /// is full one of [`io::ErrorKind::WouldBlock`].
    pub fn send(&self, segment: &Segment) -> io::Result<()> {
        let Some(socket) = self.sockets.get(&segment.local.ip()) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no virtual address of this node"));
        };
        let bytes = write_segment(segment);
        let (address, length) = socket_address(SocketAddr::new(segment.remote.ip(), 0));
        // SAFETY: buffer and address live during the call, and the lengths are their own.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                (&raw const address).cast(),
                length,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Lets SYN-ACKs of IPv4 and IPv6 pass.
fn handshake_filter() -> [libc::sock_filter; 17] {
    let byte = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    let half = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    let byte_behind = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
    let header_bytes = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let any_bit = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    let and = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(half, 0, 0, 12),
        step(equal, 0, 7, 0x0800),
        step(byte, 0, 0, 23),
        step(equal, 0, 12, libc::IPPROTO_TCP as u32),
        step(half, 0, 0, 20),
        // A fragment has no header of TCP.
        step(any_bit, 10, 0, 0x1fff),
        step(header_bytes, 0, 0, ETHERNET_BYTES as u32),
        step(byte_behind, 0, 0, ETHERNET_BYTES as u32 + 13),
        step((libc::BPF_JMP | libc::BPF_JA) as u16, 0, 0, 4),
        step(equal, 0, 6, 0x86dd),
        step(byte, 0, 0, 20),
        step(equal, 0, 4, libc::IPPROTO_TCP as u32),
        step(byte, 0, 0, ETHERNET_BYTES as u32 + 40 + 13),
        step(and, 0, 0, ENDING_FLAGS),
        step(equal, 0, 1, SYN_ACK),
        step(end, 0, 0, 256),
        step(end, 0, 0, 0),
    ]
}

/// Without the right to a large buffer the usual one has to do.
fn set_receive_buffer(socket: &OwnedFd) {
    for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        if set_option(socket, libc::SOL_SOCKET, option, RECEIVE_BUFFER_BYTES).is_ok() {
            return;
        }
    }
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value lives during the call, and the length is its own.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn raw_socket(address: IpAddr) -> io::Result<OwnedFd> {
    let (family, level, freebind) = match address {
        IpAddr::V4(_) => (libc::AF_INET, libc::SOL_IP, libc::IP_FREEBIND),
        IpAddr::V6(_) => (libc::AF_INET6, libc::SOL_IPV6, libc::IPV6_FREEBIND),
    };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a plain call; the descriptor it gives is owned by nobody else.
    let socket = unsafe { libc::socket(family, kind, libc::IPPROTO_TCP) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // It is for sending: what comes to the address is not copied to it.
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    packet_filter::attach(&socket, &mut [libc::sock_filter { code: end, jt: 0, jf: 0, k: 0 }])?;
    set_option(&socket, level, freebind, 1)?;
    let (address, length) = socket_address(SocketAddr::new(address, 0));
    // SAFETY: the address lives during the call, and the length is its own.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

fn socket_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros are a storage of no family.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(address) => {
            // SAFETY: a storage has room for every kind of address, aligned.
            let v4 = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_port = address.port().to_be();
            v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            let v6 = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_port = address.port().to_be();
            v6.sin6_addr.s6_addr = address.ip().octets();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

/// Reads a frame that has passed the filter.
fn read_handshake(frame: &[u8], addresses: &[IpAddr]) -> Option<Segment> {
    let packet = frame.get(ETHERNET_BYTES..)?;
    let (from, to, tcp) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let bytes = usize::from(packet.first()? & 0x0f) * 4;
            let address =
                |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?)));
            (address(12)?, address(16)?, packet.get(bytes..)?)
        }
        [0x86, 0xdd] => {
            let address =
                |at: usize| Some(IpAddr::V6(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?)));
            (address(8)?, address(24)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let half = |at: usize| tcp.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let word = |at: usize| tcp.get(at..)?.first_chunk().copied().map(u32::from_be_bytes);
    if u32::from(*tcp.get(13)?) & ENDING_FLAGS != SYN_ACK {
        return None;
    }
    let (sender, receiver) = (SocketAddr::new(from, half(0)?), SocketAddr::new(to, half(2)?));
    let (sent, acknowledged) = (word(4)?, word(8)?.wrapping_sub(1));
    let stamps = timestamps(tcp.get(TCP_BYTES..usize::from(tcp.get(12)? >> 4) * 4)?);
    if addresses.contains(&from) {
        let timestamp = stamps.map(|(ours, _)| ours);
        Some(Segment { local: sender, remote: receiver, ours: sent, theirs: acknowledged, timestamp })
    } else if addresses.contains(&to) {
        // We have opened it: the peer echoes the timestamp of our SYN.
        let timestamp = stamps.map(|(_, echoed)| echoed);
        Some(Segment { local: receiver, remote: sender, ours: acknowledged, theirs: sent, timestamp })
    } else {
        None
    }
}

/// The timestamp and the echoed one among the options of a segment.
fn timestamps(mut options: &[u8]) -> Option<(u32, u32)> {
    loop {
        match options {
            [0, ..] | [] => return None,
            [1, rest @ ..] => options = rest,
            [8, 10, rest @ ..] => {
                let (value, rest) = rest.split_first_chunk::<4>()?;
                return Some((u32::from_be_bytes(*value), u32::from_be_bytes(*rest.first_chunk()?)));
            }
            [_, length, ..] => options = options.get(usize::from(*length).max(2)..)?,
            [_] => return None,
        }
    }
}

/// A segment without data, with its checksum.
fn write_segment(segment: &Segment) -> Vec<u8> {
    let Segment { local, remote, ours, theirs, timestamp } = *segment;
    let options = if timestamp.is_some() { 12 } else { 0 };
    let mut bytes = Vec::with_capacity(TCP_BYTES + options);
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&remote.port().to_be_bytes());
    bytes.extend_from_slice(&ours.to_be_bytes());
    bytes.extend_from_slice(&theirs.to_be_bytes());
    bytes.push((((TCP_BYTES + options) / 4) as u8) << 4);
    bytes.push(ACK);
    // Some window, so that nobody takes it for a closed one; then the checksum and no urgent data.
    bytes.extend_from_slice(&[0xff, 0xff, 0, 0, 0, 0]);
    if let Some(timestamp) = timestamp {
        bytes.extend_from_slice(&[1, 1, 8, 10]);
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    let sum = checksum(local.ip(), remote.ip(), &bytes);
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// RFC 9293 §3.1.
fn checksum(from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let mut sum = libc::IPPROTO_TCP as u32 + segment.len() as u32;
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    };
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => add(&address.octets()),
            IpAddr::V6(address) => add(&address.octets()),
        }
    }
    add(segment);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_are_read_from_our_answer_and_from_a_peers() {
        for (local, remote) in
            [("192.0.2.10:5060", "198.51.100.7:40001"), ("[2001:db8::10]:5060", "[2001:db8::7]:9")]
        {
            let (local, remote) = (at(local), at(remote));
            let addresses = [local.ip()];

            let ours = frame(local, remote, 100, 901, Some((7, 8)));
            let seen = Segment { local, remote, ours: 100, theirs: 900, timestamp: Some(7) };
            assert_eq!(read_handshake(&ours, &addresses), Some(seen));

            let theirs = frame(remote, local, 900, 101, Some((7, 8)));
            let seen = Segment { timestamp: Some(8), ..seen };
            assert_eq!(read_handshake(&theirs, &addresses), Some(seen));

            let plain = frame(local, remote, 100, 0, None);
            let seen = Segment { theirs: u32::MAX, timestamp: None, ..seen };
            assert_eq!(read_handshake(&plain, &addresses), Some(seen));

            assert_eq!(read_handshake(&plain, &[at("192.0.2.11:0").ip()]), None, "a stranger's");
            for length in 0..plain.len() {
                assert_eq!(read_handshake(&plain[..length], &addresses), None, "{length}");
            }
        }
    }

    #[test]
    fn options_that_are_no_options_are_read_to_their_end() {
        assert_eq!(timestamps(&[8, 0, 0]), None);
        assert_eq!(timestamps(&[2, 4, 5, 0xb4, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]), Some((1, 2)));
        assert_eq!(timestamps(&[2, 200, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]), None);
        assert_eq!(timestamps(&[8, 10, 0, 0, 0]), None);
    }

    #[test]
    fn a_segment_has_its_numbers_and_a_checksum_that_fits() {
        for (local, remote) in
            [("192.0.2.10:5060", "198.51.100.7:40001"), ("[2001:db8::10]:5060", "[2001:db8::7]:9")]
        {
            for timestamp in [None, Some(0x0102_0304)] {
                let (local, remote) = (at(local), at(remote));
                let bytes = write_segment(&Segment { local, remote, ours: 5, theirs: 6, timestamp });

                assert_eq!(
                    (&bytes[4..8], &bytes[8..12], bytes[13]),
                    (&[0, 0, 0, 5][..], &[0, 0, 0, 6][..], ACK)
                );
                assert_eq!(bytes.len(), usize::from(bytes[12] >> 4) * 4);
                assert_eq!(timestamps(&bytes[20..]), timestamp.map(|timestamp| (timestamp, 0)));
                assert_eq!(checksum(local.ip(), remote.ip(), &bytes), 0, "over itself it gives nothing");
            }
        }
    }

    fn frame(
        from: SocketAddr,
        to: SocketAddr,
        sent: u32,
        acknowledged: u32,
        stamps: Option<(u32, u32)>,
    ) -> Vec<u8> {
        let mut frame = vec![0; 12];
        match (from.ip(), to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                frame.extend_from_slice(&[0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0]);
                frame.extend_from_slice(&source.octets());
                frame.extend_from_slice(&target.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64]);
                frame.extend_from_slice(&source.octets());
                frame.extend_from_slice(&target.octets());
            }
            _ => unreachable!("one family"),
        }
        let options = if stamps.is_some() { 12_u8 } else { 0 };
        frame.extend_from_slice(&from.port().to_be_bytes());
        frame.extend_from_slice(&to.port().to_be_bytes());
        frame.extend_from_slice(&sent.to_be_bytes());
        frame.extend_from_slice(&acknowledged.to_be_bytes());
        frame.extend_from_slice(&[((20 + options) / 4) << 4, SYN_ACK as u8, 0, 0, 0, 0, 0, 0]);
        if let Some((value, echoed)) = stamps {
            frame.extend_from_slice(&[1, 1, 8, 10]);
            frame.extend_from_slice(&value.to_be_bytes());
            frame.extend_from_slice(&echoed.to_be_bytes());
        }
        frame
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }
}
