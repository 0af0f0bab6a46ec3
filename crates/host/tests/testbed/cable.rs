//! A host's end of a cable with a gate on it; the test has the other end and plays all others.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use host::{Gate, GateKind, Interface};

use crate::waiting::wait_for;

pub struct Lab {
    pub host: Interface,
    neighbour: OwnedFd,
    index: u32,
}

impl Lab {
    /// A network that only this thread sees, made by these commands after the cable, and a gate in it.
    pub fn begin(addresses: &[IpAddr], commands: &[&str]) -> Option<(Self, Gate)> {
        // SAFETY: it moves this thread alone into an empty network.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            println!("not run: a network of its own needs root");
            return None;
        }
        let cable = [
            "ip link add host0 type veth peer name peer0",
            "ip link set host0 up",
            "ip link set peer0 up",
            "ip addr add 192.0.2.7/24 dev host0",
        ];
        for command in cable.iter().chain(commands) {
            let mut words = command.split(' ');
            let status = Command::new(words.next().expect("a word")).args(words).status().expect("it runs");
            assert!(status.success(), "{command}");
        }
        let find = |name| Interface::find(name).expect("an interface");
        wait_for(|| (find("host0").has_carrier && find("peer0").has_carrier).then_some(()));
        let index = find("peer0").index;
        let lab = Self { host: find("host0"), neighbour: packet_socket(index), index };
        let (gate, refusals) = Gate::new(&lab.host, addresses);
        assert_eq!(gate.kind(), GateKind::Program, "{refusals:?}");
        Some((lab, gate))
    }

    pub fn send(&self, from: [u8; 6], to: [u8; 6], packet: &[u8]) {
        let kind: &[u8] = if packet[0] >> 4 == 4 { &[0x08, 0x00] } else { &[0x86, 0xdd] };
        let frame = [&to[..], &from, kind, packet].concat();
        let address = link_address(self.index);
        // SAFETY: frame and address live during the call, and their lengths are theirs.
        let sent = unsafe {
            libc::sendto(
                self.neighbour.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        assert_eq!(sent, frame.len() as isize);
    }

    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 2048];
        // SAFETY: the buffer lives during the call, and its length is its own.
        let length = unsafe {
            libc::recv(self.neighbour.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
        };
        frame.truncate(usize::try_from(length).ok()?);
        Some(frame)
    }
}

fn packet_socket(index: u32) -> OwnedFd {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: the descriptor is nobody else's.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
        assert!(socket >= 0, "a raw socket");
        OwnedFd::from_raw_fd(socket)
    };
    let mut address = link_address(index);
    address.sll_protocol = protocol;
    // SAFETY: the address lives during the call, and its length is its own.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    assert_eq!(bound, 0);
    socket
}

fn link_address(index: u32) -> libc::sockaddr_ll {
    // SAFETY: all zeros is a valid address of no family.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    address
}
