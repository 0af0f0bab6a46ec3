//! Whom an offence is laid to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address, or the /64 of an IPv6 address: whoever has one address of a /64 has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceNetwork {
    /// One address.
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6(u64),
}

impl SourceNetwork {
    /// The network that `address` is laid to; an IPv4 address in IPv6 form is an IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }

    /// Reads what [`fmt::Display`] writes, or any address of the network.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_suffix("/64").unwrap_or(text).parse().ok().map(Self::of)
    }

    /// The bytes that stand for it in a MAC.
    pub(crate) fn to_bytes(self) -> [u8; 9] {
        let mut bytes = [0; 9];
        match self {
            Self::V4(address) => {
                bytes[0] = 4;
                bytes[1..5].copy_from_slice(&address.octets());
            }
            Self::V6(prefix) => {
                bytes[0] = 6;
                bytes[1..].copy_from_slice(&prefix.to_be_bytes());
            }
        }
        bytes
    }
}

impl fmt::Display for SourceNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(formatter),
            Self::V6(prefix) => write!(formatter, "{}/64", Ipv6Addr::from_bits(u128::from(*prefix) << 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_of_one_ipv6_network_are_one_source() {
        let of = |text: &str| SourceNetwork::of(text.parse().unwrap());

        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for text in ["192.0.2.1", "2001:db8:1:2::/64", "::/64"] {
            assert_eq!(SourceNetwork::parse(text).map(|network| network.to_string()).as_deref(), Some(text));
        }
        assert_eq!(SourceNetwork::parse("2001:db8::7"), SourceNetwork::parse("2001:db8::/64"));
        assert_eq!(SourceNetwork::parse("192.0.2.0/24"), None);
        assert_eq!(SourceNetwork::parse("office"), None);
    }
}
