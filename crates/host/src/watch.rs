//! What others do on the interface: a stranger who claims a virtual address (RFC 5227 §2.4), a neighbour that answers.
//!
//! ARP has a socket of its own; of IPv6 the kernel is told to give neighbour advertisements alone, so that a busy
//! interface costs nothing here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::announce::{link_address, packet_socket};
use crate::interface::Interface;
use crate::packet_filter;

/// ARP, as an Ethernet type.
const ARP: u16 = 0x0806;

/// IPv6, as an Ethernet type.
const IPV6: u16 = 0x86dd;

/// The shortest ARP of Ethernet and IPv4, behind its Ethernet header.
const ARP_BYTES: usize = 14 + 28;

/// Where ICMPv6 begins, if nothing stands between: RFC 4861 has no extension header before it.
const ICMPV6_AT: usize = 14 + 40;

/// The shortest neighbour advertisement.
const ADVERTISEMENT_BYTES: usize = ICMPV6_AT + 24;

/// RFC 4861 §4.4.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Another host says that a virtual address is its own.
    Claim(IpAddr, [u8; 6]),
    /// A neighbour has answered.
    Neighbour(IpAddr),
}

/// Sees the ARP and the neighbour advertisements of one interface.
pub struct Watch {
    sockets: [OwnedFd; 2],
    /// Readable when one of the sockets is.
    either: OwnedFd,
    reader: Reader,
}

impl Watch {
    /// Listens; it needs CAP_NET_RAW.
    pub fn open(interface: Interface, addresses: Vec<IpAddr>) -> io::Result<Self> {
        // Advertisements are filtered before the socket is bound, so that none of the others is ever queued.
        let advertisements = packet_socket(0)?;
        filter_advertisements(&advertisements)?;
        bind(&advertisements, &interface, IPV6)?;
        let arp = packet_socket(0)?;
        bind(&arp, &interface, ARP)?;
        let sockets = [arp, advertisements];
        let either = either_of(&sockets)?;
        Ok(Self { sockets, either, reader: Reader { mac: interface.mac, addresses } })
    }

    /// The next thing that was seen; `None`: nothing more for now.
    pub fn next(&self) -> Option<Seen> {
        let [arp, advertisements] = &self.sockets;
        self.next_of(arp, Reader::read_arp)
            .or_else(|| self.next_of(advertisements, Reader::read_advertisement))
    }

    fn next_of(&self, socket: &OwnedFd, read: fn(&Reader, &[u8]) -> Option<Seen>) -> Option<Seen> {
        loop {
            let mut frame = [0_u8; 256];
            // SAFETY: the buffer lives during the call, and its length is its own.
            let received =
                unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            let length = usize::try_from(received).ok()?;
            if let Some(seen) = read(&self.reader, &frame[..length.min(frame.len())]) {
                return Some(seen);
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.either.as_fd()
    }
}

/// Reads frames with the eyes of one interface.
struct Reader {
    mac: [u8; 6],
    /// The virtual addresses.
    addresses: Vec<IpAddr>,
}

impl Reader {
    fn read_arp(&self, frame: &[u8]) -> Option<Seen> {
        if frame.len() < ARP_BYTES || frame[12..20] != [0x08, 0x06, 0, 1, 8, 0, 6, 4] {
            return None;
        }
        let mac: [u8; 6] = frame[22..28].try_into().ok()?;
        let sender = Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31]);
        self.said_by(mac, IpAddr::V4(sender), frame[21] == 2)
    }

    fn read_advertisement(&self, frame: &[u8]) -> Option<Seen> {
        // RFC 4861 §7.1.2: a hop limit of 255, or it comes from beyond the link.
        if frame.len() < ADVERTISEMENT_BYTES
            || frame[12..14] != [0x86, 0xdd]
            || (frame[20], frame[21]) != (58, 255)
            || frame[ICMPV6_AT] != NEIGHBOUR_ADVERTISEMENT
        {
            return None;
        }
        let target: [u8; 16] = frame[ICMPV6_AT + 8..ICMPV6_AT + 24].try_into().ok()?;
        // The option with the hardware address may be left out; the frame has a sender anyway.
        let options = &frame[ADVERTISEMENT_BYTES..];
        let said = if options.starts_with(&[2, 1]) { options.get(2..8) } else { None };
        let mac: [u8; 6] = said.unwrap_or(&frame[6..12]).try_into().ok()?;
        self.said_by(mac, IpAddr::V6(Ipv6Addr::from(target)), true)
    }

    fn said_by(&self, mac: [u8; 6], address: IpAddr, is_answer: bool) -> Option<Seen> {
        let is_ours = self.addresses.contains(&address);
        match (is_ours, mac == self.mac, is_answer) {
            (true, false, _) => Some(Seen::Claim(address, mac)),
            (false, false, true) => Some(Seen::Neighbour(address)),
            _ => None,
        }
    }
}

fn bind(socket: &OwnedFd, interface: &Interface, protocol: u16) -> io::Result<()> {
    let address = link_address(interface.index, protocol);
    // SAFETY: the address lives during the call, and the length is its own.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets neighbour advertisements through alone: next header 58, type 136.
fn filter_advertisements(socket: &OwnedFd) -> io::Result<()> {
    let load = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    let jump = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(load, 0, 0, 20),
        step(jump, 0, 3, 58),
        step(load, 0, 0, ICMPV6_AT as u32),
        step(jump, 0, 1, u32::from(NEIGHBOUR_ADVERTISEMENT)),
        step(end, 0, 0, u32::MAX),
        step(end, 0, 0, 0),
    ];
    packet_filter::attach(socket, &mut steps)
}

/// A descriptor that is readable when one of the sockets is.
fn either_of(sockets: &[OwnedFd]) -> io::Result<OwnedFd> {
    // SAFETY: a plain call; the descriptor it gives is owned by nobody else.
    let poll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if poll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made.
    let poll = unsafe { OwnedFd::from_raw_fd(poll) };
    for socket in sockets {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: the event lives during the call; both descriptors are open.
        let added = unsafe {
            libc::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event)
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(poll)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn an_advertisement_from_beyond_the_link_is_nothing() {
        let mut frame = advertisement(THEIRS, VIRTUAL_6);
        assert_eq!(reader().read_advertisement(&frame), Some(Seen::Claim(address(VIRTUAL_6), THEIRS)));

        frame[21] = 254;

        assert_eq!(reader().read_advertisement(&frame), None);
    }

    #[test]
    fn an_advertisement_that_is_cut_short_is_nothing() {
        let frame = advertisement(THEIRS, "fe80::1");
        let router = Some(Seen::Neighbour(address("fe80::1")));
        assert_eq!(reader().read_advertisement(&frame), router);

        for length in 0..ADVERTISEMENT_BYTES {
            assert_eq!(reader().read_advertisement(&frame[..length]), None, "{length}");
        }
        for length in ADVERTISEMENT_BYTES..frame.len() {
            assert_eq!(reader().read_advertisement(&frame[..length]), router, "{length}");
        }
    }

    #[test]
    fn a_stranger_claims_by_a_question_as_well_as_by_an_answer() {
        for operation in [REQUEST, REPLY] {
            let frame = arp(operation, THEIRS, VIRTUAL_4);
            assert_eq!(reader().read_arp(&frame), Some(Seen::Claim(address(VIRTUAL_4), THEIRS)));
        }
    }

    #[test]
    fn a_neighbour_is_who_answers_and_not_who_asks() {
        let read = |operation| reader().read_arp(&arp(operation, THEIRS, "192.0.2.1"));

        assert_eq!(read(REPLY), Some(Seen::Neighbour(address("192.0.2.1"))));
        assert_eq!(read(REQUEST), None);
    }

    #[test]
    fn arp_that_is_cut_short_or_of_another_kind_is_nothing() {
        let frame = arp(REPLY, THEIRS, VIRTUAL_4);
        assert!(reader().read_arp(&frame).is_some());

        for length in 0..ARP_BYTES {
            assert_eq!(reader().read_arp(&frame[..length]), None, "{length}");
        }
        for place in 12..20 {
            let mut other = frame.clone();
            other[place] ^= 1;
            assert_eq!(reader().read_arp(&other), None, "{place}");
        }
    }

    #[test]
    fn what_the_interface_itself_says_is_nothing() {
        for operation in [REQUEST, REPLY] {
            for said in [VIRTUAL_4, "192.0.2.1"] {
                assert_eq!(reader().read_arp(&arp(operation, OURS, said)), None, "{said}");
            }
        }
        for said in [VIRTUAL_6, "fe80::1"] {
            assert_eq!(reader().read_advertisement(&advertisement(OURS, said)), None, "{said}");
        }
    }

    const VIRTUAL_4: &str = "192.0.2.9";
    const VIRTUAL_6: &str = "2001:db8::9";
    const REQUEST: u8 = 1;
    const REPLY: u8 = 2;

    fn reader() -> Reader {
        Reader { mac: OURS, addresses: vec![address(VIRTUAL_4), address(VIRTUAL_6)] }
    }

    fn advertisement(from: [u8; 6], target: &str) -> Vec<u8> {
        let mut frame = vec![0; ICMPV6_AT];
        frame[6..12].copy_from_slice(&from);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[20..22].copy_from_slice(&[58, 255]);
        frame.extend_from_slice(&[NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0]);
        frame.extend_from_slice(&target.parse::<Ipv6Addr>().expect("an address").octets());
        frame.extend_from_slice(&[2, 1]);
        frame.extend_from_slice(&from);
        frame
    }

    fn arp(operation: u8, from: [u8; 6], sender: &str) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(&from);
        frame.extend_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
        frame.extend_from_slice(&from);
        frame.extend_from_slice(&sender.parse::<Ipv4Addr>().expect("an address").octets());
        frame.resize(ARP_BYTES, 0);
        frame
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }
}
