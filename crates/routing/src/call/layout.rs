//! Small fixed layouts: addresses and numbers to bytes and back.

use std::net::{IpAddr, SocketAddr};

/// Appends an address: 4 or 16 bytes, then the port.
pub(super) fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

/// Takes values off the front of some bytes; `None` where they end too early.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next `length` bytes.
    pub(super) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    /// An address of the IPv4 layout.
    pub(super) fn address_v4(&mut self) -> Option<SocketAddr> {
        let ip = self.array::<4>()?;
        Some(SocketAddr::new(IpAddr::from(ip), u16::from_be_bytes(self.array()?)))
    }

    /// An address of the IPv6 layout.
    pub(super) fn address_v6(&mut self) -> Option<SocketAddr> {
        let ip = self.array::<16>()?;
        Some(SocketAddr::new(IpAddr::from(ip), u16::from_be_bytes(self.array()?)))
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
