//! Datagrams that the network or their receiver refused: what ICMP errors say of them (`IP_RECVERR`).
//!
//! The kernel keeps such an error in a queue of the socket, with the address that the datagram went to and as
//! much of the datagram as the error quotes. All pointers that the kernel gets are made afresh in the call that
//! hands them over, from buffers that outlive it.

#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use super::batch::{ADDRESS_BYTES, read_address};

/// What IPv6 quotes at most; IPv4 less than half of it.
const QUOTE_BYTES_MAX: usize = 1_232;

/// Wants to hear of errors.
pub(crate) fn set_wanted(socket: impl AsFd, family: SocketAddr) -> io::Result<()> {
    let (level, option) = match family {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let yes: libc::c_int = 1;
    // SAFETY: the option takes an int; the pointer and the length are those of `yes`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const yes).cast(),
            mem::size_of_val(&yes) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One error of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody is there: this is where the datagram went, and how it began.
    Unreachable(SocketAddr, Vec<u8>),
    /// Something else, which may pass.
    Other,
}

/// Takes the oldest error; `None` when there is none.
pub(crate) fn take(socket: BorrowedFd<'_>) -> Option<Refusal> {
    let mut quote = [0u8; QUOTE_BYTES_MAX];
    let mut name = MaybeUninit::<libc::sockaddr_storage>::uninit();
    // Of u64, so that it is aligned for every control message; the error and the address of who sent it fit twice.
    let mut control = [0u64; 32];
    let mut vector = libc::iovec { iov_base: quote.as_mut_ptr().cast(), iov_len: quote.len() };
    // SAFETY: a header of null pointers and zero lengths is a valid value of this plain C structure.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = ADDRESS_BYTES;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: the header points to one vector, one name and one control buffer with their true lengths, all of which
    // outlive the call.
    let length = unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
    };
    let length = usize::try_from(length).ok()?.min(QUOTE_BYTES_MAX);
    // SAFETY: the kernel wrote the control messages that the header now tells of into `control`.
    let is_unreachable = unsafe { is_unreachable(&header) };
    // SAFETY: the kernel wrote `msg_namelen` bytes of the name.
    let remote = unsafe { read_address(&name, header.msg_namelen) };
    Some(match remote {
        Some(remote) if is_unreachable => Refusal::Unreachable(remote, quote[..length].to_vec()),
        _ => Refusal::Other,
    })
}

/// # Safety
/// `header` is what `recvmsg` left, and its control buffer is alive.
unsafe fn is_unreachable(header: &libc::msghdr) -> bool {
    // SAFETY: as the caller promises; the macros stay within `msg_controllen`.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: a control message that the macros give is whole and aligned.
        let (level, kind, length) =
            unsafe { ((*control).cmsg_level, (*control).cmsg_type, (*control).cmsg_len as usize) };
        let is_error = matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        // SAFETY: it computes a length of the header.
        let needed = unsafe { libc::CMSG_LEN(mem::size_of::<libc::sock_extended_err>() as libc::c_uint) };
        if is_error && length >= needed as usize {
            // SAFETY: the message is long enough for the error, which begins its data; it need not be aligned.
            let error =
                unsafe { ptr::read_unaligned(libc::CMSG_DATA(control).cast::<libc::sock_extended_err>()) };
            return tells_of_nobody(error.ee_origin, error.ee_type, error.ee_code);
        }
        // SAFETY: as above.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    false
}

// RFC 3261 §18.4: host, network, port or protocol unreachable is an error of the transport; that a packet was too
// large, or lived too long, is none.
fn tells_of_nobody(origin: u8, kind: u8, code: u8) -> bool {
    const DESTINATION_UNREACHABLE: u8 = 3;
    const FRAGMENTATION_NEEDED: u8 = 4;
    const DESTINATION_UNREACHABLE_V6: u8 = 1;
    match origin {
        libc::SO_EE_ORIGIN_ICMP => kind == DESTINATION_UNREACHABLE && code != FRAGMENTATION_NEEDED,
        libc::SO_EE_ORIGIN_ICMP6 => kind == DESTINATION_UNREACHABLE_V6,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_port_that_nobody_has_refuses_and_quotes() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let (socket, nobody) = socket_and_closed_port(host);

            socket.send_to(b"INVITE sip:nobody", nobody).expect("loopback");

            let expected = Refusal::Unreachable(nobody, b"INVITE sip:nobody".to_vec());
            assert_eq!(first(&socket), expected);
            assert_eq!(take(socket.as_fd()), None);
        }
    }

    #[test]
    fn the_quote_of_a_large_datagram_is_its_beginning() {
        let (socket, nobody) = socket_and_closed_port("127.0.0.1:0");

        socket.send_to(&[7; 4_000], nobody).expect("loopback");

        let Refusal::Unreachable(remote, quote) = first(&socket) else { panic!("nobody was there") };
        assert_eq!(remote, nobody);
        assert!((8..4_000).contains(&quote.len()) && quote.iter().all(|&byte| byte == 7), "{}", quote.len());
    }

    /// RFC 3261 §18.4: only what is unreachable.
    #[test]
    fn errors_that_pass_do_not_count() {
        let counts = |origin, kind, code| tells_of_nobody(origin, kind, code);

        assert!(counts(libc::SO_EE_ORIGIN_ICMP, 3, 3), "port unreachable");
        assert!(counts(libc::SO_EE_ORIGIN_ICMP, 3, 1), "host unreachable");
        assert!(counts(libc::SO_EE_ORIGIN_ICMP6, 1, 4), "port unreachable");
        assert!(!counts(libc::SO_EE_ORIGIN_ICMP, 3, 4), "too large");
        assert!(!counts(libc::SO_EE_ORIGIN_ICMP, 11, 0), "time exceeded");
        assert!(!counts(libc::SO_EE_ORIGIN_ICMP6, 2, 0), "too large");
        assert!(!counts(libc::SO_EE_ORIGIN_LOCAL, 3, 3), "the kernel's own");
    }

    fn socket_and_closed_port(host: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(host).expect("loopback");
        set_wanted(&socket, socket.local_addr().expect("bound")).expect("an option");
        let nobody = UdpSocket::bind(host).and_then(|socket| socket.local_addr()).expect("loopback");
        (socket, nobody)
    }

    /// Loopback refuses before the send returns; a busy machine may take a moment.
    fn first(socket: &UdpSocket) -> Refusal {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match take(socket.as_fd()) {
                Some(refusal) => return refusal,
                None => assert!(Instant::now() < deadline, "nothing was refused"),
            }
            std::thread::yield_now();
        }
    }
}
