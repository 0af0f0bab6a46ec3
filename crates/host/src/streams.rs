//! The TCP sockets that stand on a virtual address, destroyed when it leaves.
//!
//! What is left of them would answer the peers of old connections, with the state of long ago, when the address comes back.
//! The kernel resets each peer as it destroys a socket; since the gate is closed by then, no such reset leaves the host.
//! Listeners stay.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

/// The kernel's number of the state LISTEN.
const LISTEN: u32 = 10;

/// `struct inet_diag_sockid` begins here in a message of the answer, after `struct nlmsghdr`.
const SOCKET_ID_AT: usize = 16 + 4;

/// The length of `struct inet_diag_sockid`.
const SOCKET_ID_BYTES: usize = 48;

/// Room for one datagram of answers.
const BUFFER_BYTES: usize = 64 * 1024;

/// A socket may be born from a listener while others are destroyed.
const ROUNDS_MAX: usize = 3;

/// The streams could not be destroyed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The kernel was built without it.
    #[error(
        "this kernel can not destroy sockets (it lacks CONFIG_INET_DIAG_DESTROY): connections of the virtual address end \
         by their own time-outs"
    )]
    Unsupported,
    /// The kernel refused or did not answer.
    #[error("connections of the virtual address can not be destroyed: {0}")]
    Kernel(#[from] io::Error),
}

/// Destroys every connection whose local address is one of these, and says how many there were. It stops early when
/// `is_wanted` says so: the address is coming back.
pub fn destroy_streams(
    addresses: &[IpAddr],
    mut is_wanted: impl FnMut() -> bool,
) -> Result<usize, StreamError> {
    let addresses: BTreeSet<Ipv6Addr> = addresses.iter().map(|address| mapped(*address)).collect();
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut count = 0;
    for _ in 0..ROUNDS_MAX {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            list(&socket, &mut buffer, family as u8, &addresses, &mut found)?;
        }
        let before = count;
        for stream in &found {
            if !is_wanted() {
                return Ok(count);
            }
            count += usize::from(destroy(&socket, &mut buffer, stream)?);
        }
        if count == before {
            break;
        }
    }
    Ok(count)
}

/// A connection: its family, and the kernel's own name for it.
struct Stream {
    family: u8,
    id: [u8; SOCKET_ID_BYTES],
}

fn list(
    socket: &Socket,
    buffer: &mut Vec<u8>,
    family: u8,
    addresses: &BTreeSet<Ipv6Addr>,
    found: &mut Vec<Stream>,
) -> io::Result<()> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    socket.send(&request(SOCK_DIAG_BY_FAMILY, flags, family, &[0; SOCKET_ID_BYTES]), 0)?;
    loop {
        buffer.clear();
        socket.recv(buffer, 0)?;
        for message in Messages(buffer) {
            match message.kind {
                kind if kind == libc::NLMSG_DONE as u16 => return Ok(()),
                kind if kind == libc::NLMSG_ERROR as u16 => {
                    message.error()?;
                    return Ok(());
                }
                SOCK_DIAG_BY_FAMILY => {
                    let id = message.bytes.get(SOCKET_ID_AT..).and_then(|rest| rest.first_chunk());
                    let Some(id) = id else { continue };
                    if addresses.contains(&local_address(family, id)) {
                        found.push(Stream { family, id: *id });
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether it was there to be destroyed.
fn destroy(socket: &Socket, buffer: &mut Vec<u8>, stream: &Stream) -> Result<bool, StreamError> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    socket.send(&request(SOCK_DESTROY, flags, stream.family, &stream.id), 0)?;
    buffer.clear();
    socket.recv(buffer, 0)?;
    let answer = Messages(buffer).next().map_or(Ok(()), |message| message.error());
    match answer {
        Ok(()) => Ok(true),
        // It ended by itself meanwhile.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(StreamError::Unsupported),
        Err(error) => Err(error.into()),
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, id: &[u8; SOCKET_ID_BYTES]) -> Vec<u8> {
    let length = 16 + 8 + SOCKET_ID_BYTES;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&(length as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend_from_slice(&(!(1_u32 << LISTEN)).to_ne_bytes());
    bytes.extend_from_slice(id);
    bytes
}

/// The local address of a socket, IPv4 as IPv6 writes it.
fn local_address(family: u8, id: &[u8; SOCKET_ID_BYTES]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&id[4..20]);
    match i32::from(family) {
        libc::AF_INET => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).to_ipv6_mapped(),
        _ => Ipv6Addr::from(octets),
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

struct Message<'a> {
    kind: u16,
    bytes: &'a [u8],
}

impl Message<'_> {
    /// What an acknowledgement says.
    fn error(&self) -> io::Result<()> {
        let code = self.bytes.get(16..).and_then(|rest| rest.first_chunk().copied()).map(i32::from_ne_bytes);
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The messages of one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.first_chunk::<16>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if length < header.len() {
            return None;
        }
        let bytes = self.0.get(..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_kernels_lengths_and_asks_for_no_listener() {
        let bytes = request(SOCK_DESTROY, 5, libc::AF_INET as u8, &[7; SOCKET_ID_BYTES]);

        assert_eq!(bytes.len(), 72);
        assert_eq!(bytes[20..24], (!(1_u32 << 10)).to_ne_bytes());
        assert_eq!(bytes[24..], [7; 48]);
    }

    #[test]
    fn a_mapped_address_is_the_same_as_its_ipv4() {
        let mut id = [0; SOCKET_ID_BYTES];
        id[4..8].copy_from_slice(&[192, 0, 2, 9]);
        let plain = local_address(libc::AF_INET as u8, &id);
        id[4..20].copy_from_slice(&mapped("192.0.2.9".parse().expect("an address")).octets());

        assert_eq!(local_address(libc::AF_INET6 as u8, &id), plain);
    }

    #[test]
    fn messages_that_are_cut_short_are_none() {
        let whole = request(SOCK_DESTROY, 0, 2, &[0; SOCKET_ID_BYTES]);
        assert_eq!(Messages(&whole).count(), 1);

        for length in 0..whole.len() {
            assert_eq!(Messages(&whole[..length]).count(), 0, "{length}");
        }
    }
}
