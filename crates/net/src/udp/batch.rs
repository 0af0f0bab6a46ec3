//! Many datagrams by one system call: `recvmmsg` and `sendmmsg`.
//!
//! All pointers that the kernel gets are made afresh in the call that hands them over, from slices
//! that are borrowed for its whole length, so none of them is kept anywhere.
//!
//! Invariant: what [`ReceiveBatch::datagram`] returns was written by the kernel in the last
//! [`ReceiveBatch::receive`]; both the length and the count that the kernel gave are checked.

#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Datagrams of one system call. More than that gain nothing: the cost of the call is spread thin.
pub(crate) const BATCH_MAX: usize = 64;

/// The largest datagram there is: an IP packet without its headers is smaller.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// From one datagram's room to the next. Not 64 KiB: at that distance all of a batch would want the same few sets of the
/// processor's caches and push each other out. The rest is an odd number of cache lines.
const ROOM_BYTES: usize = 65_536 + 17 * 64;

/// Room for the datagrams of one `recvmmsg`. Untouched pages cost nothing: 4 MiB are reserved and a phone's
/// requests use a few kilobytes of it.
pub(crate) struct ReceiveBatch {
    bytes: Box<[u8]>,
    received: Vec<(usize, Option<SocketAddr>)>,
}

impl ReceiveBatch {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH_MAX * ROOM_BYTES].into_boxed_slice(),
            received: Vec::with_capacity(BATCH_MAX),
        }
    }

    /// Takes what waits in the socket, at most [`BATCH_MAX`] datagrams, without waiting for more.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.receive_some::<BATCH_MAX>(socket)
    }

    /// The same for at most `SOME` datagrams, which are not more than [`BATCH_MAX`].
    pub(crate) fn receive_some<const SOME: usize>(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        const { assert!(SOME <= BATCH_MAX) };
        self.received.clear();
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; SOME];
        let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; SOME];
        let mut headers = [empty_header(); SOME];
        for (((header, vector), name), room) in
            headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(self.bytes.chunks_exact_mut(ROOM_BYTES))
        {
            *vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES_MAX };
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = ADDRESS_BYTES;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each of the SOME headers points to one vector, one name and one piece of `bytes`,
        // all of which outlive the call; `msg_control` is null with length 0.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                SOME as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?.min(SOME);
        for (header, name) in headers.iter().zip(&names).take(count) {
            // SAFETY: the kernel wrote `msg_namelen` bytes of the name; `read_address` looks at the family only
            // if that many are there, and at the rest only if the family's whole address is there.
            let source = unsafe { read_address(name, header.msg_hdr.msg_namelen) };
            self.received.push(((header.msg_len as usize).min(DATAGRAM_BYTES_MAX), source));
        }
        Ok(count)
    }

    /// Takes datagrams as if they were received, at most [`BATCH_MAX`] of them.
    pub(crate) fn take<'d>(&mut self, datagrams: impl Iterator<Item = (SocketAddr, &'d [u8])>) -> usize {
        self.received.clear();
        for (room, (remote, bytes)) in self.bytes.chunks_exact_mut(ROOM_BYTES).zip(datagrams) {
            let length = bytes.len().min(DATAGRAM_BYTES_MAX);
            room[..length].copy_from_slice(&bytes[..length]);
            self.received.push((length, Some(remote)));
        }
        self.received.len()
    }

    /// The datagram with this number of the last [`ReceiveBatch::receive`], and whose it is; `None` past
    /// the last one, or if the kernel gave no address of a known family.
    pub(crate) fn datagram(&self, number: usize) -> Option<(&[u8], SocketAddr)> {
        let (length, source) = *self.received.get(number)?;
        let start = number * ROOM_BYTES;
        Some((self.bytes.get(start..start + length)?, source?))
    }
}

/// Sends the datagrams in their order, at most [`BATCH_MAX`] of them, without waiting for room. Returns how many
/// were sent, at least one; the error is that of the first.
pub(crate) fn send<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = (SocketAddr, &'a [u8])>,
) -> io::Result<usize> {
    send_some::<BATCH_MAX>(socket, datagrams.map(|(remote, bytes)| (Some(remote), bytes)))
}

/// The same for at most `SOME` datagrams; `None`: to whom the socket is connected.
pub(crate) fn send_some<'a, const SOME: usize>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = (Option<SocketAddr>, &'a [u8])>,
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; SOME];
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; SOME];
    let mut headers = [empty_header(); SOME];
    let mut count = 0;
    for (((header, vector), name), (remote, bytes)) in
        headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(datagrams)
    {
        // The kernel only reads what a sent vector points to; the type has no const form.
        *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        if let Some(remote) = remote {
            header.msg_hdr.msg_namelen = write_address(remote, name);
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
        }
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: the first `count` headers point to one vector, one written name or none with length 0, and bytes
    // that are borrowed for 'a; `msg_control` is null with length 0.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

pub(super) const ADDRESS_BYTES: libc::socklen_t = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;

fn empty_header() -> libc::mmsghdr {
    // SAFETY: a header of null pointers and zero lengths is a valid value of this plain C structure.
    unsafe { mem::zeroed() }
}

/// # Safety
/// `length` bytes of `name` are initialised.
pub(super) unsafe fn read_address(
    name: &MaybeUninit<libc::sockaddr_storage>,
    length: libc::socklen_t,
) -> Option<SocketAddr> {
    let length = length as usize;
    if length < mem::size_of::<libc::sa_family_t>() {
        return None;
    }
    // SAFETY: the family is the first field of every address and its bytes are initialised.
    let family = unsafe { name.as_ptr().cast::<libc::sa_family_t>().read() };
    match i32::from(family) {
        libc::AF_INET if length >= mem::size_of::<libc::sockaddr_in>() => {
            // SAFETY: a storage is aligned for each kind of address, and the whole of this one is initialised.
            let address = unsafe { name.as_ptr().cast::<libc::sockaddr_in>().read() };
            let host = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            Some(SocketAddrV4::new(host, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 if length >= mem::size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let address = unsafe { name.as_ptr().cast::<libc::sockaddr_in6>().read() };
            let host = Ipv6Addr::from(address.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(host, u16::from_be(address.sin6_port), 0, address.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_address(address: SocketAddr, name: &mut MaybeUninit<libc::sockaddr_storage>) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: a storage is large enough and aligned for each kind of address.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in>().write(raw) };
            mem::size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in6>().write(raw) };
            mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_batch_arrives_whole_in_order_and_with_its_sender() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let (sender, receiver) = pair(host);
            let messages: Vec<Vec<u8>> = (0..BATCH_MAX).map(|n| vec![n as u8; n * 10]).collect();
            let to = receiver.local_addr().expect("bound");

            let sent = send(sender.as_fd(), messages.iter().map(|message| (to, &message[..]))).expect("room");
            let mut batch = ReceiveBatch::new();
            let received = batch.receive(receiver.as_fd()).expect("loopback delivers before send returns");

            assert_eq!((sent, received), (BATCH_MAX, BATCH_MAX));
            for (number, message) in messages.iter().enumerate() {
                let (bytes, source) = batch.datagram(number).expect("received");
                assert_eq!((bytes, source), (&message[..], sender.local_addr().expect("bound")));
            }
            assert_eq!(batch.datagram(BATCH_MAX), None);
        }
    }

    #[test]
    fn no_more_than_a_batch_is_sent_by_one_call() {
        let (sender, receiver) = pair("127.0.0.1:0");
        let message = b"x";
        let to = receiver.local_addr().expect("bound");

        let sent =
            send(sender.as_fd(), std::iter::repeat_n((to, &message[..]), BATCH_MAX + 1)).expect("room");

        assert_eq!(sent, BATCH_MAX);
    }

    #[test]
    fn an_empty_socket_would_block() {
        let (_sender, receiver) = pair("127.0.0.1:0");

        let error = ReceiveBatch::new().receive(receiver.as_fd()).expect_err("nothing was sent");

        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_largest_datagram_is_received_whole() {
        const LARGEST_OVER_IPV4: usize = 65_507;
        let (sender, receiver) = pair("127.0.0.1:0");
        let message = vec![7; LARGEST_OVER_IPV4];
        let to = receiver.local_addr().expect("bound");

        send(sender.as_fd(), [(to, &message[..])].into_iter()).expect("room");
        let mut batch = ReceiveBatch::new();
        batch.receive(receiver.as_fd()).expect("delivered");

        assert_eq!(batch.datagram(0).map(|(bytes, _)| bytes.len()), Some(LARGEST_OVER_IPV4));
    }

    #[test]
    fn the_error_of_the_first_datagram_is_returned() {
        let (sender, receiver) = pair("127.0.0.1:0");
        let message = vec![0; DATAGRAM_BYTES_MAX];
        let to = receiver.local_addr().expect("bound");

        let error = send(sender.as_fd(), [(to, &message[..])].into_iter()).expect_err("larger than a packet");

        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    }

    fn pair(host: &str) -> (UdpSocket, UdpSocket) {
        (UdpSocket::bind(host).expect("loopback"), UdpSocket::bind(host).expect("loopback"))
    }
}
