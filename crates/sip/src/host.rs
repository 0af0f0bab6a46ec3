//! Hosts: names, IPv4 addresses and IPv6 references, as they stand in URIs and in Via.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Malformed;
use crate::grammar::write_decimal;

/// A host. Names are compared without case, addresses as addresses.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// A name of the DNS, as it stands in the message.
    Name(&'a [u8]),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address; brackets are no part of it.
    V6(Ipv6Addr),
}

/// What may stand in a name. The underscore is not allowed in a `hostname`, but in use.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'-' | b'_');
        byte += 1;
    }
    table
};

impl<'a> Host<'a> {
    /// Reads a `host`: an IPv6 address stands in brackets.
    pub fn parse(bytes: &'a [u8]) -> Result<Host<'a>, Malformed> {
        match bytes {
            [b'[', address @ .., b']'] => ipv6(address).map(Host::V6).ok_or(Malformed::Host),
            [] => Err(Malformed::Host),
            [first, ..] => {
                if first.is_ascii_digit()
                    && let Some(address) = ipv4(bytes)
                {
                    return Ok(Host::V4(address));
                }
                let is_name = bytes.iter().all(|&byte| NAME[byte as usize]);
                if is_name { Ok(Host::Name(bytes)) } else { Err(Malformed::Host) }
            }
        }
    }

    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address) => Some(IpAddr::V6(*address)),
        }
    }

    /// Appends the host as it stands in a URI or in Via: a name as it came, an IPv6 address in brackets.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Host::Name(name) => out.extend_from_slice(name),
            Host::V4(address) => write_ip(IpAddr::V4(*address), out),
            Host::V6(address) => {
                out.push(b'[');
                write_ip(IpAddr::V6(*address), out);
                out.push(b']');
            }
        }
    }
}

impl From<IpAddr> for Host<'_> {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Host::V4(address),
            IpAddr::V6(address) => Host::V6(address),
        }
    }
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Host::V4(a), Host::V4(b)) => a == b,
            (Host::V6(a), Host::V6(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Host<'_> {}

impl Hash for Host<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Host::Name(name) => {
                state.write_u8(0);
                for byte in *name {
                    state.write_u8(byte.to_ascii_lowercase());
                }
            }
            Host::V4(address) => address.hash(state),
            Host::V6(address) => address.hash(state),
        }
    }
}

impl std::fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Name(name) => std::fmt::Display::fmt(&name.escape_ascii(), f),
            Host::V4(address) => write!(f, "{address}"),
            Host::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// Appends an address without brackets.
pub(crate) fn write_ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                write_decimal(u64::from(octet), out);
            }
        }
        IpAddr::V6(address) => {
            use std::io::Write;
            // A Vec takes all that is written to it.
            let _ = write!(out, "{address}");
        }
    }
}

/// Reads the address of `received`, with or without brackets.
// RFC 5118 §4.5: both forms of an IPv6 address are in use there, and both are to be accepted.
pub(crate) fn bare_ip(bytes: &[u8]) -> Option<IpAddr> {
    let inner = match bytes {
        [b'[', inner @ .., b']'] => inner,
        _ => bytes,
    };
    ipv4(bytes).map(IpAddr::V4).or_else(|| ipv6(inner).map(IpAddr::V6))
}

/// Reads `1*3DIGIT` four times; zeros before a number are read over, as in RFC 3261 §25.1.
fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let (mut index, mut number, mut digits) = (0, 0u16, 0);
    for &byte in bytes {
        match byte {
            b'0'..=b'9' if digits < 3 => {
                number = number * 10 + u16::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && index < 3 => {
                octets[index] = u8::try_from(number).ok()?;
                (index, number, digits) = (index + 1, 0, 0);
            }
            _ => return None,
        }
    }
    octets[3] = u8::try_from(number).ok()?;
    (index == 3 && digits > 0).then(|| Ipv4Addr::from(octets))
}

fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    const TEXT_MAX: usize = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".len() + 1;
    if bytes.len() > TEXT_MAX {
        return None;
    }
    if let Ok(address) = std::str::from_utf8(bytes).ok()?.parse() {
        return Some(address);
    }
    // RFC 5118 §4.10: the grammar of RFC 3261 can produce three colons; they are read as two and never written.
    let colons = bytes.windows(3).position(|window| window == b":::")?;
    let mut text = [0u8; TEXT_MAX];
    let len = bytes.len() - 1;
    text[..colons].copy_from_slice(&bytes[..colons]);
    text[colons..len].copy_from_slice(&bytes[colons + 1..]);
    std::str::from_utf8(&text[..len]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_host_is_told_from_the_others() {
        assert_eq!(Host::parse(b"192.0.2.1"), Ok(Host::V4(Ipv4Addr::new(192, 0, 2, 1))));
        assert_eq!(Host::parse(b"[2001:db8::10]"), Ok(Host::V6("2001:db8::10".parse().unwrap())));
        assert_eq!(Host::parse(b"Example.COM"), Ok(Host::Name(b"example.com")));
        assert_eq!(Host::parse(b"192.000.002.001"), Host::parse(b"192.0.2.1"));
        assert_eq!(Host::parse(b"0192.0.2.1"), Ok(Host::Name(b"0192.0.2.1")));
        assert_eq!(Host::parse(b"256.0.2.1"), Ok(Host::Name(b"256.0.2.1")));
        assert_eq!(Host::parse(b"4com.example"), Ok(Host::Name(b"4com.example")));
        assert_eq!(Host::parse(b"under_score"), Ok(Host::Name(b"under_score")));
    }

    /// RFC 5118 §4.10: three colons are read as two.
    #[test]
    fn three_colons_are_read_as_two() {
        assert_eq!(Host::parse(b"[2001:db8:::192.0.2.1]"), Host::parse(b"[2001:db8::192.0.2.1]"));
        assert!(Host::parse(b"[2001:db8::::1]").is_err());
        assert!(Host::parse(b"[:::1:::]").is_err());
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bytes in [
            &b""[..],
            b"[",
            b"[]",
            b"[::1",
            b"::1",
            b"[::1%eth0]",
            b"a b",
            b"a@b",
            b"h\xc3\xb6st",
            b"[1.2.3.4]",
        ] {
            assert_eq!(Host::parse(bytes), Err(Malformed::Host), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn an_ipv6_address_is_written_in_brackets() {
        let mut out = Vec::new();
        Host::parse(b"[2001:DB8:0:0::1]").unwrap().write_to(&mut out);
        assert_eq!(out, b"[2001:db8::1]");
    }

    #[test]
    fn a_received_address_is_read_with_and_without_brackets() {
        assert_eq!(bare_ip(b"2001:db8::9:255"), bare_ip(b"[2001:db8::9:255]"));
        assert_eq!(bare_ip(b"192.0.2.1"), Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
        assert_eq!(bare_ip(b"[192.0.2.1]"), None);
        assert_eq!(bare_ip(b"example.com"), None);
    }
}
