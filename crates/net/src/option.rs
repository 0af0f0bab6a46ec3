//! The two socket options that no crate of ours offers.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// Lets the kernel pick the port of an outgoing connection at its connect and not at its bind: only then does
/// it know the peer, and ports can be shared between peers.
pub(crate) fn set_bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    // SAFETY: the option takes an int; the pointer and the length are those of `yes`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const yes).cast(),
            mem::size_of_val(&yes) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many datagrams the kernel dropped because this socket's buffer was full.
pub(crate) fn dropped(socket: impl AsFd) -> io::Result<u64> {
    /// `SK_MEMINFO_DROPS` of `linux/sock_diag.h`: the last of nine figures.
    const DROPS: usize = 8;
    let mut figures = [0u32; DROPS + 1];
    let mut length = mem::size_of_val(&figures) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `figures`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            figures.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(u64::from(figures[DROPS])) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_datagram_that_finds_no_room_is_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket2::SockRef::from(&receiver).set_recv_buffer_size(1).expect("the least there is");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        assert_eq!(dropped(&receiver).expect("an option"), 0);

        for _ in 0..100 {
            sender.send_to(&[0; 1_000], receiver.local_addr().expect("bound")).expect("loopback");
        }

        assert!(dropped(&receiver).expect("an option") > 0);
    }
}
