//! The socket options that no crate of ours offers.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};

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

/// What a TCP connection has carried, modulo 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Bytes of ours that the peer has acknowledged; one more where we have opened it.
    pub(crate) acknowledged: u64,
    /// Bytes of the peer's that have come.
    pub(crate) received: u64,
}

/// What a connection has carried so far.
pub(crate) fn carried(socket: RawFd) -> io::Result<Carried> {
    /// `tcpi_bytes_acked` and `tcpi_bytes_received` of `struct tcp_info` in `linux/tcp.h`, which only grows at its end.
    const AT: [usize; 2] = [120, 128];
    let mut info = [0_u8; 136];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `info`. A number that is no socket of this
    // process's is refused by it.
    let result = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // Kernels before 4.1 write less.
    if (length as usize) < info.len() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let [acknowledged, received] = AT.map(|at| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&info[at..at + 8]);
        u64::from_ne_bytes(bytes)
    });
    Ok(Carried { acknowledged, received })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn the_kernel_counts_what_a_connection_has_carried() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut opened = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (mut accepted, _) = listener.accept().expect("it was opened");
        let mut room = [0; 300];
        opened.write_all(&[1; 100]).expect("room");
        accepted.read_exact(&mut room[..100]).expect("they come");
        accepted.write_all(&[2; 300]).expect("room");
        opened.read_exact(&mut room).expect("they come");
        opened.write_all(&[3; 1]).expect("room");
        accepted.read_exact(&mut room[..1]).expect("it comes, and with it that the 300 have");

        let carried = |stream: &TcpStream| carried(stream.as_raw_fd()).expect("an option");
        assert_eq!(carried(&accepted), Carried { acknowledged: 300, received: 101 });
        assert_eq!(carried(&opened).received, 300);
        assert!([101, 102].contains(&carried(&opened).acknowledged), "the last byte is acknowledged later");
    }

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
